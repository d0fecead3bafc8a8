//! What a cluster of ours is to the engine: containers, volumes, a network. Found and removed by the names
//! and labels kind gives them, so that a run that was killed anywhere leaves nothing the next can't remove.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use machine::container::{Engine, EngineKind};

/// The label that kind gives the containers of a cluster.
const CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";

/// The name of the first node, which is also that of its container and the label of its volume.
pub(super) fn first_node(engine: &Engine) -> String {
    format!("{}-control-plane", engine.cluster)
}

/// The containers of our cluster, running or not.
///
/// # Errors
/// The engine does not answer.
pub(super) async fn containers(engine: &Engine) -> Result<Vec<String>> {
    list(engine, &["ps", "--all", "--format", "{{.Names}}"], &format!("{CLUSTER_LABEL}={}", engine.cluster))
        .await
}

/// Removes it all, and the kubeconfig. True when there was something. To be called under the run lock.
///
/// # Errors
/// The engine does not let go of something; the error shows the command.
pub(super) async fn remove(engine: &Engine, kubeconfig: &Path) -> Result<bool> {
    end_orphans(&engine.cluster);
    let containers = containers(engine).await?;
    if !containers.is_empty() {
        let mut rm = engine.command().args(["rm", "--force", "--volumes"]);
        if engine.kind == EngineKind::Podman {
            // Nothing in the node is worth the ten seconds it is given to end; docker gives it none.
            rm = rm.args(["--time", "0"]);
        }
        rm.args(&containers).read().await?;
    }
    // With podman, kind makes the node's volume itself before the container.
    let volumes = volumes(engine).await?;
    if !volumes.is_empty() {
        engine.command().args(["volume", "rm", "--force"]).args(&volumes).read().await?;
    }
    let network = engine.command().args(["network", "inspect", &engine.cluster]).output().await?.status == 0;
    if network {
        engine.command().args(["network", "rm", &engine.cluster]).read().await?;
    }
    match std::fs::remove_file(kubeconfig) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", kubeconfig.display()));
        }
        _ => {}
    }
    Ok(network || !containers.is_empty() || !volumes.is_empty())
}

/// Ends every `kind create cluster` for our cluster: who started it was killed, or has just been failed by it,
/// and it would go on making what is being removed.
fn end_orphans(cluster: &str) {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return;
    };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        if makes_our_cluster(&arguments, cluster)
            && let Some(pid) = Pid::from_raw(pid)
        {
            // We start every command as the leader of its group; fails only when it is already gone.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Whether a process' arguments, each ended by a zero byte, are those of [`super::kind::create`].
fn makes_our_cluster(arguments: &[u8], cluster: &str) -> bool {
    let arguments: Vec<&[u8]> = arguments.split(|&byte| byte == 0).collect();
    let program = arguments.first().copied().unwrap_or_default();
    let has = |pair: [&str; 2]| {
        let mut pairs = arguments.windows(2);
        pairs.any(|found| found == [pair[0].as_bytes(), pair[1].as_bytes()])
    };
    program.ends_with(b"kind") && has(["create", "cluster"]) && has(["--name", cluster])
}

/// The volumes of our cluster's nodes: each bears the name of its node as a label, with which that of the cluster begins.
async fn volumes(engine: &Engine) -> Result<Vec<String>> {
    let listed = engine.command().args(["volume", "ls", "--format", "{{.Name}} {{.Labels}}"]);
    let listed = listed.deadline(Duration::from_secs(30)).read().await?;
    let ours = format!("{}-", engine.cluster);
    let of_ours = |line: &&str| line.contains(&ours);
    Ok(listed.lines().filter(of_ours).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

/// Names of the engine's objects that have a label.
async fn list(engine: &Engine, args: &[&str], label: &str) -> Result<Vec<String>> {
    let listed = engine
        .command()
        .args(args)
        .arg(format!("--filter=label={label}"))
        .deadline(Duration::from_secs(30))
        .read()
        .await?;
    Ok(listed.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kind_that_makes_our_cluster_is_ended() {
        const OURS: &str = "statefulset-lab-00000000";
        let makes_ours = |line: &str| makes_our_cluster(&line.replace(' ', "\0").into_bytes(), OURS);
        assert!(makes_ours(&format!(
            "/cache/bin/kind create cluster --retain --name {OURS} --config kind.yaml"
        )));
        assert!(!makes_ours("kind create cluster --name statefulset-lab-11111111"), "somebody else's");
        assert!(!makes_ours(&format!("kind delete cluster --name {OURS}")));
        assert!(!makes_ours(&format!("grep create cluster --name {OURS}")));
        assert!(!makes_ours(""));
    }

    #[tokio::test]
    async fn the_cluster_of_another_user_of_the_same_daemon_is_neither_found_nor_removed() {
        use std::os::unix::fs::PermissionsExt;
        const THEIRS: &str = "statefulset-lab-11111111";
        let dir = tempfile::tempdir().unwrap();
        let docker = dir.path().join("docker");
        // Lists their node by its label, has their network, and notes what it is told to remove.
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in\n\
             *' rm '* | 'rm '*) echo \"$*\" >>{dir}/removed ;;\n\
             ps*label=*={THEIRS}) echo {THEIRS}-control-plane ;;\n\
             'network inspect {THEIRS}') ;;\n\
             'network inspect '*) exit 1 ;;\n\
             esac\n",
            dir = dir.path().display()
        );
        std::fs::write(&docker, script).unwrap();
        std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
        let daemon = |cluster: &str| {
            let mut engine = Engine::pretended(EngineKind::Docker, vec![]);
            (engine.path, engine.cluster) = (docker.clone(), cluster.to_owned());
            engine
        };
        let (mine, theirs) = (daemon("statefulset-lab-00000000"), daemon(THEIRS));
        let kubeconfig = dir.path().join("kubeconfig");
        assert!(!remove(&mine, &kubeconfig).await.unwrap());
        assert!(!dir.path().join("removed").exists());
        assert!(remove(&theirs, &kubeconfig).await.unwrap());
        let removed = std::fs::read_to_string(dir.path().join("removed")).unwrap();
        assert_eq!(removed.lines().count(), 2, "{removed}");
    }
}
