//! Whether a page speaks of the concepts that are asked for. Whether what it says is right, no program can tell.

use super::markdown::{Line, Page};
use super::missing;
use super::topics::{
    self, DEPLOYMENT, DIFFERENCES, DNS, GUARANTEES, HEADLESS, NO_DEPLOYMENT, REASONS, Topic,
};
use crate::evidence::grade::Under;

/// The words that an overview has at least.
const OVERVIEW_WORDS: usize = 15;

/// Whether it says what a StatefulSet guarantees.
pub(super) fn guarantees(page: &Page) -> Under {
    let words = words(&about(page, &[Topic::Concepts, Topic::Overview]));
    let named = |(_, by): &&(&str, &str)| topics::names(&words, by);
    let (named, not_named): (Vec<_>, Vec<_>) = GUARANTEES.iter().partition(named);
    let list = |of: &[&(&str, &str)]| of.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" and ");
    let why = match named.as_slice() {
        [] => "nothing says what a StatefulSet guarantees: identity, storage, ordering".to_owned(),
        [_] => {
            format!("of what a StatefulSet guarantees {} is named, not {}", list(&named), list(&not_named))
        }
        _ => return Under::Sound,
    };
    missing(page, Topic::Concepts, why)
}

/// Whether it says how a StatefulSet differs from a Deployment.
pub(super) fn deployment(page: &Page) -> Under {
    let compares = |text: &String| {
        let text = NO_DEPLOYMENT.split(", ").fold(text.clone(), |text, other| text.replace(other, ""));
        let differences = DIFFERENCES.iter().filter(|words| topics::names(&text, words)).count();
        topics::names(&text, DEPLOYMENT) && differences >= 2
    };
    let mut texts = page.texts(&[Topic::Concepts, Topic::Overview], &[Topic::Concepts]);
    if texts.is_empty() {
        texts = page.texts(&[], &[]);
    }
    match texts.iter().any(compares) {
        true => Under::Sound,
        false => missing(page, Topic::Concepts, "nothing says how it differs from a Deployment".to_owned()),
    }
}

/// Whether it says what a headless service has to do with DNS.
pub(super) fn headless(page: &Page) -> Under {
    let texts = page.texts(Topic::ALL, &[Topic::Concepts]).into_iter().chain(page.texts(&[], &[]));
    match texts.into_iter().any(|text| topics::names(&text, HEADLESS) && topics::names(&text, DNS)) {
        true => Under::Sound,
        false => missing(
            page,
            Topic::Concepts,
            "nothing says what a headless service has to do with DNS".to_owned(),
        ),
    }
}

/// Whether it begins with what a StatefulSet is, and why one is used.
pub(super) fn overview(page: &Page) -> Under {
    let overview = words(&page.about(&[Topic::Overview]));
    let reason =
        |line: &&Line| topics::names(&line.text, "statefulset") && topics::names(&line.text, REASONS);
    let elsewhere = about(page, &[Topic::Concepts]);
    if overview.split_whitespace().count() >= OVERVIEW_WORDS || elsewhere.iter().any(reason) {
        return Under::Sound;
    }
    missing(page, Topic::Overview, "nothing says what a StatefulSet is and why one is used".to_owned())
}

/// The lines about this, and where no heading says so, those under headings that say nothing.
fn about<'a>(page: &'a Page, topics: &[Topic]) -> Vec<&'a Line> {
    let about = page.about(topics);
    if about.is_empty() { page.elsewhere() } else { about }
}

/// What is said, without code.
fn words(lines: &[&Line]) -> String {
    let said = lines.iter().filter(|line| line.block.is_none());
    said.map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n")
}
