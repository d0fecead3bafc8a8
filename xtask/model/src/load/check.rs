//! What only shows when the whole lab is known: ids, points, names in expressions, commands.

use std::collections::{BTreeSet, HashMap};

use super::places::{Node, Place, Source};
use super::{Problem, nearest};
use crate::expression::{CEL_FUNCTIONS, Compile, Compiled, Expression, FUNCTIONS, Fault};
use crate::kinds::{self, NAMESPACE_CHARS, StepKind, is_name};
use crate::roles::Roles;
use crate::spec::{Experiment, Install, LabSpec, Mend, Step, Uninstall, Visit};
use crate::verbs;

/// Labs and experiments share a namespace's name.
pub(super) const NAME_CHARS: usize = 40;
/// What Helm takes for the name of a release: it stands in names of objects, and in paths of ours.
const RELEASE_CHARS: usize = 53;

/// What means something in CEL already, or may one day:
/// <https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax>.
const RESERVED: [&str; 20] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "while",
];

/// Everything in a lab that makes no sense. `root` is the same file, for the places.
pub(super) fn problems(spec: &LabSpec, file: &Source<'_>, root: &Node) -> Vec<Problem> {
    let mut check = Check { file, root, found: Vec::new() };
    if spec.experiments.is_empty() {
        check.say("experiments", "a lab without experiments proves nothing");
    }
    check.names(spec);
    check.points(spec);
    for (position, experiment) in spec.experiments.iter().enumerate() {
        check.experiment(experiment, spec.needs.nodes, &format!("experiments/{position}"));
    }
    check.found
}

/// The fields of `target` that the lab's expressions read.
pub fn target_fields(spec: &LabSpec) -> Vec<String> {
    let mut read = BTreeSet::new();
    let mut note = |made: Made<'_>| {
        let fields = made.into_iter().flatten().flat_map(|(_, expression)| expression.reads().fields);
        read.extend(fields.filter(|(of, _)| of == "target").map(|(_, field)| field.name));
    };
    for experiment in &spec.experiments {
        experiment.steps.iter().flat_map(texts).for_each(|text| note(text.made));
        experiment.claims.iter().for_each(|claim| note(made(&claim.expect)));
    }
    read.into_iter().collect()
}

/// The expressions of a text, each with the character at which it begins, or what is wrong with it.
type Made<'a> = Result<Vec<(usize, &'a Expression)>, &'a Fault>;

fn made<T: Compile>(compiled: &Compiled<T>) -> Made<'_> {
    compiled.get().map(T::expressions)
}

/// A text of a step that holds expressions.
struct Held<'a> {
    key: String,
    text: &'a str,
    made: Made<'a>,
}

struct Check<'a> {
    file: &'a Source<'a>,
    root: &'a Node,
    found: Vec<Problem>,
}

/// A text of the file, and what is said before a fault in it.
#[derive(Clone, Copy)]
struct Text<'a> {
    path: &'a str,
    text: &'a str,
    label: &'a str,
}

/// What expressions may read at some point of an experiment.
#[derive(Clone, Default)]
struct Known<'a> {
    variables: Vec<&'a str>,
    /// The fields of a variable, where they are the same whatever the cluster does.
    fields: HashMap<&'a str, Vec<&'a str>>,
}

impl Check<'_> {
    fn say(&mut self, path: &str, says: impl Into<String>) {
        self.found.push(Problem::new(self.root.find(path).at, says));
    }

    /// Says what is wrong at a character of a text.
    fn say_inside(&mut self, text: Text<'_>, at: Option<usize>, says: &str) {
        let node = self.root.find(text.path);
        let place: Place = at.map_or(node.at, |at| node.inside(self.file, text.text, at));
        self.found.push(Problem::new(place, format!("{}: {says}", text.label)));
    }

    fn names(&mut self, spec: &LabSpec) {
        self.name("lab", &spec.lab, NAME_CHARS);
        self.name("target/release", &spec.target.release, RELEASE_CHARS);
        let (mut experiments, mut claims, mut criteria) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (position, criterion) in spec.rubric.iter().enumerate() {
            let path = format!("rubric/{position}/id");
            self.name(&path, &criterion.id, NAMESPACE_CHARS);
            self.once("criterion", &criterion.id, path, &mut criteria);
        }
        for (position, experiment) in spec.experiments.iter().enumerate() {
            let path = format!("experiments/{position}/id");
            self.name(&path, &experiment.id, NAME_CHARS);
            let namespace = format!("{}-{}", spec.lab, experiment.id);
            if namespace.len() > NAMESPACE_CHARS {
                let says = format!("namespace `{namespace}` has more than {NAMESPACE_CHARS} characters");
                self.say(&path, says);
            }
            self.once("experiment", &experiment.id, path, &mut experiments);
            for (place, claim) in experiment.claims.iter().enumerate() {
                let path = format!("experiments/{position}/claims/{place}/id");
                self.name(&path, &claim.id, NAMESPACE_CHARS);
                self.once("claim", &claim.id, path, &mut claims);
            }
        }
    }

    fn name(&mut self, path: &str, id: &str, most: usize) {
        let fits = id.len() <= most && is_name(id) && !id.contains('.');
        if !fits {
            let says = format!("`{id}` is no name: up to {most} lower-case letters, digits and inner dashes");
            self.say(path, says);
        }
    }

    fn once<'b>(&mut self, what: &str, id: &'b str, path: String, seen: &mut HashMap<&'b str, String>) {
        match seen.get(id) {
            Some(first) => {
                let line = self.root.find(first).at.line;
                self.say(&path, format!("another {what} is called `{id}`, in line {line}"));
            }
            None => drop(seen.insert(id, path)),
        }
    }

    /// Every claim counts for a criterion, and every criterion's points can be earned, no more and no fewer.
    fn points(&mut self, spec: &LabSpec) {
        let known: Vec<&str> = spec.rubric.iter().map(|criterion| criterion.id.as_str()).collect();
        let mut sums: HashMap<&str, u64> = HashMap::new();
        for (position, experiment) in spec.experiments.iter().enumerate() {
            for (place, claim) in experiment.claims.iter().enumerate() {
                let path = format!("experiments/{position}/claims/{place}");
                if !known.contains(&claim.criterion.as_str()) {
                    let says = format!(
                        "claim `{}` counts for `{}`, which the rubric does not have{}",
                        claim.id,
                        claim.criterion,
                        hint(&claim.criterion, &known)
                    );
                    self.say(&format!("{path}/criterion"), says);
                }
                let points = self.hundredths(&format!("{path}/points"), claim.points);
                *sums.entry(&claim.criterion).or_default() += points;
                for (nth, look_at) in claim.look_at.iter().enumerate() {
                    // A kind begins with a capital letter, whether or not it is one that is watched.
                    let is_place = look_at.split_once('.').is_some_and(|(kind, key)| {
                        kind.starts_with(|c: char| c.is_ascii_uppercase()) && !key.is_empty()
                    });
                    if !is_place {
                        let says =
                            format!("{look_at:?} is no kind with a key, as in `StatefulSet.serviceName`");
                        self.say(&format!("{path}/look_at/{nth}"), says);
                    }
                }
            }
        }
        for (position, criterion) in spec.rubric.iter().enumerate() {
            let path = format!("rubric/{position}/points");
            let points = self.hundredths(&path, criterion.points);
            let sum = sums.get(criterion.id.as_str()).copied().unwrap_or(0);
            let (id, worth, claimed) = (&criterion.id, written(points), written(sum));
            if criterion.sections.is_empty() && sum != points {
                self.say(
                    &path,
                    format!("criterion `{id}` is worth {worth} points, its claims add up to {claimed}"),
                );
            } else if !criterion.sections.is_empty() && sum >= points {
                let says = format!(
                    "criterion `{id}` is worth {worth} points, its claims add up to {claimed} and leave its sections none"
                );
                self.say(&path, says);
            }
        }
    }

    /// Decimal fractions have no exact sum; whole hundredths have.
    fn hundredths(&mut self, path: &str, points: f64) -> u64 {
        let hundredths = points * 100.0;
        if (hundredths - hundredths.round()).abs() > 1e-6 {
            self.say(path, format!("{points} points are no whole hundredths"));
        }
        // What is out of range was told by the schema.
        hundredths.round().clamp(0.0, 1e6) as u64
    }

    /// Every expression compiles, and names only what was recorded before it.
    fn experiment(&mut self, experiment: &Experiment, nodes: usize, path: &str) {
        let place = format!("experiment `{}`", experiment.id);
        // What is watched changes all the time: texts of commands read only what was recorded.
        let mut recorded = Known::default();
        recorded.add("target", Some(Roles::fields()));
        let several = (nodes > 1).then_some(kinds::NODES.variable).flatten();
        let watched: Vec<&str> = kinds::variables().chain(several).chain(["timeline"]).collect();
        if experiment.steps.is_empty() {
            self.say(&format!("{path}/steps"), format!("{place} does nothing"));
        }
        for (position, need) in experiment.needs.iter().enumerate() {
            if need.kind.is_empty() || !need.kind.chars().all(|c| c.is_ascii_alphanumeric()) {
                let path = format!("{path}/needs/{position}/kind");
                self.say(&path, format!("{place}: `{}` is no kind", need.kind));
            }
            if need.field.split('.').any(str::is_empty) {
                let path = format!("{path}/needs/{position}/field");
                self.say(&path, format!("{place}: `{}` is no way to a field", need.field));
            }
        }
        for (position, step) in experiment.steps.iter().enumerate() {
            let path = format!("{path}/steps/{position}/{}", step.kind());
            let label = format!("{place}, step {} ({})", position + 1, step.kind());
            let all = recorded.with(&watched);
            for Held { key, text, made } in texts(step) {
                let text = Text { path: &format!("{path}/{key}"), text, label: &label };
                self.expressions(text, made, if key == "until" { &all } else { &recorded });
            }
            self.command(step, nodes > 1, &path, &label);
            if let Step::Node(step) = step {
                let acts: Vec<&str> = step.acts().map(|(_, key, _)| key).collect();
                if acts.len() != 1 {
                    let told = if acts.is_empty() { "nothing".to_owned() } else { acts.join(" and ") };
                    let says = "of pause, resume, stop, start, cut and join exactly one is done to a node";
                    self.say(&path, format!("{label}: {says}, here it is {told}"));
                }
                if nodes < 2 {
                    let says = "it needs nodes of the lab's own: `needs: { nodes: 3 }` asks for them";
                    self.say(&path, format!("{label}: {says}"));
                }
            }
            let before = &experiment.steps[..position];
            let refers = match step {
                Step::Mend(Mend { from, .. }) => Some(("from", from, StepKind::Explain)),
                Step::Visit(Visit { inside: Some(seen), .. }) => Some(("inside", seen, StepKind::Observe)),
                _ => None,
            };
            if let Some((key, name, kind)) = refers {
                let known = before.iter().filter(|step| step.kind() == kind).filter_map(Step::name);
                let known: Vec<&str> = known.collect();
                if !known.contains(&name.as_str()) {
                    let hint = hint(name, &known);
                    let says = format!("{label}: no `{kind}` before is called `{name}`{hint}");
                    self.say(&format!("{path}/{key}"), says);
                }
            }
            if let Step::Install(Install { release: Some(release), .. })
            | Step::Upgrade(Install { release: Some(release), .. })
            | Step::Uninstall(Uninstall { release: Some(release), .. }) = step
            {
                self.name(&format!("{path}/release"), release, RELEASE_CHARS);
            }
            if let Some(name) = step.name() {
                let path = format!("{path}/as");
                if recorded.variables.contains(&name) || watched.contains(&name) {
                    self.say(&path, format!("{label}: `{name}` is taken"));
                } else if !readable(name) {
                    self.say(
                        &path,
                        format!("{label}: no expression can read `{name}`: letters, digits and _"),
                    );
                }
                recorded.add(name, fields(step));
            }
        }
        if experiment.claims.is_empty() {
            self.say(&format!("{path}/claims"), format!("{place} claims nothing"));
        }
        let known = recorded.with(&watched);
        for (position, claim) in experiment.claims.iter().enumerate() {
            let path = format!("{path}/claims/{position}/expect");
            let label = format!("claim `{}`", claim.id);
            let text = Text { path: &path, text: claim.expect.text(), label: &label };
            self.expressions(text, made(&claim.expect), &known);
        }
    }

    fn expressions(&mut self, text: Text<'_>, made: Made<'_>, known: &Known<'_>) {
        match made {
            Ok(made) => {
                made.into_iter()
                    .for_each(|(begins, expression)| self.expression(text, expression, begins, known));
            }
            Err(fault) => self.say_inside(text, fault.at, &fault.says),
        }
    }

    /// `begins` is where in the text the expression begins.
    fn expression(&mut self, text: Text<'_>, expression: &Expression, begins: usize, known: &Known<'_>) {
        let reads = expression.reads();
        for name in &reads.variables {
            if !known.variables.contains(&name.name.as_str()) {
                let hint = hint(&name.name, &known.variables);
                let says = format!("nothing called `{}` is recorded before{hint}", name.name);
                self.say_inside(text, name.at.map(|at| begins + at), &says);
            }
        }
        for (of, field) in &reads.fields {
            let Some(fields) = known.fields.get(of.as_str()) else { continue };
            if !fields.contains(&field.name.as_str()) {
                let says = format!("`{of}` has no `{}`{}", field.name, hint(&field.name, fields));
                self.say_inside(text, field.at.map(|at| begins + at), &says);
            }
        }
        for function in expression.unknown_functions() {
            let hint = hint(&function.name, &[&FUNCTIONS[..], &CEL_FUNCTIONS].concat());
            let says = format!("there is no function `{}`{hint}", function.name);
            self.say_inside(text, function.at.map(|at| begins + at), &says);
        }
    }

    /// A command line that a lab may run.
    fn command(&mut self, step: &Step, nodes: bool, path: &str, label: &str) {
        let Step::Run(step) = step else { return };
        let Ok(line) = step.command.get() else { return };
        if let Some(refusal) = verbs::refusal(line.words(), nodes) {
            let text = Text { path: &format!("{path}/command"), text: step.command.text(), label };
            // Where it stands as it is; otherwise, with quotes in it, the place of the whole is told.
            let byte = text.text.find(&refusal.word).filter(|_| !refusal.word.is_empty());
            let at = byte.map(|byte| text.text[..byte].chars().count());
            self.say_inside(text, at, &refusal.says);
        }
    }
}

impl<'a> Known<'a> {
    fn add(&mut self, variable: &'a str, fields: Option<Vec<&'a str>>) {
        self.variables.push(variable);
        if let Some(fields) = fields {
            self.fields.insert(variable, fields);
        }
    }

    fn with(&self, watched: &[&'a str]) -> Self {
        let mut all = self.clone();
        all.variables.extend(watched);
        all
    }
}

/// Whether an expression can read a variable of this name.
fn readable(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !RESERVED.contains(&name)
}

/// What a step records, where that is known beforehand; what is recorded by pod is not.
fn fields(step: &Step) -> Option<Vec<&'static str>> {
    let of_command = ["stdout", "stderr", "status"];
    let mut fields: Vec<&str> = match step {
        Step::Install(_) | Step::Upgrade(_) => [&of_command[..], &["set"]].concat(),
        Step::Uninstall(_) | Step::Run(_) | Step::Mend(_) | Step::Node(_) => of_command.to_vec(),
        Step::Explain(_) => vec!["troubles", "says", "mend", "stdout", "status"],
        Step::Observe(_) => kinds::variables().chain(kinds::NODES.variable).collect(),
        Step::Await(_) => Vec::new(),
        Step::Hold(_) => vec!["events"],
        Step::Exec(_) | Step::Resolve(_) | Step::Visit(_) => return None,
    };
    fields.extend(["started_ms", "ended_ms"]);
    Some(fields)
}

/// The texts of a step that hold expressions.
fn texts(step: &Step) -> Vec<Held<'_>> {
    match step {
        Step::Run(step) => vec![held("command", &step.command)],
        Step::Exec(step) => listed("pods", &step.pods).chain([held("command", &step.command)]).collect(),
        Step::Resolve(step) => listed("pods", &step.pods).chain(listed("names", &step.names)).collect(),
        Step::Visit(step) => listed("pods", &step.pods).chain([held("path", &step.path)]).collect(),
        Step::Await(step) => vec![held("until", &step.until)],
        Step::Node(step) => step.acts().map(|(_, key, node)| held(key, node)).collect(),
        _ => Vec::new(),
    }
}

fn held<'a, T: Compile>(key: &str, text: &'a Compiled<T>) -> Held<'a> {
    Held { key: key.to_owned(), text: text.text(), made: made(text) }
}

fn listed<'a, T: Compile>(key: &'static str, texts: &'a [Compiled<T>]) -> impl Iterator<Item = Held<'a>> {
    texts.iter().enumerate().map(move |(position, text)| held(&format!("{key}/{position}"), text))
}

fn hint(name: &str, known: &[&str]) -> String {
    nearest(name, known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

fn written(hundredths: u64) -> String {
    crate::record::written(hundredths as f64 / 100.0)
}
