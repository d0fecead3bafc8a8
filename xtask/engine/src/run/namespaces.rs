//! The namespaces of the experiments: made before, gone after, leftovers of a killed run cleared away.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::runtime::wait::await_condition;

use crate::transient::{self, Pauses};

/// Label that says a namespace is the lab's own. Nothing without it is ever deleted.
const LABEL: &str = "app.kubernetes.io/created-by";
const OWNER: &str = "statefulset-lab";
/// How long a namespace may take to come or go: pods have a grace period of some seconds.
const DEADLINE: Duration = Duration::from_secs(90);

/// What pods may be is bounded: nothing of the node's, no privileges. An image that wants to be root is let in, for a
/// chart of somebody else's is here to be graded.
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline>
const POD_SECURITY: (&str, &str) = ("pod-security.kubernetes.io/enforce", "baseline");

/// Makes an empty namespace and waits for its default service account, without which no pod is admitted. `user` may
/// do in it what an owner may, and nothing anywhere else.
///
/// # Errors
/// When it exists, or the API server refuses.
pub async fn create(client: &kube::Client, name: &str, user: Option<&str>) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let labels = [(LABEL, OWNER), POD_SECURITY].map(|(label, value)| (label.to_owned(), value.to_owned()));
    let labels = Some(BTreeMap::from(labels));
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels, ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    let (what, params) = (format!("create namespace {name}"), PostParams::default());
    transient::once(&what, || namespaces.create(&params, &namespace)).await?;
    if let Some(user) = user {
        let (bindings, owner) = (Api::<RoleBinding>::namespaced(client.clone(), name), ownership(user));
        let what = format!("make {user} the owner of namespace {name}");
        transient::once(&what, || bindings.create(&params, &owner)).await?;
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    until(accounts, "default", |account: Option<&ServiceAccount>| account.is_some())
        .await
        .with_context(|| format!("namespace {name} got no default service account"))
}

/// Binds a user to the role that Kubernetes has for owners of a namespace: all of its objects, but not the namespace
/// itself nor its quotas. <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#user-facing-roles>
fn ownership(user: &str) -> RoleBinding {
    let api_group = || Some("rbac.authorization.k8s.io".to_owned());
    let role_ref =
        RoleRef { api_group: api_group(), kind: "ClusterRole".to_owned(), name: "admin".to_owned() };
    let (kind, name) = ("User".to_owned(), user.to_owned());
    let subject = Subject { api_group: api_group(), kind, name, namespace: None };
    let metadata = ObjectMeta { name: Some("owner".to_owned()), ..ObjectMeta::default() };
    RoleBinding { metadata, role_ref, subjects: Some(vec![subject]) }
}

/// Deletes a namespace without waiting until it is gone.
///
/// What it holds would go by itself, but the namespace controller looks after five seconds, and where it then finds
/// a pod, it looks again after half of the pod's grace period; where a claim waits for its pod, after eight seconds.
/// Told at once to go, with no time for goodbyes, both are gone when it looks first, and the next run need not wait.
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>
///
/// # Errors
/// When the API server refuses.
pub async fn release(client: &kube::Client, name: &str) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let pods: Api<Pod> = Api::namespaced(client.clone(), name);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), name);
    let (all, ordinary) = (ListParams::default(), DeleteParams::default());
    let hasty = DeleteParams { grace_period_seconds: Some(1), ..DeleteParams::default() };
    // First the namespace: in one that goes, nothing new is made in the place of what is deleted.
    delete(&format!("delete namespace {name}"), || namespaces.delete(name, &ordinary)).await?;
    delete(&format!("delete the pods of {name}"), || pods.delete_collection(&hasty, &all)).await?;
    delete(&format!("delete the claims of {name}"), || claims.delete_collection(&ordinary, &all)).await
}

/// Deletes what may be gone already (404), or on its way (409).
async fn delete<T, F>(what: &str, ask: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = kube::Result<T>>,
{
    let ask = || async {
        match ask().await {
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
            deleted => deleted.map(drop),
        }
    };
    transient::once(what, ask).await
}

/// Deletes every namespace of the lab and waits until they are gone. Returns their names.
///
/// # Errors
/// When the API server refuses, or one does not go.
pub async fn clear(client: &kube::Client) -> Result<Vec<String>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let ours = ListParams::default().labels(&format!("{LABEL}={OWNER}"));
    let list = transient::read("list namespaces", || namespaces.list(&ours)).await?;
    let gone = list.items.into_iter().map(|namespace| async {
        let name = namespace.metadata.name.unwrap_or_default();
        let uid = namespace.metadata.uid;
        release(client, &name).await?;
        let is_gone = |namespace: Option<&Namespace>| namespace.is_none_or(|it| it.metadata.uid != uid);
        until(namespaces.clone(), &name, is_gone)
            .await
            .with_context(|| format!("namespace {name} did not go"))?;
        Ok(name)
    });
    try_join_all(gone).await
}

/// Waits until `holds` is true of an object. A watch that breaks is opened again.
async fn until<K>(api: Api<K>, name: &str, holds: impl Fn(Option<&K>) -> bool) -> Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let (mut pauses, mut last) = (Pauses::default(), None);
    let watched = async {
        while let Err(error) = await_condition(api.clone(), name, &holds).await {
            last = Some(error);
            pauses.pause().await;
        }
    };
    if tokio::time::timeout(DEADLINE, watched).await.is_ok() {
        return Ok(());
    }
    let late = anyhow!("not within {} s", DEADLINE.as_secs());
    Err(last.map_or(late, |error| {
        anyhow::Error::new(error).context(format!("not within {} s", DEADLINE.as_secs()))
    }))
}
