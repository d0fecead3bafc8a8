//! What is changed of a chart's objects on their way into the cluster: the fields that a step wants, one by one.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::adapt::{Adapt, adapt};
use model::condition;
use model::field;
use model::settings::Wanted;

/// The annotation that makes a new revision of pods.
const REVISION: &str = "statefulset-lab/revision";
/// The condition of a pod that the lab's readiness gate asks for.
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-readiness-gate>
pub(crate) const GATE: &str = "statefulset-lab/open";

/// All that is changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Changes {
    /// What a chart of somebody else's is adapted to, before anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adapt: Option<Adapt>,
    /// Fields that are wanted, in the order in which they are looked at.
    pub(crate) set: Vec<Wanted>,
}

/// What was changed, for whoever asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// The fields that were not yet as they are wanted.
    pub(crate) set: Vec<String>,
    /// What was adapted, a sentence each.
    #[serde(default)]
    pub(crate) adapted: Vec<String>,
}

impl Changes {
    /// Changes the objects, and says what was changed.
    pub(crate) fn make(&self, objects: &mut Vec<Json>) -> Changed {
        let adapted = self.adapt.as_ref().map(|to| adapt(objects, to)).unwrap_or_default();
        let mut changed = Changed { adapted, ..Changed::default() };
        for wanted in &self.set {
            if has(objects, wanted) != Some(true) && put(objects, wanted) {
                changed.set.push(wanted.field.clone());
            }
        }
        objects.iter_mut().for_each(settle);
        changed
    }
}

/// Whether the objects have a field as it is wanted. `None` where nothing could have it.
pub(crate) fn has(objects: &[Json], Wanted { field, value }: &Wanted) -> Option<bool> {
    match field.as_str() {
        "hooks" => Some(hooks(objects) == *value),
        "workload" => {
            let kinds = objects.iter().filter_map(|object| object["kind"].as_str());
            let mut workloads = kinds.filter(|kind| matches!(*kind, "StatefulSet" | "Deployment"));
            Some(workloads.next()? == value.as_str()? && workloads.next().is_none())
        }
        _ => {
            let set = workload(objects)?;
            let found = match field.as_str() {
                "volumeClaim.emptyDir" => return Some(set["spec"].get("volumeClaimTemplates").is_none()),
                "volumeClaim.storageClassName" => claims(set)?.first()?.pointer("/spec/storageClassName"),
                "volumeClaim.storage" => claims(set)?.first()?.pointer("/spec/resources/requests/storage"),
                "revision" => set.pointer("/spec/template/metadata/annotations")?.get(REVISION),
                "livenessProbe" => app(set)?.get("livenessProbe"),
                "readinessGate" => {
                    let gates = set.pointer("/spec/template/spec/readinessGates").and_then(Json::as_array);
                    let ours =
                        gates.is_some_and(|gates| gates.iter().any(|gate| gate["conditionType"] == GATE));
                    return Some(ours == value.as_bool()?);
                }
                _ => set.pointer(&pointer(field)),
            };
            Some(found == Some(value))
        }
    }
}

/// The workloads whose roles are known, in the order in which one is taken for that of a chart.
pub(super) const WORKLOADS: [&str; 2] = ["StatefulSet", "Deployment"];

/// The workload of a chart.
pub(crate) fn workload(objects: &[Json]) -> Option<&Json> {
    WORKLOADS.iter().find_map(|kind| objects.iter().find(|object| object["kind"] == **kind))
}

/// What the pods of an object are made of; its own, where it is a pod.
pub(crate) fn pod_spec(object: &mut Json) -> Option<&mut Json> {
    let pointer = match object["kind"].as_str()? {
        "Pod" => "/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        _ => "/spec/template/spec",
    };
    object.pointer_mut(pointer).filter(|spec| spec["containers"].is_array())
}

/// The container of the app: the one that mounts the claim, else the first that has a port, else the first.
pub(crate) fn app(workload: &Json) -> Option<&Json> {
    let containers = workload.pointer("/spec/template/spec/containers")?.as_array()?;
    containers.get(app_index(workload)?)
}

fn app_index(workload: &Json) -> Option<usize> {
    let containers = workload.pointer("/spec/template/spec/containers")?.as_array()?;
    let claims: Vec<&str> = claims(workload)
        .into_iter()
        .flatten()
        .filter_map(|claim| claim.pointer("/metadata/name")?.as_str())
        .collect();
    let mounts = |container: &Json| {
        let mut mounts = container["volumeMounts"].as_array().into_iter().flatten();
        mounts.any(|mount| mount["name"].as_str().is_some_and(|name| claims.contains(&name)))
    };
    let has_port = |container: &Json| container["ports"].as_array().is_some_and(|ports| !ports.is_empty());
    let at = |role: &dyn Fn(&Json) -> bool| containers.iter().position(role);
    at(&mounts).or_else(|| at(&has_port)).or(if containers.is_empty() { None } else { Some(0) })
}

pub(crate) fn claims(set: &Json) -> Option<&Vec<Json>> {
    set.pointer("/spec/volumeClaimTemplates")?.as_array().filter(|claims| !claims.is_empty())
}

/// Fields of a set stand where they stand in its spec; `storage` and others of ours have places of their own.
fn pointer(field: &str) -> String {
    format!("/spec/{}", field.replace('.', "/"))
}

/// Whether there are hooks before and after the install.
fn hooks(objects: &[Json]) -> bool {
    let of = |when: &str| {
        objects.iter().any(|object| {
            condition::hook(object).is_some_and(|hook| hook.split(',').any(|word| word.trim() == when))
        })
    };
    of("pre-install") && of("post-install")
}

/// Makes a field what it shall be. False where nothing has such a field.
fn put(objects: &mut Vec<Json>, Wanted { field, value }: &Wanted) -> bool {
    if field == "hooks" {
        return false;
    }
    if field == "workload" {
        return value == "Deployment" && into_deployments(objects);
    }
    let Some(kind) = workload(objects).map(|object| object["kind"].clone()) else { return false };
    let mut done = false;
    for set in objects.iter_mut().filter(|object| object["kind"] == kind) {
        let of_set = kind == "StatefulSet" || field == "replicas";
        done |= match field.as_str() {
            "revision" => {
                write(set, &["spec", "template", "metadata", "annotations", REVISION], value.clone())
            }
            "readinessGate" => {
                let gates = if *value == true { json!([{"conditionType": GATE}]) } else { json!([]) };
                write(set, &["spec", "template", "spec", "readinessGates"], gates)
            }
            "livenessProbe" => match app_index(set) {
                Some(app) => {
                    set["spec"]["template"]["spec"]["containers"][app]["livenessProbe"] = value.clone();
                    true
                }
                None => false,
            },
            "volumeClaim.emptyDir" => *value == true && empty_dirs(set),
            "volumeClaim.storageClassName" => of_claims(set, &["spec", "storageClassName"], value),
            "volumeClaim.storage" => of_claims(set, &["spec", "resources", "requests", "storage"], value),
            field if of_set => {
                let way: Vec<&str> = ["spec"].into_iter().chain(field.split('.')).collect();
                write(set, &way, value.clone())
            }
            _ => false,
        };
    }
    done
}

fn of_claims(set: &mut Json, way: &[&str], value: &Json) -> bool {
    let claims = set.pointer_mut("/spec/volumeClaimTemplates").and_then(Json::as_array_mut);
    let mut claims = claims.into_iter().flatten().peekable();
    claims.peek().is_some() && claims.all(|claim| write(claim, way, value.clone()))
}

/// Sets a field of an object that can have it.
fn write(object: &mut Json, way: &[&str], value: Json) -> bool {
    field::put(object, way.iter().copied(), value);
    true
}

/// An emptyDir of the same name in the place of every claim.
fn empty_dirs(set: &mut Json) -> bool {
    let spec = set.get_mut("spec").and_then(Json::as_object_mut);
    let Some(Json::Array(claims)) = spec.and_then(|spec| spec.remove("volumeClaimTemplates")) else {
        return false;
    };
    let names = claims.iter().filter_map(|claim| claim.pointer("/metadata/name"));
    let volumes: Vec<Json> = names.map(|name| json!({"name": name, "emptyDir": {}})).collect();
    more_volumes(set, volumes);
    true
}

fn more_volumes(workload: &mut Json, more: Vec<Json>) {
    let Some(spec) = pod_spec(workload) else { return };
    let mut volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    volumes.extend(more);
    spec["volumes"] = Json::Array(volumes);
}

/// Every set becomes a Deployment, whose pods share one claim for each of its templates.
fn into_deployments(objects: &mut Vec<Json>) -> bool {
    let mut shared = Vec::new();
    for set in objects.iter_mut().filter(|object| object["kind"] == "StatefulSet") {
        set["kind"] = json!("Deployment");
        let name = set["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let Some(spec) = set.get_mut("spec").and_then(Json::as_object_mut) else { continue };
        let claims = spec.remove("volumeClaimTemplates");
        const OF_SETS: [&str; 5] = [
            "serviceName",
            "podManagementPolicy",
            "updateStrategy",
            "ordinals",
            "persistentVolumeClaimRetentionPolicy",
        ];
        OF_SETS.iter().for_each(|field| drop(spec.remove(*field)));
        spec.insert("strategy".to_owned(), json!({"type": "Recreate"}));
        let mut volumes = Vec::new();
        for claim in claims.as_ref().and_then(Json::as_array).into_iter().flatten() {
            let template = claim["metadata"]["name"].as_str().unwrap_or_default();
            let called = format!("{template}-{name}");
            volumes.push(json!({"name": template, "persistentVolumeClaim": {"claimName": called}}));
            shared.push(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": called}, "spec": claim["spec"]}));
        }
        if !volumes.is_empty() {
            more_volumes(set, volumes);
        }
    }
    objects.extend(shared);
    objects.iter().any(|object| object["kind"] == "Deployment")
}

/// What the API server would refuse once a field has changed: a set that is updated by hand has no rolling update.
fn settle(object: &mut Json) {
    let strategy = object.pointer_mut("/spec/updateStrategy").and_then(Json::as_object_mut);
    if let Some(strategy) =
        strategy.filter(|strategy| strategy.get("type").is_some_and(|kind| kind == "OnDelete"))
    {
        strategy.remove("rollingUpdate");
    }
}

/// A value in the maps that lead to it.
pub(crate) fn nested(way: &[String], value: Json) -> Json {
    way.iter().rev().fold(value, |value, key| Json::Object(Map::from_iter([(key.clone(), value)])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(field: &str, value: Json) -> Wanted {
        Wanted { field: field.to_owned(), value }
    }

    fn set() -> Json {
        json!({"kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
            "replicas": 3,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"spec": {"containers": [
                {"name": "log"},
                {"name": "app", "volumeMounts": [{"name": "data", "mountPath": "/app/data"}]}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]
        }})
    }

    fn changed(fields: &[(&str, Json)]) -> (Vec<Json>, Vec<String>) {
        let mut objects = vec![set()];
        let set = fields.iter().map(|(field, value)| wanted(field, value.clone())).collect();
        let changed = Changes { set, adapt: None }.make(&mut objects);
        (objects, changed.set)
    }

    #[test]
    fn a_field_that_is_as_wanted_is_not_changed_and_another_is() {
        let (objects, changed) = changed(&[("replicas", json!(3)), ("ordinals.start", json!(5))]);
        assert_eq!(changed, ["ordinals.start"]);
        assert_eq!(objects[0]["spec"]["ordinals"], json!({"start": 5}));
    }

    #[test]
    fn under_on_delete_there_is_no_rolling_update() {
        let (objects, _) = changed(&[("updateStrategy.type", json!("OnDelete"))]);
        assert_eq!(objects[0]["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
    }

    #[test]
    fn an_empty_dir_takes_the_place_of_each_claim() {
        let (objects, _) = changed(&[("volumeClaim.emptyDir", json!(true))]);
        assert_eq!(objects[0]["spec"].get("volumeClaimTemplates"), None);
        assert_eq!(
            objects[0].pointer("/spec/template/spec/volumes"),
            Some(&json!([{"name": "data", "emptyDir": {}}]))
        );
    }

    #[test]
    fn the_app_is_the_container_that_mounts_the_claim() {
        let (objects, _) = changed(&[("livenessProbe", json!({"exec": {"command": ["true"]}}))]);
        let containers = &objects[0]["spec"]["template"]["spec"]["containers"];
        assert!(containers[0].get("livenessProbe").is_none() && containers[1].get("livenessProbe").is_some());
        assert_eq!(app(&objects[0]).unwrap()["name"], "app");
    }

    #[test]
    fn a_revision_and_a_gate_are_in_the_template_of_the_pods() {
        let (objects, _) = changed(&[("revision", json!("two")), ("readinessGate", json!(true))]);
        let template = &objects[0]["spec"]["template"];
        assert_eq!(template["metadata"]["annotations"][REVISION], "two");
        assert_eq!(template["spec"]["readinessGates"], json!([{"conditionType": GATE}]));
    }

    #[test]
    fn a_set_becomes_a_deployment_whose_pods_share_one_claim() {
        let (objects, changed) = changed(&[("workload", json!("Deployment"))]);
        assert_eq!(changed, ["workload"]);
        assert_eq!(objects[0]["kind"], "Deployment");
        let fields: Vec<&String> = objects[0]["spec"].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["replicas", "template", "strategy"]);
        assert_eq!(objects[1]["metadata"]["name"], "data-web");
        let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data-web"}});
        assert_eq!(objects[0].pointer("/spec/template/spec/volumes/0"), Some(&volume));
    }

    #[test]
    fn what_no_object_has_is_not_changed() {
        let mut objects = vec![json!({"kind": "ConfigMap"})];
        let set = vec![wanted("replicas", json!(3)), wanted("hooks", json!(true))];
        assert_eq!(Changes { set, adapt: None }.make(&mut objects), Changed::default());
        assert_eq!(objects, [json!({"kind": "ConfigMap"})]);
    }
}
