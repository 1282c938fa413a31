//! Random histories on several replicas, each a real database beside its model.
//!
//! A [`Twin`] is a replica on real SQLite and [`crsql_core::replica::Replica`], the executable description of the
//! rules, driven by the same random operations. Messages between replicas are lost, duplicated, reordered, delayed,
//! split, delivered in part, by every recipe, and held back by partitions; replicas are closed and reopened, used
//! through several connections, restored from backups, cloned, tidied, and get their schema at different times.
//! [`Twin::compare`] demands equal data, clocks, authorship and digests.
//!
//! Everything follows from a [`Plan`]. Each step draws from a generator of its own, so a failing history can be
//! shrunk by leaving steps out ([`shrink`]).

mod compare;
pub mod coverage;
mod effect;
mod life;
mod mail;
mod schema;
pub mod shrink;
mod statement;
mod twin;

pub use mail::Mail;
pub use schema::Schema;
pub use twin::Twin;

use crate::exchange::{assert_converged, pull};
use crate::{Rng, TempDir};
use coverage::{saw, trace};
use crsql_core::column::ColumnType;
use crsql_core::merge::TieBreak;
use std::rc::Rc;

/// Replicas beyond this are not made by cloning or joining.
const REPLICAS_MAX: usize = 8;

/// What one history is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything random follows from it.
    pub seed: u64,
    /// How many replicas at the beginning, at least 2.
    pub replicas: usize,
    /// How many steps: a local statement or transaction, sending or delivering a message, an event of life.
    pub operations: usize,
    /// The steps to take, of all; others are left out.
    pub only: Option<Vec<usize>>,
    /// Tables that follow from the seed, instead of the fixed ones.
    pub generated_schema: bool,
    /// Tables whose columns have this type, instead of either.
    pub about: Option<ColumnType>,
    /// What decides between equal clocks.
    pub tie_break: TieBreak,
    /// Whether raw exchange may drop the identity of changes, as code written for cr-sqlite does.
    pub nine_columns: bool,
    /// Whether some replicas get tables and columns late.
    pub late_schema: bool,
    /// How many messages may be under way; the more, the older they get.
    pub lag: usize,
    /// One message in so many is lost.
    pub loss: usize,
    /// Compare with the model after so many steps.
    pub compare_every: usize,
}

impl Plan {
    /// The plan of a seed on the fixed tables, with 3 to 7 replicas.
    pub fn of_seed(seed: u64, operations: usize) -> Plan {
        let mut rng = Rng::new(seed ^ 0x5eed);
        Plan {
            seed,
            replicas: 3 + rng.below(5),
            operations,
            only: None,
            generated_schema: false,
            about: None,
            tie_break: TieBreak::Site,
            nine_columns: rng.one_in(4),
            late_schema: rng.one_in(2),
            lag: 12,
            loss: 5,
            compare_every: crate::rng::number("CRSQL_COMPARE").unwrap_or(150) as usize,
        }
    }

    /// The plan of a seed on tables of its own, with 2 to 6 replicas and a network of its own.
    pub fn of_seed_with_schema(seed: u64, operations: usize) -> Plan {
        let mut rng = Rng::new(seed ^ 0xca5e);
        Plan {
            generated_schema: !rng.one_in(5),
            replicas: 2 + rng.below(5),
            tie_break: if rng.one_in(6) { TieBreak::Value } else { TieBreak::Site },
            lag: *rng.pick(&[2, 6, 12, 40]),
            loss: *rng.pick(&[2, 5, 20]),
            ..Plan::of_seed(seed, operations)
        }
    }
}

/// Runs a history to its end, where everybody exchanges everything and all must be equal. Panics on any
/// difference, naming the seed and the operation. Returns how many operations that were: statements, ends of
/// transactions, messages written or read, and events of life; a transaction is a step of several.
pub fn run(plan: &Plan) -> usize {
    let mut history = History::new(plan);
    // Of its own, so that comparing more often changes nothing in the history.
    let mut inspector = Rng::new(plan.seed);
    let all = || (0..plan.operations).collect();
    let steps: Vec<usize> = plan.only.clone().unwrap_or_else(all);
    let mut operations = 0;
    for step in &steps {
        operations += history.step(*step);
        if step % plan.compare_every == plan.compare_every - 1 {
            let twin = inspector.below(history.twins.len());
            history.twins[twin].compare(&format!("seed {} after operation {step}", plan.seed));
        }
    }
    history.finish();
    operations
}

struct History {
    plan: Plan,
    schema: Rc<Schema>,
    twins: Vec<Twin>,
    /// The receiver and what it is sent.
    mail: Vec<(usize, Mail)>,
    /// On which side of a partition each replica is; all on one when it is healed.
    side: Vec<usize>,
    dir: TempDir,
}

impl History {
    fn new(plan: &Plan) -> History {
        let mut rng = Rng::new(plan.seed);
        let dir = TempDir::new();
        let schema = match plan.about {
            Some(kind) => Schema::of_type(kind, &mut rng),
            None if plan.generated_schema => Schema::generated(&mut rng),
            None => Schema::fixed(),
        };
        for table in &schema.tables {
            trace(|| table.ddl(true));
        }
        let schema = Rc::new(schema);
        let twins: Vec<Twin> = (0..plan.replicas)
            .map(|i| {
                let old = plan.late_schema && rng.one_in(2);
                Twin::new(dir.join(&format!("{i}.db")), &schema, plan.tie_break, old, &mut rng)
            })
            .collect();
        let side = vec![0; twins.len()];
        History { plan: plan.clone(), schema, twins, mail: Vec::new(), side, dir }
    }

    /// Takes a step; returns how many operations it had.
    fn step(&mut self, number: usize) -> usize {
        // Of its own, so that the other steps stay what they are when one is left out.
        let mut rng = Rng::new(Rng::new(self.plan.seed.rotate_left(32) ^ number as u64).bits());
        let rng = &mut rng;
        let i = rng.below(self.twins.len());
        let choice = rng.below(100);
        trace(|| format!("step {number}: replica {i} does {choice}"));
        match choice {
            0 => {
                saw("restart");
                self.twins[i].reopen();
            }
            1 => self.twins[i].upgrade(rng),
            2 => self.live(i, rng),
            3 => self.partition(rng),
            4..=6 => self.twins[i].switch_connection(),
            7..=20 => self.send(i, rng),
            21..=34 => self.deliver(rng),
            35..=39 => return self.meet(i, rng),
            40..=52 => return self.twins[i].transaction(rng),
            _ => self.twins[i].statement(rng),
        }
        1
    }

    fn live(&mut self, i: usize, rng: &mut Rng) {
        let event = rng.below(16);
        trace(|| format!("  event of life {event}"));
        match event {
            0..=1 => self.twins[i].restore(rng),
            2 => self.restore_under_old_name(i, rng),
            3..=6 => self.twins[i].tidy(rng),
            7 => self.join(Some(i), rng),
            8 => self.join(None, rng),
            _ => self.twins[i].back_up(),
        }
    }

    /// A replica goes back to its copy and keeps its name. Nobody may learn its lost versions later than it does:
    /// what is under way is dropped, and it gets everything from everybody before it writes again.
    fn restore_under_old_name(&mut self, i: usize, rng: &mut Rng) {
        // A change of unknown identity is not known to be our own.
        if self.plan.nine_columns || !self.twins[i].restore_under_old_name(rng) {
            return;
        }
        self.mail.clear();
        let before = self.twins[i].model.site_version();
        for from in (0..self.twins.len()).filter(|from| *from != i) {
            Mail::delta(&self.twins[from], &self.twins[i]).read(&mut self.twins[i]);
        }
        self.twins[i].claim_what_the_replica_claims();
        if self.twins[i].model.site_version() > before {
            saw("own changes came back after a restore");
        }
    }

    /// Another replica appears: a copy of one that is there, or a fresh one.
    fn join(&mut self, of: Option<usize>, rng: &mut Rng) {
        if self.twins.len() >= REPLICAS_MAX {
            return;
        }
        let path = self.dir.join(&format!("{}.db", self.twins.len()));
        let twin = match of {
            Some(i) => self.twins[i].cloned(path, rng),
            None => {
                saw("fresh replica joined");
                let old = self.plan.late_schema && rng.one_in(2);
                Twin::new(path, &self.schema, self.plan.tie_break, old, rng)
            }
        };
        self.twins.push(twin);
        self.side.push(0);
    }

    fn partition(&mut self, rng: &mut Rng) {
        if self.side.contains(&1) {
            saw("partition healed");
            self.side.fill(0);
        } else if rng.one_in(2) {
            saw("partition");
            self.side.iter_mut().for_each(|side| *side = rng.below(2));
        }
    }

    /// Puts a message in the mail, perhaps twice, perhaps never.
    fn send(&mut self, from: usize, rng: &mut Rng) {
        let to = rng.below(self.twins.len());
        let nine = self.plan.nine_columns;
        let mail = Mail::write(&self.twins[from], &self.twins[to], nine, rng);
        if rng.one_in(self.plan.loss) || self.side[from] != self.side[to] {
            return saw("message lost");
        }
        if rng.one_in(5) {
            saw("message duplicated");
            self.mail.push((to, mail.clone()));
        }
        self.mail.push((to, mail));
        // The post office is small: what is old gets lost.
        if self.mail.len() > self.plan.lag {
            saw("message lost");
            let lost = rng.below(self.mail.len());
            self.mail.swap_remove(lost);
        }
    }

    /// Delivers any message, not the oldest.
    fn deliver(&mut self, rng: &mut Rng) {
        if self.mail.is_empty() {
            return;
        }
        let (to, mail) = self.mail.swap_remove(rng.below(self.mail.len()));
        trace(|| format!("  to {to}: {mail:?}"));
        mail.read(&mut self.twins[to]);
    }

    /// Two replicas exchange by version vector at once.
    fn meet(&mut self, i: usize, rng: &mut Rng) -> usize {
        let j = rng.below(self.twins.len());
        if i == j || self.side[i] != self.side[j] {
            return 1;
        }
        for (from, to) in [(i, j), (j, i)] {
            trace(|| format!("  {from} tells {to} all"));
            Mail::delta(&self.twins[from], &self.twins[to]).read(&mut self.twins[to]);
        }
        4
    }

    fn finish(mut self) {
        trace(|| "the end: everybody gets the whole schema, and everything from everybody".into());
        for twin in &mut self.twins {
            twin.upgrade_fully();
        }
        let count = self.twins.len();
        // Round a ring, once for each replica: what the last one wrote reaches the first.
        for _ in 0..count {
            for i in 0..count {
                let from = (i + 1) % count;
                Mail::delta(&self.twins[from], &self.twins[i]).read(&mut self.twins[i]);
            }
        }
        let what = format!("seed {} at the end", self.plan.seed);
        for twin in &self.twins {
            twin.compare(&what);
        }
        let sites: Vec<_> = self.twins.iter().map(|twin| &twin.site).collect();
        assert_converged(&sites);
        for twin in &self.twins[1..] {
            assert_eq!(
                self.twins[0].model.digest(),
                twin.model.digest(),
                "{what}: the models themselves differ"
            );
        }
        // Nothing is left to say.
        for site in &sites[1..] {
            let digest = site.digest();
            pull(site, sites[0]);
            assert_eq!(site.digest(), digest, "{what}");
        }
    }
}
