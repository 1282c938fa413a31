//! An editing trace typed through SQL by two sites, beside the same typed into two yrs documents.
//!
//!     tests/bench/editing-trace [--edits N] [--burst N] [--together N]
//!
//! The trace is the one of the automerge paper: 259,778 keystrokes, each an insertion or a deletion of one character.
//! The sites take turns of `--burst` keystrokes, each keystroke a transaction of its own, and exchange what is new
//! after each turn. With `--together N` so many keystrokes are one UPDATE, as of an editor that writes a few times a
//! second. yrs does the same with its documents and updates, in memory and without a file; crsql keeps two
//! databases, in memory too, because yrs knows no durability to compare with.

use rusqlite::Connection;
use std::hint::black_box;
use std::time::Duration;
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, ReadTxn, StateVector, Text, Transact, Update};

/// Where, how many characters go, what comes.
type Edit = (u32, u32, String);

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    end_content: String,
    txns: Vec<Patches>,
}

#[derive(serde::Deserialize)]
struct Patches {
    patches: Vec<Edit>,
}

/// How the keystrokes reach the database.
#[derive(Clone, Copy)]
enum Way {
    /// `UPDATE … SET body = the whole new text`.
    Update,
    /// `crsql_text_splice`.
    Splice,
}

/// What a run took.
struct Figures {
    typed: Duration,
    exchanged: Duration,
    sent: usize,
    kept: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: text TRACE.json [--edits N] [--burst N]")?;
    let (mut edits, mut burst, mut together) = (usize::MAX, 1000, 1);
    while let Some(option) = args.next() {
        let number = args.next().and_then(|number| number.parse().ok()).ok_or("a number is missing")?;
        match option.as_str() {
            "--edits" => edits = number,
            "--burst" => burst = number,
            "--together" => together = number,
            _ => return Err(format!("no option is called {option}").into()),
        }
    }
    let trace: Trace = serde_json::from_slice(&std::fs::read(path)?)?;
    let is_whole = edits == usize::MAX;
    let typed: Vec<Edit> = trace.txns.into_iter().flat_map(|txn| txn.patches).take(edits).collect();
    println!("{} keystrokes, exchanged every {burst}", typed.len());
    let (yrs, text) = with_yrs(&typed, burst)?;
    if is_whole {
        assert_eq!(text, trace.end_content);
    }
    report("yrs", &yrs, &yrs);
    for (name, way) in
        [("crsql, UPDATE of the whole text", Way::Update), ("crsql, crsql_text_splice", Way::Splice)]
    {
        let (figures, shown) = with_crsql(&typed, burst, together, way)?;
        assert_eq!(shown, text);
        report(name, &figures, &yrs);
    }
    Ok(())
}

/// What this thread has computed so far: the machine may have more to do than this.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the structure, and there is always such a clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn report(name: &str, figures: &Figures, yrs: &Figures) {
    let all = |figures: &Figures| (figures.typed + figures.exchanged).as_secs_f64();
    println!(
        "{name}: {:.1} s typed, {:.1} s exchanged: {:.2} x; {} kB sent; {} kB kept: {:.2} x",
        figures.typed.as_secs_f64(),
        figures.exchanged.as_secs_f64(),
        all(figures) / all(yrs),
        figures.sent / 1000,
        figures.kept / 1000,
        figures.kept as f64 / yrs.kept as f64,
    );
}

fn with_yrs(edits: &[Edit], burst: usize) -> Result<(Figures, String), Box<dyn std::error::Error>> {
    let docs = [1, 2].map(Doc::with_client_id);
    let texts = [0, 1].map(|at: usize| docs[at].get_or_insert_text("text"));
    let mut figures = Figures { typed: Duration::ZERO, exchanged: Duration::ZERO, sent: 0, kept: 0 };
    for (turn, edits) in edits.chunks(burst).enumerate() {
        let (who, other) = (turn % 2, (turn + 1) % 2);
        let start = cpu_time();
        for (at, deleted, inserted) in edits {
            let mut txn = docs[who].transact_mut();
            if *deleted > 0 {
                texts[who].remove_range(&mut txn, *at, *deleted);
            }
            if !inserted.is_empty() {
                texts[who].insert(&mut txn, *at, inserted);
            }
            black_box(txn.encode_update_v1());
        }
        figures.typed += cpu_time() - start;
        let start = cpu_time();
        let vector = docs[other].transact().state_vector();
        let update = docs[who].transact().encode_state_as_update_v1(&vector);
        docs[other].transact_mut().apply_update(Update::decode_v1(&update)?)?;
        black_box(texts[other].get_string(&docs[other].transact()));
        figures.exchanged += cpu_time() - start;
        figures.sent += update.len();
    }
    let [one, two] = [0, 1].map(|at: usize| texts[at].get_string(&docs[at].transact()));
    assert_eq!(one, two);
    figures.kept = docs[0].transact().encode_state_as_update_v1(&StateVector::default()).len();
    Ok((figures, one))
}

fn with_crsql(
    edits: &[Edit],
    burst: usize,
    together: usize,
    way: Way,
) -> Result<(Figures, String), Box<dyn std::error::Error>> {
    let mut sites = Vec::new();
    for _ in 0..2 {
        let db = Connection::open_in_memory()?;
        crsql::register(&db)?;
        db.execute_batch(
            r#"CREATE TABLE note (id INTEGER PRIMARY KEY NOT NULL, body TEXT NOT NULL DEFAULT '');
            SELECT crsql_as_crr('note', '{"columns":{"body":"text"}}');"#,
        )?;
        sites.push(db);
    }
    sites[0].execute("INSERT INTO note VALUES (1, '')", [])?;
    let exchange = |from: &Connection, to: &Connection| -> rusqlite::Result<usize> {
        let vector: Vec<u8> = to.query_row("SELECT crsql_version_vector()", [], |row| row.get(0))?;
        let changeset: Vec<u8> = from.query_row("SELECT crsql_changeset(?1)", [vector], |row| row.get(0))?;
        to.query_row("SELECT crsql_apply(?1)", [&changeset], |_| Ok(()))?;
        Ok(changeset.len())
    };
    exchange(&sites[0], &sites[1])?;
    let mut figures = Figures { typed: Duration::ZERO, exchanged: Duration::ZERO, sent: 0, kept: 0 };
    // What a host that updates the whole text has at hand.
    let mut text = String::new();
    for (turn, edits) in edits.chunks(burst).enumerate() {
        let (who, other) = (&sites[turn % 2], &sites[(turn + 1) % 2]);
        let start = cpu_time();
        let mut update = who.prepare("UPDATE note SET body = ?1 WHERE id = 1")?;
        let mut splice = who.prepare("SELECT crsql_text_splice('note', 'body', 1, ?1, ?2, ?3)")?;
        for edits in edits.chunks(together) {
            for (at, deleted, inserted) in edits {
                match way {
                    // The trace is ASCII: characters are bytes.
                    Way::Update => text.replace_range(*at as usize..(at + deleted) as usize, inserted),
                    Way::Splice => splice.query_row((at, deleted, inserted), |_| Ok(()))?,
                }
            }
            if let Way::Update = way {
                update.execute([&text])?;
            }
        }
        figures.typed += cpu_time() - start;
        let start = cpu_time();
        figures.sent += exchange(who, other)?;
        figures.exchanged += cpu_time() - start;
    }
    let mut shown = Vec::new();
    for site in &sites {
        let problems: String = site.query_row("SELECT crsql_doctor()", [], |row| row.get(0))?;
        assert_eq!(problems, "[]");
        shown.push(site.query_row("SELECT body FROM note", [], |row| row.get::<_, String>(0))?);
    }
    assert_eq!(shown[0], shown[1]);
    let kept = "SELECT (SELECT sum(length(data)) FROM __crsql_typed) + (SELECT length(body) FROM note)";
    figures.kept = sites[0].query_row(kept, [], |row| row.get::<_, i64>(0))? as usize;
    Ok((figures, shown.remove(0)))
}
