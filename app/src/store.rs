//! The durable number: what is on disk, what `cat` shows, and what can be wrong with either.
//!
//! Two files. `visits` is for people: the number, and nothing else. A number alone does not tell a torn write from a
//! whole one, so what counts is the record beside it, `visits.log`. A write is one small write into a block that the
//! record already has, one sync, and then the same number into `visits`: no name, no length and no block changes,
//! and a file system has nothing to note in its journal. Only when the number has one digit more are both files
//! made anew.

mod disk;
mod record;
mod lock;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::settings::Identity;
pub use disk::{Disk, File, Folder, Found, Status};
use lock::Lock;
use record::Record;

/// The file whose text is the number.
const FILE: &str = "visits";
/// Where a file is written before it takes its name.
const NEW_FILE: &str = "visits.new";
const NEW_RECORD: &str = "visits.log.new";
/// Where counters without a record wrote the next number, and what they remove before anything else. While there
/// is a record, a folder has this name: such a counter cannot remove it, says so and ends, instead of going on from
/// a `visits` that may be behind.
const BARRIER: &str = "visits.tmp";
/// `u64::MAX` has twenty digits; a file longer than this is not ours whatever it holds.
const LONGEST: usize = 64;

/// The open volume. Whoever holds it is the only writer.
#[derive(Debug)]
pub struct Store {
    disk: Box<dyn Disk>,
    /// The last write that succeeded. Its `shown` is what `visits` is known to show after a power cut.
    last: Record,
    /// Open while there is much to write: a file that is open for writing keeps its volume from being remounted
    /// read-only.
    files: Option<Files>,
    /// Whether both files are what the last write made them. After a failure nobody knows: the kernel may call
    /// pages clean that never reached the disk. Then both are made anew.
    sound: bool,
    _lock: Option<Lock>,
}

#[derive(Debug)]
struct Files {
    record: Box<dyn File>,
    number: Box<dyn File>,
}

impl Store {
    /// Takes the volume's lock and finds the number, 0 on a volume that never had one.
    /// Both files are made anew, so that a volume that cannot be written is found now and not by the first
    /// visitor.
    ///
    /// # Errors
    /// [`StoreError`] on anything that is not plainly our own number on a volume that works. Nothing on
    /// the volume is changed then, except left-over temp files, which are nobody's count.
    pub fn open(folder: &Path, identity: &Identity) -> Result<(Self, u64), StoreError> {
        let disk = Folder::open(folder).map_err(fault("open the folder", folder))?;
        let lock = Lock::take(disk.fd(), folder, identity)?;
        Self::start(Box::new(disk), Some(lock))
    }

    /// The same on any other disk; that nobody else writes there is the caller's word.
    ///
    /// # Errors
    /// As with [`Store::open`].
    pub fn on(disk: Box<dyn Disk>) -> Result<(Self, u64), StoreError> {
        Self::start(disk, None)
    }

    fn start(disk: Box<dyn Disk>, lock: Option<Lock>) -> Result<(Self, u64), StoreError> {
        for left_over in [BARRIER, NEW_FILE, NEW_RECORD] {
            remove_left_over(&*disk, left_over)?;
        }
        let (last, owner) = find(&*disk)?;
        let mut store = Self { disk, last, files: None, sound: false, _lock: lock };
        let next = Record { turn: last.turn + 1, ..last };
        store.renew(next, owner).inspect_err(|_| store.discard())?;
        Ok((store, last.visits))
    }

    /// Puts `visits` on the disk. When this returns, the number survives a power cut, and `visits` shows it.
    ///
    /// # Errors
    /// [`StoreError::Io`] names the step. The volume then holds the old number or, if only the last sync
    /// failed, perhaps the new one: the caller goes on from the number it knows to be saved.
    pub fn write(&mut self, visits: u64) -> Result<Synced, StoreError> {
        let started = Instant::now();
        let next = Record { turn: self.last.turn + 1, visits, shown: self.last.shown };
        match self.ready_for(visits) {
            true => self.overwrite(next, started),
            false => self.renew(next, None).map(|()| Synced::since(started)),
        }
        .inspect_err(|_| self.failed())
    }

    /// Sees to it that `visits` alone shows the number after a power cut too, and lets go of the files.
    /// For moments in which nobody waits: it costs a sync.
    ///
    /// # Errors
    /// As with [`Store::write`]; the number itself is not in danger.
    pub fn rest(&mut self) -> Result<(), StoreError> {
        self.show().inspect_err(|_| self.failed())?;
        self.files = None;
        Ok(())
    }

    /// The first half of [`Store::rest`], for when more visits will follow.
    ///
    /// # Errors
    /// As with [`Store::rest`].
    pub fn show(&mut self) -> Result<(), StoreError> {
        if let (Some(files), true) = (&self.files, self.last.shown < self.last.visits) {
            files.number.sync().map_err(fault("sync", &self.disk.path(FILE)))?;
            self.last.shown = self.last.visits;
        }
        Ok(())
    }

    /// Leaves nothing on the volume but the number, as any counter finds it, and anybody may edit it.
    ///
    /// # Errors
    /// As with [`Store::rest`]. The record stays then, and the next start knows the number by it.
    pub fn close(mut self) -> Result<(), StoreError> {
        let text = text(self.last.visits);
        let found = self.disk.read(FILE, LONGEST).map_err(fault("read", &self.disk.path(FILE)))?;
        if !self.sound || found.is_none_or(|found| found.bytes != text) {
            let next = Record { turn: self.last.turn + 1, ..self.last };
            self.renew(next, None).inspect_err(|_| self.discard())?;
        }
        self.rest()?;
        for (step, name) in [("remove", record::FILE), ("remove", BARRIER)] {
            let removed = match name {
                BARRIER => self.disk.remove_folder(name),
                _ => self.disk.remove(name),
            };
            removed.map_err(fault(step, &self.disk.path(name)))?;
        }
        self.disk.sync().map_err(fault("sync the folder", &self.disk.path("")))
    }

    /// Whether `visits` fits where the last number is.
    fn ready_for(&mut self, visits: u64) -> bool {
        self.sound && text(visits).len() == text(self.last.visits).len() && self.open_files().is_some()
    }

    /// `None` when one of them is not what we left: then they are better made anew.
    fn open_files(&mut self) -> Option<&Files> {
        if self.files.is_none() {
            let record = self.disk.open(record::FILE).ok()?;
            let number = self.disk.open(FILE).ok()?;
            let lengths = (record.status().ok()?.length, number.status().ok()?.length);
            let expected = (record::LENGTH as u64, text(self.last.visits).len() as u64);
            self.files = (lengths == expected).then_some(Files { record, number });
        }
        self.files.as_ref()
    }

    fn overwrite(&mut self, next: Record, started: Instant) -> Result<Synced, StoreError> {
        let files = self.files.as_ref().expect("they were opened just before");
        let record = self.disk.path(record::FILE);
        files.record.write(&next.text(), next.offset()).map_err(fault("write", &record))?;
        files.record.sync().map_err(fault("sync", &record))?;
        let file = started.elapsed();
        // Only now, so that it never shows what a power cut can take back.
        files.number.write(&text(next.visits), 0).map_err(fault("write", &self.disk.path(FILE)))?;
        self.last = next;
        Ok(Synced { file, whole: started.elapsed() })
    }

    /// Makes both files anew: written, synced, given their names, and the names synced.
    fn renew(&mut self, next: Record, owner: Option<u32>) -> Result<(), StoreError> {
        self.files = None;
        let own = self.prepare(NEW_FILE, &text(next.visits))?;
        if let Some(owner) = owner.filter(|owner| *owner != own) {
            return Err(StoreError::Owner { path: self.disk.path(FILE), owner, own });
        }
        self.prepare(NEW_RECORD, &next.file())?;
        match self.disk.make_folder(BARRIER) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fault("make the folder", &self.disk.path(BARRIER))(errno)),
        }
        // The record first: it vouches for the old `visits` too, and that would not vouch for itself.
        for (new, name) in [(NEW_RECORD, record::FILE), (NEW_FILE, FILE)] {
            self.disk.rename(new, name).map_err(fault("replace", &self.disk.path(name)))?;
        }
        self.disk.sync().map_err(fault("sync the folder", &self.disk.path("")))?;
        self.last = Record { shown: next.visits, ..next };
        self.sound = true;
        Ok(())
    }

    /// Writes and syncs a new file, and says whom the volume makes its owner.
    fn prepare(&self, name: &str, text: &[u8]) -> Result<u32, StoreError> {
        let path = self.disk.path(name);
        let file = self.disk.create(name).map_err(fault("create", &path))?;
        file.write(text, 0).map_err(fault("write", &path))?;
        file.sync().map_err(fault("sync", &path))?;
        Ok(file.status().map_err(fault("look at", &path))?.owner)
    }

    fn failed(&mut self) {
        self.sound = false;
        self.files = None;
        self.discard();
    }

    /// Best effort after a failure that is already being told.
    fn discard(&self) {
        for name in [NEW_FILE, NEW_RECORD] {
            let _ = self.disk.remove(name);
        }
    }
}

fn remove_left_over(disk: &dyn Disk, name: &str) -> Result<(), StoreError> {
    match disk.remove(name) {
        Ok(()) => {
            let path = disk.path(name);
            tracing::warn!(path = %path.display(), "removed what an interrupted write left over");
            Ok(())
        }
        Err(Errno::NOENT) => Ok(()),
        // Ours, from a process that was not stopped but cut off.
        Err(Errno::ISDIR) if name == BARRIER => Ok(()),
        Err(errno) => Err(fault("remove", &disk.path(name))(errno)),
    }
}

/// The number on the volume, and the owner of its file; no owner when there is no file yet.
fn find(disk: &dyn Disk) -> Result<(Record, Option<u32>), StoreError> {
    let record = find_record(disk)?;
    let path = disk.path(FILE);
    let Some(found) = disk.read(FILE, LONGEST).map_err(fault("read", &path))? else {
        let record = record.unwrap_or(Record { turn: 0, visits: 0, shown: 0 });
        if record.visits > 0 {
            tracing::warn!(path = %path.display(), visits = record.visits, "was missing; the record knows the number");
        }
        return Ok((record, None));
    };
    if !found.is_file {
        return Err(StoreError::NotAFile { path });
    }
    let shown = parse(&found.bytes).ok_or_else(|| StoreError::NotANumber {
        path: path.clone(),
        found: found.bytes.escape_ascii().to_string(),
        known: record.map(|record| record.visits),
    })?;
    let visits = match record {
        // As every counter leaves it that was stopped, and as a person may put it there.
        None => shown,
        Some(record) if cut_off(shown, record) => {
            if shown != record.visits {
                tracing::warn!(path = %path.display(), shown, visits = record.visits, "was behind; the record knows the number");
            }
            record.visits
        }
        Some(record) if shown > record.visits => {
            tracing::warn!(path = %path.display(), visits = shown, record = record.visits, "somebody has put a larger number there");
            shown
        }
        Some(record) => {
            let (log, visits) = (disk.path(record::FILE), record.visits);
            return Err(StoreError::Disagree { path, shown, log, visits });
        }
    };
    let turn = record.map_or(0, |record| record.turn);
    // Until `visits` is made anew it shows what it shows.
    let shown = record.map_or(visits, |record| record.shown).min(shown);
    Ok((Record { turn, visits, shown }, Some(found.owner)))
}

fn find_record(disk: &dyn Disk) -> Result<Option<Record>, StoreError> {
    let path = disk.path(record::FILE);
    // A byte more than it has: longer is not ours.
    let Some(found) = disk.read(record::FILE, record::LENGTH + 1).map_err(fault("read", &path))? else {
        return Ok(None);
    };
    if !found.is_file {
        return Err(StoreError::NotAFile { path });
    }
    match Record::last(&found.bytes) {
        Ok(record) => Ok(Some(record)),
        Err(record::Fault::Form(form)) => Err(StoreError::Later { path, form }),
        Err(record::Fault::Damaged) => Err(StoreError::Damaged { path }),
    }
}

/// Whether `visits` may show this number when the power was cut after this record: one of those that were written
/// since it was last synced, or the beginning of one and the end of an earlier one.
fn cut_off(found: u64, record: Record) -> bool {
    let Record { visits, shown, .. } = record;
    if (shown..=visits).contains(&found) {
        return true;
    }
    let length = text(found).len() - 1;
    // Numbers of another length were written to another file.
    let shortest = if length == 1 { 0 } else { 10u64.pow(length as u32 - 1) };
    let longest = shortest.max(1).checked_mul(10).map_or(u64::MAX, |longer| longer - 1);
    let (lowest, highest) = (shown.max(shortest), visits.min(longest));
    (1..length as u32).any(|kept| {
        let unit = 10u64.pow(kept);
        let beginning = found - found % unit;
        let later = highest.min(beginning.saturating_add(unit - 1));
        // The largest number up to `later` that ends like this.
        let earlier = later.checked_sub((later % unit + unit - found % unit) % unit);
        later >= beginning && earlier.is_some_and(|earlier| earlier >= lowest)
    })
}

fn text(visits: u64) -> Vec<u8> {
    format!("{visits}\n").into_bytes()
}

/// How long a write took.
#[derive(Clone, Copy, Debug)]
pub struct Synced {
    /// Until the number was on disk.
    pub file: Duration,
    /// Until `visits` showed it, too.
    pub whole: Duration,
}

impl Synced {
    fn since(started: Instant) -> Self {
        let whole = started.elapsed();
        Self { file: whole, whole }
    }
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
        /// What the record says, if there is one.
        known: Option<u64>,
    },
    /// The two files contradict each other in a way that no cut explains.
    #[error("{} says {shown}, and {} knows of {visits} visits", path.display(), log.display())]
    Disagree {
        /// The number's file.
        path: PathBuf,
        /// The number in it.
        shown: u64,
        /// The record.
        log: PathBuf,
        /// The number in it.
        visits: u64,
    },
    /// The record is none.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
    },
    /// The record was written by a later counter.
    #[error("{} was written by a later counter than this one (`{form}`)", path.display())]
    Later {
        /// The record.
        path: PathBuf,
        /// How it begins.
        form: String,
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
            Self::NotANumber { path, known: None, .. } => {
                format!(
                    "put the right number into {} (only digits); it is never reset by itself",
                    path.display()
                )
            }
            Self::NotANumber { path, known: Some(visits), .. } => {
                format!("put the right number into {} (only digits): it was {visits}", path.display())
            }
            Self::Disagree { path, shown, log, visits } => {
                let (path, log) = (path.display(), log.display());
                format!("if {shown} is right, remove {log}; otherwise put {visits} into {path}")
            }
            Self::Damaged { path } => {
                format!(
                    "see that the number beside it is right, perhaps a little larger, and remove {}",
                    path.display()
                )
            }
            Self::Later { .. } => "start that counter, and stop it with SIGTERM before this one".to_owned(),
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
#[cfg(test)]
mod power;
