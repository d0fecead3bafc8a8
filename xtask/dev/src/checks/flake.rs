//! Evaluates the flake with Nix, without network, against the small nixpkgs in `xtask/nix`.
//!
//! It proves that every output evaluates on every system without a warning, that functions are called with
//! arguments they know, and that the image is configured as the contract wants it. It does not prove that the
//! image builds: that needs the real nixpkgs, and happens in CI.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use xshell::{Cmd, Shell, cmd};

use super::{Outcome, output_of};
use machine::advice::advised;
use machine::tools::on_path;

const SYSTEMS: [&str; 4] = ["aarch64-darwin", "aarch64-linux", "x86_64-darwin", "x86_64-linux"];

/// What Nix warns of because of how it is asked here, not because of the flake.
const REMARKS: [&str; 2] = [
    // The small nixpkgs stands in for the locked one.
    "not writing modified lock file",
    // Since 2.14 a check is of this system alone; the evaluations after it are of every one.
    "omitted these incompatible systems",
];

/// Slips of the pen in flake.nix, and what the evaluation must then name.
const SLIPS: [(&str, &str, &str); 17] = [
    ("pkgs.kubernetes-helm", "pkgs.kubernets-helm", "kubernets-helm"),
    ("pkgs.dockerTools.buildLayeredImage", "pkgs.dockerTools.buildLayerdImage", "buildLayerdImage"),
    ("fakeRootCommands = ''", "fakeRootCommand = ''", "fakeRootCommand"),
    ("cargoLock.lockFile", "cargoLock.lockfile", "lockFile"),
    ("cargoLock.lockFile = ./Cargo.lock;", "", "cargoLock"),
    ("            Entrypoint", "            Entrypont", "Entrypoint"),
    ("User = \"65532:65532\"", "User = \"0:0\"", "/config/User"),
    ("tag = manifest.version", "tag = \"latest\"", "/tag"),
    ("          ./app\n", "          ./application\n", "application does not exist"),
    ("lib.importTOML ./Cargo.toml", "lib.importToml ./Cargo.toml", "importToml"),
    ("imageFor (linuxFor pkgs)", "imageFor pkgs", "/system"),
    ("        \"aarch64-darwin\"\n", "", "aarch64-darwin"),
    ("allowDeprecatedx86_64Darwin", "allowDeprecatedDarwin", "allowDeprecatedDarwin"),
    (" AND GPL-2.0-only", "", "has the licences"),
    ("            pkgs.busybox\n", "", "holds no busybox"),
    ("checks = forEachSystem", "check = forEachSystem", "check"),
    ("tag = manifest", "tag = builtins.trace \"warning: old\" manifest", "without a warning: "),
];

/// Checks the flake of the work tree at `root`; skipped where Nix is not installed.
pub(crate) fn check(root: &Path) -> Result<Outcome> {
    if on_path("nix").is_empty() {
        return Ok(Outcome::Skipped(
            "nix is not on PATH; `cargo xtask test --setup` installs the distribution's".to_owned(),
        ));
    }
    lock_belongs_to_flake(root)?;
    let staged = Staged::new(root)?;
    staged.evaluate()?;
    staged.tells_every_slip()?;
    Ok(Outcome::Passed(format!(
        "the flake evaluates on {} and asks for the image of the contract",
        SYSTEMS.join(", ")
    )))
}

/// The lock names exactly the one input that the flake asks for, at a commit with a hash.
fn lock_belongs_to_flake(root: &Path) -> Result<()> {
    let read =
        |name: &str| fs::read_to_string(root.join(name)).with_context(|| format!("could not read {name}"));
    let flake = read("flake.nix")?;
    let lock: Value = serde_json::from_str(&read("flake.lock")?).context("flake.lock is not JSON")?;
    let text = |pointer: &str| {
        let value = lock.pointer(pointer).and_then(Value::as_str);
        value.with_context(|| format!("flake.lock: nothing at {pointer}"))
    };
    let inputs: Vec<_> = lock["nodes"].as_object().map(|nodes| nodes.keys().collect()).unwrap_or_default();
    ensure!(inputs == ["nixpkgs", "root"], "flake.lock: locks {inputs:?} where nixpkgs alone is asked for");
    let original = "/nodes/nixpkgs/original";
    let asked = format!(
        "{}:{}/{}/{}",
        text(&format!("{original}/type"))?,
        text(&format!("{original}/owner"))?,
        text(&format!("{original}/repo"))?,
        text(&format!("{original}/ref"))?
    );
    ensure!(
        flake.contains(&format!("inputs.nixpkgs.url = \"{asked}\";")),
        advised(format!("flake.lock: locks {asked}, which flake.nix does not ask for"), "nix flake lock")
    );
    let revision = text("/nodes/nixpkgs/locked/rev")?;
    ensure!(
        revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "flake.lock: {revision:?} is not a commit"
    );
    ensure!(text("/nodes/nixpkgs/locked/narHash")?.starts_with("sha256-"), "flake.lock: nixpkgs has no hash");
    Ok(())
}

/// The files a flake sees, in a folder of their own, with a store of their own: the machine's is not touched.
struct Staged {
    shell: Shell,
    folder: TempDir,
}

impl Staged {
    fn new(root: &Path) -> Result<Self> {
        let staged = Self { shell: Shell::new()?, folder: TempDir::with_prefix("flake-")? };
        copy(root, &tracked_files(root)?, &staged.source())?;
        Ok(staged)
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn evaluate(&self) -> Result<()> {
        let source = format!("path:{}", self.source().display());
        self.run(self.nix(&["flake", "check", "--no-build"]).arg(&source))?;
        for output in ["packages", "devShells", "checks"] {
            self.every_system(output, "_: builtins.mapAttrs (_: output: output.drvPath)", names_of(output))?;
        }
        self.every_system("apps", "_: builtins.mapAttrs (_: app: app.program)", names_of("apps"))?;
        self.every_system("formatter", "_: formatter: { default = formatter.drvPath; }", |_| {
            vec!["default"]
        })?;
        let asked: BTreeMap<String, Value> =
            self.json("packages", "builtins.mapAttrs (_: packages: packages.image.asked)")?;
        asked.iter().try_for_each(|(system, asked)| self.image_is_as_agreed(system, asked))
    }

    /// An evaluation that accepts everything would pass as well: each slip is made once, and must be told.
    fn tells_every_slip(&self) -> Result<()> {
        let flake = self.source().join("flake.nix");
        let good = fs::read_to_string(&flake).context("could not read flake.nix")?;
        for (right, wrong, named) in SLIPS {
            ensure!(good.contains(right), "{right:?} is not in flake.nix");
            fs::write(&flake, good.replacen(right, wrong, 1))?;
            let said = self.evaluate().err().map_or_else(String::new, |error| format!("{error:#}"));
            ensure!(
                said.contains(named),
                "with {wrong:?} in place of {right:?}, {named:?} is not told, but: {said}"
            );
        }
        Ok(())
    }

    /// Evaluates `output` to the last derivation, on every system, and compares what is there.
    fn every_system(
        &self,
        output: &str,
        map: &str,
        expected: impl Fn(&str) -> Vec<&'static str>,
    ) -> Result<()> {
        let found: BTreeMap<String, BTreeMap<String, String>> =
            self.json(output, &format!("builtins.mapAttrs ({map})"))?;
        let systems: Vec<_> = found.keys().map(String::as_str).collect();
        ensure!(systems == SYSTEMS, "{output} is there for {systems:?}, expected {SYSTEMS:?}");
        for (system, outputs) in &found {
            let names: Vec<_> = outputs.keys().map(String::as_str).collect();
            let expected = expected(system);
            ensure!(names == expected, "{output}.{system} holds {names:?}, expected {expected:?}");
        }
        Ok(())
    }

    /// What `dockerTools.buildLayeredImage` is called with, whatever the system that asks.
    fn image_is_as_agreed(&self, system: &str, asked: &Value) -> Result<()> {
        let manifest = fs::read_to_string(self.source().join("Cargo.toml"))?;
        let manifest: toml::Table = manifest.parse().context("Cargo.toml is not TOML")?;
        let package = &manifest["workspace"]["package"];
        let version = package["version"].as_str().context("the workspace has no version")?;
        let expected = [
            ("/name", Value::from("counter")),
            ("/tag", Value::from(version)),
            ("/system", Value::from(system.replace("darwin", "linux"))),
            ("/config/User", Value::from("65532:65532")),
            ("/config/Entrypoint", Value::from(vec!["/bin/counter"])),
            ("/config/ExposedPorts", serde_json::json!({ "8000/tcp": {} })),
            ("/config/Volumes", serde_json::json!({ "/data": {} })),
            ("/config/Labels/org.opencontainers.image.title", Value::from("counter")),
            ("/config/Labels/org.opencontainers.image.version", Value::from(version)),
        ];
        for (pointer, expected) in expected {
            let found = asked.pointer(pointer).unwrap_or(&Value::Null);
            ensure!(
                *found == expected,
                "the image for {system} has {found} as {pointer}, expected {expected}"
            );
        }
        // Whoever ships busybox ships the GPL with it.
        let ours = format!("{} AND GPL-2.0-only", package["license"].as_str().unwrap_or_default());
        let licenses =
            asked.pointer("/config/Labels/org.opencontainers.image.licenses").and_then(Value::as_str);
        ensure!(
            licenses.is_some_and(|licenses| licenses.starts_with(&ours)),
            "the image for {system} has the licences {licenses:?}, expected {ours:?}"
        );
        let revision = asked.pointer("/config/Labels/org.opencontainers.image.revision");
        ensure!(revision.is_some_and(Value::is_string), "the image for {system} has no revision label");
        let contents: Vec<String> = serde_json::from_value(asked["contents"].clone())?;
        for part in ["counter", "busybox", "fake-nss"] {
            ensure!(contents.iter().any(|name| name == part), "the image for {system} holds no {part}");
        }
        Ok(())
    }

    fn json<T: DeserializeOwned>(&self, attribute: &str, apply: &str) -> Result<T> {
        let installable = format!("path:{}#{attribute}", self.source().display());
        let (json, _) = output_of(self.nix(&["eval", "--json"]).args([&installable, "--apply", apply]))?;
        serde_json::from_str(&json).with_context(|| format!("{attribute} has another shape"))
    }

    /// What a command says on standard output; a warning on the other is a fault.
    fn run(&self, nix: Cmd<'_>) -> Result<String> {
        let (answer, said) = output_of(nix).map_err(|fault| {
            // What Nix says before it comes to the point is about the small nixpkgs.
            let said = fault.to_string();
            let point = said.find("error:").map_or(said.as_str(), |at| &said[at..]);
            anyhow!("the flake does not evaluate: {point}")
        })?;
        let remark = |line: &str| REMARKS.iter().any(|remark| line.contains(remark));
        match said.lines().find(|line| line.contains("warning:") && !remark(line)) {
            Some(warning) => bail!("the flake does not evaluate without a warning: {warning}"),
            None => Ok(answer),
        }
    }

    fn nix(&self, subcommand: &[&str]) -> Cmd<'_> {
        let folder = self.folder.path();
        let (store, small) =
            (folder.join("store"), format!("path:{}", self.source().join("xtask/nix").display()));
        cmd!(self.shell, "nix {subcommand...} --offline --no-write-lock-file --store {store}")
            .args(["--override-input", "nixpkgs", &small])
            .env("HOME", folder)
            .env("XDG_CACHE_HOME", folder.join("cache"))
            .env("NIX_CONF_DIR", folder)
            .env("NIX_USER_CONF_FILES", "")
            .env(
                "NIX_CONFIG",
                "experimental-features = nix-command flakes\nsubstituters =\nflake-registry =\nbuild-users-group =\n",
            )
            .env_remove("NIX_REMOTE")
    }
}

fn names_of(output: &str) -> impl Fn(&str) -> Vec<&'static str> {
    move |system| match output {
        "packages" => vec!["counter", "default", "image"],
        "devShells" => vec!["default", "release"],
        "apps" => vec!["default", "lab"],
        _ if system.ends_with("linux") => vec!["counter", "formatting", "image"],
        _ => vec!["counter", "formatting"],
    }
}

/// Copies `files` of `root`, with their folders, to the folder `to`.
pub(super) fn copy(root: &Path, files: &[PathBuf], to: &Path) -> Result<()> {
    for file in files {
        let to = to.join(file);
        fs::create_dir_all(to.parent().expect("a file has a folder"))?;
        fs::copy(root.join(file), &to).with_context(|| format!("could not copy {}", file.display()))?;
    }
    Ok(())
}

/// Flakes see what git tracks, and nothing else: a file that was not added is missing here too.
pub(super) fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    let shell = Shell::new()?;
    let (files, _) = output_of(cmd!(shell, "git -C {root} ls-files -z --cached"))?;
    let files = files.split_terminator('\0').map(PathBuf::from);
    // A file deleted but not yet staged is still in the index.
    Ok(files.filter(|file| root.join(file).is_file()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies in the workspace").to_owned()
    }

    #[test]
    fn a_lock_of_another_branch_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(workspace().join("flake.nix"), folder.path().join("flake.nix")).unwrap();
        let lock = fs::read_to_string(workspace().join("flake.lock")).unwrap();
        fs::write(folder.path().join("flake.lock"), &lock).unwrap();
        lock_belongs_to_flake(folder.path()).unwrap();
        fs::write(folder.path().join("flake.lock"), lock.replace("nixos-26.05", "nixos-25.11")).unwrap();
        let said = lock_belongs_to_flake(folder.path()).unwrap_err().to_string();
        assert!(
            said.contains("github:NixOS/nixpkgs/nixos-25.11, which flake.nix does not ask for"),
            "{said}"
        );
    }
}
