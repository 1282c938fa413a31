//! The loadable extension, built once for the tests and the demo.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The loadable extension: what `CRSQL_EXTENSION` names, or what `cargo ext` builds now.
pub fn loadable() -> Result<PathBuf, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build(false)).clone()
}

/// Builds the extension; with cargo's own progress on standard error if `aloud`.
pub fn build(aloud: bool) -> Result<PathBuf, String> {
    if let Ok(path) = std::env::var("CRSQL_EXTENSION") {
        return std::path::absolute(&path).map_err(|error| format!("CRSQL_EXTENSION={path}: {error}"));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.arg("ext").current_dir(crate::files::workspace());
    let built = match aloud {
        true => command.status().map(|status| (status, String::new())),
        false => {
            let output = command.stdin(Stdio::null()).output();
            output.map(|output| (output.status, String::from_utf8_lossy(&output.stderr).into_owned()))
        }
    };
    let (status, messages) = built.map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err(format!("cargo ext failed\n{messages}"));
    }
    let path = target_directory()?.join("release").join(library_name());
    match path.exists() {
        true => Ok(path),
        false => Err(format!("cargo ext built no {}", path.display())),
    }
}

/// Cargo's target directory: the one that holds this program.
pub fn target_directory() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let marked = program.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    marked
        .map(PathBuf::from)
        .ok_or_else(|| format!("{} is in no target directory of cargo", program.display()))
}

fn library_name() -> String {
    format!("{}crsql{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}
