//! What a chart does beyond what it is asked: seen, told, and worth no points.

use serde_json::Value as Json;

use model::condition::hook;

type Is = fn(&Json) -> bool;

/// What there may be, and how one sees it in an object.
const BEYOND: [(&str, Is); 20] = [
    ("pods side by side (podManagementPolicy: Parallel)", |it| {
        of_set(it, "podManagementPolicy") == "Parallel"
    }),
    ("what becomes of claims (persistentVolumeClaimRetentionPolicy)", |it| {
        of_set(it, "persistentVolumeClaimRetentionPolicy").is_object()
    }),
    ("ordinals that begin elsewhere (ordinals)", |it| of_set(it, "ordinals").is_object()),
    ("a pause after each pod (minReadySeconds)", |it| of_set(it, "minReadySeconds").as_i64() > Some(0)),
    ("several pods at a time (maxUnavailable)", |it| {
        !of_set(it, "updateStrategy")["rollingUpdate"]["maxUnavailable"].is_null()
    }),
    ("a named port on the governing service (SRV records)", |it| {
        it["kind"] == "Service"
            && it["spec"]["clusterIP"] == "None"
            && it["spec"]["ports"]
                .as_array()
                .is_some_and(|ports| ports.iter().all(|port| port["name"].is_string()))
    }),
    ("liveness probes", |it| of_containers(it, |container| container["livenessProbe"].is_object())),
    ("readiness probes", |it| of_containers(it, |container| container["readinessProbe"].is_object())),
    ("startup probes", |it| of_containers(it, |container| container["startupProbe"].is_object())),
    ("requests and limits", |it| {
        of_containers(it, |container| {
            container["resources"]["requests"].is_object() && container["resources"]["limits"].is_object()
        })
    }),
    ("a user that is not root (runAsNonRoot)", |it| {
        of_pods(it, |pod| pod["securityContext"]["runAsNonRoot"] == true)
            || of_containers(it, |container| container["securityContext"]["runAsNonRoot"] == true)
    }),
    ("a root file system that is only read", |it| {
        of_containers(it, |container| container["securityContext"]["readOnlyRootFilesystem"] == true)
    }),
    ("pods spread over nodes", |it| {
        of_pods(it, |pod| {
            pod["topologySpreadConstraints"].is_array() || pod["affinity"]["podAntiAffinity"].is_object()
        })
    }),
    ("hooks", |it| hook(it).is_some_and(|hook| !hook.starts_with("test"))),
    ("tests of its own (helm test)", |it| hook(it).is_some_and(|hook| hook.starts_with("test"))),
    ("a disruption budget", |it| it["kind"] == "PodDisruptionBudget"),
    ("a network policy", |it| it["kind"] == "NetworkPolicy"),
    ("an autoscaler", |it| it["kind"] == "HorizontalPodAutoscaler"),
    ("monitoring", |it| it["kind"] == "ServiceMonitor" || it["kind"] == "PodMonitor"),
    ("an ingress", |it| it["kind"] == "Ingress" || it["kind"] == "HTTPRoute"),
];

/// What a chart's objects do beyond what was asked, in the order of the table.
pub(crate) fn beyond(objects: &[Json]) -> Vec<String> {
    let seen = BEYOND.iter().filter(|(_, is)| objects.iter().any(is));
    seen.map(|(what, _)| (*what).to_owned()).collect()
}

fn of_set<'a>(object: &'a Json, field: &str) -> &'a Json {
    if object["kind"] == "StatefulSet" { &object["spec"][field] } else { &Json::Null }
}

/// The pods that the set makes, not those of hooks and jobs.
fn of_pods(object: &Json, is: Is) -> bool {
    object["kind"] == "StatefulSet" && is(&object["spec"]["template"]["spec"])
}

fn of_containers(object: &Json, is: Is) -> bool {
    let containers = of_set(object, "template")["spec"]["containers"].as_array();
    containers.is_some_and(|containers| containers.iter().any(is))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_chart_does_beyond_is_told_and_what_it_does_not_is_not() {
        let set = json!({"kind": "StatefulSet", "spec": {"podManagementPolicy": "Parallel", "template": {"spec":
            {"containers": [{"readinessProbe": {"httpGet": {"path": "/"}}}]}}}});
        let hook = json!({"kind": "Job", "metadata": {"annotations": {"helm.sh/hook": "pre-install"}},
            "spec": {"template": {"spec": {"containers": [{"livenessProbe": {}}]}}}});
        let service = json!({"kind": "Service", "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
        assert_eq!(
            beyond(&[set, hook, service]),
            ["pods side by side (podManagementPolicy: Parallel)", "readiness probes", "hooks"]
        );
        assert_eq!(beyond(&[]), [""; 0]);
    }
}
