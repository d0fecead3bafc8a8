//! Makes the node image and its parts a second time, in other folders and surroundings, and says which file or
//! field differs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::assembly::{self, Parts, Site, TIMES};
use crate::debian::{Debian, NODE, PROXY};
use crate::{debian, reference};
use machine::compare::{compare_files, compare_values};
use machine::digest::Hashing;
use machine::lock::Lock;
use machine::progress::Progress;
use machine::surroundings::Surroundings;
use machine::tools::gomod::{CNI, ETCD, Go, Module, NODE_MODULES};
use machine::workspace::Workspace;

/// What is made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The image, of the parts that are there.
    Image,
    /// The parts too, as far as that takes minutes.
    Parts,
}

/// The modules that compile in half a minute; all others are built by the same flags.
const COMPILED_TWICE: [&Module; 2] = [&CNI, &ETCD];

/// What two makings of the same parts came to.
#[derive(Debug)]
pub struct Verdict {
    /// Digest of the first image's configuration, which holds those of its layers.
    pub id: String,
    /// What the second one has otherwise, file by file and field by field. Empty: they are the same.
    pub differences: Vec<String>,
    /// What is known to differ, or was not made twice, and why.
    pub known: Vec<String>,
}

/// Makes it all twice.
///
/// # Errors
/// The node image has not been made here; a part can't be made. A difference is no error but the answer.
pub async fn verify(workspace: &Workspace, go: &Go, progress: &Progress, depth: Depth) -> Result<Verdict> {
    ensure!(
        NODE_MODULES.iter().all(|module| module.built(workspace, go).is_some()),
        "the node image has not been made here, and so can't be made again\nnext: cargo xtask setup"
    );
    let filesystems = debian(workspace, progress).await?;
    let mut verdict = image_twice(workspace, go, filesystems, progress).await?;
    if depth == Depth::Image {
        return Ok(verdict);
    }
    for module in COMPILED_TWICE {
        verdict.differences.extend(module_twice(workspace, go, module, progress).await?);
    }
    for filesystem in [&PROXY, &NODE] {
        verdict.differences.extend(debian_twice(workspace, filesystem, progress).await?);
    }
    verdict.known.push(
        "Debian's packages are those of the day: another day's filesystem may hold newer ones".to_owned(),
    );
    let once: Vec<&str> = NODE_MODULES
        .iter()
        .filter(|module| !COMPILED_TWICE.iter().any(|twice| twice.name == module.name))
        .map(|module| module.name)
        .collect();
    verdict.known.push(format!("compiled once, by the same flags: {}", once.join(", ")));
    Ok(verdict)
}

async fn image_twice(
    workspace: &Workspace,
    go: &Go,
    filesystems: (PathBuf, PathBuf),
    progress: &Progress,
) -> Result<Verdict> {
    let task = progress.start("node image, twice");
    let dir = workspace.cache.join("node");
    let waits = |holder: &str| task.note(format!("waits for {holder}, which makes it"));
    let lock = Lock::wait(&dir.join("image.lock"), waits).await?;
    let parts = Arc::new(Parts::gather(workspace, go, filesystems).await?);
    let reference = reference(workspace, go);
    let (here, there) = (lock.workplace(&dir, "image")?, elsewhere(workspace)?);
    let site = Site { work: here.path(), surroundings: Surroundings::HERE };
    let first = assembly::assemble(&parts, &reference, &site, &task).await?;
    let site = Site { work: there.path(), surroundings: Surroundings::ELSEWHERE };
    let second = assembly::assemble(&parts, &reference, &site, &task).await?;
    task.note("compares them");
    let verdict = tokio::task::spawn_blocking(move || compare_images(&first, &second));
    let verdict = verdict.await.context("the comparison was lost")??;
    match verdict.differences.is_empty() {
        true => task.done(&verdict.id),
        false => task.fail(&verdict.id),
    }
    Ok(verdict)
}

async fn module_twice(
    workspace: &Workspace,
    go: &Go,
    module: &Module,
    progress: &Progress,
) -> Result<Vec<String>> {
    let task = progress.start(format!("compile {} again", module.name));
    let there = elsewhere(workspace)?;
    let log = workspace.logs().join(format!("verify-{}.log", module.name));
    let second = module.build_elsewhere(workspace, go, there.path(), &log).await?;
    let first = module.built(workspace, go).context("what was compiled is gone")?;
    let mut differences = vec![];
    for name in module.programs() {
        let read = |bin: &Path| std::fs::read(bin.join(name)).with_context(|| format!("cannot read {name}"));
        if read(&first)? != read(&second)? {
            differences.push(format!("{}: the program {name} differs", module.name));
        }
    }
    match differences.is_empty() {
        true => task.done("the same programs"),
        false => task.fail(""),
    }
    Ok(differences)
}

/// Twice now, not once against that of the cache: packages change from day to day.
async fn debian_twice(
    workspace: &Workspace,
    filesystem: &Debian,
    progress: &Progress,
) -> Result<Vec<String>> {
    let task = progress.start(format!("Debian twice: {}", filesystem.name));
    let (here, there) = (elsewhere(workspace)?, elsewhere(workspace)?);
    let log = workspace.logs().join(format!("verify-debian-{}.log", filesystem.name));
    let mut tars = vec![];
    for (folder, surroundings) in [(&here, Surroundings::HERE), (&there, Surroundings::ELSEWHERE)] {
        let tar = folder.path().join("root.tar");
        filesystem.make(&tar, surroundings, &log, |line| task.note(line)).await?;
        tars.push(tar);
    }
    let differences = compare_files(&files(&mut open(&tars[0])?)?, &files(&mut open(&tars[1])?)?, otherwise);
    match differences.is_empty() {
        true => task.done("the same files"),
        false => task.fail(""),
    }
    Ok(differences.into_iter().map(|text| format!("Debian's {}: {text}", filesystem.name)).collect())
}

/// A folder that differs from those of the cache in its name and its depth.
fn elsewhere(workspace: &Workspace) -> Result<TempDir> {
    std::fs::create_dir_all(&workspace.lab)
        .and_then(|()| tempfile::Builder::new().prefix("else where-").tempdir_in(&workspace.lab))
        .with_context(|| format!("cannot make a folder in {}", workspace.lab.display()))
}

/// An archive's manifest, the configuration it names, and the names of its layers.
struct Archive {
    path: PathBuf,
    config_name: String,
    config: Value,
    layers: Vec<String>,
}

impl Archive {
    fn open(path: &Path) -> Result<Self> {
        let manifest: Value = serde_json::from_slice(&member(path, "manifest.json", read_all)?)?;
        let image = &manifest[0];
        let config_name = image["Config"].as_str().context("manifest.json names no config")?.to_owned();
        let layers = image["Layers"].as_array().context("manifest.json names no layers")?;
        let layers = layers.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let config = serde_json::from_slice(&member(path, &config_name, read_all)?)?;
        Ok(Self { path: path.to_owned(), config_name, config, layers })
    }
}

fn compare_images(first: &Path, second: &Path) -> Result<Verdict> {
    let (first, second) = (Archive::open(first)?, Archive::open(second)?);
    let (mut differences, mut known) = (vec![], vec![]);
    ensure!(first.layers.len() == second.layers.len(), "the two have different numbers of layers");
    // Layers are called by their digest.
    let pairs = first.layers.iter().zip(&second.layers).enumerate();
    for (number, (one, other)) in pairs.filter(|(_, (one, other))| one != other) {
        let (one, other) = (member(&first.path, one, files)?, member(&second.path, other, files)?);
        for difference in compare_files(&one, &other, otherwise) {
            match difference.strip_prefix(TIMES) {
                Some(": content differs") => known.push(format!("{TIMES}: when containerd imported what")),
                _ => differences.push(format!("layer {}: {difference}", number + 1)),
            }
        }
    }
    // The digests of layers that differ, which were compared file by file.
    let config = |archive: &Archive| {
        let mut config = archive.config.clone();
        config.as_object_mut().map(|fields| fields.remove("rootfs"));
        config
    };
    compare_values("config", &config(&first), &config(&second), &mut differences);
    Ok(Verdict { id: first.config_name.trim_end_matches(".json").to_owned(), differences, known })
}

/// A file's kind, rights, owner, time and target, and the digest of its content.
type Seen = (String, String);

/// All that is in a tar, by path.
fn files(tar: &mut dyn Read) -> Result<BTreeMap<String, Seen>> {
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
        io::copy(&mut entry, &mut content)?;
        seen.insert(path, (described, content.finish().1));
    }
    Ok(seen)
}

/// What two files that are not alike differ in.
fn otherwise((one, _): &Seen, (other, _): &Seen) -> String {
    if one == other { "content differs".to_owned() } else { format!("{one}, then {other}") }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(BufReader::with_capacity(1 << 20, file))
}

fn read_all(member: &mut dyn Read) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    member.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What `read` makes of one member of an archive.
fn member<T>(archive: &Path, name: &str, read: impl FnOnce(&mut dyn Read) -> Result<T>) -> Result<T> {
    for entry in tar::Archive::new(open(archive)?).entries()? {
        let mut entry = entry?;
        if entry.path()? == Path::new(name) {
            return read(&mut entry).with_context(|| format!("cannot read {name} of {}", archive.display()));
        }
    }
    anyhow::bail!("{} holds no {name}", archive.display())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::archive::{Image, LayerWriter, write};
    use super::*;

    struct Made {
        mode: u32,
        text: &'static str,
        times: &'static str,
        stop: &'static str,
    }

    const MADE: Made = Made { mode: 0o644, text: "same", times: "1", stop: "SIGTERM" };

    fn image(dir: &Path, name: &str, made: &Made) -> PathBuf {
        let mut layer = LayerWriter::create(dir.join(format!("{name}.layer"))).unwrap();
        layer.text("etc/file", made.mode, made.text).unwrap().text(TIMES, 0o644, made.times).unwrap();
        let config = json!({ "StopSignal": made.stop });
        let image = Image { tags: vec!["node:1".to_owned()], layers: vec![layer.finish().unwrap()], config };
        let path = dir.join(name);
        write(&[image], &path).unwrap();
        path
    }

    #[test]
    fn a_difference_is_told_by_file_and_field_and_a_known_one_apart() {
        let dir = tempfile::tempdir().unwrap();
        let first = image(dir.path(), "first", &MADE);
        let compared = |made: &Made| {
            let verdict = compare_images(&first, &image(dir.path(), "second", made)).unwrap();
            (verdict.differences, verdict.known)
        };
        let none: Vec<String> = vec![];
        assert_eq!(compared(&MADE), (none.clone(), none.clone()));
        let (differences, known) = compared(&Made { times: "2", ..MADE });
        assert_eq!((differences, known.len()), (none.clone(), 1));
        let differs = |made: &Made| compared(made).0;
        assert_eq!(differs(&Made { text: "other", ..MADE }), ["layer 1: etc/file: content differs"]);
        let mode = differs(&Made { mode: 0o600, ..MADE });
        assert!(mode[0].starts_with("layer 1: etc/file: Regular mode 644 owner 0:0 time "), "{mode:?}");
        assert_eq!(
            differs(&Made { stop: "SIGKILL", ..MADE }),
            [r#"config.config.StopSignal: "SIGTERM", then "SIGKILL""#]
        );
    }
}
