//! What a node holds on top of Debian: kind's files, the programs, and the settings of its one network.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::components::AGENT_MANIFEST;
use crate::parts::{Parts, Site};
use archive::{Layer, LayerWriter};
use machine::pins;
use machine::tools::gomod::{CNI, CONTAINERD, Module};

/// The network of the first node's pods: a pair of interfaces each, addresses from that node's part of kind's default pod
/// network. The agent writes the same for the part of every other node. No `portmap`: the lab's namespaces let no pod
/// have a port of the node.
const NETWORK: &str = include_str!("../../tools/node-agent/network.json");
/// Where it waits until it is known which node this is.
const NETWORK_FILE: &str = "kind/10-lab.conflist";

/// The first node needs nobody to tell it its part, which is always the same, and is ready the sooner.
const FIRST_NETWORK: &str = "\
[Unit]
Description=Connect the pods of the first node
Before=containerd.service kubelet.service
ConditionHost=*-control-plane

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/cp --no-clobber /kind/10-lab.conflist /etc/cni/net.d/

[Install]
WantedBy=multi-user.target
";

/// What leaves the pods' network leaves it under the node's address: one rule for all of them, as kindnetd has it,
/// where `ptp` by itself would call iptables several times for each.
const MASQUERADE: &str = "\
[Unit]
Description=Masquerade what leaves the pods' network
Before=kubelet.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/iptables --wait --table nat --append POSTROUTING --source 10.244.0.0/16 ! --destination 10.244.0.0/16 --jump MASQUERADE

[Install]
WantedBy=multi-user.target
";

/// Where kind's source keeps what it puts into a node.
const KINDS_FILES: &str = "images/base/files";
/// How containerd starts, in the node and among kind's files.
const CONTAINERD_CONFIG: &str = "etc/containerd/config.toml";

/// What kind applies for storage: the class alone, whose volumes the agent makes.
const STORAGE_MANIFEST: &str = include_str!("../../tools/node-agent/storage.yaml");

/// What of this file ends up in the image, for its key.
pub(crate) fn recipe() -> String {
    format!("{NETWORK}{FIRST_NETWORK}{MASQUERADE}{AGENT_MANIFEST}{STORAGE_MANIFEST}{}", config())
}

/// Makes the layer in `dir`.
///
/// # Errors
/// A file can't be read or written; `ctr` answers oddly.
pub(crate) fn layer(parts: &Parts, containerd_config: &str, base_spec: &str, dir: &Path) -> Result<Layer> {
    let mut layer = LayerWriter::create(dir.join("node.layer.tar"))?;
    layer.tree("", &parts.kind.join(KINDS_FILES), &|name| {
        let script = name.starts_with("usr/local/bin/") || name.starts_with("kind/bin/");
        (name != CONTAINERD_CONFIG).then_some(if script { 0o755 } else { 0o644 })
    })?;
    layer.text(CONTAINERD_CONFIG, 0o644, &cgroups_by_hand(containerd_config)?)?;
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
    layer.text(&format!("{units}/masquerade.service"), 0o644, MASQUERADE)?;
    layer.text(&format!("{units}/first-network.service"), 0o644, FIRST_NETWORK)?;
    for unit in ["kubelet", "containerd", "undo-mount-hacks", "masquerade", "first-network"] {
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
        .folder("etc/cni/net.d", 0o755)?
        .text(NETWORK_FILE, 0o644, NETWORK)?
        .text("kind/version", 0o644, pins::KUBERNETES)?
        .text("kind/manifests/default-cni.yaml", 0o644, AGENT_MANIFEST)?
        .text("kind/manifests/default-storage.yaml", 0o644, STORAGE_MANIFEST)?;
    layer.finish("what kind and Kubernetes put into a node")
}

/// How kind's source has containerd start.
///
/// # Errors
/// It can't be read.
pub(crate) fn containerd_config(kind: &Path) -> Result<String> {
    let path = kind.join(KINDS_FILES).join(CONTAINERD_CONFIG);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Has containerd make cgroups itself, where kind asks systemd for each over D-Bus: a seventh of what a pod costs the
/// node. The kubelet follows containerd.
/// <https://kubernetes.io/docs/setup/production-environment/container-runtimes/#cgroup-drivers>
fn cgroups_by_hand(config: &str) -> Result<String> {
    const ASKS: &str = "SystemdCgroup = true";
    ensure!(config.contains(ASKS), "kind's containerd configuration does not say {ASKS}");
    Ok(config.replace(ASKS, "SystemdCgroup = false"))
}

/// How a container of the image starts.
pub(crate) fn config() -> Value {
    json!({
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            // Tells systemd where it is, see https://systemd.io/CONTAINER_INTERFACE/
            "container=docker",
        ],
        "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"],
        // systemd ends on this one; SIGTERM makes it start over.
        "StopSignal": "SIGRTMIN+3",
    })
}

/// The runtime settings every container in the node starts from: containerd's own, without limits of its own, as
/// kind has it. Not so its hook, which gives every container a product name of its own by way of a shell, `jq` and
/// two mounts: three hundredths of all the work of a run, and nothing in a lab asks for that name.
///
/// # Errors
/// `ctr` answers oddly.
pub(crate) async fn base_spec(containerd: &Path, site: &Site<'_>) -> Result<String> {
    let answer = site.surroundings.command(containerd.join("ctr")).args(["oci", "spec"]).read().await?;
    let mut spec: Value = serde_json::from_str(&answer).context("`ctr oci spec` answered oddly")?;
    let process = spec["process"].as_object_mut().context("`ctr oci spec` names no process")?;
    process.remove("rlimits");
    Ok(spec.to_string())
}

fn programs(layer: &mut LayerWriter, module: &Module, bin: &Path, to: &str) -> Result<()> {
    for name in module.programs() {
        layer.file(&format!("{to}/{name}"), 0o755, &bin.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_no_longer_asks_systemd_for_cgroups_is_told() {
        let config = "runc.options]\n    SystemdCgroup = true\n";
        assert_eq!(cgroups_by_hand(config).unwrap(), "runc.options]\n    SystemdCgroup = false\n");
        assert!(cgroups_by_hand("[plugins]\n").is_err());
    }
}
