//! What the image is made of, as one fingerprint: while it stays the same, the archive that is there is the one
//! that would be built.

use std::path::Path;

use anyhow::{Context, Result};

use machine::command::Command;
use machine::digest::Pieces;
use machine::files::files_below;

/// What of the checkout goes into the image. A path that isn't there is as good as an empty one.
const SOURCES: [&str; 5] = ["app", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo/config.toml"];

/// Everything of one build that may change, fed to it piece by piece.
pub(super) struct Fingerprint(Pieces);

impl Fingerprint {
    /// Starts with the sources in `root` and with the code that builds.
    ///
    /// # Errors
    /// When a source can't be read.
    pub(super) fn of_sources(root: &Path, builder_code: &str) -> Result<Self> {
        let mut fingerprint = Self(Pieces::new());
        fingerprint.add("builder", builder_code.as_bytes());
        for source in SOURCES {
            let path = root.join(source);
            let files = files_below(&path).with_context(|| format!("cannot list {}", path.display()))?;
            for file in files {
                let content =
                    std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
                let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
                fingerprint.add(&name, &content);
            }
        }
        Ok(fingerprint)
    }

    /// Adds one more thing the image depends on. Lengths keep two neighbours from passing for one another.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) {
        self.0.add_part(name);
        self.0.add_part(content);
    }

    /// The fingerprint in hexadecimal.
    pub(super) fn finish(self) -> String {
        self.0.finish()
    }
}

/// The last commit that changed what the image is made of, `-dirty` when the checkout has changes to it that are
/// in no commit, `unknown` outside git. Not HEAD: a commit to the docs is no reason for another image.
pub(super) async fn revision(root: &Path) -> String {
    let git = |args: &[&str]| {
        Command::new("git").args(args).arg("--").args(SOURCES).env("GIT_OPTIONAL_LOCKS", "0").dir(root)
    };
    let (commit, changes) = (git(&["log", "-1", "--format=%H"]), git(&["status", "--porcelain"]));
    match tokio::join!(commit.read(), changes.read()) {
        (Ok(commit), Ok(changes)) if !commit.trim().is_empty() => {
            let mark = if changes.trim().is_empty() { "" } else { "-dirty" };
            format!("{}{mark}", commit.trim())
        }
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(root: &Path) -> String {
        Fingerprint::of_sources(root, "code").unwrap().finish()
    }

    #[test]
    fn a_changed_added_or_renamed_source_changes_it_and_a_page_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("app/src")).unwrap();
        std::fs::write(root.join("app/src/main.rs"), "fn main() {}").unwrap();
        let first = fingerprint(root);
        std::fs::write(root.join("README.md"), "a page").unwrap();
        assert_eq!(fingerprint(root), first);
        std::fs::write(root.join("app/src/lib.rs"), "").unwrap();
        let added = fingerprint(root);
        std::fs::rename(root.join("app/src/lib.rs"), root.join("app/src/bib.rs")).unwrap();
        let renamed = fingerprint(root);
        std::fs::write(root.join("app/src/bib.rs"), "//").unwrap();
        let all = [first, added, renamed, fingerprint(root)];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[..i].contains(one), "step {i} changed nothing");
        }
    }

    #[tokio::test]
    async fn the_revision_is_the_last_commit_to_the_sources() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(revision(root).await, "unknown");
        let git = async |args: &[&str]| {
            let who = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
            Command::new("git").args(who).args(args).dir(root).read().await.unwrap()
        };
        std::fs::create_dir(root.join("app")).unwrap();
        std::fs::write(root.join("app/main.rs"), "").unwrap();
        git(&["init", "--quiet"]).await;
        git(&["add", "."]).await;
        git(&["commit", "--quiet", "--message", "app"]).await;
        let first = revision(root).await;
        assert_eq!(first.len(), 40, "{first}");
        std::fs::write(root.join("README.md"), "a page").unwrap();
        git(&["add", "."]).await;
        git(&["commit", "--quiet", "--message", "page"]).await;
        assert_eq!(revision(root).await, first);
        std::fs::write(root.join("app/main.rs"), "//").unwrap();
        assert_eq!(revision(root).await, format!("{first}-dirty"));
    }
}
