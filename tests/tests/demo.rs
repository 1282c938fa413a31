//! The demo of the README runs and ends with equal replicas.

use std::process::Command;

#[test]
fn the_demo_ends_with_three_equal_replicas() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).output().expect("the demo starts");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{errors}");
    assert!(told.contains("All three replicas are equal"), "{told}");
    assert_eq!(told.matches("equal, byte for byte").count(), 6, "{told}");
}
