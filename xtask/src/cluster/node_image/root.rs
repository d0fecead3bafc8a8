//! What a node holds on top of Debian: kind's files, the programs, and the settings of its one network.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use oci_spec::image::Config;
use serde_json::{Value, json};

use crate::cluster::node_image::archive::{Layer, LayerWriter};
use crate::cluster::node_image::assembly::{Parts, Site};
use crate::cluster::node_image::components::KindSays;
use crate::pins;
use crate::tools::gomod::{CNI, CONTAINERD, Module};

/// Pods on the one node: a pair of interfaces each, addresses from the node's part of kind's default
/// pod network. kindnetd, which does this for many nodes, is not to be had without a registry.
const NETWORK: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "lab",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": true,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "ranges": [[{ "subnet": "10.244.0.0/24" }]],
        "routes": [{ "dst": "0.0.0.0/0" }]
      },
      "mtu": 1500
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
"#;

/// kind applies this manifest; the network above needs nothing of it.
const NETWORK_MANIFEST: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: lab-network
  namespace: kube-system
data:
  network: pods are connected by ptp and host-local, see /etc/cni/net.d/10-lab.conflist in the node
";

/// What of this file ends up in the image, for its key.
pub fn recipe() -> String {
    format!("{NETWORK}{NETWORK_MANIFEST}{:?}", config())
}

/// Makes the layer in `dir`.
///
/// # Errors
/// A file can't be read or written; `ctr` answers oddly.
pub fn layer(parts: &Parts, says: &KindSays, base_spec: &str, dir: &Path) -> Result<Layer> {
    let mut layer = LayerWriter::create(dir.join("node.layer.tar"))?;
    layer.tree("", &parts.kind.join("images/base/files"), &|name| {
        let script = name.starts_with("usr/local/bin/") || name.starts_with("kind/bin/");
        if script { 0o755 } else { 0o644 }
    })?;
    for (module, bin, to) in
        [(&CONTAINERD, &parts.containerd, "usr/local/bin"), (&CNI, &parts.cni, "opt/cni/bin")]
    {
        programs(&mut layer, module, bin, to)?;
    }
    layer.file("usr/bin/kubernetes", 0o755, &parts.kubernetes.join("kubernetes"))?;
    for name in ["kubelet", "kubeadm", "kubectl"] {
        layer.link(&format!("usr/bin/{name}"), "kubernetes")?;
    }
    // What `systemctl enable` and `systemctl mask` do. systemd-binfmt would change the host's kernel.
    let units = "etc/systemd/system";
    for unit in ["kubelet", "containerd", "undo-mount-hacks"] {
        layer.link(
            &format!("{units}/multi-user.target.wants/{unit}.service"),
            &format!("/{units}/{unit}.service"),
        )?;
    }
    layer.link(&format!("{units}/systemd-binfmt.service"), "/dev/null")?;
    layer
        .folder("etc/kubernetes", 0o755)?
        .folder("etc/kubernetes/manifests", 0o755)?
        .text("etc/containerd/cri-base.json", 0o644, base_spec)?
        .text("etc/cni/net.d/10-lab.conflist", 0o644, NETWORK)?
        .text("kind/version", 0o644, pins::KUBERNETES)?
        .text("kind/manifests/default-cni.yaml", 0o644, NETWORK_MANIFEST)?
        .text("kind/manifests/default-storage.yaml", 0o644, &says.storage_manifest)?;
    layer.finish()
}

/// How a container of the image starts.
pub fn config() -> Config {
    let mut config = Config::default();
    config
        .set_entrypoint(Some(vec!["/usr/local/bin/entrypoint".to_owned(), "/sbin/init".to_owned()]))
        .set_env(Some(vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            // Tells systemd where it is, see https://systemd.io/CONTAINER_INTERFACE/
            "container=docker".to_owned(),
        ]))
        // systemd ends on this one; SIGTERM makes it start over.
        .set_stop_signal(Some("SIGRTMIN+3".to_owned()));
    config
}

/// The runtime settings every container in the node starts from, as kind's Dockerfile makes them.
///
/// # Errors
/// `ctr` answers oddly.
pub async fn base_spec(containerd: &Path, site: &Site<'_>) -> Result<String> {
    let answer = site.surroundings.command(containerd.join("ctr")).args(["oci", "spec"]).read().await?;
    let mut spec: Value = serde_json::from_str(&answer).context("`ctr oci spec` answered oddly")?;
    let spec_object = spec.as_object_mut().ok_or_else(|| anyhow!("`ctr oci spec` answered oddly"))?;
    spec_object["process"]
        .as_object_mut()
        .ok_or_else(|| anyhow!("`ctr oci spec` names no process"))?
        .remove("rlimits");
    spec_object.insert(
        "hooks".to_owned(),
        json!({ "createContainer": [{ "path": "/kind/bin/mount-product-files.sh" }] }),
    );
    Ok(spec.to_string())
}

fn programs(layer: &mut LayerWriter, module: &Module, bin: &Path, to: &str) -> Result<()> {
    for name in module.programs() {
        layer.file(&format!("{to}/{name}"), 0o755, &bin.join(name))?;
    }
    Ok(())
}
