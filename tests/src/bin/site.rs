//! A replica in a process of its own, driven line by line: `site FILE`.
//!
//! Each line of standard input is SQL; the answer is one line, `ok` with the rows joined by `;`, or `error` with
//! the message. Tests use it for several processes on one file, and kill it in the middle of a transaction.

use crsql_tests::Site;
use std::io::{BufRead, Write};

fn main() {
    let path = std::env::args().nth(1).expect("usage: site FILE");
    let site = Site::open(path);
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is readable");
        let answer = match site.conn.prepare(&line).map(drop) {
            Ok(()) => site.try_values_with(&line, &[]),
            Err(error) => Err(crsql_tests::site::message(error)),
        };
        let answer = match answer {
            Ok(rows) => {
                let rows: Vec<String> = rows.iter().map(|row| crsql_tests::value::render_row(row)).collect();
                format!("ok {}", rows.join(";"))
            }
            Err(message) => format!("error {message}"),
        };
        println!("{}", answer.replace('\n', " "));
        std::io::stdout().flush().expect("standard output is writable");
    }
}
