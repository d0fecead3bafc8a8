//! The versions in `pins.rs` against every other place that names one: Go modules, chart, manifests, workflows, pages.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use regex::Regex;
use semver::{Version, VersionReq};
use serde_json::Value;

use super::Outcome;
use machine::pins::{HELM, KIND, KUBERNETES, NODE_IMAGE};

/// Pages that people read before they run anything. Recorded evidence and history may name other versions.
const PAGES: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/NIX.md", "docs/COVERAGE.md"];
const WORKFLOWS: [&str; 3] = ["ci", "weekly", "release"];

/// Compares the versions named in the work tree at `root`; all disagreements are told at once. The pinned kind's source,
/// where there is a Go to fetch it with, says which node image it was released with.
pub(crate) fn check(root: &Path, kind: Option<&Path>) -> Result<Outcome> {
    let mut faults = faults(root)?;
    faults.extend(kind.and_then(release_image_fault));
    ensure!(
        faults.is_empty(),
        "versions disagree with xtask/machine/src/pins.rs:\n  {}",
        faults.join("\n  ")
    );
    Ok(Outcome::Passed(format!(
        "kind {KIND}, Kubernetes {KUBERNETES}, Helm {HELM} and the node image are the same everywhere"
    )))
}

fn faults(root: &Path) -> Result<Vec<String>> {
    let read =
        |file: &str| fs::read_to_string(root.join(file)).with_context(|| format!("could not read {file}"));
    let mut faults = Vec::new();
    faults.extend(node_image_fault());

    for (tool, module, pin) in [
        ("kind", "sigs.k8s.io/kind", KIND),
        ("helm", "helm.sh/helm/v4", HELM),
        ("kubernetes", "k8s.io/kubernetes", KUBERNETES),
    ] {
        let file = format!("xtask/tools/{tool}/go.mod");
        match required(&read(&file)?, module) {
            Some(version) if version == pin => {}
            Some(version) => faults.push(format!("{file}: {module} {version}, pinned {pin}")),
            None => faults.push(format!("{file}: does not require {module}")),
        }
    }

    let weekly = read(".github/workflows/weekly.yml")?;
    let matrix: Vec<String> = node_images(&weekly);
    if !matrix.iter().any(|image| image == NODE_IMAGE) {
        faults.push(format!(".github/workflows/weekly.yml: no run on {NODE_IMAGE}"));
    }
    faults.extend(matrix_fault(&matrix)?);
    let supported: Vec<Version> = matrix.iter().filter_map(|image| tag_of(image)).collect();

    let manifest: toml::Table = read("Cargo.toml")?.parse().context("Cargo.toml is not TOML")?;
    let workspace = &manifest["workspace"];
    let package_version = workspace["package"]["version"].as_str().unwrap_or_default();
    let rust = workspace["package"]["rust-version"].as_str().unwrap_or_default();
    let api = format!("v1_{}", version(KUBERNETES)?.minor);
    let features = workspace["dependencies"]["k8s-openapi"]["features"].as_array();
    if !features.is_some_and(|features| features.iter().any(|feature| feature.as_str() == Some(&api))) {
        faults.push(format!("Cargo.toml: k8s-openapi has not the API of {KUBERNETES}, feature {api}"));
    }

    let chart: Value =
        serde_saphyr::from_str(&read("chart/Chart.yaml")?).context("chart/Chart.yaml is not YAML")?;
    for key in ["version", "appVersion"] {
        if chart[key] != package_version {
            faults.push(format!(
                "chart/Chart.yaml: {key} is {}, the workspace's {package_version}",
                chart[key]
            ));
        }
    }
    let kube_version = chart["kubeVersion"].as_str().unwrap_or_default();
    let range = VersionReq::parse(kube_version)
        .with_context(|| format!("chart/Chart.yaml: kubeVersion {kube_version:?}"))?;
    for version in &supported {
        if !range.matches(version) {
            faults.push(format!(
                "chart/Chart.yaml: kubeVersion {kube_version} refuses {version}, which the lab runs on"
            ));
        }
    }

    let mut kubernetes: Vec<String> = supported.iter().map(Version::to_string).collect();
    kubernetes.extend(lower_bound(&range));
    let nixpkgs = flake_branch(&read("flake.lock")?)?;
    let known = Known { kubernetes, rust: rust.to_owned(), nixpkgs };
    for page in PAGES {
        // Only the README is certain to be there.
        if page == "README.md" || root.join(page).exists() {
            faults.extend(known.disagreements(page, &read(page)?, &matrix));
        }
    }
    for workflow in WORKFLOWS {
        let file = format!(".github/workflows/{workflow}.yml");
        faults.extend(known.disagreements(&file, &read(&file)?, &matrix));
    }
    Ok(faults)
}

/// Upstream supports the newest three minor versions (<https://kubernetes.io/releases/patch-releases/>): the lab runs
/// on each of them, and on no other.
fn matrix_fault(matrix: &[String]) -> Result<Option<String>> {
    let mut runs: Vec<u64> = matrix.iter().filter_map(|image| tag_of(image)).map(|tag| tag.minor).collect();
    runs.sort_unstable();
    let newest = version(KUBERNETES)?.minor;
    let supported: Vec<u64> = (newest.saturating_sub(2)..=newest).collect();
    Ok((runs != supported)
        .then(|| format!(".github/workflows/weekly.yml: runs on 1.{runs:?}, supported are 1.{supported:?}")))
}

/// The node image is of the pinned Kubernetes, by digest.
fn node_image_fault() -> Option<String> {
    let parts = NODE_IMAGE.strip_prefix("kindest/node:").and_then(|image| image.split_once("@sha256:"));
    let agrees = parts.is_some_and(|(tag, digest)| {
        tag == KUBERNETES && digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    (!agrees)
        .then(|| format!("xtask/machine/src/pins.rs: {NODE_IMAGE} is not Kubernetes {KUBERNETES} by digest"))
}

/// The node image is the default of the pinned kind, digest and all.
fn release_image_fault(kind: &Path) -> Option<String> {
    let file = kind.join("pkg/apis/config/defaults/image.go");
    let source = fs::read_to_string(&file).unwrap_or_default();
    let default = node_images(&source).into_iter().next();
    (default.as_deref() != Some(NODE_IMAGE)).then(|| {
        let default = default.unwrap_or_else(|| format!("nothing in {}", file.display()));
        format!("xtask/machine/src/pins.rs: {NODE_IMAGE}, kind {KIND} was released with {default}")
    })
}

/// The version of `module` that a go.mod requires.
fn required<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten()
    })
}

/// Every `kindest/node:…` in a text, with its digest if it has one.
fn node_images(text: &str) -> Vec<String> {
    let image =
        Regex::new(r"kindest/node:v[0-9][0-9A-Za-z.+-]*(@sha256:[0-9a-f]+)?").expect("a constant expression");
    image.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

fn tag_of(image: &str) -> Option<Version> {
    let tag = image.strip_prefix("kindest/node:v")?;
    Version::parse(tag.split('@').next()?).ok()
}

fn version(tag: &str) -> Result<Version> {
    Version::parse(tag.trim_start_matches('v')).with_context(|| format!("{tag} is no version"))
}

/// `1.29` of `>=1.29.0-0`: pages may say what the oldest Kubernetes is.
fn lower_bound(range: &VersionReq) -> Option<String> {
    let bound = range.comparators.iter().find(|comparator| comparator.op == semver::Op::GreaterEq)?;
    Some(format!("{}.{}.{}", bound.major, bound.minor.unwrap_or(0), bound.patch.unwrap_or(0)))
}

fn flake_branch(lock: &str) -> Result<String> {
    let lock: Value = serde_json::from_str(lock).context("flake.lock is not JSON")?;
    let branch = lock.pointer("/nodes/nixpkgs/original/ref").and_then(Value::as_str);
    Ok(branch.context("flake.lock: nixpkgs has no branch")?.to_owned())
}

/// What a page may say.
struct Known {
    kubernetes: Vec<String>,
    rust: String,
    nixpkgs: String,
}

impl Known {
    fn disagreements(&self, file: &str, text: &str, images: &[String]) -> Vec<String> {
        let mention = Regex::new(concat!(
            r#"(?i)\b(kind|kubernetes|helm|rust|rustup_toolchain)(?:[ -]|: ")v?([0-9]+\.[0-9]+(?:\.[0-9]+)?)\b"#,
            r"|\b(nixos-[0-9]{2}\.[0-9]{2})\b",
        ))
        .expect("a constant expression");
        let mut faults = Vec::new();
        for found in mention.captures_iter(text) {
            if let Some(branch) = found.get(3) {
                if branch.as_str() != self.nixpkgs {
                    faults.push(format!("{file}: {}, flake.lock has {}", branch.as_str(), self.nixpkgs));
                }
                continue;
            }
            let (tool, said) = (found[1].to_lowercase(), &found[2]);
            let agrees = match tool.as_str() {
                "kind" => says(said, KIND),
                "helm" => says(said, HELM),
                "rust" | "rustup_toolchain" => says(said, &self.rust),
                _ => self.kubernetes.iter().any(|version| says(said, version)),
            };
            if !agrees {
                faults.push(format!("{file}: {} is not the pinned version", &found[0]));
            }
        }
        for image in node_images(text) {
            if !images.contains(&image) {
                faults.push(format!("{file}: {image} is no image the lab is run on, by digest"));
            }
        }
        faults
    }
}

/// Whether `said` is `pin` or its beginning: `0.33` says `v0.33.0`.
fn says(said: &str, pin: &str) -> bool {
    let pin = pin.trim_start_matches('v');
    pin == said || pin.strip_prefix(said).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const README: &str =
        "It needs kind 0.33 (or nix: nixos-26.05), Rust 1.95, Helm 4.3 and Kubernetes 1.29 or newer.\n";
    const CHART: &str = "name: counter\nversion: 0.1.0\nappVersion: \"0.1.0\"\nkubeVersion: \">=1.29.0-0\"\n";

    /// The files that name versions as they are in the work tree, with a README and a chart that agree.
    fn tree() -> TempDir {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies in the workspace");
        let tree = tempfile::tempdir().unwrap();
        let tools = ["kind", "helm", "kubernetes"].map(|tool| format!("xtask/tools/{tool}/go.mod"));
        let workflows = WORKFLOWS.map(|workflow| format!(".github/workflows/{workflow}.yml"));
        for file in tools.iter().chain(&workflows).map(String::as_str).chain(["Cargo.toml", "flake.lock"]) {
            let to = tree.path().join(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(root.join(file), to).unwrap();
        }
        fs::create_dir_all(tree.path().join("chart")).unwrap();
        fs::write(tree.path().join("chart/Chart.yaml"), CHART).unwrap();
        fs::write(tree.path().join("README.md"), README).unwrap();
        tree
    }

    #[test]
    fn the_pins_agree_with_modules_manifests_and_workflows() {
        assert_eq!(faults(tree().path()).unwrap(), [""; 0]);
    }

    #[test]
    fn each_place_that_disagrees_is_named() {
        let slips = [
            (
                "xtask/tools/kind/go.mod",
                "sigs.k8s.io/kind v0.33.0",
                "sigs.k8s.io/kind v0.32.0",
                "sigs.k8s.io/kind v0.32.0, pinned",
            ),
            ("xtask/tools/helm/go.mod", HELM, "v4.0.0", "helm.sh/helm/v4 v4.0.0, pinned"),
            (
                "xtask/tools/kubernetes/go.mod",
                "k8s.io/kubernetes v",
                "k8s.io/other v",
                "does not require k8s.io/kubernetes",
            ),
            ("Cargo.toml", "\"v1_37\"", "\"v1_36\"", "feature v1_37"),
            ("Cargo.toml", "version = \"0.1.0\"", "version = \"0.2.0\"", "appVersion is \"0.1.0\""),
            ("chart/Chart.yaml", ">=1.29.0-0", ">=1.36.0-0", "refuses 1.35.8"),
            (
                ".github/workflows/weekly.yml",
                "@sha256:a1ed56",
                "@sha256:b1ed56",
                "no run on kindest/node:v1.37.0",
            ),
            (
                ".github/workflows/weekly.yml",
                "kindest/node:v1.35.8",
                "kindest/node:v1.34.8",
                "runs on 1.[34, 36, 37], supported are 1.[35, 36, 37]",
            ),
            (
                ".github/workflows/ci.yml",
                "RUSTUP_TOOLCHAIN: \"1.95\"",
                "RUSTUP_TOOLCHAIN: \"1.94\"",
                "RUSTUP_TOOLCHAIN: \"1.94 is not the pinned",
            ),
            ("README.md", "kind 0.33", "kind 0.31", "kind 0.31 is not the pinned"),
            ("README.md", "Rust 1.95", "Rust 1.90", "Rust 1.90 is not the pinned"),
            ("README.md", "Helm 4.3", "Helm 4.30", "Helm 4.30 is not the pinned"),
            ("README.md", "Kubernetes 1.29", "Kubernetes 1.28", "Kubernetes 1.28 is not the pinned"),
            ("README.md", "nixos-26.05", "nixos-25.11", "flake.lock has nixos-26.05"),
            ("README.md", "kind 0.33", "kindest/node:v1.37.0", "kindest/node:v1.37.0 is no image"),
        ];
        let tree = tree();
        for (file, right, wrong, named) in slips {
            let path = tree.path().join(file);
            let good = fs::read_to_string(&path).unwrap();
            assert!(good.contains(right), "{right} is not in {file}");
            fs::write(&path, good.replacen(right, wrong, 1)).unwrap();
            let found = faults(tree.path()).unwrap().join("\n");
            assert!(found.contains(named), "{wrong:?} in {file} was not found: {found}");
            fs::write(&path, good).unwrap();
        }
    }

    #[test]
    fn the_node_image_of_another_kind_is_a_disagreement() {
        let kind = tempfile::tempdir().unwrap();
        let folder = kind.path().join("pkg/apis/config/defaults");
        fs::create_dir_all(&folder).unwrap();
        let release = |image: &str| {
            fs::write(folder.join("image.go"), format!("const Image = \"{image}\"\n")).unwrap();
            release_image_fault(kind.path()).unwrap_or_default()
        };
        assert_eq!(release(NODE_IMAGE), "");
        assert!(
            release(&NODE_IMAGE.replace("a1ed", "b1ed"))
                .contains("was released with kindest/node:v1.37.0@sha256:b1ed")
        );
        assert!(release("none").contains("nothing in"));
    }

    #[test]
    fn a_tree_without_its_chart_is_no_agreement() {
        let tree = tree();
        fs::remove_file(tree.path().join("chart/Chart.yaml")).unwrap();
        assert!(faults(tree.path()).unwrap_err().to_string().contains("chart/Chart.yaml"));
    }
}
