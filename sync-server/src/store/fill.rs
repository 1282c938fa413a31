//! What the journal no longer has, from the tables: as one delta with claims.
//!
//! Of a transaction only what nobody overwrote since is left there. So everything that somebody lacks goes as one
//! delta: whatever replaced a part of something is in it as well, and nobody sees half of a transaction. A delta can be
//! as large as the room, so it lies in a file that goes with its reader.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};

use crsql_client::replica::pack::packed;
use crsql_core::changeset::{Order, split_each};
use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::holdings::Needs;
use crsql_protocol::message::{ChainAt, Frame};
use crsql_protocol::session::Parcel;

use super::{Store, StoreError, vector};

/// A delta is cut into frames of about this many bytes before compression.
const PIECE_BYTES: usize = 128 << 10;

/// A delta on its way to one reader.
#[derive(Debug)]
pub struct Fill {
    file: BufReader<File>,
    frames: u64,
    claims: VersionVector,
    chains: Vec<ChainAt>,
}

impl Store {
    /// What is left of all that `needs` names and the database holds.
    pub fn fill(&self, needs: &Needs, zstd: bool) -> Result<Fill, StoreError> {
        let (claims, changeset) = self.with(|connection, _| {
            let held = vector(connection)?;
            let mut wanted = needs.whole.clone();
            for (site, version) in needs.partial.keys() {
                wanted.insert(*site, *version);
            }
            let lacking = held.difference(&wanted);
            let args = [lacking.encode()];
            let bytes: Vec<u8> = connection
                .prepare_cached("SELECT crsql_changeset(?1, 0)")?
                .query_row(args, |row| row.get(0))?;
            Ok((held.difference(&lacking), bytes))
        })?;
        let mut frames = 0;
        let mut out = BufWriter::new(tempfile::tempfile()?);
        split_each(&changeset, PIECE_BYTES, Order::AsGiven, &VersionVector::default(), |piece| {
            let frame = Frame::delta(SiteId::default(), piece.bytes);
            let frame = if zstd { packed(frame) } else { frame };
            let bytes = rmp_serde::to_vec(&frame).map_err(std::io::Error::other)?;
            out.write_all(&(bytes.len() as u32).to_le_bytes())?;
            frames += 1;
            Ok::<_, StoreError>(out.write_all(&bytes)?)
        })?;
        drop(changeset);
        let mut file = out.into_inner().map_err(|error| error.into_error())?;
        file.rewind()?;
        let mut chains = Vec::new();
        for (site, version) in claims.heads() {
            let chain = self.journal.chain(self.key, site, version)?;
            chains.extend(chain.map(|chain| ChainAt { site, version, chain }));
        }
        self.metrics.fills.add(1);
        Ok(Fill { file: BufReader::new(file), frames, claims, chains })
    }
}

impl Fill {
    /// About `bytes` more of it; the claims come with the last.
    pub fn next(&mut self, bytes: u64) -> std::io::Result<Parcel> {
        let mut parcel = Parcel::default();
        let mut size = 0;
        while self.frames > 0 && size < bytes {
            let mut len = [0; 4];
            self.file.read_exact(&mut len)?;
            let mut body = vec![0; u32::from_le_bytes(len) as usize];
            self.file.read_exact(&mut body)?;
            let frame: Frame = crsql_core::msgpack::from_slice(&body).map_err(std::io::Error::other)?;
            size += frame.wire_bytes() as u64;
            parcel.frames.push(frame);
            self.frames -= 1;
        }
        parcel.more = self.frames > 0;
        if !parcel.more {
            parcel.claims = std::mem::take(&mut self.claims);
            parcel.chains = std::mem::take(&mut self.chains);
        }
        Ok(parcel)
    }

    /// Whether all of it was given away.
    pub fn is_over(&self) -> bool {
        self.frames == 0 && self.claims.is_empty()
    }
}
