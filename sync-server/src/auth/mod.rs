//! Who may do what: tokens to grants.

mod jwks;
mod token;

pub use token::Auth;

use crsql_core::ids::SiteId;

/// Something that a token may allow in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Receive.
    Read,
    /// Push what was written by the sites of the token.
    Write,
    /// Push what others wrote: for peers and relays, which are trusted to pass things on unchanged.
    Relay,
    /// Make the room by entering it.
    Create,
    /// Schema, backup, everything.
    Admin,
}

/// What somebody may do in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Whom the token is about; none where no tokens are checked.
    pub subject: Option<String>,
    /// May receive.
    pub read: bool,
    /// May push what its own sites wrote.
    pub write: bool,
    /// May push what others wrote.
    pub relay: bool,
    /// May make the room.
    pub create: bool,
    /// May change schema and everything.
    pub admin: bool,
    /// The sites it may write for; none: those that nobody else has written for first.
    pub sites: Option<Vec<SiteId>>,
    /// When it ends, in milliseconds since 1970; leeway included.
    pub expires_ms: Option<u64>,
}

impl Grant {
    /// What everybody may do where no tokens are checked.
    pub fn everything(create: bool) -> Grant {
        Grant { read: true, write: true, relay: true, create, admin: true, ..Grant::default() }
    }

    /// Whether it allows something.
    pub fn allows(&self, permission: Permission) -> bool {
        match permission {
            Permission::Read => self.read || self.admin,
            Permission::Write => self.write || self.admin,
            Permission::Relay => self.relay || self.admin,
            Permission::Create => self.create || self.admin,
            Permission::Admin => self.admin,
        }
    }

    /// The bits that Welcome tells.
    pub fn bits(&self) -> u8 {
        let read = if self.allows(Permission::Read) { crsql_protocol::message::READ } else { 0 };
        let write = if self.allows(Permission::Write) { crsql_protocol::message::WRITE } else { 0 };
        read | write
    }
}
