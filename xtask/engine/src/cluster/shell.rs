//! A shell that talks to the lab's cluster: its kubeconfig set, the tools first on `PATH`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cluster::running;
use machine::advice::advised;
use machine::exit::Exit;
use machine::print;
use machine::progress::Progress;
use machine::workspace::Workspace;
use setup::Need;

/// Becomes the user's shell; returns only when that fails.
///
/// # Errors
/// No cluster of ours runs, or there is no shell.
pub(crate) async fn shell(workspace: &Workspace, progress: &Progress) -> Result<Exit> {
    let environment = setup::ensure(workspace, progress, Need::OwnCluster, None, false).await?;
    let Some(cluster) = running(workspace, &environment).await? else {
        bail!(advised(
            "the lab's cluster is not running",
            "cargo xtask cluster up, or cargo xtask lab --keep"
        ));
    };
    let kind = environment.kind()?;
    let tools = [("kind", &kind.tool.path), ("kubectl", &cluster.kubectl.path), ("helm", &cluster.helm.path)];
    let bin = link_tools(&workspace.lab.join("bin"), &tools)?;
    let program = std::env::var_os("SHELL").unwrap_or_else(|| OsString::from("/bin/sh"));
    print::message(format!(
        "kubectl, helm and kind talk to {} (Kubernetes {})",
        cluster.name, cluster.server_version
    ));
    print::message("leave with `exit`; remove the cluster with `cargo xtask cluster down`");
    let error = std::process::Command::new(&program)
        .env("KUBECONFIG", &cluster.kubeconfig)
        .env("PATH", first_on_path(&bin)?)
        .envs(kind.engine.environment())
        .exec();
    Err(error).with_context(|| format!("cannot run the shell {}", program.display()))
}

/// A folder with the tools by their names: what was built is spread over the cache.
fn link_tools(bin: &Path, tools: &[(&str, &PathBuf)]) -> Result<PathBuf> {
    std::fs::create_dir_all(bin).with_context(|| format!("cannot make {}", bin.display()))?;
    for (name, path) in tools {
        let link = bin.join(name);
        let replace = || -> std::io::Result<()> {
            if link.symlink_metadata().is_ok() {
                std::fs::remove_file(&link)?;
            }
            std::os::unix::fs::symlink(path, &link)
        };
        replace().with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(bin.to_owned())
}

fn first_on_path(bin: &Path) -> Result<OsString> {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(bin.to_owned()).chain(std::env::split_paths(&rest));
    std::env::join_paths(folders).context("the checkout's path has a colon: no shell can search it for tools")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_are_linked_by_their_names_also_over_old_links() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        for version in ["1", "2"] {
            let tool = dir.path().join(version);
            link_tools(&bin, &[("kubectl", &tool)]).unwrap();
            assert_eq!(std::fs::read_link(bin.join("kubectl")).unwrap(), tool);
        }
    }
}
