//! The program as a user calls it, without a cluster: exit codes, and errors that say what to do next.

use std::path::Path;
use std::process::{Command, Output};

fn xtask(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn help_teaches_the_first_command_and_the_exit_codes() {
    let output = xtask(&["--help"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success());
    for expected in ["cargo xtask lab --setup", "Exit codes:", "4  committed evidence is out of date"] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
    assert!(xtask(&["lab", "--help"]).output().unwrap().status.success());
}

/// A machine without engine, Go or cache: what is missing is listed with the command that helps, and the machine is
/// left as it was.
#[test]
fn without_an_engine_the_doctor_ends_with_3_and_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        xtask(args)
            .env("PATH", "")
            .env("HOME", home.path())
            .env("XDG_CACHE_HOME", home.path().join("cache"))
            .output()
            .unwrap()
    };
    let output = run(&["doctor"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    for expected in ["container engine", "kind", "kubectl", "helm", "cargo xtask setup"] {
        assert!(text(&output).contains(expected), "{expected} is not in:\n{}", text(&output));
    }
    let left: Vec<_> = walk(home.path());
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// As `doctor | head` does it. A program that panics ends with 101.
#[test]
fn who_reads_the_result_may_leave_before_its_end() {
    let home = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut doctor = xtask(&["doctor"]);
    doctor.env("PATH", "").env("HOME", home.path()).env("XDG_CACHE_HOME", home.path().join("cache"));
    let status = doctor.stdout(writer.try_clone().unwrap()).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(3));
}

fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.display().to_string());
        if path.is_dir() {
            found.extend(walk(&path));
        }
    }
    found
}
