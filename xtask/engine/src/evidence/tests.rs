//! A run written to a folder, rendered again, checked and compared.

use super::grade::{PageSeen, Under};
use super::*;

struct Tree {
    folder: tempfile::TempDir,
    paths: Paths,
    lab: LabSpec,
    record: Record,
}

fn tree() -> Tree {
    let folder = tempfile::tempdir().unwrap();
    let (lab, record) = fixture::passing();
    let page = folder.path().join("docs/PAGE.md");
    fs::create_dir_all(page.parent().unwrap()).unwrap();
    fs::write(&page, fixture::PAGE).unwrap();
    let file = folder.path().join("docs/lab.yaml");
    fs::write(&file, fixture::LAB).unwrap();
    let root = folder.path().to_owned();
    let paths = Paths {
        lab: file,
        evidence: root.join("docs/evidence").join(&lab.lab),
        page: Some(page),
        target: root.join("target/lab"),
        foreign: false,
        step_summary: None,
        root,
    };
    Tree { folder, paths, lab, record }
}

impl Tree {
    fn write(&self, record: &Record, keep: Keep) -> Written {
        write(&self.paths, &self.lab, record.clone(), keep, None).unwrap()
    }

    fn written(&self) -> Written {
        self.write(&self.record, Keep::Committed)
    }

    fn check(&self) -> Vec<String> {
        check(&self.paths, &self.lab).unwrap().iter().map(ToString::to_string).collect()
    }

    fn files(&self, files: &[PathBuf]) -> Vec<String> {
        files.iter().map(|file| shown(file, self.folder.path())).collect()
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.folder.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap()
    }
}

#[test]
fn a_whole_run_writes_record_pictures_page_and_reports_and_passes_its_check() {
    let tree = tree();
    let written = tree.written();
    assert_eq!(written.faults, []);
    assert_eq!(
        tree.files(&written.files),
        [
            "docs/evidence/tiny/run.json",
            "docs/evidence/tiny/run.schema.json",
            "docs/evidence/tiny/timeline-dns.svg",
            "docs/evidence/tiny/timeline-persistence.svg",
            "docs/evidence/tiny/timeline-rolling-update.svg",
            "docs/evidence/tiny/timeline.svg",
            "docs/PAGE.md",
            "target/lab/report.html",
            "target/lab/report.json",
            "target/lab/junit.xml",
        ]
    );
    assert!(tree.read("docs/PAGE.md").contains("](evidence/tiny/timeline-persistence.svg)"));
    assert_eq!(written.grade.points, 6.5);
    assert_eq!(tree.check(), Vec::<String>::new());
}

#[test]
fn the_record_is_read_back_as_it_was_written_and_its_schema_lies_beside_it() {
    let tree = tree();
    tree.written();
    let read: Record = serde_json::from_str(&tree.read("docs/evidence/tiny/run.json")).unwrap();
    assert_eq!(json(&read).unwrap(), json(&tree.record).unwrap());
    let schema: serde_json::Value =
        serde_json::from_str(&tree.read("docs/evidence/tiny/run.schema.json")).unwrap();
    let told: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    let written = serde_json::to_value(&tree.record).unwrap();
    for key in written.as_object().unwrap().keys() {
        assert!(told.contains(&key), "the schema lacks {key}");
    }
}

#[test]
fn two_runs_of_the_same_behaviour_change_no_committed_file() {
    let tree = tree();
    tree.written();
    let mut again = tree.record.clone();
    again.duration_ms += 777;
    again.started_at = "2026-12-01T00:00:00Z".to_owned();
    for transition in &mut again.experiments[0].timeline {
        transition.at_ms += 13;
    }
    let written = tree.write(&again, Keep::Committed);
    assert!(tree.files(&written.files).iter().all(|file| file.starts_with("target/")), "{:?}", written.files);
    assert_eq!(tree.check(), Vec::<String>::new());
}

#[test]
fn another_behaviour_refreshes_the_committed_evidence() {
    let tree = tree();
    tree.written();
    let (_, failing) = fixture::failing();
    let differences = compare(&tree.paths, &failing).unwrap();
    let told = differences.iter().find(|it| it.what.starts_with("step persistence/counts-after")).unwrap();
    assert!(told.diff.as_ref().unwrap().contains("-7\n+0\n"), "{told}");
    let written = tree.write(&failing, Keep::Committed);
    assert!(tree.files(&written.files).contains(&"docs/evidence/tiny/run.json".to_owned()));
    assert!(tree.read("docs/PAGE.md").contains("✘ **fails**"));
    assert_eq!(compare(&tree.paths, &failing).unwrap(), []);
}

#[test]
fn a_run_that_failed_never_replaces_what_is_committed() {
    let (_, passing) = fixture::passing();
    let (_, failing) = fixture::failing();
    let mut broken = passing.clone();
    broken.experiments[1].failure = Some(model::failure::Failure::other("the cluster went away"));
    let kept = [(&passing, true), (&passing, false), (&failing, true), (&broken, true)];
    assert_eq!(
        kept.map(|(record, whole)| Keep::of(record, whole)),
        [Keep::Committed, Keep::Target, Keep::Target, Keep::Target]
    );
}

#[test]
fn a_selection_never_touches_what_is_committed() {
    let tree = tree();
    tree.written();
    let before = tree.read("docs/PAGE.md");
    let mut selection = tree.record.clone();
    selection.experiments.truncate(1);
    let written = tree.write(&selection, Keep::Target);
    assert!(tree.files(&written.files).contains(&"target/lab/PAGE.md".to_owned()));
    assert!(tree.read("target/lab/PAGE.md").contains("](./timeline-persistence.svg)"));
    assert_eq!(tree.read("docs/PAGE.md"), before);
    assert_eq!(tree.check(), Vec::<String>::new());
}

#[test]
fn a_changed_digit_in_a_block_fails_the_check_and_survives_the_next_run() {
    let tree = tree();
    tree.written();
    tree.edit("docs/PAGE.md", "\n7\n", "\n8\n");
    let told = tree.check();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("docs/PAGE.md:") && told[0].contains("was edited by hand"), "{told:?}");
    let written = tree.written();
    assert_eq!(written.faults.len(), 1);
    assert!(tree.read("docs/PAGE.md").contains("\n8\n"));
    assert!(written.grade.points < 6.5);
}

#[test]
fn a_digit_changed_in_the_record_fails_the_check_with_a_diff_of_the_block() {
    let tree = tree();
    tree.written();
    tree.edit("docs/evidence/tiny/run.json", "\"stdout\": \"3\\n\"", "\"stdout\": \"4\\n\"");
    insta::assert_snapshot!(tree.check().join("\n"));
    let rendered = render(&tree.paths, &tree.lab).unwrap();
    assert_eq!(tree.files(&rendered.files), ["docs/PAGE.md"]);
    assert_eq!(tree.check(), Vec::<String>::new());
}

#[test]
fn a_deleted_section_is_told_by_the_steps_it_showed_and_costs_its_points() {
    let tree = tree();
    tree.written();
    let page = tree.read("docs/PAGE.md");
    let (from, to) = (page.find("## Network identity").unwrap(), page.find("## Updates").unwrap());
    fs::write(tree.folder.path().join("docs/PAGE.md"), page[..from].to_owned() + &page[to..]).unwrap();
    let told = tree.check();
    assert!(told.iter().any(|it| it.contains("no block shows step `dns/lookups`")), "{told:?}");
    assert_eq!(tree.written().grade.points, 6.0);
}

#[test]
fn a_deleted_section_without_blocks_is_told_too() {
    let tree = tree();
    tree.written();
    tree.edit("docs/PAGE.md", "## Overview\n", "");
    let told = tree.check();
    let what = "docs/PAGE.md: no section is called `Overview`, for which docs/lab.yaml gives points";
    assert!(told.iter().any(|it| it.starts_with(what)), "{told:?}");
}

#[test]
fn a_renamed_experiment_is_told_for_the_record_and_for_every_block() {
    let mut tree = tree();
    tree.written();
    tree.lab.experiments[2].id = "names".to_owned();
    insta::assert_snapshot!(tree.check().join("\n"));
}

#[test]
fn a_picture_by_another_hand_or_of_no_experiment_is_told_and_mended() {
    let tree = tree();
    tree.written();
    tree.edit("docs/evidence/tiny/timeline-dns.svg", "<title", "<title ");
    fs::write(tree.paths.evidence.join("timeline-gone.svg"), "<svg/>").unwrap();
    assert_eq!(
        tree.check(),
        [
            "docs/evidence/tiny/timeline-dns.svg:2: not that of the recorded run\n  next: cargo xtask docs",
            "docs/evidence/tiny/timeline-gone.svg: belongs to no experiment\n  next: cargo xtask docs"
        ]
    );
    let rendered = render(&tree.paths, &tree.lab).unwrap();
    assert_eq!(
        tree.files(&rendered.files),
        ["docs/evidence/tiny/timeline-dns.svg", "docs/evidence/tiny/timeline-gone.svg"]
    );
    assert_eq!(tree.check(), Vec::<String>::new());
}

#[test]
fn a_missing_record_says_which_file_it_looked_for() {
    let tree = tree();
    let error = check(&tree.paths, &tree.lab).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the recorded run docs/evidence/tiny/run.json");
}

#[test]
fn a_ci_job_gets_its_summary_below_what_is_there() {
    let mut tree = tree();
    let file = tree.folder.path().join("summary.md");
    fs::write(&file, "before\n").unwrap();
    tree.paths.step_summary = Some(file);
    tree.written();
    assert!(tree.read("summary.md").starts_with("before\n## ✔ A tiny lab\n"));
}

#[test]
fn a_lab_that_is_called_as_a_page_of_something_else_leaves_that_page_alone() {
    let dir = tempfile::tempdir().unwrap();
    let docs = dir.path().join("docs");
    std::fs::create_dir_all(&docs).unwrap();
    std::fs::write(docs.join("NIX.md"), "# The flake\n\nProse, and `<!-- lab:begin run a/b -->` told of.\n")
        .unwrap();
    std::fs::write(docs.join("SMALL.md"), "# Small\n\n<!-- lab:begin run a/b -->\n<!-- lab:end -->\n")
        .unwrap();
    let root = dir.path().to_owned();
    let workspace =
        machine::workspace::Workspace { lab: root.join("target/lab"), cache: root.join("cache"), root };
    let page = |name: &str| {
        let (mut spec, _) = fixture::passing();
        spec.lab = name.to_owned();
        let lab = crate::lab::Lab { path: docs.join("lab.yaml"), spec, kept: false, foreign: false };
        Paths::of(&workspace, &lab).page
    };
    assert_eq!(page("nix"), None);
    assert_eq!(page("small"), Some(docs.join("SMALL.md")));
}

#[test]
fn the_page_that_was_handed_in_with_a_chart_counts_and_is_named() {
    let tree = tree();
    let paths = Paths { page: None, foreign: true, ..tree.paths.clone() };
    let written = |handed_in: Option<&HandedIn>| {
        write(&paths, &tree.lab, tree.record.clone(), Keep::Target, handed_in).unwrap().grade
    };
    assert_eq!((written(None).points, written(None).not_run), (5.0, 1.5));
    let under = [
        ("overview", Under::Sound),
        ("persistence test", Under::Fault("line 7: no".to_owned())),
        ("network identity", Under::Unread("a picture".to_owned())),
    ];
    let headings = under.map(|(heading, under)| (heading.to_owned(), under)).into();
    let page = HandedIn { page: PageSeen::Judged("theirs/STATEFULSET.md".to_owned()), headings };
    let grade = written(Some(&page));
    assert_eq!((grade.points, grade.not_run, grade.of), (5.5, 0.5, 6.5));
    let report = tree.read("target/lab/report.html");
    assert!(
        report.contains("theirs/STATEFULSET.md") || report.contains("theirs&#x2f;STATEFULSET.md"),
        "{report}"
    );
    assert!(report.contains("line 7: no"));
}

#[test]
fn a_lab_without_a_page_loses_no_points_for_one() {
    let tree = tree();
    let paths = Paths { page: None, ..tree.paths.clone() };
    let grade = write(&paths, &tree.lab, tree.record.clone(), Keep::Target, None).unwrap().grade;
    assert_eq!((grade.points, grade.not_run, grade.of), (5.0, 1.5, 6.5));
}
