//! The page that was handed in beside a chart: what is asked of it, and what is wrong with each part.

// Each knows only those above it.
mod topics;
mod markdown;
mod file;
mod concepts;
mod listing;
mod lookups;
mod counts;
mod visits;

use std::path::{Path, PathBuf};

use self::file::Found;
use self::markdown::Page;
use self::topics::Topic;
use crate::evidence::grade::{HandedIn, Headings, PageSeen, Under};
use machine::exit::BadInput;
use model::spec::LabSpec;
use model::text::shortened;

/// What is wrong is told in up to this many characters: a part of it is a stranger's.
const WHY_CHARS: usize = 200;

/// Judges a part of a page.
type Judge = fn(&Page) -> Under;

/// The parts that a lab may ask for as `sections` of a criterion, and what judges each.
const PARTS: [(&str, Judge); 8] = [
    ("What a StatefulSet guarantees", concepts::guarantees),
    ("How it differs from a Deployment", concepts::deployment),
    ("Headless service and DNS", concepts::headless),
    ("Overview", concepts::overview),
    ("Resources", listing::judge),
    ("Network identity", lookups::judge),
    ("Storage per pod", visits::storage),
    ("Persistence", visits::persistence),
];

/// Where the page of a chart is looked for.
pub(super) struct Place<'a> {
    /// The chart.
    pub(super) chart: &'a Path,
    /// The page that the command line names.
    pub(super) named: Option<&'a Path>,
    /// The page of this repository, which is nobody else's.
    pub(super) ours: PathBuf,
}

/// The page of a chart, judged; none where the lab asks for no part that could be judged.
///
/// # Errors
/// A page that is named and can't be read, or isn't asked for.
pub(super) fn handed_in(
    lab: &LabSpec,
    place: &Place<'_>,
    shown: impl Fn(&Path) -> String,
) -> Result<Option<HandedIn>, BadInput> {
    let asked = || lab.rubric.iter().flat_map(|criterion| &criterion.sections);
    if !asked().any(|part| judge_of(part).is_some()) {
        return match place.named {
            Some(_) => Err(BadInput("--page: the lab asks for no part of a page".to_owned())),
            None => Ok(None),
        };
    }
    let (seen, page) = match file::find(place.chart, place.named, &place.ours)? {
        Found::Text { path, text } => (PageSeen::Judged(shown(&path)), Some(Page::parse(&text))),
        Found::Refused { path, why } => (PageSeen::Refused { path: shown(&path), why }, None),
        Found::Nothing => (PageSeen::Nothing, None),
    };
    let under = |part: &String| match (&page, judge_of(part)) {
        (Some(page), Some(judge)) => told(judge(page)),
        (None, Some(_)) => Under::Unread(seen.says()),
        (_, None) => Under::Unread("the page is not part of this run".to_owned()),
    };
    let headings: Headings = asked().map(|part| (part.to_lowercase(), under(part))).collect();
    Ok(Some(HandedIn { page: seen, headings }))
}

fn judge_of(part: &str) -> Option<Judge> {
    PARTS.iter().find(|(name, _)| *name == part).map(|(_, judge)| *judge)
}

fn told(under: Under) -> Under {
    match under {
        Under::Fault(why) => Under::Fault(shortened(&why, WHY_CHARS)),
        other => other,
    }
}

/// What is not there in words may be there as a picture.
fn missing(page: &Page, topic: Topic, why: String) -> Under {
    match page.shown_elsewhere(topic) {
        Some(line) => Under::Unread(format!("line {line}: a picture, or another file: a person has to look")),
        None => Under::Fault(why),
    }
}

#[cfg(test)]
mod tests;
