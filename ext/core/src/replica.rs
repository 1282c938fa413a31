//! A replica in memory: the executable description of what crsql does.
//!
//! It decides exactly as the extension must and stores everything in the plainest way, so it serves as the oracle
//! that SQL tests compare with. Clarity beats speed here. It has tables with keys, columns and defaults, local
//! writes in transactions with savepoints, merging, parking, deltas and digests. It has no SQL, no constraints
//! besides the key, and it does not convert column values: hand it what the column would store.
//!
//! ```
//! use crsql_core::{ids::SiteId, key::*, merge::TieBreak, replica::*, value::Value};
//!
//! let schema = TableSchema::new("todo", [KeyColumn::binary(Affinity::Integer)]).column("title", Value::Null);
//! let [mut a, mut b] = [1, 2].map(|n| Replica::new(SiteId([n; 16]), TieBreak::Site));
//! a.create_table(schema.clone()).unwrap();
//!
//! let mut tx = a.begin();
//! tx.insert("todo", &[1.into()], &[("title", "milk".into())]).unwrap();
//! tx.commit().unwrap();
//!
//! // b has no such table yet: it keeps what it gets, and shows it when the table appears.
//! b.apply(&a.delta(b.held()));
//! assert_eq!(b.parked().len(), 1);
//! b.create_table(schema).unwrap();
//! assert_eq!(b.rows("todo"), [(vec![Value::from(1)], vec![Value::from("milk")])]);
//! assert_eq!(a.digest(), b.digest());
//! ```

use std::collections::BTreeMap;

use crate::collect::{Collected, Heard};
use crate::ids::{DbVersion, SiteId, SiteVersion};
use crate::merge::TieBreak;
use crate::version_vector::VersionVector;

mod collection;
mod local;
mod read;
mod remote;
mod row;
mod schema;
mod transaction;

pub use local::WriteError;
pub use read::{Delta, StampedChange};
pub use remote::{Applied, Outcome, Refused};
pub use row::{Cell, CellName, Existence, Row};
pub use schema::{Column, SchemaError, TableSchema};
pub use transaction::{Committed, Savepoint, Transaction};

use schema::Table;

/// One replica of a database.
#[derive(Clone, Debug)]
pub struct Replica {
    site: SiteId,
    tie_break: TieBreak,
    /// By name; a table without schema only holds parked rows.
    tables: BTreeMap<String, Table>,
    /// The last version this site issued, or is known to have issued before it was restored from a backup.
    version: u64,
    db_version: u64,
    held: VersionVector,
    collected: Collected,
    /// What each registered site holds, as far as it said.
    members: BTreeMap<SiteId, Heard>,
}

impl Replica {
    /// An empty replica. All replicas that exchange changes must have the same `tie_break`.
    pub fn new(site: SiteId, tie_break: TieBreak) -> Replica {
        Replica {
            site,
            tie_break,
            tables: BTreeMap::new(),
            version: 0,
            db_version: 0,
            held: VersionVector::default(),
            collected: Collected::default(),
            members: BTreeMap::new(),
        }
    }

    /// This replica's name.
    pub fn site(&self) -> SiteId {
        self.site
    }

    /// Gives a copied database a name of its own. What the old name wrote stays what it is.
    pub fn rename_site(&mut self, site: SiteId) {
        self.site = site;
        self.version = self.held.of_site(site).and_then(|versions| versions.max()).unwrap_or(0);
    }

    /// What decides between writes of equal col_version.
    pub fn tie_break(&self) -> TieBreak {
        self.tie_break
    }

    /// The last version this site issued; 0 before the first.
    pub fn site_version(&self) -> SiteVersion {
        SiteVersion(self.version)
    }

    /// The apply position: how many committed transactions changed what is held.
    pub fn db_version(&self) -> DbVersion {
        DbVersion(self.db_version)
    }

    /// The versions held completely.
    pub fn held(&self) -> &VersionVector {
        &self.held
    }

    /// Begins a transaction; dropping it rolls it back.
    pub fn begin(&mut self) -> Transaction<'_> {
        Transaction::new(self)
    }
}
