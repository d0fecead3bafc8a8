//! Why something was not done, as data: it becomes words only where somebody reads it.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kinds::Kind;
use crate::text::printable;

/// Lines of a tool's output that are told.
const TAIL_LINES: usize = 15;

/// What kept a step, an experiment or a run from its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Recorded")]
pub struct Failure {
    /// The step it happened in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What could not be done because of it, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<String>,
    /// What failed.
    pub why: Why,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// What was awaited can no longer happen.
    Hopeless {
        /// What was awaited.
        awaited: String,
        /// What will not change by itself.
        stuck: Stuck,
        /// What was seen last.
        seen: LastSeen,
    },
    /// What was awaited did not happen in time.
    Expired {
        /// What was awaited.
        awaited: String,
        /// How long, in seconds.
        limit_s: u64,
        /// What was wrong with the condition itself, judged last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
        /// What was seen last.
        seen: LastSeen,
    },
    /// A tool failed.
    Tool {
        /// Its command line, as one would paste it.
        command: String,
        /// How it ended.
        ended: Ended,
        /// The end of what it printed.
        output: String,
    },
    /// The experiment did not end in time.
    Deadline {
        /// How long it had, in seconds.
        limit_s: u64,
    },
    /// Anything else.
    Other {
        /// What failed, in words.
        says: String,
        /// What that came from, each the cause of the one before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        causes: Vec<String>,
    },
}

/// An object in a state in which it stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stuck {
    /// Its kind; any that an event may be about.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Why, in a word of Kubernetes.
    pub reason: String,
    /// Why, in its sentence.
    pub message: String,
}

/// A trouble that the rules of `explain` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TroubleSeen {
    /// The rule.
    pub rule: String,
    /// What is wrong, in one sentence.
    pub says: String,
    /// How one sees it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<String>,
    /// The commands that mend it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mend: Vec<String>,
    /// What to change where the objects come from.
    pub change: String,
}

impl fmt::Display for TroubleSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.says)?;
        self.seen.iter().try_for_each(|seen| write!(f, "\n    seen: {seen}"))?;
        self.mend.iter().try_for_each(|mend| write!(f, "\n    mend: {mend}"))?;
        write!(f, "\n    chart: {}", self.change)
    }
}

/// What there was when a wait ended in vain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastSeen {
    /// What the condition looked at.
    pub says: String,
    /// The kinds whose watch was down, each with its last error.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub down: BTreeMap<Kind, String>,
    /// What is wrong with the workloads, where a rule knows it: then nobody need read it off their last state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<TroubleSeen>,
    /// The pods by name, each in a few words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pods: BTreeMap<String, String>,
    /// The last events that tell of more than the usual, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventSeen>,
}

/// An event that explains something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventSeen {
    /// Name of the object it is about.
    pub object: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

/// How a tool that failed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// With this exit status.
    Status(i32),
    /// By a signal of somebody else.
    Signal,
    /// By us, after so many seconds.
    Stopped {
        /// The seconds it had.
        limit_s: u64,
    },
    /// By itself, for want of memory.
    OverMemory {
        /// The mebibytes it had.
        limit_mib: u64,
    },
}

/// A failure as a record may hold it: those of older runs hold the words alone.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Recorded {
    /// The words.
    Words(String),
    /// All of it.
    Failure {
        /// The step it happened in.
        step: Option<String>,
        /// What could not be done because of it, outermost first.
        #[serde(default)]
        context: Vec<String>,
        /// What failed.
        why: Box<Why>,
        /// What to do about it.
        next: Option<String>,
    },
}

impl From<Recorded> for Failure {
    fn from(recorded: Recorded) -> Self {
        match recorded {
            Recorded::Words(says) => Self::other(says),
            Recorded::Failure { step, context, why, next } => Self { step, context, why: *why, next },
        }
    }
}

impl From<Why> for Failure {
    fn from(why: Why) -> Self {
        Self { step: None, context: Vec::new(), why, next: None }
    }
}

impl Failure {
    /// A failure that nobody tells apart from others.
    pub fn other(says: impl Into<String>) -> Self {
        Why::Other { says: says.into(), causes: Vec::new() }.into()
    }

    /// What failed, without the step, what was seen meanwhile, and what to do.
    pub fn headline(&self) -> String {
        let why = self.why.headline();
        self.context.iter().map(String::as_str).chain([why.as_str()]).collect::<Vec<_>>().join(": ")
    }

    /// What is behind it: the same for all that one thing breaks, whatever the pod and the namespace that showed it.
    pub fn cause(&self) -> String {
        match &self.why {
            Why::Hopeless { stuck, .. } => format!("{}: {}", stuck.reason, stuck.message),
            Why::Expired { awaited, limit_s, .. } => {
                format!("not within {limit_s} s: {}{awaited}", self.place())
            }
            Why::Tool { .. } | Why::Deadline { .. } | Why::Other { .. } => {
                let words = format!("{}{}", self.place(), self.headline());
                words.lines().next().unwrap_or_default().to_owned()
            }
        }
    }

    /// Of a tool that failed its complaint, which tells more than its command line; otherwise what failed.
    pub fn complaint(&self) -> String {
        if let Why::Tool { output, .. } = &self.why
            && let Some(line) = output.lines().find(|line| line.to_lowercase().starts_with("error: "))
        {
            return line.to_owned();
        }
        self.to_string()
    }

    /// The events that it brings along to explain itself.
    pub fn events(&self) -> &[EventSeen] {
        match &self.why {
            Why::Hopeless { seen, .. } | Why::Expired { seen, .. } => &seen.events,
            Why::Tool { .. } | Why::Deadline { .. } | Why::Other { .. } => &[],
        }
    }

    /// Tells what the rules found, where a wait was in vain.
    #[must_use]
    pub fn explained(mut self, troubles: &[TroubleSeen]) -> Self {
        if let Why::Hopeless { seen, .. } | Why::Expired { seen, .. } = &mut self.why {
            seen.troubles = troubles.to_vec();
        }
        self
    }

    fn place(&self) -> String {
        self.step.iter().map(|step| format!("step `{step}`: ")).collect()
    }
}

impl Why {
    fn headline(&self) -> String {
        match self {
            Self::Hopeless { awaited, stuck, .. } => format!("{awaited}: this can no longer happen: {stuck}"),
            Self::Expired { awaited, limit_s, .. } => format!("{awaited}: not within {limit_s} s"),
            Self::Tool { command, ended, .. } => format!("`{command}` {ended}"),
            Self::Deadline { limit_s } => format!("the experiment did not end within {limit_s} s"),
            Self::Other { says, causes } => {
                [says].into_iter().chain(causes).map(String::as_str).collect::<Vec<_>>().join(": ")
            }
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.place(), self.headline())?;
        match &self.why {
            Why::Hopeless { seen, .. } => write!(f, "{seen}")?,
            Why::Expired { problem, seen, .. } => {
                if let Some(problem) = problem {
                    write!(f, "\nexpression: {problem}")?;
                }
                write!(f, "{seen}")?;
            }
            Why::Tool { output, .. } => {
                let lines: Vec<&str> = output.trim_end().lines().collect();
                for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                    write!(f, "\n{}", printable(line))?;
                }
            }
            Why::Deadline { .. } | Why::Other { .. } => {}
        }
        self.next.iter().try_for_each(|next| write!(f, "\nnext: {next}"))
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}: {}", self.kind.to_lowercase(), self.name, self.reason, self.message)
    }
}

impl fmt::Display for LastSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\nlast seen: {}", self.says)?;
        for (kind, error) in &self.down {
            write!(f, "\n  no watch of {kind} objects: {error}")?;
        }
        if !self.troubles.is_empty() {
            return self.troubles.iter().try_for_each(|trouble| write!(f, "\n  {trouble}"));
        }
        for (name, state) in &self.pods {
            write!(f, "\n  pod {name}: {state}")?;
        }
        self.events.iter().try_for_each(|event| write!(f, "\n  event {event}"))
    }
}

impl fmt::Display for EventSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.object, self.reason, self.message)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "ended with status {status}"),
            Self::Signal => write!(f, "was ended by a signal"),
            Self::Stopped { limit_s } => write!(f, "did not end within {limit_s} s and was stopped"),
            Self::OverMemory { limit_mib } => {
                write!(f, "wanted more than the {limit_mib} MiB of memory it may have")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_str, from_value, json, to_value};

    fn seen() -> LastSeen {
        let event = EventSeen {
            object: "counter-1".to_owned(),
            reason: "FailedScheduling".to_owned(),
            message: "no node matches the claim".to_owned(),
        };
        LastSeen {
            says: "2 of 3".to_owned(),
            troubles: Vec::new(),
            down: [(Kind::StatefulSet, "429 too many requests".to_owned())].into(),
            pods: [("counter-1".to_owned(), "Pending".to_owned())].into(),
            events: vec![event],
        }
    }

    fn all() -> [Failure; 5] {
        let stuck = Stuck {
            kind: "Pod".to_owned(),
            name: "counter-1".to_owned(),
            reason: "ErrImagePull".to_owned(),
            message: "nope".to_owned(),
        };
        let awaited = || "pods ready".to_owned();
        [
            Why::Hopeless { awaited: awaited(), stuck, seen: seen() },
            Why::Expired {
                awaited: awaited(),
                limit_s: 5,
                problem: Some("no such key".to_owned()),
                seen: seen(),
            },
            Why::Tool {
                command: "helm upgrade".to_owned(),
                ended: Ended::Status(1),
                output: "a warning\nError: no chart\n".to_owned(),
            },
            Why::Deadline { limit_s: 420 },
            Why::Other { says: "no cluster".to_owned(), causes: vec!["no answer".to_owned()] },
        ]
        .map(|why| Failure {
            step: Some("install-1".to_owned()),
            context: vec!["to begin with".to_owned()],
            next: Some("look".to_owned()),
            ..why.into()
        })
    }

    #[test]
    fn a_failure_comes_back_from_the_record_as_it_was() {
        for failure in all() {
            assert_eq!(from_value::<Failure>(to_value(&failure).unwrap()).unwrap(), failure);
        }
    }

    #[test]
    fn the_words_that_an_older_record_holds_are_a_failure_too() {
        let words = "step `x`: pods ready: not within 5 s\nlast seen: nothing";
        let failure: Failure = from_value(json!(words)).unwrap();
        assert_eq!(
            (failure.to_string(), failure.cause()),
            (words.to_owned(), "step `x`: pods ready: not within 5 s".to_owned())
        );
        assert!(from_str::<Failure>("{}").is_err());
    }

    #[test]
    fn a_failure_in_words_says_where_what_and_what_was_seen_last() {
        let told = all().map(|failure| failure.to_string()).join("\n\n");
        let expected = "\
step `install-1`: to begin with: pods ready: this can no longer happen: pod counter-1: ErrImagePull: nope
last seen: 2 of 3
  no watch of StatefulSet objects: 429 too many requests
  pod counter-1: Pending
  event counter-1 FailedScheduling: no node matches the claim
next: look

step `install-1`: to begin with: pods ready: not within 5 s
expression: no such key
last seen: 2 of 3
  no watch of StatefulSet objects: 429 too many requests
  pod counter-1: Pending
  event counter-1 FailedScheduling: no node matches the claim
next: look

step `install-1`: to begin with: `helm upgrade` ended with status 1
a warning
Error: no chart
next: look

step `install-1`: to begin with: the experiment did not end within 420 s
next: look

step `install-1`: to begin with: no cluster: no answer
next: look";
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_behind_a_failure_names_no_pod_and_no_namespace() {
        let [hopeless, expired, tool, ..] = all();
        assert_eq!(hopeless.cause(), "ErrImagePull: nope");
        assert_eq!(expired.cause(), "not within 5 s: step `install-1`: pods ready");
        assert_eq!(tool.cause(), "step `install-1`: to begin with: `helm upgrade` ended with status 1");
        assert_eq!(tool.complaint(), "Error: no chart");
    }
}
