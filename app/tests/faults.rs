//! What can be wrong with a disk or a start, against the real binary: nothing is lost, nothing is reset,
//! and somebody is told.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::client::{Client, Crowd, get};
use support::volume::{Volume, fill};
use support::{Server, as_nobody, command, is_root, refusal, until};
use tempfile::TempDir;

#[test]
fn garbage_is_refused_with_the_path_the_reason_and_the_next_step() {
    let volume = TempDir::new().unwrap();
    fs::write(volume.path().join("visits"), "seven\n").unwrap();
    let (code, said) = refusal(command(volume.path(), &[]));
    assert_eq!(code, Some(1), "{said}");
    let path = volume.path().join("visits");
    assert!(said.contains(&format!("error: {} does not hold a number", path.display())), "{said}");
    assert!(said.contains("`seven\\n`") && said.contains("next:"), "{said}");
    assert_eq!(fs::read_to_string(path).unwrap(), "seven\n");
}

#[test]
fn settings_that_make_no_sense_are_refused_all_at_once() {
    let volume = TempDir::new().unwrap();
    let (code, said) = refusal(command(volume.path(), &[("LISTEN", "here"), ("LOG_FORMAT", "xml")]));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("LISTEN=here") && said.contains("LOG_FORMAT=xml"), "{said}");
}

#[test]
fn an_address_in_use_is_told() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = Server::start(one.path());
    let (code, said) = refusal(command(two.path(), &[("LISTEN", &server.address.to_string())]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("could not listen on {}", server.address)), "{said}");
    assert!(said.contains("next: stop what listens there"), "{said}");
}

#[test]
fn a_second_process_on_the_volume_is_refused_and_the_first_goes_on() {
    let volume = TempDir::new().unwrap();
    let server = Server::with(volume.path(), &[("POD_NAME", "counter-0")]);
    get(server.address, "/");
    let (code, said) = refusal(command(volume.path(), &[("POD_NAME", "counter-1")]));
    assert_eq!(code, Some(1), "{said}");
    let holder = format!("in use by counter-0 (process {} ", server.pid());
    assert!(said.contains(&holder) && said.contains("next: stop that process"), "{said}");
    assert_eq!(get(server.address, "/").visits(), 2);
    // The holder's death frees the volume, whatever it leaves behind.
    server.kill();
    assert_eq!(get(Server::start(volume.path()).address, "/visits").visits(), 2);
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_at_the_start() {
    let place = TempDir::new().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let volume = place.path().join("data");
    fs::create_dir(&volume).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o555)).unwrap();
    let (code, said) = match is_root() {
        true => refusal(as_nobody(&volume, place.path())),
        false => refusal(command(&volume, &[])),
    };
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Permission denied") && said.contains("next: let uid"), "{said}");
}

#[test]
fn a_file_of_somebody_else_is_refused_and_kept() {
    if !is_root() {
        return eprintln!("skipped: only root can give files away");
    }
    let place = TempDir::new().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let volume = place.path().join("data");
    fs::create_dir(&volume).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    let file = volume.join("visits");
    fs::write(&file, "7\n").unwrap();
    chown(&file, Some(1234), Some(1234)).unwrap();
    let (code, said) = refusal(as_nobody(&volume, place.path()));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("belongs to uid 1234") && said.contains("chown 65532"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "7\n");
    let left = ["visits.new", "visits.log", "visits.tmp"].map(|name| volume.join(name).exists());
    assert_eq!(left, [false; 3], "the refused start left a file");
}

#[test]
fn a_full_disk_refuses_visits_and_recovers_when_there_is_room() {
    let Some(volume) = Volume::tmpfs(64) else { return };
    let mut server = Server::start(&volume.path());
    let mut client = Client::connect(server.address).unwrap();
    assert_eq!(client.get("/").unwrap().visits(), 1);

    let filler = fill(&volume.path());
    // Where the number is, there is room for another one of as many digits.
    for visits in 2..=9 {
        assert_eq!(client.get("/").unwrap().visits(), visits);
    }
    for _ in 0..3 {
        let answer = client.get("/").unwrap();
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.body.contains("not counted"), "{answer:?}");
    }
    let unready = client.get("/readyz").unwrap();
    assert_eq!(unready.status, 503);
    assert!(unready.body.contains("No space left on device"), "{unready:?}");
    assert_eq!(client.get("/healthz").unwrap().status, 200, "a restart would not make room");
    assert_eq!(client.get("/visits").unwrap().visits(), 9, "reads go on");
    assert_eq!(fs::read_to_string(volume.path().join("visits")).unwrap(), "9\n");
    let line = server.logged("visits are refused");
    assert!(line.contains("visits.new") && line.contains("free space on the volume"), "{line}");
    assert!(client.get("/metrics").unwrap().body.contains("counter_disk_errors_total{step=\"write\"}"));

    fs::remove_file(filler).unwrap();
    // By itself: nobody visits.
    until("ready again", || client.get("/readyz").unwrap().status == 200);
    server.logged("the disk works again");
    assert_eq!(client.get("/").unwrap().visits(), 10);
}

#[test]
fn a_disk_that_is_full_at_the_start_is_refused_and_keeps_its_count() {
    let Some(volume) = Volume::tmpfs(64) else { return };
    fs::write(volume.path().join("visits"), "7\n").unwrap();
    let filler = fill(&volume.path());
    let (code, said) = refusal(command(&volume.path(), &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("No space left") && said.contains("next: free space"), "{said}");
    assert_eq!(fs::read_to_string(volume.path().join("visits")).unwrap(), "7\n");
    fs::remove_file(filler).unwrap();
    assert_eq!(get(Server::start(&volume.path()).address, "/").visits(), 8);
}

#[test]
fn a_volume_that_turns_read_only_refuses_visits_and_recovers() {
    let Some(volume) = Volume::tmpfs(64) else { return };
    let server = Server::start(&volume.path());
    let mut client = Client::connect(server.address).unwrap();
    assert_eq!(client.get("/").unwrap().visits(), 1);
    // The counter lets go of its files a moment after the last visit.
    until("it can be remounted", || volume.remount("ro"));
    assert_eq!(client.get("/").unwrap().status, 503);
    let unready = client.get("/readyz").unwrap();
    assert!(unready.status == 503 && unready.body.contains("Read-only file system"), "{unready:?}");
    assert_eq!(client.get("/visits").unwrap().visits(), 1);
    assert!(volume.remount("rw"));
    until("ready again", || client.get("/readyz").unwrap().status == 200);
    assert_eq!(client.get("/").unwrap().visits(), 2);
}

#[test]
fn a_read_only_volume_is_refused_at_the_start() {
    let Some(volume) = Volume::tmpfs(64) else { return };
    fs::write(volume.path().join("visits"), "7\n").unwrap();
    assert!(volume.remount("ro"));
    let (code, said) = refusal(command(&volume.path(), &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Read-only file system") && said.contains("next: mount the volume"), "{said}");
}

#[test]
fn a_failed_fsync_is_a_failed_visit_and_the_disk_may_come_back() {
    // Without a journal, which would give up on the whole file system after its first failed write.
    let Some(volume) = Volume::ext4_on_a_small_disk(4096, &["-O", "^has_journal"]) else {
        return;
    };
    let mut server = Server::start(&volume.path());
    let mut client = Client::connect(server.address).unwrap();
    assert_eq!(client.get("/").unwrap().visits(), 1);

    // The file system has room and takes every write; only the disk below it has not.
    let filler = fill(&volume.disk());
    // Blocks the disk already has are written without complaint: take a few visits until a new one is needed.
    let mut counted = 1;
    until("a visit is refused", || match client.get("/").unwrap() {
        answer if answer.status == 200 => {
            counted = answer.visits();
            false
        }
        _ => true,
    });
    let line = server.logged("visits are refused");
    assert!(line.contains("could not sync"), "the fault is another than the one meant: {line}");
    assert_eq!(client.get("/visits").unwrap().visits(), counted);
    assert_eq!(client.get("/readyz").unwrap().status, 503);

    fs::remove_file(filler).unwrap();
    until("ready again", || client.get("/readyz").unwrap().status == 200);
    assert_eq!(client.get("/").unwrap().visits(), counted + 1);
    server.kill();
    assert_eq!(get(Server::start(&volume.path()).address, "/visits").visits(), counted + 1);
}

#[test]
fn a_disk_that_hangs_holds_up_visits_and_nobody_else() {
    let Some(volume) = Volume::ext4_on_a_small_disk(32 << 10, &[]) else {
        return;
    };
    let server = Server::start(&volume.path());
    let mut reader = Client::connect(server.address).unwrap();
    assert_eq!(reader.get("/").unwrap().visits(), 1);

    let Some(frozen) = volume.freeze() else { return };
    let mut visitors: Vec<_> = (0..4).map(|_| Client::connect(server.address).unwrap()).collect();
    for visitor in &mut visitors {
        visitor.ask("/").unwrap();
    }
    until("the write is under way", || server.has_a_thread_that_waits_for_the_disk());
    for _ in 0..10 {
        assert_eq!(reader.get("/visits").unwrap().visits(), 1, "a number that is not on disk was shown");
        assert_eq!(reader.get("/healthz").unwrap().status, 200, "a restart would not help the disk");
    }
    assert_eq!(get(server.address, "/visits").visits(), 1, "a client that is new is served, too");

    drop(frozen);
    let mut numbers: Vec<_> = visitors.iter_mut().map(|visitor| visitor.answer().unwrap().visits()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3, 4, 5]);
}

#[test]
fn a_disk_that_hangs_at_the_end_is_told_and_waited_for_in_vain_only_briefly() {
    let Some(volume) = Volume::ext4_on_a_small_disk(32 << 10, &[]) else {
        return;
    };
    let mut server = Server::start(&volume.path());
    let mut visitor = Client::connect(server.address).unwrap();
    assert_eq!(visitor.get("/").unwrap().visits(), 1);

    let Some(frozen) = volume.freeze() else { return };
    visitor.ask("/").unwrap();
    until("the write is under way", || server.has_a_thread_that_waits_for_the_disk());
    let asked = Instant::now();
    server.signal(Signal::TERM);
    assert!(visitor.answer().is_err(), "a visit that is not on disk was answered");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());

    // The kernel lets nobody go who waits for a disk: only now can the process end, and its log.
    drop(frozen);
    server.logged("the disk hangs");
    let (status, _) = server.terminate();
    assert_eq!(status.code(), Some(0));
    // Nobody was told a number: the visit may be on disk or not, once at most.
    let visits = get(Server::start(&volume.path()).address, "/visits").visits();
    assert!((1..=2).contains(&visits), "{visits} visits");
}

#[test]
fn visits_refused_under_load_are_not_counted_and_answered_ones_are() {
    let Some(volume) = Volume::tmpfs(64) else { return };
    let server = Server::start(&volume.path());
    let crowd = Crowd::visiting(server.address, 8);
    for round in 1..=3 {
        let answered = crowd.answered();
        until("some visits are answered", || crowd.answered() > answered + 50);
        let filler = fill(&volume.path());
        let refused = crowd.refused();
        until("some visits are refused", || crowd.refused() > refused + 20);
        fs::remove_file(filler).unwrap();
        eprintln!("round {round}: {} answered, {} refused", crowd.answered(), crowd.refused());
    }
    let (_, answered, highest) = crowd.leave();
    // Nobody was cut off, so both are exact.
    assert_eq!(get(server.address, "/visits").visits(), answered);
    assert_eq!(highest, answered);
}

#[test]
fn a_process_that_stood_still_loses_no_visit_when_its_clocks_leap() {
    let volume = TempDir::new().unwrap();
    let server = Server::with(volume.path(), &[("HEADER_TIMEOUT_MS", "200"), ("WRITE_TIMEOUT_MS", "200")]);
    let crowd = Crowd::visiting(server.address, 16);
    for _ in 0..3 {
        let answered = crowd.answered();
        until("visits are answered", || crowd.answered() > answered + 50);
        // To the process, all its clocks leap past every deadline it has set, with visits under way.
        server.stop();
        let stopped = Instant::now();
        until("longer than the timeouts", || stopped.elapsed() > Duration::from_millis(400));
        server.signal(Signal::CONT);
    }
    let answered = crowd.answered();
    until("visits are answered again", || crowd.answered() > answered + 50);
    assert_eq!(crowd.refused(), 0);
    let (_, answered, highest) = crowd.leave();
    assert_eq!((get(server.address, "/visits").visits(), highest), (answered, answered));
}
