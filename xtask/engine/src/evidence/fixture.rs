//! Runs for tests: a small lab, a record in which all holds, and one with a failed claim and a broken experiment.

use serde_json::{Value, json};

use model::failure::{Failure, LastSeen, Why};
use model::kinds::{Change, Kind};
use model::record::*;
use model::spec::{LabSpec, Step};

pub(crate) const LAB: &str = include_str!("fixture/lab.yaml");
pub(crate) const PAGE: &str = include_str!("fixture/page.md");

/// The lab and a run of it in which every claim holds.
pub(crate) fn passing() -> (LabSpec, Record) {
    let lab: LabSpec = serde_saphyr::from_str(LAB).expect("the fixture is a lab");
    let mut record = record(&lab);
    let persistence = &mut record.experiments[0];
    persistence.commands("install-1", [command("helm upgrade --install counter chart --namespace persistence", "Release \"counter\" does not exist. Installing it now.\nNAME: counter\nLAST DEPLOYED: Sat Nov 21 16:37:12 2026\nNAMESPACE: persistence\nSTATUS: deployed\nREVISION: 1\n")]);
    persistence.commands("visits", [command("curl --silent http://127.0.0.1:41873/", "7\n")]);
    persistence.commands("before", [command("kubectl get pods --output wide --namespace persistence", "NAME        READY   STATUS    RESTARTS     AGE   IP           NODE\ncounter-0   1/1     Running   0            9s    10.244.0.5   statefulset-lab-control-plane\ncounter-1   1/1     Running   1 (3s ago)   12s   10.244.0.16  statefulset-lab-control-plane\n")]);
    persistence.commands(
        "counts",
        [
            command("kubectl exec counter-0 --namespace persistence -- cat /data/visits", "7\n"),
            command("kubectl exec counter-1 --namespace persistence -- cat /data/visits", "3\n"),
        ],
    );
    persistence.commands(
        "run-5",
        [command("kubectl delete pod counter-0 --namespace persistence", "pod \"counter-0\" deleted\n")],
    );
    persistence.commands(
        "counts-after",
        [command("kubectl exec counter-0 --namespace persistence -- cat /data/visits", "7\n")],
    );
    persistence.timeline = [
        life(
            "counter-0",
            "uid-a",
            "counter-6d4b9c7f8",
            &[
                (Change::Created, 900),
                (Change::Scheduled, 950),
                (Change::Running, 1800),
                (Change::Ready, 2300),
                (Change::Terminating, 5200),
                (Change::Deleted, 5900),
            ],
        ),
        life(
            "counter-1",
            "uid-b",
            "counter-6d4b9c7f8",
            &[
                (Change::Created, 2320),
                (Change::Scheduled, 2350),
                (Change::Running, 3000),
                (Change::Restarted, 3400),
                (Change::Running, 3600),
                (Change::Ready, 3900),
            ],
        ),
        life(
            "counter-0",
            "uid-c",
            "counter-6d4b9c7f8",
            &[
                (Change::Created, 5910),
                (Change::Scheduled, 5920),
                (Change::Running, 6700),
                (Change::Ready, 7200),
            ],
        ),
        volume("data-counter-0", &[(Change::Created, 890), (Change::Bound, 1400)]),
        volume("data-counter-1", &[(Change::Created, 2310), (Change::Bound, 2700)]),
    ]
    .concat();
    persistence.timeline.sort_by_key(|transition| transition.at_ms);
    persistence.values(
        "count-survives",
        &[
            ("int(counts[\"counter-0\"].stdout)", json!(7)),
            ("int(counts_after[\"counter-0\"].stdout)", json!(7)),
        ],
    );
    persistence.values(
        "new-pod",
        &[("before.pods[\"counter-0\"].metadata.uid", json!("0f8fad5b-d9cb-469f-a165-70867728950e"))],
    );

    let rolling = &mut record.experiments[1];
    rolling.commands(
        "install-1",
        [command("helm upgrade --install counter chart --namespace rolling-update", "NAME: counter\n")],
    );
    rolling.commands("upgrade", [command("helm upgrade counter chart --reuse-values --set podAnnotations.round=2 --namespace rolling-update", "Release \"counter\" has been upgraded. Happy Helming!\n")]);
    rolling.commands("revisions", [command("kubectl get controllerrevisions --namespace rolling-update", "NAME                 CONTROLLER                     REVISION   AGE\ncounter-5c9f7b8d4f   statefulset.apps/counter       2          4s\ncounter-6d4b9c7f8    statefulset.apps/counter       1          14s\n")]);
    rolling.timeline = [
        life(
            "counter-0",
            "uid-a",
            "counter-6d4b9c7f8",
            &[
                (Change::Created, 700),
                (Change::Scheduled, 710),
                (Change::Running, 1500),
                (Change::Ready, 2000),
                (Change::Terminating, 8200),
                (Change::Deleted, 8900),
            ],
        ),
        life(
            "counter-1",
            "uid-b",
            "counter-6d4b9c7f8",
            &[
                (Change::Created, 2020),
                (Change::Scheduled, 2040),
                (Change::Running, 2700),
                (Change::Ready, 3300),
                (Change::Terminating, 5600),
                (Change::Deleted, 6300),
            ],
        ),
        life(
            "counter-1",
            "uid-c",
            "counter-5c9f7b8d4f",
            &[
                (Change::Created, 6310),
                (Change::Scheduled, 6320),
                (Change::Running, 7400),
                (Change::Ready, 8100),
                (Change::Unready, 9000),
                (Change::Ready, 9600),
            ],
        ),
        life(
            "counter-0",
            "uid-d",
            "counter-5c9f7b8d4f",
            &[
                (Change::Created, 8910),
                (Change::Scheduled, 8920),
                (Change::Running, 9800),
                (Change::Ready, 10400),
            ],
        ),
    ]
    .concat();
    rolling.timeline.sort_by_key(|transition| transition.at_ms);
    rolling.values(
        "reverse-order",
        &[("timeline.filter(t, t.what == \"ready\").map(t, t.name)", json!(["counter-1", "counter-0"]))],
    );

    let dns = &mut record.experiments[2];
    dns.commands(
        "install-1",
        [command("helm upgrade --install counter chart --namespace dns", "NAME: counter\n")],
    );
    dns.commands("lookups", [command("kubectl exec counter-0 --namespace dns -- nslookup counter-1.counter-headless", "Server:\t\t10.96.0.10\nAddress:\t10.96.0.10:53\n\nName:\tcounter-1.counter-headless.dns.svc.cluster.local\nAddress: 10.244.0.9\n\n")]);
    dns.values(
        "resolves",
        &[("lookups[\"counter-0\"][\"counter-1.counter-headless\"].addresses", json!(["10.244.0.9"]))],
    );
    (lab, record)
}

/// The lab and a run of it in which a claim fails and an experiment breaks.
pub(crate) fn failing() -> (LabSpec, Record) {
    let (lab, mut record) = passing();
    let persistence = &mut record.experiments[0];
    persistence.commands(
        "counts-after",
        [command("kubectl exec counter-0 --namespace persistence -- cat /data/visits", "0\n")],
    );
    persistence.values(
        "count-survives",
        &[
            ("int(counts[\"counter-0\"].stdout)", json!(7)),
            ("int(counts_after[\"counter-0\"].stdout)", json!(0)),
        ],
    );
    persistence.claim("count-survives").verdict = Verdict::Fails;
    persistence.diagnostics = vec![
        command(
            "kubectl get events --namespace persistence",
            "LAST SEEN   TYPE      REASON         OBJECT          MESSAGE\n4s          Warning   FailedMount    pod/counter-0   MountVolume.SetUp failed for volume \"data\": <script>alert(1)</script>\n2s          Normal    Killing        pod/counter-0   Stopping container counter\n",
        ),
        command(
            "kubectl logs counter-0 --namespace persistence",
            "{\"level\":\"INFO\",\"message\":\"no count at /data/visits, starting at 0\"}\n",
        ),
    ];
    let rolling = &mut record.experiments[1];
    let seen = LastSeen {
        says: "1 of 2 pods updated".to_owned(),
        troubles: Vec::new(),
        pods: [("counter-1".to_owned(), "Pending, ErrImagePull: not found".to_owned())].into(),
        ..LastSeen::default()
    };
    let awaited = "statefulset rolling-update/counter to be rolled out".to_owned();
    let expired = Failure::from(Why::Expired { awaited, limit_s: 90, problem: None, seen });
    rolling.steps.truncate(2);
    rolling.steps[1].error = Some(expired.clone());
    rolling.failure = Some(Failure {
        step: Some("upgrade".to_owned()),
        next: Some("cargo xtask lab --only rolling-update --keep".to_owned()),
        ..expired
    });
    for claim in &mut rolling.claims {
        claim.verdict = Verdict::NotJudged;
        claim.values.clear();
        claim.message = Some("step `upgrade` failed before it could be judged".to_owned());
    }
    rolling.diagnostics = vec![command(
        "kubectl get events --namespace rolling-update",
        "LAST SEEN   TYPE      REASON    OBJECT          MESSAGE\n9s          Warning   Failed    pod/counter-1   Failed to pull image \"counter:none\": not found\n",
    )];
    let claim = record.experiments[2].claim("resolves");
    claim.verdict = Verdict::Skipped;
    claim.message = Some("needs cluster DNS".to_owned());
    (lab, record)
}

/// A command that succeeded.
pub(crate) fn command(line: &str, stdout: &str) -> CommandRecord {
    CommandRecord {
        argv: shell_words::split(line).expect("the fixture's command line is one"),
        status: 0,
        duration_ms: 120,
        stdout: stdout.to_owned(),
        stderr: String::new(),
        before: Vec::new(),
    }
}

/// A record that is written by hand.
pub(crate) trait Written {
    /// Gives the step of that name these commands.
    fn commands<const N: usize>(&mut self, step: &str, commands: [CommandRecord; N]);
    /// The step of that name.
    fn step(&mut self, name: &str) -> &mut StepRecord;
    /// The claim of that id.
    fn claim(&mut self, id: &str) -> &mut ClaimRecord;
    /// Gives the claim of that id these values.
    fn values(&mut self, claim: &str, values: &[(&str, Value)]);
}

impl Written for ExperimentRecord {
    fn commands<const N: usize>(&mut self, step: &str, commands: [CommandRecord; N]) {
        self.step(step).commands = commands.into();
    }

    fn step(&mut self, name: &str) -> &mut StepRecord {
        self.steps.iter_mut().find(|step| step.name == name).expect("the fixture has the step")
    }

    fn claim(&mut self, id: &str) -> &mut ClaimRecord {
        self.claims.iter_mut().find(|claim| claim.id == id).expect("the fixture has the claim")
    }

    fn values(&mut self, claim: &str, values: &[(&str, Value)]) {
        self.claim(claim).values = values
            .iter()
            .map(|(part, value)| Seen { part: (*part).to_owned(), value: value.clone() })
            .collect();
    }
}

fn record(lab: &LabSpec) -> Record {
    Record {
        format: FORMAT,
        lab: lab.lab.clone(),
        title: lab.title.clone(),
        started_at: "2026-11-21T16:37:12Z".to_owned(),
        duration_ms: 31_400,
        versions: [
            ("kubernetes", "v1.37.0"),
            ("kind", "v0.33.0"),
            ("helm", "v4.0.1"),
            ("revision", "4b3f5e2 (clean)"),
        ]
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .into(),
        stages: [("build", 2_100), ("cluster", 12_000), ("experiments", 17_300)]
            .map(|(name, duration_ms)| Stage { name: name.to_owned(), duration_ms })
            .into(),
        engine_share: 0.012,
        rubric: lab
            .rubric
            .iter()
            .map(|criterion| Criterion {
                id: criterion.id.clone(),
                title: criterion.title.clone(),
                points: criterion.points,
                sections: criterion.sections.clone(),
            })
            .collect(),
        experiments: lab
            .experiments
            .iter()
            .enumerate()
            .map(|(place, experiment)| ExperimentRecord {
                id: experiment.id.clone(),
                question: experiment.question.clone(),
                declared: super::stale::digest(experiment),
                namespace: experiment.id.clone(),
                started_ms: 14_100 + 200 * place as u64,
                duration_ms: 11_000,
                engine_ms: 40,
                steps: experiment
                    .steps
                    .iter()
                    .enumerate()
                    .map(|(place, step)| step_record(place, step))
                    .collect(),
                timeline: Vec::new(),
                claims: experiment
                    .claims
                    .iter()
                    .map(|claim| ClaimRecord {
                        id: claim.id.clone(),
                        says: claim.says.clone(),
                        criterion: claim.criterion.clone(),
                        points: claim.points,
                        source: claim.source.clone(),
                        expect: claim.expect.text().to_owned(),
                        verdict: Verdict::Holds,
                        values: Vec::new(),
                        message: None,
                        look_at: Vec::new(),
                    })
                    .collect(),
                skipped: None,
                failure: None,
                troubles: Vec::new(),
                diagnostics: Vec::new(),
                adapted: Vec::new(),
            })
            .collect(),
        also: Vec::new(),
        broke: None,
    }
}

fn step_record(place: usize, step: &Step) -> StepRecord {
    let started_ms = 600 + 1_500 * place as u64;
    StepRecord {
        name: step.label(place),
        kind: step.kind(),
        values: super::stale::values(step),
        set: Vec::new(),
        started_ms,
        ended_ms: started_ms + 1_200,
        engine_ms: 10,
        commands: Vec::new(),
        error: None,
    }
}

fn life(name: &str, uid: &str, revision: &str, steps: &[(Change, u64)]) -> Vec<Transition> {
    transitions(Kind::Pod, name, uid, Some(revision), steps)
}

fn volume(name: &str, steps: &[(Change, u64)]) -> Vec<Transition> {
    transitions(Kind::PersistentVolumeClaim, name, name, None, steps)
}

fn transitions(
    kind: Kind,
    name: &str,
    uid: &str,
    revision: Option<&str>,
    steps: &[(Change, u64)],
) -> Vec<Transition> {
    steps
        .iter()
        .map(|(what, at_ms)| Transition {
            at_ms: *at_ms,
            kind,
            name: name.to_owned(),
            uid: uid.to_owned(),
            what: what.clone(),
            resource_version: (1_000 + at_ms).to_string(),
            revision: revision.map(str::to_owned),
            detail: None,
        })
        .collect()
}
