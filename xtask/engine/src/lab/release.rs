//! A release: a chart as Helm installs it, under which name, with which values, and as whom.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value as Json;

use crate::lab::adapt::Adapt;
use crate::lab::changes::{Changed, Changes, has, nested};
use crate::lab::stranger;
use machine::command::Command;
use model::record::{Field, Origin};
use model::settings::{Settings, Wanted};
use model::spec::Values;

/// A chart and how Helm installs it.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its name. An experiment may install the chart under other names beside it.
    pub name: String,
    /// The chart's folder or archive, as commands name it.
    pub chart: PathBuf,
    /// Values of every install.
    pub values: Values,
    /// What every install wants of the chart's objects.
    pub set: Settings,
    /// What it wants whatever a step wants.
    pub always: Settings,
    /// The values that drive fields, by field.
    pub handles: BTreeMap<String, Handle>,
    /// What the chart is adapted to, where it is somebody else's.
    pub(crate) adapt: Option<Adapt>,
    /// Where values files are written, as commands name it.
    pub values_dir: PathBuf,
    /// The folder that commands run in.
    pub root: PathBuf,
    /// What `helm upgrade` is told besides.
    pub upgrade_flags: &'static [&'static str],
    /// The user that Helm acts as, where that isn't ours.
    pub user: Option<String>,
    /// What the chart is rendered for: Helm asks no cluster then, and one built with `go install` takes 1.20 for granted.
    pub kubernetes: String,
}

/// A value that drives a field.
#[derive(Debug, Clone, PartialEq)]
pub struct Handle {
    /// The keys that lead to it.
    pub path: Vec<String>,
    /// What it is given, where that is not what the field shall be.
    pub given: Option<Json>,
}

impl Release {
    /// What is wanted, field by field, when a step wants this.
    pub(crate) fn wanted(&self, set: &Settings) -> Vec<Wanted> {
        let mut set = set.clone();
        set.lay(&self.always);
        set.wanted()
    }

    /// Values with those that make fields as they are wanted, where the chart has some that do.
    pub(crate) fn values_for(&self, values: &Values, wanted: &[Wanted]) -> Values {
        let mut values = values.clone();
        for Wanted { field, value } in wanted {
            if let Some(Handle { path, given }) = self.handles.get(field)
                && let Json::Object(more) = nested(path, given.as_ref().unwrap_or(value).clone())
            {
                merge(&mut values, &more.into_iter().collect());
            }
        }
        values
    }

    /// What brought each field about that was wanted; `objects` is what the chart renders as it is.
    pub(crate) fn origins(&self, wanted: &[Wanted], changed: &Changed, objects: &[Json]) -> Vec<Field> {
        let origin = |wanted: &Wanted| {
            let Wanted { field, value } = wanted;
            let by = self.handles.get(field).map(|handle| handle.path.join("."));
            let (from, by) = match by {
                _ if changed.set.contains(field) => (Origin::Lab, None),
                Some(by) => (Origin::Value, Some(by)),
                None if has(objects, wanted) == Some(true) => (Origin::Chart, None),
                None => (Origin::Nothing, None),
            };
            Field { field: field.clone(), value: value.clone(), from, by }
        };
        wanted.iter().map(origin).collect()
    }

    /// Where it is written what is changed for a release in a namespace, as commands name it.
    pub(crate) fn changes_file(&self, namespace: &str, name: &str) -> PathBuf {
        self.values_dir.join(format!("{namespace}-{name}.changes.json"))
    }

    /// What is changed to have fields as they are wanted.
    pub(crate) fn changes(&self, wanted: Vec<Wanted>) -> Changes {
        Changes { set: wanted, adapt: self.adapt.clone() }
    }

    /// The same where it takes more than values: a command line that does without us can be pasted by anybody.
    pub(crate) fn needed_changes(&self, wanted: &[Wanted], objects: &[Json]) -> Option<Changes> {
        let by_value = |wanted: &Wanted| {
            // A chart may leave its rolling update beside it.
            let whole = wanted.field != "updateStrategy.type" || wanted.value != "OnDelete";
            whole && self.handles.contains_key(&wanted.field) || has(objects, wanted) == Some(true)
        };
        let needed = self.adapt.is_some() || !wanted.iter().all(by_value);
        needed.then(|| self.changes(wanted.to_vec()))
    }

    /// Helm, as one that may do what the release's user may.
    pub fn helm(&self, helm: &Command) -> Command {
        match &self.user {
            Some(user) => stranger::bounded(helm.clone()).args(["--kube-as-user", user]),
            None => helm.clone(),
        }
    }

    /// Helm, rendering the chart.
    ///
    /// # Errors
    /// When the values file can't be written.
    pub fn template(&self, helm: &Command) -> Result<Command> {
        let file = self.write_values("discover", &self.values)?;
        let helm = if self.user.is_some() { stranger::rendering(helm.clone()) } else { helm.clone() };
        let helm = helm.args(["template", &self.name]).arg(&self.chart).arg("--values").arg(file);
        Ok(helm.args(["--kube-version", &self.kubernetes]))
    }

    /// Helm, installing or upgrading the chart as `name` in a namespace. A hook may take `timeout_s` seconds.
    ///
    /// # Errors
    /// When the values file can't be written.
    pub fn upgrade(
        &self,
        helm: Command,
        namespace: &str,
        name: &str,
        values: &Values,
        timeout_s: u64,
    ) -> Result<Command> {
        let file = self.write_values(&format!("{namespace}-{name}"), values)?;
        let command = helm.args(["upgrade", "--install", name]).arg(&self.chart).arg("--values").arg(file);
        Ok(command.arg(format!("--timeout={timeout_s}s")).args(self.upgrade_flags))
    }

    /// Helm, packing the chart as its next version. Where the archive will lie is the other.
    ///
    /// # Errors
    /// The chart can't be read.
    pub(crate) fn next_version(&self, helm: Command, namespace: &str) -> Result<(Command, PathBuf)> {
        /// Later than any chart's own.
        const NEXT: &str = "999.0.0";
        let folder = self.values_dir.join(format!("{namespace}-next"));
        let mut chart = self.chart.clone();
        if self.root.join(&chart).is_file() {
            let file = std::fs::File::open(self.root.join(&chart))?;
            let unpacked = self.root.join(&folder).join("unpacked");
            tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(&unpacked)?;
            let mut inside = std::fs::read_dir(&unpacked)?;
            let name = inside.next().context("the archive is empty")??.file_name();
            chart = folder.join("unpacked").join(name);
        }
        let manifest = self.root.join(&chart).join("Chart.yaml");
        let text = std::fs::read_to_string(&manifest)
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        let manifest: Json = serde_saphyr::from_str(&text)?;
        let name = manifest["name"].as_str().context("the chart has no name")?;
        let archive = folder.join(format!("{name}-{NEXT}.tgz"));
        let pack = helm.arg("package").arg(chart).args(["--version", NEXT, "--destination"]).arg(folder);
        Ok((pack, archive))
    }

    /// Writes a values file and returns it as commands name it.
    fn write_values(&self, name: &str, values: &Values) -> Result<PathBuf> {
        let (shown, dir) = (self.values_dir.join(format!("{name}.yaml")), self.root.join(&self.values_dir));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        // JSON is YAML, and keeps every string a string.
        let text = serde_json::to_string_pretty(values)? + "\n";
        std::fs::write(self.root.join(&shown), text)
            .with_context(|| format!("cannot write {}", shown.display()))?;
        Ok(shown)
    }
}

/// `over` laid over `base`: maps are merged, everything else is replaced.
pub(crate) fn merge(base: &mut Values, over: &Values) {
    for (key, value) in over {
        merge_value(base.entry(key.clone()).or_insert(Json::Null), value);
    }
}

/// The same for two values.
pub(crate) fn merge_value(base: &mut Json, over: &Json) {
    match (base, over) {
        (Json::Object(base), Json::Object(over)) => {
            for (key, value) in over {
                merge_value(base.entry(key.clone()).or_insert(Json::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_merged_like_helm_merges_them() {
        let values = |json: Json| serde_json::from_value::<Values>(json).unwrap();
        let mut base = values(json!({"a": {"b": 1, "c": 2}, "list": [1, 2]}));
        merge(&mut base, &values(json!({"a": {"c": 3}, "list": [9], "new": true})));
        assert_eq!(base, values(json!({"a": {"b": 1, "c": 3}, "list": [9], "new": true})));
    }

    #[test]
    fn commands_name_the_values_from_the_folder_they_run_in() {
        let dir = tempfile::tempdir().unwrap();
        let release = Release {
            name: "counter".to_owned(),
            chart: "./chart".into(),
            values: Values::new(),
            set: Settings::default(),
            always: Settings::default(),
            handles: BTreeMap::new(),
            adapt: None,
            values_dir: "target/lab/values".into(),
            root: dir.path().to_owned(),
            upgrade_flags: &["--quick"],
            user: Some("lab:a".to_owned()),
            kubernetes: "v1.37.0".to_owned(),
        };
        let values = serde_json::from_value(json!({"replicas": 2})).unwrap();
        let helm = release.helm(&Command::new("helm"));
        let command = release.upgrade(helm, "lab-one", "second", &values, 60).unwrap();
        assert_eq!(
            command.argv().join(" "),
            "helm --kube-as-user lab:a upgrade --install second ./chart --values \
             target/lab/values/lab-one-second.yaml --timeout=60s --quick"
        );
        let rendered = release.template(&Command::new("helm")).unwrap().argv().join(" ");
        assert!(rendered.ends_with(" --kube-version v1.37.0"), "{rendered}");
        let written = std::fs::read_to_string(dir.path().join("target/lab/values/lab-one-second.yaml"));
        assert_eq!(written.unwrap(), "{\n  \"replicas\": 2\n}\n");
    }
}
