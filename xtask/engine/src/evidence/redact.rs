//! Copies of evidence in which everything that differs from run to run is a mark, so that two runs compare.
//!
//! | mark | stands for |
//! |---|---|
//! | `<age>` | a cell under AGE, DURATION or LAST SEEN, and `5s` in `1 (5s ago)` |
//! | `<duration>` | a measured time: `2.5s`, `1m30s`, `12ms` |
//! | `<time>` | a date with a time of day |
//! | `<ip>` | an IPv4 or IPv6 address, also written with dashes |
//! | `<port>` | a port the kernel or the cluster chose: 30000 and above |
//! | `<uid-1>` | an object's uid, also inside `pvc-…`; the same uid keeps its number within an experiment |
//! | `<hash-1>` | a hash in a generated name, as in `counter-6d4b9c7f8`; numbered like uids |
//! | `<crashing>` | the status of a pod whose container keeps ending, and `<restarts>` how often it did |
//! | `<long>` | a value too long to be kept whole |
//! | `<cluster>` | the name of the lab's own cluster, with which those of its nodes begin |
//! | `<digest>` | 64 hexadecimal digits |
//! | `<version>` | a resourceVersion |
//!
//! Numbers keep "the same again" apart from "another one": that a pod came back with a new uid and its old volume
//! stays visible in the redacted copy.
//!
//! What comes in any order is put in one: rows of a table whose names hold a hash, the answers of a name server, and
//! the lines of an output that says the same few things over and over, as forty requests to a service do.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use super::table::Table;
use machine::identity;
use model::kinds::StepKind;
use model::record::{CommandRecord, ExperimentRecord, Record};
use model::text::{self, command_line};

/// One place of the evidence and its redacted text: what two runs are compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where: `run`, `experiment persistence`, `step persistence/before`, `claims of persistence`.
    pub name: String,
    /// The redacted text.
    pub text: String,
}

/// The whole record, redacted, place by place.
///
/// Left out are durations, the timeline (its order is what claims judge) and every version but that of
/// Kubernetes without its patch: another build of the same program proves the same.
pub(crate) fn places(record: &Record) -> Vec<Place> {
    let mut run = format!("lab {} · {}\n", record.lab, record.title);
    if let Some(version) = record.versions.get("kubernetes") {
        run += &format!("kubernetes {}\n", version.splitn(3, '.').take(2).collect::<Vec<_>>().join("."));
    }
    for criterion in &record.rubric {
        run += &format!("{} {} {}\n", criterion.id, criterion.points, criterion.sections.join(", "));
    }
    if let Some(broke) = &record.broke {
        run += &format!("broke: {}\n", Redactor::default().text(&broke.to_string()));
    }
    let mut places = vec![Place { name: "run".to_owned(), text: run }];
    for experiment in &record.experiments {
        experiment_places(experiment, &mut places);
    }
    places
}

fn experiment_places(experiment: &ExperimentRecord, places: &mut Vec<Place>) {
    let mut redactor = Redactor::default();
    let id = &experiment.id;
    let mut head = format!("{}\ndeclared as {}\n", experiment.question, experiment.declared);
    if let Some(skipped) = &experiment.skipped {
        head += &format!("skipped: {skipped}\n");
    }
    if let Some(failure) = &experiment.failure {
        head += &redactor.text(&failure.to_string());
    }
    places.push(Place { name: format!("experiment {id}"), text: head });
    for step in &experiment.steps {
        let mut text = String::new();
        for command in &step.commands {
            text += &redactor.command(command, step.kind == StepKind::Resolve);
        }
        if let Some(error) = &step.error {
            text += &format!("error: {}\n", redactor.text(&error.to_string()));
        }
        places.push(Place { name: format!("step {id}/{}", step.name), text });
    }
    let mut claims = String::new();
    for claim in &experiment.claims {
        let verdict = serde_json::to_value(claim.verdict).expect("a verdict is plain data");
        claims += &format!("{} {}: {}\n", claim.id, verdict.as_str().unwrap_or_default(), claim.says);
        for seen in &claim.values {
            let value = redactor.value(&seen.part, &seen.value);
            claims += &format!("  {} = {value}\n", seen.part);
        }
        if let Some(message) = &claim.message {
            claims += &format!("  {}\n", redactor.text(message));
        }
    }
    places.push(Place { name: format!("claims of {id}"), text: claims });
}

/// Redacts the texts of one experiment, remembering the numbers it gave.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    /// Whether every number is 0: to compare what has none yet.
    unnumbered: bool,
    uids: HashMap<String, usize>,
    hashes: HashMap<String, usize>,
}

impl Redactor {
    /// The text with marks in place of what differs from run to run, the columns of its tables aligned anew.
    pub(crate) fn text(&mut self, text: &str) -> String {
        let lines: Vec<&str> = text.lines().collect();
        let mut out = String::new();
        let mut at = 0;
        while at < lines.len() {
            if let Some(table) = Table::starting_at(&lines[at..]) {
                out += &self.table(&table);
                at += table.rows.len();
            } else {
                out += self.words(lines[at]).trim_end();
                out.push('\n');
                at += 1;
            }
        }
        out
    }

    /// A transcript; `sorted` when its lines come in any order.
    fn command(&mut self, command: &CommandRecord, sorted: bool) -> String {
        let mut out = format!("$ {}\n", self.words(&command_line(&command.argv)));
        let printed = self.text(&command.stdout) + &self.text(&command.stderr);
        let mut lines: Vec<_> = printed.lines().filter(|line| !line.is_empty()).collect();
        let distinct: BTreeSet<_> = lines.iter().copied().collect();
        if lines.len() >= 4 * distinct.len().max(3) {
            out += &distinct.into_iter().collect::<Vec<_>>().join("\n");
        } else if sorted {
            lines.sort_unstable();
            out += &lines.join("\n");
        } else {
            out += printed.trim_end_matches('\n');
        }
        out.push('\n');
        if command.status != 0 {
            out += &format!("# exit status {}\n", command.status);
        }
        out
    }

    /// A value of an expression: numbers that are times become marks, strings are redacted.
    fn value(&mut self, name: &str, value: &Value) -> Value {
        match value {
            // How much of a long value was kept depends on how long its times and addresses are.
            Value::String(text) if text.starts_with(['{', '[']) && text.ends_with('…') => {
                Value::from("<long>")
            }
            Value::Object(_) if text::value(value) != serde_json::to_string(value).unwrap_or_default() => {
                Value::from(self.words(&text::value(value)))
            }
            Value::Number(_) if is_moment(name) => Value::from("<duration>"),
            Value::String(_) if name.to_ascii_lowercase().ends_with("resourceversion") => {
                Value::from("<version>")
            }
            Value::String(text) => Value::from(self.text(text).trim_end_matches('\n')),
            Value::Array(items) => items.iter().map(|item| self.value(name, item)).collect(),
            Value::Object(entries) => {
                entries.iter().map(|(key, item)| (self.words(key), self.value(key, item))).collect()
            }
            other => other.clone(),
        }
    }

    /// A table, its columns aligned anew.
    fn table(&mut self, table: &Table) -> String {
        let mut rows = table.cells();
        let headings = rows[0].clone();
        rows[1..].iter_mut().for_each(|row| mark_crashes(&headings, row));
        // Generated names sort by chance: such rows are put in the order of what they say.
        let named_by_chance = |row: &Vec<String>| row.first().is_some_and(|name| HASH.is_match(name));
        for group in rows[1..].chunk_by_mut(|one, other| named_by_chance(one) && named_by_chance(other)) {
            group.sort_by_cached_key(|row| {
                let mut unnumbered = Redactor { unnumbered: true, ..Redactor::default() };
                redacted_cells(&mut unnumbered, &headings, row)
            });
        }
        for row in &mut rows[1..] {
            *row = redacted_cells(self, &headings, row);
        }
        table.laid_out(&rows)
    }

    /// A line, whatever its columns.
    fn words(&mut self, line: &str) -> String {
        let line = CLUSTER.replace_all(line, "<cluster>");
        let line = UID.replace_all(&line, |found: &Captures| {
            format!("<uid-{}>", number(self.unnumbered, &mut self.uids, &found[0]))
        });
        let line = DIGEST.replace_all(&line, "<digest>");
        let line = TIME.replace_all(&line, "<time>");
        let line = IP.replace_all(&line, "<ip>");
        let line = IP6.replace_all(&line, "$before<ip>");
        let line = DASHED_IP.replace_all(&line, "$before<ip>$after");
        let line = PORT.replace_all(&line, "$before:<port>");
        let line = RESOURCE_VERSION.replace_all(&line, "$before<version>");
        let line = HASH.replace_all(&line, |found: &Captures| {
            format!(
                "{}-<hash-{}>",
                &found["before"],
                number(self.unnumbered, &mut self.hashes, &found["hash"])
            )
        });
        let line = AGO.replace_all(&line, "$before<age>$after");
        DURATION.replace_all(&line, "$before<duration>").into_owned()
    }
}

fn redacted_cells(redactor: &mut Redactor, headings: &[String], row: &[String]) -> Vec<String> {
    let cells = row.iter().zip(headings);
    let redacted = cells.map(|(cell, heading)| match heading.to_ascii_uppercase().as_str() {
        _ if cell.chars().all(|character| character == '-') => cell.clone(),
        "AGE" | "DURATION" | "LAST SEEN" => "<age>".to_owned(),
        _ => redactor.words(cell),
    });
    redacted.collect()
}

/// A container that keeps ending is now in error, now backing off, and counts on.
fn mark_crashes(headings: &[String], row: &mut [String]) {
    let column = |name: &str| headings.iter().position(|heading| heading == name);
    let (Some(status), Some(restarts)) = (column("STATUS"), column("RESTARTS")) else {
        return;
    };
    if row.len() > restarts && ["Error", "CrashLoopBackOff"].contains(&row[status].as_str()) {
        "<crashing>".clone_into(&mut row[status]);
        "<restarts>".clone_into(&mut row[restarts]);
    }
}

fn number(unnumbered: bool, known: &mut HashMap<String, usize>, text: &str) -> usize {
    if unnumbered {
        return 0;
    }
    let next = known.len() + 1;
    *known.entry(text.to_owned()).or_insert(next)
}

fn is_moment(name: &str) -> bool {
    name.contains("_ms") || name.contains("_at") || name.contains("duration")
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is one")
}

static UID: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"));
static CLUSTER: LazyLock<Regex> =
    LazyLock::new(|| pattern(&format!(r"\b{}[0-9a-f]{{8}}\b", identity::CLUSTER)));
static DIGEST: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[0-9a-f]{64}\b"));
// RFC 3339, Go's default form, RFC 1123, and asctime as helm prints it.
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d+)?( ?Z\b| ?[+-]\d{2}:?\d{2})?( [A-Z]{3,4}\b)?",
        r"|\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun),? ([A-Z][a-z]{2} +\d{1,2}|\d{1,2} [A-Z][a-z]{2} \d{4}) \d{2}:\d{2}:\d{2}",
        r"( [+-]\d{4}| [A-Z]{3,4}\b)?( \d{4})?"
    ))
});
static IP: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b\d{1,3}(\.\d{1,3}){3}\b"));
static IP6: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?P<before>^|[\s\[(=,])([0-9a-f]{1,4}:){2,7}(:?[0-9a-f]{1,4}){0,6}\b"));
static DASHED_IP: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?P<before>^|[\s(=,])\d{1,3}(-\d{1,3}){3}(?P<after>\.)"));
static PORT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?P<before><ip>|\blocalhost|\]|\b\d{2,5}):(3\d{4}|[456]\d{4})\b"));
static RESOURCE_VERSION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?P<before>\bresourceVersion"?: ?"?)\d+"#));
// The letters and digits of Kubernetes' generated names: no vowels, nothing that looks like another.
// https://github.com/kubernetes/apimachinery/blob/master/pkg/util/rand/rand.go
static HASH: LazyLock<Regex> = LazyLock::new(|| {
    let letters = "[bcdfghjklmnpqrstvwxz2456789]";
    pattern(&format!(
        r"(?P<before>[a-z0-9])-(?P<hash>{letters}{{6,10}}-{letters}{{5}}|{letters}{{6,10}}|{letters}{{5}})\b"
    ))
});
static AGO: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?P<before>\()(\d+[dhms])+(?P<after> ago\))"));
// Not after an equals sign: `timeout=1s` is a setting.
static DURATION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?P<before>^|[\s(\[,:])(\d+h)?(\d+m)?\d+(\.\d+)?(ms|µs|s)\b"));

#[cfg(test)]
mod tests {
    use crate::evidence::fixture::Written as _;
    use serde_json::json;

    use super::super::fixture;
    use super::*;

    fn redacted(text: &str) -> String {
        Redactor::default().text(text)
    }

    #[test]
    fn a_table_of_pods_is_the_same_whatever_ages_and_addresses_it_has() {
        let one = redacted(
            "NAME        READY   STATUS    RESTARTS     AGE   IP\n\
             counter-0   1/1     Running   0            9s    10.244.0.5\n\
             counter-1   1/1     Running   1 (3s ago)   12s   10.244.0.16\n",
        );
        let other = redacted(
            "NAME        READY   STATUS    RESTARTS       AGE     IP\n\
             counter-0   1/1     Running   0              119s    10.244.10.105\n\
             counter-1   1/1     Running   1 (103s ago)   2m12s   10.244.0.6\n",
        );
        assert_eq!(one, other);
        assert_eq!(
            one,
            "NAME        READY   STATUS    RESTARTS        AGE     IP\n\
             counter-0   1/1     Running   0               <age>   <ip>\n\
             counter-1   1/1     Running   1 (<age> ago)   <age>   <ip>\n"
        );
    }

    #[test]
    fn what_a_table_says_beside_the_noise_stays() {
        let one = redacted("NAME        READY   AGE\ncounter-0   1/1     9s\n");
        for other in [
            "NAME        READY   AGE\ncounter-0   0/1     9s\n",
            "NAME        READY   AGE\ncounter-1   1/1     9s\n",
        ] {
            assert_ne!(one, redacted(other));
        }
    }

    #[test]
    fn empty_cells_of_a_pending_volume_claim_stay_empty() {
        assert_eq!(
            redacted(
                "NAME             STATUS    VOLUME                                     CAPACITY   ACCESS MODES   AGE\n\
                 data-counter-0   Bound     pvc-0f8fad5b-d9cb-469f-a165-70867728950e   64Mi       RWO            5s\n\
                 data-counter-1   Pending                                                                        1s\n"
            ),
            "NAME             STATUS    VOLUME        CAPACITY   ACCESS MODES   AGE\n\
             data-counter-0   Bound     pvc-<uid-1>   64Mi       RWO            <age>\n\
             data-counter-1   Pending                                           <age>\n"
        );
    }

    #[test]
    fn events_of_describe_and_tables_of_helm_are_tables_too() {
        assert_eq!(
            redacted(
                "Events:\n  Type    Reason     Age               From     Message\n  \
                 ----    ------     ----              ----     -------\n  \
                 Normal  Pulled     5s (x3 over 20s)  kubelet  Successfully pulled image in 2.512s (2.51s including waiting)\n"
            ),
            "Events:\n  Type     Reason   Age     From      Message\n  \
             ----     ------   ----    ----      -------\n  \
             Normal   Pulled   <age>   kubelet   Successfully pulled image in <duration> (<duration> including waiting)\n"
        );
        assert_eq!(
            redacted(
                "NAME   \tREVISION\tUPDATED                                \tSTATUS\ncounter\t2       \t2026-11-21 16:37:12.123456 +0000 UTC\tdeployed\n"
            ),
            "NAME      REVISION   UPDATED   STATUS\ncounter   2          <time>    deployed\n"
        );
    }

    #[test]
    fn the_same_uid_or_hash_keeps_its_number() {
        let mut redactor = Redactor::default();
        let old = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let new = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
        assert_eq!(redactor.text(&format!("{old} {new} {old}")), "<uid-1> <uid-2> <uid-1>\n");
        assert_eq!(
            redactor.text("counter-6d4b9c7f8 counter-5c9f7b8d4f counter-6d4b9c7f8"),
            "counter-<hash-1> counter-<hash-2> counter-<hash-1>\n"
        );
    }

    #[test]
    fn every_mark_stands_for_what_it_says() {
        for (text, expected) in [
            ("LAST DEPLOYED: Sat Nov 21 16:37:12 2026", "LAST DEPLOYED: <time>"),
            ("Start Time:   Sat, 21 Nov 2026 16:37:12 +0000", "Start Time:   <time>"),
            ("at 2026-11-21T16:37:12Z", "at <time>"),
            ("Forwarding from 127.0.0.1:41873 -> 8000", "Forwarding from <ip>:<port> -> 8000"),
            ("10.244.0.5:8000", "<ip>:8000"),
            ("8000:31234/TCP", "8000:<port>/TCP"),
            ("Address: fd00:10:244::5", "Address: <ip>"),
            ("10-244-0-5.counter.dns.svc", "<ip>.counter.dns.svc"),
            ("counter-7d4b9c7f88-x2x9z", "counter-<hash-1>"),
            ("counter-0 counter-headless data-counter-0", "counter-0 counter-headless data-counter-0"),
            ("resourceVersion: \"812\"", "resourceVersion: \"<version>\""),
            ("Liveness: delay=0s timeout=1s period=2s", "Liveness: delay=0s timeout=1s period=2s"),
            (&format!("sha256:{}", "0af9".repeat(16)), "sha256:<digest>"),
            ("v1.37.0", "v1.37.0"),
            ("64Mi 10m", "64Mi 10m"),
        ] {
            assert_eq!(redacted(text).trim_end(), expected);
        }
    }

    #[test]
    fn objects_compare_by_name_and_long_values_not_at_all() {
        let mut redactor = Redactor::default();
        let mut redacted = |value: Value| redactor.value("objects.services", &value).to_string();
        let service = |uid: &str| json!({"counter": {"metadata": {"name": "counter", "labels": uid}}});
        assert_eq!(redacted(service("a")), redacted(service("b")));
        assert_eq!(redacted(service("a")), "\"{counter}\"");
        assert_eq!(redacted(json!("{\"metadata\": {\"na…")), "\"<long>\"");
        assert_eq!(redacted(json!({"counter-0": 3})), "{\"counter-0\":3}");
    }

    #[test]
    fn answers_of_a_name_server_compare_in_any_order() {
        let answers = |first: &str, second: &str| {
            let mut redactor = Redactor::default();
            redactor
                .command(&fixture::command("nslookup a", &format!("Name: {first}\nName: {second}\n")), true)
        };
        assert_eq!(answers("a", "b"), answers("b", "a"));
        assert_ne!(answers("a", "b"), answers("a", "c"));
    }

    #[test]
    fn rows_named_by_chance_compare_in_any_order() {
        let one = redacted(
            "NAME                     READY   STATUS             RESTARTS     AGE   SET\n\
             counter-0                1/1     Running            0            9s    counter-6d4b9c7f8\n\
             plain-7d4b9c7f88-2x9zk   1/1     Running            0            8s\n\
             plain-7d4b9c7f88-4k2lz   0/1     CrashLoopBackOff   2 (1s ago)   8s\n\
             plain-7d4b9c7f88-x2x9z   0/1     Error              1 (2s ago)   8s\n",
        );
        let other = redacted(
            "NAME                     READY   STATUS    RESTARTS     AGE   SET\n\
             counter-0                1/1     Running   0            7s    counter-5c9f7b8d4f\n\
             plain-5c9f7b8d4f-bbbbb   0/1     Error     1 (2s ago)   6s\n\
             plain-5c9f7b8d4f-ccccc   0/1     Error     1 (2s ago)   6s\n\
             plain-5c9f7b8d4f-ddddd   1/1     Running   0            6s\n",
        );
        assert_eq!(one, other);
        assert!(one.contains("plain-<hash-2>   0/1     <crashing>   <restarts>"), "{one}");
        assert_ne!(one, redacted(&"NAME READY\n".repeat(2)));
    }

    #[test]
    fn an_output_that_says_few_things_often_compares_by_what_it_says() {
        let answers = |pods: &[&str]| {
            let lines: Vec<_> =
                (0..40).map(|at| format!("{{\"pod\":\"{}\"}}\n", pods[at * at % 7 % pods.len()])).collect();
            Redactor::default().command(&fixture::command("kubectl exec", &lines.concat()), false)
        };
        assert_eq!(answers(&["a", "b", "c"]), answers(&["c", "b", "a"]));
        assert_ne!(answers(&["a", "b", "c"]), answers(&["a", "b"]));
    }

    #[test]
    fn two_runs_of_the_same_behaviour_are_equal_and_another_count_is_not() {
        let (_, one) = fixture::passing();
        let mut other = one.clone();
        other.duration_ms += 5;
        other.versions.insert("revision".to_owned(), "aaaaaaa (clean)".to_owned());
        let persistence = &mut other.experiments[0];
        persistence.timeline.clear();
        persistence.commands("visits", [fixture::command("curl --silent http://127.0.0.1:45021/", "7\n")]);
        assert_eq!(places(&one), places(&other));

        other.experiments[0].commands(
            "counts-after",
            [fixture::command("kubectl exec counter-0 --namespace persistence -- cat /data/visits", "8\n")],
        );
        let differing: Vec<_> = places(&one)
            .into_iter()
            .zip(places(&other))
            .filter(|(one, other)| one != other)
            .map(|(one, _)| one.name)
            .collect();
        assert_eq!(differing, ["step persistence/counts-after"]);
    }
}
