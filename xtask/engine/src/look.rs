//! What is wrong in a namespace: the objects that rules look at, listed once, and how a trouble is told.

use std::io::Read;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use futures::future::{join_all, try_join_all};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::{Value as Json, json};

use ::explain::{FAILED_RELEASE, Objects, Origin, RULES, Trouble};

use crate::lab::target;
use crate::transient;
use machine::paint::Paint;
use model::failure::TroubleSeen;

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

/// Kinds of the whole cluster: not everybody may list them, and then nothing is said of what only they show.
const OF_THE_CLUSTER: [(&str, &str, &str); 3] =
    [("storage.k8s.io", "v1", "StorageClass"), ("", "v1", "PersistentVolume"), ("", "v1", "Node")];

/// Helm keeps what a release was to be; more than this is no release.
const RELEASE_BYTES: u64 = 16 << 20;

/// Lists what a namespace of a cluster holds; and says in words what was looked at.
///
/// # Errors
/// The API server does not answer; somebody who asks may not list.
pub(crate) async fn at(client: &kube::Client, namespace: &str) -> Result<(Objects, String)> {
    let lists = KINDS.map(|kind| list(client.clone(), kind, Some(namespace)));
    let wide = OF_THE_CLUSTER.map(|kind| list(client.clone(), kind, None));
    let (all, wide, failed) =
        tokio::join!(try_join_all(lists), join_all(wide), failed_releases(client, namespace));
    let mut all = all?.concat();
    let with_classes = wide[0].is_ok();
    all.extend(wide.into_iter().filter_map(Result::ok).flatten());
    all.extend(failed);
    let unseen = if with_classes {
        ""
    } else {
        // Without the classes a pending claim can't be told from one that waits for its class.
        all.retain(|object| {
            object["kind"] != "PersistentVolumeClaim" || object["status"]["phase"] != "Pending"
        });
        "; storage classes may not be listed, so pending claims were left out"
    };
    let looked_at = format!("{} objects of the namespace {namespace}{unseen}", all.len());
    Ok((Objects::new(Origin::Cluster, namespace, all), looked_at))
}

/// What the command prints: every trouble, or that there is none.
pub(crate) fn told(troubles: &[Trouble], looked_at: &str, paint: Paint) -> String {
    if troubles.is_empty() {
        return format!("nothing is wrong that {} rules know of: looked at {looked_at}", RULES.len());
    }
    troubles.iter().map(|trouble| text(trouble, paint)).collect::<Vec<_>>().join("\n\n")
}

/// A trouble as the command prints it.
pub(crate) fn text(trouble: &Trouble, paint: Paint) -> String {
    let case = &trouble.case;
    let mut lines = vec![paint.bad(&case.says)];
    let mut add = |what: &str, texts: &[String]| {
        for (position, text) in texts.iter().enumerate() {
            let what = if position == 0 { what } else { "" };
            lines.push(format!("  {what:<9} {text}"));
        }
    };
    add("seen:", &case.seen);
    add("why:", &[model::text::on_one_line(trouble.why)]);
    add("source:", &[trouble.source.to_owned()]);
    add("mend:", &case.mend);
    add("chart:", std::slice::from_ref(&case.change));
    add("costs:", std::slice::from_ref(&case.costs));
    add("not:", &[trouble.not.to_owned()]);
    if let Some(question) = &case.question {
        add("ask:", std::slice::from_ref(question));
    }
    lines.join("\n")
}

/// A trouble as a record keeps it.
pub(crate) fn seen(trouble: Trouble) -> TroubleSeen {
    let ::explain::Case { says, seen, mend, change, .. } = trouble.case;
    TroubleSeen { rule: trouble.rule.to_owned(), says, seen, mend, change }
}

/// What the releases were to be whose last upgrade failed. Who may not read what Helm keeps learns nothing of them.
async fn failed_releases(client: &kube::Client, namespace: &str) -> Vec<Json> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let newest = ListParams::default().labels("owner=helm,status in (deployed,failed)");
    let Ok(listed) = transient::read("list the releases", || secrets.list(&newest)).await else {
        return Vec::new();
    };
    let version = |secret: &Secret| -> Option<(String, u32, bool)> {
        let labels = secret.metadata.labels.as_ref()?;
        Some((
            labels.get("name")?.clone(),
            labels.get("version")?.parse().ok()?,
            labels.get("status")? == "failed",
        ))
    };
    let all: Vec<_> = listed.items.iter().filter_map(|secret| Some((version(secret)?, secret))).collect();
    let last = all.iter().filter(|((name, at, failed), _)| {
        *failed && !all.iter().any(|((other, later, _), _)| other == name && later > at)
    });
    let wanted = last.filter_map(|((name, ..), secret)| wanted(name, secret.data.as_ref()?.get("release")?));
    wanted.collect()
}

/// A release as Helm keeps it: JSON, packed, in base64.
fn wanted(name: &str, kept: &ByteString) -> Option<Json> {
    // The API has taken off its own base64; below it is Helm's, which is read the same way.
    let packed: ByteString = serde_json::from_slice(&[b"\"", kept.0.as_slice(), b"\""].concat()).ok()?;
    let mut text = String::new();
    GzDecoder::new(packed.0.as_slice()).take(RELEASE_BYTES).read_to_string(&mut text).ok()?;
    let release: Json = serde_json::from_str(&text).ok()?;
    let objects = target::parse(release["manifest"].as_str()?).ok()?;
    Some(json!({"kind": FAILED_RELEASE, "metadata": {"name": name}, "spec": {"objects": objects},
        "status": {"description": release["info"]["description"]}}))
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
        let mut object = serde_json::to_value(object).context("an object is no JSON")?;
        // Items of a list don't say what they are.
        object["kind"] = kind.into();
        object["apiVersion"] = resource.api_version.clone().into();
        Ok(object)
    });
    objects.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    #[test]
    fn a_release_is_read_as_helm_keeps_it() {
        let release = json!({"info": {"description": "Upgrade failed"}, "manifest": "kind: StatefulSet\nmetadata: { name: web }\n"});
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(release.to_string().as_bytes()).unwrap();
        // Base64 is how Kubernetes writes bytes in JSON.
        let text = serde_json::to_value(ByteString(packed.finish().unwrap())).unwrap();
        let kept = ByteString(text.as_str().unwrap().as_bytes().to_vec());
        let wanted = wanted("web", &kept).unwrap();
        assert_eq!(wanted["spec"]["objects"][0]["metadata"]["name"], "web");
        assert_eq!(wanted["status"]["description"], "Upgrade failed");
        assert!(super::wanted("web", &ByteString(b"no release".to_vec())).is_none());
    }
}
