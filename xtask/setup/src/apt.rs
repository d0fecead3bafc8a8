//! Debian and Ubuntu packages; elsewhere the commands are told.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use machine::advice::advised;
use machine::command::Command;
use machine::progress::Progress;
use machine::tools::on_path;
use machine::workspace::Workspace;

use crate::requirement::Fix;

/// Where apt keeps what packages there are.
const LISTS: &str = "/var/lib/apt/lists";
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Installs packages, after saying which.
///
/// # Errors
/// This is no Debian or Ubuntu, we are not root, or apt-get fails. The error says what to do by hand.
pub(crate) async fn install(
    workspace: &Workspace,
    progress: &Progress,
    packages: &[&'static str],
) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let command = Fix::Packages(packages.to_vec());
    if on_path("apt-get").is_empty() {
        bail!(advised(
            format!("packages are missing, and this is no Debian or Ubuntu: {list}"),
            "install what holds these programs with the system's own package manager"
        ));
    }
    if !rustix::process::geteuid().is_root() {
        bail!(advised("packages are missing, and only root may install them", format!("sudo {command}")));
    }
    progress.say(&format!("  installs: {command}"));
    let task = progress.start("packages");
    // Two installations of ours are wanted side by side, and apt lets the second wait for packages but not for lists.
    let _alone = ALONE.lock().await;
    let log = workspace.logs().join("apt.log");
    let apt = |args: &[&str]| {
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            // Another apt at work is waited for, not failed on.
            .args(["--yes", "--option", "DPkg::Lock::Timeout=120"])
            .args(args)
            .deadline(Duration::from_secs(900))
    };
    // A fresh machine or container has no lists; one with lists may have outdated ones.
    let install = [&["install", "--no-install-recommends"], packages].concat();
    let known = lists_are_there() && apt(&install).logged(&log, |line| task.note(line)).await.is_ok();
    if !known {
        task.note("updates the lists of packages");
        lists_are_free().await;
        apt(&["update"])
            .logged(&log, |line| task.note(line))
            .await
            .context(advised("cannot update the lists of packages", HELP))?;
        apt(&install)
            .logged(&log, |line| task.note(line))
            .await
            .with_context(|| advised(format!("cannot install {list}"), HELP))?;
    }
    task.done(&list);
    Ok(())
}

const HELP: &str = "see why apt-get fails (network, disk, another apt at work), then the same command again";

/// Waits until no other apt updates the lists: `DPkg::Lock::Timeout` does not speak of their lock, and apt-get fails on
/// it at once. Whatever keeps us from looking, apt-get will tell.
async fn lists_are_free() {
    let (free, freed) = tokio::sync::oneshot::channel();
    // A thread of its own and none of the runtime's: when nobody waits any more the program ends without it.
    std::thread::spawn(move || {
        let wait = || -> std::io::Result<()> {
            let lock = std::fs::File::options().write(true).open(Path::new(LISTS).join("lock"))?;
            Ok(rustix::fs::fcntl_lock(&lock, rustix::fs::FlockOperation::LockExclusive)?)
        };
        let _ = free.send(wait());
    });
    let _ = tokio::time::timeout(Duration::from_secs(120), freed).await;
}

fn lists_are_there() -> bool {
    let lists = Path::new(LISTS).read_dir();
    lists.is_ok_and(|mut lists| {
        lists.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with("_Packages")))
    })
}
