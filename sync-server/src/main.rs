//! The command line.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use crsql_server::{backup, check, config, doctor, serve, sync};

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
    /// Fetches a backup of a room from a running relay: one SQLite file
    Backup(backup::Backup),
    /// Puts a backup in the place of a room of a stopped relay. Clients bring back what was written since
    Restore(backup::Restore),
    /// Looks through the data of a relay, or a database file, for damage
    Doctor(doctor::Flags),
    /// Says whether the configuration is sound, and what it comes to
    CheckConfig(config::Flags),
}

fn main() -> std::process::ExitCode {
    match Cli::parse().command {
        Command::Serve(flags) => serve::main(&flags),
        Command::Sync(flags) => sync::main(flags),
        Command::Backup(flags) => backup::backup(&flags),
        Command::Restore(flags) => backup::restore(&flags),
        Command::Doctor(flags) => doctor::main(&flags),
        Command::CheckConfig(flags) => check::main(&flags),
    }
}
