//! Reads a lab file and finds everything wrong with it, all at once, without a cluster.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::exit::BadInput;
use crate::lab::Lab;
use crate::lab::expression::{Expression, Template};
use crate::lab::spec::{Experiment, LabSpec, Step};
use crate::run::timeline::KINDS;

/// Points are compared as hundredths: decimal fractions have no exact sum.
const POINT_TOLERANCE: f64 = 0.005;

/// What a namespace's name may have: <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>.
const NAMESPACE_CHARS: usize = 63;

/// Reads a lab file.
///
/// # Errors
/// [`BadInput`] with file, line and column of what can't be read, or with everything that makes no sense.
pub fn load(path: &Path) -> Result<Lab> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| BadInput(format!("cannot read lab file {shown}: {error}")))?;
    let spec: LabSpec = serde_saphyr::from_str(&text).map_err(|error| {
        let place = error.location().map_or(String::new(), |at| format!(":{}:{}", at.line(), at.column()));
        BadInput(format!(
            "{shown}{place}: {}{}",
            first_line(&error.to_string()),
            suggestion(&error.to_string())
        ))
    })?;
    let problems = problems(&spec);
    if !problems.is_empty() {
        let list: Vec<String> =
            problems.iter().map(|problem| locate(&text, &shown.to_string(), problem)).collect();
        return Err(BadInput(list.join("\n")).into());
    }
    Ok(Lab { path: path.to_owned(), spec, shipped: false, foreign: false })
}

/// The known name that is nearest to a misspelt one, when it is near at all.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &&&str| strsim::damerau_levenshtein(name, other);
    known.iter().min_by_key(distance).filter(|best| distance(best) <= 1 + name.len() / 3).copied()
}

/// Something wrong, and the text in the file where it is.
struct Problem {
    anchor: String,
    says: String,
}

fn problem(anchor: impl Into<String>, says: impl Into<String>) -> Problem {
    Problem { anchor: anchor.into(), says: says.into() }
}

fn problems(spec: &LabSpec) -> Vec<Problem> {
    let mut found = Vec::new();
    if spec.experiments.is_empty() {
        found.push(problem("experiments", "a lab without experiments proves nothing"));
    }
    let experiments = spec.experiments.iter().map(|experiment| experiment.id.as_str());
    let claims = spec
        .experiments
        .iter()
        .flat_map(|experiment| experiment.claims.iter().map(|claim| claim.id.as_str()));
    let criteria = spec.rubric.iter().map(|criterion| criterion.id.as_str());
    for (what, ids) in [
        ("experiment", experiments.collect::<Vec<_>>()),
        ("claim", claims.collect()),
        ("criterion", criteria.collect()),
    ] {
        duplicates(what, &ids, &mut found);
    }
    for id in spec.experiments.iter().map(|experiment| &experiment.id).chain([&spec.lab]) {
        let fits =
            id.len() <= 40 && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !fits || id.is_empty() || id.starts_with('-') || id.ends_with('-') {
            let says = format!("`{id}` is no name: up to 40 lower-case letters, digits and inner dashes");
            found.push(problem(id, says));
        }
    }
    for experiment in &spec.experiments {
        let namespace = format!("{}-{}", spec.lab, experiment.id);
        if namespace.len() > NAMESPACE_CHARS {
            let says = format!("namespace `{namespace}` has more than {NAMESPACE_CHARS} characters");
            found.push(problem(format!("id: {}", experiment.id), says));
        }
    }
    points(spec, &mut found);
    for experiment in &spec.experiments {
        expressions(experiment, &mut found);
    }
    found
}

fn duplicates(what: &str, ids: &[&str], found: &mut Vec<Problem>) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for id in ids {
        *counts.entry(id).or_default() += 1;
    }
    for (id, count) in counts.into_iter().filter(|(_, count)| *count > 1) {
        found.push(problem(format!("id: {id}"), format!("{count} {what}s are called `{id}`")));
    }
}

/// Every claim counts for a criterion, and every criterion's points can be earned, no more and no fewer.
fn points(spec: &LabSpec, found: &mut Vec<Problem>) {
    let known: Vec<&str> = spec.rubric.iter().map(|criterion| criterion.id.as_str()).collect();
    let claims = || spec.experiments.iter().flat_map(|experiment| &experiment.claims);
    for claim in claims() {
        if !known.contains(&claim.criterion.as_str()) {
            let hint = nearest(&claim.criterion, &known).map(|near| format!(" (did you mean `{near}`?)"));
            let says = format!(
                "claim `{}` counts for `{}`, which the rubric does not have{}",
                claim.id,
                claim.criterion,
                hint.unwrap_or_default()
            );
            found.push(problem(format!("criterion: {}", claim.criterion), says));
        }
        if !claim.points.is_finite() || claim.points < 0.0 {
            found.push(problem(
                format!("id: {}", claim.id),
                format!("claim `{}` is worth {} points", claim.id, claim.points),
            ));
        }
    }
    for criterion in &spec.rubric {
        // Not `sum`: an empty one is -0, which nobody wants to read.
        let of_criterion = claims().filter(|claim| claim.criterion == criterion.id);
        let sum = of_criterion.fold(0.0, |sum, claim| sum + claim.points);
        let (title, points) = (&criterion.id, criterion.points);
        let says = if criterion.sections.is_empty() && (sum - points).abs() > POINT_TOLERANCE {
            format!("criterion `{title}` is worth {points} points, its claims add up to {sum:.2}")
        } else if sum > points + POINT_TOLERANCE {
            format!("criterion `{title}` is worth {points} points, its claims alone add up to {sum:.2}")
        } else {
            continue;
        };
        found.push(problem(format!("id: {title}"), says));
    }
}

/// Every expression compiles, and names only what was recorded before it.
fn expressions(experiment: &Experiment, found: &mut Vec<Problem>) {
    // What is watched changes all the time: texts of commands read only what was recorded.
    let mut recorded: Vec<&str> = vec!["target"];
    let mut watched: Vec<&str> = vec!["timeline"];
    watched.extend(KINDS.iter().map(|(_, variable)| *variable));
    let place = format!("experiment `{}`", experiment.id);
    for (position, step) in experiment.steps.iter().enumerate() {
        let label = format!("{place}, step {} ({})", position + 1, step.kind());
        for text in texts(step) {
            match Template::compile(text) {
                Ok(template) => template.expressions().for_each(|e| check(e, text, &label, &recorded, found)),
                Err(error) => found.push(problem(text, format!("{label}: {error}"))),
            }
        }
        if let Step::Await(step) = step {
            compile(&step.until, &label, &[&recorded[..], &watched].concat(), found);
        }
        if let Some(name) = step.name() {
            if recorded.contains(&name) || watched.contains(&name) {
                found.push(problem(format!("as: {name}"), format!("{label}: `{name}` is taken")));
            }
            recorded.push(name);
        }
    }
    if experiment.claims.is_empty() {
        found.push(problem(format!("id: {}", experiment.id), format!("{place} claims nothing")));
    }
    for claim in &experiment.claims {
        let known = [&recorded[..], &watched].concat();
        compile(&claim.expect, &format!("claim `{}`", claim.id), &known, found);
    }
}

fn compile(source: &str, label: &str, known: &[&str], found: &mut Vec<Problem>) {
    match Expression::compile(source) {
        Ok(expression) => check(&expression, source, label, known, found),
        Err(error) => found.push(problem(source, format!("{label}: {error}"))),
    }
}

fn check(expression: &Expression, source: &str, label: &str, known: &[&str], found: &mut Vec<Problem>) {
    for name in expression.variables() {
        if !known.contains(&name.as_str()) {
            let hint =
                nearest(&name, known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            found.push(problem(source, format!("{label}: nothing called `{name}` is recorded before{hint}")));
        }
    }
    for name in expression.unknown_functions() {
        found.push(problem(source, format!("{label}: there is no function `{name}`")));
    }
}

/// The texts of a step that may hold `${…}`.
fn texts(step: &Step) -> Vec<&str> {
    let mut texts: Vec<&str> = Vec::new();
    match step {
        Step::Run(step) => texts.push(&step.command),
        Step::Exec(step) => {
            texts.push(&step.command);
            texts.extend(step.pods.iter().map(String::as_str));
        }
        Step::Resolve(step) => texts.extend(step.pods.iter().chain(&step.names).map(String::as_str)),
        Step::Visit(step) => {
            texts.push(&step.path);
            texts.extend(step.pods.iter().map(String::as_str));
        }
        _ => {}
    }
    texts
}

/// `file:line: what`, the line being the first that holds the anchor.
fn locate(text: &str, file: &str, problem: &Problem) -> String {
    let anchor = problem.anchor.trim().lines().next().unwrap_or_default().trim();
    let found =
        text.lines().enumerate().find_map(|(line, content)| Some((line + 1, content.find(anchor)? + 1)));
    match found.filter(|_| !anchor.is_empty()) {
        Some((line, column)) => format!("{file}:{line}:{column}: {}", problem.says),
        None => format!("{file}: {}", problem.says),
    }
}

/// What is wrong in one line, without the place that stands before it anyway.
fn first_line(error: &str) -> &str {
    let line = error.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unreadable");
    let line = line.strip_prefix("error: ").unwrap_or(line);
    match line.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((place, says)) if place.contains(" column ") => says,
        _ => line,
    }
}

/// Names the nearest known key, read off "unknown field `x`, expected one of a, b".
fn suggestion(error: &str) -> String {
    let Some((problem, expected)) = first_line(error).split_once(", expected ") else {
        return String::new();
    };
    let Some(wrong) = problem.split('`').nth(1) else {
        return String::new();
    };
    let known: Vec<&str> = expected
        .trim_start_matches("one of ")
        .split(&[',', ' ', '`'][..])
        .filter(|name| !name.is_empty())
        .collect();
    nearest(wrong, &known).map(|near| format!("\n  did you mean `{near}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "\
lab: small
title: A small lab
rubric:
  - { id: all, title: All of it, points: 1 }
target: { chart: ../chart, release: counter }
experiments:
  - id: one
    question: Is it so?
    steps:
      - install: { as: start }
      - observe: { as: seen }
    claims:
      - { id: so, says: It is so., criterion: all, points: 1, expect: 'size(seen.pods) == 3' }
";

    fn load_text(text: &str) -> Result<Lab, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab.yaml");
        std::fs::write(&path, text).unwrap();
        load(&path).map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
    }

    #[test]
    fn the_shipped_labs_are_sound() {
        let labs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/labs");
        let files = std::fs::read_dir(labs).unwrap().map(|entry| entry.unwrap().path());
        let mut count = 0;
        for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
            load(&file).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
        assert!(count > 0);
    }

    #[test]
    fn a_sound_lab_is_taken() {
        assert_eq!(load_text(SOUND).unwrap().spec.lab, "small");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_its_nearest_name() {
        let error = load_text(&SOUND.replace("question:", "qestion:")).unwrap_err();
        assert!(error.starts_with("lab.yaml:8:5: ") && error.contains("qestion"), "{error}");
        assert!(error.ends_with("did you mean `question`?"), "{error}");
    }

    #[test]
    fn everything_that_makes_no_sense_is_told_at_once() {
        let text = SOUND
            .replace("points: 1, expect", "points: 2, expect")
            .replace("criterion: all", "criterion: al")
            .replace("seen.pods", "sean.pods")
            .replace("id: so,", "id: Not a name,");
        let error = load_text(&text).unwrap_err();
        for expected in [
            "lab.yaml:13:",
            "claim `Not a name` counts for `al`, which the rubric does not have (did you mean `all`?)",
            "criterion `all` is worth 1 points, its claims add up to 0.00",
            "nothing called `sean` is recorded before (did you mean `seen`?)",
        ] {
            assert!(error.contains(expected), "{expected} is not in:\n{error}");
        }
    }

    #[test]
    fn names_are_unique_and_expressions_compile() {
        let twice = SOUND.replace("{ as: seen }", "{ as: start }").replace("seen.pods", "start.pods");
        assert!(load_text(&twice).unwrap_err().contains("`start` is taken"));
        let broken = SOUND.replace("size(seen.pods) == 3", "size(seen.pods ==");
        assert!(load_text(&broken).unwrap_err().contains("claim `so`: "));
        let unknown = SOUND.replace("size(seen.pods) == 3", "sise(seen.pods) == 3");
        assert!(load_text(&unknown).unwrap_err().contains("there is no function `sise`"));
    }

    #[test]
    fn the_text_of_a_command_reads_only_what_was_recorded() {
        let text = SOUND.replace(
            "- observe:",
            "- exec: { command: 'echo ${pods.size()} ${target.pods[0]}' }\n      - observe:",
        );
        assert!(load_text(&text).unwrap_err().contains("nothing called `pods` is recorded"));
    }

    #[test]
    fn a_namespace_that_would_be_too_long_is_told_before_a_cluster_refuses_it() {
        let long = "a".repeat(40);
        let text =
            SOUND.replace("lab: small", &format!("lab: {long}")).replace("id: one", &format!("id: {long}"));
        assert!(load_text(&text).unwrap_err().contains("more than 63 characters"));
    }

    #[test]
    fn the_examples_of_the_guide_are_sound() {
        let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/WRITING-LABS.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        let blocks = guide.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
        let labs: Vec<&str> = blocks.filter(|block| block.starts_with("lab:")).collect();
        assert!(!labs.is_empty());
        labs.into_iter().for_each(|lab| drop(load_text(lab).unwrap()));
    }

    #[test]
    fn experiments_can_be_chosen_by_name_only() {
        let lab = load_text(SOUND).unwrap();
        assert_eq!(lab.choose(&[]).unwrap().len(), 1);
        let error = lab.choose(&["onne".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("did you mean `one`?"), "{error}");
    }
}
