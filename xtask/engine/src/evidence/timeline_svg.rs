//! The picture of a run: pods as lanes, phases as shapes, revisions as colours, what was done as numbered lines.
//!
//! Plain SVG without scripts. Colours are those of Okabe and Ito, told apart by nearly everybody, and a letter
//! stands in each bar beside them; phases differ by height and pattern, so the picture also works in grey.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::acts::{Act, acts};
use super::lives::{Lane, Life, Phase, lanes};
use model::kinds::Kind;
use model::record::{ExperimentRecord, Record};
use model::text::{escaped, shortened};

/// The picture of one experiment.
pub(crate) fn experiment(experiment: &ExperimentRecord) -> String {
    let lanes = lanes(&experiment.timeline, experiment.duration_ms);
    let acts = acts(experiment);
    let mut canvas = Canvas::new(&format!("timeline-{}", experiment.id), experiment.duration_ms, &lanes);
    let top = HEAD + badge_rows(&acts, &canvas) as f64 * BADGE_ROW;
    let bottom = top + lanes.iter().map(|lane| lane_height(lane, false)).sum::<f64>();
    canvas.axis(top, bottom);
    canvas.bands(&acts, top, bottom);
    canvas.lanes(&lanes, top, false);
    canvas.acts(&acts, top, bottom);
    let end = canvas.legend(&lanes, bottom + 34.0);
    let end = canvas.act_list(&acts, end + 8.0);
    let pods = lanes.iter().filter(|lane| lane.is_pod()).count();
    let says = format!(
        "{pods} pods over {:.1} s. {}",
        experiment.duration_ms as f64 / 1000.0,
        acts.iter()
            .map(|act| format!("{:.1} s: {}.", act.at_ms as f64 / 1000.0, act.says))
            .collect::<Vec<_>>()
            .join(" ")
    );
    canvas.finish(&experiment.question, &says, end)
}

/// The picture of a whole run: every experiment with its pods, on one axis.
pub(crate) fn run(record: &Record) -> String {
    let mut all = Vec::new();
    for experiment in &record.experiments {
        let mut lanes = lanes(&experiment.timeline, experiment.duration_ms);
        lanes.retain(|lane| lane.is_pod());
        for life in lanes.iter_mut().flat_map(|lane| &mut lane.lives) {
            life.shift(experiment.started_ms);
        }
        all.push((experiment, lanes));
    }
    // Only what belongs to the experiments is drawn: the cluster may have taken minutes before them.
    let from = record.experiments.iter().map(|experiment| experiment.started_ms).min().unwrap_or_default();
    let until = record
        .experiments
        .iter()
        .map(|it| it.started_ms + it.duration_ms)
        .max()
        .unwrap_or(record.duration_ms);
    for life in all.iter_mut().flat_map(|(_, lanes)| lanes).flat_map(|lane| &mut lane.lives) {
        life.unshift(from);
    }
    // Letters count within an experiment, since each has revisions of its own.
    let names: Vec<Lane> = all.iter().flat_map(|(_, lanes)| lanes).cloned().collect();
    let mut canvas = Canvas::new("run", until - from, &names);
    let height = |lanes: &[Lane]| 20.0 + lanes.iter().map(|lane| lane_height(lane, true)).sum::<f64>();
    let bottom = HEAD + all.iter().map(|(_, lanes)| height(lanes)).sum::<f64>();
    canvas.axis(HEAD, bottom);
    let mut top = HEAD;
    for (experiment, lanes) in &all {
        canvas.group(experiment, from, top, height(lanes));
        canvas.revisions = revisions(lanes);
        canvas.lanes(lanes, top + 18.0, true);
        top += height(lanes);
    }
    let most = all.iter().map(|(_, lanes)| lanes).max_by_key(|lanes| revisions(lanes).len());
    canvas.revisions = BTreeMap::new();
    let end = canvas.legend_of(most.map_or(0, |lanes| revisions(lanes).len()), None, bottom + 34.0);
    let says = format!("{} experiments over {:.1} s.", all.len(), (until - from) as f64 / 1000.0);
    canvas.finish(&record.title, &says, end)
}

const WIDTH: f64 = 960.0;
const RIGHT: f64 = 20.0;
/// Height above the lanes, without the badges.
const HEAD: f64 = 24.0;
const BADGE_ROW: f64 = 18.0;
/// About the width of a letter of 12 px; an SVG cannot measure text.
const LETTER: f64 = 6.7;
const COLOURS: usize = 6;

const STYLE: &str = include_str!("timeline_svg.css");

fn lane_height(lane: &Lane, compact: bool) -> f64 {
    match (lane.is_pod(), compact) {
        (true, false) => 32.0,
        (true, true) => 15.0,
        (false, _) => 18.0,
    }
}

/// Each revision's place in the order in which it was first seen.
fn revisions(lanes: &[Lane]) -> BTreeMap<String, usize> {
    let mut lives: Vec<&Life> =
        lanes.iter().filter(|lane| lane.is_pod()).flat_map(|lane| &lane.lives).collect();
    lives.sort_by_key(|life| life.begins_ms());
    let mut found = BTreeMap::new();
    for revision in lives.iter().filter_map(|life| life.revision.as_ref()) {
        let next = found.len();
        found.entry(revision.clone()).or_insert(next);
    }
    found
}

fn badge_rows(acts: &[Act], canvas: &Canvas) -> usize {
    places(acts, canvas).into_iter().map(|(_, row)| row + 1).max().unwrap_or(0)
}

/// Where the numbered badges go: above their line, one row higher where the one before would cover them.
fn places(acts: &[Act], canvas: &Canvas) -> Vec<(f64, usize)> {
    let mut ends: Vec<f64> = Vec::new();
    acts.iter()
        .map(|act| {
            let x = canvas.x(act.at_ms);
            let row = ends.iter().position(|end| *end <= x).unwrap_or(ends.len());
            if row == ends.len() {
                ends.push(0.0);
            }
            ends[row] = x + 19.0;
            (x, row)
        })
        .collect()
}

struct Canvas {
    out: String,
    id: String,
    left: f64,
    scale: f64,
    until_ms: u64,
    revisions: BTreeMap<String, usize>,
    /// Whether it is told on which node a pod is: where there are several.
    nodes: bool,
}

impl Canvas {
    fn new(id: &str, until_ms: u64, lanes: &[Lane]) -> Self {
        let longest = lanes.iter().map(|lane| lane.name.chars().count()).max().unwrap_or(18);
        let left = (longest.clamp(8, 28) as f64 * LETTER + 18.0).round();
        let last = lanes.iter().flat_map(|lane| &lane.lives).map(Life::until_ms).max().unwrap_or(0);
        let until_ms = until_ms.max(last).max(1);
        let scale = (WIDTH - left - RIGHT) / until_ms as f64;
        let id = id.chars().filter(|it| it.is_ascii_alphanumeric() || *it == '-').collect();
        let nodes: BTreeSet<_> =
            lanes.iter().flat_map(|lane| &lane.lives).filter_map(|life| life.node.as_ref()).collect();
        let nodes = nodes.len() > 1;
        Self { out: String::new(), id, left, scale, until_ms, revisions: revisions(lanes), nodes }
    }

    fn x(&self, at_ms: u64) -> f64 {
        self.left + at_ms as f64 * self.scale
    }

    fn put(&mut self, element: std::fmt::Arguments) {
        self.out.write_fmt(element).expect("a string takes everything");
        self.out.push('\n');
    }

    fn axis(&mut self, top: f64, bottom: f64) {
        const STEPS: [u64; 12] =
            [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000];
        let step = STEPS.into_iter().find(|step| self.until_ms / step <= 12).unwrap_or(600_000);
        for at in (0..=self.until_ms).step_by(step as usize) {
            let (x, label) = (self.x(at), at as f64 / 1000.0);
            self.put(format_args!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.0}\" y2=\"{bottom:.0}\"/>"
            ));
            let y = bottom + 14.0;
            self.put(format_args!(
                "<text class=\"dim\" x=\"{x:.1}\" y=\"{y:.0}\" text-anchor=\"middle\">{label} s</text>"
            ));
        }
    }

    fn bands(&mut self, acts: &[Act], top: f64, bottom: f64) {
        for act in acts.iter().filter(|act| act.holds) {
            let x = self.x(act.at_ms);
            let width = (self.x(act.ended_ms) - x).max(1.0);
            let height = bottom - top;
            self.put(format_args!(
                "<rect class=\"band\" x=\"{x:.1}\" y=\"{top:.0}\" width=\"{width:.1}\" height=\"{height:.0}\"/>"
            ));
        }
    }

    fn acts(&mut self, acts: &[Act], top: f64, bottom: f64) {
        for (at, ((x, row), act)) in places(acts, self).into_iter().zip(acts).enumerate() {
            let (number, y) = (at + 1, top - 12.0 - row as f64 * BADGE_ROW);
            let says = escaped(&act.says);
            self.put(format_args!("<g><title>{number}. {says}</title>"));
            let class = if act.failed { "badge failed" } else { "badge" };
            self.put(format_args!(
                "<line class=\"act\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.0}\" y2=\"{bottom:.0}\"/>"
            ));
            self.put(format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.0}\" r=\"8\"/>"));
            let y = y + 3.5;
            self.put(format_args!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{number}</text></g>"
            ));
        }
    }

    fn group(&mut self, experiment: &ExperimentRecord, from_ms: u64, top: f64, height: f64) {
        let (x, y) = (self.x(experiment.started_ms - from_ms), top + 4.0);
        let width = (experiment.duration_ms as f64 * self.scale).max(1.0);
        let height = height - 6.0;
        let id = escaped(&experiment.id);
        let question = escaped(&experiment.question);
        self.put(format_args!(
            "<rect class=\"band\" x=\"{x:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{height:.0}\" rx=\"3\"><title>{question}</title></rect>"
        ));
        let y = top + 15.0;
        self.put(format_args!("<text x=\"4\" y=\"{y:.0}\" font-weight=\"600\">{id}</text>"));
    }

    fn lanes(&mut self, lanes: &[Lane], top: f64, compact: bool) {
        let mut y = top;
        for lane in lanes {
            let height = lane_height(lane, compact);
            let middle = y + height / 2.0;
            let name = escaped(&shortened(&lane.name, 28));
            let (class, size) = match (lane.is_pod(), compact) {
                (true, false) => ("", 12),
                (true, true) => ("dim", 10),
                (false, _) => ("dim", 11),
            };
            let (right, baseline) = (self.left - 10.0, middle + 4.0);
            self.put(format_args!(
                "<text class=\"{class}\" font-size=\"{size}\" x=\"{right:.0}\" y=\"{baseline:.1}\" text-anchor=\"end\">{name}</text>"
            ));
            for life in &lane.lives {
                match lane.kind {
                    Kind::Pod => self.pod(lane, life, middle, height - if compact { 4.0 } else { 8.0 }),
                    Kind::Node => self.pod(lane, life, middle, height - 6.0),
                    _ => self.volume(lane, life, middle),
                }
            }
            y += height;
        }
    }

    fn pod(&mut self, lane: &Lane, life: &Life, middle: f64, full: f64) {
        let place = life.revision.as_ref().and_then(|revision| self.revisions.get(revision)).copied();
        let class = place.map_or("none".to_owned(), |place| format!("r{}", place % COLOURS));
        let told = match (lane.kind, &life.revision, &life.node) {
            (Kind::Node, ..) => String::new(),
            (_, revision, node) => {
                let node = node.iter().filter(|_| self.nodes).map(|node| format!(", on {node}"));
                format!(", {}{}", revision.as_deref().unwrap_or("no revision"), node.collect::<String>())
            }
        };
        for span in &life.spans {
            let (x, width) =
                (self.x(span.from_ms), ((span.until_ms - span.from_ms) as f64 * self.scale).max(1.0));
            let words = format!(
                "{}, {}, {:.2}–{:.2} s{told}",
                lane.name,
                span.phase.says(),
                span.from_ms as f64 / 1000.0,
                span.until_ms as f64 / 1000.0
            );
            self.put(format_args!("<g><title>{}</title>", escaped(&words)));
            self.shape(span.phase, &class, x, middle, width, full);
            self.put(format_args!("</g>"));
        }
        for at in &life.restarts {
            let (x, y) = (self.x(*at), middle - full / 2.0);
            let words = escaped(&format!("{} restarted at {:.2} s", lane.name, *at as f64 / 1000.0));
            self.put(format_args!(
                "<path class=\"mark\" d=\"M{x:.1} {:.1}l-4.5 -7h9z\"><title>{words}</title></path>",
                y + 4.0
            ));
        }
        let start = life.spans.iter().find(|span| span.phase == Phase::Ready).or(life.spans.first());
        let Some(span) = start.filter(|_| full > 12.0) else { return };
        let room = (span.until_ms - span.from_ms) as f64 * self.scale;
        let letter = place.filter(|_| room > 14.0).map(|place| letter(place).to_string());
        let node =
            life.node.clone().filter(|node| self.nodes && node.chars().count() as f64 * LETTER + 20.0 < room);
        let words: Vec<String> = letter.into_iter().chain(node).collect();
        if !words.is_empty() {
            let (x, y, words) = (self.x(span.from_ms) + 4.0, middle + 3.5, escaped(&words.join(" ")));
            self.put(format_args!("<text class=\"letter\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>"));
        }
    }

    /// One phase: pending an outline, running not ready half as high and hatched, ready full, terminating full and
    /// hatched the other way.
    fn shape(&mut self, phase: Phase, class: &str, x: f64, middle: f64, width: f64, full: f64) {
        let height = match phase {
            Phase::Pending => full * 0.35,
            Phase::Running => full * 0.55,
            Phase::Ready | Phase::Terminating => full,
        };
        let y = middle - height / 2.0;
        let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\"");
        let hatch = match phase {
            Phase::Pending => return self.put(format_args!("<rect class=\"pending {class}\" {place}/>")),
            Phase::Ready => None,
            Phase::Running => Some("up"),
            Phase::Terminating => Some("down"),
        };
        self.put(format_args!("<rect class=\"bar {class}\" {place}/>"));
        if let Some(hatch) = hatch {
            let id = self.id.clone();
            self.put(format_args!("<rect fill=\"url(#{id}-{hatch})\" {place}/>"));
        }
    }

    fn volume(&mut self, lane: &Lane, life: &Life, middle: f64) {
        for span in &life.spans {
            let (x, width) =
                (self.x(span.from_ms), ((span.until_ms - span.from_ms) as f64 * self.scale).max(1.0));
            let bound = span.phase == Phase::Ready;
            let height = if bound { 6.0 } else { 2.0 };
            let y = middle - height / 2.0;
            let words = format!("volume claim {}, {}", lane.name, if bound { "bound" } else { "waiting" });
            self.put(format_args!(
                "<rect class=\"volume\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\"><title>{}</title></rect>",
                escaped(&words)
            ));
        }
    }

    fn legend(&mut self, lanes: &[Lane], y: f64) -> f64 {
        let mut names: Vec<(usize, String)> =
            self.revisions.iter().map(|(name, place)| (*place, name.clone())).collect();
        names.sort();
        let volumes = lanes.iter().any(|lane| lane.kind == Kind::PersistentVolumeClaim);
        let restarts = lanes.iter().flat_map(|lane| &lane.lives).any(|life| !life.restarts.is_empty());
        let names: Vec<String> = names.into_iter().map(|(_, name)| name).collect();
        let end = self.legend_of(names.len(), Some(&names), y);
        let mut x = self.left;
        let mut y = end;
        if restarts {
            self.put(format_args!("<path class=\"mark\" d=\"M{:.1} {:.1}l-4.5 -7h9z\"/>", x + 6.0, y + 3.0));
            x = self.legend_text("container restarted", x + 18.0, y);
        }
        if lanes
            .iter()
            .filter(|lane| lane.is_pod())
            .flat_map(|lane| &lane.lives)
            .any(|life| life.revision.is_none())
        {
            self.shape(Phase::Ready, "none", x, y, 20.0, 16.0);
            x = self.legend_text("no revision: a pod of no set", x + 26.0, y);
        }
        if volumes {
            self.put(format_args!(
                "<rect class=\"volume\" x=\"{x:.1}\" y=\"{:.1}\" width=\"22\" height=\"6\"/>",
                y - 3.0
            ));
            x = self.legend_text("volume claim bound", x + 28.0, y);
        }
        if x > self.left {
            y += 20.0;
        }
        y
    }

    /// Phases, then revisions: with their names, or only their letters.
    fn legend_of(&mut self, count: usize, names: Option<&[String]>, y: f64) -> f64 {
        let mut x = self.left;
        for phase in [Phase::Pending, Phase::Running, Phase::Ready, Phase::Terminating] {
            self.shape(phase, "r0", x, y, 26.0, 16.0);
            x = self.legend_text(phase.says(), x + 32.0, y);
        }
        let (mut x, mut y) = (self.left, y + 22.0);
        for place in 0..count {
            let name = match names.and_then(|names| names.get(place)) {
                Some(name) => format!("revision {}", shortened(name, 40)),
                None if place == 0 => "first revision of its experiment".to_owned(),
                None => format!("revision {}", place + 1),
            };
            let width = 32.0 + name.chars().count() as f64 * LETTER;
            if x + width > WIDTH - RIGHT && x > self.left {
                (x, y) = (self.left, y + 20.0);
            }
            let class = format!("r{}", place % COLOURS);
            self.shape(Phase::Ready, &class, x, y, 20.0, 16.0);
            self.put(format_args!(
                "<text class=\"letter\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                x + 6.5,
                y + 3.5,
                letter(place)
            ));
            x = self.legend_text(&name, x + 26.0, y);
        }
        if count == 0 { y } else { y + 22.0 }
    }

    fn legend_text(&mut self, words: &str, x: f64, y: f64) -> f64 {
        let baseline = y + 4.0;
        let escaped = escaped(words);
        self.put(format_args!("<text class=\"dim\" x=\"{x:.1}\" y=\"{baseline:.1}\">{escaped}</text>"));
        x + words.chars().count() as f64 * LETTER + 18.0
    }

    fn act_list(&mut self, acts: &[Act], mut y: f64) -> f64 {
        for (at, act) in acts.iter().enumerate() {
            let class = if act.failed { "badge failed" } else { "badge" };
            self.put(format_args!("<g><circle class=\"{class}\" cx=\"16\" cy=\"{y:.0}\" r=\"8\"/>"));
            self.put(format_args!(
                "<text x=\"16\" y=\"{:.1}\" text-anchor=\"middle\">{}</text></g>",
                y + 3.5,
                at + 1
            ));
            let says = escaped(&shortened(&act.says, 118));
            let seconds = act.at_ms as f64 / 1000.0;
            self.put(format_args!(
                "<text class=\"dim\" x=\"74\" y=\"{:.1}\" text-anchor=\"end\">{seconds:.1} s</text>",
                y + 4.0
            ));
            self.put(format_args!("<text class=\"mono\" x=\"84\" y=\"{:.1}\">{says}</text>", y + 4.0));
            y += 20.0;
        }
        y
    }

    fn finish(self, title: &str, says: &str, end: f64) -> String {
        let (id, width, height) = (&self.id, WIDTH, end + 4.0);
        let (title, says) = (escaped(title), escaped(says));
        let hatch = |name: &str, turn: u32| {
            format!(
                "<pattern id=\"{id}-{name}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
                 patternTransform=\"rotate({turn})\"><line class=\"hatch\" x1=\"0\" x2=\"0\" y1=\"0\" y2=\"6\"/></pattern>"
            )
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"tl\" viewBox=\"0 0 {width} {height:.0}\" role=\"img\" \
             aria-labelledby=\"{id}-title {id}-says\">\n<title id=\"{id}-title\">{title}</title>\n\
             <desc id=\"{id}-says\">{says}</desc>\n<style>{STYLE}</style>\n<defs>{}{}</defs>\n\
             <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n{}</svg>\n",
            hatch("up", 45),
            hatch("down", 135),
            self.out
        )
    }
}

fn letter(place: usize) -> char {
    char::from(b'A' + (place % 26) as u8)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::evidence::fixture::Written as _;

    #[test]
    fn the_picture_of_a_rolling_update() {
        let (_, record) = fixture::passing();
        insta::assert_snapshot!(experiment(&record.experiments[1]));
    }

    #[test]
    fn names_from_the_cluster_are_text_and_nothing_else() {
        let (_, mut record) = fixture::passing();
        let rolling = &mut record.experiments[1];
        rolling.question = "<script>alert(\"1\")</script>".to_owned();
        for transition in &mut rolling.timeline {
            transition.name = format!("</text><script>{}\u{1b}", transition.name);
            transition.revision = Some("\"/><script>".to_owned());
        }
        rolling.commands("upgrade", [fixture::command("kubectl patch '<script>&'", "")]);
        let picture = experiment(rolling);
        assert!(!picture.contains("<script"), "{picture}");
        assert!(!picture.contains('\u{1b}'));
        assert!(
            picture.contains("kubectl patch &apos;")
                || picture.contains("kubectl patch '&lt;script&gt;&amp;'")
        );
    }

    #[test]
    fn a_run_without_a_single_pod_still_has_its_picture() {
        let (_, mut record) = fixture::passing();
        record.experiments.iter_mut().for_each(|experiment| experiment.timeline.clear());
        assert!(experiment(&record.experiments[0]).ends_with("</svg>\n"));
        assert!(run(&record).contains("persistence"));
        record.experiments.clear();
        assert!(run(&record).ends_with("</svg>\n"));
    }

    #[test]
    fn badges_of_acts_at_the_same_moment_stand_above_each_other() {
        let (_, mut record) = fixture::passing();
        for step in &mut record.experiments[1].steps {
            step.started_ms = 1_000;
        }
        let canvas = Canvas::new("x", 10_000, &[]);
        let rows: Vec<usize> =
            places(&acts(&record.experiments[1]), &canvas).into_iter().map(|(_, row)| row).collect();
        assert_eq!(rows, [0, 1, 2]);
    }
}
