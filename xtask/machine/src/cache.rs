//! What lies in the cache and is used no more.
//!
//! Several checkouts share the cache, each with pins of its own, and none knows those of the others. So what is used is
//! marked by its time, and what other pins made goes once nobody has used it for four weeks.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

const UNUSED: Duration = Duration::from_secs(28 * 24 * 3600);

/// Marks `path`, which is called `{name}-{key}`, as used now; what other keys of this name were used for weeks ago, goes.
/// What can't be marked or removed stays as it is.
pub fn used(path: &Path, name: &str) {
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    for old in unused(path, name) {
        // Out of sight at once: nobody takes what is half removed for whole.
        let aside = old.with_file_name(format!(".{name}-unfinished-{}", std::process::id()));
        if fs::rename(&old, &aside).is_ok() {
            let _ = if aside.is_dir() { fs::remove_dir_all(&aside) } else { fs::remove_file(&aside) };
        }
    }
}

/// The neighbours of `path` that differ from it in their key, and have not been used for weeks.
pub fn unused(path: &Path, name: &str) -> Vec<std::path::PathBuf> {
    let neighbours = path.parent().and_then(|folder| folder.read_dir().ok()).into_iter().flatten().flatten();
    let other_key = |file: &str| {
        // `kubectl-…` is none of `kube-…`: a key has no dash.
        file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).is_some_and(|key| !key.contains('-'))
    };
    neighbours
        .filter(|entry| other_key(&entry.file_name().to_string_lossy()) && entry.path() != path)
        .filter(|entry| {
            let changed = entry.metadata().and_then(|meta| meta.modified());
            changed.is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed > UNUSED))
        })
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_used_for_weeks_goes_and_what_another_checkout_uses_stays() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, days: u64| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.join("bin")).unwrap();
            let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
            File::open(&path).unwrap().set_modified(then).unwrap();
            path
        };
        let (ours, theirs) = (make("etcd-1", 100), make("etcd-2", 27));
        let (forgotten, other) = (make("etcd-3", 29), make("etcd-tools-4", 29));
        used(&ours, "etcd");
        assert!(ours.exists() && theirs.exists() && other.exists() && !forgotten.exists());
        // Another checkout has marked it in the meantime, and is in turn not forgotten by ours.
        used(&theirs, "etcd");
        assert!(ours.exists());
        let left = dir.path().read_dir().unwrap().count();
        assert_eq!(left, 3);
    }
}
