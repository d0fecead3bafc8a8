//! The objects of a namespace that rules look at, listed once.

use anyhow::{Context, Result};
use futures::future::try_join_all;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value as Json;

use ::explain::{Objects, Origin};

use crate::transient;

/// Kinds of a namespace, each with its group and version.
const KINDS: [(&str, &str, &str); 12] = [
    ("apps", "v1", "StatefulSet"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("apps", "v1", "DaemonSet"),
    ("apps", "v1", "ControllerRevision"),
    ("batch", "v1", "Job"),
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "ResourceQuota"),
    ("", "v1", "Event"),
    ("policy", "v1", "PodDisruptionBudget"),
];

/// Lists what a namespace of a cluster holds; and says in words what was looked at.
///
/// # Errors
/// There is no such context; the API server does not answer; somebody who asks may not list.
pub(super) async fn at(context: Option<&str>, namespace: Option<&str>) -> Result<(Objects, String)> {
    let kubeconfig = Kubeconfig::read().context("there is no kubeconfig to be read")?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .with_context(|| format!("the context {} can't be used", context.unwrap_or("that is current")))?;
    let namespace = namespace.map_or(config.default_namespace.clone(), str::to_owned);
    let client = transient::client(config).context("the kubeconfig can't be used")?;
    let lists = KINDS.map(|kind| list(client.clone(), kind, Some(&namespace)));
    // Of no namespace, and not everybody may list them: then nothing is said of classes.
    let classes = list(client.clone(), ("storage.k8s.io", "v1", "StorageClass"), None);
    let (all, classes) = tokio::join!(try_join_all(lists), classes);
    let mut all = all?.concat();
    let with_classes = classes.is_ok();
    match classes {
        Ok(classes) => all.extend(classes),
        // Without the classes a pending claim can't be told from one that waits for its class.
        Err(_) => all.retain(|object| {
            object["kind"] != "PersistentVolumeClaim" || object["status"]["phase"] != "Pending"
        }),
    }
    let unseen = if with_classes {
        ""
    } else {
        "; storage classes may not be listed, so pending claims were left out"
    };
    let looked_at = format!("{} objects of the namespace {namespace}{unseen}", all.len());
    Ok((Objects::new(Origin::Cluster, &namespace, all), looked_at))
}

async fn list(
    client: kube::Client,
    (group, version, kind): (&str, &str, &str),
    namespace: Option<&str>,
) -> Result<Vec<Json>> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let all = ListParams::default();
    let what = format!("list the {} of {}", resource.plural, namespace.unwrap_or("the cluster"));
    let listed = transient::read(&what, || api.list(&all)).await?;
    let objects = listed.items.into_iter().map(|object| {
        let mut object = serde_json::to_value(object)?;
        // Items of a list don't say what they are.
        object["kind"] = kind.into();
        Ok(object)
    });
    objects.collect()
}
