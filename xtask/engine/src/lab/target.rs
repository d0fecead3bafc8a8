//! The chart under test: the names of its parts, found in what Helm renders, so that a lab speaks of roles.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value as Json, json};

use machine::command::Command;
use model::condition::text;
use model::kinds::is_name;
use model::spec::Values;

/// More pods than any lab asks for, and than a node bears.
const MOST_REPLICAS: i64 = 100;

/// The workloads whose roles are known, in the order in which one is taken for that of the target.
const WORKLOADS: [&str; 2] = ["StatefulSet", "Deployment"];

/// The chart and the roles its objects play.
#[derive(Debug, Clone)]
pub struct Target {
    /// Folder of the chart, as commands name it.
    pub chart: PathBuf,
    /// Name of the release.
    pub release: String,
    /// Values of every install.
    pub values: Values,
    /// Where values files are written.
    pub values_dir: PathBuf,
    /// The same folder, as commands name it.
    pub shown_values_dir: PathBuf,
    /// What the pods are of, of each kind the first that the chart renders.
    roles: serde_json::Map<String, Json>,
    /// Labels that all pods of its workload have.
    pub selector: Json,
    /// The port the app listens on, where the chart names one.
    pub port: Option<u16>,
    /// All that the chart renders.
    pub objects: Vec<Json>,
}

impl Target {
    /// Renders the chart and finds the roles.
    ///
    /// # Errors
    /// A chart that does not render, or one without a workload.
    pub async fn discover(
        helm: &Command,
        chart: PathBuf,
        release: &str,
        values: Values,
        values_dir: PathBuf,
        shown_values_dir: PathBuf,
    ) -> Result<Self> {
        let file = shown_values_dir.join(write_values(&values_dir, "discover", &values)?);
        let command = helm.clone().args(["template", release]).arg(&chart).arg("--values").arg(&file);
        let rendered =
            command.read().await.with_context(|| format!("chart {} does not render", chart.display()))?;
        let objects =
            parse(&rendered).with_context(|| format!("chart {} renders no valid YAML", chart.display()))?;
        let workload = WORKLOADS.iter().find_map(|kind| of_kind(&objects, kind).next());
        let workload = workload.with_context(|| {
            format!("chart {} renders neither {}", chart.display(), WORKLOADS.join(" nor "))
        })?;
        let roles = roles(&objects).with_context(|| format!("chart {}", chart.display()))?;
        let service =
            of_kind(&objects, "Service").find(|service| service["metadata"]["name"] == roles["service"]);
        Ok(Self {
            selector: workload.pointer("/spec/selector/matchLabels").cloned().unwrap_or_default(),
            port: port(workload, service),
            release: release.to_owned(),
            chart,
            values,
            values_dir,
            shown_values_dir,
            roles,
            objects,
        })
    }

    /// One that was never rendered, for tests of what needs no chart.
    #[cfg(test)]
    pub(crate) fn pretended() -> Self {
        Self {
            chart: PathBuf::new(),
            release: "r".to_owned(),
            values: Values::new(),
            values_dir: PathBuf::new(),
            shown_values_dir: PathBuf::new(),
            roles: serde_json::Map::new(),
            selector: json!({}),
            port: None,
            objects: Vec::new(),
        }
    }

    /// The variable `target` of expressions.
    pub fn variable(&self, namespace: &str) -> Json {
        let mut variable = self.roles.clone();
        variable.insert("release".to_owned(), json!(self.release));
        variable.insert("namespace".to_owned(), json!(namespace));
        if let Some(port) = self.port {
            variable.insert("port".to_owned(), json!(port));
        }
        if let Some(headless) = self.roles.get("headless").and_then(Json::as_str) {
            // The pattern of a pod's name: <pod>.<domain>.
            variable.insert("domain".to_owned(), json!(format!("{headless}.{namespace}.svc.cluster.local")));
        }
        Json::Object(variable)
    }

    /// The names of its pods by ordinal, where they are known beforehand: those of a StatefulSet.
    pub fn pods(&self) -> Option<Vec<String>> {
        let pods = self.roles.get("pods")?.as_array()?;
        Some(pods.iter().filter_map(Json::as_str).map(str::to_owned).collect())
    }

    /// Refuses a chart that renders nothing for a role the lab speaks of.
    ///
    /// # Errors
    /// The fields of `target` that this chart leaves without a value.
    pub fn plays(&self, fields: &[String]) -> Result<()> {
        let variable = self.variable("");
        let lacking: Vec<String> = fields
            .iter()
            .filter(|field| variable.get(field.as_str()).is_none())
            .map(|field| format!("`target.{field}`"))
            .collect();
        ensure!(
            lacking.is_empty(),
            "chart {} renders nothing that could be {}, of which the lab speaks",
            self.chart.display(),
            lacking.join(", ")
        );
        Ok(())
    }
}

/// The names of what a chart renders, by the role it plays.
fn roles(objects: &[Json]) -> Result<serde_json::Map<String, Json>> {
    let mut roles = serde_json::Map::new();
    let mut set_role = |role: &str, value: Json| drop(roles.insert(role.to_owned(), value));
    let mut headless = "";
    if let Some(set) = of_kind(objects, "StatefulSet").next() {
        let name = text(set, "/metadata/name");
        headless = text(set, "/spec/serviceName");
        let number = |pointer: &str| set.pointer(pointer).and_then(Json::as_i64);
        let start = number("/spec/ordinals/start").unwrap_or(0);
        let replicas = number("/spec/replicas").unwrap_or(1);
        if !(0..=MOST_REPLICAS).contains(&replicas) || !(0..=i64::from(i32::MAX)).contains(&start) {
            bail!("it renders {replicas} pods from ordinal {start} on");
        }
        let pods = (start..start + replicas).map(|ordinal| format!("{name}-{ordinal}"));
        set_role("pods", pods.collect());
        set_role("volume_claim", json!(text(set, "/spec/volumeClaimTemplates/0/metadata/name")));
        // Whether or not there is such a service.
        set_role("headless", json!(headless));
        set_role("statefulset", json!(name));
    }
    if let Some(deployment) = of_kind(objects, "Deployment").next() {
        set_role("deployment", json!(text(deployment, "/metadata/name")));
    }
    // For access from outside: not the governing service, and rather one with an address than one without.
    let mut services: Vec<&Json> = of_kind(objects, "Service").collect();
    services.sort_by_key(|service| {
        (text(service, "/metadata/name") == headless, text(service, "/spec/clusterIP") == "None")
    });
    let service = services.first().map(|service| text(service, "/metadata/name")).unwrap_or_default();
    set_role("service", json!(service));
    roles.values().filter_map(Json::as_str).try_for_each(sound_name)?;
    Ok(roles)
}

/// The container's port, or the one that the service leads to: a container need not name any.
fn port(workload: &Json, service: Option<&Json>) -> Option<u16> {
    let of_container = workload.pointer("/spec/template/spec/containers/0/ports/0/containerPort");
    let of_service = |name| service.and_then(|service| service.pointer("/spec/ports/0")?.get(name));
    let ports = [of_container, of_service("targetPort"), of_service("port")];
    ports.into_iter().flatten().find_map(|port| u16::try_from(port.as_u64()?).ok())
}

/// Writes a values file for Helm and returns its name.
///
/// # Errors
/// When it can't be written.
pub fn write_values(dir: &std::path::Path, name: &str, values: &Values) -> Result<String> {
    let name = format!("{name}.yaml");
    let file = dir.join(&name);
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // JSON is YAML, and keeps every string a string.
    let text = serde_json::to_string_pretty(values)? + "\n";
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(name)
}

/// `over` laid over `base`: maps are merged, everything else is replaced.
pub fn merge(base: &mut Values, over: &Values) {
    for (key, value) in over {
        merge_value(base.entry(key.clone()).or_insert(Json::Null), value);
    }
}

fn merge_value(base: &mut Json, over: &Json) {
    match (base, over) {
        (Json::Object(base), Json::Object(over)) => {
            for (key, value) in over {
                merge_value(base.entry(key.clone()).or_insert(Json::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// A name stands in command lines. The API server would refuse what is none too, but a chart may render otherwise once
/// it is installed.
fn sound_name(name: &str) -> Result<()> {
    ensure!(
        name.is_empty() || is_name(name),
        "the chart calls an object {name:?}, which is no name of Kubernetes"
    );
    Ok(())
}

pub(crate) fn parse(rendered: &str) -> Result<Vec<Json>> {
    Ok(serde_saphyr::from_multiple::<Json>(rendered)?)
}

fn of_kind<'a>(objects: &'a [Json], kind: &'a str) -> impl Iterator<Item = &'a Json> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Target {
        let objects = parse(text).unwrap();
        Target {
            chart: "chart".into(),
            release: "r".to_owned(),
            values: Values::new(),
            values_dir: PathBuf::new(),
            shown_values_dir: PathBuf::new(),
            roles: roles(&objects).unwrap(),
            selector: json!({}),
            port: port(&objects[0], None),
            objects,
        }
    }

    #[test]
    fn roles_are_found_by_what_is_rendered() {
        let set = rendered(
            "kind: StatefulSet\nmetadata: { name: db }\nspec: { replicas: 2, serviceName: peers, ordinals: { start: 5 } }\n\
             ---\nkind: Service\nmetadata: { name: peers }\n---\nkind: Service\nmetadata: { name: way-in }\n",
        );
        assert_eq!(set.pods().unwrap(), ["db-5", "db-6"]);
        let target = set.variable("ns");
        assert_eq!([&target["statefulset"], &target["service"]], ["db", "way-in"]);
        assert_eq!(target["domain"], "peers.ns.svc.cluster.local");
    }

    #[test]
    fn a_lab_is_refused_a_chart_without_the_roles_it_speaks_of() {
        let deployment = rendered(
            "kind: Deployment\nmetadata: { name: web }\n\
             spec: { template: { spec: { containers: [ { ports: [ { containerPort: 80 } ] } ] } } }\n",
        );
        assert_eq!(deployment.pods(), None);
        let fields = |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>();
        assert!(deployment.plays(&fields(&["deployment", "service", "port"])).is_ok());
        let error = deployment.plays(&fields(&["pods", "deployment", "domain"])).unwrap_err().to_string();
        assert_eq!(
            error,
            "chart chart renders nothing that could be `target.pods`, `target.domain`, of which the lab speaks"
        );
    }

    #[test]
    fn every_role_is_one_that_expressions_may_name() {
        let target =
            rendered("kind: StatefulSet\nmetadata: { name: a }\n---\nkind: Deployment\n").variable("ns");
        let mut names: Vec<&str> =
            target.as_object().unwrap().keys().map(String::as_str).chain(["port"]).collect();
        let mut known = model::kinds::TARGET_FIELDS.to_vec();
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
    }

    #[test]
    fn values_are_merged_like_helm_merges_them() {
        let values = |json: Json| serde_json::from_value::<Values>(json).unwrap();
        let mut base = values(json!({"a": {"b": 1, "c": 2}, "list": [1, 2]}));
        merge(&mut base, &values(json!({"a": {"c": 3}, "list": [9], "new": true})));
        assert_eq!(base, values(json!({"a": {"b": 1, "c": 3}, "list": [9], "new": true})));
    }

    #[test]
    fn a_name_that_would_be_two_arguments_is_none() {
        assert!(["counter", "counter-headless", ""].iter().all(|name| sound_name(name).is_ok()));
        for name in ["a --namespace kube-system", "--all", "a\u{1b}[2J", "A"] {
            assert!(sound_name(name).is_err(), "{name}");
        }
    }
}
