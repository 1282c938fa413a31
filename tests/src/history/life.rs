//! What happens to a replica besides statements and messages: it is restarted, restored, cloned, upgraded, tidied.

use super::coverage::{saw, trace};
use super::twin::{Twin, with_chosen_id};
use crate::Rng;
use crate::site::Site;
use crate::value::Ident;
use crsql_core::replica::Delta;
use crsql_core::version_vector::{Limits, VersionVector};
use std::path::PathBuf;

impl Twin {
    /// Closes every connection and opens the file again.
    pub fn reopen(&mut self) {
        // The old connections go first, as when a process ends.
        self.other = None;
        self.site = Site::memory();
        self.site = Site::open(&self.path);
        self.site.exec("PRAGMA synchronous = off");
    }

    /// Goes on with another connection to the same file, which slept since it was last used.
    pub fn switch_connection(&mut self) {
        saw("connection switched");
        let path = self.path.clone();
        let other = self.other.take().unwrap_or_else(|| Site::open(path));
        other.conn.busy_timeout(std::time::Duration::from_secs(20)).expect("busy timeout");
        other.exec("PRAGMA synchronous = off");
        self.other = Some(std::mem::replace(&mut self.site, other));
    }

    /// Does what must change nothing.
    pub fn tidy(&mut self, rng: &mut Rng) {
        saw("vacuum or analyze or gc or checkpoint");
        let work = ["VACUUM", "ANALYZE", "SELECT crsql_gc()", "PRAGMA wal_checkpoint(TRUNCATE)", "REINDEX"];
        let sql = *rng.pick(&work);
        trace(|| format!("  {sql}"));
        if sql == "VACUUM" {
            // It needs the file for itself.
            self.other = None;
        }
        self.site.exec(sql);
    }

    /// Gives an old replica one of the things it lacks.
    pub fn upgrade(&mut self, rng: &mut Rng) {
        match rng.below(3) {
            0 => self.add_late_tables(),
            1 => self.add_late_columns(rng.one_in(2)),
            _ => self.declare_late_types(),
        }
    }

    /// Gives an old replica everything it lacks.
    pub fn upgrade_fully(&mut self) {
        self.add_late_columns(false);
        self.add_late_tables();
        self.declare_late_types();
    }

    fn declare_late_types(&mut self) {
        for table in self.schema.tables.clone() {
            let late = table.columns.iter().filter(|column| column.late_type);
            let Some(sql) = table.declaration(late.clone()) else { continue };
            if self.model.schema(&table.name).is_some() {
                saw("type declared late");
                self.site.exec(&sql);
                for column in late {
                    self.model.declare(&table.name, &column.name, column.kind).expect("a known table");
                }
            }
        }
    }

    fn add_late_tables(&mut self) {
        for table in self.schema.tables.clone() {
            if self.model.schema(&table.name).is_none() {
                saw("late table added");
                self.site.exec(&table.ddl(true));
                self.model.create_table(table.model(true)).expect("a new table");
            }
        }
    }

    fn add_late_columns(&mut self, plainly: bool) {
        for table in self.schema.tables.clone() {
            let Some(held) = self.model.schema(&table.name) else { continue };
            let Some(column) = table.columns.iter().find(|column| column.late) else { continue };
            if held.has_column(&column.name) {
                continue;
            }
            let alter = format!("ALTER TABLE {} ADD COLUMN {}", Ident(&table.name), column.declaration());
            if plainly {
                saw("late column added by ALTER alone");
                self.site.exec(&alter);
            } else {
                saw("late column added between begin and commit");
                let name = table.name.replace('\'', "''");
                self.site.exec(&format!(
                    "SELECT crsql_begin_alter('{name}'); {alter}; SELECT crsql_commit_alter('{name}')"
                ));
            }
            self.model.add_column(&table.name, &column.name, table.default_of(column)).expect("a new column");
        }
    }

    /// Keeps a copy of the file.
    pub fn back_up(&mut self) {
        saw("backup");
        self.copy_to(&self.path.with_extension("backup"));
        self.backup = Some((self.model.clone(), self.complete));
    }

    fn copy_to(&self, copy: &PathBuf) {
        let _ = std::fs::remove_file(copy);
        self.site.exec(&format!("VACUUM INTO '{}'", copy.display()));
    }

    /// Goes back to the copy; false if there is none.
    fn go_back(&mut self, rng: &mut Rng) -> bool {
        let Some((model, complete)) = self.backup.clone() else { return false };
        self.other = None;
        self.site = Site::memory();
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.path.display()));
        }
        std::fs::copy(self.path.with_extension("backup"), &self.path).expect("the copy can be read");
        (self.model, self.complete) = (model, complete);
        self.reopen();
        if rng.one_in(2) {
            self.site.exec("PRAGMA journal_mode = wal");
        }
        true
    }

    /// Goes back to the copy. It may have written since, so it goes on under a new identity.
    pub fn restore(&mut self, rng: &mut Rng) {
        if self.go_back(rng) {
            saw("backup restored under a new name");
            self.rename(rng);
        }
    }

    /// Goes back to the copy under its old name, which is sound once it has back what it wrote since; false without
    /// a copy.
    pub fn restore_under_old_name(&mut self, rng: &mut Rng) -> bool {
        let restored = self.go_back(rng);
        if restored {
            saw("backup restored under its old name");
        }
        restored
    }

    /// Tells the model which versions the replica holds. A replica may know of more than its model, by a claim that
    /// came with changes that were superseded already; of its own site they decide what its next version is.
    pub(super) fn claim_what_the_replica_claims(&mut self) {
        let claims = VersionVector::decode(&self.site.version_vector(), &Limits::default());
        let claims = claims.expect("a version vector");
        self.model.apply(&Delta { claims, ..Delta::default() });
    }

    /// A copy of the file that goes on as a replica of its own.
    pub fn cloned(&self, path: PathBuf, rng: &mut Rng) -> Twin {
        saw("file cloned");
        self.copy_to(&path);
        let site = Site::open(&path);
        let mut twin = Twin {
            site,
            model: self.model.clone(),
            complete: self.complete,
            schema: self.schema.clone(),
            other: None,
            path,
            backup: None,
        };
        twin.site.exec("PRAGMA journal_mode = wal");
        twin.rename(rng);
        twin
    }

    fn rename(&mut self, rng: &mut Rng) {
        self.site.exec("SELECT crsql_new_site()");
        let (site, id) = with_chosen_id(std::mem::replace(&mut self.site, Site::memory()), rng);
        self.site = site;
        self.model.rename_site(id);
    }
}
