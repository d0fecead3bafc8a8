//! The counter under test: started, asked about itself, stopped.

use std::net::{SocketAddr, TcpListener};
use std::ops::Sub;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use machine::command::{Command, Group};

/// Longer than any start takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A counter that is ready.
pub(super) struct Server {
    pub address: SocketAddr,
    pub ready_after: Duration,
    group: Group,
}

/// The counter's own account of its writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writes {
    pub count: u64,
    pub visits: u64,
    pub seconds: f64,
}

impl Sub for Writes {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            count: self.count - earlier.count,
            visits: self.visits - earlier.visits,
            seconds: self.seconds - earlier.seconds,
        }
    }
}

impl Server {
    pub(super) async fn start(binary: &Path, folder: &Path) -> Result<Self> {
        // Free now; nobody else is likely to take it within milliseconds, and then the start says so.
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let command = Command::new(binary)
            .env("LISTEN", address.to_string())
            .env("DATA_DIR", folder)
            .env("UNREADY_FILE", folder.join("unready"))
            .env("DRAIN_MS", "0")
            .env("LOG", "warn");
        let started = Instant::now();
        let group = command.spawn(Stdio::null(), Stdio::inherit())?;
        loop {
            if get(address, "/readyz").await.is_ok() {
                break;
            }
            ensure!(started.elapsed() < PATIENCE, "the counter was not ready within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok(Self { address, ready_after: started.elapsed(), group })
    }

    pub(super) async fn visits(&self) -> Result<u64> {
        let body = get(self.address, "/visits").await?;
        let body: serde_json::Value = serde_json::from_str(&body)?;
        body["visits"].as_u64().with_context(|| format!("no number of visits in {body}"))
    }

    pub(super) async fn writes(&self) -> Result<Writes> {
        let metrics = get(self.address, "/metrics").await?;
        let value = |name: &str| -> Result<f64> {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse().ok()).with_context(|| format!("no metric {name}"))
        };
        Ok(Writes {
            count: value("counter_write_batch_visits_count")? as u64,
            visits: value("counter_write_batch_visits_sum")? as u64,
            seconds: value("counter_write_seconds_sum")?,
        })
    }

    /// `VmRSS` is now, `VmHWM` the most there ever was.
    pub(super) fn memory_kib(&self, what: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid()?);
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = status.lines().find(|line| line.starts_with(what));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .with_context(|| format!("no {what} in {path}"))
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        kill_process(self.pid()?, Signal::TERM).context("cannot stop the counter")?;
        let ended = tokio::time::timeout(PATIENCE, self.group.child.wait()).await;
        let status = ended.context("the counter did not end on SIGTERM")??;
        ensure!(status.success(), "the counter ended with {status}");
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        let id = self.group.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        id.context("the counter has ended")
    }
}

/// One question on a connection of its own; anything but a 200 is an error.
async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => bail!("GET {path} answered {:?}", answer.lines().next().unwrap_or_default()),
    }
}
