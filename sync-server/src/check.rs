//! `crsql-server check-config`: says whether the configuration is sound, and what it comes to.

use std::process::ExitCode;

use crate::config::{Flags, Settings};

/// Prints every setting as the TOML file would have it.
pub fn main(flags: &Flags) -> ExitCode {
    match Settings::load(flags) {
        Ok(settings) => {
            settings.shown().iter().for_each(|(name, value)| println!("{name} = {value:?}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("crsql-server: {error}");
            ExitCode::from(2)
        }
    }
}
