//! Random histories on several replicas, each a real database beside its model.
//!
//! A [`Twin`] is a replica on real SQLite and [`crsql_core::replica::Replica`], the executable description of the
//! rules, driven by the same random operations. Messages between replicas are lost, duplicated, reordered,
//! delivered in part, by every recipe; replicas are closed and reopened, restored from backups, cloned, and get
//! their schema at different times. [`Twin::compare`] demands equal data, clocks, authorship and digests.

mod compare;
mod mail;
mod statement;
mod twin;

pub use mail::Mail;
pub use twin::Twin;

use crate::exchange::{assert_converged, pull};
use crate::{Rng, TempDir};

/// What one history is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything random follows from it.
    pub seed: u64,
    /// How many replicas, at least 2.
    pub replicas: usize,
    /// How many operations: a local statement, sending or delivering a message, a restart.
    pub operations: usize,
    /// Whether raw exchange may drop the identity of changes, as code written for cr-sqlite does.
    pub nine_columns: bool,
    /// Whether some replicas get a table and a column late.
    pub late_schema: bool,
    /// Compare with the model after so many operations.
    pub compare_every: usize,
}

impl Plan {
    /// The plan of a seed, with 3 to 7 replicas.
    pub fn of_seed(seed: u64, operations: usize) -> Plan {
        let mut rng = Rng::new(seed ^ 0x5eed);
        Plan {
            seed,
            replicas: 3 + rng.below(5),
            operations,
            nine_columns: rng.one_in(4),
            late_schema: rng.one_in(2),
            compare_every: crate::rng::number("CRSQL_COMPARE").unwrap_or(150) as usize,
        }
    }
}

/// Runs a history to its end, where everybody exchanges everything and all must be equal. Panics on any
/// difference, naming the seed and the operation.
pub fn run(plan: &Plan) {
    let mut history = History::new(plan);
    // Of its own, so that comparing more often changes nothing in the history.
    let mut inspector = Rng::new(plan.seed);
    for operation in 0..plan.operations {
        history.step();
        if operation % plan.compare_every == plan.compare_every - 1 {
            let twin = inspector.below(history.twins.len());
            history.twins[twin].compare(&format!("seed {} after operation {operation}", plan.seed));
        }
    }
    history.finish();
}

/// Tells what happens when `CRSQL_TRACE` is set.
fn trace(line: impl FnOnce() -> String) {
    static ON: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if *ON.get_or_init(|| std::env::var_os("CRSQL_TRACE").is_some()) {
        println!("{}", line());
    }
}

struct History {
    plan: Plan,
    rng: Rng,
    twins: Vec<Twin>,
    mail: Vec<(usize, Mail)>,
    _dir: TempDir,
}

impl History {
    fn new(plan: &Plan) -> History {
        let mut rng = Rng::new(plan.seed);
        let dir = TempDir::new();
        let twins = (0..plan.replicas)
            .map(|i| {
                let old = plan.late_schema && rng.one_in(2);
                Twin::new(dir.join(&format!("{i}.db")), old, &mut rng)
            })
            .collect();
        History { plan: plan.clone(), rng, twins, mail: Vec::new(), _dir: dir }
    }

    fn step(&mut self) {
        let i = self.rng.below(self.twins.len());
        let choice = self.rng.below(100);
        trace(|| format!("replica {i} does {choice}"));
        match choice {
            0 => self.twins[i].reopen(),
            1 => self.twins[i].upgrade(&mut self.rng),
            2 if self.rng.one_in(8) => self.twins[i].restore(&mut self.rng),
            2 => self.twins[i].back_up(),
            3..=17 => self.send(i),
            18..=32 => self.deliver(),
            33..=37 => self.meet(i),
            38..=50 => self.twins[i].transaction(&mut self.rng),
            _ => self.twins[i].statement(&mut self.rng),
        }
    }

    /// Puts a message in the mail, perhaps twice, perhaps never.
    fn send(&mut self, from: usize) {
        let to = self.rng.below(self.twins.len());
        let nine = self.plan.nine_columns;
        let mail = Mail::write(&self.twins[from], &self.twins[to], nine, &mut self.rng);
        if self.rng.one_in(5) {
            return;
        }
        if self.rng.one_in(5) {
            self.mail.push((to, mail.clone()));
        }
        self.mail.push((to, mail));
        // The post office is small: what is old gets lost.
        if self.mail.len() > 12 {
            let lost = self.rng.below(self.mail.len());
            self.mail.swap_remove(lost);
        }
    }

    /// Delivers any message, not the oldest.
    fn deliver(&mut self) {
        if self.mail.is_empty() {
            return;
        }
        let (to, mail) = self.mail.swap_remove(self.rng.below(self.mail.len()));
        trace(|| format!("  to {to}: {mail:?}"));
        mail.read(&mut self.twins[to]);
    }

    /// Two replicas exchange by version vector at once.
    fn meet(&mut self, i: usize) {
        let j = self.rng.below(self.twins.len());
        if i == j {
            return;
        }
        for (from, to) in [(i, j), (j, i)] {
            trace(|| format!("  {from} tells {to} all"));
            Mail::delta(&self.twins[from], &self.twins[to]).read(&mut self.twins[to]);
        }
    }

    fn finish(mut self) {
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
