//! Finalizers that hold a namespace which is to go: who wrote them may never answer for them.

use anyhow::Result;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::discovery::{Discovery, Scope, verbs};
use serde_json::json;

use crate::transient;

/// The controller of namespaces says by this condition that finalizers hold one back.
const REMAINING: &str = "NamespaceFinalizersRemaining";

/// Those that a controller of Kubernetes answers for, each with the kind that has it; `*` any.
const ANSWERED_FOR: [(&str, &str); 6] = [
    ("PersistentVolumeClaim", "kubernetes.io/pvc-protection"),
    ("Pod", "batch.kubernetes.io/job-tracking"),
    ("Service", "service.kubernetes.io/load-balancer-cleanup"),
    ("*", "foregroundDeletion"),
    ("*", "orphan"),
    ("PersistentVolumeClaim", "snapshot.storage.kubernetes.io/pvc-as-source-protection"),
];

/// Whether finalizers hold a namespace that nobody is known to answer for.
pub(super) fn hold(namespace: &Namespace) -> bool {
    let conditions = namespace.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let message = conditions
        .filter(|condition| condition.type_ == REMAINING && condition.status == "True")
        .find_map(|condition| condition.message.as_deref());
    // `Some content in the namespace has finalizers remaining: a.io/b in 1 resource instances, …`
    let named = message.and_then(|message| Some(message.split_once(": ")?.1));
    named.into_iter().flat_map(|named| named.split(", ")).any(|one| {
        let finalizer = one.split(' ').next().unwrap_or_default();
        !ANSWERED_FOR.iter().any(|(_, known)| *known == finalizer)
    })
}

/// Takes from all that is on its way out of a namespace the finalizers that nobody answers for.
///
/// # Errors
/// The API server does not tell what there is, or refuses.
pub(super) async fn cut(client: &Client, namespace: &str) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let there = transient::read("look at the namespace", || namespaces.get_opt(namespace)).await?;
    if there.is_none() {
        return Ok(());
    }
    let kinds =
        transient::read("ask which kinds there are", || Discovery::new(client.clone()).run_aggregated())
            .await?;
    let mut kinds: Vec<_> = kinds.groups().flat_map(|group| group.recommended_resources()).collect();
    kinds.retain(|(_, can)| {
        can.scope == Scope::Namespaced
            && can.supports_operation(verbs::LIST)
            && can.supports_operation(verbs::PATCH)
    });
    let each = kinds.iter().map(|(kind, _)| async {
        let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, kind);
        let all = ListParams::default();
        let what = format!("list the {} of {namespace}", kind.plural);
        for object in transient::read(&what, || objects.list(&all)).await? {
            let has = object.metadata.finalizers.unwrap_or_default();
            let kept: Vec<&String> = has.iter().filter(|it| is_answered_for(&kind.kind, it)).collect();
            if object.metadata.deletion_timestamp.is_none() || kept.len() == has.len() {
                continue;
            }
            let name = object.metadata.name.unwrap_or_default();
            let patch = Patch::Merge(json!({"metadata": {"finalizers": kept}}));
            let what = format!("take the finalizers from {} {name}", kind.kind);
            let cut = || async {
                match objects.patch(&name, &PatchParams::default(), &patch).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                    cut => cut.map(drop),
                }
            };
            transient::once(&what, cut).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(each).await.map(drop)
}

fn is_answered_for(kind: &str, finalizer: &str) -> bool {
    ANSWERED_FOR.iter().any(|(of, known)| *known == finalizer && (*of == "*" || *of == kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn going(message: &str) -> Namespace {
        let condition = json!({"type": REMAINING, "status": "True", "reason": "SomeFinalizersRemain",
            "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({"status": {"conditions": [condition]}})).unwrap()
    }

    #[test]
    fn a_finalizer_of_kubernetes_is_waited_for_and_one_of_a_chart_is_not() {
        let says =
            |what: &str| going(&format!("Some content in the namespace has finalizers remaining: {what}"));
        assert!(!hold(&says("kubernetes.io/pvc-protection in 3 resource instances")));
        assert!(hold(&says("example.com/keep in 1 resource instances")));
        assert!(hold(&says(
            "kubernetes.io/pvc-protection in 3 resource instances, keep.me/x in 1 resource instances"
        )));
        assert!(!hold(&Namespace::default()));
    }

    #[test]
    fn a_name_borrowed_from_kubernetes_counts_on_the_kind_that_has_it_alone() {
        assert!(is_answered_for("PersistentVolumeClaim", "kubernetes.io/pvc-protection"));
        assert!(is_answered_for("ConfigMap", "foregroundDeletion"));
        assert!(!is_answered_for("ConfigMap", "kubernetes.io/pvc-protection"));
    }
}
