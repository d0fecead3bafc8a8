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
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
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
    assert!(volume.path().join("visits.tmp").is_dir(), "the barrier for older counters");
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
        for name in ["visits", "visits.tmp", "visits.lock", "visits.new"] {
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

/// A volume whose counter was cut off, not stopped, after it had answered 41 and 42.
fn cut_off_volume() -> TempDir {
    let volume = volume_with(b"40\n");
    let (mut store, _) = open(volume.path()).unwrap();
    store.write(41).unwrap();
    store.write(42).unwrap();
    volume
}

#[test]
fn a_counter_that_is_stopped_leaves_the_number_and_the_lock_and_nothing_else() {
    let volume = cut_off_volume();
    open(volume.path()).unwrap().0.close().unwrap();
    let mut left: Vec<_> =
        fs::read_dir(volume.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["visits", "visits.lock"]);
    // So whatever a person puts there afterwards counts.
    fs::write(volume.path().join("visits"), "7\n").unwrap();
    assert_eq!(open(volume.path()).unwrap().1, 7);
}

#[test]
fn a_write_changes_no_file_and_no_length_until_the_number_has_a_digit_more() {
    use std::os::unix::fs::MetadataExt;
    let volume = volume_with(b"7\n");
    let (mut store, _) = open(volume.path()).unwrap();
    let look = || {
        ["visits", "visits.log"].map(|name| {
            let found = fs::metadata(volume.path().join(name)).unwrap();
            (found.ino(), found.len(), found.blocks())
        })
    };
    let before = look();
    for visits in [8, 9] {
        store.write(visits).unwrap();
        assert_eq!(look(), before);
    }
    store.write(10).unwrap();
    assert_ne!(look(), before);
    assert_eq!(fs::read_to_string(volume.path().join("visits")).unwrap(), "10\n");
}

#[test]
fn an_older_counter_is_kept_out_until_this_one_was_stopped() {
    let volume = cut_off_volume();
    // The first thing it does with a volume that is not locked: it removes its temp file, or ends.
    let refused = fs::remove_file(volume.path().join("visits.tmp")).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::IsADirectory);
    open(volume.path()).unwrap().0.close().unwrap();
    let missing = fs::remove_file(volume.path().join("visits.tmp")).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}

#[test]
fn after_a_cut_the_record_is_right_and_a_number_that_it_cannot_explain_is_refused() {
    for (text, expected) in [("42\n", 42), ("41\n", 41 + 1), ("40\n", 42), ("43\n", 43), ("1000\n", 1000)] {
        let volume = cut_off_volume();
        fs::write(volume.path().join("visits"), text).unwrap();
        assert_eq!(open(volume.path()).unwrap().1, expected, "{text:?}");
    }
    let volume = cut_off_volume();
    fs::remove_file(volume.path().join("visits")).unwrap();
    assert_eq!(open(volume.path()).unwrap().1, 42, "the file was lost");

    let volume = cut_off_volume();
    fs::write(volume.path().join("visits"), "39\n").unwrap();
    let told = open(volume.path()).unwrap_err().report().to_string();
    assert!(told.contains("visits says 39") && told.contains("visits.log knows of 42"), "{told}");
    assert_eq!(fs::read_to_string(volume.path().join("visits")).unwrap(), "39\n");
    // What it says helps.
    assert!(told.contains("next: if 39 is right, remove"), "{told}");
    fs::remove_file(volume.path().join("visits.log")).unwrap();
    assert_eq!(open(volume.path()).unwrap().1, 39);
}

#[test]
fn a_record_that_no_write_of_ours_leaves_is_refused_and_left_as_it_is() {
    let good = fs::read(cut_off_volume().path().join("visits.log")).unwrap();
    let later = [&b"form 2"[..], &good[6..]].concat();
    let zeroes = [&good[..4096], &[0; 8192]].concat();
    for (file, reason) in [
        (&good[..4096], "is damaged"),
        (&zeroes, "is damaged"),
        (&[], "is damaged"),
        (&later, "was written by a later counter than this one (`form 2`)"),
    ] {
        let volume = cut_off_volume();
        let path = volume.path().join("visits.log");
        fs::write(&path, file).unwrap();
        let told = open(volume.path()).unwrap_err().report().to_string();
        assert!(told.contains(reason) && told.contains("visits.log") && told.contains("next: "), "{told}");
        assert_eq!(fs::read(&path).unwrap(), file);
        assert_eq!(fs::read_to_string(volume.path().join("visits")).unwrap(), "42\n");
    }
}

#[test]
fn what_is_no_number_beside_a_record_is_refused_with_what_the_record_knows() {
    let volume = cut_off_volume();
    fs::write(volume.path().join("visits"), "seven\n").unwrap();
    let told = open(volume.path()).unwrap_err().report().to_string();
    assert!(told.contains("`seven\\n`") && told.contains("it was 42"), "{told}");
}

#[test]
fn a_file_that_somebody_changed_while_nobody_visited_is_made_anew() {
    let volume = cut_off_volume();
    let (mut store, _) = open(volume.path()).unwrap();
    store.rest().unwrap();
    fs::write(volume.path().join("visits"), "5000000\n").unwrap();
    store.write(43).unwrap();
    assert_eq!(fs::read_to_string(volume.path().join("visits")).unwrap(), "43\n");
    store.rest().unwrap();
    fs::remove_file(volume.path().join("visits.log")).unwrap();
    store.write(44).unwrap();
    drop(store);
    assert_eq!(open(volume.path()).unwrap().1, 44);
}

#[test]
fn a_cut_explains_the_numbers_that_it_may_leave_and_no_others() {
    for (shown, visits) in [(0, 0), (7, 9), (8, 12), (95, 132), (125, 132), (199, 200), (250, 1203)] {
        let record = Record { turn: 1, visits, shown };
        let mut left = std::collections::BTreeSet::new();
        for earlier in shown..=visits {
            for later in earlier..=visits {
                let (one, other) = (earlier.to_string(), later.to_string());
                if one.len() == other.len() {
                    left.extend((0..=one.len()).map(|kept| {
                        let torn = [&other[..kept], &one[kept..]].concat();
                        torn.parse::<u64>().unwrap()
                    }));
                }
            }
        }
        for found in 0..=1500 {
            assert_eq!(cut_off(found, record), left.contains(&found), "{found} between {shown} and {visits}");
        }
    }
    let record = Record { turn: 1, visits: u64::MAX, shown: u64::MAX - 9 };
    assert!(cut_off(u64::MAX - 3, record) && !cut_off(7, record));
}
