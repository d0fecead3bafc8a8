//! Whether evidence that differs from what is committed is the fault of a change.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::checks::Outcome;
use machine::advice::advised;
use machine::pins::KUBERNETES;
use model::record::Record;

/// What a run was made with, by name.
pub(super) type Versions = BTreeMap<String, String>;

/// What prints what a record holds: another one may print it otherwise.
const PRINTING: [&str; 4] = ["kubernetes", "kubectl", "helm", "engine"];

/// The versions in a record.
///
/// # Errors
/// It can't be read, or is none.
pub(super) fn versions(record: &Path) -> Result<Versions> {
    let text =
        std::fs::read_to_string(record).with_context(|| format!("cannot read {}", record.display()))?;
    let record: Record =
        serde_json::from_str(&text).with_context(|| format!("{} is no record", record.display()))?;
    Ok(record.versions)
}

/// Judges a run in which every claim holds and that printed `differences` to what is committed: the change is at fault
/// where both were printed by the same versions, and where the record is not of the pinned Kubernetes.
///
/// # Errors
/// The change is at fault.
pub(super) fn judge(differences: &str, recorded: &Versions, here: &Versions) -> Result<Outcome> {
    let of = |versions: &Versions, what: &str| versions.get(what).map_or("none", String::as_str).to_owned();
    let outdated = |says: String| advised(says, "cargo xtask lab, and commit what it writes");
    let kubernetes = of(recorded, "kubernetes");
    ensure!(
        kubernetes == KUBERNETES,
        outdated(format!("the committed evidence is of Kubernetes {kubernetes}, pinned is {KUBERNETES}"))
    );
    let others = PRINTING.iter().filter(|what| recorded.get(**what) != here.get(**what));
    let others: Vec<String> = others
        .map(|what| format!("{what} {} where the evidence is of {}", of(here, what), of(recorded, what)))
        .collect();
    ensure!(
        !others.is_empty(),
        outdated(format!(
            "every claim holds, and the committed evidence is out of date: it is of the same Kubernetes, tools and \
             engine\n{differences}"
        ))
    );
    Ok(Outcome::Skipped(format!(
        "every claim holds; whether the evidence is current is not known with {}",
        others.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(changes: &[(&str, &str)]) -> Versions {
        let usual = [
            ("kubernetes", KUBERNETES),
            ("kubectl", "1.37.0"),
            ("helm", "4.3.1"),
            ("engine", "podman 4.3.1"),
        ];
        let all = usual.iter().chain(changes).chain(&[("revision", "1")]);
        all.map(|(what, version)| ((*what).to_owned(), (*version).to_owned())).collect()
    }

    #[test]
    fn evidence_that_differs_under_the_same_versions_is_the_fault_of_the_change() {
        let error =
            judge("block `x` differs", &with(&[("image", "a")]), &with(&[("image", "b")])).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("out of date") && error.contains("block `x` differs"), "{error}");
    }

    #[test]
    fn evidence_of_another_kubernetes_than_the_pinned_is_the_fault_of_the_change() {
        let error = judge("", &with(&[("kubernetes", "v1.36.4")]), &with(&[])).unwrap_err().to_string();
        assert!(error.contains("is of Kubernetes v1.36.4, pinned is"), "{error}");
    }

    #[test]
    fn evidence_that_differs_under_other_versions_is_skipped_with_their_names() {
        let here = with(&[("engine", "docker 29.1.0"), ("helm", "3.19.0")]);
        let Outcome::Skipped(why) = judge("", &with(&[]), &here).unwrap() else { panic!("not skipped") };
        assert!(why.ends_with("helm 3.19.0 where the evidence is of 4.3.1, engine docker 29.1.0 where the evidence is of podman 4.3.1"), "{why}");
    }

    #[test]
    fn the_committed_record_says_what_it_was_made_with() {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies in the workspace");
        let recorded = versions(&root.join("docs/evidence/statefulset/run.json")).unwrap();
        assert!(PRINTING.iter().all(|what| recorded.contains_key(*what)), "{recorded:?}");
    }
}
