//! What a terminal showed, as a picture that moves: screens one below the other, of which one is seen at a time. No
//! script, nothing from elsewhere; whoever wants nothing to move sees the last screen.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use vt100::{Cell, Color, Parser, Screen};

use super::pty::{Printed, Size};
use model::text::escaped;

/// The picture is looked at on a page: it should not weigh more than one.
const MOST_BYTES: usize = 95_000;
/// How far apart screens are taken, the closest first: the first that is light enough is taken.
const APART_MS: [u64; 7] = [500, 1000, 1500, 2000, 3000, 5000, 10_000];
/// So much faster it is played.
const FASTER: f64 = 4.0;
/// So many seconds the last screen stands.
const LAST_S: f64 = 8.0;
/// Pixels: a character's width, a line's height, the room around.
const CHARACTER: usize = 8;
const LINE: usize = 18;
const AROUND: usize = 12;

/// The picture of everything that was printed below a prompt.
///
/// # Errors
/// When no choice of screens makes it light enough.
pub(super) fn picture(prompt: &str, printed: &[Printed], size: Size) -> Result<String> {
    let choices = APART_MS.iter().map(|ms| document(&films(prompt, printed, size, *ms), size));
    choices.into_iter().find(|svg| svg.len() <= MOST_BYTES).context("the run is too long for a picture")
}

/// The last screen as text.
pub(super) fn last_screen(prompt: &str, printed: &[Printed], size: Size) -> String {
    let mut terminal = Parser::new(size.rows, size.columns, 0);
    terminal.process(prompt.as_bytes());
    printed.iter().for_each(|printed| terminal.process(&printed.bytes));
    terminal.screen().contents()
}

/// A screen and when it was first seen.
struct Frame {
    at: Duration,
    lines: Vec<String>,
}

/// Screens so far apart, and the last.
fn films(prompt: &str, printed: &[Printed], size: Size, apart_ms: u64) -> Vec<Frame> {
    let mut terminal = Parser::new(size.rows, size.columns, 0);
    terminal.process(prompt.as_bytes());
    let mut frames = vec![Frame { at: Duration::ZERO, lines: lines(terminal.screen()) }];
    let apart = Duration::from_millis(apart_ms);
    let mut next = apart;
    let mut take = |at: Duration, screen: &Screen| {
        let lines = lines(screen);
        if frames.last().is_some_and(|last| last.lines != lines) {
            frames.push(Frame { at, lines });
        }
    };
    for printed in printed {
        while printed.at >= next {
            take(next, terminal.screen());
            next += apart;
        }
        terminal.process(&printed.bytes);
    }
    take(next, terminal.screen());
    frames
}

fn document(frames: &[Frame], size: Size) -> String {
    let (width, height) =
        (usize::from(size.columns) * CHARACTER + 2 * AROUND, usize::from(size.rows) * LINE + 2 * AROUND);
    let mut times: HashMap<&str, (usize, Option<usize>)> = HashMap::new();
    for line in frames.iter().flat_map(|frame| &frame.lines).filter(|line| !line.is_empty()) {
        times.entry(line).or_default().0 += 1;
    }
    let (mut film, mut shared) = (String::new(), 0);
    for (place, frame) in frames.iter().enumerate() {
        film += &format!("<g transform=\"translate(0 {})\">", place * height);
        for (row, line) in frame.lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
            let y = AROUND + (row + 1) * LINE - 5;
            let (times, id) = times.get_mut(line.as_str()).expect("every line was counted");
            // What stands on more than one screen is written once.
            film += &match id {
                Some(id) => format!("<use href=\"#l{id}\" y=\"{y}\"/>"),
                None if *times == 1 => format!("<text y=\"{y}\">{line}</text>"),
                None => {
                    shared += 1;
                    *id = Some(shared);
                    // `use` adds its place to that of the line, which therefore has none.
                    format!("<g transform=\"translate(0 {y})\"><text id=\"l{shared}\">{line}</text></g>")
                }
            };
        }
        film += "</g>\n";
    }
    let begin = |frame: &Frame| frame.at.as_secs_f64() / FASTER;
    let whole = frames.last().map_or(0.0, begin) + LAST_S;
    let stops: Vec<String> = frames
        .iter()
        .enumerate()
        .map(|(place, frame)| {
            let percent = 100.0 * begin(frame) / whole;
            format!("{percent:.2}%{{transform:translateY(-{}px)}}", place * height)
        })
        .collect();
    let last = (frames.len() - 1) * height;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-labelledby=\"says\">\n<title id=\"says\">A run of the lab in a terminal, {FASTER} times as fast</title>\n\
         <style>{}\n.film{{transform:translateY(-{last}px);animation:film {whole:.1}s step-end infinite}}\n\
         @keyframes film{{{}}}\n@media(prefers-reduced-motion:reduce){{.film{{animation:none}}}}\n</style>\n\
         <rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n\
         <g class=\"film\">\n{film}</g>\n</svg>\n",
        include_str!("svg.css").trim_end(),
        stops.concat(),
    )
}

/// The lines of a screen: what is painted alike as one piece at its own place, so that no font moves the columns.
fn lines(screen: &Screen) -> Vec<String> {
    let (rows, columns) = screen.size();
    let line = |row: u16| {
        let mut pieces: Vec<(usize, &str, String)> = Vec::new();
        for column in 0..columns {
            let Some(cell) = screen.cell(row, column).filter(|cell| !cell.is_wide_continuation()) else {
                continue;
            };
            let text = if cell.has_contents() { cell.contents() } else { " " };
            match pieces.last_mut().filter(|(_, class, _)| *class == class_of(cell) || text == " ") {
                Some((_, _, piece)) => piece.push_str(text),
                None if text == " " => {}
                None => pieces.push((usize::from(column), class_of(cell), text.to_owned())),
            }
        }
        pieces.iter().map(|(column, class, text)| piece(*column, class, text.trim_end())).collect()
    };
    (0..rows).map(line).collect()
}

fn piece(column: usize, class: &str, text: &str) -> String {
    let x = AROUND + column * CHARACTER;
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    // Fonts differ in width; a terminal's columns do not.
    let length = text.chars().count() * CHARACTER;
    let length = if length > 4 * CHARACTER { format!(" textLength=\"{length}\"") } else { String::new() };
    format!("<tspan x=\"{x}\"{length}{class}>{}</tspan>", escaped(text))
}

fn class_of(cell: &Cell) -> &'static str {
    match cell.fgcolor() {
        Color::Idx(1) => "bad",
        Color::Idx(2) => "good",
        Color::Idx(3) => "doubtful",
        Color::Idx(6) => "busy",
        _ if cell.bold() => "strong",
        _ if cell.dim() => "dim",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size { rows: 4, columns: 30 };

    fn printed(said: &[(u64, &str)]) -> Vec<Printed> {
        let one = |(ms, text): &(u64, &str)| Printed {
            at: Duration::from_millis(*ms),
            bytes: text.as_bytes().to_owned(),
        };
        said.iter().map(one).collect()
    }

    #[test]
    fn a_screen_keeps_its_columns_and_colours_and_what_was_overwritten_is_gone() {
        let said = [
            (100, "\x1b[36m⠋\x1b[0m build <fast>\r\n"),
            (1300, "\x1b[1A\r\x1b[2K\x1b[32m✓\x1b[0m build \x1b[2m  0.4 s\x1b[0m\r\n"),
        ];
        insta::assert_snapshot!(picture("$ lab\r\n", &printed(&said), SMALL).unwrap());
    }

    #[test]
    fn a_long_run_is_shown_by_fewer_screens() {
        let said: Vec<(u64, String)> =
            (0..3000).map(|at| (at * 100, format!("line {at} of many\r\n"))).collect();
        let said: Vec<(u64, &str)> = said.iter().map(|(at, text)| (*at, text.as_str())).collect();
        let size = Size { rows: 30, columns: 30 };
        let picture = picture("", &printed(&said), size).unwrap();
        assert!(picture.len() <= MOST_BYTES && picture.contains("line 2999 of many"), "{}", picture.len());
        assert!(last_screen("", &printed(&said), size).ends_with("line 2999 of many"));
    }
}
