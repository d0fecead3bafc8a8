//! Where counts of visits stand on a page, and which pod each of them is of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use super::listing;
use super::markdown::Line;

/// A count that stands on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// The line, counted from one.
    pub(super) line: usize,
    /// What it is the count of, where that is sure.
    pub(super) of: Option<Of>,
    /// The number.
    pub(super) value: u64,
}

/// What a count is the count of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    /// The pod with this ordinal.
    Pod(u32),
    /// A pod that this port of the author's machine led to; the page does not say which.
    Port(u32),
}

/// Every count on these lines, as far as it is surely one. It is of the pod that its line names, or of the one that the
/// command or the label above it names.
pub(super) fn counts(lines: &[&Line]) -> Vec<Count> {
    let mut reader = Reader::default();
    for line in lines.iter().filter(|line| !listing::is_row(line)) {
        reader.read(line);
    }
    reader.found
}

#[derive(Default)]
struct Reader {
    found: Vec<Count>,
    /// What was asked for, or labelled, and not answered yet.
    asked: Vec<Option<Of>>,
    /// Whether the last of that was answered.
    answered: bool,
    ports: BTreeMap<u32, u32>,
}

impl Reader {
    fn read(&mut self, line: &Line) {
        let Parts { printed, command, said } = parts(line);
        if let Some(value) = LEADING.captures(printed).and_then(|found| found[1].parse().ok()) {
            self.count(line, self.above(), value);
        }
        if let Some((port, pod)) = forward(command) {
            self.ports.insert(port, pod);
            return;
        }
        let in_code = line.block.is_some();
        let of_command = || self.port(command).or_else(|| one(pods(command)));
        let of_words = || one(pods(said));
        match value(said, in_code) {
            Some(value) if !command.is_empty() => self.count(line, of_command(), value),
            Some(value) if pods(said).is_empty() => self.count(line, self.above(), value),
            Some(value) => self.count(line, of_words(), value),
            None if READS.is_match(command) => {
                let of = of_command();
                self.ask(of);
            }
            None => {
                if let (Some(of), true) = (of_words(), command.is_empty()) {
                    // A label holds until a command asks something else.
                    self.asked = vec![Some(of)];
                    self.answered = true;
                }
            }
        }
    }

    fn ask(&mut self, of: Option<Of>) {
        if std::mem::take(&mut self.answered) {
            self.asked.clear();
        }
        self.asked.push(of);
    }

    fn count(&mut self, line: &Line, of: Option<Of>, value: u64) {
        self.found.push(Count { line: line.number, of, value });
        self.answered = true;
    }

    /// What an answer belongs to: where several commands stand above it, only when all asked the same pod.
    fn above(&self) -> Option<Of> {
        let asked: BTreeSet<Option<Of>> = self.asked.iter().copied().collect();
        asked.first().copied().flatten().filter(|_| asked.len() == 1)
    }

    /// The pod behind the port that a command asks.
    fn port(&self, command: &str) -> Option<Of> {
        static PORT: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"(?:localhost|127\.0\.0\.1):(\d+)").expect("the pattern is one"));
        // From inside a pod its own port says nothing.
        let asks = READS.is_match(command) && !command.contains("exec");
        let port = PORT.captures(command).filter(|_| asks)?[1].parse().ok()?;
        Some(self.ports.get(&port).map_or(Of::Port(port), |pod| Of::Pod(*pod)))
    }
}

/// A line of a transcript, taken apart.
struct Parts<'a> {
    /// What the command before it printed without ending the line.
    printed: &'a str,
    /// The command that was typed.
    command: &'a str,
    /// What was printed, or said; behind a command, the comment.
    said: &'a str,
}

/// Words said of a pod are no command, also where they name one.
fn parts(line: &Line) -> Parts<'_> {
    static COMMAND: LazyLock<Regex> = LazyLock::new(|| {
        let programs = "kubectl|k|curl|wget|helm|minikube|echo|python3?|http|sudo|import|sleep";
        let pattern =
            format!(r"(?:^|[\s$>;&|#])(?:{programs})\s|^\s*(?:\$\s|for\s|while\s|do\s|PS\s)|urlopen");
        Regex::new(&pattern).expect("the pattern is one")
    });
    let text = line.text.as_str();
    let command = COMMAND.find(text).filter(|_| line.block.is_some());
    // A comment that tells of a command is none.
    let Some(start) = command.map(|found| found.start()).filter(|_| !text.trim_start().starts_with("# "))
    else {
        return Parts { printed: "", command: "", said: text };
    };
    let (printed, command) = text.split_at(start);
    let comment = command.get(1..).and_then(|rest| rest.find(" # ")).map_or(command.len(), |at| at + 1);
    let (command, said) = command.split_at(comment);
    Parts { printed, command, said }
}

/// Commands that read a count.
static READS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(?:exec|cat|curl|wget)\b|\bhttp\s").expect("the pattern is one"));

/// A number, and behind it the prompt of a shell.
static LEADING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(\d+)(?:%|PS |\(|\[|[a-z]\S*@|\s*\$?\s*$)").expect("the pattern is one")
});

/// The count in what was printed or said. A number by itself is one where commands print, or where its line names a pod.
fn value(text: &str, in_code: bool) -> Option<u64> {
    static NAMED: LazyLock<Regex> = LazyLock::new(|| {
        let things = "(?:total_?|page_?)?(?:visits?_?(?:counts?|total)?|counts?|counter|hits|views|visited|output|value|result)\
                      |(?:посещени|визит|сч[её]тчик|значени|вывод)[а-я]*";
        let verbs = "is|was|are|were|became|remain[a-z]*|still|stay[a-z]*|preserved|persist[a-z]*|at|shows?|now|equals?|reached\
                     |(?:incremented|increased|went|equal) to|the|same|counts?|counter|value|pod|exactly|unchanged|before|after\
                     |остал[а-я]*|стал[а-я]*|равн[а-я]*|по-прежнему|пода?|тот|же|до|после";
        let sign = r#"["'`*)\]]*\s*[:=→-]*\s*["'`*]*"#;
        let pattern =
            format!(r"(?i)\b(?:{things})\b(?:{sign}|(?:[\s*`]+(?:{verbs})){{1,5}}[\s*`:=]+)(\d+)\b");
        Regex::new(&pattern).expect("the pattern is one")
    });
    static ALONE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^[\s:=*`>|→-]*(\d+)[\s%*`|.]*(?:[#(←<✅✓].*)?$").expect("the pattern is one")
    });
    static CELL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\|[\s*`]*(\d+)[\s*`]*\|\s*$").expect("the pattern is one"));
    let rest = POD.replace_all(text, " ");
    let names_a_pod = rest != text;
    let is_number = text.trim().chars().all(|it| it.is_ascii_digit());
    let found = CELL
        .captures(&rest)
        .filter(|_| names_a_pod)
        .or_else(|| NAMED.captures(&rest))
        .or_else(|| ALONE.captures(&rest).filter(|_| in_code || names_a_pod || is_number))
        .or_else(|| LEADING.captures(&rest).filter(|_| in_code));
    found?[1].parse().ok()
}

/// A pod by its name or its number.
static POD: LazyLock<Regex> = LazyLock::new(|| {
    let name = r"[a-z](?:[-a-z0-9]*[a-z0-9])?-(\d{1,3})\b";
    Regex::new(&format!(r"(?i)\b{name}|[`.…]-(\d{{1,3}})\b|\bpods?[\s#_]*(\d{{1,3}})\b"))
        .expect("the pattern is one")
});

/// The ordinals of the pods that a text names.
fn pods(text: &str) -> BTreeSet<u32> {
    let found = POD.captures_iter(text).filter_map(|found| {
        // Digits of an identifier go on.
        let goes_on = text[found.get(0)?.end()..].starts_with('-');
        let ordinal = found.get(1).or(found.get(2)).or(found.get(3)).filter(|_| !goes_on)?;
        ordinal.as_str().parse().ok()
    });
    found.collect()
}

fn one(pods: BTreeSet<u32>) -> Option<Of> {
    pods.first().filter(|_| pods.len() == 1).map(|pod| Of::Pod(*pod))
}

/// The port of the author's machine that a command leads to a pod, and the pod.
fn forward(command: &str) -> Option<(u32, u32)> {
    static FORWARD: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r"port-forward\s.*?-(\d{1,3})(?:\s+(?:-n|--namespace)[\s=]\S+)?\s+(\d+):";
        Regex::new(pattern).expect("the pattern is one")
    });
    let found = FORWARD.captures(command)?;
    Some((found[2].parse().ok()?, found[1].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::markdown::Page;
    use super::*;

    fn found(text: &str) -> Vec<(Option<Of>, u64)> {
        counts(&Page::parse(text).lines()).into_iter().map(|count| (count.of, count.value)).collect()
    }

    fn pod(ordinal: u32) -> Option<Of> {
        Some(Of::Pod(ordinal))
    }

    #[test]
    fn a_transcript_tells_whose_count_it_is() {
        let text = "\
```console
$ kubectl --namespace=lab exec web-0 -- cat /data/visits
24
PS C:\\lab> kubectl exec web-1 -- cat /data/visits
21PS C:\\lab> kubectl exec web-2 -- cat /data/visits
28%
$ kubectl port-forward pod/web-1 8081:8000 &
$ curl localhost:8081/visits
{\"visits\":22,\"timestamp\":\"2026-03-22T05:25:53\"}
$ curl localhost:9000/visits   # {\"count\": 3}
```
";
        let counts = found(text);
        let expected = [(pod(0), 24), (pod(1), 21), (pod(2), 28), (pod(1), 22), (Some(Of::Port(9000)), 3)];
        assert_eq!(counts, expected);
    }

    #[test]
    fn labels_lists_tables_and_prose_tell_it_too() {
        let cases = [
            ("pod-0: 5", pod(0), 5),
            ("* of `-1`, visits are now `2`", pod(1), 2),
            ("| web-2 | port 8082 | **4** |", pod(2), 4),
            ("For `web-1` the counter remained **7**.", pod(1), 7),
            ("- earlier: `/data/visits` = 6", None, 6),
            ("Pod #0, visits: 8", pod(0), 8),
            ("Счётчик пода web-0: 9", pod(0), 9),
            ("Counts stayed at `3`.", None, 3),
        ];
        for (text, of, value) in cases {
            assert_eq!(found(text), [(of, value)], "{text}");
        }
        assert_eq!(
            found("**pod-1** (`web-1`):\n```json\n{\n  \"count\": 4,\n  \"port\": 80\n}\n```\n"),
            [(pod(1), 4)]
        );
    }

    #[test]
    fn what_several_commands_printed_in_the_end_belongs_to_none_of_them_for_sure() {
        let commands =
            "```\nkubectl exec web-0 -- cat /data/visits\nkubectl exec web-1 -- cat /data/visits\n```\n";
        assert_eq!(found(&format!("{commands}```\n3\n4\n```\n")), [(None, 3), (None, 4)]);
    }

    #[test]
    fn other_numbers_are_no_counts() {
        for other in [
            "replicaCount: 3",
            "```\nkubectl exec web-0 -- sh -c 'echo 5 > /data/visits'\ncurl localhost:8080/visits && curl localhost:8081/\n```",
            "Check the visits on port 8080.",
            "```\nForwarding from 127.0.0.1:8080 -> 8000\nHandling connection for 8080\n```",
            "```\nWaiting for 1 pods to be ready...\n--timeout=120s\n```",
            "```\nweb-0   1/1   Running   0   5s\n```",
            "1. Access `web-0` and refresh the page 4 times.",
        ] {
            assert_eq!(found(other), [], "{other}");
        }
    }
}
