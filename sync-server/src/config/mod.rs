//! The settings: one table, from which flags, environment variables, the TOML file and the documentation follow.
//!
//! A setting `frame_bytes` is the flag `--frame-bytes`, the variable `CRSQL_FRAME_BYTES` and the key `frame_bytes`
//! of the file. A flag beats a variable, a variable beats the file, the file beats the default.

mod limits;
mod load;
mod value;

pub use load::ConfigError;
pub use value::{List, Size, Span, Value};

use std::net::SocketAddr;
use std::path::PathBuf;

macro_rules! settings {
    ($($(#[doc = $doc:literal])* $(#[arg($($arg:tt)*)])? $name:ident: $type:ty = $default:literal,)*) => {
        /// Everything that can be set.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $($(#[doc = $doc])* pub $name: $type,)*
        }

        /// The settings as flags, not yet read.
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct Flags {
            /// TOML file with settings, also CRSQL_CONFIG
            #[arg(long, value_name = "FILE")]
            pub config: Option<PathBuf>,
            $($(#[doc = $doc])* $(#[arg($($arg)*)])? #[arg(long, value_name = "VALUE")] pub $name: Option<String>,)*
        }

        /// Name, default and description of every setting.
        pub const TABLE: &[(&str, &str, &str)] =
            &[$((stringify!($name), $default, concat!($($doc),*)),)*];

        impl Settings {
            fn gather(source: &load::Source<'_>) -> Result<Settings, ConfigError> {
                Ok(Settings { $($name: source.value(stringify!($name), $default)?,)* })
            }

            /// Name and value of every setting, as it would be written in the file.
            pub fn shown(&self) -> Vec<(&'static str, String)> {
                vec![$((stringify!($name), Value::show(&self.$name)),)*]
            }
        }

        impl Flags {
            fn get(&self, name: &str) -> Option<&str> {
                match name {
                    $(stringify!($name) => self.$name.as_deref(),)*
                    _ => None,
                }
            }
        }
    };
}

settings! {
    /// Address to listen on. Beyond loopback it takes a way to check tokens, or `insecure`
    listen: SocketAddr = "127.0.0.1:8787",
    /// Directory of the journals, rooms and snapshots
    data: PathBuf = "data",
    /// Serve beyond loopback although everybody may do everything
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    insecure: bool = "false",
    /// May anybody create rooms where no tokens are checked
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    open_creation: bool = "true",
    /// File with the shared secret of HS256 tokens
    jwt_secret_file: Option<PathBuf> = "",
    /// File with the public key (PEM) of EdDSA or ES256 tokens
    jwt_key_file: Option<PathBuf> = "",
    /// File with a JSON Web Key Set
    jwks_file: Option<PathBuf> = "",
    /// URL of a JSON Web Key Set, fetched again now and then
    jwks_url: Option<String> = "",
    /// How often the key set is fetched again
    jwks_refresh: Span = "5m",
    /// The audience that tokens must name; empty: not checked
    jwt_audience: Option<String> = "",
    /// The issuer that tokens must name; empty: not checked
    jwt_issuer: Option<String> = "",
    /// How long after its end a token is still taken
    jwt_leeway: Span = "30s",
    /// File with the TLS certificates (PEM)
    tls_cert: Option<PathBuf> = "",
    /// File with the TLS private key (PEM)
    tls_key: Option<PathBuf> = "",
    /// Web origins that may connect besides the relay's own; `*` for all
    origins: List = "",
    /// What is logged: error, warn, info, debug, trace, or a filter such as `crsql_server=debug`
    log: String = "info",
    /// How it is logged: text or json
    log_format: String = "text",
    /// Start every journal with a new epoch: after restoring data by means that the relay cannot notice
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    new_epoch: bool = "false",
    /// Shared journals, each with a writer of its own
    journals: usize = "1",
    /// Threads that read journals
    readers: usize = "2",
    /// Threads that write the rooms' databases
    materialisers: usize = "2",
    /// How long a room's database may lag behind its journal while nobody asks for it
    materialise_delay: Span = "200ms",
    /// Bytes of pushes that may wait for the journal, over all connections
    journal_queue: Size = "256MiB",
    /// Journal bytes of a room that are kept after they came into its database, for readers that come back
    journal_keep: Size = "64MiB",
    /// How long an unused room stays in memory
    room_idle: Span = "1m",
    /// Room databases kept open
    open_rooms: usize = "1000",
    /// Bytes of a room, of its journal or its database, from which on a newcomer gets a snapshot
    snapshot_min: Size = "8MiB",
    /// Which part of a room, in percent, somebody must lack to get a snapshot
    snapshot_share: u64 = "30",
    /// How long a shutdown may take
    drain_timeout: Span = "25s",
    /// How long the first message may take
    hello_timeout: Span = "5s",
    /// How long an HTTP head may take
    header_timeout: Span = "5s",
    /// TLS and WebSocket handshakes at once
    handshakes: usize = "256",
    /// Connections
    connections: usize = "50000",
    /// Connections of one IP address
    connections_per_ip: usize = "200",
    /// Connections in one room
    connections_per_room: usize = "10000",
    /// Rooms
    rooms: usize = "100000",
    /// Bytes of one frame
    frame_bytes: Size = "256KiB",
    /// Bytes of one message
    message_bytes: Size = "1MiB",
    /// Bytes of one frame after decompression
    raw_bytes: Size = "8MiB",
    /// Bytes of one transaction, over all of its frames
    tx_bytes: Size = "256MiB",
    /// Bytes of a connection's pushes that may be unacknowledged
    window_bytes: Size = "1MiB",
    /// Bytes of incomplete transactions of one site
    staged_bytes_per_site: Size = "64MiB",
    /// Incomplete transactions of one site
    partials_per_site: usize = "8",
    /// Bytes of incomplete transactions in one room
    staged_bytes: Size = "512MiB",
    /// How long an incomplete transaction waits for its next frame
    stage_ttl: Span = "1h",
    /// Bytes per second that a message or a request's body must come with, once begun; 0: any
    min_bytes_per_second: Size = "1KiB",
    /// Messages per second from one connection, five times as many in a burst
    messages_per_second: u64 = "200",
    /// Bytes per second from one connection, five times as many in a burst; beyond it the connection is read more slowly
    bytes_per_second: Size = "2MiB",
    /// Bytes per second into one room, five times as many in a burst
    room_bytes_per_second: Size = "20MiB",
    /// Presence messages per second from one connection
    presence_per_second: u64 = "20",
    /// New sites per hour from one connection
    new_sites_per_hour: usize = "10",
    /// Sites of one room
    sites_per_room: usize = "65536",
    /// Bytes of one room: its journal and, once that is trimmed, its database; 0: no limit
    room_bytes: Size = "0",
    /// Tables named by one changeset
    tables: usize = "512",
    /// Columns of one table
    columns: usize = "1024",
    /// Bytes of one packed key
    key_bytes: Size = "2KiB",
    /// Bytes of one cell
    cell_bytes: Size = "8MiB",
    /// Bytes of a cell that is counted as large
    cell_warning: Size = "1MiB",
    /// Refuse clocks that lie far beyond those of the room: a causal length by 65,536 an hour, a column's clock by 1,048,576
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    clock_steps: bool = "true",
    /// Which part of a room's rows, in percent, may be deleted ones before that is reported
    tombstone_share: u64 = "50",
    /// How often that is looked at, and deletes are collected
    tombstone_interval: Span = "10m",
    /// How long a site may stay away before deletes are collected without it; 0: they are kept for ever
    tombstone_lease: Span = "0",
    /// Bytes of one HTTP request
    body_bytes: Size = "16MiB",
    /// Silence after which a connection is pinged
    ping: Span = "20s",
    /// Silence after which a connection is closed
    dead: Span = "45s",
    /// How long a reader may take nothing while there is something to send
    credit_timeout: Span = "1m",
}
