//! A shell in which `kubectl` and `helm` mean the lab's cluster.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::exit::Exit;
use crate::progress::Progress;
use crate::setup::{self, Need};
use crate::workspace::Workspace;

/// Opens the user's shell with `KUBECONFIG` set and the lab's tools first on `PATH`, and waits until it ends.
///
/// # Errors
/// No cluster of the lab is up, or the shell can't be started.
pub async fn shell(workspace: &Workspace, progress: &Progress) -> Result<Exit> {
    let environment = setup::ensure(workspace, progress, Need::OwnCluster, false).await?;
    let Some(cluster) = super::running(workspace, &environment).await else {
        bail!("no cluster of the lab is up\nnext: cargo xtask cluster up, or cargo xtask lab --keep");
    };
    let mut folders: Vec<_> = [&cluster.kubectl, &cluster.helm]
        .into_iter()
        .filter_map(|tool| tool.parent())
        .collect();
    folders.dedup();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        folders
            .into_iter()
            .map(ToOwned::to_owned)
            .chain(std::env::split_paths(&path)),
    )?;
    let program = std::env::var_os("SHELL")
        .filter(|shell| !shell.is_empty())
        .unwrap_or_else(|| "/bin/sh".into());
    eprintln!("Kubernetes {}; leave with `exit`", cluster.server_version);
    // The shell shares our process group and terminal: Ctrl-C is for what runs in it.
    let status = tokio::process::Command::new(&program)
        .env("KUBECONFIG", &cluster.kubeconfig)
        .env("PATH", path)
        .stdin(Stdio::inherit())
        .status()
        .await
        .with_context(|| format!("cannot start {}", program.display()))?;
    // Its status is that of the last command typed, which is nobody's failure.
    let _ = status;
    Ok(Exit::Holds)
}
