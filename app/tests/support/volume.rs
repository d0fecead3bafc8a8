//! Real small file systems: one that fills up, one whose disk fails under it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted file system, unmounted when dropped.
pub(crate) struct Volume {
    place: TempDir,
    mounted: Vec<PathBuf>,
}

impl Volume {
    /// A tmpfs of so many KiB; `None`, with the reason printed, where nothing can be mounted.
    pub(crate) fn tmpfs(kib: u32) -> Option<Self> {
        let mut volume = Self { place: TempDir::new().unwrap(), mounted: Vec::new() };
        volume.mount("data", ["-t", "tmpfs", "-o", &format!("size={kib}k,mode=755"), "tmpfs"])?;
        Some(volume)
    }

    /// An ext4 on a loop device whose image lies on a tmpfs: when the tmpfs is full, the disk fails.
    pub(crate) fn ext4_on_a_small_disk(kib: u32, options: &[&str]) -> Option<Self> {
        let mut volume = Self { place: TempDir::new().unwrap(), mounted: Vec::new() };
        volume.mount("disk", ["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])?;
        let image = volume.image();
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").args(options).arg(&image))?;
        volume.mount("data", [OsStr::new("-o"), OsStr::new("loop"), image.as_os_str()])?;
        Some(volume)
    }

    /// Mounts a copy of another volume's image, as a machine does after a power cut.
    pub(crate) fn ext4_from(image: &Path) -> Option<Self> {
        let mut volume = Self { place: TempDir::new().unwrap(), mounted: Vec::new() };
        volume.mount("data", [OsStr::new("-o"), OsStr::new("loop"), image.as_os_str()])?;
        Some(volume)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.path().join("data")
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.place.path().join("disk").join("image")
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.place.path().join("disk")
    }

    /// Whether the system did it: not to read-only while a file is open for writing.
    pub(crate) fn remount(&self, mode: &str) -> bool {
        run(Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(self.path())).is_some()
    }

    /// Lets no write through, and does not refuse it either, as a disk that hangs; until dropped.
    pub(crate) fn freeze(&self) -> Option<Frozen> {
        run(Command::new("fsfreeze").arg("--freeze").arg(self.path()))?;
        Some(Frozen(self.path()))
    }

    fn mount(&mut self, name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Option<()> {
        let path = self.place.path().join(name);
        fs::create_dir(&path).unwrap();
        run(Command::new("mount").args(arguments).arg(&path))?;
        self.mounted.push(path);
        Some(())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        for path in self.mounted.iter().rev() {
            let _ = Command::new("umount").arg("--lazy").arg(path).status();
        }
    }
}

/// A disk that hangs. Dropped before the server: a process that waits for such a disk cannot even be killed.
pub(crate) struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).status();
    }
}

fn run(command: &mut Command) -> Option<()> {
    let reason = match command.output() {
        Ok(output) if output.status.success() => return Some(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("skipped: {command:?}: {reason}");
    None
}

/// Writes until nothing fits any more.
pub(crate) fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    path
}
