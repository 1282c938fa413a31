//! The command line.

use std::path::PathBuf;

use crate::contenders::{Contender, Kind};
use crate::dataset::KeyKind;
use crate::workloads::{self, Workload};

/// What `--help` prints.
pub const HELP: &str = "\
crsql-bench: crsql beside plain SQLite, SQLite's session extension and peers, interleaved in one process

  --rows N              rows in the table (100000)
  --rounds N            how often each contender runs each workload (5)
  --keys LIST           int,blob,text,random,composite (all)
  --only LIST           only workloads whose id contains one of these, such as insert,merge-apply
  --contenders LIST     only contenders whose name contains one of these; plain always runs
  --large               also build ten times as many rows, and pull a hundred changed ones from as many
  --crsql PATH          the loadable crsql (libcrsql.so beside this program, when it is there)
  --peer NAME=PATH[:ENTRY]
                        another extension with cr-sqlite's surface; may be repeated
  --json FILE           write every figure
  --svg FILE            draw the comparison
  --dir DIR             where databases are made (/dev/shm, else the temporary directory)
  --list                list the workloads
  --callgrind WORKLOAD CONTENDER
                        run one workload once, for valgrind --tool=callgrind
                        --toggle-collect='*timing::measured*' (build with --profile bench, which keeps symbols)
";

/// The parsed command line.
#[derive(Debug)]
pub struct Args {
    /// Rows in the table.
    pub rows: usize,
    /// Runs of each contender and workload.
    pub rounds: usize,
    /// The key kinds.
    pub keys: Vec<KeyKind>,
    /// Parts of workload ids; empty for all.
    pub only: Vec<String>,
    /// Parts of contender names; empty for all.
    pub wanted: Vec<String>,
    /// Whether to run on ten times as many rows too.
    pub large: bool,
    /// The loadable crsql.
    pub crsql: Option<PathBuf>,
    /// Other extensions.
    pub peers: Vec<Contender>,
    /// Where to write figures.
    pub json: Option<PathBuf>,
    /// Where to draw.
    pub svg: Option<PathBuf>,
    /// Where databases are made.
    pub directory: Option<PathBuf>,
    /// Something else than a comparison.
    pub mode: Mode,
}

/// What the program is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Mode {
    /// Compare.
    Compare,
    /// Run one workload once for one contender.
    Once(String, String),
    /// List the workloads.
    List,
    /// Print the help.
    Help,
}

impl Args {
    /// Parses what follows the program's name.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Args {
            rows: 100_000,
            rounds: 5,
            keys: KeyKind::ALL.to_vec(),
            only: Vec::new(),
            wanted: Vec::new(),
            large: false,
            crsql: None,
            peers: Vec::new(),
            json: None,
            svg: None,
            directory: None,
            mode: Mode::Compare,
        };
        while let Some(option) = words.next() {
            let mut value = || words.next().ok_or(format!("{option} needs a value"));
            match option.as_str() {
                "--rows" => args.rows = number(&option, &value()?, 1000)?,
                "--rounds" => args.rounds = number(&option, &value()?, 1)?,
                "--keys" => args.keys = key_kinds(&value()?)?,
                "--only" => args.only = list(&value()?),
                "--contenders" => args.wanted = list(&value()?),
                "--large" => args.large = true,
                "--crsql" => args.crsql = Some(value()?.into()),
                "--peer" => args.peers.push(peer(&value()?)?),
                "--json" => args.json = Some(value()?.into()),
                "--svg" => args.svg = Some(value()?.into()),
                "--dir" => args.directory = Some(value()?.into()),
                "--callgrind" => args.mode = Mode::Once(value()?, value()?),
                "--list" => args.mode = Mode::List,
                "--help" | "-h" => args.mode = Mode::Help,
                _ => return Err(format!("unknown option {option:?}; --help lists them")),
            }
        }
        Ok(args)
    }

    /// Everyone who runs, plain SQLite first.
    pub fn contenders(&self) -> Vec<Contender> {
        let contender = |name: &str, kind| Contender { name: name.to_string(), kind };
        let mut all = vec![
            contender("plain", Kind::Plain),
            contender("triggers", Kind::Triggers),
            contender("session", Kind::Session),
            contender("crsql", Kind::Static),
        ];
        if let Some(path) = self.crsql.clone().or_else(library_beside_us) {
            all.push(contender("crsql.so", Kind::Loaded(path)));
        }
        all.extend(self.peers.iter().cloned());
        let wanted =
            |name: &str| self.wanted.is_empty() || self.wanted.iter().any(|part| name.contains(part));
        all.retain(|contender| contender.kind == Kind::Plain || wanted(&contender.name));
        all
    }

    /// The workloads asked for.
    pub fn workloads(&self) -> Vec<&'static Workload> {
        let wanted = |id: &str| self.only.is_empty() || self.only.iter().any(|part| id.contains(part));
        workloads::ALL.iter().filter(|workload| wanted(workload.id)).collect()
    }
}

/// `cargo ext` leaves the library in the directory that this program is built into.
fn library_beside_us() -> Option<PathBuf> {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    let path = std::env::current_exe().ok()?.with_file_name(format!("{DLL_PREFIX}crsql{DLL_SUFFIX}"));
    path.exists().then_some(path)
}

fn number(option: &str, value: &str, least: usize) -> Result<usize, String> {
    let number =
        value.replace('_', "").parse().map_err(|_| format!("{option}: {value:?} is not a number"))?;
    if number < least {
        return Err(format!("{option}: at least {least}, not {number}"));
    }
    Ok(number)
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::to_string).collect()
}

fn key_kinds(value: &str) -> Result<Vec<KeyKind>, String> {
    let kind = |name: &str| KeyKind::ALL.into_iter().find(|kind| kind.name() == name);
    value.split(',').map(|name| kind(name).ok_or(format!("--keys: there is no {name:?}"))).collect()
}

fn peer(value: &str) -> Result<Contender, String> {
    let (name, place) = value.split_once('=').ok_or(format!("--peer: {value:?} is not NAME=PATH[:ENTRY]"))?;
    let (path, entry) = match place.rsplit_once(':') {
        Some((path, entry)) if !entry.contains('/') => (path, Some(entry.to_string())),
        _ => (place, None),
    };
    Ok(Contender { name: name.to_string(), kind: Kind::Peer(path.into(), entry) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, String> {
        Args::parse(words.iter().map(|word| word.to_string()))
    }

    #[test]
    fn a_peer_is_a_name_a_path_and_perhaps_an_entry_point() {
        let args = parse(&["--peer", "old=/a/b.so:sqlite3_old_init", "--peer", "new=./c.so"]).unwrap();
        assert_eq!(args.peers[0].kind, Kind::Peer("/a/b.so".into(), Some("sqlite3_old_init".into())));
        assert_eq!(
            (args.peers[1].name.as_str(), &args.peers[1].kind),
            ("new", &Kind::Peer("./c.so".into(), None))
        );
    }

    #[test]
    fn mistakes_are_answered_with_what_was_wrong() {
        assert_eq!(parse(&["--rows", "few"]).unwrap_err(), "--rows: \"few\" is not a number");
        assert_eq!(parse(&["--rows"]).unwrap_err(), "--rows needs a value");
        assert_eq!(parse(&["--keys", "uuid"]).unwrap_err(), "--keys: there is no \"uuid\"");
        assert_eq!(parse(&["--fast"]).unwrap_err(), "unknown option \"--fast\"; --help lists them");
    }

    #[test]
    fn plain_sqlite_always_runs_and_runs_first() {
        let args = parse(&["--contenders", "session"]).unwrap();
        let names: Vec<_> = args.contenders().into_iter().map(|contender| contender.name).collect();
        assert_eq!(names, ["plain", "session"]);
    }
}
