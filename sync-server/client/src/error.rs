//! What can go wrong on this side. What the other side did wrong is a [`Fault`](crsql_protocol::Fault).

/// The result of what may fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something failed on this side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite, or crsql inside it.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A changeset of this database can't be read.
    #[error("a changeset of this database: {0}")]
    Changeset(#[from] crsql_core::changeset::ChangesetError),
    /// crsql could not be added to the connection.
    #[error("cannot add crsql to the connection: {0}")]
    Register(String),
    /// A table of ours holds what no version of this library wrote.
    #[error("sync state: {0}; drop the tables that begin with \"__crsql_sync_\" to begin anew")]
    Damaged(String),
    /// The sync state was written by a newer version.
    #[error("sync state has format {0}, this version reads up to 1: upgrade this program")]
    NewerFormat(i64),
    /// Somebody holds a transaction open on this connection.
    #[error("a transaction is open on the connection that syncs: commit it first")]
    InTransaction,
    /// A file, a thread or a socket.
    #[error("{0}: {1}")]
    Io(String, #[source] std::io::Error),
    /// What should be the address of a relay or peer is none, or can't be reached.
    #[error("{0}: {1}")]
    Address(String, String),
    /// TLS can't be set up.
    #[error("TLS: {0}")]
    Tls(String),
    /// The client was closed, or its thread ended.
    #[error("the sync client is closed")]
    Stopped,
}
