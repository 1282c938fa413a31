//! Databases that earlier versions wrote: each is opened, holds what it held, is written to, and syncs.

use crsql_tests::fixture::{FIXTURES, describe, directory, present_format};
use crsql_tests::{Site, TempDir, assert_converged, site, sync};
use std::path::{Path, PathBuf};

fn fixtures() -> Vec<PathBuf> {
    let formats = std::fs::read_dir(directory()).expect("the fixtures are in the repository");
    let files = formats.flat_map(|format| {
        let format = format.expect("a directory").path();
        std::fs::read_dir(format)
            .expect("a directory")
            .map(|file| file.expect("a file").path())
            .collect::<Vec<_>>()
    });
    files.filter(|file| file.extension().is_some_and(|extension| extension == "db")).collect()
}

/// A copy, because opening may upgrade.
fn copied(fixture: &Path, dir: &TempDir) -> PathBuf {
    let copy = dir.join("copy.db");
    std::fs::copy(fixture, &copy).expect("the fixture can be read");
    copy
}

#[test]
fn the_present_format_has_its_fixtures() {
    for (name, _) in FIXTURES {
        let file = directory().join(format!("format-{}", present_format())).join(format!("{name}.db"));
        assert!(file.exists(), "{} is missing: cargo run -p crsql-tests --bin fixture", file.display());
    }
}

#[test]
fn every_fixture_holds_what_it_held() {
    for fixture in fixtures() {
        let dir = TempDir::new();
        let a = Site::open(copied(&fixture, &dir));
        let expected = std::fs::read_to_string(fixture.with_extension("txt")).expect("its description");
        assert_eq!(describe(&a), expected, "{}", fixture.display());
        assert_eq!(a.doctor(), "[]", "{}", fixture.display());
    }
}

#[test]
fn every_fixture_can_be_read_without_being_written() {
    for fixture in fixtures() {
        let a = Site::open_read_only(&fixture);
        assert_eq!(a.rows("PRAGMA integrity_check"), ["'ok'"]);
        assert!(!a.clocks().is_empty(), "{}", fixture.display());
    }
}

#[test]
fn every_fixture_goes_on_writing_and_syncs_with_a_fresh_replica() {
    for fixture in fixtures() {
        let dir = TempDir::new();
        let a = Site::open(copied(&fixture, &dir));
        let issued = a.own_site_version();
        a.exec("UPDATE t SET id = id + 1000 WHERE id = 1; INSERT INTO t (id) VALUES (777); DELETE FROM t WHERE id = 777");
        assert!(a.own_site_version() > issued, "{}", fixture.display());
        let b = site("");
        if a.text("SELECT crsql_config_get('tie-break')") == "value" {
            b.exec("SELECT crsql_config_set('tie-break', 'value')");
        }
        for table in a.crrs() {
            b.exec(a.value_with("SELECT sql FROM sqlite_schema WHERE name = ?1", &[&table]).as_str());
            let options = a.value_with(
                "SELECT json_object('columns', json_group_object(\"column\", type)) FROM crsql_columns
                 WHERE \"table\" = ?1 AND type <> 'register'",
                &[&table],
            );
            b.run("SELECT crsql_as_crr(?1, ?2)", &[&table, &options]);
        }
        sync(&a, &b);
        b.exec("INSERT INTO t (id) VALUES (778)");
        sync(&a, &b);
        assert_eq!(a.digest(), b.digest(), "{}", fixture.display());
        // Of a row that a CHECK refuses, a replica may show the cells that came without the refused one.
        if a.int("SELECT count(*) FROM crsql_conflicts") == 0 {
            assert_converged(&[&a, &b]);
        }
        assert_eq!(a.rows("PRAGMA integrity_check"), ["'ok'"], "{}", fixture.display());
    }
}

#[test]
fn a_database_of_a_newer_format_is_refused_with_a_sentence_and_left_alone() {
    let dir = TempDir::new();
    let path = copied(&fixtures()[0], &dir);
    let plain = rusqlite::Connection::open(&path).expect("a database");
    plain.execute_batch("UPDATE __crsql_state SET format = 99").expect("a plain table");
    let before = std::fs::read(&path).expect("the file");
    let a = Site::around(rusqlite::Connection::open(&path).expect("a database"), None);
    for sql in ["SELECT * FROM crsql_changes", "SELECT crsql_changeset()", "INSERT INTO t (id) VALUES (5)"] {
        let message = a.try_values_with(sql, &[]).expect_err(sql);
        assert!(message.contains("format 99") && message.contains("newer"), "{sql}: {message}");
    }
    drop(a);
    assert_eq!(std::fs::read(&path).expect("the file"), before);
}
