//! The page: prose written by hand, and between markers the blocks that the program writes.
//!
//! ```markdown
//! <!-- lab:begin run persistence/before -->
//! …
//! <!-- lab:end sha256=0123456789abcdef -->
//! ```
//!
//! The checksum is over what stands between the markers, so that an edit by hand is told instead of overwritten.
//! An author adds a block by writing the two markers with nothing between them and no checksum.

use std::collections::BTreeSet;
use std::fmt;

use super::block::Selector;
use super::grade::{Headings, Under};
use machine::digest::sha256;
use model::record::Record;
use model::spec::{LabSpec, Step};

/// A page taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// The path as messages show it.
    path: String,
    parts: Vec<Part>,
    headings: Vec<Heading>,
    faults: Vec<Fault>,
    lines: usize,
}

/// Something wrong with a page, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The page.
    pub path: String,
    /// The line, counted from one.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub next: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}\n  next: {}", self.path, self.line, self.what, self.next)
    }
}

/// A block of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Line of its first marker, counted from one.
    pub line: usize,
    /// What it shows, as it stands in the marker.
    pub selector: String,
    /// What stands between the markers.
    pub content: String,
    checksum: Option<String>,
}

#[derive(Debug, Clone)]
enum Part {
    Prose(String),
    Block(Block),
}

#[derive(Debug, Clone)]
struct Heading {
    line: usize,
    level: usize,
    text: String,
    /// Whether something stands under it.
    filled: bool,
}

impl Page {
    /// Takes a page apart; what is wrong with its markers is found in [`Page::faults`].
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        Parser::new(path).run(text)
    }

    /// The path as messages show it.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The blocks from top to bottom.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.parts.iter().filter_map(|part| match part {
            Part::Block(block) => Some(block),
            Part::Prose(_) => None,
        })
    }

    /// Everything wrong with the page, line by line: markers, hand edits, blocks that name nothing in the lab, verdicts
    /// that no block shows, and, given a run, steps whose output no block shows.
    pub(crate) fn faults(&self, lab: &LabSpec, record: Option<&Record>) -> Vec<Fault> {
        let mut faults = self.faults.clone();
        for block in self.blocks() {
            if let Err((what, next)) =
                block.selector.parse::<Selector>().and_then(|selector| selector.check(lab))
            {
                faults.push(self.fault(block.line, what, next));
            }
        }
        faults.extend(self.unjudged(lab));
        if let Some(record) = record {
            faults.extend(self.unshown(lab, record));
        }
        faults.sort_by_key(|fault| fault.line);
        faults
    }

    /// The page with every block filled anew.
    pub(crate) fn filled(&self, mut content: impl FnMut(&Selector) -> String) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Prose(text) => out += text,
                Part::Block(block) => match block.selector.parse() {
                    Ok(selector) => out += &block_text(&block.selector, &content(&selector)),
                    Err(_) => out += &block_text(&block.selector, &block.content),
                },
            }
        }
        out
    }

    /// The headings of the page and what is wrong under each.
    pub(crate) fn headings(&self, faults: &[Fault]) -> Headings {
        let mut found = Headings::new();
        for (place, heading) in self.headings.iter().enumerate() {
            let after = self.headings[place + 1..].iter().find(|next| next.level <= heading.level);
            let end = after.map_or(usize::MAX, |next| next.line);
            let within = |line: usize| (heading.line..end).contains(&line);
            let filled = self.headings.iter().any(|other| within(other.line) && other.filled);
            let fault = faults.iter().find(|fault| within(fault.line));
            let under = match fault {
                Some(fault) => Under::Fault(format!("{}:{}: {}", fault.path, fault.line, fault.what)),
                None if !filled => {
                    Under::Fault(format!("{}:{}: nothing stands under it", self.path, heading.line))
                }
                None => Under::Sound,
            };
            found.entry(heading.text.to_lowercase()).or_insert(under);
        }
        found
    }

    /// What a page may not leave out, for it could hide what does not hold, or where it held: the points, the versions,
    /// and the claims of each experiment.
    fn unjudged(&self, lab: &LabSpec) -> Vec<Fault> {
        let shown: Vec<Selector> = self.blocks().filter_map(|block| block.selector.parse().ok()).collect();
        let claims = lab.experiments.iter().filter(|experiment| !experiment.claims.is_empty());
        let claims = claims.map(|experiment| Selector::Claims(experiment.id.clone()));
        let rubric = (!lab.rubric.is_empty()).then_some(Selector::Rubric);
        let always = rubric.into_iter().chain([Selector::Versions]);
        let missing = always.chain(claims).filter(|selector| !shown.contains(selector));
        missing.map(|selector| self.missing(&selector, format!("no block shows `{selector}`"))).collect()
    }

    /// Named steps with output and no block.
    fn unshown(&self, lab: &LabSpec, record: &Record) -> Vec<Fault> {
        let selectors: Vec<Selector> =
            self.blocks().filter_map(|block| block.selector.parse().ok()).collect();
        let mut faults = Vec::new();
        for experiment in &lab.experiments {
            let Some(recorded) = record.experiments.iter().find(|recorded| recorded.id == experiment.id)
            else {
                continue;
            };
            if selectors.contains(&Selector::Rest(experiment.id.clone())) {
                continue;
            }
            let named: BTreeSet<_> = experiment.steps.iter().filter_map(Step::name).collect();
            for step in &recorded.steps {
                let shown = Selector::Run { experiment: experiment.id.clone(), step: step.name.clone() };
                if named.contains(step.name.as_str())
                    && !step.commands.is_empty()
                    && !selectors.contains(&shown)
                {
                    let what = format!("no block shows step `{}/{}`", experiment.id, step.name);
                    faults.push(self.missing(&shown, what));
                }
            }
        }
        faults
    }

    /// A block that is not there, told at the last block of its experiment, where the author looks.
    fn missing(&self, selector: &Selector, what: String) -> Fault {
        let of_it = |block: &&Block| match (selector.experiment(), block.selector.parse::<Selector>()) {
            (Some(id), Ok(other)) => other.experiment() == Some(id),
            _ => false,
        };
        let line = self.blocks().filter(of_it).map(|block| block.line).max().unwrap_or(self.lines);
        self.fault(
            line,
            what,
            format!("add the lines `<!-- lab:begin {selector} -->` and `<!-- lab:end -->`"),
        )
    }

    fn fault(&self, line: usize, what: String, next: String) -> Fault {
        Fault { path: self.path.clone(), line, what, next }
    }
}

impl Block {
    fn hand_edit(&self) -> Option<(String, String)> {
        let selector = &self.selector;
        match &self.checksum {
            None if self.content.trim().is_empty() => None,
            Some(sum) if *sum == checksum(&self.content) => None,
            _ => Some((
                format!("block `{selector}` was edited by hand"),
                "move your words out of the block, empty it, delete its `sha256=…`, then: cargo xtask docs"
                    .to_owned(),
            )),
        }
    }
}

fn block_text(selector: &str, content: &str) -> String {
    let content = content.trim_matches('\n');
    let content = if content.is_empty() { String::new() } else { format!("\n{content}\n\n") };
    format!("<!-- lab:begin {selector} -->\n{content}<!-- lab:end sha256={} -->\n", checksum(&content))
}

/// Sixteen hexadecimal digits: enough against a slip of the hand, short enough to read past. Blanks at line ends
/// don't count, since editors take them away.
fn checksum(content: &str) -> String {
    let lines = content.trim().lines().map(|line| format!("{}\n", line.trim_end()));
    sha256(lines.collect::<String>().as_bytes())[..16].to_owned()
}

/// Reads a page line by line.
struct Parser {
    page: Page,
    prose: String,
    /// The fence of a code block in the prose, in which markers are text.
    fence: Option<String>,
    block: Option<Block>,
}

impl Parser {
    fn new(path: &str) -> Self {
        let page = Page {
            path: path.to_owned(),
            parts: Vec::new(),
            headings: Vec::new(),
            faults: Vec::new(),
            lines: 0,
        };
        Self { page, prose: String::new(), fence: None, block: None }
    }

    fn run(mut self, text: &str) -> Page {
        for (at, line) in text.split_inclusive('\n').enumerate() {
            self.page.lines = at + 1;
            let trimmed = line.trim();
            match (Marker::read(trimmed), self.block.is_some()) {
                (Some(marker), _) if self.fence.is_none() => self.marker(at + 1, marker),
                (_, true) => self.block.as_mut().expect("a block is open").content.push_str(line),
                (_, false) => self.prose_line(at + 1, line, trimmed),
            }
        }
        if self.block.is_some() {
            self.unended();
        }
        self.page.parts.push(Part::Prose(self.prose));
        self.page
    }

    fn marker(&mut self, line: usize, marker: Marker) {
        match marker {
            Marker::Begin(selector) => {
                if self.block.is_some() {
                    self.unended();
                }
                self.page.parts.push(Part::Prose(std::mem::take(&mut self.prose)));
                self.block = Some(Block { line, selector, content: String::new(), checksum: None });
                if let Some(heading) = self.page.headings.last_mut() {
                    heading.filled = true;
                }
            }
            Marker::End(checksum) => match self.block.take() {
                Some(mut block) => {
                    block.checksum = checksum;
                    if let Some((what, next)) = block.hand_edit() {
                        self.fault(block.line, what, &next);
                    }
                    self.page.parts.push(Part::Block(block));
                }
                None => self.fault(
                    line,
                    "`lab:end` without a `lab:begin` above it".to_owned(),
                    "delete the line, or add the `lab:begin` it belongs to",
                ),
            },
            Marker::Unknown(text) => self.fault(
                line,
                format!("`{text}` is no marker"),
                "write `<!-- lab:begin SELECTOR -->` or `<!-- lab:end -->`, each on a line of its own",
            ),
        }
    }

    fn prose_line(&mut self, number: usize, line: &str, trimmed: &str) {
        self.prose += line;
        let fence: String = trimmed.chars().take_while(|mark| ['`', '~'].contains(mark)).collect();
        match &self.fence {
            Some(open) if fence.starts_with(open.as_str()) && trimmed == fence => self.fence = None,
            None if fence.len() >= 3 => self.fence = Some(fence),
            _ => {}
        }
        let level = trimmed.chars().take_while(|mark| *mark == '#').count();
        let title = trimmed[level..].trim().trim_end_matches('#').trim_end();
        if self.fence.is_none() && (1..=6).contains(&level) && trimmed[level..].starts_with(' ') {
            let text = title.to_owned();
            self.page.headings.push(Heading { line: number, level, text, filled: false });
        } else if let (false, Some(heading)) = (trimmed.is_empty(), self.page.headings.last_mut()) {
            heading.filled = true;
        }
    }

    /// A block nobody closed: what follows its marker is kept as prose, so that nothing is lost.
    fn unended(&mut self) {
        let block = self.block.take().expect("a block is open");
        self.fault(
            block.line,
            format!("block `{}` has no end", block.selector),
            "add `<!-- lab:end -->` where it ends",
        );
        self.page
            .parts
            .push(Part::Prose(format!("<!-- lab:begin {} -->\n{}", block.selector, block.content)));
    }

    fn fault(&mut self, line: usize, what: String, next: &str) {
        let fault = self.page.fault(line, what, next.to_owned());
        self.page.faults.push(fault);
    }
}

enum Marker {
    Begin(String),
    End(Option<String>),
    Unknown(String),
}

impl Marker {
    fn read(line: &str) -> Option<Self> {
        let inner = line.strip_prefix("<!--")?.trim_start();
        if !inner.starts_with("lab:") {
            return None;
        }
        let Some(inner) = inner.strip_suffix("-->").map(str::trim) else {
            return Some(Self::Unknown(line.to_owned()));
        };
        let words: Vec<&str> = inner.split_whitespace().collect();
        Some(match words.as_slice() {
            ["lab:begin", selector @ ..] if !selector.is_empty() => Self::Begin(selector.join(" ")),
            ["lab:end"] => Self::End(None),
            ["lab:end", sum] if sum.starts_with("sha256=") => {
                Self::End(Some(sum["sha256=".len()..].to_owned()))
            }
            _ => Self::Unknown(line.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn parse(text: &str) -> Page {
        Page::parse("docs/PAGE.md", text)
    }

    fn faults(text: &str) -> Vec<String> {
        let (lab, record) = fixture::passing();
        parse(text).faults(&lab, Some(&record)).iter().map(ToString::to_string).collect()
    }

    /// The fixture's page, filled with something recognisable.
    fn filled() -> String {
        parse(fixture::PAGE).filled(|selector| format!("```console\nshows {selector}: 7\n```"))
    }

    #[test]
    fn a_page_fresh_from_the_program_has_no_faults_and_fills_to_itself() {
        assert_eq!(faults(fixture::PAGE), Vec::<String>::new());
        assert_eq!(faults(&filled()), Vec::<String>::new());
        assert_eq!(
            parse(&filled()).filled(|selector| format!("```console\nshows {selector}: 7\n```")),
            filled()
        );
    }

    #[test]
    fn prose_is_kept_to_the_letter() {
        let text = "# A  \n\n\ttext\r\n<!-- a comment -->\n\nno newline at the end";
        assert_eq!(parse(text).filled(|_| String::new()), text);
    }

    #[test]
    fn one_changed_digit_in_a_block_is_told_with_its_line() {
        let edited =
            filled().replacen("shows run persistence/before: 7", "shows run persistence/before: 8", 1);
        let line =
            edited.lines().position(|line| line == "<!-- lab:begin run persistence/before -->").unwrap() + 1;
        assert_eq!(
            faults(&edited),
            [format!(
                "docs/PAGE.md:{line}: block `run persistence/before` was edited by hand\n  next: move your words out \
                 of the block, empty it, delete its `sha256=…`, then: cargo xtask docs"
            )]
        );
    }

    #[test]
    fn words_in_a_block_without_a_checksum_are_an_edit_by_hand_too() {
        let edited = "<!-- lab:begin rubric -->\nmine\n<!-- lab:end -->\n";
        assert!(parse(edited).faults[0].what.contains("edited by hand"));
    }

    #[test]
    fn a_marker_without_its_partner_is_told_and_nothing_is_lost() {
        let text = "a\n<!-- lab:begin rubric -->\nb\n<!-- lab:begin versions -->\n<!-- lab:end -->\n<!-- lab:end -->\n";
        let page = parse(text);
        let told: Vec<_> = page.faults.iter().map(|fault| (fault.line, fault.what.as_str())).collect();
        assert_eq!(told, [(2, "block `rubric` has no end"), (6, "`lab:end` without a `lab:begin` above it")]);
        assert!(page.filled(|_| String::new()).contains("<!-- lab:begin rubric -->\nb\n"));
        assert_eq!(parse("<!-- lab:begin rubric -->\nb").faults[0].what, "block `rubric` has no end");
    }

    #[test]
    fn selectors_nobody_knows_and_blocks_that_name_nothing_are_told() {
        let told = |selector: &str| {
            let text = format!("{}<!-- lab:begin {selector} -->\n<!-- lab:end -->\n", fixture::PAGE);
            let line = fixture::PAGE.lines().count() + 1;
            let [fault] = faults(&text).try_into().expect("one fault");
            let (place, what) =
                fault.split_once(": ").map(|(place, what)| (place.to_owned(), what.to_owned())).unwrap();
            assert_eq!(place, format!("docs/PAGE.md:{line}"));
            what
        };
        insta::assert_snapshot!(
            [
                "rubrik",
                "run persistence",
                "run persistance/before",
                "run persistence/befor",
                "claims storage",
                "rubric persistence",
            ]
            .map(told)
            .join("\n")
        );
    }

    #[test]
    fn a_comment_that_nearly_is_a_marker_is_told() {
        assert!(faults(&format!("{}<!-- lab:start rubric -->\n", fixture::PAGE))[0].contains("is no marker"));
    }

    #[test]
    fn a_named_step_with_output_that_no_block_shows_is_told() {
        let text = fixture::PAGE.replace("<!-- lab:begin run persistence/counts -->\n<!-- lab:end -->\n", "");
        let told = faults(&text);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("no block shows step `persistence/counts`"), "{told:?}");
        assert!(told[0].contains("`<!-- lab:begin run persistence/counts -->`"), "{told:?}");
    }

    #[test]
    fn a_page_that_hides_its_verdicts_is_told() {
        for selector in ["rubric", "versions", "claims dns"] {
            let block = format!("<!-- lab:begin {selector} -->\n<!-- lab:end -->\n");
            assert!(fixture::PAGE.contains(&block));
            let told = faults(&fixture::PAGE.replace(&block, ""));
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with("docs/PAGE.md:"), "{told:?}");
            assert!(told[0].contains(&format!("no block shows `{selector}`")), "{told:?}");
        }
    }

    #[test]
    fn markers_in_a_code_block_of_the_prose_are_text() {
        assert_eq!(parse("````\n```\n<!-- lab:begin rubric -->\n````\n").blocks().count(), 0);
    }

    #[test]
    fn headings_are_found_whatever_their_case_and_faults_count_for_theirs() {
        let (lab, _) = fixture::passing();
        let edited = filled().replacen("shows run dns/lookups: 7", "shows run dns/lookups: 8", 1);
        let page = parse(&(edited + "\n## Empty ##\n\n### Also empty\n"));
        let headings = page.headings(&page.faults(&lab, None));
        let fault = |heading: &str| match &headings[heading] {
            Under::Fault(fault) => fault.as_str(),
            _ => "",
        };
        assert_eq!(headings["overview"], Under::Sound);
        assert_eq!(headings["persistence test"], Under::Sound);
        assert!(fault("network identity").contains("edited by hand"));
        assert!(fault("empty").contains("nothing stands under it"));
        assert!(!headings.contains_key("lookups"));
    }
}
