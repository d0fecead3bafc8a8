//! What an experiment needs of the cluster: tried out on it, so that no table of versions can be wrong.

use anyhow::{Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams, TypeMeta};
use serde_json::{Value as Json, json};

use crate::lab::target::Target;
use crate::run::bench::Access;
use crate::transient;
use model::field;
use model::kinds::is_name;
use model::spec::{ClusterNeeds, Experiment, Need};

/// What a cluster that isn't the lab's own lacks for a lab or an experiment, as a sentence; the lab's own is made as it is
/// wanted.
///
/// # Errors
/// Its nodes may not be listed.
pub(super) async fn of_cluster(
    needs: &ClusterNeeds,
    experiment: &Experiment,
    access: &Access,
) -> Result<Option<String>> {
    if access.nodes.is_some() || needs.nodes < 2 {
        return Ok(None);
    }
    if experiment.breaks_nodes() {
        return Ok(Some("it breaks nodes, which is done on the lab's own cluster alone".to_owned()));
    }
    let (nodes, all) = (Api::<Node>::all(access.client.clone()), ListParams::default());
    let there = transient::read("list the nodes", || nodes.list(&all)).await?.items.len();
    let wanted = needs.nodes;
    Ok((there < wanted).then(|| format!("it needs {wanted} nodes, and this cluster has {there}")))
}

/// The first need that the cluster does not meet, as a sentence; none when it meets all.
///
/// The chart's own object of that kind, with the field set, is created as a dry run: the API server goes all the way
/// but the last step, and answers with the object as it would have kept it. It drops fields of features that are
/// switched off or that it does not know. Whether a controller makes something of the field, only the experiment shows.
///
/// # Errors
/// The chart has no such object, or the API server refuses it with the field: that is no answer.
pub(super) async fn unmet(
    needs: &[Need],
    target: &Target,
    client: &kube::Client,
    namespace: &str,
) -> Result<Option<String>> {
    for need in needs {
        let Need { kind, field, value } = need;
        let rendered = target.objects.iter().find(|object| object["kind"] == **kind);
        let mut object =
            rendered.cloned().ok_or_else(|| anyhow!("the chart renders no {kind} to try {field} with"))?;
        field::put(&mut object, field.split('.'), value.clone());
        object["metadata"]["namespace"] = json!(namespace);
        let object: DynamicObject = serde_json::from_value(object)?;
        let kept = dry_run(client, namespace, &object, &format!("try {field} of a {kind}")).await?;
        if kept.pointer(&pointer(field)) != Some(value) {
            return Ok(Some(format!("this cluster does not keep {field}: {value} of a {kind}")));
        }
    }
    Ok(None)
}

async fn dry_run(client: &kube::Client, namespace: &str, object: &DynamicObject, what: &str) -> Result<Json> {
    let types = object.types.clone().unwrap_or_default();
    sound(&types)?;
    let kind = GroupVersionKind::try_from(&types)?;
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind));
    let params = PostParams { dry_run: true, ..PostParams::default() };
    // Nothing is changed by it, so that it may be asked again.
    let kept = transient::read(what, || api.create(&params, object)).await?;
    Ok(serde_json::to_value(kept)?)
}

/// Refuses an `apiVersion` and a `kind` that are none: a path is made of them, and a chart may render anything.
/// <https://kubernetes.io/docs/reference/using-api/#api-groups>
fn sound(TypeMeta { api_version, kind }: &TypeMeta) -> Result<()> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let group = group.is_empty() && !api_version.contains('/') || is_name(group);
    let version = is_name(version) && !version.contains('.');
    let named =
        kind.starts_with(|c: char| c.is_ascii_uppercase()) && kind.chars().all(|c| c.is_ascii_alphanumeric());
    ensure!(
        group && version && named,
        "the chart renders a {kind:?} of {api_version:?}, which the API can have none of"
    );
    Ok(())
}

fn pointer(field: &str) -> String {
    format!("/{}", field.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    #[test]
    fn what_is_no_group_version_and_kind_never_becomes_a_path() {
        let sound = |api_version: &str, kind: &str| {
            sound(&TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() }).is_ok()
        };
        assert!(sound("apps/v1", "StatefulSet") && sound("v1", "Pod"));
        assert!(sound("gateway.networking.k8s.io/v1beta1", "HTTPRoute"));
        for version in
            ["", "/v1", "apps/", "../v1", "apps/../v1", "apps/v1/x", "apps/v1?x", "apps/%2e%2e", "a b/v1"]
        {
            assert!(!sound(version, "StatefulSet"), "{version}");
        }
        for kind in ["", "../secrets", "Pod/x", "pods?"] {
            assert!(!sound("v1", kind), "{kind}");
        }
    }

    #[tokio::test]
    async fn an_object_that_the_api_can_have_none_of_is_not_tried() {
        let fake = Fake::serving(|_, _| None);
        let rendered = json!({"apiVersion": "../v1", "kind": "StatefulSet", "metadata": {"name": "counter"}});
        let target = Target { objects: vec![rendered], ..Target::pretended() };
        let need = Need { kind: "StatefulSet".to_owned(), field: "spec.x".to_owned(), value: json!(1) };
        let refused = unmet(&[need], &target, &fake.client(), "lab").await.map_err(|error| error.to_string());
        assert_eq!(fake.asked(""), Vec::<String>::new());
        assert!(refused.as_ref().is_err_and(|error| error.contains("can have none of")), "{refused:?}");
    }

    #[test]
    fn a_field_is_set_where_nothing_leads_to_it_yet() {
        let mut object = json!({"kind": "StatefulSet", "spec": {"replicas": 3}});
        field::put(&mut object, "spec.ordinals.start".split('.'), json!(5));
        assert_eq!(object, json!({"kind": "StatefulSet", "spec": {"replicas": 3, "ordinals": {"start": 5}}}));
        assert_eq!(object.pointer(&pointer("spec.ordinals.start")), Some(&json!(5)));
    }
}
