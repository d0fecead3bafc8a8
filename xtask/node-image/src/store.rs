//! The node's image store: containerd itself imports the images, in a folder of ours, before there is a node.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::parts::Site;
use archive::{Layer, LayerWriter};

/// Plugins that would look at the machine or change it: an import needs none of them.
const UNUSED_PLUGINS: &[&str] = &[
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.grpc.v1.cri",
    "io.containerd.image-verifier.v1.bindir",
    "io.containerd.internal.v1.opt",
    "io.containerd.monitor.container.v1.restart",
    "io.containerd.monitor.task.v1.cgroups",
    "io.containerd.mount-handler.v1.erofs",
    "io.containerd.nri.v1.nri",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.runtime.v2.task",
    "io.containerd.sandbox.controller.v1.shim",
    "io.containerd.server.v1.grpc-tcp",
    "io.containerd.server.v1.ttrpc",
    "io.containerd.service.v1.tasks-service",
    "io.containerd.shim.v1.manager",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.overlayfs",
    "io.containerd.snapshotter.v1.zfs",
];

/// The folders of a containerd root that hold images; the others are made when it starts.
const FOLDERS: [&str; 2] = ["io.containerd.content.v1.content", "io.containerd.metadata.v1.bolt"];

/// The layer that puts the images into a node.
///
/// # Errors
/// It can't be read or written.
pub(crate) fn layer(root: &Path, work: &Path) -> Result<Layer> {
    let mut layer = LayerWriter::create(work.join("store.layer.tar"))?;
    layer.folder("var/lib/containerd", 0o711)?;
    for folder in FOLDERS {
        let name = format!("var/lib/containerd/{folder}");
        layer.folder(&name, 0o755)?.tree(&name, &root.join(folder), &|_| Some(0o644))?;
    }
    layer.finish("the images of the control plane")
}

/// Imports a docker-archive and returns the root of a containerd that has its images.
///
/// # Errors
/// containerd does not start or refuses the archive.
pub(crate) async fn import(containerd: &Path, archive: &Path, site: &Site<'_>) -> Result<PathBuf> {
    let dir = site.work;
    let root = dir.join("store");
    // A socket's path may have 107 bytes: the cache may be deeper than that.
    let state = tempfile::tempdir().context("no folder for containerd's socket")?;
    let socket = state.path().join("s");
    let config = dir.join("containerd.toml");
    let text = config_toml(&root, state.path(), &socket);
    std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    let log = std::fs::File::create(dir.join("containerd.log")).context("cannot make containerd's log")?;
    let mut daemon = site
        .surroundings
        .command(containerd.join("containerd"))
        .arg("--config")
        .arg(&config)
        .spawn(Stdio::null(), log.into())?;
    let listening = async {
        while UnixStream::connect(&socket).is_err() {
            if let Some(status) = daemon.child.try_wait()? {
                let log = std::fs::read_to_string(dir.join("containerd.log")).unwrap_or_default();
                bail!("containerd ended with {status} before it imported the images\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), listening)
        .await
        .context("containerd did not open its socket within 30 s")??;
    site.surroundings
        .command(containerd.join("ctr"))
        .arg("--address")
        .arg(&socket)
        .args([
            "--namespace",
            "k8s.io",
            "images",
            "import",
            "--local",
            "--all-platforms",
            "--no-unpack",
            "--digests",
        ])
        // As kind does it: the kubelet's clean-up of unused images passes these over.
        .arg("--label=io.cri-containerd.pinned=pinned")
        .arg(archive)
        .deadline(Duration::from_secs(300))
        .read()
        .await
        .context("containerd did not take the images")?;
    if let Some(pid) = daemon.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        kill_process(pid, Signal::TERM).context("containerd can't be told to end")?;
    }
    tokio::time::timeout(Duration::from_secs(30), daemon.child.wait())
        .await
        .context("containerd did not end within 30 s")?
        .context("containerd was lost")?;
    Ok(root)
}

fn config_toml(root: &Path, state: &Path, socket: &Path) -> String {
    // JSON's strings and lists of strings are TOML's.
    let quote = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let disabled = serde_json::Value::from(UNUSED_PLUGINS.to_vec());
    format!(
        "version = 3\nroot = {}\nstate = {}\ndisabled_plugins = {disabled}\n[grpc]\naddress = {}\n",
        quote(root),
        quote(state),
        quote(socket)
    )
}
