//! Builds the image a second time, in another folder, under another mask, language and time zone, and says which
//! file or field differs.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::inspect::Archive;
use super::{Builder, Image, build_with, cargo, inputs, nix};
use machine::command::Command;
use machine::compare::{compare_files, compare_values};
use machine::digest::Hashing;
use machine::progress::{Progress, Task};
use machine::surroundings::Surroundings;
use machine::workspace::Workspace;

/// What two builds of the same sources came to.
#[derive(Debug)]
pub struct Verdict {
    /// The image of the checkout.
    pub image: Image,
    /// What the second one has otherwise, file by file and field by field. Empty: they are the same.
    pub differences: Vec<String>,
}

/// Builds the image here and, from scratch, elsewhere.
///
/// # Errors
/// When one of the builds fails. A difference is no error but the answer.
pub async fn verify(workspace: &Workspace, progress: &Progress, builder: Builder) -> Result<Verdict> {
    let task = progress.start("image, first build");
    let (image, how) = build_with(workspace, builder, &task).await?;
    task.done(&format!("{}, {how}", image.digest));
    let task = progress.start("image, second build");
    if image.builder == Builder::Nix {
        nix::rebuild(&workspace.root).await?;
        task.done("the same, says Nix");
        return Ok(Verdict { image, differences: vec![] });
    }
    let elsewhere = elsewhere(workspace)?;
    let second = build_elsewhere(workspace, elsewhere.path(), &task).await?;
    let differences = compare(&Archive::open(&image.archive)?, &Archive::open(&second.archive)?)?;
    if differences.is_empty() {
        task.done(&second.id);
    } else {
        task.fail(&second.id);
    }
    Ok(Verdict { image, differences })
}

/// A folder that differs from those of the checkout and of the cache in its name and its depth.
pub(super) fn elsewhere(workspace: &Workspace) -> Result<tempfile::TempDir> {
    std::fs::create_dir_all(&workspace.lab)
        .and_then(|()| tempfile::Builder::new().prefix("else where-").tempdir_in(&workspace.lab))
        .with_context(|| format!("cannot make a folder in {}", workspace.lab.display()))
}

async fn build_elsewhere(workspace: &Workspace, elsewhere: &Path, task: &Task) -> Result<cargo::Made> {
    let revision = inputs::revision(&workspace.root).await;
    let site = cargo::Site {
        root: elsewhere.join("another checkout"),
        target: elsewhere.join("another target"),
        log: workspace.logs().join("image-verify.log"),
        surroundings: Surroundings::ELSEWHERE,
    };
    copy_sources(&workspace.root, &site.root).await?;
    cargo::build(&site, &cargo::Parts::find().await?, &revision, elsewhere, task).await
}

/// Copies what git would take into a commit: what lies about in the checkout besides is not to be built in.
async fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    let list =
        Command::new("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).dir(from);
    let list = list.read().await.context("only a git checkout can be built elsewhere")?;
    for name in list.split_terminator('\0') {
        let (source, copy) = (from.join(name), to.join(name));
        // Deleted, but not yet in a commit.
        if !source.exists() {
            continue;
        }
        let folder = copy.parent().unwrap_or(to);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&copy, std::fs::read(&source)?))
            .with_context(|| format!("cannot copy {} to {}", source.display(), folder.display()))?;
    }
    Ok(())
}

/// What the second image has otherwise than the first.
///
/// # Errors
/// One of them can't be read, or they have different numbers of layers.
pub(super) fn compare(first: &Archive, second: &Archive) -> Result<Vec<String>> {
    ensure!(first.layers() == second.layers(), "the two have different numbers of layers");
    let mut differences = vec![];
    for layer in (0..first.layers()).filter(|&layer| first.diff_id(layer) != second.diff_id(layer)) {
        let (one, other) = (first.layer(layer, files)?, second.layer(layer, files)?);
        let of_layer = compare_files(&one, &other, otherwise);
        differences.extend(of_layer.into_iter().map(|text| format!("layer {}: {text}", layer + 1)));
    }
    // The digests of layers that differ, which were compared file by file.
    let config = |archive: &Archive| {
        let mut config = archive.config.clone();
        config.as_object_mut().map(|fields| fields.remove("rootfs"));
        config
    };
    compare_values("config", &config(first), &config(second), &mut differences);
    Ok(differences)
}

/// A file as a tar has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its kind, rights, owner, time and target.
    described: String,
    bytes: u64,
    sha256: String,
}

/// All that is in a tar, by path.
pub(super) fn files(tar: &mut dyn Read) -> Result<BTreeMap<String, Seen>> {
    let mut seen = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.display().to_string();
        let header = entry.header();
        let described = format!(
            "{:?} mode {:o} owner {}:{} time {}{}",
            header.entry_type(),
            header.mode()?,
            header.uid()?,
            header.gid()?,
            header.mtime()?,
            entry.link_name()?.map(|target| format!(" to {}", target.display())).unwrap_or_default(),
        );
        let mut content = Hashing::new(io::sink());
        let bytes = io::copy(&mut entry, &mut content)?;
        seen.insert(path, Seen { described, bytes, sha256: content.finish().1 });
    }
    Ok(seen)
}

/// What two files that are not alike differ in.
pub(super) fn otherwise(one: &Seen, other: &Seen) -> String {
    match one.described == other.described {
        true => format!("content differs ({}, then {} bytes)", one.bytes, other.bytes),
        false => format!("{}, then {}", one.described, other.described),
    }
}

#[cfg(test)]
mod tests {
    use archive::LayerWriter;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_told_by_file_and_field() {
        let dir = tempfile::tempdir().unwrap();
        let image = |revision: &str, mode: u32, content: &str, link: bool| {
            let mut layer = LayerWriter::create(dir.path().join("layer")).unwrap();
            layer.text("bin/counter", mode, content).unwrap();
            if link {
                layer.link("bin/sh", "busybox").unwrap();
            }
            let image = archive::Image {
                tags: vec!["counter:0.1.0".to_owned()],
                layers: vec![layer.finish("a test").unwrap()],
                config: json!({ "Labels": { "revision": revision } }),
            };
            let path = dir.path().join("counter.tar");
            let id = archive::write_layout(&image, &path).unwrap();
            let archive = Archive::open(&path).unwrap();
            assert_eq!(archive.id, id);
            // Opened once more for every layer: it must not be the next one then.
            let kept = dir.path().join(id);
            std::fs::rename(&path, &kept).unwrap();
            Archive::open(&kept).unwrap()
        };
        let first = image("a", 0o755, "same, then x", false);
        let differs = |second: Archive| compare(&first, &second).unwrap();
        assert_eq!(differs(image("a", 0o755, "same, then x", false)), [""; 0]);
        assert_eq!(
            differs(image("a", 0o755, "same, then why", false)),
            ["layer 1: bin/counter: content differs (12, then 14 bytes)"]
        );
        let mode = differs(image("a", 0o700, "same, then x", false));
        assert!(mode[0].starts_with("layer 1: bin/counter: Regular mode 755 owner 0:0 time "), "{mode:?}");
        let label = differs(image("b", 0o755, "same, then x", false));
        assert_eq!(label, [r#"config.config.Labels.revision: "a", then "b""#]);
        let link = differs(image("a", 0o755, "same, then x", true));
        assert_eq!(link, ["layer 1: bin/sh: missing in the first"]);
    }
}
