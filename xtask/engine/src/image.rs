//! The image under test: an archive with the counter and a shell, built only when what it is made of changed.

mod inputs;
mod cargo;
mod nix;
pub mod inspect;
pub mod contract;
pub mod exercise;
mod verify;
pub mod verify_node;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

pub use cli::Builder;
pub use verify::verify;

use machine::files;
use machine::progress::{Progress, Task};
use machine::surroundings::Surroundings;
use machine::workspace::Workspace;

/// The image's name. Its version is the chart's `appVersion`, and never `latest`: the kubelet would ask a
/// registry for that one each time.
pub const NAME: &str = concat!("counter:", env!("CARGO_PKG_VERSION"));

/// An image in an archive, ready for `kind load image-archive`, `docker load` and `podman load`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The archive.
    pub archive: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Name as a pod writes it: `counter:0.1.0`. The node's containerd holds it as
    /// `docker.io/library/counter:0.1.0`, whichever engine kind runs on.
    pub name: String,
    /// The image's id, `sha256:…` of its configuration: the same on every machine that built or loaded it.
    pub digest: String,
    /// Who built it; [`Builder::Auto`] when it was given, not built.
    pub builder: Builder,
}

impl Image {
    /// What of it is not as [`contract`] has it: nothing, for a good one.
    ///
    /// # Errors
    /// When the archive can't be read.
    pub fn breaches(&self) -> Result<Vec<contract::Finding>> {
        let limit_bytes = match self.builder {
            Builder::Cargo => contract::CARGO_LIMIT_BYTES,
            Builder::Nix | Builder::Auto => contract::NIX_LIMIT_BYTES,
        };
        contract::check(&self.archive, limit_bytes)
    }
}

/// Builds the image, or finds that the one from before is still what would be built.
///
/// # Errors
/// When it can't be built; the message says what is missing.
pub async fn build(workspace: &Workspace, progress: &Progress, builder: Builder) -> Result<Image> {
    let task = progress.start("image");
    match build_with(workspace, builder, &task).await {
        Ok((image, how)) => {
            task.done(&describe(&image, &how));
            Ok(image)
        }
        Err(error) => {
            task.fail("");
            Err(error)
        }
    }
}

/// What a release hands out of an image by cargo.
pub struct Released {
    /// The image.
    pub image: Image,
    /// The static counter that is in it.
    pub binary: PathBuf,
    /// Target triple of the counter.
    pub target: String,
    /// What is in the image besides the counter and its crates.
    pub parts: Vec<Part>,
}

/// A part of the image that cargo knows nothing of.
#[derive(Debug, Clone)]
pub struct Part {
    pub name: String,
    pub version: String,
    /// SPDX expression.
    pub license: String,
    /// Package URL type: `deb`, `nix`, `generic`.
    pub package_type: String,
}

/// Builds the image for a release: the counter beside the archive is the one inside, which of a kept archive
/// nobody could say.
///
/// # Errors
/// As [`build`] by cargo; a part does not tell its version.
pub async fn build_for_release(workspace: &Workspace, progress: &Progress) -> Result<Released> {
    let task = progress.start("image");
    let work = async {
        let revision = inputs::revision(&workspace.root).await;
        let parts = cargo::Parts::find().await?;
        Ok(Released {
            image: build_by_cargo(workspace, &parts, &revision, &task).await?,
            binary: cargo::binary(&site(workspace), &parts),
            target: parts.host().to_owned(),
            parts: parts.of_bill().await?,
        })
    };
    let released: Result<Released> = work.await;
    match &released {
        Ok(released) => task.done(&describe(&released.image, "built by cargo")),
        Err(_) => task.fail(""),
    }
    released
}

/// An archive that somebody else built.
///
/// # Errors
/// When it can't be read or doesn't hold exactly one named image.
pub fn open(archive: &Path) -> Result<Image> {
    image_of(archive, Builder::Auto)
}

async fn build_with(workspace: &Workspace, builder: Builder, task: &Task) -> Result<(Image, String)> {
    let revision = inputs::revision(&workspace.root).await;
    let nix_inputs = nix::fingerprint(&workspace.root, &revision)?;
    if builder != Builder::Cargo
        && let Some(image) = kept(workspace, Builder::Nix, &nix_inputs)
    {
        return Ok((image, "unchanged".to_owned()));
    }
    // Whatever `auto` built before is as good as new: a look at Nix that can't build costs seconds each time.
    let parts = if builder == Builder::Nix { None } else { Some(cargo::Parts::find().await) };
    if let Some(Ok(parts)) = &parts {
        let inputs = parts.fingerprint(&workspace.root, &revision)?;
        if let Some(image) = kept(workspace, Builder::Cargo, &inputs) {
            return Ok((image, "unchanged".to_owned()));
        }
    }
    let by_nix = async || {
        task.note("nix build .#image");
        let image = image_of(&nix::build(&workspace.root).await?, Builder::Nix)?;
        keep(workspace, &nix_inputs, &image)?;
        Ok((image, "built by Nix".to_owned()))
    };
    let Some(parts) = parts else { return by_nix().await };
    let mut how = "built by cargo".to_owned();
    if builder == Builder::Auto && machine::tools::nix::is_there() {
        task.note("asking Nix");
        match machine::tools::nix::obstacle(&workspace.root).await {
            None => return by_nix().await,
            Some(obstacle) => how += &format!(", as Nix can't: {obstacle}"),
        }
    }
    Ok((build_by_cargo(workspace, &parts?, &revision, task).await?, how))
}

async fn build_by_cargo(
    workspace: &Workspace,
    parts: &cargo::Parts,
    revision: &str,
    task: &Task,
) -> Result<Image> {
    let inputs = parts.fingerprint(&workspace.root, revision)?;
    let archive = workspace.image().join("counter.tar");
    let at = || format!("cannot write {}", archive.display());
    std::fs::create_dir_all(workspace.image()).with_context(at)?;
    let work = tempfile::tempdir_in(workspace.image()).with_context(at)?;
    let made = cargo::build(&site(workspace), parts, revision, work.path(), task).await?;
    std::fs::rename(&made.archive, &archive).with_context(at)?;
    let bytes = archive.metadata().with_context(at)?.len();
    let image = Image { archive, bytes, name: NAME.to_owned(), digest: made.id, builder: Builder::Cargo };
    keep(workspace, &inputs, &image)?;
    Ok(image)
}

/// The checkout itself, as it is.
fn site(workspace: &Workspace) -> cargo::Site {
    cargo::Site {
        root: workspace.root.clone(),
        // Apart from the development build, whose flags differ: neither throws away the other's work.
        target: workspace.image(),
        log: workspace.logs().join("image.log"),
        surroundings: Surroundings::HERE,
    }
}

fn describe(image: &Image, how: &str) -> String {
    let id = image.digest.trim_start_matches("sha256:");
    let size = image.bytes as f64 / f64::from(1 << 20);
    format!("{}, id {}, {size:.1} MiB, {how}", image.name, &id[..12.min(id.len())])
}

fn image_of(archive: &Path, builder: Builder) -> Result<Image> {
    let at = || format!("cannot read the image archive {}", archive.display());
    let image = inspect::Archive::open(archive).with_context(at)?;
    // Docker's short name and containerd's long one are the same.
    let mut names: Vec<_> =
        image.names.iter().map(|name| name.trim_start_matches("docker.io/library/")).collect();
    names.dedup();
    let [name] = names.as_slice() else {
        bail!("the image archive {} holds {names:?} instead of one name", archive.display());
    };
    Ok(Image {
        archive: archive.to_owned(),
        bytes: archive.metadata().with_context(at)?.len(),
        name: (*name).to_owned(),
        digest: image.id,
        builder,
    })
}

/// What an image was made of, kept beside its archive.
#[derive(Serialize, Deserialize)]
struct Stamp {
    inputs: String,
    image: Image,
}

fn stamp_path(workspace: &Workspace, builder: Builder) -> PathBuf {
    workspace.image().join(if builder == Builder::Nix { "nix.json" } else { "cargo.json" })
}

/// The image that was built from the same inputs before, if it is still there.
fn kept(workspace: &Workspace, builder: Builder, inputs: &str) -> Option<Image> {
    let stamp: Stamp = serde_json::from_slice(&std::fs::read(stamp_path(workspace, builder)).ok()?).ok()?;
    let there = stamp.image.archive.metadata().is_ok_and(|archive| archive.len() == stamp.image.bytes);
    (there && stamp.inputs == inputs).then_some(stamp.image)
}

/// Written last: an archive without a stamp that fits is built again.
fn keep(workspace: &Workspace, inputs: &str, image: &Image) -> Result<()> {
    let stamp = Stamp { inputs: inputs.to_owned(), image: image.clone() };
    let path = stamp_path(workspace, image.builder);
    files::replace(&path, serde_json::to_vec_pretty(&stamp)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(root: &Path) -> Workspace {
        Workspace { root: root.to_owned(), lab: root.join("target/lab"), cache: root.join("cache") }
    }

    #[test]
    fn an_image_is_kept_while_its_inputs_are_the_same_and_its_archive_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = workspace(dir.path());
        let archive = workspace.image().join("counter.tar");
        files::replace(&archive, b"archive").unwrap();
        let image = Image {
            archive: archive.clone(),
            bytes: 7,
            name: NAME.to_owned(),
            digest: "sha256:1".to_owned(),
            builder: Builder::Cargo,
        };
        keep(&workspace, "inputs", &image).unwrap();
        assert_eq!(kept(&workspace, Builder::Cargo, "inputs"), Some(image));
        assert_eq!(kept(&workspace, Builder::Cargo, "other inputs"), None);
        assert_eq!(kept(&workspace, Builder::Nix, "inputs"), None);
        std::fs::write(&archive, b"arch").unwrap();
        assert_eq!(kept(&workspace, Builder::Cargo, "inputs"), None, "a torn archive");
        std::fs::remove_file(&archive).unwrap();
        assert_eq!(kept(&workspace, Builder::Cargo, "inputs"), None, "a deleted archive");
    }

    #[test]
    fn a_file_that_is_no_image_archive_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        std::fs::write(&path, [0; 1024]).unwrap();
        let error = format!("{:#}", open(&path).unwrap_err());
        assert!(error.contains("image.tar: it holds neither"), "{error}");
    }
}
