//! The rooms in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crsql_protocol::{Code, Fault};

use super::Room;
use crate::context::Context;
use crate::journal::{JournalError, Opened};

/// All rooms that are in use.
pub struct Rooms {
    context: Arc<Context>,
    open: Mutex<HashMap<String, Arc<Room>>>,
    /// One opening at a time: of two memories of one room each would give away the same positions.
    opening: tokio::sync::Mutex<()>,
}

impl Rooms {
    /// None yet.
    pub fn new(context: Arc<Context>) -> Rooms {
        Rooms { context, open: Mutex::default(), opening: tokio::sync::Mutex::default() }
    }

    /// The context they share.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The room of this name. With `create` (the tie-break of a new one), makes it if there is none.
    pub async fn open(&self, name: &str, create: Option<u8>) -> Result<Arc<Room>, Fault> {
        if let Some(room) = self.get(name) {
            return Ok(room);
        }
        let _one = self.opening.lock().await;
        if let Some(room) = self.get(name) {
            return Ok(room);
        }
        let mut opened = self.find(name, create).await?;
        let mut room = Room::new(name, &opened, self.context.clone());
        if opened.floor > 0 && !room.is_complete(opened).await? {
            opened = self.find(name, None).await?;
            room = Room::new(name, &opened, self.context.clone());
        }
        room.remember().await?;
        tracing::debug!(room = name, pos = room.head().pos, "opened");
        let mut open = self.lock();
        open.insert(name.into(), room.clone());
        self.context.metrics.rooms.add(1);
        Ok(room)
    }

    async fn find(&self, name: &str, create: Option<u8>) -> Result<Opened, Fault> {
        let (context, owned) = (self.context.clone(), name.to_owned());
        let rooms_max = self.context.settings.rooms;
        let opened = self.context.readers.ask(move || {
            let journal = &context.journal;
            let found = journal.open(&owned, None)?;
            match create {
                Some(tie_break) if found.is_none() && journal.rooms()?.len() < rooms_max => {
                    journal.open(&owned, Some(tie_break))
                }
                _ => Ok(found),
            }
        });
        let opened = opened.await.map_err(|error| Fault::new(Code::INTERNAL, error.to_string()))?;
        opened.map_err(unavailable)?.ok_or_else(|| {
            let detail = match create {
                Some(_) => format!("there is no room {name:?}, and there are {rooms_max} rooms already"),
                None => format!("there is no room {name:?}, and nobody here may make it"),
            };
            Fault::new(Code::NO_ROOM, detail)
        })
    }

    /// Forgets rooms that nobody uses, and what waited in the others for too long.
    pub fn sweep(&self) {
        let idle = self.context.settings.room_idle.duration();
        let mut open = self.lock();
        let before = open.len();
        open.retain(|_, room| Arc::strong_count(room) > 1 || room.idle().is_none_or(|time| time < idle));
        self.context.metrics.rooms.sub((before - open.len()) as u64);
        let rooms: Vec<_> = open.values().cloned().collect();
        drop(open);
        for room in &rooms {
            room.expire();
            room.note_clocks();
            room.look_at_tombstones();
        }
    }

    fn get(&self, name: &str) -> Option<Arc<Room>> {
        let mut open = self.lock();
        match open.get(name) {
            Some(room) if room.has_failed() => {
                open.remove(name);
                self.context.metrics.rooms.sub(1);
                None
            }
            found => found.cloned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Room>>> {
        self.open.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What a failing journal means for those who connect.
pub fn unavailable(error: JournalError) -> Fault {
    if matches!(error, JournalError::Trimmed(_)) {
        return Fault::new(Code::LOST, "the journal no longer reaches back that far: connect again");
    }
    tracing::error!(%error, "the journal failed");
    Fault { retry_after_ms: 5000, ..Fault::new(Code::UNAVAILABLE, "the journal failed: try again later") }
}
