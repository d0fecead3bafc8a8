//! Dependencies that nothing uses: every crate that a manifest asks for is named in the sources of its package.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, MetadataCommand};
use regex::Regex;

use super::{Outcome, rust_below};

/// Checks every member of the workspace at `root`, and that the workspace names no version that no member asks for.
pub(crate) fn check(root: &Path) -> Result<Outcome> {
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec();
    let metadata = metadata.context("cargo does not tell who the members are")?;
    let (mut faults, mut asked) = (Vec::new(), BTreeSet::new());
    for member in &metadata.packages {
        let folder = member.manifest_path.parent().context("a manifest lies in a folder")?;
        let read = |part: &str| rust_below(&folder.join(part).into_std_path_buf());
        let (program, mut all) = (read("src")?, String::new());
        for part in ["tests", "benches", "examples"].into_iter().filter(|part| folder.join(part).is_dir()) {
            all += &read(part)?;
        }
        all += &program;
        for dependency in &member.dependencies {
            let name = dependency.rename.as_ref().unwrap_or(&dependency.name);
            let sources = if dependency.kind == DependencyKind::Normal { &program } else { &all };
            if !named(name, sources)? {
                faults.push(format!("{}: nothing in its sources names {name}", member.name));
            }
            asked.insert(name.clone());
        }
    }
    let manifest: toml::Table = std::fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
    let versions =
        manifest["workspace"]["dependencies"].as_table().context("the workspace has no versions")?;
    faults.extend(
        versions
            .keys()
            .filter(|name| !asked.contains(*name))
            .map(|name| format!("the workspace: no member asks for {name}")),
    );
    ensure!(faults.is_empty(), "dependencies that nothing uses:\n  {}", faults.join("\n  "));
    Ok(Outcome::Passed(format!("all of {} dependencies are used", asked.len())))
}

/// Whether a path in `sources` begins with this crate; `time` is not named by `std::time::Duration`.
fn named(dependency: &str, sources: &str) -> Result<bool> {
    let path = format!(r"(?m)(^|[^:\w])(::)?{}(::|;| as )", dependency.replace('-', "_"));
    Ok(Regex::new(&path)?.is_match(sources))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_used_where_a_path_begins_with_its_name() {
        for used in [
            "use serde_json::Value;",
            "::serde_json::json!({})",
            "[serde_json::Error]",
            "use serde_json as j;",
        ] {
            assert!(named("serde-json", used).unwrap(), "{used}");
        }
        for unused in
            ["use std::serde_json::X;", "my_serde_json::X", "serde_jsonic::X", "let serde_json = 1;"]
        {
            assert!(!named("serde-json", unused).unwrap(), "{unused}");
        }
    }

    #[test]
    fn every_dependency_is_used() {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies in the workspace");
        check(root).unwrap();
    }
}
