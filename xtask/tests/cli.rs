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
    let left = home.path().read_dir().unwrap().next();
    assert!(left.is_none(), "left behind: {left:?}");
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

/// A front whose cargo does as the script says, on a machine that has nothing and where nothing can be installed. `HOME`
/// of the script is a folder of the test's.
fn with_cargo(home: &Path, script: &str, args: &[&str]) -> Output {
    let program = |name: &str, script: &str| {
        let path = home.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    };
    let engine = program("engine", "echo became $*");
    let made = serde_json::json!({
        "reason": "compiler-artifact", "target": { "name": "engine" }, "executable": engine,
    });
    let cargo = program("cargo", &script.replace("MADE", &format!("echo '{made}'")));
    xtask(args)
        .env("PATH", "")
        .env("HOME", home)
        .env("XDG_CACHE_HOME", home.join("cache"))
        .env("CARGO_TARGET_DIR", home.join("target"))
        .env("CARGO", cargo)
        .output()
        .unwrap()
}

#[test]
fn with_nothing_to_compile_the_program_is_there_at_once_and_stdout_is_its_own() {
    let home = tempfile::tempdir().unwrap();
    for args in [&["lab", "--setup"][..], &["lab", "--list"]] {
        let output = with_cargo(home.path(), "echo Compiling >&2; MADE", args);
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("became {}\n", args.join(" ")));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
}

#[test]
fn a_program_that_does_not_compile_is_told_with_all_that_cargo_says() {
    let home = tempfile::tempdir().unwrap();
    let output = with_cargo(home.path(), "echo error: no such type >&2; exit 101", &["lab", "--setup"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{}", text(&output));
    for expected in ["error: no such type", "the engine of the lab does not compile"] {
        assert!(text(&output).contains(expected), "{}", text(&output));
    }
}

#[test]
fn what_is_to_be_installed_is_begun_while_the_program_compiles_and_a_failure_ends_both() {
    let home = tempfile::tempdir().unwrap();
    let sleep = ["/bin/sleep", "/usr/bin/sleep"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    let script = format!("{sleep} 20; echo compiled >$HOME/compiled; MADE");
    let started = std::time::Instant::now();
    let output = with_cargo(home.path(), &script, &["lab", "--setup"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{}", text(&output));
    assert!(text(&output).contains("packages are missing"), "{}", text(&output));
    assert!(started.elapsed().as_secs() < 15 && !home.path().join("compiled").exists());
}
