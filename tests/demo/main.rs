//! The demo: three replicas of a published data set edit apart and converge. `cargo demo` runs it.
//!
//! Everything happens through the loadable extension, which the demo builds first, on the SQLite that rusqlite
//! bundles; a Python script or the sqlite3 shell would do the same with the same SQL.

mod data;
mod exchange;
mod extension;
mod replica;
mod show;
mod story;
mod verdict;

use show::{headline, line};
use std::path::Path;
use std::process::ExitCode;

/// Anything that goes wrong ends the demo with its message.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<bool> {
    println!("crsql: three replicas of the Unicode character database edit apart and converge");

    headline("The extension");
    let extension = extension::build()?;

    headline("The data");
    let directory = crsql_tests::extension::target_directory()?.join("demo");
    let [ana, ben, chloe] = replica::create(&directory, &extension)?;
    data::load(&ana)?;
    for other in [&ben, &chloe] {
        exchange::first_copy(&ana, other)?;
    }

    headline("Apart");
    line("Nobody talks to anybody; everybody writes plain SQL.");
    story::edit_apart(&ana, &ben, &chloe)?;

    headline("The exchange");
    line("Ana and Chloé never meet. Letters arrive twice, late, and in the wrong order.");
    exchange::awkwardly(&ana, &ben, &chloe)?;

    headline("The verdict");
    let equal = verdict::compare(&[&ana, &ben, &chloe])?;
    story::tell_conflicts(&ana, &[&ana, &ben, &chloe])?;
    conclude(equal, &extension, &directory);
    Ok(equal)
}

fn conclude(equal: bool, extension: &Path, directory: &Path) {
    println!();
    if !equal {
        return println!("The replicas differ. That is a bug; the files are in {}.", directory.display());
    }
    println!("All three replicas are equal. Look around yourself:");
    println!("  sqlite3 {} \\", directory.join("ana.db").display());
    println!("    -cmd '.load {} sqlite3_crsql_init' \\", extension.display());
    println!(
        "    \"SELECT cid, val, col_version, hex(site_id) FROM crsql_changes ORDER BY db_version DESC LIMIT 10\""
    );
}
