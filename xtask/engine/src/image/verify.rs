//! Builds the image a second time, in another folder, under another mask, language and time zone, and says which
//! file or field differs.

use std::path::Path;

use anyhow::{Context, Result};

use super::oci::{Contents, Layer};
use super::{Builder, Image, build_with, cargo, inputs, nix, oci, site};
use machine::command::Command;
use machine::compare::{compare_files, compare_values};
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
    let revision = inputs::revision(&workspace.root).await;
    let parts = cargo::Parts::find().await?;
    // Cargo has nothing left to do here: this gets at what is in the archive.
    let first = cargo::build(&site(workspace), &parts, &revision, &task).await?;
    let second = build_elsewhere(workspace, &parts, &revision, &task).await?;
    let mut differences = compare(&first, &second);
    let digest = oci::pack(&second)?.id;
    if digest != image.digest && differences.is_empty() {
        differences.push(format!("{} is not what the checkout makes now", workspace.display(&image.archive)));
    }
    if differences.is_empty() {
        task.done(&digest);
    } else {
        task.fail(&digest);
    }
    Ok(Verdict { image, differences })
}

async fn build_elsewhere(
    workspace: &Workspace,
    parts: &cargo::Parts,
    revision: &str,
    task: &Task,
) -> Result<Contents> {
    let at = || format!("cannot make a folder in {}", workspace.lab.display());
    std::fs::create_dir_all(&workspace.lab).with_context(at)?;
    let elsewhere =
        tempfile::Builder::new().prefix("elsewhere-").tempdir_in(&workspace.lab).with_context(at)?;
    let site = cargo::Site {
        root: elsewhere.path().join("another checkout"),
        target: elsewhere.path().join("another target"),
        log: workspace.logs().join("image-verify.log"),
        surroundings: Surroundings::ELSEWHERE,
    };
    copy_sources(&workspace.root, &site.root).await?;
    cargo::build(&site, parts, revision, task).await
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
fn compare(first: &Contents, second: &Contents) -> Vec<String> {
    let mut differences = vec![];
    for (number, (first, second)) in first.layers.iter().zip(&second.layers).enumerate() {
        let of_layer = compare_layers(first, second);
        differences.extend(of_layer.into_iter().map(|text| format!("layer {}: {text}", number + 1)));
    }
    let fields = |image: &Contents| serde_json::to_value(&image.config).unwrap_or_default();
    compare_values("config", &fields(first), &fields(second), &mut differences);
    differences
}

fn compare_layers(first: &Layer, second: &Layer) -> Vec<String> {
    compare_files(&first.entries, &second.entries, |one, other| {
        let same = one.content.iter().zip(&other.content).take_while(|(a, b)| a == b).count();
        let (bytes, bytes_2) = (one.content.len(), other.content.len());
        match one.content == other.content {
            true => format!("{one}, then {other}"),
            false => format!("content differs from byte {same} on ({bytes}, then {bytes_2} bytes)"),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use oci_spec::image::ConfigBuilder;

    use super::*;

    fn image(revision: &str, mode: u32, content: &str) -> Contents {
        let mut layer = Layer::new("a test");
        layer.file("bin/counter", mode, content);
        let labels = HashMap::from([("revision".to_owned(), revision.to_owned())]);
        Contents {
            name: "counter:0.1.0".to_owned(),
            architecture: "amd64".to_owned(),
            config: ConfigBuilder::default().labels(labels).build().unwrap(),
            layers: vec![layer],
        }
    }

    #[test]
    fn a_difference_is_told_by_file_and_field() {
        let first = image("a", 0o755, "same, then x");
        let differs = |second| compare(&first, &second);
        assert_eq!(differs(image("a", 0o755, "same, then x")), [""; 0]);
        assert_eq!(
            differs(image("a", 0o755, "same, then why")),
            ["layer 1: bin/counter: content differs from byte 11 on (12, then 14 bytes)"]
        );
        assert_eq!(
            differs(image("a", 0o700, "same, then x")),
            ["layer 1: bin/counter: Regular mode 755 owner 0, then Regular mode 700 owner 0"]
        );
        assert_eq!(differs(image("b", 0o755, "same, then x")), [r#"config.Labels.revision: "a", then "b""#]);
        let mut more = image("a", 0o755, "same, then x");
        more.layers[0].link("bin/sh", "busybox");
        assert_eq!(differs(more), ["layer 1: bin/sh: missing in the first"]);
    }
}
