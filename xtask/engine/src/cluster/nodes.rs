//! The nodes of the lab's own cluster as what can break: how each way to break one is done, and how all are mended.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::cluster::ready;
use crate::transient;
use machine::advice::{Advised, advised};
use machine::command::Command;
use machine::container::Engine;
use model::kinds::NodeAct;

/// What a command on a node may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// What a node may take to be Ready again: it starts everything anew when it had no power.
const MENDED: Duration = Duration::from_secs(90);

/// Nothing comes in by the node's network, for itself or its pods, and nothing goes out.
const CUT: &str = "iptables --wait --table mangle --insert PREROUTING --in-interface eth0 --jump DROP && \
                   iptables --wait --table mangle --insert POSTROUTING --out-interface eth0 --jump DROP";
/// The same taken away, however often it was said; says so where there was something.
const JOIN: &str = "\
    while iptables --wait --table mangle --delete PREROUTING --in-interface eth0 --jump DROP; do cut=1; done 2>/dev/null; \
    while iptables --wait --table mangle --delete POSTROUTING --out-interface eth0 --jump DROP; do cut=1; done 2>/dev/null; \
    test -z \"$cut\" || echo joined";

/// What Kubernetes or kind itself taints a node with; all else was a lab.
const TAINTS_OF_OTHERS: [&str; 2] = ["node-role.kubernetes.io/", "node.kubernetes.io/"];
/// But this one, which only people set: KEP-2268.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The nodes of the lab's own cluster: containers of the same names.
#[derive(Debug, Clone)]
pub struct Nodes {
    engine: Engine,
    names: Vec<String>,
}

impl Nodes {
    /// These nodes.
    pub(super) fn of(engine: Engine, names: Vec<String>) -> Self {
        Self { engine, names }
    }

    /// The command that does something to a node.
    ///
    /// # Errors
    /// It is none of ours, or the one that all hangs on.
    pub(crate) fn command(&self, act: NodeAct, node: &str) -> Result<Command> {
        self.knows(node)?;
        ensure!(
            !node.ends_with("-control-plane"),
            "{node} runs the control plane: without it nobody can say what happens"
        );
        Ok(self.does(act, node))
    }

    /// The beginning of a command that is run inside a node.
    ///
    /// # Errors
    /// It is none of ours.
    pub(crate) fn inside(&self, node: &str) -> Result<Command> {
        self.knows(node)?;
        Ok(self.engine.command().deadline(DEADLINE).args(["exec", node]))
    }

    fn knows(&self, node: &str) -> Result<()> {
        let known = self.names.join(", ");
        ensure!(self.names.iter().any(|name| name == node), "{node:?} is no node of the lab's: {known}");
        Ok(())
    }

    fn does(&self, act: NodeAct, node: &str) -> Command {
        let engine = self.engine.command().deadline(DEADLINE);
        match act {
            NodeAct::Pause => engine.args(["pause", node]),
            NodeAct::Resume => engine.args(["unpause", node]),
            // A power cut gives nobody time to say goodbye.
            NodeAct::Stop => engine.args(["stop", "--time", "0", node]),
            NodeAct::Start => engine.args(["start", node]),
            NodeAct::Cut => engine.args(["exec", node, "sh", "-c", CUT]),
            NodeAct::Join => engine.args(["exec", node, "sh", "-c", JOIN]),
        }
    }

    /// Mends whatever a lab can have broken, and waits until every node is Ready.
    ///
    /// # Errors
    /// A node does not come back.
    pub(crate) async fn mend(&self, client: &kube::Client) -> Result<()> {
        try_join_all(self.names.iter().map(|node| self.power(node, client))).await?;
        let (all, params) = (Api::<Node>::all(client.clone()), ListParams::default());
        let list = transient::read("list the nodes", || all.list(&params)).await?;
        try_join_all(list.into_iter().map(|node| untaint(&all, node))).await?;
        ready::nodes(client, self.names.len(), MENDED).await.context(stays_away())
    }

    /// Has a node run and hear the others. One that did not is waited for until it says something: that it is Ready
    /// may be from before.
    async fn power(&self, node: &str, client: &kube::Client) -> Result<()> {
        let asked = self.engine.command().args(["inspect", "--format", "{{.State.Status}}", node]);
        let act = match asked.deadline(DEADLINE).read().await?.trim() {
            "running" => None,
            "paused" => Some(NodeAct::Resume),
            _ => Some(NodeAct::Start),
        };
        if let Some(act) = act {
            self.does(act, node).read().await?;
        }
        let joined = self.does(NodeAct::Join, node).read().await?;
        if act.is_some() || !joined.is_empty() {
            ready::alive(client, node, MENDED).await.context(stays_away())?;
        }
        Ok(())
    }
}

fn stays_away() -> Advised {
    advised("a node that was broken does not come back", "cargo xtask cluster down removes them all")
}

/// Takes away the taints of a lab from a node, and lets pods come to it again.
async fn untaint(all: &Api<Node>, node: Node) -> Result<()> {
    let spec = node.spec.unwrap_or_default();
    let taints = spec.taints.unwrap_or_default();
    let theirs: Vec<&Taint> = taints.iter().filter(|taint| is_theirs(&taint.key)).collect();
    let cordoned = spec.unschedulable == Some(true);
    if theirs.len() == taints.len() && !cordoned {
        return Ok(());
    }
    let name = node.metadata.name.unwrap_or_default();
    let patch = Patch::Merge(json!({"spec": {"taints": theirs, "unschedulable": null}}));
    all.patch(&name, &PatchParams::default(), &patch)
        .await
        .map(drop)
        .with_context(|| format!("cannot take the taints of {name} away"))
}

fn is_theirs(key: &str) -> bool {
    key != OUT_OF_SERVICE && TAINTS_OF_OTHERS.iter().any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::container::EngineKind;

    #[test]
    fn only_a_worker_of_ours_is_broken() {
        let names = ["statefulset-lab-00000000-control-plane", "statefulset-lab-00000000-worker"];
        let engine = Engine::pretended(EngineKind::Podman, vec![]);
        let nodes = Nodes::of(engine, names.map(str::to_owned).to_vec());
        let said = |node: &str| match nodes.command(NodeAct::Stop, node) {
            Ok(command) => command.argv().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(said(names[1]), format!("podman stop --time 0 {}", names[1]));
        assert!(said(names[0]).contains("control plane"), "{}", said(names[0]));
        assert!(said("kind-worker").contains("no node of the lab's"), "{}", said("kind-worker"));
    }

    #[test]
    fn taints_of_kubernetes_stay_and_those_of_a_lab_go() {
        assert!(is_theirs("node-role.kubernetes.io/control-plane"));
        assert!(is_theirs("node.kubernetes.io/not-ready"));
        assert!(!is_theirs("node.kubernetes.io/out-of-service"));
        assert!(!is_theirs("lab"));
    }
}
