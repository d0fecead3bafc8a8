//! The volume's lock: one writer, and a name for it.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{StoreError, fault};
use crate::settings::Identity;

/// The locked file; its text names the holder.
const LOCK: &str = "visits.lock";

/// Held as long as the value lives. The kernel lets go of it however the process ends, so a lock is never
/// left over; the file is.
#[derive(Debug)]
pub(super) struct Lock {
    _fd: OwnedFd,
}

impl Lock {
    pub(super) fn take(folder_fd: &OwnedFd, folder: &Path, identity: &Identity) -> Result<Self, StoreError> {
        let path = folder.join(LOCK);
        // Open for reading only: a descriptor open for writing would keep the volume from being
        // remounted read-only.
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(folder_fd, LOCK, flags, Mode::from_raw_mode(0o644))
            .map_err(fault("open", &path))?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(StoreError::InUse { folder: folder.to_owned(), holder: holder(&fd) });
            }
            Err(errno) => return Err(fault("lock", &path)(errno)),
        }
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let writer =
            rustix::fs::openat(folder_fd, LOCK, flags, Mode::empty()).map_err(fault("open", &path))?;
        // In pods every process is number 1: the pod's name is what tells them apart.
        let text = format!("{} (process {} on {})\n", identity.pod, std::process::id(), identity.hostname);
        rustix::io::write(&writer, text.as_bytes()).map_err(fault("write", &path))?;
        Ok(Self { _fd: fd })
    }
}

fn holder(fd: &OwnedFd) -> String {
    let mut text = [0; 512];
    let length = rustix::io::read(fd, &mut text).unwrap_or(0);
    match String::from_utf8_lossy(&text[..length]).trim() {
        "" => "another process, which has not written its name yet".to_owned(),
        name => name.to_owned(),
    }
}
