//! Smaller histories that still fail.
//!
//! Each step of a history draws from a generator of its own, so leaving some out leaves the others what they are,
//! as far as the state allows. Ever smaller pieces are left out as long as the history fails; that it fails in
//! another way than before is not looked at.

use super::{Plan, coverage, run};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A failing history, shrunk.
pub struct Shrunk {
    /// Its plan, with the steps that are needed.
    pub plan: Plan,
    /// What happens in it, line by line.
    pub script: Vec<String>,
    /// What it fails with.
    pub failure: String,
}

/// Shrinks a failing plan by at most `runs` runs; `None` if it does not fail.
pub fn shrink(plan: &Plan, runs: usize) -> Option<Shrunk> {
    // Where comparing after every step does not hide the failure, the first difference ends the history, and nothing
    // after it is needed.
    let eager = Plan { compare_every: 1, ..plan.clone() };
    let plan = if failure_of(&eager).is_some() { eager } else { plan.clone() };
    failure_of(&plan)?;
    let mut steps: Vec<usize> = plan.only.clone().unwrap_or_else(|| (0..plan.operations).collect());
    let (mut piece, mut left) = (steps.len().div_ceil(2), runs);
    while piece > 0 && left > 0 {
        let mut at = 0;
        while at < steps.len() && left > 0 {
            left -= 1;
            let end = (at + piece).min(steps.len());
            let mut fewer = steps.clone();
            fewer.drain(at..end);
            if failure_of(&Plan { only: Some(fewer.clone()), ..plan.clone() }).is_some() {
                steps = fewer;
            } else {
                at = end;
            }
        }
        piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
    }
    let plan = Plan { only: Some(steps), ..plan };
    coverage::record();
    let failure = failure_of(&plan).unwrap_or_else(|| "it failed before and does not now".into());
    Some(Shrunk { plan, script: coverage::recorded(), failure })
}

/// Runs a plan and gives the message that it fails with.
pub fn failure_of(plan: &Plan) -> Option<String> {
    catch_unwind(AssertUnwindSafe(|| run(plan))).err().map(|caught| failure_text(&*caught))
}

/// The message of a panic that was caught.
pub fn failure_text(caught: &(dyn Any + Send)) -> String {
    let text = caught.downcast_ref::<String>().cloned();
    let text = text.or_else(|| caught.downcast_ref::<&str>().map(|text| text.to_string()));
    text.unwrap_or_else(|| "a panic without a message".into())
}
