//! Labs that are sound, and labs that are broken in every way somebody thought of.

use proptest::prelude::*;
use proptest::sample::Index;
use regex::Regex;

use super::*;
use crate::kinds::NAMESPACE_CHARS;

const SOUND: &str = "\
lab: small
title: A small lab
rubric:
  - { id: all, title: All of it, points: 1 }
target: { chart: ../chart, release: counter }
experiments:
  - id: one
    question: Is it so?
    steps:
      - install: { as: start }
      - run: { as: list, command: 'kubectl get pods ${target.pods[0]}' }
      - observe: { as: seen }
      - await:
          until: >-
            pods.size() == 3
            && seen.pods.size() == 3
    claims:
      - { id: so, says: It is so., criterion: all, points: 0.7, expect: 'size(seen.pods) == 3' }
      - { id: thus, says: It is thus., criterion: all, points: 0.3, expect: 'size(seen.pods) == 3' }
";

fn told(text: impl AsRef<[u8]>) -> Vec<String> {
    let problems = parse(text.as_ref()).err().unwrap_or_default();
    let line =
        |problem: Problem| format!("{}:{}: {}", problem.place.line, problem.place.column, problem.says);
    problems.into_iter().map(line).collect()
}

/// What is told of the small lab when a part of it, which stands in it once, is another.
fn told_with(part: &str, other: &str) -> Vec<String> {
    assert_eq!(SOUND.matches(part).count(), 1, "{part}");
    told(SOUND.replace(part, other))
}

fn docs() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn shipped() -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(docs().join("labs")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml")).collect()
}

#[test]
fn the_shipped_labs_are_sound() {
    assert!(shipped().len() > 1);
    for file in shipped() {
        load(&file).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_sound_lab_is_taken_however_its_lines_end() {
    for text in
        [SOUND.to_owned(), SOUND.replace('\n', "\r\n"), format!("\u{feff}{SOUND}"), format!("---\n{SOUND}")]
    {
        assert_eq!(told(&text), [""; 0]);
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let cases: [(&str, &str, &[&str]); 43] = [
        // The shape.
        (
            "question:",
            "qestion:",
            &["7:5: missing field `question`", "8:5: unknown field `qestion` (did you mean `question`?)"],
        ),
        ("- observe:", "- obsrve:", &["12:9: unknown kind `obsrve` (did you mean `observe`?)"]),
        (
            "- install: { as: start }",
            "- install: { as: start }\n        run: {}",
            &[
                "11:9: expected one key, one of install, upgrade, uninstall, run, exec, resolve, visit, observe, explain, mend, await, hold",
            ],
        ),
        ("as: start }", "as: start, wait: perhaps }", &["10:37: "]),
        (
            "points: 0.7",
            "points: 0.7, look_at: [StatefulSet.spec, spec]",
            &["18:93: \"spec\" is no kind with a key, as in `StatefulSet.serviceName`"],
        ),
        ("points: 0.7", "points: much", &["18:60: "]),
        ("target: { chart: ../chart, release: counter }", "target: counter", &["5:9: expected a map"]),
        (
            "title: A small lab",
            "titel: A small lab",
            &["1:1: missing field `title`", "2:1: unknown field `titel` (did you mean `title`?)"],
        ),
        ("title: A small lab", "title: [A, small, lab]", &["2:8: expected a text"]),
        ("as: start }", "as: start, timeout_s: 0 }", &["10:42: 0 is not between 1 and 86400"]),
        ("as: start }", "as: start, timeout_s: -5 }", &["10:42: -5 is not between 1 and 86400"]),
        (
            "as: start }",
            "as: start, timeout_s: 18446744073709551615 }",
            &["10:42: 18446744073709552000 is not between 1 and 86400"],
        ),
        ("title: A small lab", "title: A small lab\ntitle: Another", &["3:1: "]),
        // Points.
        (
            "points: 0.7",
            "points: 0",
            &[
                "4:42: criterion `all` is worth 1 points, its claims add up to 0.3",
                "18:60: 0 is not between 0.01 and 1000",
            ],
        ),
        ("points: 0.7", "points: .nan", &["18:60: non-finite float"]),
        (
            "points: 0.7",
            "points: 1e300",
            &["4:42: criterion `all` is worth 1 points, its claims add up to 10000.3", "18:60: "],
        ),
        (
            "points: 0.7",
            "points: 0.69",
            &["4:42: criterion `all` is worth 1 points, its claims add up to 0.99"],
        ),
        ("points: 0.7", "points: 0.699", &["18:60: 0.699 points are no whole hundredths"]),
        (
            "points: 1 }",
            "points: 1, sections: [Overview] }",
            &["4:42: criterion `all` is worth 1 points, its claims add up to 1 and leave its sections none"],
        ),
        // Names.
        (
            "lab: small",
            "lab: Small lab",
            &["1:6: `Small lab` is no name: up to 40 lower-case letters, digits and inner dashes"],
        ),
        ("id: thus", "id: so", &["19:15: another claim is called `so`, in line 18"]),
        (
            "{ as: seen }",
            "{ as: start }",
            &[
                "12:24: experiment `one`, step 3 (observe): `start` is taken",
                "16:16: experiment `one`, step 4 (await): nothing called `seen` is recorded before",
                "18:",
                "19:",
            ],
        ),
        (
            "{ as: seen }",
            "{ as: se-en }",
            &[
                "12:24: experiment `one`, step 3 (observe): no expression can read `se-en`: letters, digits and _",
                "16:16: ",
                "18:",
                "19:",
            ],
        ),
        ("{ as: start }", "{ as: pods }", &["10:24: experiment `one`, step 1 (install): `pods` is taken"]),
        // Expressions: the same text stands in two claims, and both places are right.
        (
            "pods.size() == 3\n            && seen.pods",
            "pods.size() == 3\n            && sean.pods",
            &[
                "16:16: experiment `one`, step 4 (await): nothing called `sean` is recorded before (did you mean `seen`?)",
            ],
        ),
        (
            "&& seen.pods.size() == 3",
            "&& seen.podz.size() == 3",
            &["16:21: experiment `one`, step 4 (await): `seen` has no `podz` (did you mean `pods`?)"],
        ),
        (
            "&& seen.pods.size() == 3",
            "&& seen.pods.sise() == 3",
            &["16:26: experiment `one`, step 4 (await): there is no function `sise` (did you mean `size`?)"],
        ),
        (
            "&& seen.pods.size() == 3",
            "&& seen.pods.size( == 3",
            &["16:32: experiment `one`, step 4 (await): "],
        ),
        (
            "&& seen.pods.size() == 3",
            "&& 'seen",
            &["16:16: experiment `one`, step 4 (await): this quote is never closed"],
        ),
        ("&& seen.pods.size() == 3", "== 3 &&", &["16:"]),
        (
            "${target.pods[0]}",
            "${target.podz[0]}",
            &["11:62: experiment `one`, step 2 (run): `target` has no `podz` (did you mean `pods`?)"],
        ),
        (
            "${target.pods[0]}",
            "${pods.size()} ${target.pods[0]}",
            &["11:55: experiment `one`, step 2 (run): nothing called `pods` is recorded before"],
        ),
        (
            "${target.pods[0]}",
            "${target.pods[0]",
            &["11:53: experiment `one`, step 2 (run): `${` without its `}`"],
        ),
        (
            "kubectl get pods ${target.pods[0]}",
            "rm -rf ${target.pods[0]}",
            &["11:35: experiment `one`, step 2 (run): only kubectl and helm can be run"],
        ),
        (
            "kubectl get pods ${target.pods[0]}",
            "kubectl get \"pods",
            &["11:35: experiment `one`, step 2 (run): a quote is never closed"],
        ),
        (
            "kubectl get pods ${target.pods[0]}",
            " ",
            &["11:35: experiment `one`, step 2 (run): the command is empty"],
        ),
        // What no lab needs.
        (
            "kubectl get pods ${target.pods[0]}",
            "kubectl delete pods --all --namespace kube-system",
            &["11:62: experiment `one`, step 2 (run): no lab may say `--namespace`: it has "],
        ),
        (
            "kubectl get pods ${target.pods[0]}",
            "helm plugin install https://example.com",
            &[
                "11:41: experiment `one`, step 2 (run): `helm plugin` is nothing that a lab may run; it may get, ",
            ],
        ),
        (
            "release: counter",
            "release: ../../counter",
            &["5:37: `../../counter` is no name: up to 53 lower-case letters, digits and inner dashes"],
        ),
        (
            "as: start }",
            "as: start, release: ../x }",
            &["10:40: `../x` is no name: up to 53 lower-case letters, digits and inner dashes"],
        ),
        (
            "question: Is it so?",
            "question: Is it so?\n    needs: [{ kind: ../Pod, field: spec.x, value: 1 }]",
            &["9:21: experiment `one`: `../Pod` is no kind"],
        ),
        // No YAML.
        (
            "    question: Is it so?",
            "\tquestion: Is it so?",
            &["7:9: while scanning a plain scalar, found a tab"],
        ),
        ("question: Is it so?", "question: \u{0}", &["8:"]),
    ];
    let mut otherwise = Vec::new();
    for (part, other, expected) in cases {
        let told = told_with(part, other);
        let begins = told.iter().zip(expected).all(|(told, begin)| told.starts_with(begin));
        if told.len() != expected.len() || !begins {
            otherwise.push(format!(
                "{part} → {other}\n{}\nexpected\n{}",
                told.join("\n"),
                expected.join("\n")
            ));
        }
    }
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n\n"));
}

#[test]
fn the_same_fault_in_two_places_is_told_of_both() {
    let both = told(SOUND.replace("size(seen.pods)", "size(sean.pods)"));
    assert_eq!(both.len(), 2);
    assert!(both[0].starts_with("18:79: claim `so`: nothing called `sean`"), "{both:?}");
    assert!(both[1].starts_with("19:83: claim `thus`: nothing called `sean`"), "{both:?}");
}

#[test]
fn everything_is_told_at_once() {
    let text = SOUND
        .replace("points: 0.7", "points: 2")
        .replace("criterion: all, points: 0.3", "criterion: al, points: 0.3")
        .replace("&& seen.pods", "&& sean.pods")
        .replace("question:", "question: Really?\n    timeout: 5\n    hint:")
        .replace("id: thus,", "id: Not a name,");
    let told = told(&text);
    for expected in [
        "unknown field `timeout` (did you mean `timeout_s`?)",
        "unknown field `hint`",
        "21:15: `Not a name` is no name",
        "claim `Not a name` counts for `al`, which the rubric does not have (did you mean `all`?)",
        "4:42: criterion `all` is worth 1 points, its claims add up to 2",
        "nothing called `sean` is recorded before (did you mean `seen`?)",
    ] {
        assert!(told.iter().any(|told| told.contains(expected)), "{expected} is not in {told:#?}");
    }
}

#[test]
fn what_is_no_lab_at_all_is_told_with_its_place() {
    for (bytes, begins) in [
        (&b""[..], "1:1: "),
        (b"null", "1:1: "),
        (b"42", "1:1: "),
        (b"- a\n- b\n", "1:1: "),
        (b"lab: \xff\n", "1:6: this is no UTF-8"),
        (b"lab: a\ntitle: \"\xc3", "2:9: this is no UTF-8"),
        (b"\x00\x01", "1:"),
        (b"lab: {", "1:"),
        (b"lab: *nothing", "1:6: "),
        (b"%YAML 9.9\n---\nlab: x", "1:1: "),
        (b"? [a]\n: b", "1:"),
        (b"? {a: b}\n: c", "1:"),
        (b"a: 1\n---\nb: 2\n", ""),
    ] {
        let told = told(bytes);
        assert!(
            !told.is_empty() && told[0].starts_with(begins),
            "{:?}: {told:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn a_file_that_grows_when_it_is_read_is_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let before = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", "));
    }
    for text in [
        bomb,
        "a: ".to_owned() + &"[".repeat(10_000),
        "a: ".to_owned() + &"{a: ".repeat(10_000),
        (0..2000).map(|depth| " ".repeat(depth) + "a:\n").collect(),
        "- ".repeat(20_000),
        "? ".repeat(20_000),
        "lab: &a { <<: *a }".to_owned(),
        "lab: ".to_owned() + &"!!".repeat(5000),
        "- &a\n".repeat(100_000),
    ] {
        let told = told(&text);
        assert!(!told.is_empty() && told.len() < 200_000, "{}", &text[..60]);
    }
}

#[test]
fn a_device_or_a_film_is_no_lab() {
    let error = load(Path::new("/dev/zero")).unwrap_err().to_string();
    assert_eq!(error, "cannot read lab file /dev/zero: it has more than 8 MiB");
    assert!(load(&docs()).unwrap_err().to_string().starts_with("cannot read lab file "));
}

/// As many experiments as asked for, each with a claim of a hundredth.
fn large(experiments: usize) -> String {
    let (head, body) = SOUND.split_at(SOUND.find("  - id: one").unwrap());
    let head = head.replace("points: 1 }", &format!("points: {} }}", experiments as f64 / 50.0));
    let body = body.replace("points: 0.7", "points: 0.01").replace("points: 0.3", "points: 0.01");
    let one = |n: usize| {
        let ids = [("id: one", "one"), ("id: so", "so"), ("id: thus", "thus")];
        ids.iter().fold(body.clone(), |text, (id, name)| text.replace(id, &format!("id: {name}-{n}")))
    };
    head + &(0..experiments).map(one).collect::<String>()
}

#[test]
fn a_thousand_experiments_are_read_and_their_faults_are_counted() {
    let text = large(1000);
    let spec = parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{:?}", &problems[..1]));
    assert_eq!(spec.experiments.len(), 1000);
    let broken = told(large(100).replace("size(seen.pods)", "size(sean.pods)"));
    assert_eq!(broken.len(), 200);
}

#[test]
fn no_more_is_told_than_somebody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lab.yaml");
    std::fs::write(&path, large(200).replace("question:", "qestion:")).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert_eq!(error.lines().count(), TOLD + 1);
    assert!(error.ends_with("… and 300 more"), "{error}");
}

#[test]
fn a_file_of_a_megabyte_is_read() {
    let mut text = SOUND.to_owned();
    text += "# A comment that says very little, but says it very often.\n".repeat(5000).as_str();
    let says = "It is so. ".repeat(80_000);
    text = text.replace("It is so.,", &format!("{},", says.trim()));
    assert!(text.len() > 1 << 20);
    assert_eq!(told(&text), [""; 0]);
    let expression = "size(seen.pods) == 3 && ".repeat(50_000);
    let told = told(
        SOUND.replace("'size(seen.pods) == 3' }\n      - {", &format!("'{expression} true' }}\n      - {{")),
    );
    assert_eq!(told, ["18:74: claim `so`: this expression has more than 20000 characters"]);
}

#[test]
fn a_namespace_that_would_be_too_long_is_told_before_a_cluster_refuses_it() {
    let long = "a".repeat(40);
    let text =
        SOUND.replace("lab: small", &format!("lab: {long}")).replace("id: one", &format!("id: {long}"));
    assert_eq!(told(text), [format!("7:9: namespace `{long}-{long}` has more than 63 characters")]);
}

#[test]
fn every_example_of_the_guide_is_sound() {
    let guide = std::fs::read_to_string(docs().join("WRITING-LABS.md")).unwrap();
    let blocks: Vec<&str> =
        guide.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert!(blocks.len() > 1);
    for block in blocks {
        // What is no whole lab is a step, the end of one claim, after an update, or a key of an experiment.
        let text = if block.starts_with("lab:") {
            block.to_owned()
        } else if block.starts_with("- ") {
            let indented = block.trim_end().replace('\n', "\n      ");
            SOUND.replace("- observe: { as: seen }", &format!("{indented}\n      - observe: {{ as: seen }}"))
        } else if block.starts_with("expect:") {
            let indented = block.replace('\n', "\n        ");
            SOUND
                .replace("- observe: { as: seen }", "- observe: { as: seen }\n      - upgrade: { as: update }")
                .replace(
                    "- { id: so, says: It is so., criterion: all, points: 0.7, expect: 'size(seen.pods) == 3' }",
                    &format!("- id: so\n        says: It is so.\n        criterion: all\n        points: 0.7\n        {indented}"),
                )
        } else {
            let indented = block.trim_end().replace('\n', "\n    ");
            SOUND.replace("    question:", &format!("    {indented}\n    question:"))
        };
        assert_ne!(text, SOUND);
        assert_eq!(told(&text), [""; 0], "{text}");
    }
}

#[test]
fn the_numbers_of_the_guide_are_those_of_the_schema() {
    let guide = std::fs::read_to_string(docs().join("WRITING-LABS.md")).unwrap();
    let number = Regex::new(r"`([a-z_]+)`( [a-z ]+)? \((\d+)\)").unwrap();
    let mut found = 0;
    for line in guide.lines() {
        for told in number.captures_iter(line) {
            // The kinds of steps that the line is about, or else the experiment.
            let about = line.strip_prefix("- ").and_then(|line| line.split(':').next()).unwrap_or_default();
            let kinds = about.split('`').skip(1).step_by(2);
            let defs: Vec<&Json> = kinds
                .filter_map(|kind| {
                    SCHEMA["$defs"]["Step"]["oneOf"]
                        .as_array()?
                        .iter()
                        .find(|step| step["required"][0] == *kind)
                })
                .filter_map(|step| step["properties"].as_object()?.values().next()?["$ref"].as_str())
                .map(|name| &SCHEMA["$defs"][name.rsplit('/').next().unwrap()])
                .collect();
            let defs = if defs.is_empty() { vec![&SCHEMA["$defs"]["Experiment"]] } else { defs };
            for def in defs {
                let default = &def["properties"][&told[1]]["default"];
                assert_eq!(default.to_string(), told[3], "{line}");
                found += 1;
            }
        }
    }
    assert!(found >= 7, "{found}");
    for (words, limit) in [
        ("up to {} lower-case letters", check::NAME_CHARS),
        ("A namespace may have {} characters", NAMESPACE_CHARS),
        ("nests {} levels", crate::expression::DEPTH),
    ] {
        let words = words.replace("{}", &limit.to_string());
        assert!(guide.contains(&words), "{words}");
    }
    assert!(guide.contains("has at most 20,000 characters") && crate::expression::CHARS == 20_000);
}

#[test]
fn the_guide_tells_every_role() {
    let guide = std::fs::read_to_string(docs().join("WRITING-LABS.md")).unwrap();
    let fields = crate::roles::Roles::fields();
    assert!(fields.contains(&"pods") && fields.contains(&"domain"), "{fields:?}");
    for field in fields {
        assert!(guide.contains(&format!("`target.{field}`")), "{field}");
    }
}

#[test]
fn the_table_of_upstreams_cases_names_claims_that_exist() {
    let page = std::fs::read_to_string(docs().join("COVERAGE.md")).unwrap();
    let lab = load(&docs().join("labs/statefulset.yaml")).unwrap();
    let claims: Vec<String> = lab
        .experiments
        .iter()
        .flat_map(|experiment| {
            experiment.claims.iter().map(|claim| format!("{}/{}", experiment.id, claim.id))
        })
        .collect();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| upstream"));
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, covered, by, why] = cells[..] else { panic!("{row}") };
        let named: Vec<&str> = by.split('`').skip(1).step_by(2).collect();
        for name in &named {
            assert!(claims.iter().any(|claim| claim == name), "there is no `{name}`");
        }
        let consistent = match covered {
            "whole" => !named.is_empty() && why.is_empty(),
            "part" => !named.is_empty() && !why.is_empty(),
            "no" => named.is_empty() && !why.is_empty(),
            _ => false,
        };
        assert!(consistent, "{row}");
        count += 1;
    }
    assert_eq!(count, 33);
}

/// What has broken a loader of something before.
const NASTY: [&str; 40] = [
    "",
    "~",
    "null",
    "true",
    ".nan",
    "-.inf",
    "1e999",
    "-1",
    "0",
    "0x10",
    "18446744073709551616",
    "''",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "&a",
    "*a",
    "<<: *a",
    "!!binary x",
    "!!int y",
    "|",
    ">-",
    "- ",
    "? ",
    ": ",
    "# ",
    "\t",
    "\u{0}",
    "\u{feff}",
    "\r",
    "${",
    "${target",
    "((((",
    "a.b.c",
    "\\",
    "é𝒳",
    "&& ||",
];

fn broken(file: &str, changes: &[(u8, Index, Index, u8)]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = file.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect();
    for (kind, line, within, byte) in changes {
        let place = line.index(lines.len());
        let other = within.index(lines.len());
        let nasty = NASTY[usize::from(*byte) % NASTY.len()].as_bytes();
        let at = within.index(lines[place].len().max(1)).min(lines[place].len());
        match kind {
            0 if lines.len() > 1 => drop(lines.remove(place)),
            1 => lines.insert(other, lines[place].clone()),
            2 => lines.swap(place, other),
            3 => lines[place].splice(0..0, vec![b' '; usize::from(*byte) % 9]).for_each(drop),
            4 => lines[place].splice(at..at, nasty.iter().copied()).for_each(drop),
            5 if at < lines[place].len() => lines[place][at] = *byte,
            6 if at < lines[place].len() => drop(lines[place].remove(at)),
            7 => lines[place].truncate(at),
            _ => {
                // The value of a key is another.
                let text = String::from_utf8_lossy(&lines[place]).into_owned();
                if let Some((key, _)) = text.split_once(": ") {
                    lines[place] = [key.as_bytes(), b": ", nasty, b"\n"].concat();
                }
            }
        }
    }
    lines.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_broken_lab_is_told_with_places_that_are_in_it(
        which in 0..3_usize,
        changes in prop::collection::vec((0..9_u8, any::<Index>(), any::<Index>(), any::<u8>()), 1..6),
    ) {
        let file = match which {
            0 => SOUND.to_owned(),
            1 => large(3),
            _ => std::fs::read_to_string(docs().join("labs/deployment.yaml")).unwrap(),
        };
        let bytes = broken(&file, &changes);
        if let Err(problems) = parse(&bytes) {
            prop_assert!(!problems.is_empty());
            let text = String::from_utf8_lossy(&bytes);
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            let lines: Vec<usize> = text.split('\n').map(|line| line.chars().count()).collect();
            for problem in problems {
                prop_assert!(!problem.says.is_empty() && !problem.says.contains('\n'), "{problem:?}");
                let Place { line, column } = problem.place;
                // A lone carriage return ends a line for YAML, and not for an editor.
                if !text.contains('\r') {
                    let length = lines.get(line as usize - 1).copied();
                    prop_assert!(
                        length.is_some_and(|length| column as usize <= length + 1) || line as usize == lines.len() + 1,
                        "{problem:?} in {} lines", lines.len()
                    );
                }
            }
        }
    }

    #[test]
    fn any_text_is_an_expression_or_a_fault_within_it(
        pieces in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![
                "a", "pods", "target.pods", ".b", "[0]", "(", ")", "{", "}", "[", "]", "\"", "'", "'''", "r'", "b\"\\x", " && ",
                " || ", "!", " == ", " in ", " ? ", " : ", ",", ".all(x, ", ".map(y, ", "has(", "1", "-", "9e99", "0x", "u", "\n",
                "//", "\\", "é", "𝒳", "@", "`", "${", "}", "true", "null", "matches('('",
            ]).prop_map(str::to_owned),
            any::<char>().prop_map(String::from),
        ], 0..40),
    ) {
        use crate::expression::{CommandLine, Compile, Expression, Template};
        let source = pieces.concat();
        let length = source.chars().count();
        match Expression::compile(&source) {
            Err(fault) => prop_assert!(fault.at.is_none_or(|at| at <= length), "{source:?}: {fault:?}"),
            Ok(expression) => {
                let scope = serde_json::json!({"a": [1], "pods": {"b": 1}}).as_object().unwrap().clone();
                let _ = (expression.unknown_functions(), expression.value(&scope), expression.parts(&scope));
            }
        }
        for fault in [Template::compile(&source).err(), CommandLine::compile(&source).err()].into_iter().flatten() {
            prop_assert!(fault.at.is_none_or(|at| at <= length), "{source:?}: {fault:?}");
        }
    }
}
