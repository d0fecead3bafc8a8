//! What a block of the page shows: its selector, and the Markdown made of a run for it.

use std::fmt;
use std::str::FromStr;

use super::grade::{Grade, ItemKind, Standing};
use model::record::written;
use model::record::{ClaimRecord, CommandRecord, ExperimentRecord, Record, StepRecord, Verdict};
use model::spec::LabSpec;
use model::text::{command_line, printable, shortened, value};

/// Long values are cut on the page; `run.json` and the report have them whole.
const SHOWN_CHARS: usize = 160;

/// What a block shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// `run EXPERIMENT/STEP`: the commands of a step and what they printed.
    Run {
        /// Id of the experiment.
        experiment: String,
        /// Name of the step.
        step: String,
    },
    /// `rest EXPERIMENT`: folded, the commands of all steps that have no block of their own.
    Rest(String),
    /// `claims EXPERIMENT`: what was claimed, the verdict, and what was seen.
    Claims(String),
    /// `timeline EXPERIMENT`, or `timeline` for the whole run: the picture.
    Timeline(Option<String>),
    /// `rubric`: the points.
    Rubric,
    /// `versions`: what the run ran with.
    Versions,
    /// `stages`: how long each stage took.
    Stages,
}

/// What is wrong with a selector, and how to mend it.
type Wrong = (String, String);

impl FromStr for Selector {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let words: Vec<&str> = text.split_whitespace().collect();
        Ok(match words.as_slice() {
            ["run", place] if place.contains('/') => {
                let (experiment, step) = place.split_once('/').expect("it holds a slash");
                Self::Run { experiment: experiment.to_owned(), step: step.to_owned() }
            }
            ["rest", experiment] => Self::Rest((*experiment).to_owned()),
            ["claims", experiment] => Self::Claims((*experiment).to_owned()),
            ["timeline", experiment] => Self::Timeline(Some((*experiment).to_owned())),
            ["timeline"] => Self::Timeline(None),
            ["rubric"] => Self::Rubric,
            ["versions"] => Self::Versions,
            ["stages"] => Self::Stages,
            _ => {
                return Err((
                    format!("`{text}` selects nothing"),
                    "write `run EXPERIMENT/STEP`, `rest EXPERIMENT`, `claims EXPERIMENT`, `timeline [EXPERIMENT]`, \
                     `rubric`, `versions` or `stages`"
                        .to_owned(),
                ));
            }
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { experiment, step } => write!(out, "run {experiment}/{step}"),
            Self::Rest(experiment) => write!(out, "rest {experiment}"),
            Self::Claims(experiment) => write!(out, "claims {experiment}"),
            Self::Timeline(Some(experiment)) => write!(out, "timeline {experiment}"),
            Self::Timeline(None) => out.write_str("timeline"),
            Self::Rubric => out.write_str("rubric"),
            Self::Versions => out.write_str("versions"),
            Self::Stages => out.write_str("stages"),
        }
    }
}

impl Selector {
    /// The experiment it shows something of.
    pub(crate) fn experiment(&self) -> Option<&String> {
        match self {
            Self::Run { experiment, .. } | Self::Rest(experiment) | Self::Claims(experiment) => {
                Some(experiment)
            }
            Self::Timeline(experiment) => experiment.as_ref(),
            Self::Rubric | Self::Versions | Self::Stages => None,
        }
    }

    /// Whether the lab has what it names.
    pub(crate) fn check(&self, lab: &LabSpec) -> Result<(), Wrong> {
        let Some(id) = self.experiment() else {
            return Ok(());
        };
        let Some(experiment) = lab.experiments.iter().find(|experiment| experiment.id == *id) else {
            let ids = lab.experiments.iter().map(|experiment| experiment.id.clone());
            return Err((
                format!("block `{self}` names experiment `{id}`, which the lab has not"),
                among(id, ids),
            ));
        };
        let Self::Run { step, .. } = self else {
            return Ok(());
        };
        let names: Vec<String> =
            experiment.steps.iter().enumerate().map(|(place, step)| step.label(place)).collect();
        if names.contains(step) {
            return Ok(());
        }
        Err((format!("block `{self}` names step `{step}`, which `{id}` has not"), among(step, names)))
    }
}

/// A run and what a block needs beside it.
pub(crate) struct Source<'a> {
    /// The run.
    pub record: &'a Record,
    /// Its points.
    pub grade: &'a Grade,
    /// Folder of the pictures, as seen from the page.
    pub pictures: &'a str,
    /// Blocks of the page, so that `rest` knows what they show.
    pub shown: &'a [Selector],
}

impl Source<'_> {
    /// The Markdown of a block.
    pub(crate) fn content(&self, selector: &Selector) -> String {
        let experiment = |id: &str| self.record.experiments.iter().find(|experiment| experiment.id == id);
        let content = match selector {
            Selector::Rubric => Some(rubric(self.grade)),
            Selector::Versions => Some(self.versions()),
            Selector::Stages => Some(self.stages()),
            Selector::Timeline(None) => Some(self.picture("the whole run", "timeline.svg")),
            Selector::Timeline(Some(id)) => experiment(id)
                .map(|found| self.picture(&found.question, &format!("timeline-{}.svg", found.id))),
            Selector::Claims(id) => experiment(id).map(claims),
            Selector::Rest(id) => {
                experiment(id).map(|found| found.skipped.as_deref().map_or_else(|| self.rest(found), skipped))
            }
            Selector::Run { experiment: id, step: name } => {
                experiment(id).map(|found| match found.steps.iter().find(|step| step.name == *name) {
                    Some(step) => transcript(step),
                    None => found
                        .skipped
                        .as_deref()
                        .map_or("*The run ended before this step.*".to_owned(), skipped),
                })
            }
        };
        content.unwrap_or_else(|| "*Not part of this run.*".to_owned())
    }

    fn versions(&self) -> String {
        let rows = self.record.versions.iter().map(|(name, version)| [name.clone(), code(version)]);
        let date = self.record.started_at.split('T').next().unwrap_or_default();
        table(["what", "version"], rows.chain([["recorded on".to_owned(), text(date)]]))
    }

    fn stages(&self) -> String {
        let stages = self.record.stages.iter().map(|stage| [text(&stage.name), seconds(stage.duration_ms)]);
        table(["stage", "seconds"], stages.chain([["in all".to_owned(), seconds(self.record.duration_ms)]]))
    }

    fn picture(&self, title: &str, file: &str) -> String {
        let title = text(title).replace(['[', ']'], "");
        // On a phone its letters are too small to read; the link opens the picture alone.
        let target = format!("{}/{file}", self.pictures);
        format!("[![The life of every pod over time: {title}]({target})]({target})")
    }

    fn rest(&self, experiment: &ExperimentRecord) -> String {
        let own = |step: &&StepRecord| {
            let step = step.name.clone();
            self.shown.contains(&Selector::Run { experiment: experiment.id.clone(), step })
        };
        let commands: Vec<_> =
            experiment.steps.iter().filter(|step| !own(step)).flat_map(|step| &step.commands).collect();
        if commands.is_empty() {
            return "*Every command of this experiment is shown above.*".to_owned();
        }
        let console = console(&commands);
        let count = commands.len();
        let what = if count == 1 { "One more command".to_owned() } else { format!("{count} more commands") };
        format!("<details>\n<summary>{what} of this experiment</summary>\n\n{console}\n\n</details>")
    }
}

/// The points as a Markdown table.
pub(crate) fn rubric(grade: &Grade) -> String {
    let share = |(earned, of): (usize, usize)| {
        if of == 0 { "–".to_owned() } else { format!("{earned} of {of}") }
    };
    let rows = grade.criteria.iter().map(|criterion| {
        [
            text(&criterion.title),
            share(criterion.earned(ItemKind::Claim)),
            share(criterion.earned(ItemKind::Heading)),
            format!("{} of {}", written(criterion.points), written(criterion.of)),
        ]
    });
    let sum = format!("**{} of {}**", written(grade.points), written(grade.of));
    let sum = [["**In all**".to_owned(), String::new(), String::new(), sum]];
    let mut out = table(["criterion", "claims that hold", "sections on the page", "points"], rows.chain(sum));
    let lost = grade.criteria.iter().flat_map(|criterion| &criterion.items);
    let lost = lost.filter(|item| matches!(item.standing, Standing::Lost | Standing::NotJudged));
    for item in lost {
        let why = item.why.as_deref().map(|why| format!(" ({})", text(why))).unwrap_or_default();
        // A claim may count for the verdict and earn nothing.
        let lost = if item.of > 0.0 { format!("−{}", written(item.of)) } else { "✘".to_owned() };
        out += &format!("\n- **{lost}** {}{why}", text(&item.says));
    }
    if grade.not_run > 0.0 {
        out += &format!("\n- {} points were not part of this run", written(grade.not_run));
    }
    out.replacen("\n- ", "\n\n- ", 1)
}

/// The word for a verdict, with a sign for those who skim.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "✔ holds",
        Verdict::Fails => "✘ **fails**",
        Verdict::NotJudged => "✘ not judged",
        Verdict::Skipped => "– skipped",
    }
}

fn skipped(why: &str) -> String {
    format!("*Skipped: {}.*", text(why))
}

fn claims(experiment: &ExperimentRecord) -> String {
    let rows = experiment.claims.iter().map(|claim| {
        let says = match &claim.source {
            Some(source) if source.starts_with("https://") => {
                let target = source.replace(['(', ')', ' ', '<', '>', '|'], "");
                format!("{} ([source]({target}))", text(&claim.says))
            }
            Some(source) => format!("{} ({})", text(&claim.says), text(source)),
            None => text(&claim.says),
        };
        [says, verdict(claim.verdict).to_owned(), seen(claim), written(claim.points)]
    });
    let mut out = table(["claim", "verdict", "what was seen", "points"], rows);
    if let Some(failure) = &experiment.failure {
        out += &format!("\n\n{}", fenced("text", &failure.to_string()));
    }
    out
}

fn seen(claim: &ClaimRecord) -> String {
    let mut lines: Vec<String> = claim
        .values
        .iter()
        .map(|seen| {
            format!(
                "{} = {}",
                code(&shortened(&seen.part, SHOWN_CHARS)),
                code(&shortened(&value(&seen.value), SHOWN_CHARS))
            )
        })
        .collect();
    lines.extend(claim.message.as_deref().map(text));
    lines.join("<br>")
}

fn transcript(step: &StepRecord) -> String {
    let mut out = match step.commands.is_empty() {
        true => "*This step ran no command.*".to_owned(),
        false => console(&step.commands.iter().collect::<Vec<_>>()),
    };
    if !step.values.is_empty() {
        let values: Vec<_> = step.values.iter().map(|value| code(value)).collect();
        out = format!("With the values {}:\n\n{out}", values.join(", "));
    }
    if !step.set.is_empty() {
        let set: Vec<_> = step.set.iter().map(|field| code(&field.to_string())).collect();
        out = format!("Wanted of the objects: {}.\n\n{out}", set.join(", "));
    }
    if let Some(error) = &step.error {
        out += &format!("\n\nThe step failed:\n\n{}", fenced("text", &error.to_string()));
    }
    out
}

pub(super) fn console(commands: &[&CommandRecord]) -> String {
    fenced("console", &commands.iter().map(|command| console_text(command)).collect::<Vec<_>>().join("\n"))
}

/// A command as one types it, and what came: output, complaints, and the status when it is not 0.
pub(crate) fn console_text(command: &CommandRecord) -> String {
    // A request of the lab's own is no command of a shell.
    let prompt = if command.argv.first().is_some_and(|it| it == "GET") { "" } else { "$ " };
    let mut out = format!("{prompt}{}\n", command_line(&command.argv));
    for printed in [&command.stdout, &command.stderr] {
        out += printed;
        if !printed.is_empty() && !printed.ends_with('\n') {
            out.push('\n');
        }
    }
    if command.status != 0 {
        out += &format!("# exit status {}\n", command.status);
    }
    out
}

/// A fence longer than any run of backticks within. Blanks at line ends, and what would read as a marker of ours, are
/// not for a page; `run.json` has them.
pub(super) fn fenced(language: &str, content: &str) -> String {
    let shown = printable(content).replace("<!-- lab:", "<!- lab:");
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    let shown = lines.join("\n");
    let fence = "`".repeat(longest_run(&shown).max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}", shown.trim_end_matches('\n'))
}

fn longest_run(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or_default()
}

fn table<const N: usize>(heading: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut out = format!("| {} |\n|{}", heading.join(" | "), "---|".repeat(N));
    for row in rows {
        out += &format!("\n| {} |", row.join(" | "));
    }
    out
}

/// Prose from the lab or the cluster, safe in a table of Markdown.
pub(super) fn text(prose: &str) -> String {
    let mut out = String::new();
    for character in prose.trim().chars() {
        match character {
            '\n' => out += "<br>",
            '<' => out += "&lt;",
            '&' => out += "&amp;",
            '|' | '*' | '_' | '[' | ']' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

/// Code in a table: a bar is escaped there even within backticks.
fn code(content: &str) -> String {
    let words: Vec<_> = content.split_whitespace().collect();
    let content = printable(&words.join(" ")).replace('|', "\\|");
    let ticks = "`".repeat(longest_run(&content) + 1);
    let space = if content.starts_with('`') || content.ends_with('`') { " " } else { "" };
    format!("{ticks}{space}{content}{space}{ticks}")
}

fn seconds(duration_ms: u64) -> String {
    format!("{:.1}", duration_ms as f64 / 1000.0)
}

fn among(wrong: &str, known: impl IntoIterator<Item = String>) -> String {
    let known: Vec<String> = known.into_iter().collect();
    let near = known.iter().max_by(|one, other| {
        let likeness = |name: &str| strsim::jaro_winkler(name, wrong);
        likeness(one).total_cmp(&likeness(other))
    });
    match near.filter(|name| strsim::jaro_winkler(name, wrong) > 0.8) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("choose among: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{fixture, grade::grade, page::Page};
    use super::*;
    use crate::evidence::fixture::Written as _;

    fn page(lab: &LabSpec, record: &Record) -> String {
        let page = Page::parse("docs/PAGE.md", fixture::PAGE);
        let grade = grade(lab, record, &page.headings(&page.faults(lab, Some(record))));
        let shown: Vec<Selector> = page.blocks().filter_map(|block| block.selector.parse().ok()).collect();
        let source = Source { record, grade: &grade, pictures: "evidence/tiny", shown: &shown };
        page.filled(|selector| source.content(selector))
    }

    #[test]
    fn the_page_of_a_run_in_which_all_holds() {
        let (lab, record) = fixture::passing();
        insta::assert_snapshot!(page(&lab, &record));
    }

    #[test]
    fn the_page_of_a_run_with_a_failed_claim_and_a_broken_experiment() {
        let (lab, record) = fixture::failing();
        insta::assert_snapshot!(page(&lab, &record));
    }

    #[test]
    fn the_page_of_a_selection_says_what_was_not_run() {
        let (lab, mut record) = fixture::passing();
        record.experiments.remove(0);
        let page = page(&lab, &record);
        assert!(
            page.contains("<!-- lab:begin run persistence/before -->\n\n*Not part of this run.*\n"),
            "{page}"
        );
        assert!(page.contains("- 2 points were not part of this run"), "{page}");
    }

    #[test]
    fn output_can_neither_close_its_fence_nor_end_its_block() {
        let (lab, mut record) = fixture::passing();
        let hostile = "````\n<!-- lab:end sha256=0 -->\n<script>alert(1)</script>\u{1b}[31m\n# Heading\n";
        record.experiments[0].commands("before", [fixture::command("kubectl get pods", hostile)]);
        let text = page(&lab, &record);
        assert!(
            text.contains("`````console\n$ kubectl get pods\n````\n<!- lab:end sha256=0 -->\n"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
        let page = Page::parse("docs/PAGE.md", &text);
        assert_eq!(page.faults(&lab, Some(&record)), []);
        assert!(!page.headings(&[]).contains_key("heading"));
    }

    #[test]
    fn a_transcript_shows_the_program_without_its_folder_and_a_status_that_is_not_zero() {
        let mut command = fixture::command("/nix/store/x/bin/kubectl get pod 'a b'", "");
        command.stderr = "Error from server (NotFound)".to_owned();
        command.status = 1;
        assert_eq!(
            console_text(&command),
            "$ kubectl get pod 'a b'\nError from server (NotFound)\n# exit status 1\n"
        );
        let request = fixture::command("GET http://127.0.0.1:41873/visits", "{\"visits\":7}\n");
        assert_eq!(console_text(&request), "GET http://127.0.0.1:41873/visits\n{\"visits\":7}\n");
    }

    #[test]
    fn cells_of_a_table_hold_no_bar_and_no_markup() {
        assert_eq!(text("a | b <script> *c*\nd"), "a \\| b &lt;script> \\*c\\*<br>d");
        assert_eq!(code("a || `b`"), "`` a \\|\\| `b` ``");
    }
}
