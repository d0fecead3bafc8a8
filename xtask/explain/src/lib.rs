//! What is wrong with a StatefulSet, how one sees it, why Kubernetes acts so, and what mends it: rules over plain
//! objects, whether a cluster has them or a chart renders them.

mod objects;
mod mend;
#[cfg(test)]
mod fixture;
mod rules;
mod unwell;

use serde::Serialize;

pub use objects::{FAILED_RELEASE, Objects, Origin};
pub use rules::RULES;
pub use unwell::unwell;

/// A trouble that people have, as data: what is said of every case of it, and how a case is found.
#[derive(Debug)]
pub struct Rule {
    /// Its name.
    pub id: &'static str,
    /// What a person sees first.
    pub symptom: &'static str,
    /// Why Kubernetes acts so.
    pub why: &'static str,
    /// Where that is written.
    pub source: &'static str,
    /// What not to do.
    pub not: &'static str,
    /// The cases among some objects. Small and pure: it looks at nothing else.
    find: fn(&Objects) -> Vec<Case>,
}

/// One case of a trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// The object that it is about: `StatefulSet web`.
    pub about: String,
    /// What is wrong, in one sentence.
    pub says: String,
    /// How one sees it: object, field and value, or an event.
    pub seen: Vec<String>,
    /// The commands that mend it, one after the other, as one types them. There are none for a chart, and none where
    /// only a person knows what it should be.
    pub mend: Vec<String>,
    /// What to change where the objects come from, so that it stays mended.
    pub change: String,
    /// What mending costs.
    pub costs: String,
    /// The question that tells this cause from another that looks alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
}

/// A trouble that was found.
#[derive(Debug, Serialize)]
pub struct Trouble {
    /// The rule that knows it.
    pub rule: &'static str,
    /// The case.
    #[serde(flatten)]
    pub case: Case,
    /// Why Kubernetes acts so.
    pub why: &'static str,
    /// Where that is written.
    pub source: &'static str,
    /// What not to do.
    pub not: &'static str,
}

/// All troubles among some objects, in the order of the rules. Nothing, where nothing is unambiguously wrong.
pub fn explain(objects: &Objects) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    for rule in RULES {
        troubles.extend((rule.find)(objects).into_iter().map(|mut case| {
            if !objects.live() {
                case.mend.clear();
            }
            Trouble { rule: rule.id, case, why: rule.why, source: rule.source, not: rule.not }
        }));
    }
    troubles
}

/// Whether a case is about a workload: itself, one of its pods or claims, or its governing service.
pub fn concerns(objects: &Objects, workload: &serde_json::Value, case: &Case) -> bool {
    let Some((kind, name)) = case.about.split_once(' ') else { return false };
    let ours = objects::called(workload);
    match kind {
        "Pod" => objects.pods_of(workload).iter().any(|pod| objects::name(pod) == name),
        "PersistentVolumeClaim" => objects::claim_templates(workload).any(|template| {
            let prefix = format!("{}-{}-", objects::name(template), objects::name(workload));
            name.strip_prefix(&prefix).is_some_and(|ordinal| ordinal.parse::<u32>().is_ok())
        }),
        "Service" => objects::text(workload, "/spec/serviceName") == name || case.says.contains(&ours),
        _ => case.about == ours || case.says.contains(&ours),
    }
}

impl Case {
    fn of(about: String, says: String) -> Self {
        let (seen, mend) = (Vec::new(), Vec::new());
        Self { about, says, seen, mend, change: String::new(), costs: String::new(), question: None }
    }

    fn seen(mut self, what: impl Into<String>) -> Self {
        self.seen.push(what.into());
        self
    }

    fn mend(mut self, commands: impl IntoIterator<Item = String>) -> Self {
        self.mend.extend(commands);
        self
    }

    fn change(self, what: impl Into<String>) -> Self {
        Self { change: what.into(), ..self }
    }

    fn costs(self, what: impl Into<String>) -> Self {
        Self { costs: what.into(), ..self }
    }

    fn question(self, what: impl Into<String>) -> Self {
        Self { question: Some(what.into()), ..self }
    }
}
