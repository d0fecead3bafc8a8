//! The chart under test: the names of its parts, found in what Helm renders, so that a lab speaks of roles.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value as Json, json};

use crate::command::Command;
use crate::lab::spec::Values;

/// What the variable `target` of expressions holds.
pub const FIELDS: [&str; 9] =
    ["release", "namespace", "statefulset", "headless", "service", "pods", "volume_claim", "port", "domain"];

/// More pods than any lab asks for, and than a node bears.
const MOST_REPLICAS: i64 = 100;

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
    /// Name of the StatefulSet.
    pub statefulset: String,
    /// The service it names as its governing one, whether or not that exists.
    pub headless: String,
    /// The service for access from outside.
    pub service: String,
    /// Names of its pods by ordinal.
    pub pods: Vec<String>,
    /// Name of its first volume claim template; empty without one.
    pub volume_claim: String,
    /// The port the app listens on.
    pub port: u16,
    /// All that the chart renders.
    pub objects: Vec<Json>,
}

impl Target {
    /// Renders the chart and finds the roles.
    ///
    /// # Errors
    /// A chart that does not render, or one without a StatefulSet.
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
        let Some(set) = of_kind(&objects, "StatefulSet").next() else {
            bail!("chart {} renders no StatefulSet", chart.display())
        };
        let text = |object: &Json, pointer: &str| {
            object.pointer(pointer).and_then(Json::as_str).unwrap_or_default().to_owned()
        };
        let statefulset = text(set, "/metadata/name");
        let headless = text(set, "/spec/serviceName");
        // For access from outside: not the governing service, and rather one with an address than one without.
        let mut services: Vec<&Json> = of_kind(&objects, "Service").collect();
        services.sort_by_key(|service| {
            (text(service, "/metadata/name") == headless, text(service, "/spec/clusterIP") == "None")
        });
        let service = services.first().map(|service| text(service, "/metadata/name")).unwrap_or_default();
        let volume_claim = text(set, "/spec/volumeClaimTemplates/0/metadata/name");
        for name in [&statefulset, &headless, &service, &volume_claim] {
            sound_name(name)?;
        }
        let number = |pointer: &str| set.pointer(pointer).and_then(Json::as_i64);
        let start = number("/spec/ordinals/start").unwrap_or(0);
        let replicas = number("/spec/replicas").unwrap_or(1);
        if !(0..=MOST_REPLICAS).contains(&replicas) || !(0..=i64::from(i32::MAX)).contains(&start) {
            bail!("chart {} renders {replicas} pods from ordinal {start} on", chart.display());
        }
        let port = number("/spec/template/spec/containers/0/ports/0/containerPort").unwrap_or(8000);
        Ok(Self {
            pods: (start..start + replicas).map(|ordinal| format!("{statefulset}-{ordinal}")).collect(),
            volume_claim,
            port: u16::try_from(port).with_context(|| format!("container port {port} of {statefulset}"))?,
            release: release.to_owned(),
            chart,
            values,
            values_dir,
            shown_values_dir,
            statefulset,
            headless,
            service,
            objects,
        })
    }

    /// The variable `target` of expressions.
    pub fn variable(&self, namespace: &str) -> Json {
        json!({
            "release": self.release,
            "namespace": namespace,
            "statefulset": self.statefulset,
            "headless": self.headless,
            "service": self.service,
            "pods": self.pods,
            "volume_claim": self.volume_claim,
            "port": self.port,
            // The pattern of a pod's name: <pod>.<domain>.
            "domain": format!("{}.{namespace}.svc.cluster.local", self.headless),
        })
    }
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

/// A name stands in command lines, where a space would make two arguments of it. The API server would refuse it too,
/// but a chart may render otherwise once it is installed.
fn sound_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.len() > 253 || name.starts_with('-') || !name.chars().all(fits) {
        bail!("the chart calls an object {name:?}, which is no name of Kubernetes");
    }
    Ok(())
}

fn parse(rendered: &str) -> Result<Vec<Json>> {
    Ok(serde_saphyr::from_multiple::<Json>(rendered)?)
}

fn of_kind<'a>(objects: &'a [Json], kind: &'a str) -> impl Iterator<Item = &'a Json> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

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
