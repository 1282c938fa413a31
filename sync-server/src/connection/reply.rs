//! What other threads send back to a connection.

use crsql_protocol::message::{Ack, DigestResponse, Presence};
use crsql_protocol::session::Tail;
use crsql_protocol::{Fault, Input};

use super::Connection;
use crate::room::Answer;

/// The answer to something that was asked of another thread.
pub(super) enum Reply {
    /// A push is durable, or was not taken.
    Stored(Result<Ack, Fault>),
    /// The journal was read.
    Tail(Result<Tail, Fault>),
    /// What was needed was read.
    Versions(Result<Answer, Fault>),
    /// Something that was being said when the connection came.
    Present(Presence),
    /// Digests were taken.
    Digests(Result<DigestResponse, Fault>),
}

impl Connection {
    pub(super) async fn reply(&mut self, reply: Reply) {
        match reply {
            Reply::Stored(done) => {
                self.storing -= 1;
                match done {
                    Ok(ack) => self.handle(Input::Stored(ack)).await,
                    Err(fault) => self.fail(fault).await,
                }
            }
            Reply::Tail(Ok(tail)) => self.handle(Input::Tail(tail)).await,
            Reply::Versions(Ok(answer)) => {
                if let Some(member) = &mut self.member {
                    member.progress = answer.progress;
                }
                self.handle(Input::Parcel(answer.parcel)).await;
            }
            Reply::Present(presence) => self.handle(Input::Present(presence)).await,
            Reply::Digests(Ok(response)) => self.handle(Input::Digests(response)).await,
            Reply::Tail(Err(fault)) | Reply::Versions(Err(fault)) | Reply::Digests(Err(fault)) => {
                self.fail(fault).await;
            }
        }
    }
}
