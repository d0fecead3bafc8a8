//! The image by Nix: `nix build .#image`, when Nix is there and can.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::inputs::Fingerprint;
use crate::command::Command;
use crate::tools::on_path;

/// A first build fetches nixpkgs and compiles the counter.
const BUILD_DEADLINE: Duration = Duration::from_secs(60 * 60);
/// Evaluation, and fetching nixpkgs for it.
const PROBE_DEADLINE: Duration = Duration::from_secs(120);
/// Without a network Nix would try again for ten seconds, and behind a silent firewall for minutes.
const IMPATIENT: [&str; 6] = ["--option", "download-attempts", "1", "--option", "connect-timeout", "5"];
/// Nix builds this one itself, with nothing but the right to build.
const SMALLEST: &str = "derivation { name = \"probe\"; system = \"builtin\"; builder = \"builtin:buildenv\"; \
    derivations = [ ]; manifest = builtins.toFile \"manifest\" \"\"; }";

/// Whether there is a `nix` to ask.
pub fn is_there() -> bool {
    !on_path("nix").is_empty()
}

/// Why Nix can't build the image here, or nothing when it can.
///
/// A `nix` on PATH is not enough: without a network it can neither fetch nixpkgs nor the compiler.
pub async fn obstacle(root: &Path) -> Option<String> {
    if !root.join("flake.nix").exists() {
        return Some("there is no flake.nix".to_owned());
    }
    if !is_there() {
        return Some("it is not on PATH".to_owned());
    }
    // The smallest thing to build: a Nix that was just unpacked has no users to build as. Then the image: what it
    // needs has to be there, or a network to fetch it by.
    for asked in [&["build", "--no-link", "--expr", SMALLEST][..], &["build", ".#image", "--dry-run"]] {
        match nix(root, asked).args(IMPATIENT).deadline(PROBE_DEADLINE).output().await {
            Ok(output) if output.status == 0 => {}
            Ok(output) => {
                let reason = output.stderr.lines().rev().find_map(|line| line.split_once("error: "));
                return Some(reason.map_or("it does not say why", |(_, reason)| reason).trim().to_owned());
            }
            Err(error) => return Some(format!("{error:#}").lines().next().unwrap_or_default().to_owned()),
        }
    }
    None
}

/// Builds the image, and returns its archive in Nix's store.
///
/// # Errors
/// When Nix isn't there or the build fails.
pub async fn build(root: &Path) -> Result<PathBuf> {
    // `--print-out-paths` would be shorter, but Nix 2.8, which Debian has, doesn't know it.
    let build = nix(root, &["build", ".#image", "--no-link", "--json"]).deadline(BUILD_DEADLINE);
    let built =
        build.read().await.context("Nix can't build the image\nnext: cargo xtask image --builder cargo")?;
    out_path(&built).with_context(|| format!("`nix build .#image` named no archive: {built}"))
}

fn out_path(built: &str) -> Option<PathBuf> {
    let built: serde_json::Value = serde_json::from_str(built).ok()?;
    built[0]["outputs"]["out"].as_str().map(PathBuf::from)
}

/// Builds the image once more and lets Nix compare the two.
///
/// # Errors
/// When they differ: Nix says where.
pub async fn rebuild(root: &Path) -> Result<()> {
    build(root).await?;
    let rebuild = nix(root, &["build", ".#image", "--no-link", "--rebuild"]).deadline(BUILD_DEADLINE);
    rebuild.read().await.map(drop).context("Nix doesn't build the same image twice")
}

/// The fingerprint of Nix's image: everything else it depends on is pinned in the lock file.
///
/// # Errors
/// When a source can't be read.
pub fn fingerprint(root: &Path, revision: &str) -> Result<String> {
    let mut fingerprint = Fingerprint::of_sources(root, include_str!("nix.rs"))?;
    fingerprint.add("revision", revision.as_bytes());
    for file in ["flake.nix", "flake.lock"] {
        fingerprint.add(file, &std::fs::read(root.join(file)).unwrap_or_default());
    }
    Ok(fingerprint.finish())
}

fn nix(root: &Path, args: &[&str]) -> Command {
    Command::new("nix").args(["--extra-experimental-features", "nix-command flakes"]).args(args).dir(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_read_off_nix_own_words() {
        let built =
            r#"[{"drvPath":"/nix/store/a-counter.tar.drv","outputs":{"out":"/nix/store/b-counter.tar"}}]"#;
        assert_eq!(out_path(built), Some(PathBuf::from("/nix/store/b-counter.tar")));
        assert_eq!(out_path("[]"), None);
        assert_eq!(out_path("warning: dirty"), None);
    }
}
