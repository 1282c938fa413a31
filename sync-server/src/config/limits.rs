//! What the settings come to for the session of one connection.

use crsql_core::limits::SITE_VERSION_STEP_MAX;
use crsql_protocol::limits::Limits;
use crsql_protocol::message::features;
use crsql_protocol::session::Config;

use super::Settings;

impl Settings {
    /// The limits of the protocol.
    pub fn limits(&self) -> Limits {
        Limits {
            message_bytes: self.message_bytes.bytes(),
            frame_bytes: self.frame_bytes.bytes(),
            tx_bytes: self.tx_bytes.0,
            window_bytes: self.window_bytes.0,
            batch_bytes: (256 << 10).min(self.message_bytes.bytes() / 2),
            staged_bytes_per_site: self.staged_bytes_per_site.0,
            partials_per_site: self.partials_per_site,
            staged_bytes: self.staged_bytes.0,
            stage_ttl_ms: self.stage_ttl.0,
            // The relay stands between sites that do not trust each other.
            site_version_step: SITE_VERSION_STEP_MAX,
            hello_ms: self.hello_timeout.0,
            ping_ms: self.ping.0,
            dead_ms: self.dead.0,
            credit_ms: self.credit_timeout.0,
            messages_per_second: self.messages_per_second,
            bytes_per_second: self.bytes_per_second.0,
            presence_per_second: self.presence_per_second,
            ..Limits::default()
        }
    }

    /// What every session of the relay is like.
    pub fn session(&self) -> Config {
        Config {
            agent: concat!("crsql-server/", env!("CARGO_PKG_VERSION")).into(),
            features: features::DEFAULT | features::GOSSIP | features::ZSTD,
            limits: self.limits(),
        }
    }
}
