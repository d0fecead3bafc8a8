//! Durable visits against the disk's own limit, against plain reads and against Redis, in rounds so that what else
//! the machine does meets all of them alike.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::machine::Machine;
use super::server::{Redis, Server, Writes};
use machine::command::Command;
use machine::progress::{Progress, Task};
use machine::tools::host_of;
use machine::workspace::Workspace;

/// Each measurement of a round lasts this long.
const SECONDS: f64 = 1.0;
/// Many short rounds rather than a few long ones: the disk's mood changes within seconds.
const ROUNDS: usize = 15;
const STARTS: usize = 15;

/// How much longer the syncs of slower disks take, in ms; and how many rounds each of these gets.
const SLOWER_MS: [u64; 3] = [1, 5, 20];
const SLOWER_ROUNDS: usize = 3;

/// Everything one run found.
#[derive(Debug)]
pub(crate) struct Figures {
    pub machine: Machine,
    pub rounds: Vec<Round>,
    /// The same counter on disks that were slowed down on purpose.
    pub slower: Vec<Slower>,
    /// What `redis-server --version` says, if there is one.
    pub redis: Option<String>,
    /// Resident memory of a process nobody has asked anything but whether it is ready.
    pub idle_kib: u64,
    /// The most it has had at any moment of the run.
    pub peak_kib: u64,
    /// From spawning the process to the first 200 of `/readyz`, for every start, sorted.
    pub ready_ms: Vec<f64>,
    pub binary_bytes: u64,
}

/// One after the other, within seconds: comparable.
#[derive(Debug)]
pub(crate) struct Round {
    /// The loop that overwrites some bytes in place and syncs them, one at a time, without the counter.
    pub disk: Rate,
    pub visits_1: Rate,
    pub visits_16: Rate,
    pub visits_256: Rate,
    pub reads_256: Rate,
    /// The counter's own writes while 256 clients visited.
    pub writes_256: Writes,
    pub redis: Option<RedisRound>,
}

/// Redis on the same folder, which syncs every change before it answers.
#[derive(Debug)]
pub(crate) struct RedisRound {
    pub incr_1: Rate,
    pub incr_256: Rate,
    pub get_256: Rate,
}

/// One slowed disk.
#[derive(Debug)]
pub(crate) struct Slower {
    pub longer_ms: u64,
    /// One client, then 256.
    pub rounds: Vec<(Rate, Rate)>,
}

/// What the load generator prints.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rate {
    pub count: u64,
    pub per_s: f64,
    pub seconds: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Something we aim for, and what came.
#[derive(Debug)]
pub(crate) struct Aim {
    pub name: &'static str,
    pub aim: &'static str,
    pub measured: String,
    pub holds: bool,
}

impl Round {
    /// How long the writer took from one write to the next while 256 clients visited, in µs.
    pub(crate) fn cycle_us(&self) -> f64 {
        self.visits_256.seconds * 1e6 / self.writes_256.count.max(1) as f64
    }
}

impl Figures {
    /// The ratios are taken within a round, then the middle one is taken.
    pub(crate) fn aims(&self) -> Vec<Aim> {
        let of = |ratio: &dyn Fn(&Round) -> f64| Spread::of(self.rounds.iter().map(ratio).collect());
        let of_redis = |ratio: &dyn Fn(&Round, &RedisRound) -> f64| {
            let rounds = self.rounds.iter().filter_map(|round| Some(ratio(round, round.redis.as_ref()?)));
            Some(Spread::of(rounds.collect())).filter(|spread| !spread.middle.is_nan())
        };
        let ready = Spread::of(self.ready_ms.clone());
        let aim = |name, aim, measured, holds| Aim { name, aim, measured, holds };
        let at_least = |name, text, percent: f64, spread: Spread| Aim {
            name,
            aim: text,
            measured: spread.show(0, " %"),
            holds: spread.middle >= percent,
        };
        let to_disk = of(&|r| 100.0 * r.visits_1.per_s / r.disk.per_s);
        let to_reads = of(&|r| 100.0 * r.visits_256.per_s / r.reads_256.per_s);
        let slowest = of(&|r| r.visits_256.p99_us / r.visits_256.p50_us);
        let one = of_redis(&|r, redis| 100.0 * r.visits_1.per_s / redis.incr_1.per_s);
        let many = of_redis(&|r, redis| 100.0 * r.visits_256.per_s / redis.incr_256.per_s);
        let mut aims = vec![
            at_least("durable visits of one client, of the disk's own limit", "at least 60 %", 60.0, to_disk),
            at_least(
                "durable visits at 256 clients, of plain reads at 256 clients",
                "at least 90 %",
                90.0,
                to_reads,
            ),
        ];
        aims.extend(one.map(|one| {
            at_least("durable visits of one client, of Redis' durable INCR", "at least 100 %", 100.0, one)
        }));
        aims.extend(many.map(|many| {
            at_least("durable visits at 256 clients, of Redis' durable INCR", "at least 80 %", 80.0, many)
        }));
        aims.extend([
            aim(
                "99th percentile at 256 clients, times the median",
                "at most 1.5",
                slowest.show(2, ""),
                slowest.middle <= 1.5,
            ),
            aim(
                "resident memory, idle",
                "under 10 MiB",
                format!("{:.1} MiB", mib(self.idle_kib)),
                mib(self.idle_kib) < 10.0,
            ),
            aim("start to ready", "under 20 ms", ready.show(1, " ms"), ready.middle < 20.0),
            aim(
                "the static binary",
                "under 4 MiB",
                format!("{:.1} MiB", mib(self.binary_bytes / 1024)),
                mib(self.binary_bytes / 1024) < 4.0,
            ),
        ]);
        aims
    }
}

/// KiB as MiB.
pub(crate) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// The middle of some values, and how far they lie apart.
pub(crate) struct Spread {
    pub low: f64,
    pub middle: f64,
    pub high: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Self { low: at(0), middle: at(values.len() / 2), high: at(values.len().saturating_sub(1)) }
    }

    fn show(&self, digits: usize, unit: &str) -> String {
        let Self { low, middle, high } = self;
        format!("{middle:.digits$}{unit} ({low:.digits$} to {high:.digits$})")
    }
}

/// Builds what the image holds, and measures it.
///
/// # Errors
/// When it can't be built, doesn't serve, or when the number is not the answers given.
pub(crate) async fn measure(workspace: &Workspace, progress: &Progress) -> Result<Figures> {
    let task = progress.start("build the counter and the load generator");
    let built = build(workspace, &task).await?;
    task.done("optimised");

    std::fs::create_dir_all(&workspace.lab)?;
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&workspace.lab)?;
    let machine = Machine::here(folder.path());

    let task = progress.start("start to ready");
    let mut ready_ms = Vec::new();
    for _ in 0..STARTS {
        let server = Server::start(&built.counter, folder.path()).await?;
        ready_ms.push(server.ready_after.as_secs_f64() * 1000.0);
        server.stop().await?;
    }
    task.done(&format!("{STARTS} starts"));

    let redis = Redis::start(folder.path()).await?;
    let server = Server::start(&built.counter, folder.path()).await?;
    let idle_kib = server.memory_kib("VmRSS")?;
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        let task = progress.start(format!("round {number} of {ROUNDS}"));
        let round = round(&built, folder.path(), &server, redis.as_ref(), &task).await?;
        task.done(&format!(
            "{:.0} visits/s, {:.0} reads/s at 256 clients",
            round.visits_256.per_s, round.reads_256.per_s
        ));
        rounds.push(round);
    }
    let answered: u64 =
        rounds.iter().map(|r| r.visits_1.count + r.visits_16.count + r.visits_256.count).sum();
    let counted = server.visits().await?;
    ensure!(counted == answered, "the counter says {counted}, and {answered} visits were answered");
    let peak_kib = server.memory_kib("VmHWM")?;
    server.stop().await?;
    let redis = match redis {
        Some(redis) => Some(redis.stop().await?),
        None => None,
    };
    let mut slower = Vec::new();
    for longer_ms in SLOWER_MS {
        let task = progress.start(format!("a disk whose syncs take {longer_ms} ms longer"));
        slower.push(slowed(&built, folder.path(), longer_ms).await?);
        task.done(&format!("{SLOWER_ROUNDS} rounds"));
    }
    let binary_bytes = std::fs::metadata(&built.counter)?.len();
    Ok(Figures { machine, rounds, slower, redis, idle_kib, peak_kib, ready_ms, binary_bytes })
}

async fn round(
    built: &Built,
    folder: &Path,
    server: &Server,
    redis: Option<&Redis>,
    task: &Task,
) -> Result<Round> {
    let address = server.address.to_string();
    let seconds = SECONDS.to_string();
    let folder = folder.to_str().context("the folder's name is not UTF-8")?;
    let http = async |path: &str, clients: &str| {
        task.note(format!("{clients} clients on {path}"));
        load(built, &["http", &address, path, clients, &seconds]).await
    };
    task.note("the disk alone");
    let disk = load(built, &["disk", folder, &seconds]).await?;
    let visits_1 = http("/", "1").await?;
    let redis = match redis {
        Some(redis) => {
            let address = redis.address.to_string();
            let ask = async |command: &str, clients: &str| {
                task.note(format!("Redis, {clients} clients, {command}"));
                load(built, &["redis", &address, command, clients, &seconds]).await
            };
            let incr_1 = ask("INCR", "1").await?;
            let incr_256 = ask("INCR", "256").await?;
            Some(RedisRound { incr_1, incr_256, get_256: ask("GET", "256").await? })
        }
        None => None,
    };
    let visits_16 = http("/", "16").await?;
    let before = server.writes().await?;
    let visits_256 = http("/", "256").await?;
    let writes_256 = server.writes().await? - before;
    let reads_256 = http("/visits", "256").await?;
    Ok(Round { disk, visits_1, visits_16, visits_256, reads_256, writes_256, redis })
}

async fn slowed(built: &Built, folder: &Path, longer_ms: u64) -> Result<Slower> {
    let server =
        Server::with(&built.slow, folder, &[("SYNC_TAKES_US", (longer_ms * 1000).to_string())]).await?;
    let (address, seconds) = (server.address.to_string(), SECONDS.to_string());
    let mut rounds = Vec::new();
    for _ in 0..SLOWER_ROUNDS {
        let visits_1 = load(built, &["http", &address, "/", "1", &seconds]).await?;
        rounds.push((visits_1, load(built, &["http", &address, "/", "256", &seconds]).await?));
    }
    server.stop().await?;
    Ok(Slower { longer_ms, rounds })
}

async fn load(built: &Built, arguments: &[&str]) -> Result<Rate> {
    let printed = Command::new(&built.load).args(arguments).deadline(Duration::from_secs(60)).read().await?;
    serde_json::from_str(&printed).with_context(|| format!("the load generator printed {printed:?}"))
}

struct Built {
    counter: PathBuf,
    load: PathBuf,
    slow: PathBuf,
}

/// As for the image: static, with the release profile.
async fn build(workspace: &Workspace, task: &Task) -> Result<Built> {
    let rustc = Command::new("rustc").arg("-vV").read().await?;
    let host = host_of(&rustc)?;
    let target = workspace.lab.join("bench");
    Command::new("cargo")
        .args(["build", "--release", "--locked", "--package", "counter", "--bin", "counter"])
        .args(["--example", "load", "--example", "slow", "--target", host, "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .dir(&workspace.root)
        .deadline(Duration::from_secs(1200))
        .logged(&workspace.logs().join("bench-build.log"), |line| task.note(line.trim()))
        .await?;
    let release = target.join(host).join("release");
    let examples = release.join("examples");
    Ok(Built { counter: release.join("counter"), load: examples.join("load"), slow: examples.join("slow") })
}
