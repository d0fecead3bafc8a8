//! Waits until a cluster has what the lab needs: an API, Ready nodes, names, and a default StorageClass.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::future::{BoxFuture, select_ok};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};

use crate::transient;
use machine::advice::advised;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// A client for a kubeconfig's only context.
///
/// # Errors
/// The kubeconfig can't be read or used.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let bad = || format!("cannot use {}", kubeconfig.display());
    let read = Kubeconfig::read_from(kubeconfig).with_context(bad)?;
    let config =
        Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.with_context(bad)?;
    transient::client(config).with_context(bad)
}

/// What the API server says it is; asked again while it does not answer yet.
///
/// # Errors
/// It does not answer.
pub(super) async fn server_version(client: &Client) -> Result<String> {
    let answer = transient::read("ask the API server for its version", || client.apiserver_version()).await?;
    Ok(answer.git_version)
}

/// A label of a node.
pub(super) async fn node_label(client: &Client, node: &str, label: &str) -> Option<String> {
    let node = Api::<Node>::all(client.clone()).get(node).await.ok()?;
    node.metadata.labels?.remove(label)
}

/// Waits for a cluster of so many nodes that kind has just made. `waiting` is told what is missing.
///
/// # Errors
/// Something is not there by the deadline; the error names it and what was seen last.
pub(super) async fn wait(
    client: &Client,
    count: usize,
    deadline: Duration,
    waiting: impl Fn(&str),
) -> Result<()> {
    let classes = Api::<StorageClass>::all(client.clone());
    let names = Api::<Deployment>::namespaced(client.clone(), "kube-system");
    let ready = async {
        let node = nodes(client, count, deadline);
        let class =
            until(classes, watcher::Config::default(), "a default StorageClass", deadline, is_default);
        tokio::try_join!(node, class)?;
        waiting("waits for CoreDNS and the volume provisioner");
        let names = until(names, named("coredns"), "CoreDNS", deadline, is_available);
        tokio::try_join!(names, storage(client, count, deadline))?;
        Ok(())
    };
    waiting(if count == 1 { "waits for the node to be Ready" } else { "waits for the nodes to be Ready" });
    ready.await
}

/// Waits until so many nodes are Ready.
///
/// # Errors
/// They are not by the deadline.
pub(super) async fn nodes(client: &Client, count: usize, deadline: Duration) -> Result<()> {
    let mut ready = BTreeSet::new();
    let all_ready = |node: &Node| are_ready(&mut ready, node, count);
    let what = if count == 1 { "Ready node" } else { "Ready nodes enough" };
    until(Api::<Node>::all(client.clone()), watcher::Config::default(), what, deadline, all_ready).await
}

/// Waits until a node says something: its kubelet renews a Lease.
/// <https://kubernetes.io/docs/concepts/architecture/leases/#node-heart-beats>
///
/// # Errors
/// It does not by the deadline.
pub(super) async fn alive(client: &Client, node: &str, deadline: Duration) -> Result<()> {
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    let mut first = None;
    // Nodes and this machine may disagree about the time; that it changes is enough.
    let renewed = |lease: &Lease| {
        let now = lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
        let before = first.get_or_insert_with(|| now.clone());
        if *before == now { Err("the lease that was there".to_owned()) } else { Ok(()) }
    };
    until(leases, named(node), &format!("sign of life of {node}"), deadline, renewed).await
}

/// Waits for who makes volumes: the Deployment of kind's own node image, or the agents of the nodes made here.
async fn storage(client: &Client, count: usize, deadline: Duration) -> Result<()> {
    let kinds = Api::<Deployment>::namespaced(client.clone(), "local-path-storage");
    let ours = Api::<DaemonSet>::namespaced(client.clone(), "kube-system");
    let what = "the volume provisioner";
    let on_all = |agents: &DaemonSet| {
        let ready = agents.status.as_ref().map_or(0, |status| status.number_ready);
        let all = usize::try_from(ready).is_ok_and(|ready| ready >= count);
        if all { Ok(()) } else { Err(format!("agents are ready on {ready} of {count} nodes")) }
    };
    let kinds = until(kinds, named("local-path-provisioner"), what, deadline, is_available);
    let ours = until(ours, named("node-agent"), what, deadline, on_all);
    let either: [BoxFuture<'_, Result<()>>; 2] = [kinds.boxed(), ours.boxed()];
    select_ok(either).await.map(drop)
}

fn named(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}"))
}

/// Whether so many nodes are Ready, now that this one was seen: `names` are those that were.
fn are_ready(names: &mut BTreeSet<String>, node: &Node, count: usize) -> Result<(), String> {
    let name = node.metadata.name.clone().unwrap_or_default();
    if let Err(says) = node_is_ready(node) {
        names.remove(&name);
        return Err(format!("{name}: {says}"));
    }
    names.insert(name);
    let ready = names.len();
    if ready >= count { Ok(()) } else { Err(format!("{ready} of {count} nodes are Ready")) }
}

/// Waits for an object for which `holds` is `Ok`; its error says what is seen instead.
async fn until<K>(
    api: Api<K>,
    config: watcher::Config,
    what: &str,
    deadline: Duration,
    mut holds: impl FnMut(&K) -> Result<(), String>,
) -> Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let mut last = "nothing of the kind".to_owned();
    // The watcher starts over by itself when the API server refuses or ends a watch.
    let mut events = pin!(watcher(api, config).default_backoff().applied_objects());
    let watched = async {
        while let Some(event) = events.next().await {
            match event {
                Ok(object) => match holds(&object) {
                    Ok(()) => return true,
                    Err(seen) => last = seen,
                },
                Err(error) => last = error.to_string(),
            }
        }
        false
    };
    if matches!(tokio::time::timeout(deadline, watched).await, Ok(true)) {
        return Ok(());
    }
    bail!(advised(
        format!("the cluster has no {what} after {} s\nlast seen: {last}", deadline.as_secs()),
        "cargo xtask shell, then kubectl get events --all-namespaces"
    ))
}

fn node_is_ready(node: &Node) -> Result<(), String> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    match conditions.into_iter().find(|condition| condition.type_ == "Ready") {
        Some(condition) if condition.status == "True" => Ok(()),
        Some(condition) => Err(condition.message.clone().unwrap_or_else(|| "not Ready".to_owned())),
        None => Err("a node without a Ready condition".to_owned()),
    }
}

fn is_default(class: &StorageClass) -> Result<(), String> {
    let annotations = class.metadata.annotations.as_ref();
    match annotations.and_then(|all| all.get(DEFAULT_CLASS)).map(String::as_str) {
        Some("true") => Ok(()),
        _ => Err(format!("{}, which is not the default", class.metadata.name.as_deref().unwrap_or_default())),
    }
}

fn is_available(deployment: &Deployment) -> Result<(), String> {
    let status = deployment.status.as_ref();
    let available = status.and_then(|status| status.available_replicas).unwrap_or(0);
    // One of CoreDNS' two answers as well as both: the second one need not be waited for.
    if available > 0 {
        return Ok(());
    }
    let conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
    let messages: Vec<&str> = conditions.filter_map(|condition| condition.message.as_deref()).collect();
    Err(messages.join("; "))
}

/// Whether a cluster that is not ours has what the lab needs; nothing is waited for.
///
/// # Errors
/// It has no default StorageClass.
pub(super) async fn check(client: &Client) -> Result<()> {
    let (classes, all) = (Api::<StorageClass>::all(client.clone()), ListParams::default());
    let classes = transient::read("list the storage classes", || classes.list(&all)).await?;
    classes.iter().any(|class| is_default(class).is_ok()).then_some(()).ok_or_else(|| {
        anyhow!(advised(
            "the cluster has no default StorageClass",
            "name one in the chart's values: persistence.storageClass"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::DeploymentStatus;

    #[test]
    fn a_node_is_ready_when_its_condition_says_so_and_not_before() {
        let node = |status: &str| -> Node {
            serde_json::from_value(serde_json::json!({
                "status": { "conditions": [{ "type": "Ready", "status": status, "message": "kubelet says" }] }
            }))
            .unwrap()
        };
        assert_eq!(node_is_ready(&node("True")), Ok(()));
        assert_eq!(node_is_ready(&node("False")), Err("kubelet says".to_owned()));
        assert!(node_is_ready(&Node::default()).is_err());
    }

    #[test]
    fn all_nodes_are_ready_when_the_last_one_is_and_none_has_gone_back() {
        let node = |name: &str, status: &str| -> Node {
            serde_json::from_value(serde_json::json!({"metadata": {"name": name},
                "status": {"conditions": [{"type": "Ready", "status": status}]}}))
            .unwrap()
        };
        let mut names = BTreeSet::new();
        let mut all = |name, status| are_ready(&mut names, &node(name, status), 2);
        assert!(all("a", "True").is_err());
        assert!(all("a", "True").is_err(), "it was counted");
        assert!(all("a", "False").is_err());
        assert!(all("b", "True").is_err());
        assert_eq!(all("a", "True"), Ok(()));
    }

    #[test]
    fn a_deployment_counts_with_its_first_available_pod() {
        let mut deployment = Deployment::default();
        assert!(is_available(&deployment).is_err());
        deployment.status = Some(DeploymentStatus { available_replicas: Some(1), ..Default::default() });
        assert_eq!(is_available(&deployment), Ok(()));
    }

    #[test]
    fn a_storage_class_is_the_default_by_its_annotation() {
        let mut class = StorageClass::default();
        assert!(is_default(&class).is_err());
        class.metadata.annotations = Some([(DEFAULT_CLASS.to_owned(), "true".to_owned())].into());
        assert_eq!(is_default(&class), Ok(()));
    }
}
