//! What the store asks of a volume, and the volume that does it with system calls.
//!
//! A trait, so that tests can put a disk under the store that loses power between any two calls.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Files of one folder.
pub trait Disk: fmt::Debug + Send {
    /// How a person finds the file.
    fn path(&self, name: &str) -> PathBuf;

    /// What has this name, with at most so many of its bytes; `None` when nothing has.
    ///
    /// # Errors
    /// The system's, as with all that follow.
    fn read(&self, name: &str, at_most: usize) -> Result<Option<Found>, Errno>;

    /// A new file. It is an error when the name is taken.
    fn create(&self, name: &str) -> Result<Box<dyn File>, Errno>;

    /// A file that is there, to write into.
    fn open(&self, name: &str) -> Result<Box<dyn File>, Errno>;

    /// Gives a file another name, and takes that from whoever has it.
    fn rename(&self, from: &str, to: &str) -> Result<(), Errno>;

    /// Removes a file or a link.
    fn remove(&self, name: &str) -> Result<(), Errno>;

    /// A new folder in the folder.
    fn make_folder(&self, name: &str) -> Result<(), Errno>;

    /// Removes a folder that is empty.
    fn remove_folder(&self, name: &str) -> Result<(), Errno>;

    /// When this returns, the names are on disk.
    fn sync(&self) -> Result<(), Errno>;
}

/// A file open for writing.
pub trait File: fmt::Debug + Send {
    /// Writes all of it, or refuses.
    ///
    /// # Errors
    /// The system's, as with all that follow.
    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Errno>;

    /// When this returns, what was written into the file is on disk, and what is needed to find it.
    fn sync(&self) -> Result<(), Errno>;

    /// Its owner and its length.
    fn status(&self) -> Result<Status, Errno>;
}

/// What has a name.
#[derive(Debug)]
pub struct Found {
    /// Its first bytes; none when it is not a regular file.
    pub bytes: Vec<u8>,
    /// Whether it is a file, and not a folder, a link or a device.
    pub is_file: bool,
    /// Its owner.
    pub owner: u32,
}

/// About an open file.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Whom the volume made its owner.
    pub owner: u32,
    /// In bytes.
    pub length: u64,
}

/// A folder of a real file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Everything happens relative to this descriptor, so a path swapped under us changes nothing.
    fd: OwnedFd,
}

impl Folder {
    /// The folder of this path, which has to be there.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { path: path.to_owned(), fd })
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl Disk for Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn read(&self, name: &str, at_most: usize) -> Result<Option<Found>, Errno> {
        let nothing = |owner| Found { bytes: Vec::new(), is_file: false, owner };
        // NONBLOCK, or a FIFO of this name would hang the start.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Ok(Some(nothing(0))),
            Err(errno) => return Err(errno),
        };
        let status = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Ok(Some(nothing(status.st_uid)));
        }
        let mut bytes = vec![0; at_most];
        let mut length = 0;
        while length < at_most {
            match rustix::io::read(&file, &mut bytes[length..])? {
                0 => break,
                more => length += more,
            }
        }
        bytes.truncate(length);
        Ok(Some(Found { bytes, is_file: true, owner: status.st_uid }))
    }

    fn create(&self, name: &str) -> Result<Box<dyn File>, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Box::new(rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o644))?))
    }

    fn open(&self, name: &str) -> Result<Box<dyn File>, Errno> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(Box::new(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to)
    }

    fn remove(&self, name: &str) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())
    }

    fn make_folder(&self, name: &str) -> Result<(), Errno> {
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))
    }

    fn remove_folder(&self, name: &str) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
    }

    fn sync(&self) -> Result<(), Errno> {
        rustix::fs::fsync(&self.fd)
    }
}

impl File for OwnedFd {
    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        match rustix::io::pwrite(self, bytes, offset) {
            Ok(written) if written == bytes.len() => Ok(()),
            // A write this small is cut short only by a volume without room.
            Ok(_) => Err(Errno::NOSPC),
            Err(errno) => Err(errno),
        }
    }

    fn sync(&self) -> Result<(), Errno> {
        // Not fsync: that would also wait for the journal to take the time of the last change.
        rustix::fs::fdatasync(self)
    }

    fn status(&self) -> Result<Status, Errno> {
        let status = rustix::fs::fstat(self)?;
        Ok(Status { owner: status.st_uid, length: status.st_size.cast_unsigned() })
    }
}
