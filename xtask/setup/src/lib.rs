//! What the machine needs for the lab: found, told, and installed when asked to.

mod apt;
mod requirement;
mod survey;

pub use requirement::{GO_FIX, Requirement, free_mib, gigabytes, missing, requirements};
pub use survey::{HOST_PROGRAMS, HostProgram, Survey};

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use futures::{StreamExt, TryStreamExt};

use machine::command::Command;
use machine::container::{Engine, KERNEL_MODULES, podman_packages, program_exists};
use machine::pins;
use machine::progress::Progress;
use machine::tools::crates::CARGO_DENY;
use machine::tools::gomod::{Go, HELM, KIND, KUBECTL, Module, NODE_MODULES, estimate_of};
use machine::tools::{self, Tool};
use machine::workspace::Workspace;
use node_image::NodeImage;

/// What a run will use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The lab's own cluster.
    OwnCluster,
    /// A cluster that is there: kubectl and helm are enough.
    Tools,
}

/// What makes the lab's own cluster.
#[derive(Debug, Clone)]
pub struct Kind {
    /// kind itself.
    pub tool: Tool,
    /// What runs the node.
    pub engine: Engine,
    /// What the node is.
    pub node_image: NodeImage,
}

impl Kind {
    /// kind, told to use this engine.
    pub fn command(&self) -> Command {
        self.engine.settings(Command::new(&self.tool.path))
    }
}

/// Everything the lab needs of the machine, found and fit.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Talks to the cluster.
    pub kubectl: Tool,
    /// Installs the chart.
    pub helm: Tool,
    kind: Option<Kind>,
}

impl Environment {
    /// What makes the lab's own cluster.
    ///
    /// # Errors
    /// The environment was made for a cluster that is there.
    pub fn kind(&self) -> Result<&Kind> {
        self.kind.as_ref().context("no cluster of our own was asked for")
    }
}

/// Finds what the lab needs; with `install`, installs and builds what is missing. `node` is another node image
/// than the pinned one: the cluster fetches it.
///
/// # Errors
/// Something is missing and may not or can't be installed: the error lists it with the command that helps.
pub async fn ensure(
    workspace: &Workspace,
    progress: &Progress,
    need: Need,
    node: Option<&str>,
    install: bool,
) -> Result<Environment> {
    let task = progress.start("environment");
    let survey = Survey::take(workspace).await.with_node(node);
    let requirements = crate::requirements(workspace, &survey, need);
    let lacking = missing(&requirements);
    if lacking.is_empty()
        && let Some(environment) = survey.environment(need)
    {
        task.done(&environment.describe());
        return Ok(environment);
    }
    if !install {
        task.fail("something is missing");
        bail!("{}", tell(&lacking));
    }
    task.done(&format!("{} to install", count(lacking.len(), "thing")));
    for doubtful in requirements.iter().filter(|requirement| !requirement.fits && !requirement.needed) {
        progress.say(&format!("  {}: {}", doubtful.what, doubtful.state()));
    }
    fill(workspace, progress, need, survey).await?;
    let survey = Survey::take(workspace).await.with_node(node);
    let requirements = crate::requirements(workspace, &survey, need);
    survey.environment(need).ok_or_else(|| {
        anyhow!("after the installation something is still missing\n{}", tell(&missing(&requirements)))
    })
}

/// Installs what the checks of `cargo xtask test` need besides the lab. One that can't be installed is told: its
/// check is skipped then, and the others run.
pub async fn ensure_checks(workspace: &Workspace, progress: &Progress) {
    let nix = async {
        match tools::on_path("nix").is_empty() {
            true => apt::install(workspace, progress, &["nix-bin"]).await,
            false => Ok(()),
        }
    };
    let deny = async {
        if CARGO_DENY.find(workspace).is_some() {
            return Ok(());
        }
        let (name, version, minutes) = (CARGO_DENY.name, CARGO_DENY.version, CARGO_DENY.cold_min);
        progress.say(&format!("  builds: {name} {version}; about {minutes} min on 2 cores"));
        CARGO_DENY.build(workspace, progress).await
    };
    let (nix, deny) = tokio::join!(nix, deny);
    for error in [nix, deny].into_iter().filter_map(Result::err) {
        progress.say(&format!("  {error:#}"));
    }
}

impl Environment {
    /// Versions of the tools and of the node image, for the record of a run.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::from([
            ("kubectl".to_owned(), self.kubectl.version.to_string()),
            ("helm".to_owned(), self.helm.version.to_string()),
        ]);
        if let Some(kind) = &self.kind {
            versions.insert("kind".to_owned(), kind.tool.version.to_string());
            versions.insert("engine".to_owned(), format!("{} {}", kind.engine.name(), kind.engine.version));
            versions.insert("node-image".to_owned(), kind.node_image.reference.clone());
        }
        versions
    }

    fn describe(&self) -> String {
        let mut text = format!("kubectl {}, helm {}", self.kubectl.version, self.helm.version);
        if let Some(kind) = &self.kind {
            text =
                format!("{} {}, kind {}, {text}", kind.engine.name(), kind.engine.version, kind.tool.version);
        }
        text
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn tell(lacking: &[&Requirement]) -> String {
    let mut text = String::from("the machine lacks what the lab needs\n");
    for requirement in lacking {
        text += &format!("  {}: {}\n", requirement.what, requirement.state());
    }
    text + "next: the same command with --setup installs all of it; cargo xtask doctor says how to do it by hand"
}

/// Installs and builds what the survey found missing.
async fn fill(workspace: &Workspace, progress: &Progress, need: Need, survey: Survey) -> Result<()> {
    let own = need == Need::OwnCluster;
    let mut engine = None;
    let mut builds_node = false;
    if own {
        let found = install_engine(workspace, progress, survey.engine?).await?;
        found.prepare()?;
        builds_node = survey.node_image.is_none() && node_image::pull(&found, progress).await?.is_none();
        engine = Some(found);
    }
    let mut modules: Vec<&'static Module> = vec![];
    if builds_node {
        modules.extend(NODE_MODULES);
    }
    if survey.helm.tool.is_none() {
        modules.push(&HELM);
    }
    if own && survey.kind.tool.is_none() {
        modules.push(&KIND);
    }
    // Last: what it shares with the node's Kubernetes is compiled by then.
    if survey.kubectl.tool.is_none() {
        modules.push(&KUBECTL);
    }
    let go = survey.go.ok().filter(Go::fits);
    modules.retain(|module| go.as_ref().is_none_or(|go| module.built(workspace, go).is_none()));
    if go.is_none() && (builds_node || !modules.is_empty()) {
        let version = pins::GO;
        bail!("go {version} or later is needed to build {}\n{GO_FIX}", names(&modules));
    }
    let compile = async {
        match &go {
            Some(go) if !modules.is_empty() => build(workspace, progress, go, &modules).await,
            _ => Ok(()),
        }
    };
    // Packages come over the network while the compiler has the processors.
    let packages = async {
        let lacking = HOST_PROGRAMS
            .iter()
            .filter(|program| program.needed(own, builds_node, survey.nix_builds) && !program.is_there());
        let packages: Vec<&str> = lacking.flat_map(|program| program.packages.iter().copied()).collect();
        apt::install(workspace, progress, &packages).await?;
        if builds_node {
            node_image::debian(workspace, progress).await?;
        }
        Ok(())
    };
    tokio::try_join!(compile, packages)?;
    if let (true, Some(engine), Some(go)) = (builds_node, &engine, &go) {
        node_image::build(workspace, engine, go, progress).await?;
    }
    Ok(())
}

/// The engine, with all it needs: podman where there is none.
async fn install_engine(workspace: &Workspace, progress: &Progress, found: Option<Engine>) -> Result<Engine> {
    let packages = match &found {
        Some(engine) => engine.missing_packages(),
        None => podman_packages(&Engine::restrictions_here(), program_exists),
    };
    apt::install(workspace, progress, &packages).await?;
    let engine = match found {
        Some(engine) if packages.is_empty() => engine,
        _ => Engine::find(workspace)
            .await?
            .context("podman was installed and does not answer\nnext: podman info")?,
    };
    if engine.lacks_modules_folder() {
        progress.say(&format!("  makes the empty folder {KERNEL_MODULES}: kind's nodes mount it"));
        std::fs::create_dir_all(KERNEL_MODULES)
            .with_context(|| format!("cannot make {KERNEL_MODULES}\nnext: sudo mkdir {KERNEL_MODULES}"))?;
    }
    Ok(engine)
}

/// Builds modules, the longest first; two at once where there are processors for it.
async fn build(
    workspace: &Workspace,
    progress: &Progress,
    go: &Go,
    modules: &[&'static Module],
) -> Result<()> {
    progress.say(&format!("  builds: {}; {}", names(modules), estimate_of(modules)));
    progress.say(&format!("  into:   {}", workspace.cache.display()));
    futures::stream::iter(modules.iter().map(|module| module.build(workspace, go, progress)))
        .buffered(builds_at_once())
        .try_for_each(|_| async { Ok(()) })
        .await
}

/// A build's compiler uses all cores by itself, its linker one: the next build fills the others.
fn builds_at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (cores / 2).clamp(2, 4)
}

fn names(modules: &[&Module]) -> String {
    let names: Vec<&str> = modules.iter().map(|module| module.name).collect();
    names.join(", ")
}
