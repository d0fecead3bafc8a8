//! What an experiment needs of the cluster: tried out on it, so that no table of versions can be wrong.

use anyhow::{Result, anyhow};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value as Json, json};

use crate::lab::target::Target;
use crate::transient;
use model::spec::Need;

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
        set(&mut object, field, value.clone());
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
    let kind = GroupVersionKind::try_from(&types)?;
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind));
    let params = PostParams { dry_run: true, ..PostParams::default() };
    // Nothing is changed by it, so that it may be asked again.
    let kept = transient::read(what, || api.create(&params, object)).await?;
    Ok(serde_json::to_value(kept)?)
}

fn pointer(field: &str) -> String {
    format!("/{}", field.replace('.', "/"))
}

/// Sets a field, with the maps that lead to it.
fn set(object: &mut Json, field: &str, value: Json) {
    let mut place = object;
    for name in field.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[name];
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_set_where_nothing_leads_to_it_yet() {
        let mut object = json!({"kind": "StatefulSet", "spec": {"replicas": 3}});
        set(&mut object, "spec.ordinals.start", json!(5));
        assert_eq!(object, json!({"kind": "StatefulSet", "spec": {"replicas": 3, "ordinals": {"start": 5}}}));
        assert_eq!(object.pointer(&pointer("spec.ordinals.start")), Some(&json!(5)));
    }
}
