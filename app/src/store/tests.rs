//! What a volume may hold when we come, and what we leave on it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;

fn identity(pod: &str) -> Identity {
    Identity { pod: pod.to_owned(), hostname: "host".to_owned(), revision: "v1".to_owned() }
}

fn open(folder: &Path) -> Result<(Store, u64), StoreError> {
    Store::open(folder, &identity("counter-0"))
}

fn volume_with(text: &[u8]) -> TempDir {
    let volume = TempDir::new().unwrap();
    fs::write(volume.path().join("visits"), text).unwrap();
    volume
}

#[test]
fn a_new_volume_starts_at_zero_and_shows_it() {
    let volume = TempDir::new().unwrap();
    let (_store, visits) = open(volume.path()).unwrap();
    assert_eq!(visits, 0);
    assert_eq!(fs::read_to_string(volume.path().join("visits")).unwrap(), "0\n");
}

#[test]
fn what_was_written_is_read_again() {
    let volume = TempDir::new().unwrap();
    let (mut store, _) = open(volume.path()).unwrap();
    store.write(41).unwrap();
    store.write(42).unwrap();
    drop(store);
    assert_eq!(fs::read_to_string(volume.path().join("visits")).unwrap(), "42\n");
    assert_eq!(open(volume.path()).unwrap().1, 42);
}

#[test]
fn a_number_written_by_hand_is_taken() {
    for (text, expected) in [("7", 7), ("7\n", 7), ("007\n", 7), ("18446744073709551615\n", u64::MAX)] {
        assert_eq!(open(volume_with(text.as_bytes()).path()).unwrap().1, expected, "{text:?}");
    }
}

#[test]
fn what_is_not_a_number_is_refused_and_left_as_it_is() {
    for text in [
        &b""[..],
        b"\n",
        b"-1\n",
        b"+1\n",
        b"1.5\n",
        b"0x10\n",
        b" 7\n",
        b"7\n\n",
        b"7\0",
        b"hello\n",
        b"18446744073709551616\n",
        b"\xff\xfe",
        &[b'1'; 5000],
    ] {
        let volume = volume_with(text);
        let refusal = open(volume.path()).unwrap_err();
        let shown = text[..text.len().min(12)].escape_ascii();
        assert!(matches!(refusal, StoreError::NotANumber { .. }), "{shown}: {refusal}");
        let told = refusal.report().to_string();
        assert!(
            told.contains("visits does not hold a number") && told.contains("next: put the right"),
            "{told}"
        );
        assert_eq!(fs::read(volume.path().join("visits")).unwrap(), text, "{shown} was changed");
    }
}

#[test]
fn what_is_not_a_file_is_refused_and_does_not_hang_the_start() {
    let make: [fn(&Path); 3] = [
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("/etc/hostname", path).unwrap(),
        |path| {
            let kind = rustix::fs::FileType::Fifo;
            let mode = Mode::from_raw_mode(0o644);
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
        },
    ];
    for make in make {
        let volume = TempDir::new().unwrap();
        let path = volume.path().join("visits");
        make(&path);
        let before = fs::symlink_metadata(&path).unwrap().file_type();
        let refusal = open(volume.path()).unwrap_err();
        assert!(matches!(refusal, StoreError::NotAFile { .. }), "{refusal}");
        assert_eq!(fs::symlink_metadata(&path).unwrap().file_type(), before);
    }
}

#[test]
fn a_missing_folder_is_named_and_not_made() {
    let volume = TempDir::new().unwrap();
    let missing = volume.path().join("nowhere");
    let told = open(&missing).unwrap_err().report().to_string();
    assert!(told.contains("could not open the folder") && told.contains("nowhere"), "{told}");
    assert!(told.contains("next: mount a volume there"), "{told}");
    assert!(!missing.exists());
}

#[test]
fn a_left_over_temp_file_is_nobodys_count() {
    let volume = volume_with(b"7\n");
    fs::write(volume.path().join("visits.tmp"), "9000").unwrap();
    let (mut store, visits) = open(volume.path()).unwrap();
    assert_eq!(visits, 7);
    store.write(8).unwrap();
    assert_eq!(fs::read_to_string(volume.path().join("visits")).unwrap(), "8\n");
    assert!(!volume.path().join("visits.tmp").exists());
}

#[test]
fn a_link_left_in_the_temp_files_place_is_not_written_through() {
    let volume = volume_with(b"7\n");
    let victim = volume.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, volume.path().join("visits.tmp")).unwrap();
    open(volume.path()).unwrap().0.write(8).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_second_writer_is_refused_and_told_who_holds_the_volume() {
    let volume = volume_with(b"7\n");
    let first = open(volume.path()).unwrap();
    let refusal = Store::open(volume.path(), &identity("counter-1")).unwrap_err();
    assert!(matches!(refusal, StoreError::InUse { .. }), "{refusal}");
    let me = format!("in use by counter-0 (process {} on host)", std::process::id());
    assert!(refusal.to_string().contains(&me), "{refusal}");
    drop(first);
    assert_eq!(Store::open(volume.path(), &identity("counter-1")).unwrap().1, 7);
}

#[test]
fn the_clock_decides_nothing() {
    let far = Duration::from_secs(50 * 365 * 24 * 3600);
    for modified in [SystemTime::UNIX_EPOCH, SystemTime::now() + far] {
        let volume = volume_with(b"7\n");
        for name in ["visits", "visits.tmp", "visits.lock"] {
            let path = volume.path().join(name);
            let file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
            file.set_modified(modified).unwrap();
        }
        let (mut store, visits) = open(volume.path()).unwrap();
        assert_eq!(visits, 7);
        store.write(8).unwrap();
        drop(store);
        assert_eq!(open(volume.path()).unwrap().1, 8);
    }
}
