//! Does what the session says.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use crsql_core::ids::SiteId;
use crsql_protocol::message::{Hello, Push, features};
use crsql_protocol::session::{Event, Read};
use crsql_protocol::wire::Chain;
use crsql_protocol::{Code, Fault, Input, Output, codec};

use super::reply::Reply;
use super::{Connection, Member};
use crate::auth::Permission;
use crate::room::{Answer, Author, Cuts, Sought, unavailable};

/// Pushes up to this many bytes are looked through where they arrive; longer ones on another thread.
const INLINE_BYTES: usize = 32 << 10;

/// How much of the rows that differ is sent at a time, in bytes.
const REPAIR_BYTES: u64 = 1 << 20;

const HOUR_MS: u64 = 3_600_000;

impl Connection {
    /// Does all of it, in order. `live` are the bytes behind [`Output::SendLive`], and how many names they need.
    pub(super) async fn perform(&mut self, outputs: Vec<Output>, live: Option<(Bytes, u32)>) {
        let mut todo = VecDeque::from(outputs);
        while let Some(output) = todo.pop_front() {
            match output {
                Output::Send(bytes) => self.send(bytes.into()).await,
                Output::SendLive => {
                    self.context.metrics.deliveries.add(1);
                    if let Some((bytes, names)) = &live {
                        self.tell(*names).await;
                        self.send(bytes.clone()).await;
                    }
                }
                Output::Admit(hello) => {
                    let answer = match self.admit(&hello).await {
                        Ok(admission) => Input::Admit(Box::new(admission)),
                        Err(fault) => Input::Fail(fault),
                    };
                    todo.extend(self.session.handle(self.context.now_ms(), answer));
                }
                Output::Read(read) => self.read(read),
                Output::Store(push) => self.store(push).await,
                Output::Digest(request) => self.digest(request),
                Output::Event(event) => self.event(event),
                Output::Close(fault) => self.over(fault).await,
                Output::Compare(_) | Output::Apply(_) => {
                    unreachable!("an acceptor compares and applies nothing")
                }
            }
        }
    }

    /// Tells the names that the other side lacks, if what comes next needs some of them.
    async fn tell(&mut self, needed: u32) {
        let lacking = self.member.as_mut().filter(|member| member.told < needed).and_then(|member| {
            let names = member.room.names(member.told)?;
            member.told += names.names.len() as u32;
            Some(names)
        });
        if let Some(names) = lacking {
            self.send(codec::encode(&names.into()).into()).await;
        }
    }

    /// Looks at the token, opens the room, and finds out what the newcomer must know.
    async fn admit(&mut self, hello: &Hello) -> Result<crsql_protocol::session::Admission, Fault> {
        let arrival = self.arrival.take().ok_or_else(|| Fault::new(Code::UNEXPECTED, "a second hello"))?;
        if arrival.room != hello.room {
            let detail = format!("the URL names room {:?} and Hello {:?}", arrival.room, hello.room);
            return Err(Fault::new(Code::FORBIDDEN, detail));
        }
        let token = hello.token.as_deref().or(arrival.token.as_deref());
        let grant = self.context.auth.grant(token, &hello.room)?;
        if !grant.allows(Permission::Relay) {
            self.session.limit_features(!features::GOSSIP);
        }
        let create = grant.allows(Permission::Create).then_some(hello.tie_break);
        let room = self.rooms.open(&hello.room, create).await?;
        let most = self.context.settings.connections_per_room;
        if room.connections.fetch_add(1, Ordering::Relaxed) >= most {
            room.connections.fetch_sub(1, Ordering::Relaxed);
            let detail = format!("there are {most} connections in the room already");
            return Err(Fault { retry_after_ms: 5000, ..Fault::new(Code::UNAVAILABLE, detail) });
        }
        // From here on the member is counted and leaves when the connection ends.
        let (said, present) = room.enter(hello.site);
        self.context.metrics.sessions.add(1);
        let mut signal = room.signal();
        signal.mark_unchanged();
        self.member = Some(Member {
            grant: grant.clone(),
            site: hello.site,
            zstd: hello.features & features::ZSTD != 0,
            fed: 0,
            told: 0,
            cuts: Cuts::default(),
            progress: None,
            new_sites: BTreeSet::new(),
            new_sites_since_ms: self.context.now_ms(),
            signal,
            present,
            room: room.clone(),
        });
        room.heard(hello.site, hello.held.as_ref().map(|held| &held.whole));
        let mut admission = room.admission(hello, &grant).await?;
        admission.snapshot = room.offer(hello, &admission).await;
        if let Some(member) = &mut self.member {
            member.fed = admission.head.pos;
            // What came while it was found out is told at the next round.
            member.signal.mark_changed();
        }
        for presence in said {
            self.replies.send(Reply::Present(presence)).ok();
        }
        tracing::info!(
            id = self.id,
            room = hello.room,
            from = arrival.from,
            agent = hello.agent,
            subject = grant.subject,
            "entered"
        );
        Ok(admission)
    }

    fn read(&mut self, read: Read) {
        let Some(member) = &mut self.member else { return };
        let (room, zstd, replies) = (member.room.clone(), member.zstd, self.replies.clone());
        match read {
            Read::Tail { after, bytes } => self.context.readers.run(move || {
                replies.send(Reply::Tail(room.tail(after, bytes, zstd).map_err(unavailable))).ok();
            }),
            Read::Versions { needs, bytes } => {
                let progress = member.progress.take();
                self.context.readers.run(move || {
                    let answer = match room.versions(&needs, bytes, zstd, progress) {
                        Ok(Sought::Answer(answer)) => Ok(answer),
                        Ok(Sought::Trimmed) => {
                            let of = room.clone();
                            return room.store.run(move |_| {
                                let answer = of.fill(&needs, bytes, zstd).map_err(unavailable);
                                replies.send(Reply::Versions(answer)).ok();
                            });
                        }
                        Err(error) => Err(unavailable(error)),
                    };
                    replies.send(Reply::Versions(answer)).ok();
                });
            }
            Read::Rows { ranges, bytes } => room.store.clone().run(move |_| {
                let parcel = room.rows(&ranges, bytes.max(REPAIR_BYTES)).map_err(unavailable);
                let answer = parcel.map(|parcel| Answer { parcel, progress: None });
                replies.send(Reply::Versions(answer)).ok();
            }),
        }
    }

    async fn store(&mut self, push: Push) {
        let Some(member) = &mut self.member else { return };
        let arrived = Instant::now();
        let (room, checker) = (member.room.clone(), self.context.checker);
        let tx_bytes = self.context.settings.staged_bytes_per_site.0;
        let size: usize = push.frames.iter().map(|frame| frame.wire_bytes()).sum();
        // With the last push of a cut all of it is in memory, until it is durable.
        let whole = if push.more { 0 } else { member.cuts.bytes() };
        let size = size.saturating_add(usize::try_from(whole).unwrap_or(usize::MAX));
        let waits = u32::try_from(size.min(self.context.settings.journal_queue.bytes())).unwrap_or(u32::MAX);
        // When the journal does not keep up, sockets are read more slowly.
        let permit = self.context.queue.clone().acquire_many_owned(waits).await;
        let mut cuts = std::mem::take(&mut member.cuts);
        let tie_break = room.tie_break;
        let looked = if size <= INLINE_BYTES {
            Ok((cuts.check(push, &checker, tie_break, tx_bytes), cuts))
        } else {
            let look = move || (cuts.check(push, &checker, tie_break, tx_bytes), cuts);
            self.context.readers.ask(look).await
        };
        let (checked, cuts) = match looked {
            Ok(looked) => looked,
            Err(error) => return Box::pin(self.fail(Fault::new(Code::INTERNAL, error.to_string()))).await,
        };
        member.cuts = cuts;
        let older = room.older(&checked);
        let known = match older.is_empty() {
            true => HashMap::new(),
            false => self.known(older).await,
        };
        let Some(member) = &mut self.member else { return };
        let now_ms = self.context.now_ms();
        if now_ms - member.new_sites_since_ms >= HOUR_MS {
            member.new_sites_since_ms = now_ms;
            member.new_sites.clear();
        }
        let _gate = room.pushing().await;
        let mut author = Author { grant: &member.grant, site: member.site, new_sites: &mut member.new_sites };
        self.storing += 1;
        let (replies, metrics) = (self.replies.clone(), self.context.metrics.clone());
        let reply = move |done| {
            drop(permit);
            metrics.ack.add(arrived.elapsed());
            replies.send(Reply::Stored(done)).ok();
        };
        match checked.is_repair() {
            true => room.repair(checked, &mut author, reply),
            false => room.push(self.id, checked, &mut author, &known, reply),
        }
    }

    /// The chains of versions that are held already, to tell a repetition from another history.
    async fn known(&mut self, versions: Vec<(SiteId, u64)>) -> HashMap<(SiteId, u64), Chain> {
        let Some(member) = &self.member else { return HashMap::new() };
        let (journal, key) = (self.context.journal.clone(), member.room.key);
        let look = move || {
            let chain = |(site, version)| Some(((site, version), journal.chain(key, site, version).ok()??));
            versions.into_iter().filter_map(chain).collect()
        };
        self.context.readers.ask(look).await.unwrap_or_default()
    }

    fn digest(&self, request: crsql_protocol::message::DigestRequest) {
        let Some(member) = &self.member else { return };
        let (room, replies) = (member.room.clone(), self.replies.clone());
        let may_read = member.grant.allows(Permission::Read);
        tokio::spawn(async move {
            let done = match may_read {
                true => room.digests(request).await,
                false => Err(Fault::new(Code::FORBIDDEN, "the token allows no reading here")),
            };
            replies.send(Reply::Digests(done)).ok();
        });
    }

    fn event(&mut self, event: Event) {
        let Some(member) = &mut self.member else { return };
        match event {
            Event::Ready(welcome) => member.zstd = welcome.features & features::ZSTD != 0,
            Event::Holds(held) => member.room.heard(member.site, Some(&held)),
            Event::Presence(presence) => {
                let own = presence.site == member.site || member.grant.allows(Permission::Relay);
                if own && member.grant.allows(Permission::Write) {
                    member.room.say(self.id, presence);
                }
            }
            _ => {}
        }
    }

    async fn over(&mut self, fault: Option<Fault>) {
        let Some(fault) = fault else { return self.close(1000, "").await };
        self.context.metrics.fault(fault.code);
        tracing::info!(id = self.id, code = fault.code.name(), detail = fault.detail, "closed");
        self.flush().await;
        self.close(1008, fault.code.name()).await;
    }
}
