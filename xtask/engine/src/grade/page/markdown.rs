//! A page in Markdown as far as grading needs it: its sections, what each is about, and its lines.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::topics::{self, Topic};

/// The most that an underlined heading has.
const TITLE_CHARS: usize = 80;

/// A page taken apart.
#[derive(Debug)]
pub(super) struct Page {
    sections: Vec<Section>,
    lines: Vec<Line>,
}

/// A heading and where it stands; the first section is what stands above all headings.
#[derive(Debug)]
struct Section {
    title: String,
    level: usize,
    parent: Option<usize>,
    topics: BTreeSet<Topic>,
}

/// A line of the page.
#[derive(Debug)]
pub(super) struct Line {
    /// Its number in the file, counted from one.
    pub(super) number: usize,
    /// Its text, with dashes and spaces that a keyboard has.
    pub(super) text: String,
    /// The block of code that it stands in.
    pub(super) block: Option<usize>,
    /// The section that it stands in.
    pub(super) section: usize,
}

impl Line {
    /// Whether it leads to a picture, or to a file with output, instead of showing it.
    fn leads_away(&self) -> bool {
        static AWAY: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"(?i)!\[|<img\b|\]\(\s*<?[^)]*\.(?:png|jpe?g|gif|webp|svg|txt|log)\b")
                .expect("the pattern is one")
        });
        self.block.is_none() && AWAY.is_match(&self.text)
    }
}

impl Page {
    /// Takes a page apart.
    pub(super) fn parse(text: &str) -> Self {
        let text: String = text.chars().map(plain).collect();
        let lines: Vec<&str> = text.lines().collect();
        let is_bare = |line: &&str, mark: &str| {
            fence_of(line.trim()).starts_with(mark) && fence_of(line.trim()) == line.trim()
        };
        let last = ["```", "~~~"].map(|mark| lines.iter().rposition(|line| is_bare(line, mark)).unwrap_or(0));
        let mut page = Self { sections: vec![Section::above()], lines: Vec::new() };
        let (mut fence, mut blocks) = (None::<String>, 0);
        for (at, line) in lines.iter().enumerate() {
            let trimmed = line.trim();
            let mark = fence_of(trimmed);
            if let Some(open) = &fence {
                if mark.starts_with(open.as_str()) && mark.len() == trimmed.len() {
                    fence = None;
                } else {
                    page.line(at, line, Some(blocks));
                }
            } else if mark.len() >= 3 {
                // A fence that nobody closes, and one around the whole page, hide nothing.
                let whole = ["markdown", "md"].contains(&trimmed[mark.len()..].trim());
                if !whole && last[usize::from(mark.starts_with('~'))] > at {
                    blocks += 1;
                    fence = Some(mark.to_owned());
                }
            } else if let Some((level, title)) = heading(trimmed, lines.get(at + 1)) {
                page.heading(level, title);
            } else if line.starts_with("    ") || line.starts_with('\t') {
                let goes_on = page.lines.last().is_some_and(|last| last.block.is_some() && last.number == at);
                blocks += usize::from(!goes_on);
                page.line(at, line, Some(blocks));
            } else if !trimmed.starts_with("<!--") {
                page.line(at, line, None);
            }
        }
        page.find_topics();
        page
    }

    /// Every line.
    pub(super) fn lines(&self) -> Vec<&Line> {
        self.lines.iter().collect()
    }

    /// The lines of the sections about any of these, and of those below them.
    pub(super) fn about(&self, topics: &[Topic]) -> Vec<&Line> {
        self.lines.iter().filter(|line| self.is_about(line.section, topics)).collect()
    }

    /// The lines of the sections that are about none of these.
    pub(super) fn but(&self, topics: &[Topic]) -> Vec<&Line> {
        self.lines.iter().filter(|line| !self.is_about(line.section, topics)).collect()
    }

    /// The lines of sections that are about nothing in particular.
    pub(super) fn elsewhere(&self) -> Vec<&Line> {
        self.but(Topic::ALL)
    }

    /// Of each section about any of these, or of those about nothing in particular, the heading and the words below it,
    /// without code, in lower case; of a section that itself is about any of `whole`, with all that stands below it.
    pub(super) fn texts(&self, topics: &[Topic], whole: &[Topic]) -> Vec<String> {
        let wanted = |section: usize| match topics {
            [] => !self.is_about(section, Topic::ALL),
            topics => self.is_about(section, topics),
        };
        let takes_all =
            |section: usize| self.sections[section].topics.iter().any(|topic| whole.contains(topic));
        let mut texts = vec![String::new(); self.sections.len()];
        let titles = self.sections.iter().enumerate().map(|(at, section)| (at, section.title.as_str()));
        let lines = self.lines.iter().filter(|line| line.block.is_none());
        for (section, words) in titles.chain(lines.map(|line| (line.section, line.text.as_str()))) {
            for at in self.with_parents(section).filter(|at| *at == section || takes_all(*at)) {
                texts[at] += &words.to_lowercase();
                texts[at].push('\n');
            }
        }
        let texts = texts.into_iter().enumerate();
        texts.filter(|(section, _)| wanted(*section)).map(|(_, text)| text).collect()
    }

    /// The line at which something about this is shown elsewhere: as a picture, or in another file.
    pub(super) fn shown_elsewhere(&self, topic: Topic) -> Option<usize> {
        let of = |lines: Vec<&Line>| lines.into_iter().find(|line| line.leads_away()).map(|line| line.number);
        let told =
            || self.lines.iter().find(|line| line.leads_away() && topics::of(&line.text).contains(&topic));
        of(self.about(&[topic])).or_else(|| told().map(|line| line.number)).or_else(|| of(self.elsewhere()))
    }

    fn line(&mut self, at: usize, text: &str, block: Option<usize>) {
        let section = self.sections.len() - 1;
        self.lines.push(Line { number: at + 1, text: text.to_owned(), block, section });
    }

    fn heading(&mut self, level: usize, title: &str) {
        let last = self.sections.len() - 1;
        let parent = self.with_parents(last).find(|at| self.sections[*at].level < level);
        self.sections.push(Section { title: title.to_owned(), level, parent, topics: BTreeSet::new() });
    }

    /// The heading above everything names the page; what it is about, its sections say.
    fn find_topics(&mut self) {
        let highest = self.sections.iter().skip(1).map(|section| section.level).min();
        let mut at_the_top = self.sections.iter().filter(|section| Some(section.level) == highest);
        let alone = at_the_top.next().is_some() && at_the_top.next().is_none() && self.sections.len() > 2;
        for section in &mut self.sections {
            if !(alone && Some(section.level) == highest) {
                section.topics = topics::of(&section.title);
            }
        }
    }

    fn is_about(&self, section: usize, topics: &[Topic]) -> bool {
        self.with_parents(section)
            .any(|at| self.sections[at].topics.iter().any(|topic| topics.contains(topic)))
    }

    fn with_parents(&self, section: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(section), |at| self.sections[*at].parent)
    }
}

impl Section {
    fn above() -> Self {
        Self { title: String::new(), level: 0, parent: None, topics: BTreeSet::new() }
    }
}

/// Word processors put dashes and spaces of their own into names.
fn plain(character: char) -> char {
    match character {
        '\u{2010}'..='\u{2013}' | '\u{2212}' => '-',
        '\u{a0}' | '\u{202f}' => ' ',
        other => other,
    }
}

fn fence_of(line: &str) -> &str {
    let mark = line.chars().next().filter(|mark| ['`', '~'].contains(mark));
    let end = mark.map_or(0, |mark| line.len() - line.trim_start_matches(mark).len());
    &line[..end]
}

/// Level and title of a heading, also of one that is underlined.
fn heading<'a>(line: &'a str, next: Option<&&str>) -> Option<(usize, &'a str)> {
    let level = line.len() - line.trim_start_matches('#').len();
    if (1..=6).contains(&level) && line[level..].starts_with([' ', '\t']) {
        return Some((level, line[level..].trim().trim_end_matches('#').trim_end()));
    }
    let under = next.map(|next| next.trim()).filter(|next| next.len() >= 3)?;
    // A sentence with a rule below it is no heading, whatever Markdown says.
    let is_title = line.chars().any(char::is_alphanumeric) && line.chars().count() <= TITLE_CHARS;
    let is_text =
        is_title && !line.contains('|') && !line.starts_with(['-', '*', '>']) && !line.ends_with(['.', ':']);
    match is_text {
        true if under.chars().all(|it| it == '=') => Some((1, line)),
        true if under.chars().all(|it| it == '-') => Some((2, line)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(lines: Vec<&Line>) -> Vec<usize> {
        let written = lines.into_iter().filter(|line| !line.text.trim().is_empty());
        written.map(|line| line.number).collect()
    }

    #[test]
    fn a_section_is_about_what_its_headings_say_and_the_title_says_nothing() {
        let page =
            Page::parse("# Persistence\na\n## DNS\nb\n### More\nc\n## Хранилище\nd\nOverview\n---\ne\n");
        assert_eq!(numbers(page.about(&[Topic::Identity])), [4, 6]);
        assert_eq!(numbers(page.about(&[Topic::Storage])), [8]);
        assert_eq!(numbers(page.about(&[Topic::Overview])), [10, 11]);
        assert_eq!(numbers(page.elsewhere()), [2]);
        assert_eq!(numbers(page.about(&[Topic::Persistence])), [0; 0]);
    }

    #[test]
    fn code_is_fenced_or_indented_and_holds_no_headings() {
        let page = Page::parse(
            "## DNS\n  ```console\n  # DNS\n  ```\ntext\n\n    indented\n    too\n~~~\n```\n~~~\n",
        );
        let blocks: Vec<_> = page.lines().iter().map(|line| (line.number, line.block)).collect();
        assert_eq!(blocks, [(3, Some(1)), (5, None), (6, None), (7, Some(2)), (8, Some(2)), (10, Some(3))]);
    }

    #[test]
    fn a_fence_that_nobody_closes_and_one_around_the_page_hide_nothing() {
        let page = Page::parse("```markdown\n## DNS\na\n```\nb\n```\n~~~\n## Persistence\nc\n");
        assert_eq!(numbers(page.about(&[Topic::Identity])), [3, 5]);
        assert_eq!(numbers(page.about(&[Topic::Persistence])), [9]);
    }

    #[test]
    fn a_picture_counts_for_its_section_or_by_its_words() {
        let page =
            Page::parse("## Overview\n![nslookup](1.png)\n## Storage\n[shot](<a b.png>)\n## Listing\nnone\n");
        assert_eq!(page.shown_elsewhere(Topic::Identity), Some(2));
        assert_eq!(page.shown_elsewhere(Topic::Storage), Some(4));
        assert_eq!(page.shown_elsewhere(Topic::Listing), None);
        let page = Page::parse("## Listing\nnone\n## Screenshots\n![](1.png)\n");
        assert_eq!(page.shown_elsewhere(Topic::Listing), Some(4));
    }
}
