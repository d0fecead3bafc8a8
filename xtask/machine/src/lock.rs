//! A lock that the kernel frees when its holder ends, however it ends; the file names the holder. What is made
//! under a lock is made in an unfinished folder first: one that is there when the lock is free is rubbish.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::advice::advised;
use crate::workspace::Workspace;

/// A held lock. Dropping it frees it; the file stays.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`, or tells who has it: `Err` of the inner result is the holder's pid.
    ///
    /// # Errors
    /// The file can't be made or read.
    pub fn attempt(path: &Path) -> Result<Result<Self, String>> {
        let mut file = open(path)?;
        match file.try_lock() {
            Ok(()) => Self::taken(file, path).map(Ok),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The holder may be between taking the lock and writing its pid: then it has no name yet.
                let _ = file.read_to_string(&mut holder);
                Ok(Err(match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                }))
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// Takes the lock that keeps two runs of one identity apart: they would share one cluster.
    ///
    /// # Errors
    /// Another run has it; the error names its pid.
    pub fn of_run(workspace: &Workspace) -> Result<Self> {
        let path = workspace.cache.join(format!("run-{}.lock", workspace.identity().key()));
        match Self::attempt(&path)? {
            Ok(lock) => Ok(lock),
            Err(holder) => bail!(advised(
                format!("another run is at work: {holder} holds {}", path.display()),
                "wait for it, or end it with Ctrl-C where it runs"
            )),
        }
    }

    /// A folder in `dir` to work in under this lock. It goes when dropped; what holders that were killed left
    /// there goes now.
    ///
    /// # Errors
    /// A folder can't be made or removed.
    pub fn workplace(&self, dir: &Path, name: &str) -> Result<TempDir> {
        let prefix = format!(".{name}-unfinished-");
        let make = || -> std::io::Result<TempDir> {
            std::fs::create_dir_all(dir)?;
            for entry in std::fs::read_dir(dir)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(&prefix) {
                    std::fs::remove_dir_all(entry.path())?;
                }
            }
            tempfile::Builder::new().prefix(&prefix).tempdir_in(dir)
        };
        make().with_context(|| format!("cannot work in {}", dir.display()))
    }

    /// Waits for the lock; `waiting` is told once who has it.
    ///
    /// # Errors
    /// As [`Lock::attempt`].
    pub async fn wait(path: &Path, waiting: impl FnOnce(&str)) -> Result<Self> {
        match Self::attempt(path)? {
            Ok(lock) => return Ok(lock),
            Err(holder) => waiting(&holder),
        }
        let (ours, freed) = tokio::sync::oneshot::channel();
        let file = open(path)?;
        // A thread of its own and none of the runtime's: when nobody waits any more the program ends without it.
        std::thread::spawn(move || {
            // Nobody to tell: dropped with the message, the lock is free for the next.
            let _ = ours.send(file.lock().map(|()| file));
        });
        let locked = freed.await.context("the thread that waits for a lock was lost")?;
        Self::taken(locked.with_context(|| format!("cannot lock {}", path.display()))?, path)
    }

    /// Writes who has it.
    fn taken(mut file: File, path: &Path) -> Result<Self> {
        let mut write = || -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write().with_context(|| format!("cannot write the lock {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

fn open(path: &Path) -> Result<File> {
    let open = || -> std::io::Result<File> {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        File::options().read(true).write(true).create(true).truncate(false).open(path)
    };
    open().with_context(|| format!("cannot open the lock {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_told_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let workspace = Workspace { lab: root.join("lab"), cache: root.join("cache"), root };
        let first = Lock::of_run(&workspace).unwrap();
        let error = Lock::of_run(&workspace).unwrap_err().to_string();
        assert!(error.contains(&format!("process {} holds", std::process::id())), "{error}");
        drop(first);
        Lock::of_run(&workspace).unwrap();
    }

    #[test]
    fn what_a_killed_holder_left_goes_with_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::attempt(&dir.path().join("lock")).unwrap().unwrap();
        let killed = lock.workplace(dir.path(), "etcd").unwrap().keep();
        let other = lock.workplace(dir.path(), "etcd-tools").unwrap();
        let next = lock.workplace(dir.path(), "etcd").unwrap();
        assert!(!killed.exists() && other.path().exists() && next.path().exists());
    }

    #[tokio::test]
    async fn waiting_ends_when_the_holder_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("build.lock");
        let first = Lock::attempt(&path).unwrap().unwrap();
        let (told, holder) = tokio::sync::oneshot::channel();
        let wait = Lock::wait(&path, |holder| drop(told.send(holder.to_owned())));
        let free = async {
            let holder = holder.await.unwrap();
            drop(first);
            holder
        };
        let (second, holder) = tokio::join!(wait, free);
        second.unwrap();
        assert_eq!(holder, format!("process {}", std::process::id()));
    }
    #[tokio::test]
    async fn who_stops_waiting_does_not_get_the_lock_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("build.lock");
        let first = Lock::attempt(&path).unwrap().unwrap();
        let wait = Lock::wait(&path, |_| ());
        tokio::time::timeout(std::time::Duration::from_millis(50), wait).await.unwrap_err();
        drop(first);
        // The thread may have it for a moment; then it is free again.
        Lock::wait(&path, |_| ()).await.unwrap();
    }
}
