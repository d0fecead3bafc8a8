//! What Helm is refused, or will be.

use serde_json::Value as Json;

use crate::objects::{
    FAILED_RELEASE, Objects, called, claim_templates, managers, name, number, replicas, selector, text,
};
use crate::{Case, Rule};

/// The fields of a set, of those a chart may render, that can't be changed on one that is there.
const FIXED: [&str; 4] = ["volumeClaimTemplates", "selector", "serviceName", "podManagementPolicy"];

/// The sets of releases whose last upgrade failed: each as it is, as it was to be, and what Helm says.
fn refused(objects: &Objects) -> impl Iterator<Item = (&Json, &Json, &str)> {
    objects.of(FAILED_RELEASE).flat_map(|release| {
        let wanted = release.pointer("/spec/objects").and_then(Json::as_array).into_iter().flatten();
        let wanted = wanted.filter(|object| object["kind"] == "StatefulSet");
        wanted.filter_map(|wanted| {
            let set = objects.sets().find(|set| name(set) == name(wanted))?;
            Some((set, wanted, text(release, "/status/description")))
        })
    })
}

/// Whether a value has all that is wanted of it; what the API server adds does not count.
fn has(value: &Json, wanted: &Json) -> bool {
    match (value, wanted) {
        (Json::Object(value), Json::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| wanted.is_null() || value.get(key).is_some_and(|value| has(value, wanted))),
        (Json::Array(value), Json::Array(wanted)) => {
            value.len() == wanted.len() && value.iter().zip(wanted).all(|(value, wanted)| has(value, wanted))
        }
        _ => value == wanted,
    }
}

pub(super) const FIXED_FIELD_CHANGED: Rule = Rule {
    id: "fixed-field-changed",
    symptom: "helm upgrade is refused: spec: Forbidden, or: field is immutable",
    why: "Of a set that is there only some fields can be changed. The claim templates, the selector, serviceName and \
          podManagementPolicy are none of them: before Kubernetes 1.37 one sentence says so for the whole spec, since \
          then one for each field.",
    source: "https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/stateful-set-v1/#StatefulSetSpec",
    not: "Don't uninstall and install again: the pods would be away, and with a Delete policy the claims too.",
    find: |objects| {
        let found = refused(objects).filter_map(|(set, wanted, said)| {
            // That a version stands where it can't be changed has a rule of its own, and another cure.
            let [is, asked] = [set, wanted].map(|set| {
                let mut set = set.clone();
                without_version(&mut set);
                set
            });
            let changes = |field: &&str| asked["spec"].get(field).is_some_and(|asked| !has(&is["spec"][field], asked));
            let changed: Vec<&str> = FIXED.into_iter().filter(changes).collect();
            if changed.is_empty() {
                return None;
            }
            let says = format!("Helm wants to change {} of {}, which can't be changed", changed.join(" and "), called(set));
            Some(
                Case::of(called(set), says)
                    .seen(format!("the release's last upgrade failed: {}", model::text::on_one_line(said)))
                    .mend(objects.make_anew(set, |set| set["spec"] = wanted["spec"].clone()))
                    .change("nothing: the set is then as the chart wants it, and the next upgrade is not refused")
                    .costs("pods and claims stay as they are: a claim keeps its size and class; where the class allows it, kubectl patch enlarges it"),
            )
        });
        found.collect()
    },
};

pub(super) const SCALED_BY_HAND: Rule = Rule {
    id: "scaled-by-hand",
    symptom: "helm upgrade ends with a conflict over .spec.replicas",
    why: "Helm 4 applies on the server, where every field has an owner. kubectl scale took spec.replicas, and Helm is \
          refused when it asks for another number.",
    source: "https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts",
    not: "Don't force every upgrade: it would also take what an autoscaler owns.",
    find: |objects| {
        let found = refused(objects).filter_map(|(set, wanted, said)| {
            let asked = number(wanted, "/spec/replicas").filter(|asked| *asked != replicas(set))?;
            let owns = |it: &&Json| it.pointer("/fieldsV1/f:spec/f:replicas").is_some();
            let owner = managers(set).find(owns)?;
            // An autoscaler owns it on purpose.
            if !said.contains(".spec.replicas") || text(owner, "/subresource") != "scale" || !text(owner, "/manager").starts_with("kubectl") {
                return None;
            }
            let says = format!("kubectl scale owns the replicas of {}, and Helm was refused when it set them", called(set));
            Some(
                Case::of(called(set), says)
                    .seen(format!("metadata.managedFields: kubectl, subresource scale, owns spec.replicas: {}", replicas(set)))
                    .seen(format!("the release's last upgrade failed: {}", model::text::on_one_line(said)))
                    .mend([objects.kubectl(&format!("scale statefulset {} --replicas={asked}", name(set)))])
                    .change("scale by the chart's values; with an autoscaler, leave replicas out of the chart")
                    .costs("as many pods as the chart says; then the next upgrade finds what it wants and is not refused"),
            )
        });
        found.collect()
    },
};

/// Labels that charts change with every version of theirs: <https://helm.sh/docs/chart_best_practices/labels/>.
const OF_A_VERSION: [&str; 3] = ["helm.sh/chart", "app.kubernetes.io/version", "chart"];

/// Takes a chart's version out of what can't be changed.
fn without_version(set: &mut Json) {
    let forget = |labels: Option<&mut Json>| {
        if let Some(labels) = labels.and_then(Json::as_object_mut) {
            labels.retain(|label, _| !OF_A_VERSION.contains(&label.as_str()));
        }
    };
    forget(set.pointer_mut("/spec/selector/matchLabels"));
    for template in
        set.pointer_mut("/spec/volumeClaimTemplates").and_then(Json::as_array_mut).into_iter().flatten()
    {
        forget(template.pointer_mut("/metadata/labels"));
    }
}

pub(super) const VERSION_IN_THE_SELECTOR: Rule = Rule {
    id: "version-in-the-selector",
    symptom: "the chart installs, and the next version of it can't be upgraded to",
    why: "The selector and the claim templates of a set can't be changed. A label that holds the chart's version is \
          another with the next version, and the API server refuses the upgrade.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#pod-selector",
    not: "Don't uninstall to get around it while the claims' retention policy is Delete: the data goes too.",
    find: |objects| {
        let mut cases = Vec::new();
        for set in objects.sets() {
            let mut fixed: Vec<String> = Vec::new();
            for label in OF_A_VERSION {
                if selector(set, "/spec/selector/matchLabels")
                    .is_some_and(|labels| labels.contains_key(label))
                {
                    fixed.push(format!("spec.selector.matchLabels.{label}"));
                }
                for template in claim_templates(set) {
                    if template.pointer("/metadata/labels").is_some_and(|labels| labels.get(label).is_some())
                    {
                        fixed.push(format!(
                            "spec.volumeClaimTemplates {}: metadata.labels.{label}",
                            name(template)
                        ));
                    }
                }
            }
            if fixed.is_empty() {
                continue;
            }
            let says = format!("a label of {} that can't be changed holds the chart's version", called(set));
            let mut case = Case::of(called(set), says);
            case.seen = fixed;
            cases.push(
                case.mend(objects.make_anew(set, without_version))
                    .change("leave the version out of these labels; the object's own metadata may keep it")
                    .costs("the set is made anew once; its pods and claims stay"),
            );
        }
        cases
    },
};

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::fixture::{found, service, set};
    use crate::{FAILED_RELEASE, Origin};

    #[test]
    fn a_version_in_what_can_t_be_changed_is_told_before_the_first_upgrade() {
        let spec = |label: &str| {
            json!({"selector": {"matchLabels": {"app": "web", label: "x"}},
            "template": {"metadata": {"labels": {"app": "web", label: "x"}}}})
        };
        assert_eq!(
            found(Origin::Chart, vec![set(spec("helm.sh/chart"), json!({})), service()]),
            ["version-in-the-selector"]
        );
        assert_eq!(found(Origin::Chart, vec![set(spec("tier"), json!({})), service()]), [""; 0]);
    }

    fn failed(spec: Json, said: &str) -> Json {
        json!({"kind": FAILED_RELEASE, "metadata": {"name": "web"}, "status": {"description": said},
            "spec": {"objects": [{"kind": "StatefulSet", "metadata": {"name": "web"}, "spec": spec}]}})
    }

    #[test]
    fn an_upgrade_that_was_refused_is_told_until_the_set_is_what_it_wanted() {
        let claims = |size: &str| json!([{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": size}}}}]);
        let mounted = json!({"spec": {"containers": [{"volumeMounts": [{"name": "data"}]}]}, "metadata": {"labels": {"app": "web"}}});
        let set = set(json!({"volumeClaimTemplates": claims("1Gi"), "template": mounted}), json!({}));
        let ask = |size: &str| {
            let failed = failed(json!({"volumeClaimTemplates": claims(size)}), "Forbidden");
            found(Origin::Cluster, vec![set.clone(), service(), failed])
        };
        assert_eq!(ask("2Gi"), ["fixed-field-changed"]);
        assert_eq!(ask("1Gi"), [""; 0]);
        let labels = |version: &str| json!({"matchLabels": {"app": "web", "helm.sh/chart": version}});
        let set = crate::fixture::set(json!({"selector": labels("web-1")}), json!({}));
        let failed = failed(json!({"selector": labels("web-2")}), "Forbidden");
        assert_eq!(found(Origin::Cluster, vec![set, service(), failed]), ["version-in-the-selector"]);
    }

    #[test]
    fn replicas_that_kubectl_took_from_helm_are_told_when_helm_was_refused() {
        let ask = |manager: &str, wanted: i64, said: &str| {
            let mut set = set(json!({}), json!({}));
            set["metadata"]["managedFields"] = json!([{"manager": manager, "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
            found(Origin::Cluster, vec![set, service(), failed(json!({"replicas": wanted}), said)])
        };
        let said = "conflict with \"kubectl\" with subresource \"scale\": .spec.replicas";
        assert_eq!(ask("kubectl", 2, said), ["scaled-by-hand"]);
        assert_eq!(ask("kubectl", 3, said), [""; 0], "that is what it has");
        assert_eq!(ask("kube-controller-manager", 2, said), [""; 0], "an autoscaler owns it on purpose");
        assert_eq!(ask("kubectl", 2, "a hook failed"), [""; 0]);
    }
}
