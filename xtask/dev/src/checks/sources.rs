//! The files that flake.nix names for the counter are all it takes to build and test it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

use super::flake::{copy, tracked_files};
use super::{Outcome, output_of};
use machine::workspace::Workspace;

/// Copies those files to an empty folder, and builds and tests the counter there as Nix does: locked and offline, with
/// the sources that cargo fetched to compile the workspace.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let root = &workspace.root;
    let flake = fs::read_to_string(root.join("flake.nix")).context("could not read flake.nix")?;
    let named = named(&flake)?;
    let mut files = tracked_files(root)?;
    files.retain(|file| named.iter().any(|name| file.starts_with(name)));
    // The same place every time: cargo finds there what it compiled before.
    let place = workspace.lab.join("counter");
    let shell = Shell::new()?;
    shell.remove_path(place.join("sources"))?;
    copy(root, &files, &place.join("sources"))?;
    shell.change_dir(place.join("sources"));
    let test = cmd!(shell, "cargo test --package counter --locked --offline --quiet");
    output_of(test.env("CARGO_TARGET_DIR", place.join("target")))
        .context("flake.nix names too few files for the counter")?;
    Ok(Outcome::Passed(format!("{} files are enough for the counter", files.len())))
}

/// The files and folders of `counterSources`.
fn named(flake: &str) -> Result<Vec<PathBuf>> {
    let (_, after) = flake.split_once("counterSources = ").context("flake.nix has no counterSources")?;
    let (_, after) = after.split_once("unions [").context("counterSources is no union")?;
    let (list, _) = after.split_once(']').context("the list of counterSources has no end")?;
    let files: Vec<PathBuf> =
        list.split_whitespace().map(|path| Path::new(path).components().skip(1).collect()).collect();
    ensure!(!files.is_empty(), "counterSources is empty");
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_read_out_of_the_flake() {
        let flake = "x = lib.fileset.unions [ ./no ];\ncounterSources = toSource {\n root = ./.;\n fileset = lib.fileset.unions [\n ./Cargo.toml\n ./app\n ];\n};\n";
        assert_eq!(named(flake).unwrap(), [Path::new("Cargo.toml"), Path::new("app")]);
        assert!(named("{ }").is_err());
    }

    /// Cargo asks every member for its manifest and one target, also when the counter alone is built.
    #[test]
    fn the_flake_names_manifest_and_target_of_every_member() {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies in the workspace");
        let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
        let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
        let named = named(&read("flake.nix")).unwrap();
        let holds = |file: PathBuf| named.iter().any(|name| file.starts_with(name));
        for member in manifest["workspace"]["members"].as_array().unwrap() {
            let member = Path::new(member.as_str().unwrap());
            let targets = ["src/lib.rs", "src/main.rs"].map(|target| holds(member.join(target)));
            assert!(holds(member.join("Cargo.toml")) && targets.contains(&true), "{}", member.display());
        }
    }
}
