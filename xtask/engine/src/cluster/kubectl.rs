//! A kubectl that the cluster's version allows: Kubernetes supports it within one minor version of the API server
//! (<https://kubernetes.io/releases/version-skew-policy/#kubectl>). Every node of kind's holds one of its own.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cluster::remains;
use machine::advice::advised;
use machine::pins::Accepts;
use machine::tools::{Tool, Wanted, ask_version, parse_version};
use machine::workspace::Workspace;
use setup::Environment;

/// The environment's kubectl where it is near enough to `server`, else the one out of the node.
///
/// # Errors
/// The node does not give its kubectl away, or it does not run on this machine.
pub(super) async fn fitting(workspace: &Workspace, environment: &Environment, server: &str) -> Result<Tool> {
    if is_near(&environment.kubectl, server) {
        return Ok(environment.kubectl.clone());
    }
    let path = workspace.cache.join("tools").join(format!("kubectl-{server}/kubectl"));
    if !path.exists() {
        copy_out(environment, &path).await?;
    }
    let version = ask_version(Wanted::Kubectl, &path).await.with_context(|| {
        let ours = &environment.kubectl.version;
        advised(
            format!(
                "kubectl {ours} is too far from Kubernetes {server}, and the node's own does not run here"
            ),
            "put a kubectl of that version on PATH",
        )
    })?;
    Ok(Tool { path, version })
}

/// Whether the two are within one minor version; of a server that does not tell its own, any will do.
pub(super) fn is_near(kubectl: &Tool, server: &str) -> bool {
    let server = parse_version(server);
    server.is_none_or(|server| Accepts::Near(server.major, server.minor).fits(&kubectl.version))
}

async fn copy_out(environment: &Environment, to: &Path) -> Result<()> {
    let at = || format!("cannot write {}", to.display());
    std::fs::create_dir_all(to.parent().unwrap_or(Path::new("."))).with_context(at)?;
    let unfinished = to.with_extension("unfinished");
    let from = format!("{}:/usr/bin/kubectl", remains::first_node(&environment.kind()?.engine));
    let copy = environment.kind()?.engine.command().args(["cp", &from]).arg(&unfinished);
    copy.read().await.context("the node does not give its kubectl away")?;
    std::fs::rename(&unfinished, to).with_context(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use semver::Version;

    #[test]
    fn one_minor_version_to_either_side_is_near() {
        let kubectl = Tool { path: "kubectl".into(), version: Version::new(1, 37, 0) };
        for (server, near) in
            [("v1.38.1", true), ("v1.37.0", true), ("v1.36.4", true), ("v1.35.8", false), ("v1.39.0", false)]
        {
            assert_eq!(is_near(&kubectl, server), near, "{server}");
        }
        assert!(is_near(&kubectl, "v1.36.4-eks-1234567") && is_near(&kubectl, "unknown"));
    }
}
