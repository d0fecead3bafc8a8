//! Who runs containers: Docker when its daemon answers, else podman, with settings of our own. Nothing of the system's
//! configuration is changed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit};
use semver::Version;
use serde::Deserialize;

use crate::advice::advised;
use crate::command::Command;
use crate::files;
use crate::tools::{on_path, parse_version};
use crate::workspace::Workspace;

/// A daemon that does not answer by then is not there. The docker client alone waits for ever.
const ANSWER_DEADLINE: Duration = Duration::from_secs(8);

/// A container engine that answers.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Which.
    pub kind: EngineKind,
    /// Its client.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
    /// What the machine denies it; empty on an ordinary one.
    pub restrictions: Vec<Restriction>,
    /// Name of our cluster on it, and of that cluster's network: a daemon may serve many users.
    pub cluster: String,
    /// podman's settings of our own.
    containers_conf: Option<PathBuf>,
}

/// kind mounts this folder of the host into its nodes. Docker makes it where it is missing; podman refuses.
pub const KERNEL_MODULES: &str = "/lib/modules";

/// The two engines that kind and we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// A daemon.
    Docker,
    /// No daemon.
    Podman,
}

/// Something that the machine denies, and that a node needs to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restriction {
    /// Nobody on the machine may raise limits or lower an OOM score.
    NoSysResource,
    /// No process may open more files than this.
    FewFiles {
        /// The hard limit.
        hard: u64,
    },
    /// The controllers are those of cgroup v1.
    CgroupV1 {
        /// The v2 tree is there beside them, without controllers.
        hybrid: bool,
    },
}

/// kind's nodes ask for a million open files; what is below this is worth telling.
const ENOUGH_FILES: u64 = 65_536;

/// Since then podman takes settings beside those that it finds; before, in the place of all others.
const CONTAINERS_CONF_OVERRIDE: Version = Version::new(4, 5, 0);

/// conmon lowers the number of processes to this where it may not raise limits.
const CONMON_PROCESSES: u64 = 32_768;

impl Engine {
    /// Looks for one. `Ok(None)`: there is none. Changes nothing.
    ///
    /// # Errors
    /// `KIND_EXPERIMENTAL_PROVIDER` names an engine that does not answer; podman is there and does not work.
    pub async fn find(workspace: &Workspace) -> Result<Option<Self>> {
        let cluster = workspace.identity().cluster();
        let wish = std::env::var("KIND_EXPERIMENTAL_PROVIDER").ok();
        let docker = async {
            let path = on_path("docker").into_iter().next()?;
            let answer = Command::new(&path)
                .args(["info", "--format", "{{json .}}"])
                .deadline(ANSWER_DEADLINE)
                .output()
                .await
                .ok()?;
            let (version, restrictions) = docker_daemon(&answer.stdout)?;
            Some(Self {
                kind: EngineKind::Docker,
                path,
                version,
                restrictions,
                cluster: cluster.clone(),
                containers_conf: None,
            })
        };
        let podman = async {
            let path = on_path("podman").into_iter().next()?;
            let answer = Command::new(&path).arg("--version").deadline(ANSWER_DEADLINE).read().await.ok()?;
            let version = parse_version(&answer)?;
            let restrictions = Self::restrictions_here();
            Some(Self {
                kind: EngineKind::Podman,
                path,
                version,
                restrictions,
                cluster: cluster.clone(),
                containers_conf: Some(workspace.cache.join("containers.conf")),
            })
        };
        let podman = async {
            match podman.await {
                Some(engine) if engine.missing_packages().is_empty() => engine.works().await.map(Some),
                found => Ok(found),
            }
        };
        match wish.as_deref() {
            Some("docker") => Ok(Some(docker.await.context(advised(
                "KIND_EXPERIMENTAL_PROVIDER asks for docker, and its daemon does not answer",
                "start it, or unset KIND_EXPERIMENTAL_PROVIDER",
            ))?)),
            Some("podman") => podman.await,
            _ => match docker.await {
                Some(engine) => Ok(Some(engine)),
                None => podman.await,
            },
        }
    }

    /// podman has no daemon that could be asked: it looks at its own storage and runtime instead.
    async fn works(self) -> Result<Self> {
        let looked = self.command().args(["info", "--format", "{{.Host.OCIRuntime.Name}}"]);
        looked
            .deadline(ANSWER_DEADLINE)
            .read()
            .await
            .context(advised("podman is there and does not work", "podman info"))?;
        Ok(self)
    }

    /// What podman would be denied on this machine.
    pub fn restrictions_here() -> Vec<Restriction> {
        Machine::read().restrictions()
    }

    /// An engine for tests that look at settings alone.
    pub fn pretended(kind: EngineKind, restrictions: Vec<Restriction>) -> Self {
        Self {
            kind,
            path: PathBuf::from("podman"),
            version: Version::new(4, 3, 1),
            restrictions,
            cluster: "statefulset-lab-00000000".to_owned(),
            containers_conf: None,
        }
    }

    /// Writes the settings of our own that [`Engine::command`] names. Before the first command.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn prepare(&self) -> Result<()> {
        let Some(path) = &self.containers_conf else {
            return Ok(());
        };
        files::replace(path, containers_conf(&self.restrictions))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// A command of the engine.
    pub fn command(&self) -> Command {
        self.settings(Command::new(&self.path))
    }

    /// `command`, told to use this engine in the way the machine allows: for the engine itself and for kind.
    #[must_use]
    pub fn settings(&self, command: Command) -> Command {
        self.environment().into_iter().fold(command, |command, (key, value)| command.env(key, value))
    }

    /// The variables that tell the engine and kind how to work here.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        // kind's own network is called "kind" and shared with the user's clusters: ours is ours to remove.
        let network = match self.kind {
            EngineKind::Docker => "KIND_EXPERIMENTAL_DOCKER_NETWORK",
            EngineKind::Podman => "KIND_EXPERIMENTAL_PODMAN_NETWORK",
        };
        let mut variables =
            vec![("KIND_EXPERIMENTAL_PROVIDER", self.name().into()), (network, self.cluster.clone().into())];
        // Before `prepare`, a look at what is there needs none of them.
        if let Some(path) = self.containers_conf.as_ref().filter(|path| path.exists()) {
            let adds = self.version >= CONTAINERS_CONF_OVERRIDE;
            variables.push((if adds { "CONTAINERS_CONF_OVERRIDE" } else { "CONTAINERS_CONF" }, path.into()));
        }
        variables
    }

    /// `docker` or `podman`.
    pub fn name(&self) -> &'static str {
        match self.kind {
            EngineKind::Docker => "docker",
            EngineKind::Podman => "podman",
        }
    }

    /// The packages of Debian and Ubuntu that this engine still needs here.
    pub fn missing_packages(&self) -> Vec<&'static str> {
        if self.kind == EngineKind::Docker {
            return vec![];
        }
        podman_packages(&self.restrictions, program_exists)
    }

    /// Whether the host lacks a folder that podman won't make: kernels without modules come without it.
    pub fn lacks_modules_folder(&self) -> bool {
        self.kind == EngineKind::Podman && !Path::new(KERNEL_MODULES).exists()
    }

    /// The id of an image in its storage.
    pub async fn image_id(&self, image: &str) -> Option<String> {
        let output =
            self.command().args(["image", "inspect", "--format", "{{.Id}}", image]).output().await.ok()?;
        let id = output.stdout.trim();
        (output.status == 0 && !id.is_empty()).then(|| id.to_owned())
    }
}

/// What podman needs on this machine and does not depend on in Debian: the network's helpers, and runc
/// where crun refuses. `is_there` tells about a program.
pub fn podman_packages(restrictions: &[Restriction], is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let needs_runc =
        restrictions.iter().any(|restriction| matches!(restriction, Restriction::CgroupV1 { .. }));
    [
        ("podman", "podman", true),
        ("netavark", "netavark", true),
        ("aardvark-dns", "aardvark-dns", true),
        ("iptables", "iptables", true),
        ("runc", "runc", needs_runc),
    ]
    .into_iter()
    .filter(|&(program, _, needed)| needed && !is_there(program))
    .map(|(_, package, _)| package)
    .collect()
}

/// Whether a program is on `PATH` or where Debian keeps the helpers of podman and of root.
pub fn program_exists(name: &str) -> bool {
    !on_path(name).is_empty()
        || ["/usr/lib/podman", "/usr/libexec/podman", "/usr/sbin", "/sbin"]
            .iter()
            .any(|dir| Path::new(dir).join(name).exists())
}

impl Restriction {
    /// What is the matter.
    pub fn what(self) -> String {
        match self {
            Self::NoSysResource => {
                "no CAP_SYS_RESOURCE: limits can't be raised, OOM scores not lowered".to_owned()
            }
            Self::FewFiles { hard } => format!("at most {hard} open files per process"),
            Self::CgroupV1 { hybrid: true } => "cgroup v1 controllers beside an empty v2 tree".to_owned(),
            Self::CgroupV1 { hybrid: false } => "cgroup v1".to_owned(),
        }
    }

    /// What is done about it, in our own settings alone.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NoSysResource => "containerd in the node keeps OOM scores; limits as below",
            Self::FewFiles { .. } => "default_ulimits in our containers.conf stay below it",
            Self::CgroupV1 { .. } => "runc and cgroupfs in our containers.conf; kubelet: failCgroupV1 false",
        }
    }
}

/// The settings for podman: those that a restricted machine asks for, and no bound on processes. podman's own is 2048, in
/// which some hundred pods with their shims have no room: <https://github.com/kubernetes-sigs/kind/issues/2830>.
fn containers_conf(restrictions: &[Restriction]) -> String {
    let mut conf = String::from("# Written by `cargo xtask`.\n[containers]\npids_limit = 0\n");
    let hard = restrictions.iter().find_map(|restriction| match restriction {
        Restriction::FewFiles { hard } => Some(*hard),
        _ => None,
    });
    let limited = hard.is_some() || restrictions.contains(&Restriction::NoSysResource);
    if limited {
        let files = hard.unwrap_or_else(|| limit(Resource::Nofile));
        let processes = limit(Resource::Nproc).min(CONMON_PROCESSES);
        conf +=
            &format!("default_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n");
    }
    if !restrictions.is_empty() {
        conf += "[engine]\nevents_logger = \"file\"\n";
    }
    if restrictions.iter().any(|restriction| matches!(restriction, Restriction::CgroupV1 { .. })) {
        conf += "runtime = \"runc\"\ncgroup_manager = \"cgroupfs\"\n";
    }
    conf
}

/// What decides about restrictions, as the kernel tells it.
struct Machine {
    /// `/proc/self/status`.
    status: String,
    /// `/proc/self/mounts`.
    mounts: String,
    /// The hard limit of open files.
    files: u64,
}

/// Bit of CAP_SYS_RESOURCE in a capability mask, see capabilities(7).
const SYS_RESOURCE: u32 = 24;

impl Machine {
    fn read() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            status: read("/proc/self/status"),
            mounts: read("/proc/self/mounts"),
            files: limit(Resource::Nofile),
        }
    }

    fn restrictions(&self) -> Vec<Restriction> {
        let mut found = vec![];
        // The bounding set: an ordinary user has no effective capabilities and is not restricted by that.
        let bounding = self
            .status
            .lines()
            .find_map(|line| u64::from_str_radix(line.strip_prefix("CapBnd:")?.trim(), 16).ok());
        if bounding.is_some_and(|mask| mask & (1 << SYS_RESOURCE) == 0) {
            found.push(Restriction::NoSysResource);
        }
        if self.files < ENOUGH_FILES {
            found.push(Restriction::FewFiles { hard: self.files });
        }
        let mounted = |kind: &str, below: &str| {
            self.mounts.lines().any(|line| {
                let mut fields = line.split(' ').skip(1);
                fields.next().is_some_and(|at| at.starts_with(below)) && fields.next() == Some(kind)
            })
        };
        if mounted("cgroup", "/sys/fs/cgroup/") {
            let hybrid = mounted("cgroup2", "/sys/fs/cgroup/");
            found.push(Restriction::CgroupV1 { hybrid });
        }
        found
    }
}

/// The hard limit of a resource; no limit is a very high one.
fn limit(resource: Resource) -> u64 {
    getrlimit(resource).maximum.unwrap_or(u64::MAX)
}

/// Docker's own account of its daemon: `None` when only the client answered.
fn docker_daemon(info: &str) -> Option<(Version, Vec<Restriction>)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Info {
        #[serde(default)]
        server_version: String,
        #[serde(default)]
        cgroup_version: String,
    }
    let info: Info = serde_json::from_str(info.trim()).ok()?;
    let version = parse_version(&info.server_version)?;
    let v1 = info.cgroup_version == "1";
    Some((version, v1.then_some(Restriction::CgroupV1 { hybrid: false }).into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
        cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
        cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
    const V1: &str = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n";
    const V2: &str = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
    const ALL: &str = "CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n";
    const NO_SYS_RESOURCE: &str = "CapEff:\t000001fffeffffff\nCapBnd:\t000001fffeffffff\n";

    fn restrictions(status: &str, mounts: &str, files: u64) -> Vec<Restriction> {
        Machine { status: status.to_owned(), mounts: mounts.to_owned(), files }.restrictions()
    }

    #[test]
    fn each_restriction_is_detected_by_itself() {
        assert_eq!(restrictions(ALL, V2, 1_048_576), []);
        assert_eq!(restrictions(NO_SYS_RESOURCE, V2, 1_048_576), [Restriction::NoSysResource]);
        assert_eq!(restrictions(ALL, V2, 20_000), [Restriction::FewFiles { hard: 20_000 }]);
        assert_eq!(restrictions(ALL, V1, 1_048_576), [Restriction::CgroupV1 { hybrid: false }]);
        assert_eq!(restrictions(ALL, HYBRID, 1_048_576), [Restriction::CgroupV1 { hybrid: true }]);
        assert_eq!(restrictions(NO_SYS_RESOURCE, HYBRID, 20_000).len(), 3);
    }

    #[test]
    fn only_the_settings_a_restriction_asks_for_are_written_and_that_a_node_may_have_many_processes() {
        let conf = containers_conf(&[]);
        assert!(conf.contains("pids_limit = 0") && !conf.contains("[engine]"), "{conf}");
        let conf = containers_conf(&[Restriction::FewFiles { hard: 20_000 }]);
        assert!(conf.contains("\"nofile=20000:20000\"") && !conf.contains("cgroupfs"), "{conf}");
        let conf = containers_conf(&[Restriction::CgroupV1 { hybrid: true }]);
        assert!(!conf.contains("nofile") && conf.contains("runtime = \"runc\""), "{conf}");
    }

    #[test]
    fn a_docker_client_without_its_daemon_is_no_engine() {
        // As docker 28 prints it, with status 0 in some versions and 1 in others.
        let alone = r#"{"ID":"","Containers":0,"ServerVersion":"","ServerErrors":["Cannot connect to the Docker daemon"]}"#;
        assert_eq!(docker_daemon(alone), None);
        assert_eq!(docker_daemon("Cannot connect to the Docker daemon"), None);
        let whole = r#"{"ServerVersion":"20.10.24+dfsg1","CgroupDriver":"cgroupfs","CgroupVersion":"1"}"#;
        let expected = (Version::new(20, 10, 24), vec![Restriction::CgroupV1 { hybrid: false }]);
        assert_eq!(docker_daemon(whole), Some(expected));
    }

    #[test]
    fn runc_is_asked_for_where_crun_refuses_and_nowhere_else() {
        let there = |program: &str| program == "podman";
        let helpers = ["netavark", "aardvark-dns", "iptables"];
        assert_eq!(podman_packages(&[], there), helpers);
        let v1 = [Restriction::CgroupV1 { hybrid: true }];
        assert_eq!(podman_packages(&v1, there), [&helpers[..], &["runc"]].concat());
        assert_eq!(podman_packages(&v1, |_| true), [""; 0]);
    }
}
