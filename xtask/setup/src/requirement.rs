//! What the lab needs, how it stands with each, and what fixes it.

use std::fmt;
use std::path::Path;

use machine::container::{Engine, KERNEL_MODULES, podman_packages, program_exists};
use machine::pins;
use machine::tools::gomod::{CACHE_MIB, KUBERNETES, Module};
use machine::tools::{self, Found, Wanted, on_path};
use machine::workspace::Workspace;

use crate::survey::Survey;

/// What a run will use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The lab's own cluster.
    OwnCluster,
    /// A cluster that is there: kubectl and helm are enough.
    Tools,
}

/// What makes a requirement fit.
#[derive(Debug, Clone)]
pub enum Fix {
    /// These packages of Debian and Ubuntu.
    Packages(Vec<&'static str>),
    /// A program, built from its pins.
    Build(&'static Module),
    /// kind's own node image, or one that is made here.
    NodeImage,
    /// An empty folder.
    Folder(&'static str),
    /// Something that is not ours to do, and how.
    ByHand(String),
}

impl fmt::Display for Fix {
    /// The command that helps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packages(packages) => {
                write!(f, "apt-get install --no-install-recommends {}", packages.join(" "))
            }
            Self::Build(_) | Self::NodeImage => f.write_str("cargo xtask setup"),
            Self::Folder(folder) => write!(f, "mkdir {folder}"),
            Self::ByHand(how) => f.write_str(how),
        }
    }
}

/// What is needed, what was found, and what would help.
#[derive(Debug, Clone)]
pub struct Requirement {
    /// What it is.
    pub what: String,
    /// What was found of it: a version, or what is the matter.
    pub found: String,
    /// Where it was found.
    pub place: Option<String>,
    /// Whether the lab can use it as it is.
    pub fits: bool,
    /// Whether the lab can't run without.
    pub needed: bool,
    /// What helps.
    pub fix: Option<Fix>,
}

impl Requirement {
    /// It is there.
    pub fn named(what: &str, found: impl Into<String>) -> Self {
        Self { what: what.to_owned(), found: found.into(), place: None, fits: true, needed: true, fix: None }
    }

    /// It is there, at a path.
    pub fn found(what: &str, found: impl Into<String>, path: &Path) -> Self {
        Self { place: Some(path.display().to_string()), ..Self::named(what, found) }
    }

    /// It is not there, or won't do.
    pub fn lacking(what: &str, why: impl Into<String>, fix: Fix) -> Self {
        Self { fits: false, fix: Some(fix), ..Self::named(what, why) }
    }

    /// It is there but won't do.
    #[must_use]
    pub fn but(self, why: impl Into<String>, fix: Fix) -> Self {
        Self { found: why.into(), fits: false, fix: Some(fix), ..self }
    }

    /// Whether the lab can't run without.
    #[must_use]
    pub fn needed(self, needed: bool) -> Self {
        Self { needed, ..self }
    }

    /// What is the matter, with the place where there is one.
    pub fn state(&self) -> String {
        match &self.place {
            Some(place) => format!("{} ({place})", self.found),
            None => self.found.clone(),
        }
    }
}

/// Those that keep the lab from running.
pub fn missing(requirements: &[Requirement]) -> Vec<&Requirement> {
    requirements.iter().filter(|requirement| requirement.needed && !requirement.fits).collect()
}

/// What the lab needs, in the order it is needed, and how it stands with each.
pub fn requirements(workspace: &Workspace, survey: &Survey, need: Need) -> Vec<Requirement> {
    let own = need == Need::OwnCluster;
    let mut list = vec![];
    if own {
        list.push(engine(survey));
        list.extend(modules_folder(survey));
        list.push(node_image(survey));
        list.push(tool(Wanted::Kind, &survey.kind));
    }
    list.push(tool(Wanted::Kubectl, &survey.kubectl));
    list.push(tool(Wanted::Helm, &survey.helm));
    let to_build = list.iter().any(|requirement| !requirement.fits);
    list.push(go(survey, to_build));
    let builds_node = own && survey.node_image.is_none();
    let programs = HOST_PROGRAMS.iter().filter(|program| program.needed(own, builds_node, survey.nix_builds));
    list.extend(programs.map(host_program));
    if to_build {
        list.push(disk(workspace, survey));
    }
    list
}

/// Where Go comes from.
pub(crate) const GO_FIX: &str =
    "install Go from https://go.dev/dl, or `nix develop`, which brings every tool";

/// A program of the distribution that something is built with.
struct HostProgram {
    /// What it is called.
    name: &'static str,
    /// The packages of Debian and Ubuntu that bring it.
    packages: &'static [&'static str],
    /// What it is for.
    purpose: &'static str,
    node_image_only: bool,
}

/// All of them.
const HOST_PROGRAMS: [HostProgram; 3] = [
    HostProgram {
        name: "busybox",
        packages: &["busybox-static"],
        purpose: "the shell and tools in the images",
        node_image_only: false,
    },
    HostProgram {
        name: "mmdebstrap",
        packages: &["mmdebstrap"],
        purpose: "the node image's Debian",
        node_image_only: true,
    },
    HostProgram {
        name: "cc",
        packages: &["gcc", "libc6-dev"],
        purpose: "the node image's pause program",
        node_image_only: true,
    },
];

impl HostProgram {
    /// Whether a run needs it that has or has not a cluster and a node image to make, and has or has not its image
    /// built by Nix, which brings its own busybox.
    fn needed(&self, own_cluster: bool, builds_node: bool, nix_builds: bool) -> bool {
        own_cluster && (builds_node || (!self.node_image_only && !nix_builds))
    }

    /// Whether it is there and will do.
    fn is_there(&self) -> bool {
        match self.name {
            "busybox" => tools::static_busybox().is_ok(),
            name => program_exists(name),
        }
    }
}

fn by_hand(how: &str) -> Fix {
    Fix::ByHand(how.to_owned())
}

fn engine(survey: &Survey) -> Requirement {
    let what = "container engine";
    match &survey.engine {
        Err(error) => Requirement::lacking(what, error.to_string(), by_hand("make it work, or remove it")),
        Ok(None) => Requirement::lacking(
            what,
            "neither a docker daemon nor podman",
            Fix::Packages(podman_packages(&Engine::restrictions_here(), program_exists)),
        ),
        Ok(Some(engine)) => {
            let name = engine.name();
            let found = Requirement::found(what, format!("{name} {}", engine.version), &engine.path);
            match engine.missing_packages() {
                packages if packages.is_empty() => found,
                packages => {
                    let why = format!("{name} without {}", packages.join(", "));
                    found.but(why, Fix::Packages(packages))
                }
            }
        }
    }
}

/// Told only where it is missing: nearly everywhere it is there.
fn modules_folder(survey: &Survey) -> Option<Requirement> {
    let engine = survey.engine.as_ref().ok()?.as_ref()?;
    engine.lacks_modules_folder().then(|| {
        let why = format!("no folder {KERNEL_MODULES}; kind's nodes mount it");
        Requirement::lacking("kernel modules", why, Fix::Folder(KERNEL_MODULES))
    })
}

fn node_image(survey: &Survey) -> Requirement {
    let what = "node image";
    match &survey.node_image {
        Some(image) => {
            let origin = if image.built { "built here" } else { "kind's own" };
            let name = image.reference.split('@').next().unwrap_or(&image.reference);
            Requirement {
                place: Some(name.to_owned()),
                ..Requirement::named(what, format!("{} {origin}", pins::KUBERNETES))
            }
        }
        None => Requirement::lacking(what, "not there: pulled, or built", Fix::NodeImage),
    }
}

fn tool(wanted: Wanted, found: &Found) -> Requirement {
    let name = wanted.name();
    if let Some(tool) = &found.tool {
        return Requirement::found(name, tool.version.to_string(), &tool.path);
    }
    let accepts = wanted.accepts();
    let fix = Fix::Build(wanted.module());
    match &found.unfit {
        Some((path, version)) => Requirement {
            place: Some(path.display().to_string()),
            ..Requirement::lacking(name, format!("{version}; needs {accepts}"), fix)
        },
        None => Requirement::lacking(name, format!("not found; needs {accepts}"), fix),
    }
}

/// Go is needed only where something is left to build, or to know whether what was built is current.
fn go(survey: &Survey, to_build: bool) -> Requirement {
    let fix = by_hand(GO_FIX);
    match &survey.go {
        Ok(go) if go.fits() => Requirement::found("go", go.version.to_string(), &go.path),
        Ok(go) => Requirement::found("go", go.version.to_string(), &go.path)
            .needed(to_build)
            .but(format!("{}; needs {} or later", go.version, pins::GO), fix),
        Err(error) => Requirement::lacking("go", error.to_string(), fix).needed(to_build),
    }
}

fn host_program(program: &HostProgram) -> Requirement {
    match on_path(program.name).first() {
        Some(path) if program.is_there() => Requirement::found(program.name, program.purpose, path),
        _ => Requirement::lacking(
            program.name,
            format!("not there: {}", program.purpose),
            Fix::Packages(program.packages.to_vec()),
        ),
    }
}

fn disk(workspace: &Workspace, survey: &Survey) -> Requirement {
    let free = free_mib(workspace);
    let compiled = survey.go.as_ref().is_ok_and(|go| KUBERNETES.built(workspace, go).is_some());
    let needed = if compiled { CACHE_MIB / 4 } else { CACHE_MIB };
    let text = format!("{} free of {} for what is to be built", gigabytes(free), gigabytes(needed));
    let place = Some(workspace.cache.display().to_string());
    if free >= needed {
        return Requirement { place, ..Requirement::named("disk", text) };
    }
    let fix = format!("free {}, or set XDG_CACHE_HOME to a larger disk", gigabytes(needed - free));
    // Not a reason to refuse: a build that was broken off has used a part of it already.
    Requirement { place, ..Requirement::lacking("disk", text, Fix::ByHand(fix)).needed(false) }
}

/// As people write sizes of disks.
pub fn gigabytes(mib: u64) -> String {
    format!("{:.1} GB", (mib << 20) as f64 / 1e9)
}

/// Space on the disk of the cache, in MiB.
pub fn free_mib(workspace: &Workspace) -> u64 {
    // The cache may not be there yet: the nearest folder above it is on the same disk.
    let there = workspace.cache.ancestors().find(|dir| dir.exists());
    there
        .and_then(|dir| rustix::fs::statvfs(dir).ok())
        .map_or(0, |stat| (stat.f_bavail * stat.f_frsize) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::tools::Tool;
    use machine::tools::gomod::Go;
    use semver::Version;

    fn workspace() -> Workspace {
        Workspace { root: "/checkout".into(), lab: "/checkout/target/lab".into(), cache: "/cache".into() }
    }

    fn found(version: Version) -> Found {
        let path = "/bin/tool".into();
        Found { tool: Some(Tool { path, version }), unfit: None }
    }

    fn bare() -> Survey {
        let nothing = || Found { tool: None, unfit: None };
        Survey {
            go: Err(anyhow::anyhow!("not found")),
            engine: Ok(None),
            kind: nothing(),
            kubectl: nothing(),
            helm: nothing(),
            node_image: None,
            nix_builds: false,
        }
    }

    fn lacking(survey: &Survey, need: Need) -> Vec<String> {
        let requirements = requirements(&workspace(), survey, need);
        let host = HOST_PROGRAMS.map(|program| program.name);
        missing(&requirements)
            .iter()
            .map(|requirement| requirement.what.clone())
            .filter(|what| !host.contains(&what.as_str()))
            .collect()
    }

    #[test]
    fn a_bare_machine_lacks_everything_and_each_lack_has_its_command() {
        let own = ["container engine", "node image", "kind", "kubectl", "helm", "go"];
        assert_eq!(lacking(&bare(), Need::OwnCluster), own);
        assert_eq!(lacking(&bare(), Need::Tools), ["kubectl", "helm", "go"]);
        for requirement in requirements(&workspace(), &bare(), Need::OwnCluster) {
            assert!(requirement.fits || requirement.fix.is_some(), "{requirement:?}");
        }
    }

    #[test]
    fn go_is_not_missed_where_nothing_is_to_be_built() {
        let old = Go { path: "/usr/bin/go".into(), version: Version::new(1, 25, 0) };
        for go in [Ok(old), Err(anyhow::anyhow!("not found"))] {
            let survey = Survey {
                go,
                kubectl: found(Version::new(1, 37, 0)),
                helm: found(Version::new(4, 3, 1)),
                ..bare()
            };
            assert_eq!(lacking(&survey, Need::Tools), [""; 0]);
        }
    }

    #[test]
    fn an_old_tool_is_told_with_its_place_and_what_would_do() {
        let survey = Survey {
            go: Ok(Go { path: "/usr/bin/go".into(), version: Version::new(1, 25, 0) }),
            kubectl: Found { tool: None, unfit: Some(("/usr/bin/kubectl".into(), "1.32.4".to_owned())) },
            ..bare()
        };
        let requirements = requirements(&workspace(), &survey, Need::Tools);
        let states: Vec<String> = missing(&requirements).iter().map(|lack| lack.state()).collect();
        assert_eq!(states[0], "1.32.4; needs 1.36 to 1.38 (/usr/bin/kubectl)");
        assert_eq!(states[2], "1.25.0; needs 1.26.0 or later (/usr/bin/go)");
    }
}
