//! The real binary as a child process, clients for it, and small file systems that can be broken.

#![allow(dead_code, reason = "every test file uses a part of it")]

pub(crate) mod client;
pub(crate) mod volume;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a busy machine; reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A counter that listens. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

pub(crate) fn command(volume: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_counter"));
    command
        .env_clear()
        .env("LISTEN", "127.0.0.1:0")
        .env("DATA_DIR", volume)
        .env("UNREADY_FILE", volume.join("unready"))
        .env("DRAIN_MS", "0")
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a start that is expected to be refused: its exit code and what it said.
pub(crate) fn refusal(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.spawn().unwrap();
    let status = wait(&mut child, PATIENCE).unwrap_or_else(|| {
        child.kill().unwrap();
        panic!("the start was not refused");
    });
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status.code(), said)
}

impl Server {
    pub(crate) fn start(volume: &Path) -> Self {
        Self::with(volume, &[])
    }

    pub(crate) fn with(volume: &Path, variables: &[(&str, &str)]) -> Self {
        Self::spawn(command(volume, variables))
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        let (stdout, kept) = (child.stdout.take().unwrap(), log.clone());
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                kept.lines.lock().unwrap().0.push(line);
                kept.grown.notify_all();
            }
            kept.lines.lock().unwrap().1 = true;
            kept.grown.notify_all();
        });
        let mut server = Self { address: ([127, 0, 0, 1], 0).into(), child, log };
        let listening = server.logged("listening");
        let listening: serde_json::Value = serde_json::from_str(&listening).unwrap();
        server.address = listening["address"].as_str().unwrap().parse().unwrap();
        server
    }

    /// Waits for a log line that contains `text`.
    pub(crate) fn logged(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.0.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if lines.1 || left.is_zero() {
                let mut said = String::new();
                let _ = self.child.kill();
                let _ = self.child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
                panic!("no line with {text:?} in the log {:#?}, errors: {said}", lines.0);
            }
            lines = self.log.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// All log lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().0.clone()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; its exit status and how long it took.
    pub(crate) fn terminate(mut self) -> (ExitStatus, Duration) {
        let started = Instant::now();
        self.signal(Signal::TERM);
        let status = wait(&mut self.child, PATIENCE).expect("the process did not end on SIGTERM");
        (status, started.elapsed())
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Waits until every thread of the process has stopped after SIGSTOP.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        until("all threads have stopped", || self.threads().iter().all(|state| *state == 'T'));
    }

    /// Whether a thread is where no signal reaches it.
    pub(crate) fn has_a_thread_that_waits_for_the_disk(&self) -> bool {
        self.threads().contains(&'D')
    }

    /// The state of each thread, as `ps` shows it; a thread that is just going away is left out.
    fn threads(&self) -> Vec<char> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().flatten();
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        stats.filter_map(|stat| stat.rsplit(") ").next()?.chars().next()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

/// Looks until the condition is true.
pub(crate) fn until(condition: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not so: {condition}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// As another user, when the tests run as root; the binary is copied to where that user can reach it.
pub(crate) fn as_nobody(volume: &Path, place: &Path) -> Command {
    let binary = place.join("counter");
    // By `cp`: a descriptor of ours, open for writing, would leak into the children other tests start,
    // and the system does not run a file somebody has open for writing.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_counter")).arg(&binary).status().unwrap().success());
    let mut command = Command::new(binary);
    command.env_clear().env("LISTEN", "127.0.0.1:0").env("DATA_DIR", volume).uid(65532).gid(65532);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
