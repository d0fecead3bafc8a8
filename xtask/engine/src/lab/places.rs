//! Where in a chart a field is written, so that whoever reads a verdict knows the line to look at.

use std::path::Path;

/// The template that an object of a kind was rendered from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    kind: String,
    /// Below the chart's folder.
    file: String,
}

/// More objects of a kind than this are not named one by one.
const MOST: usize = 3;

/// Reads what `helm template` says above each object: `# Source: chart/templates/set.yaml`.
pub(crate) fn sources(rendered: &str) -> Vec<Source> {
    let (mut found, mut file) = (Vec::new(), "");
    for line in rendered.lines() {
        if let Some((_, below)) = line.strip_prefix("# Source: ").and_then(|source| source.split_once('/')) {
            file = below.trim_end();
        } else if let Some(kind) = line.strip_prefix("kind:") {
            // Only an object's own kind begins a line.
            let kind = kind.trim().trim_matches(['"', '\'']);
            found.push(Source { kind: kind.to_owned(), file: file.to_owned() });
        }
    }
    found
}

/// The places in a chart that `look_at` speaks of, each a kind and a key: `StatefulSet.serviceName`. A key that the
/// template of the object does not have is told as missing: it may be the fault.
pub(crate) fn places(chart: &Path, sources: &[Source], look_at: &[String]) -> Vec<String> {
    let asked = look_at.iter().filter_map(|look_at| look_at.split_once('.'));
    let mut told = Vec::new();
    for (kind, key) in asked {
        for source in sources.iter().filter(|source| source.kind == kind).take(MOST) {
            // In an archive nobody counts lines.
            let place = match std::fs::read_to_string(chart.join(&source.file)) {
                Ok(template) => match line_of(&template, kind, key) {
                    Some(line) => format!("{}:{line} ({key})", source.file),
                    None => format!("{} (no {key})", source.file),
                },
                Err(_) => format!("{} ({key})", source.file),
            };
            if !told.contains(&place) {
                told.push(place);
            }
        }
    }
    told
}

/// The line on which a template has a key, counted from one. Where a file holds several objects, it is looked for below
/// the kind of this one.
fn line_of(template: &str, kind: &str, key: &str) -> Option<usize> {
    let is = |line: &str, key: &str| line.trim_start_matches([' ', '-']).starts_with(&format!("{key}:"));
    let begins = template.lines().position(|line| is(line, "kind") && line.contains(kind));
    let mut lines = template.lines().enumerate().skip(begins.unwrap_or(0));
    if key == "kind" {
        return begins.map(|line| line + 1);
    }
    lines.find(|(_, line)| is(line, key)).map(|(line, _)| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = "{{- if .Values.on }}\napiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: {{ .Release.Name }}\nspec:\n  updateStrategy:\n    type: RollingUpdate\n{{- end }}\n";

    #[test]
    fn a_field_is_found_in_the_template_of_its_object() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("templates")).unwrap();
        std::fs::write(dir.path().join("templates/set.yaml"), SET).unwrap();
        let rendered = "---\n# Source: app/templates/set.yaml\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: { name: web }\n\
            ---\n# Source: app/templates/way-in.yaml\nkind: Service\nmetadata: { name: way-in }\n";
        let sources = sources(rendered);
        assert_eq!(sources.len(), 2);
        let look_at =
            ["StatefulSet.updateStrategy", "StatefulSet.serviceName", "Service.selector", "Deployment.kind"];
        assert_eq!(
            places(dir.path(), &sources, &look_at.map(str::to_owned)),
            [
                "templates/set.yaml:7 (updateStrategy)",
                "templates/set.yaml (no serviceName)",
                "templates/way-in.yaml (selector)"
            ]
        );
    }
}
