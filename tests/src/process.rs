//! A replica in another process, so that tests can interleave processes and kill one.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running `site` process; killed on drop.
pub struct SiteProcess {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl SiteProcess {
    /// Starts `program`, which is `env!("CARGO_BIN_EXE_site")` of the calling test, on a database file.
    pub fn start(program: &str, database: &Path) -> SiteProcess {
        let mut child = Command::new(program)
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        SiteProcess { child, input, output }
    }

    /// Runs one line of SQL and gives its rows joined by `;`; panics on an error.
    pub fn exec(&mut self, sql: &str) -> String {
        self.try_exec(sql).unwrap_or_else(|error| panic!("{error}\n  in: {sql}"))
    }

    /// Runs one line of SQL.
    pub fn try_exec(&mut self, sql: &str) -> Result<String, String> {
        let input = self.input.as_mut().expect("the process is running");
        writeln!(input, "{}", sql.replace('\n', " ")).expect("the process reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the process answers");
        let line = line.trim_end_matches('\n');
        match line.split_once(' ') {
            Some(("ok", rows)) => Ok(rows.to_string()),
            Some(("error", message)) => Err(message.to_string()),
            _ => panic!("the process ended while running: {sql}"),
        }
    }

    /// Sends one line of SQL and does not wait for its answer: for a process that is about to be killed.
    pub fn send(&mut self, sql: &str) {
        let input = self.input.as_mut().expect("the process is running");
        writeln!(input, "{}", sql.replace('\n', " ")).expect("the process reads");
    }

    /// Kills the process at once, as a crash would.
    pub fn kill(mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process ends");
    }

    /// Lets the process end by itself and panics unless it ends well.
    pub fn finish(mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("the process ends");
        assert!(status.success(), "the process ended with {status}");
    }
}

impl Drop for SiteProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
