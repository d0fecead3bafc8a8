//! The image by Nix: `nix build .#image`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::inputs::Fingerprint;
use machine::advice::advised;
use machine::tools::nix::nix;

/// A first build fetches nixpkgs and compiles the counter.
const BUILD_DEADLINE: Duration = Duration::from_secs(60 * 60);
/// Builds the image, and returns its archive in Nix's store.
///
/// # Errors
/// When Nix isn't there or the build fails.
pub(super) async fn build(root: &Path) -> Result<PathBuf> {
    // `--print-out-paths` would be shorter, but Nix 2.8, which Debian has, doesn't know it.
    let build = nix(root, &["build", ".#image", "--no-link", "--json"]).deadline(BUILD_DEADLINE);
    let built = build
        .read()
        .await
        .context(advised("Nix can't build the image", "cargo xtask image --builder cargo"))?;
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
pub(super) async fn rebuild(root: &Path) -> Result<()> {
    build(root).await?;
    let rebuild = nix(root, &["build", ".#image", "--no-link", "--rebuild"]).deadline(BUILD_DEADLINE);
    rebuild.read().await.map(drop).context("Nix doesn't build the same image twice")
}

/// The fingerprint of Nix's image: everything else it depends on is pinned in the lock file.
///
/// # Errors
/// When a source can't be read.
pub(super) fn fingerprint(root: &Path, revision: &str) -> Result<String> {
    let mut fingerprint = Fingerprint::of_sources(root, include_str!("nix.rs"))?;
    fingerprint.add("revision", revision.as_bytes());
    for file in ["flake.nix", "flake.lock"] {
        fingerprint.add(file, &std::fs::read(root.join(file)).unwrap_or_default());
    }
    Ok(fingerprint.finish())
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
