//! The chart: helm lints it, renders it under every workload, and its schema refuses what it should.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use super::{Outcome, output_of};
use machine::files::copy_folder;
use machine::pins::KUBERNETES;

/// Values under which the chart must render.
const RENDERED: [&str; 10] = [
    "",
    "workload=deployment",
    "workload=rollout",
    "persistence.enabled=false",
    "replicas=0,ordinals.start=5,podManagementPolicy=OrderedReady",
    "updateStrategy.type=OnDelete",
    "updateStrategy.partition=2,updateStrategy.maxUnavailable=50%",
    "hooks.enabled=true,networkPolicy.enabled=true,podDisruptionBudget.enabled=true,serviceMonitor.enabled=true",
    "probes.liveness=null,resources=null,serviceAccount.create=false",
    "service.type=NodePort,service.nodePort=30080",
];

/// Values it must refuse, and what the refusal must say.
const REFUSED: [(&str, &str); 12] = [
    ("replica=2", "additional properties 'replica' not allowed"),
    ("image.repositry=x", "'/image': additional properties 'repositry' not allowed"),
    ("updateStrategy.partiton=1", "'/updateStrategy': additional properties 'partiton' not allowed"),
    ("replicas=two", "'/replicas': got string, want integer"),
    ("replicas=null", "missing property 'replicas'"),
    ("revision=2", "'/revision': got number, want string"),
    ("workload=daemonset", "'/workload': value must be one of 'statefulset', 'deployment', 'rollout'"),
    (
        "updateStrategy.type=Recreate",
        "'/updateStrategy/type': value must be one of 'RollingUpdate', 'OnDelete'",
    ),
    ("persistence.size=big", "'/persistence/size': 'big' does not match pattern"),
    ("service.nodePort=30080", "'/service/nodePort': value must be 0"),
    ("probes.readiness.periodSeconds=0", "'/probes/readiness/periodSeconds': minimum: got 0, want 1"),
    ("extraEnv[0].name=LISTEN", "extraEnv: LISTEN is set by the chart itself"),
];

/// The label that tells the app's pods from those of hooks.
const COMPONENT: &str = "app.kubernetes.io/component: {{ .Values.workload }}\n";

/// Ways to break the chart (file, what stands there, what takes its place), and the fault that must be told.
const BROKEN: [(&str, &str, &str, &str); 7] = [
    (
        "templates/service-headless.yaml",
        "clusterIP: None",
        "type: ClusterIP",
        "StatefulSet one: its serviceName names no headless service",
    ),
    ("templates/_helpers.tpl", COMPONENT, "", "Service one: selects the pod of a hook"),
    (
        "templates/service.yaml",
        "{{ include \"counter.name\" . }}",
        "counter",
        "Service counter: is not named after its release",
    ),
    ("templates/statefulset.yaml", "replicas: {{", "replicas: {{ nosuch", "nosuch"),
    ("values.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "StatefulSet one: may run as root"),
    ("values.yaml", "# How many pods.\n", "", "`replicas` has no comment above it"),
    ("values.schema.json", "\"additionalProperties\": false", "\"title\": \"\"", "`replica=2` is accepted"),
];

/// Checks the chart of the work tree at `root` with this helm.
///
/// # Errors
/// All the faults found.
pub(crate) fn check(root: &Path, helm: &Path) -> Result<Outcome> {
    let chart = Chart { shell: Shell::new()?, helm: helm.to_owned(), dir: root.join("chart") };
    let outcome = check_chart(&chart)?;
    // A check that accepts every chart would pass as well.
    for (file, right, wrong, named) in BROKEN {
        let dir = tempfile::tempdir()?;
        let broken = chart.broken(dir.path(), file, right, wrong)?;
        let said = check_chart(&broken).err().map_or_else(String::new, |error| format!("{error:#}"));
        ensure!(
            said.contains(named),
            "with {wrong:?} in place of {right:?}, {named:?} is not told, but: {said}"
        );
    }
    Ok(outcome)
}

struct Chart {
    shell: Shell,
    helm: PathBuf,
    dir: PathBuf,
}

fn check_chart(chart: &Chart) -> Result<Outcome> {
    let Chart { shell, helm, dir } = chart;
    output_of(cmd!(shell, "{helm} lint --strict {dir}"))?;
    let mut faults = vec![];
    for values in RENDERED {
        match chart.render("one", values) {
            Ok(objects) => {
                let found = objects_faults("one", &objects);
                faults.extend(found.into_iter().map(|fault| format!("with `{values}`: {fault}")));
            }
            Err(error) => faults.push(format!("with `{values}` it doesn't render: {error:#}")),
        }
    }
    for (values, reason) in REFUSED {
        match chart.render("one", values) {
            Ok(_) => faults.push(format!("`{values}` is accepted")),
            Err(error) if format!("{error:#}").contains(reason) => {}
            Err(error) => faults.push(format!("`{values}` is refused, but not because {reason}: {error:#}")),
        }
    }
    faults.extend(uncommented_values(dir)?);
    ensure!(faults.is_empty(), "{}:\n  {}", dir.display(), faults.join("\n  "));
    Ok(Outcome::Passed(format!(
        "the chart renders under {} sets of values and refuses {}",
        RENDERED.len(),
        REFUSED.len()
    )))
}

impl Chart {
    /// A copy of the chart below `dir` in which `right` became `wrong`.
    fn broken(&self, dir: &Path, file: &str, right: &str, wrong: &str) -> Result<Self> {
        let copy = dir.join("chart");
        copy_folder(&self.dir, &copy)?;
        let path = copy.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(text.contains(right), "{file} has no {right:?}");
        fs::write(&path, text.replacen(right, wrong, 1))?;
        Ok(Self { shell: self.shell.clone(), helm: self.helm.clone(), dir: copy })
    }

    /// The objects of a release with `values` (as for `--set`) over the chart's own.
    fn render(&self, release: &str, values: &str) -> Result<Vec<Value>> {
        let Self { shell, helm, dir } = self;
        let template =
            cmd!(shell, "{helm} template {release} {dir} --kube-version {KUBERNETES} --set {values}");
        let (rendered, _) = output_of(template)?;
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(&rendered).context("what helm rendered is not YAML")?;
        ensure!(!objects.is_empty(), "nothing was rendered");
        Ok(objects)
    }
}

/// What must hold for the objects of `release`, whatever its values are.
fn objects_faults(release: &str, objects: &[Value]) -> Vec<String> {
    let mut faults = vec![];
    let mut fault = |object: &Value, text: &str| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        faults.push(format!("{} {name}: {text}", object["kind"].as_str().unwrap_or_default()));
    };
    let workloads: Vec<&Value> = objects
        .iter()
        .filter(|object| ["StatefulSet", "Deployment", "Rollout"].iter().any(|kind| object["kind"] == *kind))
        .collect();
    let [workload] = workloads.as_slice() else {
        return vec![format!("{} workloads instead of one", workloads.len())];
    };
    let pod_labels = &workload["spec"]["template"]["metadata"]["labels"];
    for object in objects {
        // Two releases live side by side only when no two names are the same.
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if !name.split('-').any(|word| word == release) {
            fault(object, "is not named after its release");
        }
        for label in ["name", "instance", "version", "component", "managed-by"] {
            if object["metadata"]["labels"][format!("app.kubernetes.io/{label}")].is_null() {
                fault(object, &format!("lacks the label app.kubernetes.io/{label}"));
            }
        }
        if object["kind"] == "Service" {
            if !selects(&object["spec"]["selector"], pod_labels) {
                fault(object, "doesn't select the workload's pods");
            }
            for other in objects.iter().filter_map(other_pod_labels) {
                if selects(&object["spec"]["selector"], other) {
                    fault(object, "selects the pod of a hook");
                }
            }
        }
    }
    if workload["kind"] == "StatefulSet" {
        let governing = objects.iter().find(|object| {
            object["kind"] == "Service" && object["metadata"]["name"] == workload["spec"]["serviceName"]
        });
        if governing.is_none_or(|service| service["spec"]["clusterIP"] != "None") {
            fault(workload, "its serviceName names no headless service");
        }
    }
    let pod = &workload["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    for (holds, text) in [
        (pod["securityContext"]["runAsNonRoot"] == true, "may run as root"),
        (container["securityContext"]["readOnlyRootFilesystem"] == true, "may write to its root file system"),
        (container["securityContext"]["capabilities"]["drop"][0] == "ALL", "keeps capabilities"),
        (pod["automountServiceAccountToken"] == false, "has a token for the API server"),
    ] {
        if !holds {
            fault(workload, text);
        }
    }
    faults
}

/// The labels of a pod that a hook or `helm test` makes.
fn other_pod_labels(object: &Value) -> Option<&Value> {
    match object["kind"].as_str()? {
        "Job" => Some(&object["spec"]["template"]["metadata"]["labels"]),
        "Pod" => Some(&object["metadata"]["labels"]),
        _ => None,
    }
}

fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().is_some_and(|selector| selector.iter().all(|(key, value)| &labels[key] == value))
}

/// Keys of values.yaml without a comment above their line.
fn uncommented_values(chart: &Path) -> Result<Vec<String>> {
    let path = chart.join("values.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut faults = vec![];
    let mut above = "";
    for (number, line) in text.lines().enumerate() {
        let (key, rest) = line.split_once(':').unwrap_or(("", ""));
        let is_key = !key.trim().is_empty() && !key.trim_start().starts_with(['#', '-']);
        let commented = above.trim_start().starts_with('#');
        // A group explains itself by its members, and the members of a list by the list.
        if is_key && !commented && !rest.trim().is_empty() && !above.trim_start().starts_with('-') {
            faults.push(format!("values.yaml:{}: `{}` has no comment above it", number + 1, key.trim()));
        }
        above = line;
    }
    Ok(faults)
}
