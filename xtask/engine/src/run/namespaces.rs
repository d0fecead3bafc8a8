//! The namespaces of the experiments: made before, gone after, leftovers of a killed run cleared away.

mod bounds;
mod finalizers;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{
    LimitRange, Namespace, PersistentVolumeClaim, Pod, ResourceQuota, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::runtime::wait::await_condition;

use crate::transient::{self, Pauses};
use machine::digest::sha256;
use machine::identity::Identity;
use model::kinds::NAMESPACE_CHARS;
use model::spec::PodSecurity;

/// Label that says a namespace is the lab's.
const LABEL: (&str, &str) = ("app.kubernetes.io/created-by", "statefulset-lab");
/// Label that says whose: nothing that bears another's key is ever deleted.
const OWNER: &str = "statefulset-lab/owner";
/// The same for people.
const MADE_BY: &str = "statefulset-lab/made-by";
/// Digits that tell apart what reads the same.
const DIGITS: usize = 6;
/// How long a namespace may take to come or go: pods have a grace period of some seconds.
const DEADLINE: Duration = Duration::from_secs(90);

/// Label that bounds what pods may be.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// The namespaces of one run in one cluster, which others may use as well.
pub struct Namespaces {
    client: kube::Client,
    owner: Identity,
}

/// The name of an experiment's namespace: `<lab>-<experiment>`, as a person would choose it.
///
/// Where several people share a cluster it ends in digits made of all that tells it apart: words with dashes in them
/// can be put together to the same name in many ways, and two people run the same lab. That of a stranger's chart,
/// which goes by the name `stranger`, consists of them: a chart that reads where it is installed learns nothing.
pub fn name(lab: &str, stranger: Option<&str>, experiment: &str, owner: Option<&Identity>) -> String {
    let words = format!("{lab}-{experiment}");
    if stranger.is_none() && owner.is_none() {
        return words;
    }
    let all = [lab, stranger.unwrap_or_default(), experiment, owner.map_or("", Identity::key)].join("\n");
    let digits = sha256(all.as_bytes());
    match stranger {
        Some(_) => format!("app-{}", &digits[..2 * DIGITS]),
        None => {
            let kept: String = words.chars().take(NAMESPACE_CHARS - DIGITS - 1).collect();
            format!("{}-{}", kept.trim_end_matches('-'), &digits[..DIGITS])
        }
    }
}

/// The labels by which the namespaces of an identity are found, as `kubectl --selector` takes them.
pub(super) fn selector(owner: &Identity) -> String {
    let (label, lab) = LABEL;
    format!("{label}={lab},{OWNER}={}", owner.key())
}

impl Namespaces {
    /// Those of this run.
    pub fn of(client: kube::Client, owner: Identity) -> Self {
        Self { client, owner }
    }

    /// Makes an empty namespace and waits for its default service account, without which no pod is admitted. `user`
    /// may do in it what an owner may, within bounds, and nothing anywhere else.
    ///
    /// # Errors
    /// When it exists, or the API server refuses.
    pub async fn create(&self, name: &str, user: Option<&str>, pods: PodSecurity) -> Result<()> {
        let client = &self.client;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let pairs = |pairs: &[(&str, &str)]| -> Option<BTreeMap<String, String>> {
            Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            labels: pairs(&[LABEL, (OWNER, self.owner.key()), (POD_SECURITY, pods.word())]),
            annotations: pairs(&[(MADE_BY, &self.owner.to_string())]),
            ..ObjectMeta::default()
        };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let (what, params) = (format!("create namespace {name}"), PostParams::default());
        transient::once(&what, || namespaces.create(&params, &namespace)).await?;
        if let Some(user) = user {
            self.bound(name).await?;
            let (bindings, owner) = (Api::<RoleBinding>::namespaced(client.clone(), name), ownership(user));
            let what = format!("make {user} the owner of namespace {name}");
            transient::once(&what, || bindings.create(&params, &owner)).await?;
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
        until(accounts, "default", |account: Option<&ServiceAccount>| account.is_some())
            .await
            .with_context(|| format!("namespace {name} got no default service account"))
    }

    /// Bounds what an owner of a namespace may make in it, and waits until the bounds count: the API server refuses what
    /// a quota speaks of until the controller of quotas has looked at it first.
    async fn bound(&self, name: &str) -> Result<()> {
        let params = PostParams::default();
        let ranges: Api<LimitRange> = Api::namespaced(self.client.clone(), name);
        let range = bounds::of_containers();
        let what = format!("bound the containers in namespace {name}");
        transient::once(&what, || ranges.create(&params, &range)).await?;
        let quotas: Api<ResourceQuota> = Api::namespaced(self.client.clone(), name);
        let counts = |quota: Option<&ResourceQuota>| {
            quota.and_then(|quota| quota.status.as_ref()?.hard.as_ref()).is_some()
        };
        let (quotas, params) = (&quotas, &params);
        let bounded = bounds::of_a_namespace().map(|quota| async move {
            let what = format!("bound what there may be in namespace {name}");
            transient::once(&what, || quotas.create(params, &quota)).await?;
            let of = quota.metadata.name.as_deref().unwrap_or_default();
            let late = || format!("quota {of} of namespace {name} does not count");
            until(quotas.clone(), of, counts).await.with_context(late)
        });
        try_join_all(bounded).await.map(drop)
    }

    /// Deletes a namespace without waiting until it is gone.
    ///
    /// What it holds would go by itself, but the namespace controller looks after five seconds, and where it then
    /// finds a pod, it looks again after half of the pod's grace period; where a claim waits for its pod, after eight
    /// seconds. Told at once to go, with no time for goodbyes, both are gone when it looks first, and the next run
    /// need not wait. <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn release(&self, name: &str) -> Result<()> {
        let client = &self.client;
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

    /// Deletes a namespace and waits until it is gone. A finalizer that no controller answers for, as a chart may
    /// write one, holds it for ever, and is taken away.
    ///
    /// # Errors
    /// As [`Namespaces::release`], and when it does not go.
    pub async fn remove(&self, name: &str) -> Result<()> {
        self.release(name).await?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let held = |namespace: Option<&Namespace>| namespace.is_none_or(finalizers::hold);
        // Whether it has gone, is held, or is late: what holds it without a reason goes.
        let _ = until(namespaces.clone(), name, held).await;
        finalizers::cut(&self.client, name).await?;
        until(namespaces, name, |namespace: Option<&Namespace>| namespace.is_none())
            .await
            .with_context(|| format!("namespace {name} did not go"))
    }

    /// Deletes every namespace that runs of the same identity left, and waits until they are gone. Returns their names.
    ///
    /// # Errors
    /// When the API server refuses, or one does not go.
    pub async fn clear(&self) -> Result<Vec<String>> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let ours = ListParams::default().labels(&selector(&self.owner));
        let list = transient::read("list namespaces", || namespaces.list(&ours)).await?;
        let gone = list.items.into_iter().map(|namespace| async {
            let name = namespace.metadata.name.unwrap_or_default();
            self.remove(&name).await?;
            anyhow::Ok(name)
        });
        try_join_all(gone).await
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use std::path::Path;

    fn identity(cache: &str) -> Identity {
        Identity::here(Path::new(cache))
    }

    #[test]
    fn two_pairs_of_chart_and_experiment_never_share_a_namespace() {
        let pairs = [("lab", "a", "b-c"), ("lab", "a-b", "c"), ("lab-a", "b", "c")];
        let names = pairs.map(|(lab, chart, experiment)| name(lab, Some(chart), experiment, None));
        assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2], "{names:?}");
        let long = "l".repeat(60);
        let names = ["/a", "/b"].map(|cache| name(&long, None, &long, Some(&identity(cache))));
        assert!(names[0] != names[1] && names[0].len() == NAMESPACE_CHARS, "{names:?}");
    }

    #[test]
    fn a_strangers_chart_learns_nothing_from_the_name_of_its_namespace() {
        for owner in [None, Some(&identity("/a"))] {
            let name = name("statefulset", Some("counter"), "partition", owner);
            assert!(
                !["statefulset", "counter", "partition", "lab"].iter().any(|it| name.contains(it)),
                "{name}"
            );
        }
    }

    #[test]
    fn two_people_who_share_a_cluster_do_not_meet_and_on_our_own_names_are_as_a_person_would_choose() {
        assert_eq!(name("statefulset", None, "dns", None), "statefulset-dns");
        let [one, other] = ["/a", "/b"].map(|cache| name("statefulset", None, "dns", Some(&identity(cache))));
        assert!(one.starts_with("statefulset-dns-") && one != other, "{one} {other}");
    }

    #[tokio::test]
    async fn only_what_the_same_identity_made_is_cleared_away() {
        let (mine, theirs) = (identity("/a"), identity("/b"));
        let fake = Fake::serving(|_, _| None);
        for (owner, name) in [(&mine, "mine"), (&theirs, "theirs")] {
            Namespaces::of(fake.client(), owner.clone())
                .create(name, None, PodSecurity::Baseline)
                .await
                .unwrap();
        }
        let cleared = Namespaces::of(fake.client(), mine).clear().await.unwrap();
        assert_eq!(cleared, ["mine"]);
        assert_eq!(fake.namespaces(), ["theirs"]);
    }
}
