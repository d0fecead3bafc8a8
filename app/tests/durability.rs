//! Kill the real process under load, reopen: no answered visit is missing.
//!
//! `COUNTER_CRASH_ROUNDS` sets how many times (default 25), for a longer test; a tenth of them are power cuts.

mod support;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::{Duration, Instant};

use support::client::{Client, Crowd, get};
use support::volume::Volume;
use support::{PATIENCE, Server, until};
use tempfile::TempDir;

fn rounds(default: u64) -> u64 {
    match std::env::var("COUNTER_CRASH_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("COUNTER_CRASH_ROUNDS is a number"),
        Err(_) => default,
    }
}

/// Some moment in the next `below` milliseconds.
fn some_time(below: u64) -> Duration {
    Duration::from_micros(RandomState::new().hash_one(0) % (below * 1000))
}

/// The number as `cat` shows it.
fn on_disk(volume: &Path) -> u64 {
    fs::read_to_string(volume.join("visits")).unwrap().trim().parse().unwrap()
}

#[test]
fn sigkill_at_any_moment_loses_no_answered_visit_and_invents_none() {
    let volume = TempDir::new().unwrap();
    let (mut at_least, mut at_most, mut answers) = (0, 0, 0);
    for round in 1..=rounds(25) {
        let server = Server::start(volume.path());
        let started = get(server.address, "/visits").visits();
        assert!(
            (at_least..=at_most).contains(&started),
            "round {round}: {started} visits after a crash, {at_least} answered, {at_most} asked for"
        );
        let crowd = Crowd::visiting(server.address, 16);
        // Not waiting for something: the moment is meant to be any.
        std::thread::sleep(some_time(60));
        server.kill();
        let (sent, answered, highest) = crowd.leave();
        assert_eq!(on_disk(volume.path()).max(highest), on_disk(volume.path()), "round {round}");
        at_least = started + answered;
        at_most = started + sent;
        answers += answered;
        assert!(highest <= at_most, "round {round}: an answer said {highest}, {at_most} were asked for");
    }
    assert!(answers > 0, "nobody was ever answered: the test tests nothing");
    let last = get(Server::start(volume.path()).address, "/visits").visits();
    assert!((at_least..=at_most).contains(&last), "{last} is not in {at_least}..={at_most}");
}

#[test]
fn a_power_cut_at_any_moment_loses_no_answered_visit() {
    for round in 1..=rounds(40).div_ceil(10) {
        let Some(volume) = Volume::ext4_on_a_small_disk(32 << 10, &[]) else {
            return;
        };
        let server = Server::start(&volume.path());
        let crowd = Crowd::visiting(server.address, 8);
        until("visits are answered", || crowd.answered() > 20);
        std::thread::sleep(some_time(30));
        // What the disk holds now is what a machine finds after a power cut: nothing the file system still
        // keeps in memory is in the image.
        server.stop();
        let answered = crowd.answered();
        let after = volume.disk().join("after");
        fs::copy(volume.image(), &after).unwrap();
        server.kill();
        let (sent, ..) = crowd.leave();
        let Some(found) = Volume::ext4_from(&after) else {
            return;
        };
        let visits = get(Server::start(&found.path()).address, "/visits").visits();
        assert!(
            (answered..=sent).contains(&visits),
            "round {round}: {visits} visits after a power cut, {answered} answered, {sent} asked for"
        );
    }
}

#[test]
fn sigterm_under_load_answers_everyone_it_counts_and_ends_well_within_two_seconds() {
    let volume = TempDir::new().unwrap();
    let server = Server::start(volume.path());
    let crowd = Crowd::visiting(server.address, 64);
    until("visits are answered", || crowd.answered() > 200);
    let (status, took) = server.terminate();
    let (_, answered, highest) = crowd.leave();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    // Exactly: a visit that was counted was answered too, and the other way round.
    assert_eq!((on_disk(volume.path()), highest), (answered, answered));
}

#[test]
fn readiness_goes_first_and_visitors_are_served_until_the_drain_is_over() {
    let volume = TempDir::new().unwrap();
    let mut server = Server::with(volume.path(), &[("DRAIN_MS", "1000")]);
    let mut early = Client::connect(server.address).unwrap();
    assert_eq!(early.get("/readyz").unwrap().status, 200);
    server.signal(rustix::process::Signal::TERM);
    server.logged("no longer ready");
    let unready = early.get("/readyz").unwrap();
    assert!(unready.status == 503 && unready.body.contains("shutting down"), "{unready:?}");
    // Whoever has not heard of it yet is not refused.
    assert_eq!(get(server.address, "/").visits(), 1);
    assert_eq!(early.get("/").unwrap().visits(), 2);
    let (status, _) = server.terminate();
    assert_eq!(status.code(), Some(0));
    assert_eq!(on_disk(volume.path()), 2);
}

#[test]
fn clients_that_do_not_finish_do_not_keep_the_process() {
    use std::io::Write;
    let volume = TempDir::new().unwrap();
    let server = Server::start(volume.path());
    let mut half = std::net::TcpStream::connect(server.address).unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: t").unwrap();
    let _silent = std::net::TcpStream::connect(server.address).unwrap();
    let mut idle = Client::connect(server.address).unwrap();
    idle.get("/").unwrap();
    let (status, took) = server.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(on_disk(volume.path()), 1);
}

#[test]
fn reads_of_a_crowd_never_go_back() {
    let volume = TempDir::new().unwrap();
    let server = Server::start(volume.path());
    let crowd = Crowd::visiting(server.address, 16);
    until("visits are answered", || crowd.answered() > 100);
    let mut reader = Client::connect(server.address).unwrap();
    let mut last = 0;
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(300) {
        let before = crowd.answered();
        let visits = reader.get("/visits").unwrap().visits();
        assert!(visits >= before, "a read said {visits}, and {before} visits had been answered before");
        assert!(visits >= last, "a read said {visits} after {last}");
        last = visits;
        assert!(started.elapsed() < PATIENCE);
    }
    crowd.leave();
}
