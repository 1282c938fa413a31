//! How often rare things happened, so that a run can say what it has not seen.
//!
//! Counts belong to the thread, because histories are single-threaded.

use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    static SEEN: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
    static TRACE: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Everything that a long run must see at least once.
pub const RARE: [&str; 45] = [
    "statement aborted",
    "statement aborted after some of its rows",
    "insert or fail kept a prefix",
    "insert or ignore skipped a row",
    "insert or rollback ended a transaction",
    "insert or replace over a live row",
    "insert over a tombstone",
    "upsert updated",
    "upsert inserted",
    "key moved",
    "key moved over a live row",
    "key respelled",
    "NULL replaced by a default",
    "STRICT refused a value",
    "CHECK refused a value",
    "NOT NULL refused a value",
    "a trigger skipped a row",
    "range updated",
    "range deleted",
    "savepoint rolled back",
    "savepoint released",
    "transaction rolled back",
    "transaction cut off by the end of its connection",
    "read inside a transaction",
    "another connection saw only what was committed",
    "another connection was told to wait",
    "connection switched",
    "restart",
    "backup",
    "backup restored under a new name",
    "backup restored under its old name",
    "file cloned",
    "fresh replica joined",
    "late table added",
    "type declared late",
    "late column added by ALTER alone",
    "late column added between begin and commit",
    "vacuum or analyze or gc or checkpoint",
    "partition",
    "partition healed",
    "message lost",
    "message duplicated",
    "row split between messages",
    "changes parked",
    "own changes came back after a restore",
];

/// Counts one occurrence.
pub fn saw(what: &'static str) {
    debug_assert!(RARE.contains(&what), "{what:?} is not in the list of rare events");
    SEEN.with_borrow_mut(|seen| *seen.entry(what).or_default() += 1);
}

/// What this thread has seen so far.
pub fn seen() -> BTreeMap<&'static str, u64> {
    SEEN.with_borrow(Clone::clone)
}

/// Tells what happens when somebody listens: [`record`] or `CRSQL_TRACE` in the environment.
pub fn trace(line: impl FnOnce() -> String) {
    static ALOUD: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let aloud = *ALOUD.get_or_init(|| std::env::var_os("CRSQL_TRACE").is_some());
    if !aloud && TRACE.with_borrow(Option::is_none) {
        return;
    }
    let line = line();
    if aloud {
        println!("{line}");
    }
    TRACE.with_borrow_mut(|trace| trace.iter_mut().for_each(|lines| lines.push(line.clone())));
}

/// Begins to record what [`trace`] is told.
pub fn record() {
    TRACE.set(Some(Vec::new()));
}

/// Ends recording and gives the lines.
pub fn recorded() -> Vec<String> {
    TRACE.take().unwrap_or_default()
}
