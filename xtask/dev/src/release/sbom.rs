//! The bill of materials of the image: CycloneDX, from Cargo.lock and what cargo knows of each crate.
//!
//! It holds no time and no random number: the same sources give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId, TargetKind};
use cyclonedx_bom::external_models::uri::Purl;
use cyclonedx_bom::models::component::{Classification, Component, Components, Scope};
use cyclonedx_bom::models::dependency::{Dependencies, Dependency};
use cyclonedx_bom::models::hash::{Hash, HashAlgorithm, HashValue, Hashes};
use cyclonedx_bom::models::license::{LicenseChoice, Licenses};
use cyclonedx_bom::models::metadata::Metadata as BomMetadata;
use cyclonedx_bom::prelude::*;

use engine::image::Part;
use engine::image::contract;

const SPECIFICATION: SpecVersion = SpecVersion::V1_5;

/// The bill, as JSON, of the counter compiled for `target` (`x86_64-unknown-linux-gnu`) and of `parts` beside it.
///
/// Crates that are linked are `required`; those that only ran while it was built are `excluded`.
pub(super) fn bill(root: &Path, target: &str, parts: &[Part]) -> Result<String> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .other_options(["--locked", "--filter-platform", target].map(str::to_owned))
        .exec()
        .context("could not ask cargo for the dependencies")?;
    let graph = Graph::of(&metadata)?;
    let counter = metadata
        .workspace_packages()
        .into_iter()
        .find(|package| package.name.as_str() == contract::NAME)
        .context("the workspace has no counter")?;
    let linked = graph.reachable(&counter.id, |package| !is_macro(package));
    let all = graph.reachable(&counter.id, |_| true);
    let checksums = checksums(root)?;

    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for id in &all {
        let package = graph.packages[id];
        dependencies.push(Dependency {
            dependency_ref: reference(package)?,
            dependencies: graph.needs(id).map(|id| reference(graph.packages[id])).collect::<Result<_>>()?,
        });
        if **id != counter.id {
            let mut component = component_of(package, Classification::Library)?;
            component.scope = Some(if linked.contains(id) { Scope::Required } else { Scope::Excluded });
            let checksum = checksums.get(&(package.name.to_string(), package.version.to_string()));
            component.hashes = checksum.map(|checksum| {
                Hashes(vec![Hash { alg: HashAlgorithm::SHA_256, content: HashValue(checksum.clone()) }])
            });
            components.push(component);
        }
    }
    for part in parts {
        let purl = Purl::new(&part.package_type, &part.name, &part.version)
            .with_context(|| format!("{} {} makes no package URL", part.name, part.version))?;
        let reference = purl.to_string();
        let mut component =
            Component::new(Classification::Application, &part.name, &part.version, Some(reference.clone()));
        component.purl = Some(purl);
        component.licenses = Some(Licenses(vec![LicenseChoice::expression(&part.license)]));
        component.scope = Some(Scope::Required);
        components.push(component);
        dependencies.push(Dependency { dependency_ref: reference, dependencies: vec![] });
    }
    let bom = Bom {
        serial_number: None,
        metadata: Some(BomMetadata {
            component: Some(component_of(counter, Classification::Application)?),
            ..BomMetadata::default()
        }),
        components: Some(Components(components)),
        dependencies: Some(Dependencies(dependencies)),
        spec_version: SPECIFICATION,
        ..Bom::default()
    };
    let faults = bom.validate_version(SPECIFICATION);
    ensure!(faults.passed(), "the bill is not CycloneDX {SPECIFICATION}: {faults:?}");
    let mut json = Vec::new();
    bom.output_as_json(&mut json, SPECIFICATION).context("could not write the bill")?;
    Ok(String::from_utf8(json)?)
}

/// Which crate needs which, without tests.
struct Graph<'a> {
    packages: BTreeMap<&'a PackageId, &'a Package>,
    edges: BTreeMap<&'a PackageId, Vec<&'a PackageId>>,
}

impl<'a> Graph<'a> {
    fn of(metadata: &'a Metadata) -> Result<Self> {
        let resolve = metadata.resolve.as_ref().context("cargo resolved no dependencies")?;
        let edges = resolve.nodes.iter().map(|node| {
            let needed = node.deps.iter().filter(|dependency| {
                dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
            });
            (&node.id, needed.map(|dependency| &dependency.pkg).collect())
        });
        Ok(Self {
            packages: metadata.packages.iter().map(|package| (&package.id, package)).collect(),
            edges: edges.collect(),
        })
    }

    fn needs(&self, id: &PackageId) -> impl Iterator<Item = &'a PackageId> {
        self.edges.get(id).into_iter().flatten().copied()
    }

    /// `start` and everything it needs, going on from those that `follow` accepts.
    fn reachable(&self, start: &'a PackageId, follow: impl Fn(&Package) -> bool) -> BTreeSet<&'a PackageId> {
        let mut found = BTreeSet::new();
        let mut open = vec![start];
        while let Some(id) = open.pop() {
            if follow(self.packages[id]) && found.insert(id) {
                open.extend(self.needs(id));
            }
        }
        found
    }
}

fn is_macro(package: &Package) -> bool {
    package.targets.iter().any(|target| target.kind.contains(&TargetKind::ProcMacro))
}

fn component_of(package: &Package, classification: Classification) -> Result<Component> {
    let name = package.name.as_str();
    let mut component =
        Component::new(classification, name, &package.version.to_string(), Some(reference(package)?));
    component.purl = Some(purl(package)?);
    // Old manifests separate licences by a slash, which meant OR.
    let license = package.license.as_ref().map(|license| license.replace('/', " OR "));
    component.licenses = license.map(|license| Licenses(vec![LicenseChoice::expression(&license)]));
    Ok(component)
}

fn reference(package: &Package) -> Result<String> {
    Ok(purl(package)?.to_string())
}

fn purl(package: &Package) -> Result<Purl> {
    Purl::new("cargo", package.name.as_str(), &package.version.to_string())
        .with_context(|| format!("{} {} makes no package URL", package.name, package.version))
}

/// SHA-256 of each crate as the registry gave it, from Cargo.lock: `cargo metadata` does not tell it.
fn checksums(root: &Path) -> Result<BTreeMap<(String, String), String>> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("could not read Cargo.lock")?;
    let lock: toml::Table = lock.parse().context("Cargo.lock is not TOML")?;
    let packages =
        lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock names no packages")?;
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    let found = packages.iter().filter_map(|package| {
        Some(((text(package, "name")?, text(package, "version")?), text(package, "checksum")?))
    });
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const TARGET: &str = "x86_64-unknown-linux-gnu";

    fn bill_with(parts: &[Part]) -> (String, Value) {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies in the workspace");
        let json = bill(root, TARGET, parts).unwrap();
        let value = serde_json::from_str(&json).unwrap();
        (json, value)
    }

    fn component<'a>(bill: &'a Value, name: &str) -> Option<&'a Value> {
        bill["components"].as_array()?.iter().find(|component| component["name"] == name)
    }

    #[test]
    fn it_lists_what_is_linked_with_licence_and_checksum() {
        let (_, bill) = bill_with(&[]);
        assert_eq!(bill["bomFormat"], "CycloneDX");
        assert_eq!(bill["metadata"]["component"]["name"], "counter");
        let axum = component(&bill, "axum").expect("the counter serves with axum");
        assert_eq!(axum["licenses"][0]["expression"], "MIT");
        assert_eq!(axum["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert_eq!(axum["scope"], "required");
        assert!(axum["purl"].as_str().unwrap().starts_with("pkg:cargo/axum@0.8."));
        let unhashed =
            bill["components"].as_array().unwrap().iter().find(|component| component["hashes"].is_null());
        assert_eq!(unhashed, None);
    }

    #[test]
    fn tests_tools_and_the_lab_engine_are_not_inside() {
        let (_, bill) = bill_with(&[]);
        assert_eq!(component(&bill, "serde_derive").expect("it ran at build time")["scope"], "excluded");
        assert_eq!(component(&bill, "syn").expect("it ran at build time")["scope"], "excluded");
        for absent in ["tempfile", "kube", "xtask", "windows-sys"] {
            assert_eq!(component(&bill, absent), None);
        }
    }

    #[test]
    fn every_edge_leads_to_a_listed_component() {
        let (_, bill) = bill_with(&[]);
        let mut listed: BTreeSet<&str> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part["bom-ref"].as_str().unwrap())
            .collect();
        listed.insert(bill["metadata"]["component"]["bom-ref"].as_str().unwrap());
        let edges = bill["dependencies"].as_array().unwrap();
        assert_eq!(edges.len(), listed.len());
        for edge in edges {
            for needed in edge["dependsOn"].as_array().into_iter().flatten() {
                assert!(listed.contains(needed.as_str().unwrap()), "{needed} is not listed");
            }
        }
    }

    #[test]
    fn other_parts_are_listed_and_the_same_sources_give_the_same_bytes() {
        let busybox = Part {
            name: "busybox".into(),
            version: "1.35.0".into(),
            license: "GPL-2.0-only".into(),
            package_type: "generic".into(),
        };
        let (first, bill) = bill_with(std::slice::from_ref(&busybox));
        assert_eq!(component(&bill, "busybox").unwrap()["purl"], "pkg:generic/busybox@1.35.0");
        assert_eq!(first, bill_with(&[busybox]).0);
    }

    #[test]
    fn a_licence_that_is_no_spdx_expression_is_refused() {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies in the workspace");
        let part = Part {
            name: "busybox".into(),
            version: "1.35.0".into(),
            license: "who knows".into(),
            package_type: "generic".into(),
        };
        assert!(bill(root, TARGET, &[part]).unwrap_err().to_string().contains("is not CycloneDX"));
    }
}
