//! The files of a chart, a folder or an archive: its values, its other values files, its schema, its templates.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use regex::Regex;
use serde_json::Value as Json;

use super::probe::Path as ValuePath;
use crate::lab::release::merge_value;

/// No chart's text is longer; what is may be a film.
const FILE_BYTES: u64 = 1 << 20;

/// Paths below the chart's folder, and what they hold.
pub(super) struct ChartFiles(BTreeMap<String, String>);

impl ChartFiles {
    /// Reads them.
    ///
    /// # Errors
    /// It is no chart.
    pub(super) fn read(chart: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        if chart.is_dir() {
            folder(chart, chart, &mut files)?;
        } else {
            archive(chart, &mut files).with_context(|| format!("{} is no chart", chart.display()))?;
        }
        if !files.contains_key("Chart.yaml") {
            bail!("{} is no chart: it has no Chart.yaml", chart.display());
        }
        Ok(Self(files))
    }

    /// The values of the chart, those of its subcharts below their names.
    ///
    /// # Errors
    /// They are no YAML.
    pub(super) fn values(&self) -> Result<Json> {
        let mut values = Json::Object(serde_json::Map::new());
        for (path, text) in &self.0 {
            let subchart = path.strip_prefix("charts/").and_then(|path| path.strip_suffix("/values.yaml"));
            if let Some(name) = subchart.filter(|name| !name.contains('/')) {
                values[name] = yaml(text).with_context(|| path.clone())?;
            }
        }
        if let Some(text) = self.0.get("values.yaml") {
            merge_value(&mut values, &yaml(text).context("values.yaml")?);
        }
        Ok(values)
    }

    /// Values files beside the chart's own; first those whose name speaks of a set.
    pub(super) fn other_values(&self) -> Vec<(String, Json)> {
        let other = |path: &str| {
            let ends = path.ends_with(".yaml") || path.ends_with(".yml");
            ends && path.contains("values")
                && path != "values.yaml"
                && !path.starts_with("templates/")
                && !path.starts_with("charts/")
        };
        let files = self.0.iter().filter(|(path, _)| other(path));
        let mut files: Vec<_> =
            files.filter_map(|(path, text)| Some((path.clone(), yaml(text).ok()?))).collect();
        // Of two that speak of a set the longer one speaks of something else as well.
        files.sort_by_key(|(path, _)| (!path.to_lowercase().contains("stateful"), path.len()));
        files
    }

    /// The schema of the values; null where there is none.
    pub(super) fn schema(&self) -> Json {
        self.0.get("values.schema.json").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The values that templates name: `.Values.image.tag`.
    pub(super) fn named_in_templates(&self) -> Vec<ValuePath> {
        let pattern = Regex::new(r"\.Values((?:\.[A-Za-z_][A-Za-z0-9_]*)+)").expect("the pattern is one");
        let templates = self.0.iter().filter(|(path, _)| path.starts_with("templates/"));
        let mut found: Vec<ValuePath> = Vec::new();
        for (_, text) in templates {
            for named in pattern.captures_iter(text) {
                let path = ValuePath(named[1].split('.').skip(1).map(str::to_owned).collect());
                if !found.contains(&path) {
                    found.push(path);
                }
            }
        }
        found
    }
}

fn yaml(text: &str) -> Result<Json> {
    let value: Option<Json> = serde_saphyr::from_str(text).map_err(|error| anyhow!("{error}"))?;
    Ok(value.filter(|value| !value.is_null()).unwrap_or_else(|| Json::Object(serde_json::Map::new())))
}

fn folder(root: &Path, dir: &Path, files: &mut BTreeMap<String, String>) -> Result<()> {
    let failed = || format!("cannot look into {}", dir.display());
    for entry in std::fs::read_dir(dir).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let meta = path.symlink_metadata().with_context(failed)?;
        if meta.is_dir() {
            folder(root, &path, files)?;
        } else if meta.is_file() && meta.len() <= FILE_BYTES {
            // What is no text is none of ours to read.
            if let Ok(text) = std::fs::read_to_string(&path) {
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                files.insert(name, text);
            }
        }
    }
    Ok(())
}

fn archive(chart: &Path, files: &mut BTreeMap<String, String>) -> Result<()> {
    let file = std::fs::File::open(chart)?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        // The first folder is the chart's name.
        let Some((_, path)) = path.split_once('/') else { continue };
        let mut text = String::new();
        if entry.take(FILE_BYTES).read_to_string(&mut text).is_ok() {
            files.insert(path.to_owned(), text);
        }
    }
    Ok(())
}
