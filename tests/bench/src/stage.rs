//! Where workloads run: a directory of database files, rows made once, and prefilled databases that every round
//! starts from by copying, so that filling is neither timed nor repeated.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::contenders::{Contender, Kind, Replica, ScratchFile};
use crate::database::{Failure, Result};
use crate::dataset::{Dataset, KeyKind, Row};

/// Which rows a prefilled database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Every row.
    All,
    /// Rows 0, 2, 4 …
    Even,
    /// Rows 1, 3, 5 …
    Odd,
}

impl Part {
    fn holds(self, index: usize) -> bool {
        match self {
            Part::All => true,
            Part::Even => index.is_multiple_of(2),
            Part::Odd => !index.is_multiple_of(2),
        }
    }
}

/// The directory and the caches.
pub struct Stage {
    directory: PathBuf,
    files: Cell<u64>,
    datasets: RefCell<HashMap<(KeyKind, usize), Rc<Dataset>>>,
    templates: RefCell<HashMap<Template, Result<PathBuf>>>,
}

type Template = (String, KeyKind, usize, Part);

impl Stage {
    /// A new directory, in `parent` or else in memory where the system has a place for that.
    pub fn new(parent: Option<&Path>) -> Result<Self> {
        let name = format!("crsql-bench-{}", std::process::id());
        let memory = Path::new("/dev/shm").join(&name);
        let directory = match parent {
            Some(parent) => parent.join(&name),
            None if std::fs::create_dir(&memory).is_ok() => memory,
            None => std::env::temp_dir().join(&name),
        };
        std::fs::create_dir_all(&directory)
            .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
        // Statement journals that outgrow memory go where the databases are: an extension that makes SQLite write
        // many of them is not to be measured by the disk under the temporary directory.
        // SAFETY: this program has one thread, and SQLite, which reads the variable once, was not used yet.
        unsafe { std::env::set_var("SQLITE_TMPDIR", &directory) };
        Ok(Stage {
            directory,
            files: Cell::new(0),
            datasets: Default::default(),
            templates: Default::default(),
        })
    }

    /// Where the database files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `rows` rows with keys of one kind.
    pub fn dataset(&self, keys: KeyKind, rows: usize) -> Rc<Dataset> {
        let mut datasets = self.datasets.borrow_mut();
        datasets.entry((keys, rows)).or_insert_with(|| Rc::new(Dataset::generate(keys, rows))).clone()
    }

    /// Forgets rows and prefilled databases of a key kind that is done with.
    pub fn forget(&self, keys: KeyKind) {
        self.datasets.borrow_mut().retain(|of, _| of.0 != keys);
        self.templates.borrow_mut().retain(|of, file| {
            if let (true, Ok(path)) = (of.1 == keys, &file) {
                drop(ScratchFile::new(path.clone()));
            }
            of.1 != keys
        });
    }

    fn scratch(&self) -> ScratchFile {
        self.files.set(self.files.get() + 1);
        ScratchFile::new(self.directory.join(format!("{}.db", self.files.get())))
    }

    fn template(&self, contender: &Contender, data: &Dataset, part: Part) -> Result<PathBuf> {
        let of = (contender.name.clone(), data.keys, data.rows.len(), part);
        if let Some(known) = self.templates.borrow().get(&of) {
            return known.clone();
        }
        let built = self.fill(contender, data, part);
        self.templates.borrow_mut().insert(of, built.clone());
        built
    }

    fn fill(&self, contender: &Contender, data: &Dataset, part: Part) -> Result<PathBuf> {
        let replica = Replica::create(contender, self.scratch(), data.keys)?;
        let rows = data.rows.iter().enumerate().filter(|(index, _)| part.holds(*index)).map(|(_, row)| row);
        let rows: Vec<&Row> = rows.collect();
        // One transaction, unless that would make a peer hold gigabytes.
        insert(&replica, data.keys, &rows, if rows.len() > 200_000 { 1000 } else { rows.len() })?;
        replica.close()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Nothing of worth is in there, and a left-over directory is no reason to fail at the end.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Inserts rows one by one, untimed, in transactions of `per_transaction`.
pub fn insert(replica: &Replica, keys: KeyKind, rows: &[&Row], per_transaction: usize) -> Result<()> {
    let mut statement = replica.database.prepare(&keys.insert_into("t"))?;
    for chunk in rows.chunks(per_transaction.max(1)) {
        replica.database.exec("BEGIN")?;
        for row in chunk {
            row.bind(&mut statement);
            statement.run()?;
        }
        replica.database.exec("COMMIT")?;
    }
    Ok(())
}

/// One run of one workload: a contender and the rows it works on.
pub struct Round<'a> {
    /// Where files and rows come from.
    pub stage: &'a Stage,
    /// Who runs.
    pub contender: &'a Contender,
    /// On which rows.
    pub data: &'a Dataset,
}

impl Round<'_> {
    /// A new database with an empty table `t`.
    pub fn empty(&self) -> Result<Replica> {
        Replica::create(self.contender, self.stage.scratch(), self.data.keys)
    }

    /// The same in plain SQLite, whoever the contender is.
    pub fn empty_plain(&self) -> Result<Replica> {
        let plain = Contender { name: "plain".to_string(), kind: Kind::Plain };
        Replica::create(&plain, self.stage.scratch(), self.data.keys)
    }

    /// A database that holds every row. A session begins here: it has not seen the rows written, so that an
    /// update or delete costs it what recording one costs.
    pub fn filled(&self) -> Result<Replica> {
        self.filled_with(Part::All)
    }

    /// A database that holds some of the rows.
    pub fn filled_with(&self, part: Part) -> Result<Replica> {
        let template = self.stage.template(self.contender, self.data, part)?;
        let file = self.stage.scratch();
        std::fs::copy(&template, file.path())?;
        Replica::open(self.contender, file)
    }

    /// Goes on only for contenders that replicate.
    pub fn replicating(&self) -> Result<()> {
        if self.contender.replicates() { Ok(()) } else { Err(Failure::NotApplicable) }
    }
}
