//! The workflows: `actionlint` on each, and what it does not ask for: pinned actions, few permissions, deadlines.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use super::{Outcome, output_of};
use machine::tools::on_path;

/// Checks `.github/workflows` of the work tree at `root`.
///
/// `actionlint` comes from `PATH`, else from its pinned Go module; without either, only our own rules are checked.
pub(crate) fn check(root: &Path) -> Result<Outcome> {
    let files = workflows(root)?;
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
        let faults = faults(&text).with_context(|| format!("{} is not a workflow", file.display()))?;
        ensure!(faults.is_empty(), "{}:\n  {}", file.display(), faults.join("\n  "));
    }
    let shell = Shell::new()?;
    let actionlint = if !on_path("actionlint").is_empty() {
        cmd!(shell, "actionlint")
    } else if !on_path("go").is_empty() {
        let pinned = root.join("xtask/tools/actionlint");
        cmd!(shell, "go -C {pinned} tool actionlint")
    } else {
        return Ok(Outcome::Skipped(
            "actionlint needs go to be built; `cargo xtask test --setup` or `nix develop` provides it"
                .to_owned(),
        ));
    };
    output_of(actionlint.arg("-no-color").args(&files))?;
    Ok(Outcome::Passed(format!("{} workflows are clean, pinned, bounded and ask for little", files.len())))
}

fn workflows(root: &Path) -> Result<Vec<PathBuf>> {
    let folder = root.join(".github/workflows");
    let folder = folder.canonicalize().with_context(|| format!("could not read {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{} holds no workflow", folder.display());
    }
    Ok(files)
}

/// What is wrong with a workflow by our own rules.
fn faults(text: &str) -> Result<Vec<String>> {
    let workflow: Value = serde_saphyr::from_str(text)?;
    let mut faults = Vec::new();
    if workflow["permissions"] != serde_json::json!({ "contents": "read" }) {
        faults
            .push("the workflow may do more than `contents: read`; a job asks for what it needs".to_owned());
    }
    if workflow["concurrency"]["group"].as_str().is_none_or(str::is_empty) {
        faults.push("no concurrency group: two runs of one branch would run side by side".to_owned());
    }
    let jobs = workflow["jobs"].as_object().context("no jobs")?;
    for (name, job) in jobs {
        if job["timeout-minutes"].as_u64().is_none() {
            faults.push(format!("job {name} has no timeout-minutes: a hanging one takes six hours"));
        }
        for step in job["steps"].as_array().into_iter().flatten() {
            let Some(action) = step["uses"].as_str() else {
                continue;
            };
            let (action_name, commit) = action.split_once('@').unwrap_or((action, ""));
            if commit.len() != 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                faults.push(format!("job {name}: {action} is not pinned by commit"));
            }
            // The comment is what people and Dependabot read; the YAML parser has thrown it away.
            let line = text.lines().find(|line| line.contains(action)).unwrap_or_default();
            if !line.contains(" # v") {
                faults.push(format!("job {name}: {action} does not say its version as `# v…`"));
            }
            if action_name == "actions/checkout" && step["with"]["persist-credentials"] != Value::Bool(false)
            {
                faults.push(format!(
                    "job {name}: checkout leaves its token in .git/config for every later step"
                ));
            }
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
name: ci
on: push
permissions:
  contents: read
concurrency:
  group: ci
jobs:
  test:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
        with:
          persist-credentials: false
      - run: cargo xtask test
";

    #[test]
    fn our_workflows_are_clean() {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies in the workspace");
        for file in workflows(root).unwrap() {
            let text = fs::read_to_string(&file).unwrap();
            assert_eq!(faults(&text).unwrap(), [""; 0], "{}", file.display());
        }
    }

    #[test]
    fn every_rule_can_fail() {
        assert_eq!(faults(GOOD).unwrap(), [""; 0]);
        let slips = [
            ("  contents: read", "  contents: write", "may do more"),
            ("permissions:\n  contents: read\n", "", "may do more"),
            ("  group: ci", "  group: ''", "no concurrency group"),
            ("    timeout-minutes: 5\n", "", "no timeout-minutes"),
            ("@3d3c42e5aac5ba805825da76410c181273ba90b1", "@v7", "is not pinned by commit"),
            (" # v7.0.1", "", "does not say its version"),
            ("persist-credentials: false", "fetch-depth: 1", "leaves its token"),
        ];
        for (right, wrong, named) in slips {
            assert!(GOOD.contains(right), "{right} is not there");
            let found = faults(&GOOD.replace(right, wrong)).unwrap().join("\n");
            assert!(found.contains(named), "{wrong:?} was not found: {found}");
        }
    }
}
