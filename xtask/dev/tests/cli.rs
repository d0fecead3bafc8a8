//! The program as its own tests call it.

use std::process::Command;

/// `cargo xtask test` and `cargo xtask screencast` run the lab in a process of its own.
#[test]
fn the_program_runs_the_lab_when_its_own_tests_call_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_dev")).args(["lab", "--list"]).output().unwrap();
    let listed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(listed.contains("persistence · "), "{listed}");
}
