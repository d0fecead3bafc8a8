//! A stranger's chart is a program, and rendering it runs it on this machine: what it may read here, and take.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;

use machine::command::Command;

/// Helm takes a quarter of it for a large chart; `until 2000000000` would take sixteen gigabytes.
const MEMORY_BYTES: u64 = 512 << 20;
/// What has not been rendered after this time goes round in circles.
const RENDER_DEADLINE: Duration = Duration::from_secs(60);
/// The most that is unpacked of an archive; as much as Helm itself takes.
const UNPACKED_BYTES: u64 = 100 << 20;
/// Archives within archives that are looked into; Helm knows no chart that is deeper.
const DEPTH: usize = 8;

const SCHEMA: &str = "values.schema.json";

/// Helm for a chart of somebody else's, whatever it does with it.
pub(crate) fn bounded(helm: Command) -> Command {
    helm.memory(MEMORY_BYTES)
}

/// The same, only rendering.
pub(crate) fn rendering(helm: Command) -> Command {
    bounded(helm).deadline(RENDER_DEADLINE)
}

/// Refuses a chart, a folder or an archive, that makes Helm read what does not belong to it.
///
/// # Errors
/// A link out of its folder, which Helm follows to any file of this machine; a schema that refers to a file or an
/// address, which Helm reads: <https://json-schema.org/understanding-json-schema/structuring#dollarref>.
pub(crate) fn reads_only_itself(chart: &Path) -> Result<()> {
    if chart.is_dir() {
        let chart = chart.canonicalize().with_context(|| format!("cannot find {}", chart.display()))?;
        return folder(&chart, &chart);
    }
    let file = std::fs::File::open(chart).with_context(|| format!("cannot open {}", chart.display()))?;
    archive(file, &chart.display().to_string(), DEPTH)
}

fn folder(folder: &Path, chart: &Path) -> Result<()> {
    let failed = || format!("cannot look into {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let kind = path.symlink_metadata().with_context(failed)?.file_type();
        if kind.is_dir() {
            self::folder(&path, chart)?;
            continue;
        }
        if kind.is_symlink() {
            let inside = path.canonicalize().is_ok_and(|target| target.starts_with(chart));
            ensure!(inside, "{} is a link out of the chart", path.display());
        } else {
            // Nothing else can be waited for without end.
            ensure!(kind.is_file(), "{} is neither a file nor a folder", path.display());
        }
        let name = path.display().to_string();
        if path.file_name().is_some_and(|name| name == SCHEMA) {
            let text = std::fs::read(&path).with_context(|| format!("cannot read {name}"))?;
            schema(&text, &name)?;
        } else if is_archive(&name) && path.is_file() {
            archive(std::fs::File::open(&path).with_context(failed)?, &name, DEPTH)?;
        }
    }
    Ok(())
}

fn is_archive(name: &str) -> bool {
    [".tgz", ".tar.gz"].iter().any(|end| name.ends_with(end))
}

fn archive(packed: impl Read, name: &str, depth: usize) -> Result<()> {
    ensure!(depth > 0, "{name} is an archive in too many others");
    let unpacked = flate2::read::GzDecoder::new(packed).take(UNPACKED_BYTES);
    let mut archive = tar::Archive::new(unpacked);
    for entry in archive.entries().with_context(|| format!("{name} is no archive"))? {
        let mut entry = entry.with_context(|| format!("{name} breaks off, or holds more than 100 MiB"))?;
        let inner = entry.path()?.to_string_lossy().into_owned();
        let shown = format!("{name}: {inner}");
        if Path::new(&inner).file_name().is_some_and(|name| name == SCHEMA) {
            let mut text = Vec::new();
            entry.read_to_end(&mut text).with_context(|| format!("cannot read {shown}"))?;
            schema(&text, &shown)?;
        } else if is_archive(&inner) {
            self::archive(&mut entry as &mut dyn Read, &shown, depth - 1)?;
        }
    }
    Ok(())
}

fn schema(text: &[u8], name: &str) -> Result<()> {
    let schema: Json = serde_json::from_slice(text).with_context(|| format!("{name} is no JSON"))?;
    match leads_out(&schema) {
        Some(reference) => {
            bail!("{name} refers to {reference:?}, which Helm would read: it may refer to itself alone")
        }
        None => Ok(()),
    }
}

/// The first reference of a schema that is none to a part of itself.
fn leads_out(schema: &Json) -> Option<&str> {
    match schema {
        Json::Object(fields) => fields.iter().find_map(|(key, value)| {
            let text = value.as_str();
            let out = match key.as_str() {
                "$ref" | "$dynamicRef" | "$recursiveRef" => text.filter(|it| !it.starts_with('#')),
                // What a schema may say is another schema; Helm has those of the drafts with it.
                "$schema" => text.filter(|it| !is_a_draft(it)),
                _ => None,
            };
            out.or_else(|| leads_out(value))
        }),
        Json::Array(items) => items.iter().find_map(leads_out),
        _ => None,
    }
}

fn is_a_draft(schema: &str) -> bool {
    let rest =
        ["http://json-schema.org/", "https://json-schema.org/"].iter().find_map(|it| schema.strip_prefix(it));
    rest.is_some_and(|rest| rest == "schema#" || rest == "schema" || rest.starts_with("draft"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::PathBuf;

    fn chart(dir: &Path) -> PathBuf {
        let chart = dir.join("chart");
        std::fs::create_dir_all(chart.join("files")).unwrap();
        std::fs::create_dir_all(chart.join("charts/sub")).unwrap();
        std::fs::write(dir.join("secret"), "").unwrap();
        std::fs::write(chart.join("Chart.yaml"), "").unwrap();
        chart
    }

    fn packed(path: &str, content: &[u8]) -> Vec<u8> {
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), Default::default()));
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content).unwrap();
        archive.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn a_link_out_of_a_chart_is_refused_and_one_inside_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let chart = chart(dir.path());
        std::os::unix::fs::symlink("../Chart.yaml", chart.join("files/inside")).unwrap();
        reads_only_itself(&chart).unwrap();
        std::os::unix::fs::symlink("../../secret", chart.join("files/outside")).unwrap();
        let error = reads_only_itself(&chart).unwrap_err().to_string();
        assert!(error.ends_with("files/outside is a link out of the chart"), "{error}");
    }

    #[test]
    fn a_schema_may_refer_to_itself_alone() {
        let own = json!({"$schema": "https://json-schema.org/draft-07/schema#", "$ref": "#/$defs/a",
            "$defs": {"a": {"properties": {"$ref": {"type": "string"}}}}});
        assert_eq!(leads_out(&own), None);
        for (key, out) in [
            ("$ref", "file:///etc/passwd"),
            ("$ref", "https://example.org/schema.json"),
            ("$ref", "other.json#/a"),
            ("$dynamicRef", "http://example.org/a"),
            ("$schema", "file:///etc/passwd"),
            ("$schema", "http://json-schema.org/../a"),
        ] {
            let schema = json!({"properties": {"a": {"anyOf": [{key: out}]}}});
            assert_eq!(leads_out(&schema), Some(out), "{key}");
        }
    }

    #[test]
    fn a_schema_that_leads_out_is_found_in_subcharts_and_in_archives_of_archives() {
        let out = json!({"$ref": "file:///etc/passwd"}).to_string();
        let within = packed("sub/values.schema.json", out.as_bytes());
        let twice = packed("chart/charts/sub-0.1.0.tgz", &within);
        let dir = tempfile::tempdir().unwrap();
        let places: [(&str, &[u8]); 4] = [
            ("values.schema.json", out.as_bytes()),
            ("charts/sub/values.schema.json", out.as_bytes()),
            ("charts/sub-0.1.0.tgz", &within),
            ("charts/twice.tgz", &twice),
        ];
        for (place, content) in places {
            let chart = chart(dir.path());
            reads_only_itself(&chart).unwrap();
            std::fs::write(chart.join(place), content).unwrap();
            let error = reads_only_itself(&chart).unwrap_err().to_string();
            assert!(
                error.contains(r#"values.schema.json refers to "file:///etc/passwd""#),
                "{place}: {error}"
            );
            std::fs::remove_dir_all(chart).unwrap();
        }
        let archive = dir.path().join("chart.tgz");
        std::fs::write(&archive, &twice).unwrap();
        assert!(reads_only_itself(&archive).unwrap_err().to_string().contains("refers to"));
    }
}
