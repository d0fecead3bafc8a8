//! Debian root filesystems out of packages, made by mmdebstrap and kept in the cache.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use archive::MTIME;

use machine::advice::advised;
use machine::cache;
use machine::command::CommandFailed;
use machine::digest::sha256;
use machine::lock::Lock;
use machine::pins;
use machine::progress::Progress;
use machine::surroundings::Surroundings;
use machine::workspace::Workspace;

/// A root filesystem to make.
pub struct Debian {
    /// What it is called.
    pub name: &'static str,
    /// mmdebstrap's variant: `minbase` is a system, `extract` unpacks packages and runs nothing of them.
    variant: &'static str,
    packages: &'static [&'static str],
    /// Run in the finished system.
    hook: &'static str,
}

/// What kind's own base image installs, without what one node for a lab does not use (NFS, iSCSI,
/// fuse-overlayfs, pigz), and runc, which needs cgo to build.
pub const NODE: Debian = Debian {
    name: "node",
    variant: "minbase",
    packages: &[
        "bash",
        "ca-certificates",
        "conntrack",
        "curl",
        "ethtool",
        "iproute2",
        "iptables",
        "jq",
        "kmod",
        "libseccomp2",
        "mount",
        "nftables",
        "procps",
        "runc",
        "systemd",
        "util-linux",
    ],
    // As kind's images/base/Dockerfile does it.
    hook: "find /lib/systemd/system/sysinit.target.wants/ -name systemd-tmpfiles-setup.service -delete\n\
        rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* \
        /lib/systemd/system/local-fs.target.wants/* /lib/systemd/system/sockets.target.wants/*udev* \
        /lib/systemd/system/sockets.target.wants/*initctl* /lib/systemd/system/basic.target.wants/*\n\
        echo ReadKMsg=no >>/etc/systemd/journald.conf\n\
        ln -s /usr/lib/systemd/systemd /sbin/init\n\
        rm -rf /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/*",
};

/// What kube-proxy calls.
pub const PROXY: Debian = Debian {
    name: "proxy",
    variant: "extract",
    packages: &["conntrack", "iptables", "kmod", "libc6", "netbase", "nftables"],
    hook: "",
};

/// Kept out: nobody reads them in a node.
const EXCLUDED: [&str; 5] = ["doc", "man", "locale", "info", "bash-completion"];

/// Whether apt's own user may enter the folder that is worked in decides else whom two of apt's folders belong to.
const APT: &str = "APT::Sandbox::User \"root\"";

impl Debian {
    /// Describes all that goes into it, for a key.
    pub(crate) fn recipe(&self) -> String {
        format!("{} {} {:?} {} {APT} {MTIME}", pins::NODE_DEBIAN, self.variant, self.packages, self.hook)
    }

    /// The filesystem as a tar: from the cache, or made now.
    ///
    /// # Errors
    /// mmdebstrap failed: the archive can't be reached, the disk is full.
    pub(crate) async fn tar(&self, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
        let key = &sha256(self.recipe().as_bytes())[..16];
        let dir = workspace.cache.join("node");
        let place = dir.join(format!("{}-{key}.tar", self.name));
        if place.exists() {
            cache::used(&place, self.name);
            return Ok(place);
        }
        let task = progress.start(format!("debian packages: {}", self.name));
        let lock = dir.join(format!("{}.lock", self.name));
        let lock =
            Lock::wait(&lock, |holder| task.note(format!("waits for {holder}, which makes it"))).await?;
        if place.exists() {
            task.done("made by another run");
            return Ok(place);
        }
        let unfinished = lock.workplace(&dir, self.name)?;
        let tar = unfinished.path().join("root.tar");
        let log = workspace.logs().join(format!("debian-{}.log", self.name));
        self.make(&tar, Surroundings::HERE, &log, |line| task.note(line)).await?;
        std::fs::rename(&tar, &place).with_context(|| format!("cannot move {}", place.display()))?;
        cache::used(&place, self.name);
        task.done(&format!("Debian {}", pins::NODE_DEBIAN));
        Ok(place)
    }

    /// Writes it to `tar`; its folder is the only one that is worked in.
    ///
    /// # Errors
    /// As [`Debian::tar`].
    pub async fn make(
        &self,
        tar: &Path,
        surroundings: Surroundings,
        log: &Path,
        mut on_line: impl FnMut(&str),
    ) -> Result<()> {
        let mut command = surroundings
            .command("mmdebstrap")
            // When it is killed, what it unpacked goes with our folder, and not to the end of days in /tmp.
            .env("TMPDIR", tar.parent().unwrap_or(Path::new(".")))
            // No file is younger: the packages of one day make the same filesystem whenever they are unpacked.
            .env("SOURCE_DATE_EPOCH", MTIME.to_string())
            .arg(format!("--variant={}", self.variant))
            .arg(format!("--include={}", self.packages.join(",")))
            .arg(format!("--aptopt={APT}"))
            .args(EXCLUDED.map(|share| format!("--dpkgopt=path-exclude=/usr/share/{share}/*")));
        if !self.hook.is_empty() {
            // mmdebstrap gives the root as the first argument.
            let script = format!("set -e\n{}", self.hook);
            command =
                command.arg(format!("--customize-hook=chroot \"$1\" sh -c {}", shell_words::quote(&script)));
        }
        command
            .arg(pins::NODE_DEBIAN)
            .arg(tar)
            .deadline(Duration::from_secs(1200))
            .logged(log, |line| on_line(line.trim_start_matches("I: ")))
            .await
            .map_err(explain)
    }
}

/// The two Debian filesystems: while Go compiles, the network is free for them.
///
/// # Errors
/// As [`Debian::make`].
pub async fn both(workspace: &Workspace, progress: &Progress) -> Result<(PathBuf, PathBuf)> {
    let dir = workspace.cache.join("node");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    tokio::try_join!(NODE.tar(workspace, progress), PROXY.tar(workspace, progress))
}

fn explain(error: anyhow::Error) -> anyhow::Error {
    let output = error.downcast_ref::<CommandFailed>().map(|failed| failed.output.clone());
    let output = output.unwrap_or_default();
    let says = |words: &[&str]| words.iter().any(|word| output.contains(word));
    let next = if says(&["No space left on device"]) {
        "free about 3 GB on the disk of the cache, or set XDG_CACHE_HOME to a larger one"
    } else if says(&["keyring", "NO_PUBKEY", "not signed"]) {
        "install debian-archive-keyring, then run the same command again"
    } else if says(&["Temporary failure resolving", "Could not connect", "Failed to fetch", "Connection"]) {
        "look at the network and at apt's proxy settings, then run the same command again"
    } else {
        return error.context("cannot make a Debian root filesystem");
    };
    error.context(advised("cannot make a Debian root filesystem", next))
}
