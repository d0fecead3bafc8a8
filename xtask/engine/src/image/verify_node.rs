//! Makes the node image and its parts a second time, in other folders and surroundings, and says which file or
//! field differs.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::inspect::Archive;
use super::verify::{compare, elsewhere, files, otherwise};
use machine::advice::advised;
use machine::compare::compare_files;
use machine::progress::Progress;
use machine::surroundings::Surroundings;
use machine::tools::gomod::{CNI, ETCD, Go, Module, NODE_MODULES};
use machine::workspace::Workspace;
use node_image::TIMES;
use node_image::debian::{self, Debian, NODE, PROXY};

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
        advised("the node image has not been made here, and so can't be made again", "cargo xtask setup")
    );
    let mut verdict = image_twice(workspace, go, progress).await?;
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

async fn image_twice(workspace: &Workspace, go: &Go, progress: &Progress) -> Result<Verdict> {
    let filesystems = debian::both(workspace, progress).await?;
    let task = progress.start("node image, twice");
    let (here, there) = (elsewhere(workspace)?, elsewhere(workspace)?);
    let mut archives = vec![];
    for (folder, surroundings) in [(&here, Surroundings::HERE), (&there, Surroundings::ELSEWHERE)] {
        let made = node_image::make(workspace, go, filesystems.clone(), folder.path(), surroundings, &task);
        archives.push(Archive::open(&made.await?)?);
    }
    task.note("compares them");
    let id = archives[0].id.clone();
    let compared = tokio::task::spawn_blocking(move || compare(&archives[0], &archives[1]));
    let (known, differences): (Vec<String>, Vec<String>) =
        compared.await.context("the comparison was lost")??.into_iter().partition(|text| is_known(text));
    let known = known.iter().map(|_| format!("{TIMES}: when containerd imported what")).collect();
    match differences.is_empty() {
        true => task.done(&id),
        false => task.fail(&id),
    }
    Ok(Verdict { id, differences, known })
}

/// containerd's own account of the import, in whatever layer.
fn is_known(difference: &str) -> bool {
    difference
        .split_once(": ")
        .is_some_and(|(_, file)| file.starts_with(&format!("{TIMES}: content differs")))
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
    let read = |tar: &Path| {
        let file = File::open(tar).with_context(|| format!("cannot read {}", tar.display()))?;
        files(&mut BufReader::with_capacity(1 << 20, file))
    };
    let differences = compare_files(&read(&tars[0])?, &read(&tars[1])?, otherwise);
    match differences.is_empty() {
        true => task.done("the same files"),
        false => task.fail(""),
    }
    Ok(differences.into_iter().map(|text| format!("Debian's {}: {text}", filesystem.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_containerd_notes_of_its_import_may_differ() {
        assert!(is_known(&format!("layer 3: {TIMES}: content differs (4, then 4 bytes)")));
        for difference in [
            format!(
                "layer 3: {TIMES}: Regular mode 644 owner 0:0 time 1, then Regular mode 600 owner 0:0 time 1"
            ),
            "layer 1: etc/file: content differs (4, then 4 bytes)".to_owned(),
            "config.config.StopSignal: \"SIGTERM\", then \"SIGKILL\"".to_owned(),
        ] {
            assert!(!is_known(&difference), "{difference}");
        }
    }
}
