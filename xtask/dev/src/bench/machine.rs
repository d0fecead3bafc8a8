//! The machine a figure was measured on, as far as it explains the figure.

use std::fs;
use std::path::Path;

/// Without names: what somebody needs to compare it with theirs.
#[derive(Debug)]
pub(crate) struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
    /// Of the folder that was written to.
    pub file_system: String,
    /// Processes that wanted a core in the minute before, on average: above 1 others disturb.
    pub load_before: f64,
}

impl Machine {
    pub(crate) fn here(folder: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
            line.split_once(':').map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib: f64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib / 1024.0 / 1024.0,
            kernel: read("/proc/sys/kernel/osrelease")
                .trim()
                .split('-')
                .next()
                .unwrap_or_default()
                .to_owned(),
            file_system: file_system(&read("/proc/self/mounts"), folder),
            load_before: read("/proc/loadavg").split(' ').next().and_then(|l| l.parse().ok()).unwrap_or(0.0),
        }
    }
}

/// The type of the mount with the longest path above the folder.
fn file_system(mounts: &str, folder: &Path) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    mounts
        .filter(|(place, _)| folder.starts_with(place))
        .max_by_key(|(place, _)| place.len())
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_is_the_folders_file_system() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /data tmpfs rw 0 0\nb /database xfs rw 0 0\n";
        for (folder, expected) in [("/data/lab", "tmpfs"), ("/database/x", "xfs"), ("/home", "ext4")] {
            assert_eq!(file_system(mounts, Path::new(folder)), expected, "{folder}");
        }
    }
}
