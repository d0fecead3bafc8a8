//! What the machine needs for the lab: found, told, and installed when asked to.

mod survey;
mod requirement;
mod environment;
mod apt;
mod pace;
mod install;

pub use environment::{Environment, Kind};
pub use requirement::{Fix, Need, Requirement, free_mib, gigabytes, missing, requirements};
pub use survey::Survey;

use anyhow::{Context, Result, anyhow, bail};

use machine::advice::{self, Advised, advised};
use machine::progress::Progress;
use machine::tools::crates::CARGO_DENY;
use machine::tools::gomod::{Go, HELM};
use machine::tools::{self, Tool, Wanted};
use machine::workspace::Workspace;

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
    let found = requirements(workspace, &survey, need);
    let lacking = missing(&found);
    if lacking.is_empty()
        && let Some(environment) = Environment::of(&survey, need)
    {
        environment.mark_used(workspace);
        task.done(&environment.describe());
        return Ok(environment);
    }
    if !install {
        task.fail("something is missing");
        bail!(tell(&lacking));
    }
    task.done(&format!("{} to install", count(lacking.len(), "thing")));
    for doubtful in found.iter().filter(|requirement| !requirement.fits && !requirement.needed) {
        progress.say(&format!("  {}: {}", doubtful.what, doubtful.state()));
    }
    install::install(workspace, progress, need, survey).await?;
    let survey = Survey::take(workspace).await.with_node(node);
    Environment::of(&survey, need).ok_or_else(|| {
        let found = requirements(workspace, &survey, need);
        anyhow!(tell(&missing(&found))).context("after the installation something is still missing")
    })
}

/// Helm alone: whoever only renders a chart needs no cluster, and no engine to run one.
///
/// # Errors
/// It is missing, and may not or can't be built.
pub async fn helm(workspace: &Workspace, progress: &Progress, install: bool) -> Result<Tool> {
    let go = Go::find().await.ok().filter(Go::fits);
    let found = || tools::find(workspace, go.as_ref(), Wanted::Helm);
    if let Some(helm) = found().await.tool {
        return Ok(helm);
    }
    match &go {
        Some(go) if install => drop(HELM.build(workspace, go, progress).await?),
        Some(_) => {
            bail!(advised(
                "there is no helm that fits",
                "the same command with --setup, or cargo xtask setup"
            ))
        }
        None => {
            bail!(advised("there is no helm that fits, and no go to build it with", requirement::GO_FIX))
        }
    }
    found().await.tool.context("helm was built, and is not found")
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
        progress.say(&format!("  {}", advice::in_words(&error)));
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn tell(lacking: &[&Requirement]) -> Advised {
    let mut text = String::from("the machine lacks what the lab needs");
    for requirement in lacking {
        text += &format!("\n{}: {}", requirement.what, requirement.state());
    }
    advised(
        text,
        "the same command with --setup installs all of it; cargo xtask doctor says how to do it by hand",
    )
}
