//! Makes what is missing fit: packages, programs, the node image.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;

use machine::advice::advised;
use machine::container::{Engine, KERNEL_MODULES, podman_packages, program_exists};
use machine::progress::Progress;
use machine::tools::gomod::{Go, KUBECTL, Module, NODE_MODULES};
use machine::workspace::Workspace;

use crate::apt;
use crate::pace::Pace;
use crate::requirement::{Fix, Need, missing, requirements};
use crate::survey::Survey;

/// Installs and builds what the survey found missing.
///
/// # Errors
/// Something can't be installed or built, or is not ours to install.
pub(crate) async fn install(
    workspace: &Workspace,
    progress: &Progress,
    need: Need,
    mut survey: Survey,
) -> Result<()> {
    if need == Need::OwnCluster {
        let engine = install_engine(workspace, progress, survey.engine?).await?;
        engine.prepare()?;
        // What kind has made need not be built, nor what it would be built with.
        if survey.node_image.is_none() {
            survey.node_image = node_image::pull(&engine, progress).await?;
        }
        survey.engine = Ok(Some(engine));
    }
    let (mut modules, mut packages): (Vec<&'static Module>, Vec<&'static str>) = (vec![], vec![]);
    let mut by_hand = None;
    let requirements = requirements(workspace, &survey, need);
    for requirement in missing(&requirements) {
        match &requirement.fix {
            Some(Fix::Packages(named)) => packages.extend(named),
            Some(Fix::Build(module)) => modules.push(module),
            Some(Fix::NodeImage) => modules.extend(NODE_MODULES),
            Some(Fix::ByHand(how)) => by_hand = Some((requirement, how)),
            Some(Fix::Folder(_)) | None => {}
        }
    }
    if let Some((lack, how)) = by_hand {
        let lacks = format!("{}: {}; it is needed to build {}", lack.what, lack.state(), names(&modules));
        bail!(advised(lacks, how.as_str()));
    }
    let go = survey.go.ok().filter(Go::fits);
    modules.retain(|module| go.as_ref().is_none_or(|go| module.built(workspace, go).is_none()));
    // The longest first; kubectl last: what it shares with the node's Kubernetes is compiled by then.
    modules.sort_by_key(|module| (module.name == KUBECTL.name, Reverse(module.cold_s)));
    let compile = async {
        match &go {
            Some(go) if !modules.is_empty() => build(workspace, progress, go, &modules).await,
            _ => Ok(()),
        }
    };
    let makes_node = need == Need::OwnCluster && survey.node_image.is_none();
    // Packages come over the network while the compiler has the processors.
    let unpack = async {
        apt::install(workspace, progress, &packages).await?;
        if makes_node {
            node_image::debian::both(workspace, progress).await?;
        }
        Ok(())
    };
    tokio::try_join!(compile, unpack)?;
    if let (true, Ok(Some(engine)), Some(go)) = (makes_node, &survey.engine, &go) {
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
            .context(advised("podman was installed and does not answer", "podman info"))?,
    };
    if engine.lacks_modules_folder() {
        progress.say(&format!("  makes the empty folder {KERNEL_MODULES}: kind's nodes mount it"));
        std::fs::create_dir_all(KERNEL_MODULES).with_context(|| {
            advised(format!("cannot make {KERNEL_MODULES}"), format!("sudo mkdir {KERNEL_MODULES}"))
        })?;
    }
    Ok(engine)
}

/// Builds modules, in their order; two at once where there are processors for it.
async fn build(
    workspace: &Workspace,
    progress: &Progress,
    go: &Go,
    modules: &[&'static Module],
) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    // A build's compiler uses all cores by itself, its linker one: the next build fills the others.
    let at_once = (cores / 2).clamp(2, 4);
    let mut pace = Pace::of(modules, cores, Instant::now());
    let about = pace.told(Instant::now());
    progress
        .say(&format!("  builds: {}; {about}, on {cores} cores like those it was tried on", names(modules)));
    progress.say(&format!("  into:   {}", workspace.cache.display()));
    let task = progress.start("builds");
    let (mut waiting, mut builds) = (modules.iter(), JoinSet::new());
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        while builds.len() < at_once
            && let Some(&module) = waiting.next()
        {
            pace.begin(module, Instant::now());
            let (workspace, go, progress) = (workspace.clone(), go.clone(), progress.clone());
            builds.spawn(async move { module.build(&workspace, &go, &progress).await.map(|_| module) });
        }
        task.note(pace.told(Instant::now()));
        tokio::select! {
            built = builds.join_next() => {
                let Some(built) = built else { break };
                pace.end(built.context("a build was lost")??, Instant::now());
                if !progress.is_live() && !builds.is_empty() {
                    progress.say(&format!("  {}", pace.told(Instant::now())));
                }
            }
            _ = tick.tick() => {}
        }
    }
    task.done(&format!("{} of them", modules.len()));
    Ok(())
}

fn names(modules: &[&Module]) -> String {
    let names: Vec<&str> = modules.iter().map(|module| module.name).collect();
    names.join(", ")
}
