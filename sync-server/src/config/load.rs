//! Where settings come from, and whether they make sense together.

use std::path::{Path, PathBuf};

use super::{Flags, Settings, TABLE, Value};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration {path:?}: {error}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no TOML.
    #[error("the configuration {path:?} is no TOML: {error}")]
    Toml {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: Box<toml::de::Error>,
    },
    /// A setting that does not exist.
    #[error("{origin} sets {name:?}, which is no setting; `crsql-server check-config` lists them all")]
    Unknown {
        /// Where.
        origin: String,
        /// What.
        name: String,
    },
    /// A value that can't be read.
    #[error("{origin}: {value:?} is not {expected}")]
    Invalid {
        /// Where.
        origin: String,
        /// What.
        value: String,
        /// What it should look like.
        expected: String,
    },
    /// Settings that do not go together.
    #[error("{0}")]
    Contradiction(String),
}

pub(super) struct Source<'a> {
    flags: &'a Flags,
    environment: &'a dyn Fn(&str) -> Option<String>,
    file: toml::Table,
    path: PathBuf,
}

impl Settings {
    /// Reads flags, environment and file.
    pub fn load(flags: &Flags) -> Result<Settings, ConfigError> {
        Settings::load_from(flags, &|name| std::env::var(name).ok())
    }

    /// [`load`](Self::load) with another environment.
    pub fn load_from(
        flags: &Flags,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Settings, ConfigError> {
        let path = flags.config.clone().or_else(|| environment("CRSQL_CONFIG").map(PathBuf::from));
        let file = path.as_deref().map(read).transpose()?.unwrap_or_default();
        let path = path.unwrap_or_default();
        if let Some(name) = file.keys().find(|name| !TABLE.iter().any(|(known, ..)| known == name)) {
            let origin = path.display().to_string();
            return Err(ConfigError::Unknown { origin, name: name.clone() });
        }
        let settings = Settings::gather(&Source { flags, environment, file, path })?;
        settings.check()?;
        Ok(settings)
    }

    /// Whether tokens are checked.
    pub fn has_auth(&self) -> bool {
        self.jwt_secret_file.is_some()
            || self.jwt_key_file.is_some()
            || self.jwks_file.is_some()
            || self.jwks_url.is_some()
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |text: &str| Err(ConfigError::Contradiction(text.into()));
        if !self.listen.ip().is_loopback() && !self.has_auth() && !self.insecure {
            return Err(ConfigError::Contradiction(format!(
                "listen = {} is not loopback and no tokens are checked, so everybody could read and write \
                 everything; set jwt_secret_file, jwt_key_file, jwks_file or jwks_url, or say --insecure",
                self.listen
            )));
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return wrong("tls_cert and tls_key belong together: set both or none");
        }
        if !["text", "json"].contains(&self.log_format.as_str()) {
            return wrong("log_format is text or json");
        }
        if self.frame_bytes.0 + 4096 > self.message_bytes.0 {
            return wrong("frame_bytes plus 4KiB must fit into message_bytes");
        }
        if self.message_bytes.bytes() > crsql_protocol::limits::MESSAGE_BYTES_MAX {
            return wrong("message_bytes is at most 16MiB");
        }
        if self.sites_per_room > crsql_protocol::limits::SITES_MAX {
            return wrong("sites_per_room is at most 65536, the most that one message can name");
        }
        if self.ping.0 >= self.dead.0 {
            return wrong("ping must be shorter than dead");
        }
        if [self.journals, self.readers, self.materialisers].contains(&0) {
            return wrong("journals, readers and materialisers are at least 1");
        }
        Ok(())
    }
}

impl Source<'_> {
    pub fn value<T: Value>(&self, name: &str, default: &str) -> Result<T, ConfigError> {
        let flag = || {
            let text = self.flags.get(name)?.to_owned();
            Some((format!("--{}", name.replace('_', "-")), text))
        };
        let variable = || {
            let variable = format!("CRSQL_{}", name.to_uppercase());
            (self.environment)(&variable).map(|text| (variable, text))
        };
        let file = || {
            let text = self.file.get(name).map(plain)?;
            Some((format!("{name} in {}", self.path.display()), text))
        };
        let found = flag().or_else(variable).or_else(file);
        let (origin, text) = found.unwrap_or_else(|| ("default".into(), default.to_owned()));
        T::parse(&text).map_err(|expected| ConfigError::Invalid { origin, value: text, expected })
    }
}

fn read(path: &Path) -> Result<toml::Table, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    text.parse().map_err(|error| ConfigError::Toml { path: path.to_owned(), error: Box::new(error) })
}

/// A TOML value as the flag would be written.
fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.toml");
        std::fs::write(&path, "connections = 7\nping = '3s'\nframe_bytes = '1KiB'\norigins = ['a', 'b']")
            .unwrap();
        let flags = Flags { config: Some(path), ping: Some("1s".into()), ..Flags::default() };
        let environment = |name: &str| match name {
            "CRSQL_PING" => Some("2s".into()),
            "CRSQL_FRAME_BYTES" => Some("2KiB".into()),
            _ => None,
        };
        let settings = Settings::load_from(&flags, &environment).unwrap();
        assert_eq!((settings.ping.0, settings.frame_bytes.0, settings.connections), (1000, 2048, 7));
        assert_eq!((settings.dead.0, settings.origins.0.len()), (45_000, 2));
    }

    #[test]
    fn without_anything_it_listens_on_loopback() {
        let settings = Settings::load_from(&Flags::default(), &none).unwrap();
        assert!(settings.listen.ip().is_loopback() && !settings.has_auth());
        assert_eq!(settings.data, PathBuf::from("data"));
    }

    #[test]
    fn every_default_shows_as_it_is_written_in_the_table() {
        let settings = Settings::load_from(&Flags::default(), &none).unwrap();
        let shown = settings.shown();
        for ((name, default, _), (shown_name, value)) in TABLE.iter().zip(shown) {
            assert_eq!((*name, *default), (shown_name, value.as_str()));
        }
    }

    #[test]
    fn the_documentation_has_every_setting_and_every_metric() {
        let text = include_str!("../../../docs/relay.md");
        for (name, default, doc) in TABLE {
            let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
            let line = format!("| `{name}` | {default} |{doc} |");
            assert!(text.contains(&line), "docs/relay.md lacks: {line}");
        }
        for (name, kind, doc) in crate::metrics::TABLE {
            let line = format!("| `{name}` | {kind} |{doc} |");
            assert!(text.contains(&line), "docs/relay.md lacks: {line}");
        }
    }

    #[test]
    fn beyond_loopback_needs_tokens_or_the_word_insecure() {
        let mut flags = Flags { listen: Some("0.0.0.0:1".into()), ..Flags::default() };
        let error = Settings::load_from(&flags, &none).unwrap_err().to_string();
        assert!(error.contains("0.0.0.0:1") && error.contains("--insecure"), "{error}");
        flags.insecure = Some("true".into());
        assert!(Settings::load_from(&flags, &none).is_ok());
        flags.insecure = None;
        flags.jwks_file = Some("keys.json".into());
        assert!(Settings::load_from(&flags, &none).is_ok());
    }

    #[test]
    fn errors_name_the_place_the_value_and_the_way_out() {
        let flags = Flags { ping: Some("5".into()), ..Flags::default() };
        let error = Settings::load_from(&flags, &none).unwrap_err().to_string();
        assert_eq!(error, r#"--ping: "5" is not a time such as 200ms, 5s, 10m or 1h"#);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.toml");
        std::fs::write(&path, "pings = 1").unwrap();
        let flags = Flags { config: Some(path), ..Flags::default() };
        let error = Settings::load_from(&flags, &none).unwrap_err().to_string();
        assert!(error.contains(r#""pings", which is no setting"#), "{error}");
    }
}
