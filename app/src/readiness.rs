//! Whether this process should get traffic, and if not, why.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Ready unless one of three things says otherwise: SIGTERM, the disk, or somebody with `touch`.
#[derive(Debug)]
pub struct Readiness {
    unready_file: PathBuf,
    disk: Mutex<Option<String>>,
    draining: AtomicBool,
}

impl Readiness {
    /// Ready, as long as `unready_file` does not exist.
    pub fn new(unready_file: PathBuf) -> Self {
        Self { unready_file, disk: Mutex::new(None), draining: AtomicBool::new(false) }
    }

    /// Why there should be no traffic; `None` when there should.
    pub fn reason(&self) -> Option<String> {
        if self.draining.load(Ordering::Relaxed) {
            return Some("shutting down".to_owned());
        }
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A path that cannot be looked at is no order to be unready.
        disk.or_else(|| self.unready_file.exists().then(|| format!("{} exists", self.unready_file.display())))
    }

    /// What the disk refused; `None` when it works again.
    pub fn set_disk_fault(&self, fault: Option<String>) {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// There is no way back from here.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}
