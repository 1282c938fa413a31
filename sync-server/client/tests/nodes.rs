//! Nodes over wires in memory: what they exchange, resume, and never show.

mod support;

use crsql_client::node::Event;
use crsql_client::replica::Options;
use support::{SCHEMA, World};

fn options() -> Options {
    Options { passes_on: true, ..Options::default() }
}

#[test]
fn two_databases_exchange_what_they_have_and_then_what_they_commit() {
    let mut world = World::new(2);
    world.sites[0].exec("INSERT INTO todo VALUES (1, 'milk', 0)");
    world.sites[1].exec("INSERT INTO todo VALUES (2, 'bread', 0)");
    world.dial(0, 1);
    world.settle();
    world.assert_converged();
    world.sites[0].exec("UPDATE todo SET title = 'rye' WHERE id = 2");
    world.sites[1].exec("DELETE FROM todo WHERE id = 1");
    world.settle();
    world.assert_converged();
    assert_eq!(world.sites[0].titles(), "rye");
    let link = world.link(0, 1).unwrap();
    assert!(world.sites[0].node.is_flushed(link));
    assert_eq!(world.sites[0].node.replica().acked(), 2);
}

#[test]
fn commits_spread_through_a_line_a_ring_and_a_mesh() {
    let line = vec![(0, 1), (1, 2), (2, 3)];
    let ring = vec![(0, 1), (1, 2), (2, 3), (3, 0)];
    let mesh = vec![(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
    for links in [line, ring, mesh] {
        let mut world = World::new(4);
        links.iter().for_each(|(a, b)| world.dial(*a, *b));
        world.settle();
        for at in 0..4 {
            world.sites[at].exec(&format!("INSERT INTO todo VALUES ({at}, 't{at}', 0)"));
            world.settle();
        }
        world.assert_converged();
        assert_eq!(world.sites[3].titles(), "t0,t1,t2,t3");
        // Nothing echoes for ever.
        let delivered = world.delivered;
        world.settle();
        assert_eq!(world.delivered, delivered);
    }
}

#[test]
fn both_sides_of_a_partition_go_on_and_meet_again() {
    let mut world = World::new(4);
    [(0, 1), (1, 2), (2, 3)].iter().for_each(|(a, b)| world.dial(*a, *b));
    world.settle();
    world.cut(1, 2);
    for at in 0..4 {
        world.sites[at].exec(&format!("INSERT INTO todo VALUES ({at}, 't{at}', 0)"));
        world.sites[at].exec(&format!("INSERT OR REPLACE INTO todo VALUES (9, 'by {at}', 0)"));
        world.settle();
    }
    assert_eq!(world.sites[0].titles(), "t0,t1,by 1");
    world.dial(1, 2);
    world.settle();
    world.assert_converged();
    assert_eq!(world.sites[3].text("SELECT count(*) FROM todo"), "5");
}

#[test]
fn a_reader_that_comes_back_gets_only_what_is_new() {
    let mut world = World::new(2);
    let big = "x".repeat(50_000);
    world.sites[1].exec(&format!("INSERT INTO todo VALUES (1, '{big}', 0)"));
    world.dial(0, 1);
    world.settle();
    world.cut(0, 1);
    world.sites[1].exec("INSERT INTO todo VALUES (2, 'bread', 0)");
    let before = world.delivered_bytes;
    world.dial(0, 1);
    world.settle();
    world.assert_converged();
    assert!(world.delivered_bytes - before < 2_000, "{}", world.delivered_bytes - before);
}

#[test]
fn a_restarted_node_knows_what_it_holds() {
    let mut world = World::new(3);
    let big: String = (0..30_000).map(|at| char::from(b'a' + (at * at % 23) as u8)).collect();
    world.sites[0].exec(&format!("INSERT INTO todo VALUES (1, '{big}', 0)"));
    world.dial(0, 1);
    world.settle();
    world.restart(1);
    let before = world.delivered_bytes;
    world.dial(0, 1);
    world.settle();
    assert!(world.delivered_bytes - before < 2_000, "{}", world.delivered_bytes - before);
    world.dial(2, 1);
    world.settle();
    world.assert_converged();
}

#[test]
fn several_commits_at_once_are_seen_together_or_not_at_all() {
    let mut world = World::new(2);
    world.sites[0].exec("INSERT INTO account VALUES (1, 100), (2, 0), (3, 0)");
    world.dial(0, 1);
    world.settle();
    // The second transfer replaces half of the first before anybody looked.
    world.sites[0].exec("BEGIN; UPDATE account SET balance = 60 WHERE id = 1; UPDATE account SET balance = 40 WHERE id = 2; COMMIT");
    world.sites[0].exec("BEGIN; UPDATE account SET balance = 10 WHERE id = 2; UPDATE account SET balance = 30 WHERE id = 3; COMMIT");
    world.flush(0);
    while world.deliver(0, true) || world.deliver(0, false) {
        world.flush(1);
        assert_eq!(world.sites[1].text("SELECT sum(balance) FROM account"), "100");
    }
    world.settle();
    world.assert_converged();
}

#[test]
fn a_large_transaction_travels_in_chunks_resumes_and_is_never_seen_half() {
    for sql in [
        "INSERT INTO todo WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)
         SELECT i, hex(randomblob(60)), 0 FROM n",
        // Keys in no order.
        "INSERT INTO todo WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)
         SELECT i * 7919 % 100003, hex(randomblob(60)), 0 FROM n",
    ] {
        let mut world = World::new(3);
        world.sites[0].exec(sql);
        world.dial(0, 1);
        world.dial(1, 2);
        let mut cuts = 0;
        for step in 0..200 {
            world.flush(0);
            world.flush(2);
            // The receiver commits chunk by chunk.
            for wire in 0..world.wires() {
                world.deliver(wire, true);
                world.flush(1);
                world.deliver(wire, false);
                world.flush(1);
            }
            for at in 1..3 {
                let count = world.sites[at].text("SELECT count(*) FROM todo");
                assert!(count == "0" || count == "8000", "node {at} shows {count} rows");
            }
            if step == 1 {
                let held = world.sites[1].node.replica().ledger().stage().len();
                assert_eq!(held, 1, "some chunks are there");
                world.restart(1);
                world.dial(0, 1);
                world.dial(1, 2);
                cuts += 1;
            }
        }
        world.settle();
        assert_eq!(cuts, 1);
        world.assert_converged();
        assert_eq!(world.sites[2].text("SELECT count(*) FROM todo"), "8000");
        assert_eq!(world.sites[1].text("SELECT count(*) FROM __crsql_sync_stage"), "0");
    }
}

#[test]
fn who_comes_late_is_served_from_the_tables() {
    let small = Options { journal_bytes: 2_000, ..options() };
    let mut world = World::with(3, small, SCHEMA);
    for at in 0..300 {
        world.sites[0].exec(&format!("INSERT OR REPLACE INTO todo VALUES ({}, 't{at}', {at})", at % 50));
        world.flush(0);
    }
    world.dial(0, 1);
    world.settle();
    world.assert_converged_but(2);
    world.dial(2, 1);
    world.settle();
    world.assert_converged();
    // And with what it has, it can serve others in turn.
    world.sites[2].exec("UPDATE todo SET done = -1");
    world.settle();
    world.assert_converged();
}

#[test]
fn a_delta_larger_than_any_message_is_cut_and_applied_whole() {
    let small = Options { journal_bytes: 2_000, ..options() };
    let mut world = World::with(2, small, SCHEMA);
    for from in 0..40 {
        let from = from * 100;
        world.sites[0].exec(&format!(
            "INSERT INTO todo WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {from} + 99)
             SELECT i, hex(randomblob(1000)), 0 FROM n"
        ));
    }
    world.dial(1, 0);
    world.settle();
    world.assert_converged();
    assert_eq!(world.sites[1].text("SELECT count(*) FROM todo"), "4000");
    assert!(world.delivered_bytes > 4_000_000);
}

#[test]
fn a_restored_copy_gets_its_lost_versions_back() {
    let mut world = World::new(2);
    world.sites[0].exec("INSERT INTO todo VALUES (1, 'milk', 0)");
    world.dial(0, 1);
    world.settle();
    let copy = world.copy(0);
    for at in 2..20 {
        world.sites[0].exec(&format!("INSERT INTO todo VALUES ({at}, 't{at}', 0)"));
        world.settle();
    }
    world.restore(0, &copy);
    assert_eq!(world.sites[0].titles(), "milk");
    world.dial(0, 1);
    world.settle();
    world.assert_converged();
    assert!(world.sites[0].events.iter().any(|event| matches!(event, Event::Recovering { .. })));
    // Its next write does not reuse a version.
    world.sites[0].exec("UPDATE todo SET done = 1");
    world.settle();
    world.assert_converged();
    assert!(!world.sites[0].events.iter().any(|event| matches!(event, Event::NewSite { .. })));
}

#[test]
fn a_restored_copy_that_went_on_writing_takes_a_new_site() {
    let mut world = World::new(2);
    world.sites[0].exec("INSERT INTO todo VALUES (1, 'milk', 0)");
    world.dial(0, 1);
    world.settle();
    let copy = world.copy(0);
    world.sites[0].exec("INSERT INTO todo VALUES (2, 'bread', 0)");
    world.settle();
    world.restore(0, &copy);
    world.sites[0].exec("INSERT INTO todo VALUES (3, 'tea', 0)");
    let old = world.sites[0].node.replica().site();
    world.dial(0, 1);
    world.settle();
    assert!(world.sites[0].events.iter().any(|event| matches!(event, Event::NewSite { .. })));
    assert_ne!(world.sites[0].node.replica().site(), old);
    world.dial(0, 1);
    world.settle();
    world.assert_converged();
    assert_eq!(world.sites[1].titles(), "milk,bread,tea");
}

#[test]
fn a_clone_that_writes_takes_a_new_site_and_nothing_is_lost() {
    let mut world = World::new(2);
    world.sites[0].exec("INSERT INTO todo VALUES (1, 'milk', 0)");
    world.dial(0, 1);
    world.settle();
    let clone = world.clone_site(0);
    world.sites[0].exec("INSERT INTO todo VALUES (2, 'bread', 0)");
    world.sites[clone].exec("INSERT INTO todo VALUES (3, 'tea', 0)");
    world.settle();
    // Either finds it at the handshake or while both are connected.
    world.dial(clone, 1);
    world.settle();
    world.dial(clone, 1);
    world.settle();
    world.assert_converged();
    assert_eq!(world.sites[1].titles(), "milk,bread,tea");
    assert_ne!(world.sites[0].node.replica().site(), world.sites[clone].node.replica().site());
}

#[test]
fn clones_that_are_connected_while_they_part_are_told_apart() {
    let mut world = World::new(2);
    world.sites[0].exec("INSERT INTO todo VALUES (1, 'milk', 0)");
    world.dial(0, 1);
    world.settle();
    let clone = world.clone_site(0);
    world.dial(clone, 1);
    world.settle();
    world.sites[0].exec("INSERT INTO todo VALUES (2, 'bread', 0)");
    world.sites[clone].exec("INSERT INTO todo VALUES (3, 'tea', 0)");
    for _ in 0..5 {
        world.settle();
        world.dial(0, 1);
        world.dial(clone, 1);
    }
    world.settle();
    world.assert_converged();
    assert_eq!(world.sites[1].titles(), "milk,bread,tea");
}

#[test]
fn what_the_schema_does_not_know_yet_is_parked_and_passed_on() {
    let mut world = World::new(3);
    [(0, 1), (1, 2)].iter().for_each(|(a, b)| world.dial(*a, *b));
    for at in [0, 2] {
        world.sites[at].exec("ALTER TABLE todo ADD COLUMN note TEXT");
    }
    world.sites[0].exec("INSERT INTO todo (id, title, note) VALUES (1, 'milk', 'from the future')");
    world.settle();
    assert_eq!(world.sites[1].text("SELECT count(*) FROM crsql_parked"), "1");
    assert_eq!(world.sites[2].text("SELECT note FROM todo"), "from the future");
    world.sites[1].exec("ALTER TABLE todo ADD COLUMN note TEXT; INSERT INTO todo (id) VALUES (2)");
    world.settle();
    assert_eq!(world.sites[1].text("SELECT note FROM todo WHERE id = 1"), "from the future");
    world.assert_converged();
}

#[test]
fn a_row_that_differs_is_found_and_put_right() {
    let mut world = World::new(2);
    world.sites[0].exec(
        "INSERT INTO todo WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         SELECT i, 't' || i, 0 FROM n",
    );
    world.dial(0, 1);
    world.settle();
    let link = world.link(0, 1).unwrap();
    let compare = |world: &mut World| {
        world.sites[0].node.compare(world.now_ms, link).unwrap();
        world.settle();
        let compared = world.sites[0].events.iter().rev().find_map(|event| match event {
            Event::Compared { comparable, differing, .. } => Some((*comparable, differing.len())),
            _ => None,
        });
        compared.unwrap()
    };
    assert_eq!(compare(&mut world), (true, 0));
    // A fault: a fact that no version stands for.
    world.sites[1].exec(
        "INSERT INTO crsql_changes (\"table\", pk, cid, val, col_version, db_version, site_id, cl, seq)
         VALUES ('todo', crsql_pack_columns(1234), 'title', 'wrong', 7, 1, crsql_site_id(), 1, 0)",
    );
    world.settle();
    assert_ne!(world.sites[0].digest(), world.sites[1].digest());
    assert_eq!(compare(&mut world), (true, 1));
    assert_eq!(world.sites[0].digest(), world.sites[1].digest());
    assert_eq!(world.sites[0].text("SELECT title FROM todo WHERE id = 1234"), "wrong");
    assert_eq!(compare(&mut world), (true, 0));
}

#[test]
fn what_somebody_says_is_heard_by_everybody_and_ends() {
    let mut world = World::new(3);
    [(0, 1), (1, 2)].iter().for_each(|(a, b)| world.dial(*a, *b));
    world.settle();
    world.sites[0].node.present(world.now_ms, "cursor", b"7", 30_000).unwrap();
    world.settle();
    let said = |world: &World| -> Vec<Vec<u8>> {
        world.sites[2].node.presence(world.now_ms).map(|presence| presence.data.0.clone()).collect()
    };
    assert_eq!(said(&world), [b"7".to_vec()]);
    world.tick(29_999);
    assert_eq!(said(&world).len(), 1);
    world.tick(1);
    assert!(said(&world).is_empty());
    assert!(world.sites[2].events.iter().any(|event| matches!(event, Event::Left { .. })));
}

#[test]
fn a_transaction_of_the_application_on_the_same_connection_is_left_alone() {
    let mut world = World::new(2);
    world.dial(0, 1);
    world.settle();
    world.sites[1].exec("BEGIN; INSERT INTO todo VALUES (5, 'mine', 0)");
    world.sites[0].exec("INSERT INTO todo VALUES (1, 'milk', 0)");
    world.settle();
    assert_eq!(world.sites[1].titles(), "mine");
    world.sites[1].exec("COMMIT");
    world.settle();
    assert_eq!(world.sites[1].titles(), "milk,mine");
    world.assert_converged();
}

#[test]
fn changesets_applied_by_hand_reach_the_others_too() {
    let mut world = World::new(3);
    world.sites[0].exec("INSERT INTO todo VALUES (1, 'milk', 0)");
    let changeset: Vec<u8> =
        world.sites[0].conn().query_row("SELECT crsql_changeset()", [], |row| row.get(0)).unwrap();
    world.dial(1, 2);
    world.settle();
    world.sites[1].conn().query_row("SELECT crsql_apply(?1)", [changeset], |_| Ok(())).unwrap();
    world.settle();
    assert_eq!(world.sites[2].titles(), "milk");
    assert_eq!(world.sites[2].digest(), world.sites[1].digest());
}

#[test]
fn another_room_another_token_and_another_tie_break_are_refused() {
    use crsql_client::node::{Action, Dial, Policy};
    let refusal = |room: &str, token: Option<&str>, tie_break: &str| {
        let mut world = World::with(2, options(), "");
        world.sites[0].exec(&format!("SELECT crsql_config_set('tie-break', '{tie_break}')"));
        world.restart(0);
        let dial = Dial { peer: "p".into(), room: room.into(), token: token.map(Into::into), gossip: true };
        world.sites[0].node.dial(0, dial).unwrap();
        let policy = Policy { room: "demo".into(), token: Some("secret".into()) };
        let link = world.sites[1].node.accept(0, policy);
        let Some(Action::Send { bytes, .. }) = world.sites[0].node.next_action() else { panic!() };
        world.sites[1].node.receive(0, link, &bytes).unwrap();
        std::iter::from_fn(|| world.sites[1].node.next_action()).find_map(|action| match action {
            Action::Close { fault, .. } => fault.map(|fault| fault.code.name()),
            _ => None,
        })
    };
    assert_eq!(refusal("other", Some("secret"), "site"), Some("no-room"));
    assert_eq!(refusal("demo", None, "site"), Some("unauthorized"));
    assert_eq!(refusal("demo", Some("guess"), "site"), Some("unauthorized"));
    assert_eq!(refusal("demo", Some("secret"), "value"), Some("tie-break"));
    assert_eq!(refusal("demo", Some("secret"), "site"), None);
}
