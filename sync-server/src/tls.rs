//! TLS by rustls.

use tokio_rustls::TlsAcceptor;

use crate::config::Settings;

/// What accepts TLS, if the settings name a certificate.
pub fn acceptor(settings: &Settings) -> Result<Option<TlsAcceptor>, String> {
    let (Some(cert), Some(key)) = (&settings.tls_cert, &settings.tls_key) else { return Ok(None) };
    let config = crsql_client::sync::server_tls(cert, key).map_err(|error| error.to_string())?;
    Ok(Some(TlsAcceptor::from(config)))
}
