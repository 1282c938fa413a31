//! Values that lost a merge are listed where the table asks for it, and one call brings one back.

use crsql_tests::exchange::{ARRIVALS, deliver};
use crsql_tests::rng::seeds;
use crsql_tests::{NO_ROWS, Rng, Site, assert_converged, exchange_all, pull, site, sites, sync};

const NOTES: &str = "CREATE TABLE n (id INTEGER PRIMARY KEY NOT NULL, a TEXT, b TEXT);
    SELECT crsql_as_crr('n', '{\"losers\":100}')";

/// Two replicas that share a row, the second with the greater site id.
fn pair(schema: &str) -> [Site; 2] {
    loop {
        let pair: [Site; 2] = sites(schema);
        if pair[0].site_id() < pair[1].site_id() {
            pair[0].exec("INSERT INTO n VALUES (1, 'x', 'y')");
            sync(&pair[0], &pair[1]);
            return pair;
        }
    }
}

/// Column, value, whether it was certain, and what it lost to.
fn losers(site: &Site) -> Vec<String> {
    site.rows("SELECT cid, val, concurrent, lost_to FROM crsql_losers ORDER BY id")
}

#[test]
fn both_replicas_list_what_lost_when_each_wrote_once() {
    for arrival in ARRIVALS {
        let [a, b] = pair(NOTES);
        a.exec("UPDATE n SET a = 'of a'");
        b.exec("UPDATE n SET a = 'of b'");
        let (mut from_a, mut from_b) = (a.changes(), b.changes());
        deliver(&b, &mut from_a, arrival);
        deliver(&a, &mut from_b, arrival);
        for s in [&a, &b] {
            assert_eq!(s.rows("SELECT a FROM n"), ["'of b'"]);
            assert_eq!(losers(s), ["'a'|'of a'|1|'write'"], "{arrival:?}");
            let who = s.rows("SELECT hex(site_id), hex(winner_site_id) FROM crsql_losers");
            let hex = |site: &Site| site.text("SELECT hex(crsql_site_id())");
            assert_eq!(who, [format!("'{}'|'{}'", hex(&a), hex(&b))]);
        }
        let age = a.int("SELECT unixepoch('now') - noticed_at / 1000 FROM crsql_losers");
        assert!((0..60).contains(&age), "noticed {age} s ago");
        sync(&a, &b);
        assert_eq!(losers(&a).len(), 1, "told once");
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn ordinary_overwrites_are_listed_only_by_the_site_whose_value_went() {
    let [a, b] = pair(NOTES);
    let c = site(NOTES);
    exchange_all(&[&a, &b, &c]);
    b.exec("UPDATE n SET a = 'of b'");
    exchange_all(&[&a, &b, &c]);
    assert_eq!(losers(&a), ["'a'|'x'|0|'write'"], "perhaps b did not know of it");
    assert_eq!(losers(&b), NO_ROWS);
    assert_eq!(losers(&c), NO_ROWS);
    b.exec("UPDATE n SET a = 'again of b'");
    exchange_all(&[&a, &b, &c]);
    assert_eq!(losers(&a).len(), 1, "b's own business");
}

#[test]
fn a_write_that_is_news_to_the_author_of_the_winner_is_certain() {
    let [a, b] = pair(NOTES);
    a.exec("UPDATE n SET a = 'of a'");
    b.exec("UPDATE n SET a = 'first of b'");
    b.exec("UPDATE n SET a = 'second of b'");
    pull(&b, &a);
    assert_eq!(losers(&b), ["'a'|'of a'|1|'write'"]);
    pull(&a, &b);
    assert_eq!(losers(&a), ["'a'|'of a'|0|'write'"]);
}

#[test]
fn what_a_delete_takes_along_is_listed_by_both() {
    let [a, b] = pair(NOTES);
    a.exec("UPDATE n SET b = 'of a'");
    b.exec("DELETE FROM n");
    pull(&b, &a);
    assert_eq!(losers(&b), ["'b'|'of a'|1|'delete'"]);
    pull(&a, &b);
    assert_eq!(losers(&a), ["'a'|'x'|0|'delete'", "'b'|'of a'|0|'delete'"]);
    let error = a.error("SELECT crsql_bring_back(id) FROM crsql_losers WHERE val = 'of a'");
    assert!(error.contains("insert it first"), "{error}");
    a.exec("INSERT INTO n (id) VALUES (1)");
    assert_eq!(a.text("SELECT crsql_bring_back(id) FROM crsql_losers WHERE val = 'of a'"), "OK");
    assert_eq!(a.rows("SELECT * FROM n"), ["1|NULL|'of a'"]);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_value_comes_back_as_a_new_write_and_is_struck_from_the_list() {
    let [a, b] = pair(NOTES);
    a.exec("UPDATE n SET a = 'of a'");
    b.exec("UPDATE n SET a = 'of b'");
    sync(&a, &b);
    let before = a.db_version();
    assert_eq!(a.text("SELECT crsql_bring_back(id) FROM crsql_losers"), "OK");
    assert_eq!(a.db_version(), before + 1);
    assert_eq!(losers(&a), NO_ROWS);
    sync(&a, &b);
    for s in [&a, &b] {
        assert_eq!(s.rows("SELECT a FROM n"), ["'of a'"]);
    }
    assert_converged(&[&a, &b]);
    let error = a.error("SELECT crsql_bring_back(1)");
    assert!(error.contains("no row with the id 1 in crsql_losers"), "{error}");
    assert!(site("").error("SELECT crsql_bring_back(1)").contains("no row with the id 1"));
    assert!(a.error("SELECT crsql_bring_back('x')").contains("argument 1 must be an integer"));
}

#[test]
fn a_rolled_back_return_leaves_the_list() {
    let [a, b] = pair(NOTES);
    a.exec("UPDATE n SET a = 'of a'");
    b.exec("UPDATE n SET a = 'of b'");
    sync(&a, &b);
    a.exec("BEGIN; SELECT crsql_bring_back(id) FROM crsql_losers; ROLLBACK");
    assert_eq!(losers(&a), ["'a'|'of a'|1|'write'"]);
    assert_eq!(a.rows("SELECT a FROM n"), ["'of b'"]);
    a.exec("CREATE TRIGGER no BEFORE UPDATE ON n BEGIN SELECT raise(ABORT, 'frozen'); END");
    assert!(a.error("SELECT crsql_bring_back(id) FROM crsql_losers").contains("frozen"));
    assert_eq!(losers(&a).len(), 1);
}

#[test]
fn the_list_is_bounded_and_the_option_can_change() {
    let [a, b] = pair(&NOTES.replace("100", "3"));
    for round in 0..5 {
        a.exec(&format!("UPDATE n SET a = 'a{round}'"));
        b.exec(&format!("UPDATE n SET a = 'b{round}'"));
        sync(&a, &b);
    }
    let last = ["'a'|'a2'|1|'write'", "'a'|'a3'|1|'write'", "'a'|'a4'|1|'write'"];
    assert_eq!(losers(&a), last);
    a.exec(r#"SELECT crsql_as_crr('n', '{"losers":0}')"#);
    assert_eq!(a.text("SELECT options FROM crsql_crrs"), r#"{"losers":0}"#);
    a.exec("UPDATE n SET a = 'last of a'");
    b.exec("UPDATE n SET a = 'last of b'");
    sync(&a, &b);
    assert_eq!(losers(&a), last, "nothing new");
    assert_eq!(losers(&b).len(), 3);
    a.exec("SELECT crsql_as_table('n')");
    assert_eq!(losers(&a), NO_ROWS);
}

#[test]
fn without_the_option_nothing_is_made() {
    let [a, b] = pair(&NOTES.replace(", '{\"losers\":100}'", ""));
    a.exec("UPDATE n SET a = 'of a'");
    b.exec("UPDATE n SET a = 'of b'");
    sync(&a, &b);
    assert_eq!(a.int("SELECT count(*) FROM sqlite_master WHERE name LIKE '%loser%'"), 0);
}

/// Whatever a site wrote, and did not replace itself, is in the table or in somebody's list.
#[test]
fn no_value_is_lost_without_a_trace() {
    for seed in seeds(40) {
        let mut rng = Rng::new(seed);
        let all: [Site; 3] = sites(&NOTES.replace("100", "100000"));
        let sites: Vec<&Site> = all.iter().collect();
        sites[0].exec("INSERT INTO n VALUES (1, 'x', 'y'), (2, 'x', 'y')");
        exchange_all(&sites);
        for step in 0..60 {
            let (i, j) = (rng.below(3), rng.below(3));
            let row = 1 + rng.below(2);
            match rng.below(8) {
                0..=3 if i != j => drop(pull(sites[i], sites[j])),
                4 => drop(sites[i].exec(&format!("DELETE FROM n WHERE id = {row}"))),
                5 => drop(
                    sites[i].exec(&format!("INSERT OR REPLACE INTO n VALUES ({row}, 's{step}', 't{step}')")),
                ),
                _ => {
                    let before = sites[i].rows(&format!("SELECT a FROM n WHERE id = {row}"));
                    sites[i].exec(&format!("UPDATE n SET a = 'w{step}' WHERE id = {row}"));
                    if before.is_empty() {
                        continue;
                    }
                    // Everybody hears of everything: the value is there, or somebody can bring it back.
                    let others: Vec<&Site> = sites.to_vec();
                    if rng.one_in(3) {
                        exchange_all(&others);
                        let traces: i64 = sites
                            .iter()
                            .map(|s| {
                                s.int(&format!(
                                    "SELECT (SELECT count(*) FROM n WHERE a = 'w{step}')
                                          + (SELECT count(*) FROM crsql_losers WHERE val = 'w{step}')"
                                ))
                            })
                            .sum();
                        assert!(traces > 0, "seed {seed}: 'w{step}' is gone without a trace");
                    }
                }
            }
        }
        exchange_all(&sites);
        assert_converged(&sites);
        for s in &sites {
            assert_eq!(s.doctor(), "[]", "seed {seed}");
        }
    }
}
