//! The counter under test: started, asked about itself, stopped; and Redis beside it, where there is one.

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
use machine::tools::on_path;

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
    pub(crate) async fn start(binary: &Path, folder: &Path) -> Result<Self> {
        Self::with(binary, folder, &[]).await
    }

    /// With more variables than all have.
    pub(crate) async fn with(binary: &Path, folder: &Path, variables: &[(&str, String)]) -> Result<Self> {
        // Free now; nobody else is likely to take it within milliseconds, and then the start says so.
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let mut command = Command::new(binary)
            .env("LISTEN", address.to_string())
            .env("DATA_DIR", folder)
            .env("UNREADY_FILE", folder.join("unready"))
            .env("DRAIN_MS", "0")
            .env("LOG", "warn");
        for (name, value) in variables {
            command = command.env(name, value);
        }
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

    pub(crate) async fn stop(mut self) -> Result<()> {
        stop(&mut self.group, "the counter").await
    }

    fn pid(&self) -> Result<Pid> {
        pid(&self.group, "the counter")
    }
}

/// Redis, told to be as durable as the counter is. It writes below the same folder.
pub(crate) struct Redis {
    pub address: SocketAddr,
    version: String,
    group: Group,
}

impl Redis {
    /// `None` where there is no `redis-server` on `PATH`.
    pub(crate) async fn start(folder: &Path) -> Result<Option<Self>> {
        let Some(binary) = on_path("redis-server").into_iter().next() else {
            return Ok(None);
        };
        let printed = Command::new(&binary).arg("--version").deadline(PATIENCE).read().await?;
        let version = printed.split("v=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("unknown");
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let folder = folder.join("redis");
        std::fs::create_dir_all(&folder)?;
        let group = Command::new(&binary)
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--dir"])
            .arg(&folder)
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
            .spawn(Stdio::null(), Stdio::inherit())?;
        let started = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            ensure!(started.elapsed() < PATIENCE, "Redis was not ready within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Some(Self { address, version: version.to_owned(), group }))
    }

    /// Its version, once it has ended.
    pub(crate) async fn stop(mut self) -> Result<String> {
        stop(&mut self.group, "Redis").await?;
        Ok(self.version)
    }
}

async fn stop(group: &mut Group, name: &str) -> Result<()> {
    kill_process(pid(group, name)?, Signal::TERM).with_context(|| format!("cannot stop {name}"))?;
    let ended = tokio::time::timeout(PATIENCE, group.child.wait()).await;
    let status = ended.with_context(|| format!("{name} did not end on SIGTERM"))??;
    ensure!(status.success(), "{name} ended with {status}");
    Ok(())
}

fn pid(group: &Group, name: &str) -> Result<Pid> {
    let id = group.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    id.with_context(|| format!("{name} has ended"))
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
