//! The command line.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use crsql_server::{check, config, serve, sync};

/// Keeps SQLite databases in sync.
#[derive(Parser)]
#[command(name = "crsql-server", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a relay. Without any option: on 127.0.0.1:8787, data under ./data
    Serve(config::Flags),
    /// Keeps a database file in sync, through relays and straight with peers
    Sync(sync::Flags),
    /// Says whether the configuration is sound, and what it comes to
    CheckConfig(config::Flags),
}

fn main() -> std::process::ExitCode {
    match Cli::parse().command {
        Command::Serve(flags) => serve::main(&flags),
        Command::Sync(flags) => sync::main(flags),
        Command::CheckConfig(flags) => check::main(&flags),
    }
}
