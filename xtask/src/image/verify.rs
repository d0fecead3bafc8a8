//! Builds the image a second time, in another folder, under another mask, language and time zone, and says which
//! file or field differs.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Builder, Image, NAME, build_with, cargo, inputs, nix, oci};
use crate::command::Command;
use crate::progress::{Progress, Task};
use crate::workspace::Workspace;

/// Surroundings that no image may depend on.
const ELSEWHERE: [(&str, &str); 5] = [
    ("umask", "077"),
    ("LC_ALL", "tr_TR.UTF-8"),
    ("LANG", "tr_TR.UTF-8"),
    ("TZ", "Pacific/Kiritimati"),
    ("USER", "nobody"),
];

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
        return Ok(Verdict {
            image,
            differences: vec![],
        });
    }
    let second = build_elsewhere(workspace, &task).await?;
    let differences = compare(&oci::read(&image.archive)?, &second)?;
    if differences.is_empty() {
        task.done(&second.id);
    } else {
        task.fail(&second.id);
    }
    Ok(Verdict { image, differences })
}

async fn build_elsewhere(workspace: &Workspace, task: &Task) -> Result<oci::Contents> {
    let at = || format!("cannot make a folder in {}", workspace.lab.display());
    std::fs::create_dir_all(&workspace.lab).with_context(at)?;
    let elsewhere = tempfile::Builder::new()
        .prefix("elsewhere-")
        .tempdir_in(&workspace.lab)
        .with_context(at)?;
    let site = cargo::Site {
        root: elsewhere.path().join("another checkout"),
        target: elsewhere.path().join("another target"),
        log: workspace.logs().join("image-verify.log"),
        surroundings: ELSEWHERE.to_vec(),
    };
    copy_sources(&workspace.root, &site.root).await?;
    let revision = inputs::revision(&workspace.root).await;
    let archive = cargo::build(&site, &cargo::Parts::find().await?, NAME, &revision, task).await?;
    let path = elsewhere.path().join("counter.tar");
    std::fs::write(&path, archive).with_context(|| format!("cannot write {}", path.display()))?;
    oci::read(&path)
}

/// Copies what git would take into a commit: what lies about in the checkout besides is not to be built in.
async fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    let list = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .dir(from);
    let list = list
        .read()
        .await
        .context("only a git checkout can be built elsewhere")?;
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
fn compare(first: &oci::Contents, second: &oci::Contents) -> Result<Vec<String>> {
    if first.id == second.id {
        return Ok(vec![]);
    }
    let mut differences = vec![];
    if first.layers.len() != second.layers.len() {
        differences.push(format!(
            "{} layers, then {}",
            first.layers.len(),
            second.layers.len()
        ));
    }
    for (number, (first, second)) in first.layers.iter().zip(&second.layers).enumerate() {
        let of_layer = compare_layers(first, second)?;
        differences.extend(
            of_layer
                .into_iter()
                .map(|text| format!("layer {}: {text}", number + 1)),
        );
    }
    let (mut one, mut other) = (first.config.clone(), second.config.clone());
    // Follow from the layers, which were compared above.
    for config in [&mut one, &mut other] {
        config["rootfs"] = Value::Null;
    }
    compare_values("config", &one, &other, &mut differences);
    if differences.is_empty() {
        bail!(
            "the images {} and {} differ, but nothing in them does",
            first.id,
            second.id
        );
    }
    Ok(differences)
}

fn compare_layers(first: &[u8], second: &[u8]) -> Result<Vec<String>> {
    let (first, second) = (entries(first)?, entries(second)?);
    let mut differences = vec![];
    for path in first
        .keys()
        .chain(second.keys().filter(|path| !first.contains_key(*path)))
    {
        match (first.get(path), second.get(path)) {
            (Some((header, content)), Some((header_2, content_2))) => {
                if header != header_2 {
                    differences.push(format!("{path}: {header}, then {header_2}"));
                }
                if content != content_2 {
                    let same = content.iter().zip(content_2).take_while(|(a, b)| a == b).count();
                    let (len, len_2) = (content.len(), content_2.len());
                    differences.push(format!(
                        "{path}: content differs from byte {same} on ({len}, then {len_2} bytes)"
                    ));
                }
            }
            (Some(_), None) => differences.push(format!("{path}: missing in the second")),
            _ => differences.push(format!("{path}: missing in the first")),
        }
    }
    Ok(differences)
}

/// A layer's files by path: all of the header that may differ, and the content.
fn entries(layer: &[u8]) -> Result<BTreeMap<String, (String, Vec<u8>)>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(layer).entries()? {
        let mut entry = entry?;
        let header = entry.header();
        let described = format!(
            "{:?} mode {:o} owner {}:{} time {}{}",
            header.entry_type(),
            header.mode()?,
            header.uid()?,
            header.gid()?,
            header.mtime()?,
            entry
                .link_name()?
                .map(|to| format!(" -> {}", to.display()))
                .unwrap_or_default()
        );
        let path = entry.path()?.display().to_string();
        let mut content = vec![];
        entry.read_to_end(&mut content)?;
        files.insert(path, (described, content));
    }
    Ok(files)
}

fn compare_values(at: &str, first: &Value, second: &Value, differences: &mut Vec<String>) {
    match (first, second) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one
                .keys()
                .chain(other.keys().filter(|key| !one.contains_key(*key)))
            {
                let value = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare_values(&format!("{at}.{key}"), &value(one), &value(other), differences);
            }
        }
        _ if first != second => differences.push(format!("{at}: {first}, then {second}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use oci_spec::image::ConfigBuilder;

    use super::*;
    use crate::image::oci::Layer;

    fn image(revision: &str, mode: u32, content: &str) -> oci::Contents {
        let mut layer = Layer::new("a test");
        layer.file("bin/counter", mode, content);
        let labels = HashMap::from([("revision".to_owned(), revision.to_owned())]);
        let config = ConfigBuilder::default().labels(labels).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        std::fs::write(
            &path,
            oci::pack("counter:0.1.0", "amd64", config, &[layer]).unwrap(),
        )
        .unwrap();
        oci::read(&path).unwrap()
    }

    #[test]
    fn equal_images_have_no_differences() {
        assert!(
            compare(&image("a", 0o755, "x"), &image("a", 0o755, "x"))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_difference_is_told_by_file_and_field() {
        let first = image("a", 0o755, "same, then x");
        let differs = |second| compare(&first, &second).unwrap();
        assert_eq!(
            differs(image("a", 0o755, "same, then why")),
            ["layer 1: bin/counter: content differs from byte 11 on (12, then 14 bytes)"]
        );
        assert_eq!(
            differs(image("a", 0o700, "same, then x")),
            [
                "layer 1: bin/counter: Regular mode 755 owner 0:0 time 0, then Regular mode 700 owner 0:0 time 0"
            ]
        );
        assert_eq!(
            differs(image("b", 0o755, "same, then x")),
            [r#"config.config.Labels.revision: "a", then "b""#]
        );
    }
}
