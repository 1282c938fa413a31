//! Threads for work that blocks, so that none of it is done where connections are served.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and a queue. What is queued is bounded by who asks: a session has at most one read open.
#[derive(Clone)]
pub struct Pool(Way);

#[derive(Clone)]
enum Way {
    Threads(Arc<Mutex<Sender<Job>>>),
    /// A task of the caller's own thread, in a simulation.
    #[cfg(test)]
    Task(tokio::sync::mpsc::UnboundedSender<Job>),
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
        Pool(Way::Threads(Arc::new(Mutex::new(sender))))
    }

    /// Does the work one by one on this thread, a while later, as long as `life` is true.
    #[cfg(test)]
    pub fn task(life: crate::sim::Life) -> Pool {
        let (sender, mut jobs) = tokio::sync::mpsc::unbounded_channel::<Job>();
        tokio::spawn(async move {
            while let Some(job) = jobs.recv().await {
                life.pause().await;
                if life.is_over() {
                    return;
                }
                job();
            }
        });
        Pool(Way::Task(sender))
    }

    /// Has it done sometime.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        match &self.0 {
            // The threads live as long as there is a sender.
            Way::Threads(jobs) => {
                jobs.lock().unwrap_or_else(|e| e.into_inner()).send(Box::new(job)).ok();
            }
            #[cfg(test)]
            Way::Task(jobs) => drop(jobs.send(Box::new(job))),
        }
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
