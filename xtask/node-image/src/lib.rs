//! The node image: kind's own by digest when a registry answers, otherwise made here of Go modules and
//! Debian packages.

pub mod debian;
mod parts;
mod components;
mod root;
mod store;
mod assembly;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use machine::advice::advised;
use machine::cache;
use machine::container::Engine;
use machine::lock::Lock;
use machine::pins;
use machine::progress::{Progress, Task};
use machine::surroundings::Surroundings;
use machine::tools::gomod::Go;
use machine::workspace::Workspace;

use parts::{Parts, Site};

pub use assembly::{TIMES, reference};

/// Registries that don't answer by then are taken for absent.
const REGISTRY_DEADLINE: Duration = Duration::from_secs(20);
/// kind's node image has about 400 MB.
const PULL_DEADLINE: Duration = Duration::from_secs(900);

/// A node image in the engine's storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeImage {
    /// What the engine calls it.
    pub reference: String,
    /// Whether it was made here.
    pub built: bool,
}

impl NodeImage {
    /// One that a user names; [`NodeImage::fetch`] sees to it that it is there.
    pub fn asked(reference: &str) -> Self {
        Self { reference: reference.to_owned(), built: false }
    }

    /// Marks an image made here as used now: no checkout removes it for some weeks. The engine tells nobody's use of it.
    pub fn mark_used(&self, workspace: &Workspace) {
        if self.built {
            let mark = mark(workspace, &self.reference);
            let make = || {
                std::fs::create_dir_all(mark.parent()?).ok()?;
                std::fs::write(&mark, &self.reference).ok()
            };
            // Where it can't be written, nothing is removed either.
            let _ = make();
        }
    }

    /// Pulls the image unless the engine has it.
    ///
    /// # Errors
    /// No registry gives it away.
    pub async fn fetch(&self, engine: &Engine, task: &Task) -> Result<()> {
        let name = full_name(&self.reference);
        if self.built || engine.image_id(&name).await.is_some() {
            return Ok(());
        }
        task.note(format!("pulls {name}"));
        engine
            .command()
            .args(["pull", "--quiet", &name])
            .deadline(PULL_DEADLINE)
            .read()
            .await
            .map(drop)
            .with_context(|| {
                advised(
                    format!("cannot pull the node image {}", self.reference),
                    "name one that a registry has (https://github.com/kubernetes-sigs/kind/releases), or none",
                )
            })
    }
}

/// The image that is already there: kind's own, or the one made of the present pins.
pub async fn find(workspace: &Workspace, engine: &Engine, go: Option<&Go>) -> Option<NodeImage> {
    if engine.image_id(&full_name(pins::NODE_IMAGE)).await.is_some() {
        return Some(NodeImage { reference: pins::NODE_IMAGE.to_owned(), built: false });
    }
    let reference = reference(workspace, go?);
    engine.image_id(&reference).await?;
    Some(NodeImage { reference, built: true })
}

/// Fetches kind's own image. `None`: no registry gives it away.
///
/// # Errors
/// The registry has it, and the pull breaks.
pub async fn pull(engine: &Engine, progress: &Progress) -> Result<Option<NodeImage>> {
    let name = full_name(pins::NODE_IMAGE);
    let asked =
        engine.command().args(["manifest", "inspect", &name]).deadline(REGISTRY_DEADLINE).output().await;
    if !asked.is_ok_and(|output| output.status == 0) {
        return Ok(None);
    }
    let task = progress.start("node image");
    task.note("pulls kind's own, about 400 MB");
    engine.command().args(["pull", "--quiet", &name]).deadline(PULL_DEADLINE).read().await.context(
        advised("cannot pull kind's node image", "run the same command again; what was pulled is kept"),
    )?;
    task.done(&format!("pulled {}", pins::NODE_IMAGE.split('@').next().unwrap_or_default()));
    Ok(Some(NodeImage { reference: pins::NODE_IMAGE.to_owned(), built: false }))
}

/// An image's name with its registry, and by its digest alone where it has one: podman takes no name that has
/// both tag and digest, and asks no registry for a short one.
fn full_name(reference: &str) -> String {
    let (name, digest) = reference.split_once('@').unwrap_or((reference, ""));
    let registry = match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => "",
        Some(_) => "docker.io/",
        None => "docker.io/library/",
    };
    if digest.is_empty() {
        return format!("{registry}{name}");
    }
    // A colon before the last slash is that of a port.
    let name = match name.rsplit_once(':') {
        Some((untagged, tag)) if !tag.contains('/') => untagged,
        _ => name,
    };
    format!("{registry}{name}@{digest}")
}

/// Makes the image unless it is there. Its modules must have been built.
///
/// # Errors
/// A part is missing, the disk is full, the engine refuses the image.
pub async fn build(
    workspace: &Workspace,
    engine: &Engine,
    go: &Go,
    progress: &Progress,
) -> Result<NodeImage> {
    let reference = reference(workspace, go);
    let image = NodeImage { reference: reference.clone(), built: true };
    let dir = workspace.cache.join("node");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let filesystems = debian::both(workspace, progress).await?;

    let task = progress.start("node image");
    let waits = |holder: &str| task.note(format!("waits for {holder}, which makes it"));
    let lock = Lock::wait(&dir.join("image.lock"), waits).await?;
    if engine.image_id(&reference).await.is_some() {
        task.done("made by another run");
        return Ok(image);
    }
    let work = lock.workplace(&dir, "image")?;
    let archive = make(workspace, go, filesystems, work.path(), Surroundings::HERE, &task).await?;
    task.note(format!("loads it into {}", engine.name()));
    engine
        .command()
        .args(["load", "--quiet", "--input"])
        .arg(&archive)
        .deadline(Duration::from_secs(300))
        .read()
        .await
        .with_context(|| format!("{} does not take the node image", engine.name()))?;
    if engine.image_id(&reference).await.is_none() {
        return Err(anyhow!("{} took the node image but does not know {reference}", engine.name()));
    }
    image.mark_used(workspace);
    let pruned = match prune(workspace, engine, &reference).await {
        0 => String::new(),
        images => format!(", {images} of earlier pins removed"),
    };
    let size = std::fs::metadata(&archive).map_or(0, |meta| meta.len());
    task.done(&format!(
        "Kubernetes {} on Debian {}, {} MB{pruned}",
        pins::KUBERNETES,
        pins::NODE_DEBIAN,
        size / 1_000_000
    ));
    Ok(image)
}

/// Puts the image's archive together in the folder `work`, of the modules that have been built and the two filesystems
/// of [`debian::both`].
///
/// # Errors
/// A part is missing, a tool answers oddly, the disk is full.
pub async fn make(
    workspace: &Workspace,
    go: &Go,
    filesystems: (PathBuf, PathBuf),
    work: &Path,
    surroundings: Surroundings,
    task: &Task,
) -> Result<PathBuf> {
    let parts = Parts::gather(workspace, go, filesystems).await?;
    assembly::assemble(parts, &reference(workspace, go), &Site { work, surroundings }, task).await
}

/// Removes the images that were made here of other pins and that no checkout has used for weeks, most of a gigabyte each,
/// and says how many: one that a cluster is made of the engine keeps.
async fn prune(workspace: &Workspace, engine: &Engine, keep: &str) -> usize {
    let mut pruned = 0;
    for mark in cache::unused(&mark(workspace, keep), IMAGE) {
        let image = std::fs::read_to_string(&mark).unwrap_or_default();
        let removed = engine.command().args(["image", "rm", &image]).output().await;
        if removed.is_ok_and(|output| output.status == 0) || engine.image_id(&image).await.is_none() {
            pruned += usize::from(std::fs::remove_file(&mark).is_ok());
        }
    }
    pruned
}

/// How the marks of images are called.
const IMAGE: &str = "image";

/// The file that holds the name of an image made here, and whose time tells when it was used.
fn mark(workspace: &Workspace, reference: &str) -> PathBuf {
    let key = reference.rsplit('-').next().unwrap_or_default();
    workspace.cache.join("node").join(format!("{IMAGE}-{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assembly::NAME;
    use machine::container::EngineKind;

    #[test]
    fn the_name_tells_all_that_goes_into_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace {
            root: dir.path().to_owned(),
            lab: dir.path().join("target/lab"),
            cache: dir.path().join("cache"),
        };
        let go = Go { path: "go".into(), version: pins::GO };
        let before = reference(&workspace, &go);
        assert!(before.starts_with("localhost/statefulset-lab/node:v1.37.0-"), "{before}");
        assert_eq!(before, reference(&workspace, &go));
        let pins = dir.path().join("xtask/tools/coredns");
        std::fs::create_dir_all(&pins).unwrap();
        std::fs::write(pins.join("go.mod"), "module m\n").unwrap();
        assert_ne!(before, reference(&workspace, &go));
    }

    /// An engine that has every image and writes down which it was told to remove.
    #[tokio::test]
    async fn an_image_of_other_pins_goes_when_no_checkout_has_used_it_for_weeks() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace {
            root: dir.path().to_owned(),
            lab: dir.path().join("target/lab"),
            cache: dir.path().join("cache"),
        };
        let path = dir.path().join("engine");
        let removed = dir.path().join("removed");
        let script = format!("#!/bin/sh\n[ $2 = rm ] && echo $3 >>{}\n", removed.display());
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut engine = Engine::pretended(EngineKind::Docker, vec![]);
        engine.path = path;
        for (key, days) in [("forgotten", 29), ("theirs", 27), ("ours", 100)] {
            let image = NodeImage { reference: format!("{NAME}:v1-{key}"), built: true };
            image.mark_used(&workspace);
            let then = std::time::SystemTime::now() - Duration::from_secs(days * 24 * 3600);
            std::fs::File::open(mark(&workspace, &image.reference)).unwrap().set_modified(then).unwrap();
        }
        assert_eq!(prune(&workspace, &engine, &format!("{NAME}:v1-ours")).await, 1);
        assert_eq!(std::fs::read_to_string(removed).unwrap(), format!("{NAME}:v1-forgotten\n"));
    }

    #[test]
    fn a_short_name_is_that_of_docker_hub_and_a_long_one_stays() {
        for (given, full) in [
            ("node", "docker.io/library/node"),
            ("kindest/node:v1.36.4", "docker.io/kindest/node:v1.36.4"),
            ("localhost/node:1", "localhost/node:1"),
            ("registry.example:5000/node", "registry.example:5000/node"),
        ] {
            assert_eq!(full_name(given), full);
        }
    }

    #[test]
    fn podman_is_asked_for_the_digest_alone() {
        let digest = pins::NODE_IMAGE.split_once('@').unwrap().1;
        assert_eq!(full_name(pins::NODE_IMAGE), format!("docker.io/kindest/node@{digest}"));
        let full = "registry.example:5000/node@sha256:1";
        assert_eq!(full_name("registry.example:5000/node:v1@sha256:1"), full);
        assert_eq!(full_name(full), full);
    }
}
