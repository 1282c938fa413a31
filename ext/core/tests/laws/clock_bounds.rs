//! A change that passes validation may win, but an ordinary write can always follow.

use crsql_core::change::{Change, Fact};
use crsql_core::limits::*;
use crsql_core::merge::{ClockWindow, Clocks, Stamp, TieBreak, validate_step};
use crsql_core::pack::pack;
use crsql_core::replica::{Outcome, Replica};
use crsql_core::value::{Value, ValueRef};
use proptest::prelude::*;

use crate::arbitrary::*;

fn near(limit: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..4,
        (0u64..6).prop_map(move |back| limit - back),
        (1u64..3).prop_map(move |on| limit + on)
    ]
}

fn hostile() -> impl Strategy<Value = Change> {
    (near(CAUSAL_LENGTH_MAX), near(COL_VERSION_MAX), near(SITE_VERSION_MAX), near(SEQ_MAX), any::<bool>())
        .prop_map(|(cl, col_version, version, seq, is_row)| {
            let cell = Fact::Cell { column: "name".into(), col_version, value: Value::text("theirs") };
            Change {
                table: "item".into(),
                pk: pack(&[ValueRef::Integer(1)]).unwrap(),
                fact: if is_row { Fact::Row } else { cell },
                cl,
                stamp: Stamp { site: site(0xff), version, seq },
            }
        })
}

fn replica() -> Replica {
    let mut replica = Replica::new(site(1), TieBreak::Site);
    replica.create_table(schemas().swap_remove(0)).unwrap();
    replica
}

proptest! {
    #[test]
    fn an_ordinary_write_can_follow_whatever_was_accepted(changes in prop::collection::vec(hostile(), 0..4), write in 0u8..4) {
        let mut ours = replica();
        for change in &changes {
            prop_assert_eq!(ours.merge(change).is_ok(), change.validate().is_ok());
        }
        let mut theirs = ours.clone();
        let key = [Value::Integer(1)];
        let cl = ours.row("item", &key).map_or(0, |row| row.cl);
        let before = ours.site_version();
        let sets = [("name", Value::text("ours"))];
        let mut tx = ours.begin();
        let done = match write {
            0 => tx.insert_or_replace("item", &key, &sets).map(|()| true),
            1 => tx.update("item", &key, &sets),
            2 => tx.delete("item", &key),
            _ => tx.update_key("item", &key, &[Value::Integer(2)], &sets),
        };
        // Only the causal length can run out, after 2^31 steps, and then it says so.
        prop_assert!(done.is_ok() || cl > CAUSAL_LENGTH_MAX - 3, "{:?}", done);
        tx.commit().unwrap();
        if ours.site_version() == before {
            return Ok(());
        }
        for change in ours.changes_of(site(1), ours.site_version().0) {
            prop_assert_eq!(change.validate(), Ok(()));
            prop_assert_eq!(theirs.merge(&change), Ok(Outcome::Won));
        }
        prop_assert_eq!(theirs.digest(), ours.digest());
    }

    #[test]
    fn steps_that_pass_leave_room_for_thousands_more(
        cl in 0u64..CAUSAL_LENGTH_MAX / 2,
        col_version in 0u64..COL_VERSION_MAX / 2,
        version in 1u64..SITE_VERSION_MAX / 2,
        far in any::<[u64; 3]>(),
    ) {
        let known = Clocks { cl, col_version, version, seq: 0 };
        let step = |known: u64, step_max: u64, far: u64| known + far % (step_max + 1);
        let remote = Clocks {
            cl: step(cl, CAUSAL_LENGTH_STEP_MAX, far[0]),
            col_version: far[1] % (COL_VERSION_STEP_MAX + 1),
            version: step(version, SITE_VERSION_STEP_MAX, far[2]),
            seq: 0,
        };
        prop_assert_eq!(validate_step(&known, &remote), Ok(()));
        prop_assert!(remote.cl + 1000 * CAUSAL_LENGTH_STEP_MAX < CAUSAL_LENGTH_MAX);
        let beyond = Clocks { cl: cl + CAUSAL_LENGTH_STEP_MAX + 1, ..remote };
        prop_assert!(validate_step(&known, &beyond).is_err());
    }

    #[test]
    fn a_room_s_clocks_grow_by_one_step_a_period_whatever_comes(
        known in (0u64..1000, 0u64..1000),
        comes in prop::collection::vec((0u64..ClockWindow::PERIOD_MS, any::<u64>(), any::<u64>(), any::<bool>()), 1..80),
    ) {
        let mut window = ClockWindow::new(0, Some(known));
        let mut now_ms = 0;
        for (later, cl, col_version, is_greedy) in comes {
            now_ms += later;
            let before = window.known();
            // The greedy one takes all that there is, the others something.
            let (cl, col_version) = match is_greedy {
                true => (known.0 + (now_ms / ClockWindow::PERIOD_MS + 1) * CAUSAL_LENGTH_STEP_MAX, 1),
                false => (cl % (CAUSAL_LENGTH_MAX + 1), col_version % (COL_VERSION_MAX + 1)),
            };
            let taken = window.admit(now_ms, cl, col_version);
            if taken.is_err() {
                prop_assert_eq!(window.known(), before);
            }
            let periods = now_ms / ClockWindow::PERIOD_MS + 1;
            prop_assert!(window.known().0 <= known.0 + periods * CAUSAL_LENGTH_STEP_MAX);
            prop_assert!(window.known().1 <= known.1 + periods * COL_VERSION_STEP_MAX);
            // Whoever goes on from what is there is never refused, at whatever pace of a person.
            let (cl, col_version) = window.known();
            let mut honest = window;
            prop_assert_eq!(honest.admit(now_ms + ClockWindow::PERIOD_MS, cl + 1, col_version + 1), Ok(()));
        }
    }
}
