//! What is counted, and its Prometheus text. No label names a room or a client: their number is not ours to bound.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crsql_protocol::Code;

/// A number that grows, or a gauge.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes away from it.
    pub fn sub(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper ends of the buckets of a histogram, in microseconds.
const BUCKETS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Times {
    buckets: [Count; BUCKETS.len()],
    count: Count,
    micros: Count,
}

impl Times {
    /// Enters one.
    pub fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = BUCKETS.iter().position(|end| micros <= *end) {
            self.buckets[at].add(1);
        }
        self.count.add(1);
        self.micros.add(micros);
    }

    fn write(&self, out: &mut String, name: &str) {
        let mut below = 0;
        for (end, bucket) in BUCKETS.iter().zip(&self.buckets) {
            below += bucket.get();
            let seconds = *end as f64 / 1e6;
            writeln!(out, "{name}_bucket{{le=\"{seconds}\"}} {below}").ok();
        }
        let (count, seconds) = (self.count.get(), self.micros.get() as f64 / 1e6);
        writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {seconds}\n{name}_count {count}")
            .ok();
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $kind:ident $name:ident,)*) => {
        /// Everything that is counted.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $doc])* pub $name: metrics!(@type $kind),)*
            /// Connections closed and requests refused, by code.
            faults: Mutex<BTreeMap<&'static str, u64>>,
            /// Transactions set aside, by code.
            rejected: Mutex<BTreeMap<&'static str, u64>>,
        }

        impl Metrics {
            /// In Prometheus' text format.
            pub fn text(&self) -> String {
                let mut out = String::new();
                $(
                    let name = metrics!(@name $kind $name);
                    writeln!(out, "# HELP {name} {}\n# TYPE {name} {}", concat!($($doc),*).trim(),
                        metrics!(@word $kind)).ok();
                    metrics!(@write $kind out name self.$name);
                )*
                self.by_code(&mut out);
                out
            }
        }

        /// Name, kind and meaning of every metric.
        pub const TABLE: &[(&str, &str, &str)] =
            &[$((metrics!(@name $kind $name), metrics!(@word $kind), concat!($($doc),*)),)*];
    };
    (@type times) => { Times };
    (@type $other:ident) => { Count };
    (@word counter) => { "counter" };
    (@word gauge) => { "gauge" };
    (@word times) => { "histogram" };
    (@name counter $name:ident) => { concat!("crsql_", stringify!($name), "_total") };
    (@name gauge $name:ident) => { concat!("crsql_", stringify!($name)) };
    (@name times $name:ident) => { concat!("crsql_", stringify!($name), "_seconds") };
    (@write times $out:ident $name:ident $value:expr) => { $value.write(&mut $out, $name) };
    (@write $other:ident $out:ident $name:ident $value:expr) => {
        writeln!($out, "{} {}", $name, $value.get()).ok()
    };
}

metrics! {
    /// Connections open now
    gauge connections,
    /// Sessions that have said hello and were let in, open now
    gauge sessions,
    /// Rooms in memory
    gauge rooms,
    /// Connections accepted
    counter accepted,
    /// Connections refused because there were too many
    counter refused_connections,
    /// Cells taken in that are larger than cell_warning
    counter large_cells,
    /// Deleted rows whose last traces were collected
    counter tombstones_collected,
    /// Times a room was found to have more deleted rows than tombstone_share
    counter tombstone_alarms,
    /// Frames taken in
    counter frames_in,
    /// Frames taken in that were known already
    counter frames_known,
    /// Bytes of messages received
    counter bytes_in,
    /// Bytes of messages sent
    counter bytes_out,
    /// Messages sent with bytes shared by all readers
    counter deliveries,
    /// Journal reads for readers that were not at its end
    counter tail_reads,
    /// Reads of versions that a reader lacked
    counter needs_reads,
    /// Needs that the journal no longer had, served from a room's database
    counter fills,
    /// Bytes of entries that journals forgot because room databases have them
    counter trimmed_bytes,
    /// Journal transactions
    counter commits,
    /// Appends in them
    counter appends,
    /// From an append's turn to its being durable
    times commit,
    /// From a push's arrival to its acknowledgement
    times ack,
    /// Entries applied to room databases
    counter materialised,
    /// Transactions that a room database could not apply
    counter materialise_failures,
    /// Snapshots made
    counter snapshots,
    /// Frames with facts of rows that clients found to differ
    counter repairs,
    /// Incomplete transactions given up
    counter given_up,
    /// HTTP requests
    counter requests,
}

impl Metrics {
    /// Counts a transaction of the journal.
    pub fn commit(&self, time: Duration, appends: usize) {
        self.commits.add(1);
        self.appends.add(appends as u64);
        self.commit.add(time);
    }

    /// Counts a connection that ended with a fault, or a request that was refused.
    pub fn fault(&self, code: Code) {
        count(&self.faults, code);
    }

    /// Counts a transaction that was set aside.
    pub fn reject(&self, code: Code) {
        count(&self.rejected, code);
    }

    /// How often a code was the reason.
    pub fn faults(&self, code: Code) -> u64 {
        self.faults.lock().unwrap_or_else(|e| e.into_inner()).get(code.name()).copied().unwrap_or(0)
    }

    /// How many transactions were set aside for it.
    pub fn rejects(&self, code: Code) -> u64 {
        self.rejected.lock().unwrap_or_else(|e| e.into_inner()).get(code.name()).copied().unwrap_or(0)
    }

    fn by_code(&self, out: &mut String) {
        let both = [
            ("crsql_faults_total", "Connections closed and requests refused, by code", &self.faults),
            ("crsql_rejected_total", "Transactions set aside, by code", &self.rejected),
        ];
        for (name, help, counts) in both {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter").ok();
            for (code, value) in &*counts.lock().unwrap_or_else(|e| e.into_inner()) {
                writeln!(out, "{name}{{code=\"{code}\"}} {value}").ok();
            }
        }
    }
}

fn count(counts: &Mutex<BTreeMap<&'static str, u64>>, code: Code) {
    *counts.lock().unwrap_or_else(|e| e.into_inner()).entry(code.name()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_metric_once_and_buckets_that_add_up() {
        let metrics = Metrics::default();
        metrics.commit(Duration::from_micros(300), 2);
        metrics.commit(Duration::from_secs(9), 1);
        metrics.fault(Code::MALFORMED);
        let text = metrics.text();
        for (name, ..) in TABLE {
            assert_eq!(text.matches(&format!("# TYPE {name} ")).count(), 1, "{name}");
        }
        assert!(text.contains("crsql_commit_seconds_bucket{le=\"0.0005\"} 1\n"));
        assert!(text.contains("crsql_commit_seconds_bucket{le=\"+Inf\"} 2\n"));
        assert!(text.contains("crsql_faults_total{code=\"malformed\"} 1\n"));
    }
}
