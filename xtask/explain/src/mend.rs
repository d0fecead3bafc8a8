//! Command lines that mend, as one types them.

use serde_json::{Map, Value as Json, json};

use crate::objects::{Objects, lowest_unready, name, ordered, text};

/// What the API server sets where nobody says anything else: left out of what is applied anew, so that one can read it.
const DEFAULTS: [(&str, &str); 9] = [
    ("dnsPolicy", "\"ClusterFirst\""),
    ("restartPolicy", "\"Always\""),
    ("revisionHistoryLimit", "10"),
    ("schedulerName", "\"default-scheduler\""),
    ("securityContext", "{}"),
    ("resources", "{}"),
    ("terminationMessagePath", "\"/dev/termination-log\""),
    ("terminationMessagePolicy", "\"File\""),
    ("volumeMode", "\"Filesystem\""),
];

impl Objects {
    /// `kubectl` in the namespace that was looked at.
    pub(crate) fn kubectl(&self, words: &str) -> String {
        match self.namespace.as_str() {
            "" => self.of_the_cluster(words),
            namespace => self.of_the_cluster(&format!("--namespace {namespace} {words}")),
        }
    }

    /// `kubectl` about what belongs to no namespace.
    pub(crate) fn of_the_cluster(&self, words: &str) -> String {
        let context = self.context.iter().map(|context| format!("--context {} ", quoted(context)));
        format!("kubectl {}{words}", context.collect::<String>())
    }

    /// Changes an object where it is.
    pub(crate) fn patch(&self, object: &Json, patch: &Json) -> String {
        let kind = text(object, "/kind").to_lowercase();
        self.kubectl(&format!("patch {kind} {} --patch {}", name(object), quoted(&patch.to_string())))
    }

    /// Changes the template of a workload's pods. With `OrderedReady` a pod that is not ready keeps its old template
    /// until it is deleted.
    pub(crate) fn patch_pods(&self, workload: &Json, spec: &Json) -> Vec<String> {
        let mut mend = vec![self.patch(workload, &json!({"spec": {"template": {"spec": spec}}}))];
        if workload["kind"] == "StatefulSet" && ordered(workload) {
            let stuck = lowest_unready(&self.pods_of(workload));
            mend.extend(stuck.map(|pod| self.kubectl(&format!("delete pod {}", name(pod)))));
        }
        mend
    }

    /// Makes an object. What Helm made stays Helm's, or its next upgrade would be refused.
    pub(crate) fn apply(&self, object: &Json) -> String {
        let helm = object.pointer("/metadata/annotations/meta.helm.sh~1release-name").is_some();
        let manager = if helm { "helm" } else { "kubectl" };
        let words = format!(
            "apply --server-side --field-manager={manager} --filename - <<< {}",
            quoted(&object.to_string())
        );
        self.kubectl(&words)
    }

    /// Makes an object anew with a change that the API server would refuse. Pods of a set stay, and are taken over.
    pub(crate) fn make_anew(&self, object: &Json, change: impl FnOnce(&mut Json)) -> [String; 2] {
        let kind = text(object, "/kind").to_lowercase();
        let orphan = if kind == "statefulset" { " --cascade=orphan" } else { "" };
        let mut anew = declared(object);
        change(&mut anew);
        [self.kubectl(&format!("delete {kind} {}{orphan}", name(object))), self.apply(&anew)]
    }
}

/// An object as somebody would declare it: without what the cluster added.
pub(crate) fn declared(object: &Json) -> Json {
    let mut metadata = Map::new();
    for key in ["name", "labels", "annotations"] {
        if let Some(value) = object["metadata"].get(key) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Json::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    let mut spec = object["spec"].clone();
    plain(&mut spec);
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": metadata, "spec": spec})
}

fn plain(value: &mut Json) {
    match value {
        Json::Object(map) => {
            map.retain(|key, value| {
                let text = value.to_string();
                let default = DEFAULTS.contains(&(key.as_str(), text.as_str()));
                let of_status = key == "status" || (key == "creationTimestamp" && value.is_null());
                !(default || of_status)
            });
            map.values_mut().for_each(plain);
        }
        Json::Array(all) => all.iter_mut().for_each(plain),
        _ => {}
    }
}

/// A word of a shell.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Origin;

    #[test]
    fn what_is_made_anew_is_what_somebody_declared_and_stays_whose_it_was() {
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "status": {"replicas": 1},
            "metadata": {"name": "web", "uid": "s", "annotations": {"meta.helm.sh/release-name": "web"}},
            "spec": {"serviceName": "it's", "template": {"spec": {"dnsPolicy": "ClusterFirst", "securityContext": {}}}}});
        let objects = Objects::new(Origin::Cluster, "shop", vec![]);
        let [delete, apply] =
            objects.make_anew(&set, |set| set["spec"]["podManagementPolicy"] = json!("Parallel"));
        assert_eq!(delete, "kubectl --namespace shop delete statefulset web --cascade=orphan");
        assert_eq!(
            apply,
            "kubectl --namespace shop apply --server-side --field-manager=helm --filename - <<< \
             '{\"apiVersion\":\"apps/v1\",\"kind\":\"StatefulSet\",\"metadata\":{\"name\":\"web\",\
             \"annotations\":{\"meta.helm.sh/release-name\":\"web\"}},\"spec\":{\"serviceName\":\"it'\\''s\",\
             \"template\":{\"spec\":{}},\"podManagementPolicy\":\"Parallel\"}}'"
        );
    }

    #[test]
    fn a_pod_that_is_waited_for_has_to_go_before_its_template_is_heard() {
        let set = |policy: &str| json!({"kind": "StatefulSet", "metadata": {"name": "web", "uid": "s"}, "spec": {"podManagementPolicy": policy}});
        let pod = json!({"kind": "Pod", "metadata": {"name": "web-0", "ownerReferences": [{"uid": "s"}]}});
        let objects = Objects::new(Origin::Cluster, "", vec![pod]);
        let mend = objects.patch_pods(&set("OrderedReady"), &json!({"nodeName": null}));
        assert_eq!(
            mend,
            [
                "kubectl patch statefulset web --patch '{\"spec\":{\"template\":{\"spec\":{\"nodeName\":null}}}}'",
                "kubectl delete pod web-0"
            ]
        );
        assert_eq!(objects.patch_pods(&set("Parallel"), &json!({})).len(), 1);
    }
}
