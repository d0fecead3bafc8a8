//! The program as a user calls it, without a cluster: exit codes, and errors that say what to do next.

use std::process::{Command, Output};

fn engine(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.args(args);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn bad_usage_and_an_invalid_lab_end_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("lab.yaml");
    std::fs::write(&broken, "lab: x\ntitel: y\n").unwrap();
    let cases: [&[&str]; 8] = [
        &["lab", "--no-such-flag"],
        &["lab", "--only", "persistance"],
        &["lab", "--cluster", "context:"],
        &["lab", "--dry-run", "--lab", broken.to_str().unwrap()],
        &["lab", "--list", "--chart", "/"],
        &["grade"],
        &["grade", "/nowhere/chart"],
        &["grade", "--only", "persistance", "."],
    ];
    for case in cases {
        let output = engine(case).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{case:?}\n{}", text(&output));
    }
    let output = engine(&["lab", "--dry-run", "--lab", broken.to_str().unwrap()]).output().unwrap();
    assert!(text(&output).contains("lab.yaml:2:1: unknown field `titel`"), "{}", text(&output));
    let output = engine(&["lab", "--only", "persistance"]).output().unwrap();
    assert!(text(&output).contains("did you mean `persistence`?"), "{}", text(&output));
}

#[test]
fn a_dry_run_needs_no_cluster_and_no_tools() {
    let output = engine(&["lab", "--dry-run"]).env("PATH", "").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("12.5 points"), "{}", text(&output));
}

/// A machine without engine, Go or cache: what is missing is listed with the command that helps, and the machine is
/// left as it was.
#[test]
fn without_an_engine_the_lab_ends_with_3_and_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        engine(args)
            .env("PATH", "")
            .env("HOME", home.path())
            .env("XDG_CACHE_HOME", home.path().join("cache"))
            .output()
            .unwrap()
    };
    let output = run(&["lab"]);
    let text_of_lab = text(&output);
    assert_eq!(output.status.code(), Some(3), "{text_of_lab}");
    for expected in ["container engine", "kind", "kubectl", "helm", "--setup"] {
        assert!(text_of_lab.contains(expected), "{expected} is not in:\n{text_of_lab}");
    }
    let left = home.path().read_dir().unwrap().next();
    assert!(left.is_none(), "left behind: {left:?}");
}
