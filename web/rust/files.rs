//! The three files of a database: the database itself, its rollback journal and its write-ahead log.
//!
//! A file is either a handle that JavaScript opened beforehand, since SQLite can't wait for one, or blocks in memory.
//! A file exists when it is not empty: SQLite takes an empty journal or log for a missing one, and truncating needs no
//! directory that could be out of step after a crash.

use std::cell::RefCell;
use std::collections::BTreeSet;

use rusqlite::ffi;
use wasm_bindgen::prelude::*;

/// The unit in which a file in memory is kept and saved, in bytes.
pub const BLOCK_BYTES: usize = 16 * 1024;

#[wasm_bindgen]
extern "C" {
    /// A synchronous file handle: what the type `SyncFile` of `src/storage/files.ts` says.
    pub type SyncFile;

    #[wasm_bindgen(method, structural, catch)]
    fn read(this: &SyncFile, into: &js_sys::Uint8Array, at: f64) -> Result<f64, JsValue>;
    #[wasm_bindgen(method, structural, catch)]
    fn write(this: &SyncFile, from: &js_sys::Uint8Array, at: f64) -> Result<f64, JsValue>;
    #[wasm_bindgen(method, structural, catch)]
    fn truncate(this: &SyncFile, size: f64) -> Result<(), JsValue>;
    #[wasm_bindgen(method, structural, catch)]
    fn flush(this: &SyncFile) -> Result<(), JsValue>;
    #[wasm_bindgen(method, structural, catch)]
    fn size(this: &SyncFile) -> Result<f64, JsValue>;
}

/// Why a file operation failed: SQLite's result code and the storage's words.
pub struct Failure {
    pub code: i32,
    pub reason: String,
}

pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// The bytes of one file.
pub enum Store {
    Handle(SyncFile),
    Memory(RefCell<Blocks>),
}

impl Store {
    pub fn memory() -> Store {
        Store::Memory(RefCell::default())
    }

    /// Reads what there is at `at`; returns how many bytes that were.
    pub fn read(&self, into: &mut [u8], at: u64) -> Result<usize> {
        match self {
            Store::Handle(file) => {
                // SAFETY: the view is used before this returns and nothing allocates in between.
                let view = unsafe { js_sys::Uint8Array::view_mut_raw(into.as_mut_ptr(), into.len()) };
                let read = file.read(&view, at as f64).map_err(|e| failure(&e, ffi::SQLITE_IOERR_READ))?;
                Ok((read.max(0.0) as usize).min(into.len()))
            }
            Store::Memory(blocks) => Ok(blocks.borrow().read(into, at)),
        }
    }

    pub fn write(&self, from: &[u8], at: u64) -> Result<()> {
        match self {
            Store::Handle(file) => {
                // SAFETY: as in `read`.
                let view = unsafe { js_sys::Uint8Array::view(from) };
                let written =
                    file.write(&view, at as f64).map_err(|e| failure(&e, ffi::SQLITE_IOERR_WRITE))?;
                if written == from.len() as f64 {
                    return Ok(());
                }
                let reason = format!("only {written} of {} bytes could be written", from.len());
                Err(Failure { code: ffi::SQLITE_FULL, reason })
            }
            Store::Memory(blocks) => {
                blocks.borrow_mut().write(from, at);
                Ok(())
            }
        }
    }

    pub fn truncate(&self, size: u64) -> Result<()> {
        match self {
            Store::Handle(file) => {
                file.truncate(size as f64).map_err(|e| failure(&e, ffi::SQLITE_IOERR_TRUNCATE))
            }
            Store::Memory(blocks) => {
                blocks.borrow_mut().truncate(size);
                Ok(())
            }
        }
    }

    /// Returns once everything written survives a power failure, as far as the storage can promise that.
    pub fn flush(&self) -> Result<()> {
        match self {
            Store::Handle(file) => file.flush().map_err(|e| failure(&e, ffi::SQLITE_IOERR_FSYNC)),
            Store::Memory(_) => Ok(()),
        }
    }

    pub fn size(&self) -> Result<u64> {
        match self {
            Store::Handle(file) => {
                file.size().map(|size| size as u64).map_err(|e| failure(&e, ffi::SQLITE_IOERR_FSTAT))
            }
            Store::Memory(blocks) => Ok(blocks.borrow().size),
        }
    }
}

/// A full disk is told apart: it is the user's to solve, and no sign of damage.
fn failure(error: &JsValue, code: i32) -> Failure {
    let text = |key: &str| js_sys::Reflect::get(error, &key.into()).ok().and_then(|value| value.as_string());
    let name = text("name").unwrap_or_default();
    let reason = format!("{name}: {}", text("message").unwrap_or_default());
    let full = name == "QuotaExceededError" || text("code").is_some_and(|code| code == "ENOSPC");
    Failure { code: if full { ffi::SQLITE_FULL } else { code }, reason }
}

/// A file in memory, and which of its blocks changed since they were last saved.
#[derive(Default)]
pub struct Blocks {
    blocks: Vec<Box<[u8]>>,
    size: u64,
    changed: BTreeSet<usize>,
}

impl Blocks {
    fn read(&self, into: &mut [u8], at: u64) -> usize {
        let len = (self.size.saturating_sub(at) as usize).min(into.len());
        self.each_part(at, len, |block, offset, done, count| {
            into[done..done + count].copy_from_slice(&self.blocks[block][offset..offset + count]);
        });
        len
    }

    fn write(&mut self, from: &[u8], at: u64) {
        let end = at + from.len() as u64;
        self.reserve(end);
        let mut blocks = std::mem::take(&mut self.blocks);
        let mut touched = Vec::new();
        self.each_part(at, from.len(), |block, offset, done, count| {
            blocks[block][offset..offset + count].copy_from_slice(&from[done..done + count]);
            touched.push(block);
        });
        self.blocks = blocks;
        self.changed.extend(touched);
        self.size = self.size.max(end);
    }

    /// Calls back for each block of `len` bytes at `at`: the block, the offset in it, the bytes done, the bytes now.
    fn each_part(&self, at: u64, len: usize, mut part: impl FnMut(usize, usize, usize, usize)) {
        let mut done = 0;
        while done < len {
            let position = at as usize + done;
            let (block, offset) = (position / BLOCK_BYTES, position % BLOCK_BYTES);
            let count = (BLOCK_BYTES - offset).min(len - done);
            part(block, offset, done, count);
            done += count;
        }
    }

    fn reserve(&mut self, size: u64) {
        let blocks = (size as usize).div_ceil(BLOCK_BYTES);
        while self.blocks.len() < blocks {
            self.blocks.push(vec![0; BLOCK_BYTES].into_boxed_slice());
        }
    }

    pub fn truncate(&mut self, size: u64) {
        self.reserve(size);
        self.blocks.truncate((size as usize).div_ceil(BLOCK_BYTES));
        // What is beyond the end must read as zeros if the file grows again.
        let rest = size as usize % BLOCK_BYTES;
        if rest > 0
            && let Some(last) = self.blocks.last_mut()
        {
            last[rest..].fill(0);
            self.changed.insert(self.blocks.len() - 1);
        }
        self.changed.split_off(&self.blocks.len());
        self.size = size;
    }

    /// Puts a saved block in its place.
    pub fn load(&mut self, block: usize, bytes: &[u8]) {
        self.reserve((block as u64 + 1) * BLOCK_BYTES as u64);
        let len = bytes.len().min(BLOCK_BYTES);
        self.blocks[block][..len].copy_from_slice(&bytes[..len]);
    }

    /// The blocks that changed since the last call, with their numbers.
    pub fn take_changed(&mut self) -> Vec<(usize, &[u8])> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|block| Some((block, &**self.blocks.get(block)?))).collect()
    }
}
