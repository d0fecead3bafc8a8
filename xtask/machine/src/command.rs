//! Runs one tool: its own process group, a deadline, output captured or kept in a log, and an error that
//! shows the command as one would paste it, its status and the end of what it printed.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;

use crate::print;

/// A tool's answer may not fill the memory: what comes after this many bytes is dropped.
const CAPTURE_LIMIT: usize = 16 << 20;
/// How long a command's children may go on printing after it ended, and how long the rest of that takes to arrive.
const LINGER: Duration = Duration::from_millis(200);
/// Lines of output that an error shows.
const TAIL_LINES: usize = 15;

/// A command to run. Cheap to clone; nothing runs until one of the three methods at the end is awaited.
#[derive(Debug, Clone)]
pub struct Command {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    dir: Option<PathBuf>,
    input: Option<String>,
    deadline: Duration,
    memory: Option<u64>,
}

/// What a command that ended left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit status; -1 when a signal ended it.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
    /// How long it ran.
    pub duration: Duration,
}

/// A command that ran and failed.
#[derive(Debug)]
pub struct CommandFailed {
    /// The command as one would paste it.
    pub command: String,
    /// How it ended.
    pub ended: Ended,
    /// Where all that it printed is, when that was kept.
    pub log: Option<PathBuf>,
    /// What it printed, or the end of that.
    pub output: String,
}

impl std::error::Error for CommandFailed {}

impl fmt::Display for CommandFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.log.as_deref().map(|log| format!("; all it printed is in {}", log.display()));
        let tail = tail_of(&self.output);
        write!(f, "`{}` {}{}{}", self.command, self.ended, log.unwrap_or_default(), print::plain(&tail))
    }
}

/// How a command that failed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this status.
    Status(i32),
    /// By a signal.
    Signal,
    /// By us, when this time was over.
    Stopped(Duration),
    /// By itself, for want of more memory than these bytes.
    OverMemory(u64),
}

impl Ended {
    fn with(status: Option<i32>) -> Self {
        status.map_or(Self::Signal, Self::Status)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "ended with status {status}"),
            Self::Signal => write!(f, "was ended by a signal"),
            Self::Stopped(after) => write!(f, "did not end within {} s and was stopped", after.as_secs()),
            Self::OverMemory(bytes) => {
                write!(f, "wanted more than the {} MiB of memory it may have", bytes >> 20)
            }
        }
    }
}

fn tail_of(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    if tail.is_empty() { String::new() } else { format!("\n{}", tail.join("\n")) }
}

impl Command {
    /// A command with a deadline of two minutes.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: vec![],
            env: vec![],
            dir: None,
            input: None,
            deadline: Duration::from_secs(120),
            memory: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Keeps an environment variable of ours from the command.
    #[must_use]
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), None));
        self
    }

    /// Runs in another folder.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Gives it something to read; without it there is nothing.
    #[must_use]
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = Some(text.into());
        self
    }

    /// Ends the command and its children after this time.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Lets it have this many bytes of memory of its own, on Linux: what is more is refused to it.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Runs it and returns what it left behind, whatever its status.
    ///
    /// # Errors
    /// When it can't be started or does not end by its deadline.
    pub async fn output(&self) -> Result<Output> {
        let started = Instant::now();
        let mut group = self.spawn(Stdio::piped(), Stdio::piped())?;
        let stdout_pipe = group.child.stdout.take().context("no stdout pipe")?;
        let stderr_pipe = group.child.stderr.take().context("no stderr pipe")?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let reading =
            async { tokio::try_join!(capture(stdout_pipe, &mut stdout), capture(stderr_pipe, &mut stderr)) };
        let ended = tokio::time::timeout(self.deadline, group.end(reading)).await;
        let (stdout, stderr) = (lossy(stdout), lossy(stderr));
        let Ok(status) = ended else { return Err(self.overdue(stdout + &stderr).into()) };
        let status = status.with_context(|| format!("`{self}` was lost"))?.code().unwrap_or(-1);
        Ok(Output { status, stdout, stderr, duration: started.elapsed() })
    }

    /// Runs it and returns what it printed.
    ///
    /// # Errors
    /// As [`Command::output`], and when its status isn't 0.
    pub async fn read(&self) -> Result<String> {
        let output = self.output().await?;
        if output.status == 0 { Ok(output.stdout) } else { Err(self.failed(output).into()) }
    }

    /// Runs it with everything it prints appended to `log`, and each line of it shown to `on_line`.
    ///
    /// # Errors
    /// As [`Command::read`]; the log can't be written.
    pub async fn logged(&self, log: &Path, mut on_line: impl FnMut(&str)) -> Result<()> {
        let open = || -> std::io::Result<_> {
            std::fs::create_dir_all(log.parent().unwrap_or(Path::new(".")))?;
            std::fs::OpenOptions::new().create(true).append(true).open(log)
        };
        let mut file =
            tokio::fs::File::from_std(open().with_context(|| format!("cannot write {}", log.display()))?);
        file.write_all(format!("$ {self}\n").as_bytes()).await?;
        let (reader, writer) = std::io::pipe().context("no pipe for the command's output")?;
        let mut group = self.spawn(writer.try_clone()?.into(), writer.into())?;
        let reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into())?;
        let mut tail: VecDeque<String> = VecDeque::new();
        let reading = async {
            let mut lines = BufReader::new(reader).split(b'\n');
            while let Some(line) = lines.next_segment().await? {
                let line = String::from_utf8_lossy(&line).into_owned();
                // A log is read on a terminal, too.
                file.write_all(format!("{}\n", print::plain(&line)).as_bytes()).await?;
                on_line(&line);
                tail.push_back(line);
                if tail.len() > TAIL_LINES {
                    tail.pop_front();
                }
            }
            Ok(())
        };
        let ended = tokio::time::timeout(self.deadline, group.end(reading)).await;
        file.flush().await?;
        let output = Vec::from(tail).join("\n");
        let Ok(status) = ended else { return Err(self.overdue(output).into()) };
        let status = status.with_context(|| format!("`{self}` was lost"))?;
        if status.success() {
            return Ok(());
        }
        let (command, ended) = (self.to_string(), Ended::with(status.code()));
        Err(CommandFailed { command, ended, log: Some(log.to_owned()), output }.into())
    }

    /// Starts it and hands it over: for what runs beside us, like a port-forward. It ends when dropped.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, stdout: Stdio, stderr: Stdio) -> Result<Group> {
        let mut command = tokio::process::Command::new(&self.program);
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        command.args(&self.args).stdin(stdin).stdout(stdout).stderr(stderr);
        // A group of its own: Ctrl-C reaches us alone, and we end the command with its children.
        command.process_group(0).kill_on_drop(true);
        for (key, value) in &self.env {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let mut child = command.spawn().with_context(|| format!("cannot run `{self}`"))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), self.input.clone()) {
            // A command that ends before it has read all of it says why by itself.
            tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
        }
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        #[cfg(target_os = "linux")]
        if let (Some(bytes), Some(id)) = (self.memory, id) {
            use rustix::process::{Resource, Rlimit, prlimit};
            let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
            // Only of one that has ended already is there nothing left to limit.
            let _ = prlimit(Some(id), Resource::Data, limit);
        }
        Ok(Group { child, id, ended: false })
    }

    /// The command line as one would paste it, without the folder of the program.
    pub fn argv(&self) -> Vec<String> {
        let name = self.program.file_name().unwrap_or(self.program.as_os_str());
        std::iter::once(name)
            .chain(self.args.iter().map(OsString::as_os_str))
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect()
    }

    /// The error of a command that ended with a status it should not have.
    pub fn failed(&self, output: Output) -> CommandFailed {
        let command = self.to_string();
        // As Go's runtime says it. Where the program was at that moment tells nobody anything.
        if let Some(bytes) = self.memory.filter(|_| output.stderr.contains("out of memory")) {
            return CommandFailed {
                command,
                ended: Ended::OverMemory(bytes),
                log: None,
                output: String::new(),
            };
        }
        let ended = Ended::with(Some(output.status).filter(|status| *status != -1));
        CommandFailed { command, ended, log: None, output: output.stdout + &output.stderr }
    }

    fn overdue(&self, output: String) -> CommandFailed {
        let ended = Ended::Stopped(self.deadline);
        CommandFailed { command: self.to_string(), ended, log: None, output }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shell_words::join(self.argv()))
    }
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Reads to the end, and keeps what [`CAPTURE_LIMIT`] lets it: who prints more than that must not wait for us.
async fn capture(mut pipe: impl AsyncRead + Unpin, kept: &mut Vec<u8>) -> io::Result<()> {
    (&mut pipe).take(CAPTURE_LIMIT as u64).read_to_end(kept).await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await.map(drop)
}

/// A running command and its children; dropping it ends them all.
#[derive(Debug)]
pub struct Group {
    /// The command itself.
    pub child: Child,
    /// Known from the start: once the child has been waited for, nobody tells it any more.
    id: Option<Pid>,
    ended: bool,
}

impl Group {
    /// Waits until the command has ended and `reading` has all it printed. A child of its own that still holds the pipe
    /// then is given a moment for its last lines, and ended: it would hold us for as long as it pleases.
    async fn end<T>(&mut self, reading: impl Future<Output = io::Result<T>>) -> io::Result<ExitStatus> {
        let mut reading = std::pin::pin!(reading);
        let mut read = false;
        let status = loop {
            tokio::select! {
                biased;
                done = &mut reading, if !read => {
                    done?;
                    read = true;
                }
                status = self.child.wait() => break status?,
            }
        };
        if !read && let Ok(done) = tokio::time::timeout(LINGER, &mut reading).await {
            done?;
            read = true;
        }
        if !read {
            self.kill();
            // Who left the group and took the pipe along is no child of the command any more, and not waited for.
            if let Ok(done) = tokio::time::timeout(LINGER, &mut reading).await {
                done?;
            }
        }
        self.ended = true;
        Ok(status)
    }

    fn kill(&self) {
        if let Some(id) = self.id {
            // Fails only when the group is already gone.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        Command::new("sh").args(["-c", script])
    }

    #[tokio::test]
    async fn output_keeps_both_streams_and_the_status() {
        let output = sh("echo out; echo err >&2; exit 3").output().await.unwrap();
        assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (3, "out\n", "err\n"));
    }

    #[tokio::test]
    async fn a_failure_shows_the_command_its_status_and_the_end_of_its_output() {
        let error = sh("seq 1 100; exit 7").read().await.unwrap_err().to_string();
        assert!(error.starts_with("`sh -c 'seq 1 100; exit 7'` ended with status 7\n"), "{error}");
        assert!(error.ends_with("\n99\n100") && !error.contains("\n50\n"), "{error}");
    }

    #[tokio::test]
    async fn what_a_tool_prints_acts_on_no_terminal_neither_in_an_error_nor_in_a_log() {
        let evil = sh("printf 'a\\033[2Jb\\n'; exit 1");
        assert!(evil.read().await.unwrap_err().to_string().ends_with("a^[[2Jb"));
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        evil.logged(&log, |_| ()).await.unwrap_err();
        assert!(std::fs::read_to_string(log).unwrap().ends_with("a^[[2Jb\n"));
    }

    #[tokio::test]
    async fn the_deadline_ends_the_children_too() {
        let dir = tempfile::tempdir().unwrap();
        let alive = dir.path().join("alive");
        // The grandchild holds the pipe open: only ending the whole group gets past it.
        let script = format!("(while :; do touch {}; sleep 0.05; done) & wait", alive.display());
        let error = sh(&script).deadline(Duration::from_millis(300)).output().await.unwrap_err();
        assert!(error.to_string().contains("did not end within"), "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        std::fs::remove_file(&alive).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!alive.exists(), "the grandchild is still at work");
    }

    #[tokio::test]
    async fn a_tool_that_prints_more_than_is_kept_ends_all_the_same() {
        let script = format!("head -c {} /dev/zero && echo done >&2", CAPTURE_LIMIT + (1 << 20));
        let output = sh(&script).deadline(Duration::from_secs(20)).output().await.unwrap();
        assert_eq!(
            (output.status, output.stdout.len(), output.stderr.as_str()),
            (0, CAPTURE_LIMIT, "done\n")
        );
    }

    #[tokio::test]
    async fn a_grandchild_that_holds_the_pipe_is_ended_soon_after_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let alive = dir.path().join("alive");
        let script = format!("(while :; do touch {}; sleep 0.05; done) & echo said", alive.display());
        for logged in [false, true] {
            let command = sh(&script).deadline(Duration::from_secs(20));
            let started = Instant::now();
            if logged {
                command.logged(&dir.path().join("log"), |_| ()).await.unwrap();
            } else {
                assert_eq!(command.read().await.unwrap(), "said\n");
            }
            assert!(started.elapsed() < Duration::from_secs(15), "it was waited for until the deadline");
            tokio::time::sleep(Duration::from_millis(100)).await;
            let _ = std::fs::remove_file(&alive);
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(!alive.exists(), "the grandchild is still at work; logged: {logged}");
        }
    }

    #[tokio::test]
    async fn a_log_keeps_every_line_and_survives_a_lingering_grandchild() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("sub/build.log");
        let mut seen = vec![];
        sh("echo one; echo two >&2; sleep 30 &")
            .logged(&log, |line| seen.push(line.to_owned()))
            .await
            .unwrap();
        seen.sort();
        assert_eq!(seen, ["one", "two"]);
        assert!(std::fs::read_to_string(&log).unwrap().starts_with("$ sh -c"));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_tool_that_takes_too_much_memory_is_refused_it_and_that_is_what_the_error_says() {
        // The shell waits until the limit stands; `tail` keeps a line without an end.
        let greedy =
            sh("sleep 0.3; tail -n 1 /dev/zero || { echo 'fatal error: out of memory' >&2; exit 2; }");
        let error = greedy.memory(64 << 20).deadline(Duration::from_secs(20)).read().await.unwrap_err();
        let says = error.to_string();
        assert!(says.ends_with("wanted more than the 64 MiB of memory it may have"), "{says}");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = Command::new("/nonexistent/kind").arg("version").output().await.unwrap_err();
        assert_eq!(error.to_string(), "cannot run `kind version`");
    }
}
