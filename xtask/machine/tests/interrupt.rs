//! Signals that come after the work has ended: heard, told, and obeyed at the second. In processes of their own.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use machine::interrupt;
use rustix::process::{Pid, Signal, kill_process};

const CHILD: &str = "INTERRUPT_TEST_CHILD";

/// What the other tests send signals to: work that has ended, then a long farewell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(seconds) = std::env::var(CHILD) else { return };
    interrupt::or(async { Ok(()) }).await.unwrap();
    let _listening = interrupt::meanwhile("removing what was set up").unwrap();
    eprintln!("begun");
    // Files are written by a thread that waits for nothing: nor does it look whether a signal came.
    std::thread::sleep(Duration::from_millis(seconds.parse::<u64>().unwrap()));
    eprintln!("ended");
}

fn begun(lasting_ms: u64) -> (Child, BufReader<ChildStderr>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, lasting_ms.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    until(&mut told, "begun");
    (child, told)
}

fn until(told: &mut impl BufRead, word: &str) {
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert_ne!(told.read_line(&mut line).unwrap(), 0, "it ended without {word:?}");
    }
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_signal_after_the_work_is_answered_and_what_is_under_way_goes_on() {
    let (mut child, mut told) = begun(2000);
    send(&child, Signal::INT);
    until(&mut told, "Ctrl-C: still removing what was set up; once more quits at once");
    until(&mut told, "ended");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_second_signal_after_the_work_quits() {
    let (mut child, mut told) = begun(60_000);
    send(&child, Signal::INT);
    until(&mut told, "once more quits");
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
