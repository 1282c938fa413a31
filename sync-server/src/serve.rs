//! `crsql-server serve`: the relay.

use std::process::ExitCode;

use axum::{Router, routing::get};

use crate::config::{Flags, Settings};

/// Runs until it is told to stop.
pub fn main(flags: &Flags) -> ExitCode {
    let settings = match Settings::load(flags) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("crsql-server: {error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    match runtime.block_on(run(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crsql-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(settings.listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let router = Router::new().route("/healthz", get(|| async { "ok\n" }));
        let service = hyper_util::service::TowerToHyperService::new(router);
        let io = hyper_util::rt::TokioIo::new(stream);
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
    }
}
