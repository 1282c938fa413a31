//! Writes the fixture databases of the present format: `cargo run -p crsql-tests --bin fixture`.

fn main() {
    match crsql_tests::fixture::write_all() {
        Ok(directory) => println!("written to {}", directory.display()),
        Err(message) => {
            eprintln!("{message}");
            std::process::exit(1);
        }
    }
}
