//! Says what is on the machine, what is not, and the exact command that would fix it. Changes nothing.

mod table;

use anyhow::Result;

use machine::exit::Exit;
use machine::print;
use machine::tools::on_path;
use machine::workspace::Workspace;
use setup::{Need, Survey, free_mib, gigabytes, missing, requirements};

/// Prints the table; [`Exit::CannotRun`] when the lab could not run now.
///
/// # Errors
/// None of its own: what can't be found out is a line of the table.
pub(crate) async fn doctor(workspace: &Workspace) -> Result<Exit> {
    let survey = Survey::take(workspace).await;
    let requirements = requirements(workspace, &survey, Need::OwnCluster);
    print::result(table::render(&requirements, &notes(workspace, &survey)));
    Ok(if missing(&requirements).is_empty() { Exit::Holds } else { Exit::CannotRun })
}

/// What is worth knowing and needs no fixing.
fn notes(workspace: &Workspace, survey: &Survey) -> Vec<(String, String)> {
    let mut notes = vec![];
    if let Ok(Some(engine)) = &survey.engine {
        for restriction in &engine.restrictions {
            notes.push((restriction.what(), restriction.remedy().to_owned()));
        }
        if engine.name() == "podman" && !on_path("docker").is_empty() {
            notes.push((
                "docker is on PATH, its daemon does not answer".to_owned(),
                "podman is used".to_owned(),
            ));
        }
    }
    let free = format!("{} free for the cache", gigabytes(free_mib(workspace)));
    notes.push((free, workspace.cache.display().to_string()));
    let nix = if on_path("nix").is_empty() {
        "not there; not needed"
    } else {
        "there: `nix develop` brings the tools too"
    };
    notes.push(("nix".to_owned(), nix.to_owned()));
    notes
}
