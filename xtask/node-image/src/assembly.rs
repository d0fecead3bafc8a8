//! The node image's archive, put together of its parts: nothing in it depends on where and when that happens but
//! what [`TIMES`] names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};

use crate::archive::{self, Image, Layer};
use crate::components;
use crate::{root, store};
use machine::progress::Task;
use machine::surroundings::Surroundings;
use machine::tools::gomod::{CNI, CONTAINERD, COREDNS, ETCD, Go, KIND, KUBERNETES, Module, PROVISIONER};
use machine::workspace::Workspace;

/// The one file of the image that no two builds have alike: containerd notes when it imported what.
pub(crate) const TIMES: &str = "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";

/// What a node image is made of, as folders and files on this machine.
#[derive(Debug)]
pub(crate) struct Parts {
    pub kubernetes: PathBuf,
    pub containerd: PathBuf,
    pub coredns: PathBuf,
    pub etcd: PathBuf,
    pub cni: PathBuf,
    pub provisioner: PathBuf,
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
            provisioner: built(&PROVISIONER)?,
            root,
            proxy,
            kind: go.source(workspace, &KIND, "sigs.k8s.io/kind").await?,
            source: go.source(workspace, &KUBERNETES, "k8s.io/kubernetes").await?,
        })
    }
}

/// Makes the archive of the image called `reference`.
///
/// # Errors
/// A part can't be read, a tool answers oddly, the disk is full.
pub(crate) async fn assemble(
    parts: &Arc<Parts>,
    reference: &str,
    site: &Site<'_>,
    task: &Task,
) -> Result<PathBuf> {
    let work = site.work;
    task.note("reads what kind says");
    let containerd_config = root::containerd_config(&parts.kind)?;
    let pause_image = components::pause_image(&containerd_config)?;
    let pause = components::compile_pause(&parts.source, site).await?;
    let wanted = components::kubeadm_images(parts, site).await?;
    let base_spec = root::base_spec(&parts.containerd, site).await?;

    task.note("writes the images of the control plane");
    let images = work.join("images.tar");
    let control_plane = {
        let (parts, work, images) = (parts.clone(), work.to_owned(), images.clone());
        blocking(move || {
            archive::write(&components::images(&parts, (&pause_image, &pause), &wanted, &work)?, &images)
        })
    };
    let node = {
        let (parts, work) = (parts.clone(), work.to_owned());
        blocking(move || {
            Ok((Layer::of(parts.root.clone())?, root::layer(&parts, &containerd_config, &base_spec, &work)?))
        })
    };
    let ((), (debian, node)) = tokio::try_join!(control_plane, node)?;

    task.note("imports them into the node's containerd");
    let store = store::import(&parts.containerd, &images, site).await?;
    std::fs::remove_file(&images).with_context(|| format!("cannot remove {}", images.display()))?;

    task.note("puts the node together");
    let archive = work.join("node.tar");
    let write = {
        let (work, archive, reference) = (work.to_owned(), archive.clone(), reference.to_owned());
        move || {
            let store = store::layer(&store, &work)?;
            let image =
                Image { tags: vec![reference], layers: vec![debian, node, store], config: root::config() };
            archive::write(&[image], &archive)
        }
    };
    blocking(write).await?;
    Ok(archive)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a worker thread was lost")?
}
