//! A crowd that asks again as soon as it is answered, on a machine in memory: how the writer's waiting does on disks
//! of all kinds, without a clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::Gathering;

/// Nanoseconds, as measured on one machine. What matters is that they are of this order.
const ASK: u64 = 6_500;
const TELL: u64 = 3_000;
const WAKE: u64 = 4_000;
const CLIENT: u64 = 5_000;
const NETWORK: u64 = 3_000;
const WRITE: u64 = 12_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(usize),
    /// The core that serves has done a job.
    Done(Job),
    Written,
    /// The writer has waited long enough, if it is still the same wait and nobody came.
    Waited(u64, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Ask(usize),
    Tell(usize),
    Wake,
}

#[derive(Default)]
struct Machine {
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    planned: u64,
    jobs: VecDeque<Job>,
    serving: bool,
    clients_free_at: u64,
    asked: Vec<u64>,
    waiting: Vec<usize>,
    written: Vec<usize>,
    writing: bool,
    crowd: usize,
    wait: Option<(u64, Gathering)>,
    waits: u64,
    latencies: Vec<u64>,
}

/// Visits per second, and the slowest hundredth in medians.
fn play(clients: usize, disk: Duration, rule: fn(usize, Duration) -> Gathering) -> (f64, f64) {
    let disk_ns = disk.as_nanos() as u64;
    let lasting = (60 * disk_ns).max(150_000_000);
    let mut machine = Machine { asked: vec![0; clients], ..Machine::default() };
    (0..clients).for_each(|client| machine.ask(client));
    while let Some(Reverse((at, _, event))) = machine.events.pop()
        && at < lasting
    {
        machine.now = at;
        match event {
            Event::Arrives(client) => machine.jobs.push_back(Job::Ask(client)),
            Event::Done(job) => {
                machine.serving = false;
                match job {
                    Job::Ask(client) => machine.waiting.push(client),
                    Job::Tell(client) => {
                        // At first everybody comes at once.
                        if at > lasting / 5 {
                            machine.latencies.push(at - machine.asked[client]);
                        }
                        machine.ask(client);
                    }
                    Job::Wake => {}
                }
            }
            Event::Written => {
                machine.writing = false;
                let told = std::mem::take(&mut machine.written);
                machine.crowd = told.len() + machine.waiting.len();
                machine.jobs.push_back(Job::Wake);
                machine.jobs.extend(told.into_iter().map(Job::Tell));
            }
            Event::Waited(wait, waiting) => machine.waited(wait, waiting, disk_ns),
        }
        machine.serve();
        machine.gather(disk, rule);
    }
    let whole = machine.latencies.len() as f64 / (lasting as f64 * 0.8 / 1e9);
    machine.latencies.sort_unstable();
    let at = |percent: usize| machine.latencies[machine.latencies.len() * percent / 100] as f64;
    (whole, at(99) / at(50))
}

impl Machine {
    fn plan(&mut self, after: u64, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((self.now + after, self.planned, event)));
    }

    fn ask(&mut self, client: usize) {
        self.clients_free_at = self.clients_free_at.max(self.now) + CLIENT;
        self.asked[client] = self.clients_free_at;
        self.plan(self.clients_free_at - self.now + NETWORK, Event::Arrives(client));
    }

    fn serve(&mut self) {
        if !self.serving
            && let Some(job) = self.jobs.pop_front()
        {
            self.serving = true;
            let takes = match job {
                Job::Ask(_) => ASK,
                Job::Tell(_) => TELL,
                Job::Wake => WAKE,
            };
            self.plan(takes, Event::Done(job));
        }
    }

    fn gather(&mut self, disk: Duration, rule: fn(usize, Duration) -> Gathering) {
        if self.writing || self.waiting.is_empty() {
            return;
        }
        if self.wait.is_none() {
            let gathering = rule(self.crowd, disk + Duration::from_nanos(WRITE));
            self.waits += 1;
            let first = gathering.pause.min(gathering.at_most).as_nanos() as u64;
            self.wait = Some((self.now, gathering));
            self.plan(first, Event::Waited(self.waits, self.waiting.len()));
        }
        if self.wait.as_ref().is_some_and(|(_, gathering)| self.waiting.len() >= gathering.enough) {
            self.write(disk.as_nanos() as u64);
        }
    }

    fn waited(&mut self, wait: u64, waiting: usize, disk_ns: u64) {
        let Some((since, gathering)) = self.wait.as_ref().filter(|_| wait == self.waits) else {
            return;
        };
        let left = (since + gathering.at_most.as_nanos() as u64).saturating_sub(self.now);
        if left == 0 || self.waiting.len() == waiting {
            return self.write(disk_ns);
        }
        let next = left.min(gathering.pause.as_nanos() as u64);
        self.plan(next, Event::Waited(wait, self.waiting.len()));
    }

    fn write(&mut self, disk_ns: u64) {
        self.wait = None;
        self.writing = true;
        self.written = std::mem::take(&mut self.waiting);
        self.plan(WRITE + disk_ns, Event::Written);
    }
}

fn at_once(_: usize, _: Duration) -> Gathering {
    Gathering { enough: 0, pause: Duration::ZERO, at_most: Duration::ZERO }
}

#[test]
fn one_rule_does_for_disks_from_twenty_microseconds_to_twenty_milliseconds() {
    for clients in [2, 16, 64, 256] {
        for disk_us in [20, 50, 200, 1_000, 5_000, 20_000] {
            let disk = Duration::from_micros(disk_us);
            let (visits, slowest) = play(clients, disk, Gathering::after);
            let (eager, _) = play(clients, disk, at_once);
            let told = format!(
                "{clients} clients, {disk_us} us: {visits:.0} visits/s, at once {eager:.0}; {slowest:.2}"
            );
            assert!(slowest < 1.3, "some wait far longer than others: {told}");
            // Where the processor alone decides, to wait for nobody would be a little better.
            assert!(visits > 0.65 * eager, "{told}");
        }
    }
    // Where the disk alone decides, a crowd that falls in two halves gets half.
    let (visits, _) = play(256, Duration::from_millis(20), Gathering::after);
    let (eager, _) = play(256, Duration::from_millis(20), at_once);
    assert!(visits > 1.6 * eager, "{visits:.0}, and {eager:.0} at once");
}

#[test]
fn a_visitor_alone_waits_for_nobody() {
    let disk = Duration::from_micros(50);
    assert_eq!(play(1, disk, Gathering::after), play(1, disk, at_once));
}
