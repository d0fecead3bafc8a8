//! What a node image is made of, and where it is put together.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use machine::surroundings::Surroundings;
use machine::tools::gomod::{CNI, CONTAINERD, COREDNS, ETCD, Go, KIND, KUBERNETES, Module, NODE_AGENT};
use machine::workspace::Workspace;

/// What a node image is made of, as folders and files on this machine.
#[derive(Debug)]
pub(crate) struct Parts {
    pub kubernetes: PathBuf,
    pub containerd: PathBuf,
    pub coredns: PathBuf,
    pub etcd: PathBuf,
    pub cni: PathBuf,
    pub node_agent: PathBuf,
    /// Debian for the node.
    pub root: PathBuf,
    /// Debian's tools for kube-proxy.
    pub proxy: PathBuf,
    /// kind's source.
    pub kind: PathBuf,
    /// The source of Kubernetes.
    pub source: PathBuf,
}

/// Where a node image is put together, and in what surroundings.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    /// A folder for it alone.
    pub work: &'a Path,
    /// Of the tools that are run.
    pub surroundings: Surroundings,
}

impl Parts {
    /// Finds them: `root` and `proxy` are the two Debian filesystems.
    ///
    /// # Errors
    /// A module has not been built, a source can't be had.
    pub(crate) async fn gather(
        workspace: &Workspace,
        go: &Go,
        (root, proxy): (PathBuf, PathBuf),
    ) -> Result<Self> {
        let built = |module: &'static Module| {
            module.used(workspace, go);
            module.built(workspace, go).ok_or_else(|| anyhow!("{} has not been built", module.name))
        };
        Ok(Self {
            kubernetes: built(&KUBERNETES)?,
            containerd: built(&CONTAINERD)?,
            coredns: built(&COREDNS)?,
            etcd: built(&ETCD)?,
            cni: built(&CNI)?,
            node_agent: built(&NODE_AGENT)?,
            root,
            proxy,
            kind: go.source(workspace, &KIND, "sigs.k8s.io/kind").await?,
            source: go.source(workspace, &KUBERNETES, "k8s.io/kubernetes").await?,
        })
    }
}
