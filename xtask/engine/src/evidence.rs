//! What a run leaves behind: the record, the pictures, the page, the report, and files for machines.
//!
//! Only a run of the whole lab as shipped in which every claim holds refreshes what is committed; every other run writes
//! under `target/lab`.

pub(crate) mod grade;
pub(crate) mod page;
pub(crate) mod block;
pub(crate) mod redact;
pub(crate) mod stale;
pub(crate) mod timeline_svg;
mod lives;
mod acts;
mod table;
pub(crate) mod summary;
mod junit;
mod report;
#[cfg(test)]
pub(crate) mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use similar::TextDiff;

use self::block::{Selector, Source};
use self::grade::{Grade, HandedIn, Headings, Outcome};
use self::page::{Fault, Page};
use self::stale::{Mark, Place};
use crate::lab::Lab;
use machine::exit::Exit;
use machine::files;
use machine::print;
use machine::workspace::Workspace;
use model::record::{self, Record};
use model::spec::LabSpec;
use model::text::printable;

/// Writes everything a run leaves behind. The report and the files for machines are written in any case; what is
/// committed only for [`Keep::Committed`], and only where the redacted evidence differs from what is there.
///
/// Faults of the page don't fail the write: the run is kept, and `cargo xtask docs` renders it once they are mended.
/// With somebody else's chart another page may count, `handed_in`, which nothing is written into.
pub(crate) fn write(
    paths: &Paths,
    lab: &LabSpec,
    record: Record,
    keep: Keep,
    handed_in: Option<&HandedIn>,
) -> Result<Written> {
    let folder = match keep {
        Keep::Committed => Folder::committed(paths),
        Keep::Target => Folder::target(paths),
    };
    let mut files = Vec::new();
    let committed = match keep {
        Keep::Committed => {
            folder.read_record().ok().filter(|old| redact::places(old) == redact::places(&record))
        }
        Keep::Target => None,
    };
    // The page tells of the run that stays recorded; the report always of this one.
    let shown = committed.as_ref().unwrap_or(&record);
    if committed.is_none() {
        folder.put("run.json", &json(&record)?, &mut files)?;
    }
    let rendering = Rendering::of(&folder, lab, shown)?;
    rendering.put(&folder, &mut files)?;
    let own = rendering.parsed.as_ref().filter(|_| !paths.foreign).map(|_| &rendering.headings);
    let grade = grade::grade(lab, &record, handed_in.map_or(own, |page| Some(&page.headings)));

    let target = Folder::target(paths);
    let page = handed_in.map(|handed_in| handed_in.page.clone());
    let summary = summary::Summary { page, ..summary::Summary::of(lab, &record, &grade) };
    target.put("report.html", &report::document(&record, &summary)?, &mut files)?;
    target.put("report.json", &json(&summary)?, &mut files)?;
    target.put("junit.xml", &junit::document(&record)?, &mut files)?;
    if let Some(file) = &paths.step_summary {
        let there = fs::metadata(file).map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX));
        let (room, report) = (STEP_SUMMARY_BYTES.saturating_sub(there), paths.target.join("report.html"));
        append(file, &summary.markdown(&record, room, &self::shown(&report, &paths.root)))?;
    }
    let Rendering { faults, .. } = rendering;
    Ok(Written { kept: keep, page: folder.page, grade, summary, faults, files })
}

/// Renders page and pictures again from the committed record, without a cluster.
pub(crate) fn render(paths: &Paths, lab: &LabSpec) -> Result<Rendered> {
    let folder = Folder::committed(paths);
    let record = folder.read_record()?;
    let rendering = Rendering::of(&folder, lab, &record)?;
    let mut files = Vec::new();
    rendering.put(&folder, &mut files)?;
    Ok(Rendered { stale: stale(paths, lab, &record), faults: rendering.faults, files })
}

/// What `cargo xtask docs` would change, and what it could not mend; nothing when the committed evidence is that of
/// this lab, to the letter.
pub(crate) fn check(paths: &Paths, lab: &LabSpec) -> Result<Vec<Difference>> {
    let folder = Folder::committed(paths);
    let record = folder.read_record()?;
    let shown = shown(&folder.folder, &paths.root);
    let mut found = stale(paths, lab, &record);
    let rendering = Rendering::of(&folder, lab, &record)?;
    found.extend(
        rendering.faults.iter().map(|fault| {
            Difference::new(format!("{}:{}: {}", fault.path, fault.line, fault.what), &fault.next)
        }),
    );
    if let Some(page) = &rendering.parsed {
        let asked = lab.rubric.iter().flat_map(|criterion| &criterion.sections);
        for heading in asked.filter(|heading| !rendering.headings.contains_key(&heading.to_lowercase())) {
            let place = paths.place(&Place::Lab(Mark::Entry(heading.clone())));
            let what =
                format!("{}: no section is called `{heading}`, for which {place} gives points", page.path());
            found
                .push(Difference::new(what, "write the section, or take it from the rubric in the lab file"));
        }
    }
    if let (Some((_, fresh)), Some(page)) = (&rendering.page, &rendering.parsed) {
        found.extend(block_differences(page, fresh));
    }
    for (name, fresh) in &rendering.beside {
        let committed = fs::read_to_string(folder.folder.join(name)).unwrap_or_default();
        if committed != *fresh {
            let line = committed.lines().zip(fresh.lines()).take_while(|(old, new)| old == new).count() + 1;
            found.push(Difference::new(format!("{shown}/{name}:{line}: not that of the recorded run"), DOCS));
        }
    }
    for name in folder.foreign_pictures(&rendering.beside)? {
        found.push(Difference::new(format!("{shown}/{name}: belongs to no experiment"), DOCS));
    }
    Ok(found)
}

/// Where the record is not one of this lab, with the line in the file to look at.
fn stale(paths: &Paths, lab: &LabSpec, record: &Record) -> Vec<Difference> {
    let told = stale::differences(lab, record).into_iter().map(|stale| {
        let what = format!("{}: {}", paths.place(&stale.place), stale.what);
        Difference::new(what, "cargo xtask lab, and commit what it writes")
    });
    told.collect()
}

/// Where a fresh run and the committed one part, as diffs of their redacted texts.
pub(crate) fn compare(paths: &Paths, fresh: &Record) -> Result<Vec<Difference>> {
    let committed = Folder::committed(paths).read_record()?;
    let old: BTreeMap<_, _> =
        redact::places(&committed).into_iter().map(|place| (place.name, place.text)).collect();
    let new = redact::places(fresh);
    let mut found = Vec::new();
    for place in &new {
        let before = old.get(&place.name).map(String::as_str).unwrap_or_default();
        if before != place.text {
            found.push(Difference {
                what: format!("{}: this run differs from the committed one", place.name),
                diff: Some(diff(before, &place.text, "committed", "this run")),
                next: "cargo xtask lab, and commit what it writes".to_owned(),
            });
        }
    }
    for name in old.keys().filter(|name| new.iter().all(|place| place.name != **name)) {
        found
            .push(Difference::new(format!("{name}: committed, and not part of this run"), "cargo xtask lab"));
    }
    Ok(found)
}

/// Where things are read and written.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The work tree.
    pub root: PathBuf,
    /// The lab file.
    pub lab: PathBuf,
    /// Folder of the committed evidence: `docs/evidence/LAB`.
    pub evidence: PathBuf,
    /// The page, when the lab has one.
    pub page: Option<PathBuf>,
    /// Folder of everything not committed: `target/lab`.
    pub target: PathBuf,
    /// Whether another chart was run than the lab's own: then there is no page to look for headings on.
    pub foreign: bool,
    /// File that takes a summary in Markdown: the value of `GITHUB_STEP_SUMMARY`.
    pub step_summary: Option<PathBuf>,
}

impl Paths {
    /// The places of a lab. Its page is `docs/<LAB>.md`, where that has places for what a
    /// run shows, and tells of its own chart.
    pub fn of(workspace: &Workspace, lab: &Lab) -> Self {
        let root = &workspace.root;
        let page = crate::lab::page(workspace, &lab.spec);
        Self {
            root: root.clone(),
            lab: lab.path.clone(),
            evidence: root.join("docs/evidence").join(&lab.spec.lab),
            page: Some(page).filter(|page| !lab.foreign && holds_blocks(page)),
            target: workspace.lab.clone(),
            foreign: lab.foreign,
            step_summary: std::env::var_os("GITHUB_STEP_SUMMARY")
                .filter(|file| !file.is_empty())
                .map(Into::into),
        }
    }

    /// A place as `FILE:LINE`, or the file alone where nothing like it stands there.
    fn place(&self, place: &Place) -> String {
        let (file, mark) = match place {
            Place::Lab(mark) => (self.lab.clone(), mark),
            Place::Record(mark) => (self.evidence.join("run.json"), mark),
        };
        let line = fs::read_to_string(&file).ok().and_then(|text| mark.line(&text));
        shown(&file, &self.root) + &line.map(|line| format!(":{line}")).unwrap_or_default()
    }
}

/// Where the record, the pictures and the page of a run go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// To what is committed: a run of the whole lab as shipped, in which every claim holds.
    Committed,
    /// Under `target/lab`: every other run.
    Target,
}

impl Keep {
    /// Where a run goes. Evidence that stood is not replaced by a run that failed: somebody has to look first.
    pub fn of(record: &Record, whole: bool) -> Self {
        if whole && grade::outcome(record) == Outcome::Holds { Self::Committed } else { Self::Target }
    }
}

/// What [`write`] did.
#[derive(Debug)]
pub struct Written {
    /// Where the evidence went.
    pub kept: Keep,
    /// The page of this run, when the lab has one.
    pub page: Option<PathBuf>,
    /// The points.
    pub grade: Grade,
    /// The run in short.
    pub summary: summary::Summary,
    /// What is wrong with the page; while something is, the page stays as it was.
    pub faults: Vec<Fault>,
    /// The files that changed.
    pub files: Vec<PathBuf>,
}

/// What [`render`] did.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// Where the record is not one of this lab; a run mends it.
    pub stale: Vec<Difference>,
    /// What is wrong with the page; while something is, the page stays as it was.
    pub faults: Vec<Fault>,
    /// The files that changed.
    pub files: Vec<PathBuf>,
}

/// One place where the evidence is out of date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Where and what.
    pub what: String,
    /// The unified diff, from what is there to what should be.
    pub diff: Option<String>,
    /// How to mend it.
    pub next: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.what)?;
        for line in self.diff.iter().flat_map(|diff| diff.lines()) {
            write!(out, "\n    {line}")?;
        }
        write!(out, "\n  next: {}", self.next)
    }
}

impl Difference {
    fn new(what: String, next: &str) -> Self {
        Self { what, diff: None, next: next.to_owned() }
    }
}

/// Says where the committed evidence is out of date, and ends accordingly.
pub(crate) fn tell(differences: &[Difference]) -> Exit {
    for difference in differences {
        print::message(difference);
    }
    if differences.is_empty() { Exit::Holds } else { Exit::OutOfDate }
}

const DOCS: &str = "cargo xtask docs";
/// A longer summary of a step is not shown at all:
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#step-isolation-and-limits>
const STEP_SUMMARY_BYTES: usize = 1 << 20;

/// Page and pictures as a record would have them.
struct Rendering {
    /// The page as it is, taken apart.
    parsed: Option<Page>,
    /// The page as it should be, and where; absent while it has faults.
    page: Option<(PathBuf, String)>,
    /// The pictures and the record's schema, by file name.
    beside: BTreeMap<String, String>,
    headings: Headings,
    faults: Vec<Fault>,
}

impl Rendering {
    fn of(folder: &Folder, lab: &LabSpec, record: &Record) -> Result<Self> {
        let mut beside: BTreeMap<String, String> = record
            .experiments
            .iter()
            .map(|experiment| {
                (format!("timeline-{}.svg", experiment.id), timeline_svg::experiment(experiment))
            })
            .collect();
        beside.insert("timeline.svg".to_owned(), timeline_svg::run(record));
        beside.insert("run.schema.json".to_owned(), json(&record::schema())?);
        let mut rendering =
            Self { parsed: None, page: None, beside, headings: Headings::new(), faults: Vec::new() };
        let Some(source) = &folder.page_source else {
            return Ok(rendering);
        };
        let text =
            fs::read_to_string(source).with_context(|| format!("cannot read page {}", source.display()))?;
        let page = Page::parse(&shown(source, &folder.root), &text);
        rendering.faults = page.faults(lab, Some(record));
        rendering.headings = page.headings(&rendering.faults);
        if rendering.faults.is_empty() {
            let grade = grade::grade(lab, record, &rendering.headings);
            let shown: Vec<Selector> =
                page.blocks().filter_map(|block| block.selector.parse().ok()).collect();
            let source = Source { record, grade: &grade, pictures: &folder.pictures, shown: &shown };
            rendering.page =
                folder.page.clone().map(|path| (path, page.filled(|selector| source.content(selector))));
        }
        rendering.parsed = Some(page);
        Ok(rendering)
    }

    fn put(&self, folder: &Folder, files: &mut Vec<PathBuf>) -> Result<()> {
        for (name, text) in &self.beside {
            folder.put(name, text, files)?;
        }
        for name in folder.foreign_pictures(&self.beside)? {
            let file = folder.folder.join(name);
            fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
            files.push(file);
        }
        if let Some((path, text)) = &self.page {
            put(path, text, files)?;
        }
        Ok(())
    }
}

/// A place that takes the record, the pictures and the page.
struct Folder {
    root: PathBuf,
    folder: PathBuf,
    page_source: Option<PathBuf>,
    page: Option<PathBuf>,
    /// The folder as the page sees it.
    pictures: String,
}

impl Folder {
    fn committed(paths: &Paths) -> Self {
        let beside = paths.page.as_deref().and_then(Path::parent);
        let pictures = beside.map_or_else(String::new, |beside| shown(&paths.evidence, beside));
        Self {
            root: paths.root.clone(),
            folder: paths.evidence.clone(),
            page_source: paths.page.clone(),
            page: paths.page.clone(),
            pictures,
        }
    }

    fn target(paths: &Paths) -> Self {
        let name = paths.page.as_deref().and_then(Path::file_name);
        Self {
            root: paths.root.clone(),
            folder: paths.target.clone(),
            page_source: paths.page.clone(),
            page: name.map(|name| paths.target.join(name)),
            pictures: ".".to_owned(),
        }
    }

    fn read_record(&self) -> Result<Record> {
        let file = self.folder.join("run.json");
        let shown = shown(&file, &self.root);
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read the recorded run {shown}"))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{shown} is not a record of format {}", record::FORMAT))
    }

    fn put(&self, name: &str, text: &str, files: &mut Vec<PathBuf>) -> Result<()> {
        put(&self.folder.join(name), text, files)
    }

    /// Pictures of experiments that are no more.
    fn foreign_pictures(&self, beside: &BTreeMap<String, String>) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("cannot list {}", self.folder.display()))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let foreign = |name: &String| {
            name.starts_with("timeline-") && name.ends_with(".svg") && !beside.contains_key(name)
        };
        let mut names: Vec<String> = names.filter(foreign).collect();
        names.sort();
        Ok(names)
    }
}

/// Whether a page has a block of a lab's: others in that folder are about something else, whatever a lab is called.
fn holds_blocks(page: &Path) -> bool {
    fs::read_to_string(page).is_ok_and(|text| Page::parse("", &text).blocks().next().is_some())
}

fn block_differences(page: &Page, fresh: &str) -> Vec<Difference> {
    let fresh = Page::parse("", fresh);
    page.blocks()
        .zip(fresh.blocks())
        .filter(|(old, new)| old.content.trim() != new.content.trim())
        .map(|(old, new)| Difference {
            what: format!(
                "{}:{}: block `{}` is not what the recorded run shows",
                page.path(),
                old.line,
                old.selector
            ),
            diff: Some(diff(&old.content, &new.content, "page", "run.json")),
            next: DOCS.to_owned(),
        })
        .collect()
}

fn diff(old: &str, new: &str, old_name: &str, new_name: &str) -> String {
    TextDiff::from_lines(old, new).unified_diff().context_radius(2).header(old_name, new_name).to_string()
}

/// A path as messages and pages show it: from the root, with slashes.
fn shown(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).context("cannot write the run as JSON")? + "\n")
}

/// Writes a file where it differs, whole or not at all: a run may be ended at any moment.
fn put(path: &Path, text: &str, files: &mut Vec<PathBuf>) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    files::replace(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    files.push(path.to_owned());
    Ok(())
}

fn append(path: &Path, text: &str) -> Result<()> {
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(printable(text).as_bytes()))
        .with_context(|| format!("cannot append the summary to {}", path.display()))
}

#[cfg(test)]
mod tests;
