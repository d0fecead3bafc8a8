//! The node image's archive, put together of its parts: nothing in it depends on where and when that happens but
//! what [`TIMES`] names.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};

use archive::{Image, Layer};

use crate::parts::{Parts, Site};
use crate::{components, debian, root, store};
use machine::digest::sha256;
use machine::pins;
use machine::progress::Task;
use machine::tools::gomod::{Go, KIND, NODE_MODULES};
use machine::workspace::Workspace;

/// The one file of the image that no two builds have alike: containerd notes when it imported what.
pub const TIMES: &str = "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";

/// What an image made here is called.
pub(crate) const NAME: &str = "localhost/statefulset-lab/node";

/// How the parts are put together. Raise it with every change of that which the parts' own keys don't show:
/// an image that was made the old way is then not found again.
const RECIPE: u32 = 2;

/// Names the image by everything that goes into it: found again instead of made again.
pub fn reference(workspace: &Workspace, go: &Go) -> String {
    let mut text = String::from(archive::architecture());
    for module in NODE_MODULES.into_iter().chain([&KIND]) {
        text += &format!("\n{} {}", module.name, module.key(workspace, go));
    }
    for debian in [&debian::NODE, &debian::PROXY] {
        text += &format!("\n{}", debian.recipe());
    }
    text += &format!("\n{RECIPE} {}", root::recipe());
    let key = &sha256(text.as_bytes())[..12];
    format!("{NAME}:{}-{key}", pins::KUBERNETES)
}

/// Makes the archive of the image called `reference`.
///
/// # Errors
/// A part can't be read, a tool answers oddly, the disk is full.
pub(crate) async fn assemble(parts: Parts, reference: &str, site: &Site<'_>, task: &Task) -> Result<PathBuf> {
    let (parts, work) = (Arc::new(parts), site.work);
    task.note("reads what kind says");
    let containerd_config = root::containerd_config(&parts.kind)?;
    let pause_image = components::pause_image(&containerd_config)?;
    let pause = components::compile_pause(&parts.source, site).await?;
    let wanted = components::kubeadm_images(&parts, site).await?;
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
