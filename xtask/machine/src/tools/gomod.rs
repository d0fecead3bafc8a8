//! Builds programs from the pinned Go modules below `xtask/tools` into the cache.
//!
//! A finished build is a folder named after a hash of everything that went into it. It is made beside
//! its place and renamed when whole, so a build that was interrupted is never taken for a finished one,
//! and a changed pin builds that module alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use semver::Version;

use crate::advice::advised;
use crate::cache;
use crate::command::{Command, CommandFailed};
use crate::digest::Pieces;
use crate::files::copy_folder;
use crate::lock::Lock;
use crate::pins;
use crate::progress::Progress;
use crate::surroundings::Surroundings;
use crate::tools::{on_path, parse_version};
use crate::workspace::Workspace;

/// Programs built together from one folder of pins.
#[derive(Debug)]
pub struct Module {
    /// What the build is called.
    pub name: &'static str,
    /// Its version, where the programs are asked for one.
    pub version: &'static str,
    folder: &'static str,
    packages: &'static [&'static str],
    /// Added to the linker's flags.
    link: &'static str,
    /// Names the one program also answers to.
    links: &'static [&'static str],
    /// Seconds it took on two cores with an empty build cache.
    pub cold_s: u64,
}

/// The commands of the multi-call binary.
const KUBERNETES_COMMANDS: &[&str] = &[
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubeadm",
    "kubectl",
];

/// Without these, kubeadm and `/version` say v0.0.0.
const KUBERNETES_VERSION: &str = "-X k8s.io/component-base/version.gitVersion=v1.37.0 \
     -X k8s.io/component-base/version.gitMajor=1 \
     -X k8s.io/component-base/version.gitMinor=37 \
     -X k8s.io/component-base/version.gitTreeState=clean \
     -X k8s.io/client-go/pkg/version.gitVersion=v1.37.0";

const fn module(name: &'static str, packages: &'static [&'static str], cold_s: u64) -> Module {
    Module { name, version: "", folder: name, packages, link: "", links: &[], cold_s }
}

/// All Kubernetes commands in one binary.
pub const KUBERNETES: Module = Module {
    version: pins::KUBERNETES,
    link: KUBERNETES_VERSION,
    links: KUBERNETES_COMMANDS,
    ..module("kubernetes", &["."], 420)
};
/// kubectl alone, from the same pins. The node has it in the one binary, but a lab calls it a hundred times, and by
/// itself it starts in half the time and a third of the memory.
pub const KUBECTL: Module = Module {
    version: pins::KUBERNETES,
    folder: "kubernetes",
    link: KUBERNETES_VERSION,
    ..module("kubectl", &["k8s.io/kubernetes/cmd/kubectl"], 100)
};
/// Makes clusters.
pub const KIND: Module = Module { version: pins::KIND, ..module("kind", &["sigs.k8s.io/kind"], 6) };
/// Installs charts.
pub const HELM: Module = Module {
    version: pins::HELM,
    link: "-X helm.sh/helm/v4/internal/version.version=v4.3.1",
    ..module("helm", &["helm.sh/helm/v4/cmd/helm"], 95)
};
/// The cluster's store.
pub const ETCD: Module = module("etcd", &["."], 21);
/// The cluster's name server.
pub const COREDNS: Module = module("coredns", &["."], 60);
/// The node's container runtime.
pub const CONTAINERD: Module = module(
    "containerd",
    &[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ],
    55,
);
/// The pods' network on a node.
pub const CNI: Module = module(
    "cni",
    &[
        "github.com/containernetworking/plugins/plugins/main/ptp",
        "github.com/containernetworking/plugins/plugins/main/loopback",
        "github.com/containernetworking/plugins/plugins/ipam/host-local",
    ],
    6,
);
/// Connects the pods of a node with those of the others, and makes the volumes that lie on it.
pub const NODE_AGENT: Module = module("node-agent", &["."], 10);

/// What a node image built here is made of, the longest build first.
pub const NODE_MODULES: [&Module; 6] = [&KUBERNETES, &CONTAINERD, &COREDNS, &ETCD, &NODE_AGENT, &CNI];

/// A Go toolchain that can build them.
#[derive(Debug, Clone)]
pub struct Go {
    /// Where it is.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
}

impl Go {
    /// The Go on `PATH`; the error says what is wrong with it.
    ///
    /// # Errors
    /// There is none, or it is older than the pinned modules need.
    pub async fn find() -> Result<Self> {
        let path = on_path("go").into_iter().next().ok_or_else(|| anyhow!("not found"))?;
        let answer = Command::new(&path)
            .args(["env", "GOVERSION"])
            .env("GOTOOLCHAIN", "local")
            .deadline(Duration::from_secs(5))
            .read()
            .await?;
        let version = parse_version(&answer).ok_or_else(|| anyhow!("does not tell its version: {answer}"))?;
        Ok(Self { path, version })
    }

    /// Whether it is new enough for the pins.
    pub fn fits(&self) -> bool {
        self.version >= pins::GO
    }

    fn command(&self, site: &Site) -> Command {
        site.surroundings
            .command(&self.path)
            .dir(&site.pins)
            .env("GOCACHE", &site.build_cache)
            .env("GOMODCACHE", &site.module_cache)
            .env("GOFLAGS", FLAGS)
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            .env_remove("GOOS")
            .env_remove("GOARCH")
    }

    /// The source of a module that one of ours pins, downloaded if need be.
    ///
    /// # Errors
    /// It can't be downloaded.
    pub async fn source(&self, workspace: &Workspace, pins: &Module, module: &str) -> Result<PathBuf> {
        let download = self.command(&Site::of(pins, workspace)).args(["mod", "download", "-json", module]);
        let answer = download.deadline(Duration::from_secs(300)).read().await;
        let answer = answer.map_err(|error| explain(error, workspace, module))?;
        let answer: serde_json::Value = serde_json::from_str(&answer)
            .with_context(|| format!("`go mod download {module}` answered oddly"))?;
        let dir = answer["Dir"].as_str();
        dir.map(PathBuf::from).ok_or_else(|| anyhow!("`go mod download {module}` names no folder"))
    }
}

/// Where a module is compiled, and in what surroundings: no byte of a program depends on either.
struct Site {
    pins: PathBuf,
    build_cache: PathBuf,
    module_cache: PathBuf,
    surroundings: Surroundings,
}

impl Site {
    fn of(module: &Module, workspace: &Workspace) -> Self {
        Self {
            pins: module.pins(workspace),
            build_cache: workspace.cache.join("go-build"),
            module_cache: workspace.cache.join("go-mod"),
            surroundings: Surroundings::HERE,
        }
    }
}

const FLAGS: &str = "-trimpath -modcacherw -buildvcs=false";
const LINK: &str = "-s -w";

impl Module {
    /// The names of its programs, links not counted.
    pub fn programs(&self) -> impl Iterator<Item = &'static str> {
        let name = self.name;
        self.packages.iter().map(move |package| match *package {
            "." => name,
            package => package.rsplit('/').next().unwrap_or(package),
        })
    }

    fn pins(&self, workspace: &Workspace) -> PathBuf {
        workspace.root.join("xtask/tools").join(self.folder)
    }

    /// The hash of everything that goes into the build.
    ///
    /// # Panics
    /// Never: a missing file counts as empty, and the build will tell.
    pub fn key(&self, workspace: &Workspace, go: &Go) -> String {
        let mut key = Pieces::new();
        for file in ["go.mod", "go.sum", "main.go"] {
            let bytes = std::fs::read(self.pins(workspace).join(file)).unwrap_or_default();
            key.add_part(bytes);
        }
        let target = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
        let go = go.version.to_string();
        for text in [FLAGS, LINK, self.link, &go, &target].iter().chain(self.packages).chain(self.links) {
            key.add_part(text);
        }
        key.finish()[..16].to_owned()
    }

    fn place(&self, workspace: &Workspace, go: &Go) -> PathBuf {
        let name = format!("{}-{}", self.name, self.key(workspace, go));
        workspace.cache.join("tools").join(name)
    }

    /// Marks its programs as used now: from then on they are kept for some weeks.
    pub fn used(&self, workspace: &Workspace, go: &Go) {
        cache::used(&self.place(workspace, go), self.name);
    }

    /// The folder of its programs, when it has been built from the present pins.
    pub fn built(&self, workspace: &Workspace, go: &Go) -> Option<PathBuf> {
        let bin = self.place(workspace, go).join("bin");
        bin.is_dir().then_some(bin)
    }

    /// Builds it unless that has been done, and returns the folder of its programs.
    ///
    /// # Errors
    /// The build failed: the disk is full, a module can't be downloaded, the source does not compile.
    pub async fn build(&self, workspace: &Workspace, go: &Go, progress: &Progress) -> Result<PathBuf> {
        if let Some(bin) = self.built(workspace, go) {
            return Ok(bin);
        }
        let task = progress.start(format!("build {}", self.name));
        let tools = workspace.cache.join("tools");
        let lock = tools.join(format!("{}.lock", self.name));
        let lock =
            Lock::wait(&lock, |holder| task.note(format!("waits for {holder}, which builds it"))).await?;
        if let Some(bin) = self.built(workspace, go) {
            task.done("built by another run");
            return Ok(bin);
        }
        let unfinished = lock.workplace(&tools, self.name)?;
        let mut compiled = 0;
        task.note("go: looks at its cache");
        let log = workspace.logs().join(format!("build-{}.log", self.name));
        let on_line = |line: &str| {
            if line.starts_with("go: downloading ") {
                task.note(line);
            } else {
                compiled += 1;
                task.note(format!("go: {compiled} packages compiled"));
            }
        };
        let site = Site::of(self, workspace);
        let bin = self.compile(go, &site, unfinished.path(), &log, on_line).await;
        let bin = bin.map_err(|error| explain(error, workspace, self.name))?;
        for link in self.links {
            std::os::unix::fs::symlink(self.name, bin.join(link))
                .with_context(|| format!("cannot link {link} to {}", self.name))?;
        }
        let place = self.place(workspace, go);
        std::fs::create_dir_all(&place)
            .and_then(|()| std::fs::rename(&bin, place.join("bin")))
            .with_context(|| format!("cannot move the build of {} to {}", self.name, place.display()))?;
        self.used(workspace, go);
        task.done(&format!("{compiled} packages compiled"));
        Ok(place.join("bin"))
    }

    /// Compiles it into the folder `bin` in `work`.
    async fn compile(
        &self,
        go: &Go,
        site: &Site,
        work: &Path,
        log: &Path,
        on_line: impl FnMut(&str),
    ) -> Result<PathBuf> {
        let bin = work.join("bin");
        std::fs::create_dir(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
        let mut output = bin.clone().into_os_string();
        // With the slash, go puts one file per package into the folder.
        output.push("/");
        go.command(site)
            .args(["build", "-v", "-ldflags"])
            .arg(format!("{LINK} {}", self.link).trim_end())
            .arg("-o")
            .arg(output)
            .args(self.packages)
            .deadline(Duration::from_secs(3600))
            .logged(log, on_line)
            .await?;
        Ok(bin)
    }

    /// Compiles it once more in `work`: other folders, other surroundings, and nothing of an earlier build at hand
    /// but the sources. The folder of its programs.
    ///
    /// # Errors
    /// As [`Module::build`].
    pub async fn build_elsewhere(
        &self,
        workspace: &Workspace,
        go: &Go,
        work: &Path,
        log: &Path,
    ) -> Result<PathBuf> {
        let site = Site {
            pins: work.join("pins"),
            build_cache: work.join("go-build"),
            module_cache: work.join("modules"),
            surroundings: Surroundings::ELSEWHERE,
        };
        copy_folder(&self.pins(workspace), &site.pins)
            .and_then(|()| std::os::unix::fs::symlink(workspace.cache.join("go-mod"), &site.module_cache))
            .with_context(|| format!("cannot lay out {}", work.display()))?;
        let bin = self.compile(go, &site, work, log, |_| ()).await;
        bin.map_err(|error| explain(error, workspace, self.name))
    }
}

/// Space that building everything takes in the cache, in MiB: 9.4 GB of Go's own caches, 0.5 of programs, and
/// twice the node image while it is put together.
pub const CACHE_MIB: u64 = 12_000;

/// Says what to do about the failures a person can do something about.
fn explain(error: anyhow::Error, workspace: &Workspace, what: &str) -> anyhow::Error {
    let Some(failed) = error.downcast_ref::<CommandFailed>() else {
        return error;
    };
    match advice(&failed.output, &workspace.cache) {
        Some((because, next)) => error.context(advised(format!("cannot build {what}: {because}"), next)),
        None => error.context(format!("cannot build {what}")),
    }
}

fn advice(output: &str, cache: &Path) -> Option<(String, String)> {
    let says = |words: &[&str]| words.iter().any(|word| output.contains(word));
    if says(&["no space left on device", "disk quota exceeded"]) {
        return Some((
            format!("the disk of {} is full", cache.display()),
            format!("free about {} GB there, or set XDG_CACHE_HOME to a larger disk", CACHE_MIB / 1000),
        ));
    }
    if says(&["dial tcp", "i/o timeout", "TLS handshake", "no such host", "connection reset", "proxyconnect"])
    {
        return Some((
            "the Go module proxy can't be reached".to_owned(),
            "look at the network and at GOPROXY (`go env GOPROXY`), then run the same command again: \
             what was downloaded is kept"
                .to_owned(),
        ));
    }
    says(&["checksum mismatch"]).then(|| {
        (
            "a downloaded module is not the pinned one".to_owned(),
            "run the same command again; if it stays, the proxy in GOPROXY changes modules".to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice;

    fn workspace(dir: &Path) -> Workspace {
        let pins = dir.join("xtask/tools/etcd");
        std::fs::create_dir_all(&pins).unwrap();
        std::fs::write(pins.join("go.mod"), "module m\n\ngo 1.26.0\n").unwrap();
        std::fs::write(pins.join("main.go"), "package main\n\nfunc main() {}\n").unwrap();
        Workspace { root: dir.to_owned(), lab: dir.join("target/lab"), cache: dir.join("cache") }
    }

    fn go(version: Version) -> Go {
        Go { path: PathBuf::from("go"), version }
    }

    #[test]
    fn a_changed_pin_or_go_changes_the_key_of_its_own_module_alone() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = workspace(dir.path());
        let present = go(Version::new(1, 26, 1));
        let keys = || (ETCD.key(&workspace, &present), COREDNS.key(&workspace, &present));
        let before = keys();
        assert_eq!(before, keys());
        std::fs::write(dir.path().join("xtask/tools/etcd/go.sum"), "changed\n").unwrap();
        let after = keys();
        assert_ne!(before.0, after.0);
        assert_eq!(before.1, after.1);
        assert_ne!(after.0, ETCD.key(&workspace, &go(Version::new(1, 27, 0))));
    }

    /// A `go` that does as the script says, with `$out` the folder the programs go to.
    fn pretended_go(dir: &Path, script: &str) -> Go {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join("go");
        let script = format!("#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done; out=$2\n{script}\n");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Go { path, version: Version::new(1, 26, 0) }
    }

    #[tokio::test]
    async fn a_build_that_breaks_half_way_is_not_taken_for_finished_and_the_next_one_recovers() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = workspace(dir.path());
        let progress = Progress::new();
        let broken =
            pretended_go(dir.path(), "echo half >$out/etcd; echo 'no space left on device' >&2; exit 1");
        let error = ETCD.build(&workspace, &broken, &progress).await.unwrap_err();
        assert!(error.to_string().ends_with("is full"), "{error}");
        assert!(advice::next(&error).unwrap().starts_with("free about"), "{error:?}");
        assert_eq!(ETCD.built(&workspace, &broken), None);

        let whole = pretended_go(dir.path(), "echo whole >$out/etcd");
        let bin = ETCD.build(&workspace, &whole, &progress).await.unwrap();
        assert_eq!(std::fs::read_to_string(bin.join("etcd")).unwrap(), "whole\n");
        assert_eq!(ETCD.built(&workspace, &whole), Some(bin));
        let left: Vec<_> = std::fs::read_dir(workspace.cache.join("tools"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with('.'))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[tokio::test]
    async fn a_killed_build_leaves_nothing_that_counts() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = workspace(dir.path());
        let slow = pretended_go(dir.path(), "echo half >$out/etcd; sleep 60");
        let progress = Progress::new();
        let build = ETCD.build(&workspace, &slow, &progress);
        assert!(tokio::time::timeout(Duration::from_millis(500), build).await.is_err());
        assert_eq!(ETCD.built(&workspace, &slow), None);
    }

    #[test]
    fn failures_with_a_remedy_say_it() {
        let cache = Path::new("/cache");
        let (because, next) = advice("write /x: no space left on device", cache).unwrap();
        assert!(because.contains("/cache") && next.contains("XDG_CACHE_HOME"), "{because} {next}");
        let network = "dial tcp: lookup proxy.example: no such host";
        assert!(advice(network, cache).unwrap().1.contains("GOPROXY"));
        assert!(advice("x.go:1:1: expected 'package'", cache).is_none());
    }
}
