//! Structured logs on standard error.

use tracing_subscriber::EnvFilter;

use crate::config::Settings;

/// Begins to log. A filter that makes no sense is an error, not silence.
pub fn start(settings: &Settings) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(&settings.log).map_err(|error| format!("log = {:?}: {error}", settings.log))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = match settings.log_format.as_str() {
        "json" => builder.json().try_init(),
        _ => builder.with_ansi(false).try_init(),
    };
    // A program that uses the relay as a library may log in its own way.
    done.or(Ok(()))
}
