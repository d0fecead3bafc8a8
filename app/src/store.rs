//! The durable file: temp file, sync, rename, sync the folder; and what can be wrong with it.

mod lock;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::settings::Identity;
use lock::Lock;

/// The file whose text is the number.
const FILE: &str = "visits";
/// Where the next number is written before it takes the file's name.
const TEMP: &str = "visits.tmp";
/// `u64::MAX` has twenty digits; a file longer than this is not ours whatever it holds.
const LONGEST: usize = 64;

/// The open volume. Whoever holds it is the only writer.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Everything happens relative to this descriptor, so a path swapped under us changes nothing.
    fd: OwnedFd,
    _lock: Lock,
}

impl Store {
    /// Takes the volume's lock and reads the number, 0 on a volume that never had one.
    /// The number is written back once, so that a volume that cannot be written is found now and not
    /// by the first visitor.
    ///
    /// # Errors
    /// [`StoreError`] on anything that is not plainly our own number on a volume that works. Nothing on
    /// the volume is changed then, except a left-over temp file, which is nobody's count.
    pub fn open(folder: &Path, identity: &Identity) -> Result<(Self, u64), StoreError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(folder, flags, Mode::empty()).map_err(fault("open the folder", folder))?;
        let lock = Lock::take(&fd, folder, identity)?;
        let store = Self { folder: folder.to_owned(), fd, _lock: lock };
        store.remove_left_over()?;
        let (visits, owner) = store.read()?;
        let own = store.prepare(visits)?;
        if let Some(owner) = owner.filter(|owner| *owner != own) {
            store.discard();
            return Err(StoreError::Owner { path: store.path(FILE), owner, own });
        }
        store.publish()?;
        Ok((store, visits))
    }

    /// Puts `visits` on the disk. When this returns, the number survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Io`] names the step. The file then holds the old number or, if only the last sync
    /// failed, perhaps the new one: the caller goes on from the number it knows to be saved.
    pub fn write(&mut self, visits: u64) -> Result<Synced, StoreError> {
        self.replace(visits).inspect_err(|_| self.discard())
    }

    fn replace(&mut self, visits: u64) -> Result<Synced, StoreError> {
        let started = Instant::now();
        self.prepare(visits)?;
        let file = started.elapsed();
        self.publish()?;
        Ok(Synced { file, whole: started.elapsed() })
    }

    /// Writes and syncs a new temp file, and says whom the volume makes its owner.
    ///
    /// Always a new file: after a failed fsync the kernel may call the lost pages of the old one clean.
    fn prepare(&self, visits: u64) -> Result<u32, StoreError> {
        let path = self.path(TEMP);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let temp = rustix::fs::openat(&self.fd, TEMP, flags, Mode::from_raw_mode(0o644))
            .map_err(fault("create", &path))?;
        let text = format!("{visits}\n");
        match rustix::io::write(&temp, text.as_bytes()) {
            Ok(written) if written == text.len() => {}
            // A write this small is cut short only by a volume without room.
            Ok(_) => return Err(fault("write", &path)(Errno::NOSPC)),
            Err(errno) => return Err(fault("write", &path)(errno)),
        }
        rustix::fs::fsync(&temp).map_err(fault("sync", &path))?;
        let status = rustix::fs::fstat(&temp).map_err(fault("look at", &path))?;
        Ok(status.st_uid)
    }

    /// Gives the temp file the number's name, and makes the name durable.
    fn publish(&self) -> Result<(), StoreError> {
        rustix::fs::renameat(&self.fd, TEMP, &self.fd, FILE).map_err(fault("replace", &self.path(FILE)))?;
        rustix::fs::fsync(&self.fd).map_err(fault("sync the folder", &self.folder))
    }

    /// Best effort after a failure that is already being told.
    fn discard(&self) {
        let _ = rustix::fs::unlinkat(&self.fd, TEMP, AtFlags::empty());
    }

    fn remove_left_over(&self) -> Result<(), StoreError> {
        match rustix::fs::unlinkat(&self.fd, TEMP, AtFlags::empty()) {
            Ok(()) => {
                tracing::warn!(path = %self.path(TEMP).display(), "removed what an interrupted write left over");
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(fault("remove", &self.path(TEMP))(errno)),
        }
    }

    /// The number and its file's owner; no owner when there is no file yet.
    fn read(&self) -> Result<(u64, Option<u32>), StoreError> {
        let path = self.path(FILE);
        // NONBLOCK, or a FIFO of this name would hang the start.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, FILE, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok((0, None)),
            Err(Errno::LOOP) => return Err(StoreError::NotAFile { path }),
            Err(errno) => return Err(fault("open", &path)(errno)),
        };
        let status = rustix::fs::fstat(&file).map_err(fault("look at", &path))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(StoreError::NotAFile { path });
        }
        let mut bytes = [0; LONGEST];
        let length = rustix::io::read(&file, &mut bytes).map_err(fault("read", &path))?;
        let visits = parse(&bytes[..length]).ok_or_else(|| StoreError::NotANumber {
            path,
            found: bytes[..length].escape_ascii().to_string(),
        })?;
        Ok((visits, Some(status.st_uid)))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// How long a write took.
#[derive(Clone, Copy, Debug)]
pub struct Synced {
    /// Until the temp file was on disk.
    pub file: Duration,
    /// Until the new name was, too.
    pub whole: Duration,
}

/// Decimal digits and at most one line end: what we write, or what somebody puts there with `echo`.
fn parse(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    // `u64::from_str` would also take a leading plus.
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What is wrong with the volume.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused a step.
    #[error("could not {step} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        step: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The number's file holds something else.
    #[error("{} does not hold a number of visits, but `{found}`", path.display())]
    NotANumber {
        /// The number's file.
        path: PathBuf,
        /// Its beginning, escaped.
        found: String,
    },
    /// The number's name is taken by a folder, a link or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The number's path.
        path: PathBuf,
    },
    /// The file was not written by this user.
    #[error("{} belongs to uid {owner}, and files written here by this process to uid {own}", path.display())]
    Owner {
        /// The number's file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Whom the volume makes the owner of our files; not always our uid (some network volumes).
        own: u32,
    },
    /// Another process writes here.
    #[error("{} is in use by {holder}", folder.display())]
    InUse {
        /// The volume.
        folder: PathBuf,
        /// What the other process wrote about itself.
        holder: String,
    },
}

impl StoreError {
    /// The whole chain and the next step, for a person.
    pub fn report(&self) -> impl fmt::Display {
        let cause = std::error::Error::source(self).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{self}{cause}\n  next: {}", self.next())
    }

    /// What would help, as far as we truly know.
    pub fn next(&self) -> String {
        match self {
            Self::NotANumber { path, .. } => {
                format!(
                    "put the right number into {} (only digits); it is never reset by itself",
                    path.display()
                )
            }
            Self::NotAFile { path } => format!("move {} out of the way", path.display()),
            Self::Owner { path, own, .. } => {
                format!("run as the owner, or: chown {own} {}", path.display())
            }
            Self::InUse { .. } => "stop that process, or give this one a DATA_DIR of its own".to_owned(),
            Self::Io { path, source, .. } => match Errno::from_io_error(source) {
                Some(Errno::NOSPC | Errno::DQUOT) => "free space on the volume, or make it larger".to_owned(),
                Some(Errno::ROFS) => "mount the volume for reading and writing".to_owned(),
                Some(Errno::NOENT | Errno::NOTDIR) => {
                    "mount a volume there, or set DATA_DIR to a folder that exists".to_owned()
                }
                Some(Errno::ACCESS | Errno::PERM) => format!(
                    "let uid {} write there (fsGroup in a pod, chown elsewhere)",
                    rustix::process::geteuid().as_raw()
                ),
                _ => format!("look at the disk behind {} and the kernel's log", path.display()),
            },
        }
    }

    /// The step that failed, as a metric label.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Io { step, .. } => step,
            _ => "open",
        }
    }
}

fn fault(step: &'static str, path: &Path) -> impl FnOnce(Errno) -> StoreError {
    let path = path.to_owned();
    move |errno| StoreError::Io { step, path, source: errno.into() }
}

#[cfg(test)]
mod tests;
