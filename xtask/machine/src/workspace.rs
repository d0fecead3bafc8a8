//! Where things are: the checkout, what a run writes, and the cache. One value, passed first everywhere.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::digest::sha256;
use crate::identity::Identity;

/// The folders the program works in. Nothing outside them is changed.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// The checkout.
    pub root: PathBuf,
    /// What runs leave behind: kubeconfig, reports, logs. Below cargo's target folder.
    pub lab: PathBuf,
    /// Tools, node image and build caches, shared by every checkout: `$XDG_CACHE_HOME/statefulset-lab`.
    pub cache: PathBuf,
}

impl Workspace {
    /// The workspace this program was built from.
    ///
    /// # Errors
    /// Without `XDG_CACHE_HOME` and `HOME` there is no place for the cache.
    pub fn discover() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
        let root = root.context("the checkout has no folder")?.to_owned();
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let cache_home = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
            .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .context("neither XDG_CACHE_HOME nor HOME is set: there is no place for the cache")?;
        Ok(Self { lab: target.join("lab"), cache: cache_home.join("statefulset-lab"), root })
    }

    /// Who works here.
    pub fn identity(&self) -> Identity {
        Identity::here(&self.cache)
    }

    /// The kubeconfig of the lab's own cluster; `~/.kube/config` is never touched.
    pub fn kubeconfig(&self) -> PathBuf {
        self.lab.join(format!("{}.kubeconfig", self.identity().cluster()))
    }

    /// The copy of a context of the user's: never that of the cluster to which somebody's shell may be open.
    pub fn kubeconfig_of(&self, context: &str) -> PathBuf {
        // A context may be called by slashes and colons.
        self.lab.join(format!("context-{}.kubeconfig", &sha256(context.as_bytes())[..8]))
    }

    /// Cargo's target folder of the counter's image, with the archives in it.
    pub fn image(&self) -> PathBuf {
        self.lab.with_file_name("image")
    }

    /// Where the output of long builds is kept.
    pub fn logs(&self) -> PathBuf {
        self.lab.join("logs")
    }

    /// `path` as a reader in the checkout would write it.
    pub fn display<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_never_written_where_the_kubeconfig_of_our_own_cluster_lies() {
        let workspace = Workspace { root: "/w".into(), lab: "/w/target/lab".into(), cache: "/c".into() };
        let contexts = ["kind", "arn:aws:eks:x/y"].map(|name| workspace.kubeconfig_of(name));
        assert!(contexts.iter().all(|path| path.parent() == Some(&workspace.lab)), "{contexts:?}");
        assert!(!contexts.contains(&workspace.kubeconfig()) && contexts[0] != contexts[1], "{contexts:?}");
    }
}
