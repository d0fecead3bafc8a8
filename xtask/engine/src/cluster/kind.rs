//! The lab's own kind cluster: its configuration, made and unmade without a trace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cluster::remains;
use machine::advice::advised;
use machine::container::Restriction;
use machine::digest::sha256;
use machine::workspace::Workspace;
use setup::Kind;

/// The label of the node that tells from what a cluster was made.
pub(crate) const MADE_FROM: &str = "statefulset-lab/made-from";

/// kind's configuration file, as far as it is used here.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    kind: &'static str,
    api_version: &'static str,
    name: String,
    nodes: Vec<Node>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubeadm_config_patches: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    role: &'static str,
    image: String,
    labels: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extra_mounts: Vec<Mount>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    host_path: PathBuf,
    container_path: &'static str,
    read_only: bool,
}

/// Where OOM scores can't be lowered, systemd and containerd are told to leave them. The line in containerd's
/// configuration is the one that the node's entrypoint changes for rootless engines, in the same way; kind's
/// own patches would start containerd a second time.
const CONTAINERD_KEEPS_OOM_SCORES: &str = "\
[Service]
OOMScoreAdjust=0
ExecStartPre=/bin/sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' /etc/containerd/config.toml
";
/// What a part of the control plane is told: the part, the name of an argument, its value.
type Argument = (&'static str, &'static str, &'static str);

/// Whoever may make a service could have the node take over any address with it, and charts of strangers may make them.
/// <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#denyserviceexternalips>
const NO_EXTERNAL_IPS: Argument =
    ("apiServer", "enable-admission-plugins", "NodeRestriction,DenyServiceExternalIPs");
/// A cluster of several nodes is there to lose one. By default a node that says nothing is taken for lost after 50 s,
/// and its pods have 300 s more; here it is 6 and 2, and the kubelet says something every second.
/// <https://kubernetes.io/docs/reference/node/node-status/#heartbeats>
const NOTICES_A_LOST_NODE: [Argument; 4] = [
    ("apiServer", "default-not-ready-toleration-seconds", "2"),
    ("apiServer", "default-unreachable-toleration-seconds", "2"),
    ("controllerManager", "node-monitor-period", "1s"),
    ("controllerManager", "node-monitor-grace-period", "6s"),
];
/// It renews its lease four times as often as that could run out.
const KUBELET_SAYS_SOMETHING: &str = "kind: KubeletConfiguration\nnodeLeaseDurationSeconds: 4\n";
const KUBELET_TAKES_CGROUP_V1: &str = "kind: KubeletConfiguration\nfailCgroupV1: false\n";

/// What a cluster of so many nodes made now would be made from; part of its first node's labels.
pub(crate) fn fingerprint(kind: &Kind, nodes: usize) -> String {
    let config = config(kind, nodes, Path::new(""), "");
    let parts = [&format!("{config:?}"), CONTAINERD_KEEPS_OOM_SCORES, kind.engine.name()];
    sha256(parts.concat().as_bytes())[..16].to_owned()
}

fn config(kind: &Kind, nodes: usize, drop_in: &Path, fingerprint: &str) -> Config {
    let denied = &kind.engine.restrictions;
    let oom = denied.contains(&Restriction::NoSysResource);
    let v1 = denied.iter().any(|denied| matches!(denied, Restriction::CgroupV1 { .. }));
    let node = |role: &'static str| Node {
        role,
        image: kind.node_image.reference.clone(),
        labels: [(MADE_FROM, fingerprint.to_owned())].into(),
        extra_mounts: oom
            .then(|| Mount {
                host_path: drop_in.to_owned(),
                container_path: "/etc/systemd/system/containerd.service.d/10-oom.conf",
                read_only: true,
            })
            .into_iter()
            .collect(),
    };
    let workers = std::iter::repeat_n("worker", nodes.saturating_sub(1));
    let several = nodes > 1;
    let notices = several.then_some(NOTICES_A_LOST_NODE).into_iter().flatten();
    let arguments: Vec<Argument> = std::iter::once(NO_EXTERNAL_IPS).chain(notices).collect();
    let kubelet = [v1.then_some(KUBELET_TAKES_CGROUP_V1), several.then_some(KUBELET_SAYS_SOMETHING)];
    Config {
        kind: "Cluster",
        api_version: "kind.x-k8s.io/v1alpha4",
        name: kind.engine.cluster.clone(),
        nodes: std::iter::once("control-plane").chain(workers).map(node).collect(),
        kubeadm_config_patches: control_plane(&arguments)
            .into_iter()
            .chain(kubelet.into_iter().flatten().map(str::to_owned))
            .collect(),
    }
}

/// The arguments for either form that kubeadm's configuration has, by its version.
/// <https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/>
fn control_plane(arguments: &[Argument]) -> [String; 2] {
    let mut parts: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (part, name, value) in arguments {
        parts.entry(part).or_default().push((name, value));
    }
    let written = |version: &str, one: &dyn Fn(&str, &str) -> String| {
        let mut patch = format!("apiVersion: kubeadm.k8s.io/{version}\nkind: ClusterConfiguration\n");
        for (part, arguments) in &parts {
            patch += &format!("{part}:\n  extraArgs:\n");
            patch.extend(arguments.iter().map(|(name, value)| one(name, value)));
        }
        patch
    };
    [
        written("v1beta4", &|name, value| format!("    - name: {name}\n      value: \"{value}\"\n")),
        written("v1beta3", &|name, value| format!("    {name}: \"{value}\"\n")),
    ]
}

/// Makes a cluster of so many nodes and writes its kubeconfig, readable by its owner alone.
///
/// # Errors
/// kind fails; what the node said is in the logs.
pub(crate) async fn create(
    kind: &Kind,
    nodes: usize,
    workspace: &Workspace,
    on_line: impl FnMut(&str),
) -> Result<()> {
    let dir = workspace.cache.join("cluster");
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = dir.join(name);
        let written = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, text));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    let drop_in = write("containerd-oom.conf", CONTAINERD_KEEPS_OOM_SCORES)?;
    let config = config(kind, nodes, &drop_in, &fingerprint(kind, nodes));
    let yaml = serde_saphyr::to_string(&config).context("cannot write kind's configuration")?;
    let config = write("kind.yaml", &yaml)?;
    let kubeconfig = workspace.kubeconfig();
    std::fs::create_dir_all(&workspace.lab)
        .with_context(|| format!("cannot make {}", workspace.lab.display()))?;
    let log = workspace.logs().join("kind.log");
    let created = kind
        .command()
        // Kept on failure, so that its node can be asked why; removed below.
        .args(["create", "cluster", "--retain", "--name", &kind.engine.cluster, "--config"])
        .arg(config)
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .deadline(Duration::from_secs(240 + 60 * nodes as u64))
        .logged(&log, on_line)
        .await;
    if let Err(error) = created {
        let logs = export_logs(kind, workspace).await;
        remains::remove(&kind.engine, &kubeconfig).await?;
        let next = format!("cargo xtask doctor; what the node said is in {}", logs.display());
        return Err(error.context(advised("kind could not make the cluster", next)));
    }
    Ok(())
}

/// Keeps what the node and its pods have said, as far as it can still be had, and tells where.
pub(crate) async fn export_logs(kind: &Kind, workspace: &Workspace) -> PathBuf {
    let logs = workspace.logs().join("node");
    let export = kind.command().args(["export", "logs", "--name", &kind.engine.cluster]).arg(&logs);
    let _ = export.deadline(Duration::from_secs(60)).output().await;
    logs
}

/// Writes the kubeconfig of the running cluster, if there is one.
pub(crate) async fn export_kubeconfig(kind: &Kind, workspace: &Workspace) -> bool {
    let exported = kind
        .command()
        .args(["export", "kubeconfig", "--name", &kind.engine.cluster, "--kubeconfig"])
        .arg(workspace.kubeconfig())
        .deadline(Duration::from_secs(20))
        .output()
        .await;
    exported.is_ok_and(|output| output.status == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::container::Engine;
    use machine::container::EngineKind;
    use machine::tools::Tool;
    use node_image::NodeImage;
    use semver::Version;

    fn kind(restrictions: Vec<Restriction>) -> Kind {
        let engine = Engine::pretended(EngineKind::Podman, restrictions);
        Kind {
            tool: Tool { path: "kind".into(), version: Version::new(0, 33, 0) },
            engine,
            node_image: NodeImage { reference: "localhost/node:1".to_owned(), built: true },
        }
    }

    fn yaml(restrictions: Vec<Restriction>) -> String {
        serde_saphyr::to_string(&config(&kind(restrictions), 1, Path::new("/cache/oom.conf"), "f00")).unwrap()
    }

    #[test]
    fn an_ordinary_machine_gets_an_ordinary_cluster() {
        let yaml = yaml(vec![]);
        assert!(yaml.contains("apiVersion: kind.x-k8s.io/v1alpha4"), "{yaml}");
        assert!(yaml.contains("statefulset-lab/made-from: f00"), "{yaml}");
        assert!(!yaml.contains("Kubelet") && !yaml.contains("extraMounts"), "{yaml}");
    }

    #[test]
    fn each_restriction_adds_its_own_settings_and_no_others() {
        let oom = yaml(vec![Restriction::NoSysResource]);
        assert!(oom.contains("hostPath: /cache/oom.conf"), "{oom}");
        assert!(!oom.contains("failCgroupV1"), "{oom}");
        let v1 = yaml(vec![Restriction::CgroupV1 { hybrid: true }]);
        assert!(v1.contains("failCgroupV1: false") && !v1.contains("extraMounts"), "{v1}");
    }

    #[test]
    fn another_node_image_or_restriction_is_another_cluster() {
        let plain = fingerprint(&kind(vec![]), 1);
        assert_eq!(plain, fingerprint(&kind(vec![]), 1));
        assert_ne!(plain, fingerprint(&kind(vec![Restriction::NoSysResource]), 1));
        assert_ne!(plain, fingerprint(&kind(vec![]), 3));
        let mut other = kind(vec![]);
        other.node_image.reference = "localhost/node:2".to_owned();
        assert_ne!(plain, fingerprint(&other, 1));
    }

    #[test]
    fn several_nodes_are_workers_beside_the_first_and_notice_a_loss_early() {
        let config = config(&kind(vec![]), 3, Path::new(""), "f00");
        let roles: Vec<&str> = config.nodes.iter().map(|node| node.role).collect();
        assert_eq!(roles, ["control-plane", "worker", "worker"]);
        let [four, three] = [&config.kubeadm_config_patches[0], &config.kubeadm_config_patches[1]];
        assert!(four.contains("    - name: node-monitor-grace-period\n      value: \"6s\"\n"), "{four}");
        assert!(three.contains("    node-monitor-grace-period: \"6s\"\n"), "{three}");
        assert!(!yaml(vec![]).contains("node-monitor-grace-period"), "one node waits as long as everywhere");
    }
}
