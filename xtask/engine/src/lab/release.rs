//! A release: a chart as Helm installs it, under which name, with which values, and as whom.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value as Json;

use crate::lab::stranger;
use machine::command::Command;
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
    /// Where values files are written, as commands name it.
    pub values_dir: PathBuf,
    /// The folder that commands run in.
    pub root: PathBuf,
    /// What `helm upgrade` is told besides.
    pub upgrade_flags: &'static [&'static str],
    /// The user that Helm acts as, where that isn't ours.
    pub user: Option<String>,
}

impl Release {
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
        Ok(helm.args(["template", &self.name]).arg(&self.chart).arg("--values").arg(file))
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
            values_dir: "target/lab/values".into(),
            root: dir.path().to_owned(),
            upgrade_flags: &["--quick"],
            user: Some("lab:a".to_owned()),
        };
        let values = serde_json::from_value(json!({"replicas": 2})).unwrap();
        let helm = release.helm(&Command::new("helm"));
        let command = release.upgrade(helm, "lab-one", "second", &values, 60).unwrap();
        assert_eq!(
            command.argv().join(" "),
            "helm --kube-as-user lab:a upgrade --install second ./chart --values \
             target/lab/values/lab-one-second.yaml --timeout=60s --quick"
        );
        let written = std::fs::read_to_string(dir.path().join("target/lab/values/lab-one-second.yaml"));
        assert_eq!(written.unwrap(), "{\n  \"replicas\": 2\n}\n");
    }
}
