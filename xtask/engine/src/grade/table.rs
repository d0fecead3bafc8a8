//! The table of graded charts: a line for each, its points by criterion, and below it what fails and why.

use std::path::{Path, PathBuf};

use super::verdict::Verdict;
use crate::evidence::grade::{CriterionGrade, Item, ItemKind, Outcome, PageSeen, Standing};
use crate::evidence::summary::{Failure, Summary};
use machine::paint::Paint;
use machine::workspace::Workspace;
use model::record::written;
use model::text::shortened;

/// Why a claim fails is told in a line of up to this many characters; the report has all of it.
const LINE_CHARS: usize = 240;
/// A value that is longer is a whole object.
const VALUE_CHARS: usize = 80;

/// A chart that was graded.
pub(super) struct Graded<'a> {
    /// Its name in this run.
    pub(super) name: &'a str,
    /// The chart, as the command line names it.
    pub(super) chart: &'a Path,
    /// Its report.
    pub(super) report: PathBuf,
    /// What came of it.
    pub(super) summary: &'a Summary,
}

/// The table as text.
pub(super) fn text(graded: &[Graded<'_>], workspace: &Workspace, paint: Paint) -> String {
    let Some(first) = graded.first() else { return String::new() };
    let criteria = || first.summary.grade.criteria.iter();
    let mut rows = vec![vec!["chart".to_owned(), "verdict".to_owned(), "points".to_owned()]];
    rows[0].extend(criteria().map(|criterion| criterion.id.clone()));
    for chart in graded {
        let grade = &chart.summary.grade;
        let verdict = Verdict::of(chart.summary).to_string();
        let mut row = vec![chart.name.to_owned(), verdict, points(grade.points, grade.of - grade.not_run)];
        row.extend(grade.criteria.iter().map(of_criterion));
        rows.push(row);
    }
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut out = format!("  {}\n", paint.dim(&line(&rows[0])));
    for (chart, row) in graded.iter().zip(&rows[1..]) {
        let holds = chart.summary.grade.outcome == Outcome::Holds;
        let mark = if holds { paint.good("✓") } else { paint.bad("✗") };
        out += &format!("{mark} {}\n", line(row));
    }
    for chart in graded {
        let of_page = of_page(chart.summary);
        let Summary { failures, adapted, also, .. } = chart.summary;
        if failures.is_empty() && adapted.is_empty() && also.is_empty() && of_page.is_empty() {
            continue;
        }
        let report = workspace.display(&chart.report);
        out += &format!("\n{}: {report}\n", paint.strong(chart.name));
        for adapted in &chart.summary.adapted {
            out += &format!("  adapted: {}\n", plain(adapted));
        }
        for line in told(&chart.summary.failures).into_iter().chain(of_page) {
            out += &format!("  {line}\n");
        }
        if !chart.summary.also.is_empty() {
            out += &format!("  also seen, without points: {}\n", chart.summary.also.join("; "));
        }
    }
    out + &of_pages(graded)
}

/// What is to be said of the page of a chart: which it is, and of each part that earned nothing why.
fn of_page(summary: &Summary) -> Vec<String> {
    let parts = summary.grade.criteria.iter().flat_map(|criterion| {
        let headings = criterion.items.iter().filter(|item| item.kind == ItemKind::Heading);
        headings.filter_map(move |item| Some((criterion, item, part(item, summary)?)))
    });
    let parts: Vec<String> = parts
        .map(|(criterion, item, why)| format!("{} · {}: {}", criterion.id, item.says, plain(why)))
        .collect();
    let which = match &summary.page {
        Some(PageSeen::Judged(path)) if !parts.is_empty() => Some(path.clone()),
        Some(refused @ PageSeen::Refused { .. }) => Some(refused.says()),
        _ => None,
    };
    which.map(|says| format!("page: {}", plain(&says))).into_iter().chain(parts).collect()
}

/// Why a part of a page earned nothing, where that is not told of the page as a whole.
fn part<'a>(item: &'a Item, summary: &Summary) -> Option<&'a str> {
    let why = item.why.as_deref()?;
    let left = item.standing == Standing::NotRun && matches!(summary.page, Some(PageSeen::Judged(_)));
    (left || item.standing == Standing::Lost).then_some(why)
}

/// What is to be said of all pages, once.
fn of_pages(graded: &[Graded<'_>]) -> String {
    let judged = |chart: &Graded<'_>| matches!(chart.summary.page, Some(PageSeen::Judged(_)));
    let checked = graded.iter().any(judged).then(|| PageSeen::CHECKED.to_owned());
    let without = graded.iter().filter(|chart| chart.summary.page == Some(PageSeen::Nothing));
    let without: Vec<&str> = without.map(|chart| chart.name).collect();
    let none = (!without.is_empty()).then(|| format!("{}: {}", without.join(", "), PageSeen::NOTHING));
    checked.into_iter().chain(none).map(|line| format!("\n{line}\n")).collect()
}

/// A line for each failure. What a whole chart fails for is told once, not with every experiment.
fn told(failures: &[Failure]) -> Vec<String> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for failure in failures {
        let (place, why) = (place(failure), why(failure));
        match lines.iter_mut().find(|(_, known)| *known == why && failure.claim.is_none()) {
            Some((places, _)) => *places += &format!(", {place}"),
            None => lines.push((place, why)),
        }
    }
    lines.into_iter().map(|(places, why)| format!("{places}: {why}")).collect()
}

fn place(failure: &Failure) -> String {
    match &failure.claim {
        Some(claim) => format!("{} · {claim}", failure.experiment),
        None => failure.experiment.clone(),
    }
}

/// Why, in a line: what was seen, or what the engine says of it.
fn why(failure: &Failure) -> String {
    let text = match (&failure.broke, &failure.message) {
        (Some(broke), _) => broke.complaint(),
        (None, Some(message)) => message.clone(),
        (None, None) => seen(failure),
    };
    let places = match failure.look_at.is_empty() {
        true => String::new(),
        false => format!("; look at {}", failure.look_at.join(", ")),
    };
    plain(&text) + &plain(&places)
}

/// What a chart makes a tool print must not move the cursor of whoever reads it.
fn plain(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    shortened(&words.collect::<Vec<_>>().join(" "), LINE_CHARS)
}

/// The values that were seen; whole objects only where there is nothing shorter.
fn seen(failure: &Failure) -> String {
    let values: Vec<(&str, String)> =
        failure.seen.iter().map(|seen| (seen.part.as_str(), seen.value.to_string())).collect();
    let short = |(_, value): &&(&str, String)| value.len() <= VALUE_CHARS;
    let any_short = values.iter().any(|value| short(&value));
    let shown = values.iter().filter(|value| !any_short || short(value));
    shown.map(|(part, value)| format!("{part} = {value}")).collect::<Vec<_>>().join(", ")
}

fn of_criterion(criterion: &CriterionGrade) -> String {
    let of = criterion.of - criterion.not_run;
    // Nothing of it was looked at.
    if of < 0.005 { "–".to_owned() } else { points(criterion.points, of) }
}

fn points(points: f64, of: f64) -> String {
    format!("{} of {}", written(points), written(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::grade::{Headings, Under};
    use crate::evidence::{fixture, grade};
    use model::failure::{Ended, Why};

    #[test]
    fn the_table_has_a_line_for_each_chart_and_tells_why_points_are_lost() {
        let workspace = Workspace::discover().unwrap();
        let summary = |(lab, record)| {
            let grade = grade::grade(&lab, &record, None::<&grade::Headings>);
            Summary::of(&lab, &record, &grade)
        };
        let (good, bad, mut torn) =
            (summary(fixture::passing()), summary(fixture::failing()), summary(fixture::failing()));
        for failure in &mut torn.failures {
            failure.claim = None;
            let (command, output) = ("helm upgrade".to_owned(), "Error: no\u{1b}[2J".to_owned());
            failure.broke = Some(Why::Tool { command, ended: Ended::Status(1), output }.into());
        }
        let graded = [("green", &good), ("red", &bad), ("white", &torn)];
        let graded = graded.map(|(name, summary)| Graded {
            name,
            chart: Path::new(name),
            report: workspace.root.join("target/lab/grade").join(name).join("report.html"),
            summary,
        });
        insta::assert_snapshot!(text(&graded, &workspace, Paint::none()));
    }

    #[test]
    fn what_a_page_lacks_is_told_with_its_chart_and_what_that_means_once() {
        let workspace = Workspace::discover().unwrap();
        let summary = |under: [Under; 3], page: PageSeen| {
            let (lab, record) = fixture::passing();
            let names = ["overview", "persistence test", "network identity"].map(str::to_owned);
            let headings: Headings = names.into_iter().zip(under).collect();
            let page = Some(page);
            Summary { page, ..Summary::of(&lab, &record, &grade::grade(&lab, &record, &headings)) }
        };
        let judged = |path: &str| PageSeen::Judged(path.to_owned());
        let fault = || Under::Fault("line 42: no service is headless".to_owned());
        let picture = || Under::Unread("line 7: a picture".to_owned());
        let unread = |seen: &PageSeen| [(); 3].map(|()| Under::Unread(seen.says()));
        let refused =
            PageSeen::Refused { path: "x/STATEFULSET.md".to_owned(), why: "it is a link".to_owned() };
        let cases = [
            ("all", summary([Under::Sound, Under::Sound, Under::Sound], judged("a/STATEFULSET.md"))),
            ("some", summary([Under::Sound, picture(), fault()], judged("b/STATEFULSET.md"))),
            ("link", summary(unread(&refused), refused)),
            ("one", summary(unread(&PageSeen::Nothing), PageSeen::Nothing)),
            ("two", summary(unread(&PageSeen::Nothing), PageSeen::Nothing)),
        ];
        let graded = cases.each_ref().map(|(name, summary)| Graded {
            name,
            chart: Path::new(name),
            report: workspace.root.join("target/lab/grade").join(name).join("report.html"),
            summary,
        });
        insta::assert_snapshot!(text(&graded, &workspace, Paint::none()));
    }
}
