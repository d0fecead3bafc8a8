//! What is wrong in a namespace: the objects that rules look at, listed once, and how a trouble is told.

use std::io::Read;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use futures::future::{join_all, try_join_all};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::{Value as Json, json};

use ::explain::{FAILED_RELEASE, Objects, Origin, Trouble};

use crate::lab::target;
use crate::transient;
use machine::paint::Paint;
use model::condition;
use model::failure::TroubleSeen;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

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

/// Pods that have not been ready for a while, each with what it waits for; one that was asked to go when its time is
/// over. Where no rule speaks, that all is well would be false.
pub(crate) fn unwell(objects: &Objects, of_workload: Option<&str>, now: OffsetDateTime) -> Vec<String> {
    /// Whoever has just begun is given this time.
    const PATIENCE: Duration = Duration::seconds(60);
    let since = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok().map(|then| now - then);
    let of = |pod: &Json| {
        let at = |pointer: &str| pod.pointer(pointer).and_then(Json::as_str).unwrap_or_default().to_owned();
        let name = at("/metadata/name");
        let going = at("/metadata/deletionTimestamp");
        if !going.is_empty() {
            let late = since(&going).filter(|late| *late > PATIENCE)?;
            let held = pod["metadata"]["finalizers"].to_string();
            return Some(format!(
                "{name} should have gone {} s ago; finalizers: {held}",
                late.whole_seconds()
            ));
        }
        // A job's pods end, well or not, and the job begins others.
        let of_a_job = at("/metadata/ownerReferences/0/kind") == "Job";
        if condition::ready(pod) || of_a_job || at("/status/phase") == "Succeeded" {
            return None;
        }
        let conditions = pod.pointer("/status/conditions").and_then(Json::as_array).into_iter().flatten();
        let unready = conditions.into_iter().find(|it| it["type"] == "Ready");
        let changed = unready.map_or(at("/metadata/creationTimestamp"), |it| {
            condition::text(it, "/lastTransitionTime").to_owned()
        });
        let late = since(&changed).filter(|late| *late > PATIENCE)?;
        let waits = condition::waiting(pod).map(|it| format!("{}: {}", it.reason, it.message)).next();
        let why = waits.or_else(|| objects.unready_because(pod).map(str::to_owned));
        let why = why.unwrap_or_else(|| {
            unready.map_or(at("/status/phase"), |it| condition::text(it, "/message").to_owned())
        });
        Some(format!(
            "{name} has not been ready for {} s: {}",
            late.whole_seconds(),
            model::text::on_one_line(&why)
        ))
    };
    let whose = |pod: &&Json| {
        let name = condition::text(pod, "/metadata/name");
        of_workload
            .is_none_or(|workload| name.strip_prefix(workload).is_some_and(|rest| rest.starts_with('-')))
    };
    objects.of("Pod").filter(whose).filter_map(of).collect()
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
    let packed = unbase64(&kept.0)?;
    let mut text = String::new();
    GzDecoder::new(packed.as_slice()).take(RELEASE_BYTES).read_to_string(&mut text).ok()?;
    let release: Json = serde_json::from_str(&text).ok()?;
    let objects = target::parse(release["manifest"].as_str()?).ok()?;
    Some(json!({"kind": FAILED_RELEASE, "metadata": {"name": name}, "spec": {"objects": objects},
        "status": {"description": release["info"]["description"]}}))
}

/// <https://www.rfc-editor.org/rfc/rfc4648#section-4>
fn unbase64(text: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for letter in text.iter().filter(|letter| **letter != b'=' && !letter.is_ascii_whitespace()) {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
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
    fn a_pod_that_no_rule_knows_is_not_passed_over() {
        let pod = |name: &str, since: &str, status: &str, owner: &str| {
            json!({"kind": "Pod", "metadata": {"name": name, "ownerReferences": [{"kind": owner}]}, "status":
                {"phase": "Running", "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": since}],
                "containerStatuses": [{"state": {"waiting": {"reason": "CreateContainerConfigError", "message": "no map"}}}]}})
        };
        let (long_ago, just_now) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z");
        let mut held = pod("web-3", long_ago, "True", "StatefulSet");
        held["metadata"]["deletionTimestamp"] = json!(long_ago);
        let all = vec![
            pod("web-0", long_ago, "True", "StatefulSet"),
            pod("web-1", long_ago, "False", "StatefulSet"),
            pod("web-2", just_now, "False", "StatefulSet"),
            held,
            pod("hook", long_ago, "False", "Job"),
        ];
        let now = OffsetDateTime::parse("2026-01-01T00:02:00Z", &Rfc3339).unwrap();
        let objects = Objects::new(Origin::Cluster, "shop", all);
        assert_eq!(
            unwell(&objects, Some("web"), now),
            [
                "web-1 has not been ready for 120 s: CreateContainerConfigError: no map",
                "web-3 should have gone 120 s ago; finalizers: null"
            ]
        );
        assert_eq!(unwell(&objects, Some("we"), now), [""; 0]);
    }

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
