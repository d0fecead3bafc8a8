//! The count and its only writer; visits that arrive together share a write.
//!
//! A visit joins the queue and waits. The writer thread takes the whole queue, writes the number that
//! includes all of it, and answers everyone: a hundred visits cost the disk as much as one.
//! It is a thread and not a task, since fsync blocks, and what blocks must not hold up reads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::store::{Store, StoreError};

/// How often a disk that failed is tried again when no visit comes to try it.
const PROBE_EVERY: Duration = Duration::from_millis(250);

/// Nobody came for this long: the writer no longer waits for the rest of a crowd.
const GATHER_PAUSE: Duration = Duration::from_micros(100);
/// When nobody has visited for this long, the disk may be asked for more than the number.
const PAUSE: Duration = Duration::from_millis(50);
/// It is asked this often when visitors never pause.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// The number, for everyone in the process.
#[derive(Clone, Debug)]
pub struct Counter {
    shared: Arc<Shared>,
}

/// Why a visit was not counted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VisitError {
    /// The disk did not take it.
    #[error("the visit could not be saved")]
    NotSaved(#[source] Arc<StoreError>),
    /// The number cannot grow.
    #[error("the count has reached its largest value")]
    Full,
    /// The writer is gone.
    #[error("the counter is shutting down")]
    Closed,
}

/// Who waits for an answer.
type Waiting = oneshot::Sender<Answer>;

/// What one visitor is told, and those whom it tells.
#[derive(Debug)]
struct Answer {
    result: Result<u64, VisitError>,
    others: Option<Others>,
}

/// Those of a batch who are still to be told.
///
/// Waking a task of another thread costs a system call each, so the writer tells only the first of a batch, whose
/// task tells the others on the thread that serves them all. It does so by dropping this: also when it is
/// cancelled, nobody is left untold.
#[derive(Debug)]
struct Others {
    waiting: VecDeque<Waiting>,
    fate: Fate,
}

/// What became of a batch.
#[derive(Debug)]
enum Fate {
    /// It is on disk: the number before that of the next to be told.
    Saved(u64),
    /// It is not.
    Refused(VisitError),
}

#[derive(Debug)]
struct Shared {
    /// The last number that is on disk.
    saved: AtomicU64,
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Waking a thread costs more than joining a queue: only the visit that makes it this long does.
    wake_at: usize,
    /// No visit joins any more.
    closed: bool,
    /// The writer has answered the last one.
    finished: Option<oneshot::Sender<()>>,
}

impl Counter {
    /// Starts the writer on a store that holds `saved`.
    pub fn start(store: Store, saved: u64, metrics: Arc<Metrics>, readiness: Arc<Readiness>) -> Self {
        let shared = Arc::new(Shared {
            saved: AtomicU64::new(saved),
            queue: Mutex::default(),
            arrived: Condvar::new(),
        });
        let writer = Writer::new(shared.clone(), store, metrics, readiness, saved);
        thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || writer.run())
            .expect("the system starts one thread more at start-up");
        Self { shared }
    }

    /// The last number that is on disk. Waits for nothing.
    pub fn read(&self) -> u64 {
        self.shared.saved.load(Ordering::Acquire)
    }

    /// Counts one visit and returns its number, once that number is on disk.
    ///
    /// # Errors
    /// [`VisitError`]: the visit was not counted.
    pub async fn visit(&self) -> Result<u64, VisitError> {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.shared.queue();
            if queue.closed {
                return Err(VisitError::Closed);
            }
            queue.waiting.push_back(answer);
            if queue.waiting.len() == queue.wake_at {
                self.shared.arrived.notify_one();
            }
        }
        match answered.await {
            Ok(answer) => {
                drop(answer.others);
                answer.result
            }
            Err(_) => Err(VisitError::Closed),
        }
    }

    /// Takes no further visits and returns when those that wait are on disk.
    pub async fn close(&self) {
        let (finished, ended) = oneshot::channel();
        {
            let mut queue = self.shared.queue();
            queue.closed = true;
            queue.finished = Some(finished);
        }
        self.shared.arrived.notify_one();
        // An error means that the writer has ended before.
        let _ = ended.await;
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Whoever panicked while holding it left a queue that is still a queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one thread that writes.
struct Writer {
    shared: Arc<Shared>,
    store: Store,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    saved: u64,
    /// The last write failed: the file may be one batch ahead of `saved`.
    failed: bool,
    /// Whom the last write answered, and who was waiting by then: as many may be waiting again soon.
    crowd: usize,
    /// How long it took.
    took: Duration,
    /// Something was written since the disk last rested.
    busy: bool,
    /// When `visits` itself was last synced.
    shown: Instant,
}

/// What the writer does next.
enum Work {
    /// Writes for everyone who waited.
    Save(VecDeque<Waiting>),
    /// Tries a disk that failed.
    Probe,
    /// Lets `visits` itself be synced,
    Show,
    /// and lets go of the files.
    Rest,
}

impl Writer {
    fn new(
        shared: Arc<Shared>,
        store: Store,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
        saved: u64,
    ) -> Self {
        Self {
            shared,
            store,
            metrics,
            readiness,
            saved,
            failed: false,
            crowd: 0,
            took: Duration::ZERO,
            busy: false,
            shown: Instant::now(),
        }
    }

    fn run(mut self) {
        while let Some(work) = self.next() {
            match work {
                Work::Save(batch) => self.save(batch),
                Work::Probe => self.save(VecDeque::new()),
                Work::Show => self.rest(Store::show),
                Work::Rest => {
                    self.busy = false;
                    self.rest(Store::rest);
                }
            }
        }
        if self.failed {
            // Nobody was told about that batch: take it back if the disk lets us.
            self.save(VecDeque::new());
        }
        match self.store.close() {
            Ok(()) => tracing::info!(visits = self.saved, "the last visit is on disk"),
            Err(error) => {
                tracing::error!(error = %error.report(), visits = self.saved, "closed as after a cut")
            }
        }
        if let Some(finished) = self.shared.queue().finished.take() {
            let _ = finished.send(());
        }
    }

    /// Waits until there is something to do; `None` at the end.
    fn next(&self) -> Option<Work> {
        let mut queue = self.shared.queue();
        if self.busy && !self.failed && self.shown.elapsed() > SHOW_EVERY {
            return Some(Work::Show);
        }
        if queue.waiting.is_empty() && !queue.closed {
            let limit = if self.failed { Some(PROBE_EVERY) } else { self.busy.then_some(PAUSE) };
            queue = self.wait(queue, 1, limit);
        }
        queue = self.gather(queue);
        queue.wake_at = 0;
        match (queue.waiting.is_empty(), queue.closed) {
            (false, _) => Some(Work::Save(std::mem::take(&mut queue.waiting))),
            (true, true) => None,
            (true, false) if self.failed => Some(Work::Probe),
            (true, false) => Some(Work::Rest),
        }
    }

    /// What may be done for the disk while nobody waits.
    fn rest(&mut self, rest: fn(&mut Store) -> Result<(), StoreError>) {
        self.shown = Instant::now();
        if let Err(error) = rest(&mut self.store) {
            self.fail(error);
        }
    }

    /// Waits for those who are on their way back.
    ///
    /// For half as long as a write takes, at most. Who was just answered often comes straight back. Without this they would miss the write that
    /// starts now and wait for it and for the next one, in two crowds that take turns.
    /// A visitor alone is never made to wait: then the last write met nobody else.
    fn gather<'a>(&self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let Gathering { enough, pause, at_most } = Gathering::after(self.crowd, self.took);
        let started = Instant::now();
        let mut before = 0;
        while queue.waiting.len() > before && queue.waiting.len() < enough && !queue.closed {
            let Some(left) = at_most.checked_sub(started.elapsed()) else {
                break;
            };
            before = queue.waiting.len();
            queue = self.wait(queue, enough, Some(left.min(pause)));
        }
        queue
    }

    /// Until `enough` wait, the counter is closed, or the time is over.
    fn wait<'a>(
        &self,
        mut queue: MutexGuard<'a, Queue>,
        enough: usize,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, Queue> {
        queue.wake_at = enough;
        let not_yet = |queue: &mut Queue| queue.waiting.len() < enough && !queue.closed;
        let arrived = &self.shared.arrived;
        match limit {
            None => arrived.wait_while(queue, not_yet).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                arrived.wait_timeout_while(queue, limit, not_yet).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Writes the number that includes the batch, and answers it.
    fn save(&mut self, mut batch: VecDeque<Waiting>) {
        // Who hung up while waiting will never see the answer, and is not counted.
        batch.retain(|waiting| !waiting.is_closed());
        let room = usize::try_from(u64::MAX - self.saved).unwrap_or(usize::MAX);
        let refused = batch.split_off(batch.len().min(room));
        Others { waiting: refused, fate: Fate::Refused(VisitError::Full) }.tell();
        if batch.is_empty() && !self.failed {
            return;
        }
        let first = self.saved;
        match self.store.write(first + batch.len() as u64) {
            Ok(synced) => {
                self.metrics.wrote(batch.len(), synced);
                self.saved += batch.len() as u64;
                self.took = synced.whole;
                self.busy = true;
                // Before the answers, too: afterwards who comes back would be counted twice.
                self.crowd = batch.len() + self.shared.queue().waiting.len();
                // Before the answers: a visitor who reads next must not see an older number.
                self.shared.saved.store(self.saved, Ordering::Release);
                self.recovered();
                Others { waiting: batch, fate: Fate::Saved(first) }.tell();
            }
            Err(error) => {
                let error = self.fail(error);
                Others { waiting: batch, fate: Fate::Refused(VisitError::NotSaved(error)) }.tell();
            }
        }
    }

    /// Tells the change for the worse once, not once per visit.
    fn fail(&mut self, error: StoreError) -> Arc<StoreError> {
        let error = Arc::new(error);
        self.metrics.disk_failed(&error);
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        if !std::mem::replace(&mut self.failed, true) {
            tracing::error!(%error, cause, next = error.next(), visits = self.saved, "visits are refused");
        }
        self.readiness.set_disk_fault(Some(format!("{error}: {cause}")));
        error
    }

    fn recovered(&mut self) {
        if std::mem::replace(&mut self.failed, false) {
            tracing::info!(visits = self.saved, "the disk works again");
            self.readiness.set_disk_fault(None);
        }
    }
}

/// For whom a write waits, and for how long.
#[derive(Debug, PartialEq, Eq)]
struct Gathering {
    enough: usize,
    /// Nobody came for so long: nobody will.
    pause: Duration,
    at_most: Duration,
}

impl Gathering {
    /// After a write that met such a crowd and took so long.
    fn after(crowd: usize, took: Duration) -> Self {
        // Longer, and a processor that is quicker with the crowd than the disk with the write would stand still.
        Self { enough: crowd, pause: GATHER_PAUSE, at_most: took / 2 }
    }
}

impl Others {
    /// Tells the first who is still there, and gives it the others.
    fn tell(mut self) {
        while let Some(first) = self.waiting.pop_front() {
            let result = self.fate.next();
            // Who has hung up since is counted and not told: the number was already on its way to the disk.
            let Err(Answer { others: Some(others), .. }) = first.send(Answer { result, others: Some(self) })
            else {
                return;
            };
            self = others;
        }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            let _ = waiting.send(Answer { result: self.fate.next(), others: None });
        }
    }
}

impl Fate {
    fn next(&mut self) -> Result<u64, VisitError> {
        match self {
            Self::Saved(number) => {
                *number += 1;
                Ok(*number)
            }
            Self::Refused(error) => Err(error.clone()),
        }
    }
}

#[cfg(test)]
mod crowd;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::Identity;

    fn writer(volume: &Path) -> Writer {
        let identity = Identity { pod: "counter-0".into(), hostname: "host".into(), revision: "v1".into() };
        let (store, saved) = Store::open(volume, &identity).unwrap();
        let shared = Arc::new(Shared {
            saved: AtomicU64::new(saved),
            queue: Mutex::default(),
            arrived: Condvar::new(),
        });
        let metrics = Arc::new(Metrics::new(saved));
        let readiness = Arc::new(Readiness::new("/nowhere".into()));
        Writer::new(shared, store, metrics, readiness, saved)
    }

    type Answered = oneshot::Receiver<Answer>;

    fn visitors(number: usize) -> (VecDeque<Waiting>, Vec<Answered>) {
        (0..number).map(|_| oneshot::channel()).unzip()
    }

    #[test]
    fn who_hung_up_while_waiting_is_not_counted() {
        let volume = tempfile::TempDir::new().unwrap();
        let (batch, mut answered) = visitors(3);
        drop(answered.remove(1));
        writer(volume.path()).save(batch);

        let numbers: Vec<u64> = answered.iter_mut().map(|a| a.try_recv().unwrap().result.unwrap()).collect();
        assert_eq!(numbers, [1, 2]);
        assert_eq!(std::fs::read_to_string(volume.path().join("visits")).unwrap(), "2\n");
    }

    #[test]
    fn nobody_is_left_untold_when_the_first_of_a_batch_hangs_up() {
        let volume = tempfile::TempDir::new().unwrap();
        let (batch, mut answered) = visitors(3);
        writer(volume.path()).save(batch);
        // Told already, and gone before it told the others.
        drop(answered.remove(0));
        let numbers: Vec<u64> = answered.iter_mut().map(|a| a.try_recv().unwrap().result.unwrap()).collect();
        assert_eq!(numbers, [2, 3]);
    }

    #[test]
    fn the_crowd_is_whom_a_write_answered_and_who_came_meanwhile() {
        let volume = tempfile::TempDir::new().unwrap();
        let mut writer = writer(volume.path());
        let (waiting, _not_yet) = visitors(3);
        writer.shared.queue().waiting = waiting;
        let (batch, _answered) = visitors(5);
        writer.save(batch);
        assert_eq!(writer.crowd, 8);
        // A crowd that has left is forgotten.
        let Some(Work::Save(batch)) = writer.next() else { panic!("three are waiting") };
        writer.save(batch);
        assert_eq!(writer.crowd, 3);
    }
}
