//! Threads for work that blocks, so that none of it is done where connections are served.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and a queue. What is queued is bounded by who asks: a session has at most one read open.
#[derive(Clone)]
pub struct Pool {
    jobs: Arc<Mutex<Sender<Job>>>,
}

/// The work was not done: it panicked.
#[derive(Debug, thiserror::Error)]
#[error("internal: work on a {0} thread failed")]
pub struct Failed(&'static str);

impl Pool {
    /// Starts the threads. They end when the pool and all its clones are gone.
    pub fn start(name: &'static str, threads: usize) -> Pool {
        let (sender, jobs) = channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..threads {
            let jobs = jobs.clone();
            let thread = std::thread::Builder::new().name(format!("{name}-{number}"));
            thread.spawn(move || work(&jobs)).expect("a thread can be started");
        }
        Pool { jobs: Arc::new(Mutex::new(sender)) }
    }

    /// Has it done sometime.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        // The threads live as long as there is a sender.
        self.jobs.lock().unwrap_or_else(|e| e.into_inner()).send(Box::new(job)).ok();
    }

    /// Has it done and waits for the result.
    pub async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failed> {
        let (reply, answer) = oneshot::channel();
        self.run(move || {
            reply.send(job()).ok();
        });
        answer.await.map_err(|_| Failed("blocking"))
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let Ok(job) = jobs.lock().unwrap_or_else(|e| e.into_inner()).recv() else { return };
        // A panic is a fault of ours; it must not take the thread away from everybody else.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
            tracing::error!("a job panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_fails_one_job_and_no_other() {
        let pool = Pool::start("test", 1);
        assert!(pool.ask(|| panic!("on purpose")).await.is_err());
        assert_eq!(pool.ask(|| 7).await.unwrap(), 7);
    }
}
