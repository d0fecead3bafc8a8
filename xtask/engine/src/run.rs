//! The experiments, side by side: each in a namespace of its own, watched from before its first step.

pub(crate) mod session;
mod node;
pub(crate) mod course;
pub(crate) mod subject;
pub(crate) mod journal;
pub(crate) mod bench;
mod screen;
pub(crate) mod namespaces;
pub(crate) mod steps;
mod needs;
mod gate;
mod room;
pub(crate) mod timeline;
pub(crate) mod ledger;
pub(crate) mod wait;
pub(crate) mod watches;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use serde_json::{Value as Json, json};
use tokio::sync::{RwLock, Semaphore};

use crate::evidence::stale;
use crate::failed;
use crate::look;
use crate::run::bench::{Bench, record_of};
use crate::run::course::Installed;
use crate::run::namespaces::Namespaces;
use crate::run::room::{Ask, Room};
use crate::run::subject::Subject;
use crate::run::wait::Act;
use crate::run::watches::Watches;
use cli::RunArgs;
use machine::progress::{Progress, Task};
use model::expression::Scope;
use model::failure::{Failure, TroubleSeen, Why};
use model::record::{ClaimRecord, CommandRecord, ExperimentRecord, StepRecord, Verdict, millis};
use model::spec::{Claim, ClusterNeeds, Experiment};

/// Experiments that a core bears at the same time: they mostly wait, for pods to start and to stop.
const JOBS_PER_CORE: usize = 4;

/// Runs the experiments of all charts, as many side by side as were asked for and the nodes can hold, and enters each
/// into `ended`, by its chart, when it ends. A chart that can't be looked at fails all of its experiments and stops no
/// other. Returned is what is left in the cluster against our will.
///
/// # Errors
/// When the cluster can't be watched at all. A failing experiment is a result, not an error.
pub(crate) async fn experiments(
    subjects: &[Subject],
    Installed { access, targets, namespaces, owner }: &Installed,
    args: &RunArgs,
    ended: &mut [Vec<ExperimentRecord>],
    progress: &Progress,
) -> Result<Vec<String>> {
    let owner = owner.as_ref();
    let mut chosen = Vec::new();
    for (of, (subject, target)) in subjects.iter().zip(targets).enumerate() {
        match target {
            Ok(target) => chosen.extend(subject.chosen()?.into_iter().map(|it| (of, subject, target, it))),
            Err(error) => {
                let (failure, why) = (failed::failure(error), "the chart can't be looked at");
                let all = subject.chosen()?.into_iter();
                let all = all.map(|it| refused(it, subject.namespace(it, owner), &failure, why));
                ended[of] = all.collect();
            }
        }
    }
    let began = Instant::now();
    let several = access.nodes.is_some();
    let (watches, room) = tokio::join!(Watches::open(&access.client, several), Room::of(&access.client));
    let watches = watches?;
    let room = room.unwrap_or_else(|error| {
        progress.say(&format!("  what the nodes can hold is not known: {error:#}"));
        Room::unbounded()
    });
    let places = Semaphore::new(jobs(args));
    // Who breaks nodes has them alone.
    let whole = RwLock::new(());
    // The longest first, so that none of them is left alone at the end; steps are what is known of length beforehand.
    chosen.sort_by_key(|(.., experiment)| std::cmp::Reverse(experiment.steps.len()));
    let runs = chosen.into_iter().map(|(of, subject, target, experiment)| {
        let mut task = progress.queue(subject.title(experiment));
        let (watches, places, room, whole) = (&watches, &places, &room, &whole);
        async move {
            let breaks = experiment.breaks_nodes();
            let _alone = match breaks {
                true => (Some(whole.write().await), None),
                false => (None, Some(whole.read().await)),
            };
            let _place = places.acquire().await;
            let ask = Ask::of(&target.objects, experiment);
            let taken = room.take(ask, namespaces).await;
            task.begin();
            let namespace = subject.namespace(experiment, owner);
            if let Err(error) = taken {
                let record = refused(experiment, namespace, &failed::failure(&error), "it was not begun");
                task.fail(&screen::ended(&record).unwrap_or_else(|line| line));
                return (of, record, Ok(()));
            }
            let started_ms = millis(began.elapsed());
            let timeline = watches.timeline(&namespace);
            let bench = Bench {
                access,
                target,
                namespace,
                timeline,
                recorded: Scope::new(),
                asked: BTreeMap::new(),
                set: Vec::new(),
                adapted: target.told.clone(),
                commands: Vec::new(),
                act: Act::at(Instant::now()),
            };
            let mut record = run_one(experiment, &subject.lab.spec.needs, bench, namespaces, &task).await;
            record.started_ms = started_ms;
            let mended = match &access.nodes {
                Some(nodes) if breaks => nodes.mend(&access.client).await,
                _ => Ok(()),
            };
            match screen::ended(&record) {
                Ok(line) => task.done(&line),
                Err(line) => task.fail(&line),
            }
            let may_go = subject.may_go(&record);
            let released = match subject.name {
                // What is left on a node suffers with what is tried on it next.
                _ if breaks && may_go => namespaces.remove(&record.namespace).await,
                // Many charts side by side are more than a node bears when none of them goes.
                Some(_) if may_go => namespaces.release(&record.namespace).await,
                _ => Ok(()),
            };
            room.ended(ask, may_go.then_some(&record.namespace));
            (of, record, mended.and(released))
        }
    });
    let mut runs: FuturesUnordered<_> = runs.collect();
    let (mut left, mut at_last) = (Vec::new(), Vec::new());
    while let Some((of, record, released)) = runs.next().await {
        left.extend(released.err().map(|error| format!("{error:#}")));
        if subjects[of].name.is_none() && args.keep && subjects[of].may_go(&record) {
            at_last.push(record.namespace.clone());
        }
        ended[of].push(record);
    }
    drop(runs);
    // Not before: stopping pods and taking volumes away is as much work as making them, and the experiments that are
    // still under way need the machine. Nobody waits for it: the next run does, if it is still on its way.
    let released = join_all(at_last.iter().map(|namespace| namespaces.release(namespace))).await;
    left.extend(released.into_iter().filter_map(|released| Some(format!("{:#}", released.err()?))));
    left.extend(room.left());
    Ok(left)
}

/// Experiments at the same time.
fn jobs(args: &RunArgs) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    args.jobs.map_or(cores * JOBS_PER_CORE, usize::from)
}

/// An experiment that could not begin, and why nothing of it was judged.
fn refused(experiment: &Experiment, namespace: String, failure: &Failure, why: &str) -> ExperimentRecord {
    let message = Some(why.to_owned());
    let claims = experiment.claims.iter();
    let claims = claims.map(|claim| ClaimRecord { message: message.clone(), ..unjudged(claim) });
    ExperimentRecord {
        claims: claims.collect(),
        failure: Some(failure.clone()),
        ..unrun(experiment, namespace)
    }
}

/// One experiment from its empty namespace to its verdicts.
async fn run_one(
    experiment: &Experiment,
    cluster: &ClusterNeeds,
    mut bench: Bench<'_>,
    namespaces: &Namespaces,
    task: &Task,
) -> ExperimentRecord {
    let timeline = Arc::clone(&bench.timeline);
    let mut steps = Vec::new();
    let end = tokio::time::Instant::now() + Duration::from_secs(experiment.timeout_s);
    let done = match prepare(experiment, cluster, &bench, namespaces, end).await {
        Ok(None) => {
            let (client, namespace) = (bench.access.client.clone(), bench.namespace.clone());
            let gates = async {
                match gate::is_wanted(experiment) {
                    true => gate::keep(client, &namespace, &timeline).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                done = do_steps(experiment, &mut bench, &mut steps, task, end) => done.map(|()| None),
                never = gates => match never {},
            }
        }
        unable => unable,
    };
    let (skipped, failure) = match done {
        Ok(skipped) => (skipped, None),
        Err(failure) => (None, Some(failure)),
    };
    let judged = experiment.claims.iter().map(|claim| match &skipped {
        Some(why) => ClaimRecord { verdict: Verdict::Skipped, message: Some(why.clone()), ..unjudged(claim) },
        None => judge(claim, &bench, failure.is_some()),
    });
    let claims: Vec<ClaimRecord> = judged.collect();
    let unhappy = failure.is_some() || claims.iter().any(|claim| claim.verdict == Verdict::Fails);
    let (duration_ms, ended) = (timeline.now_ms(), Instant::now());
    let transitions = timeline.transitions();
    let troubles = if skipped.is_none() { troubles(&bench).await } else { Vec::new() };
    let failure = failure.map(|failure| failure.explained(&troubles));
    let diagnostics = if unhappy { diagnose(&bench).await } else { Vec::new() };
    ExperimentRecord {
        duration_ms,
        engine_ms: millis(timeline.ledger.engine(timeline.started(), ended)),
        steps,
        timeline: transitions,
        claims,
        skipped,
        failure,
        troubles,
        diagnostics,
        adapted: bench.adapted,
        ..unrun(experiment, bench.namespace)
    }
}

/// Makes the experiment's namespace, and finds out what the cluster has not that it needs.
async fn prepare(
    experiment: &Experiment,
    cluster: &ClusterNeeds,
    bench: &Bench<'_>,
    namespaces: &Namespaces,
    end: tokio::time::Instant,
) -> Result<Option<String>, Failure> {
    let (asked, client) = (Instant::now(), &bench.access.client);
    let prepared = tokio::time::timeout_at(end, async {
        let user = bench.target.release.user.as_deref();
        if let Some(unmet) = needs::of_cluster(cluster, experiment, bench.access).await? {
            return Ok(Some(unmet));
        }
        namespaces.create(&bench.namespace, user, experiment.pod_security).await?;
        needs::unmet(&experiment.needs, bench.target, client, &bench.namespace).await
    });
    let prepared = prepared.await;
    bench.timeline.ledger.cluster(asked, Instant::now());
    match prepared {
        Ok(prepared) => prepared.map_err(|error| failed::failure(&error)),
        Err(_) => Err(Failure { context: vec!["before the first step".to_owned()], ..late(experiment) }),
    }
}

/// Does the steps of an experiment, one after the other, and enters each into `records`, also the one that fails or
/// is under way at the end of all time.
async fn do_steps(
    experiment: &Experiment,
    bench: &mut Bench<'_>,
    records: &mut Vec<StepRecord>,
    task: &Task,
    end: tokio::time::Instant,
) -> Result<(), Failure> {
    let timeline = Arc::clone(&bench.timeline);
    for (position, step) in experiment.steps.iter().enumerate() {
        let label = step.label(position);
        task.note(format!("step {} of {}", position + 1, experiment.steps.len()));
        let (what, limit) = steps::told(step, bench);
        task.step(&what, limit);
        let (began, started_ms) = (Instant::now(), timeline.moment());
        let outcome = match tokio::time::timeout_at(end, steps::perform(step, bench)).await {
            Ok(outcome) => outcome.map_err(|error| failed::failure(&error)),
            Err(_) => Err(late(experiment)),
        };
        let (ended, ended_ms) = (Instant::now(), timeline.now_ms());
        records.push(StepRecord {
            name: label.clone(),
            kind: step.kind(),
            values: stale::values(step),
            set: std::mem::take(&mut bench.set),
            started_ms,
            ended_ms,
            engine_ms: millis(timeline.ledger.engine(began, ended)),
            commands: std::mem::take(&mut bench.commands),
            error: outcome.as_ref().err().cloned(),
        });
        let mut recorded = outcome.map_err(|failure| Failure { step: Some(label), ..failure })?;
        if let (Some(name), Json::Object(fields)) = (step.name(), &mut recorded) {
            fields.insert("started_ms".to_owned(), json!(started_ms));
            fields.insert("ended_ms".to_owned(), json!(ended_ms));
            bench.recorded.insert(name.to_owned(), recorded);
        }
    }
    Ok(())
}

fn late(experiment: &Experiment) -> Failure {
    Why::Deadline { limit_s: experiment.timeout_s }.into()
}

/// What is known of an experiment before it runs.
fn unrun(experiment: &Experiment, namespace: String) -> ExperimentRecord {
    ExperimentRecord {
        id: experiment.id.clone(),
        question: experiment.question.clone(),
        declared: stale::digest(experiment),
        namespace,
        started_ms: 0,
        duration_ms: 0,
        engine_ms: 0,
        steps: Vec::new(),
        timeline: Vec::new(),
        claims: Vec::new(),
        skipped: None,
        failure: None,
        troubles: Vec::new(),
        diagnostics: Vec::new(),
        adapted: Vec::new(),
    }
}

fn unjudged(claim: &Claim) -> ClaimRecord {
    ClaimRecord {
        id: claim.id.clone(),
        says: claim.says.clone(),
        criterion: claim.criterion.clone(),
        points: claim.points,
        source: claim.source.clone(),
        expect: claim.expect.text().trim().to_owned(),
        verdict: Verdict::NotJudged,
        values: Vec::new(),
        message: None,
        look_at: Vec::new(),
    }
}

fn judge(claim: &Claim, bench: &Bench<'_>, broke: bool) -> ClaimRecord {
    let mut record = unjudged(claim);
    let expression = match claim.expect.get() {
        Ok(expression) => expression,
        Err(fault) => {
            record.message = Some(fault.to_string());
            return record;
        }
    };
    let scope = bench.scope(expression);
    // What a broken experiment recorded before it broke may still decide a claim. What is watched may only speak against
    // one: nothing happened to what was never tried.
    let seen = !broke || bench.has_recorded(expression);
    match expression.is_true(&scope) {
        Ok(true) if seen => record.verdict = Verdict::Holds,
        Ok(false) => record.verdict = Verdict::Fails,
        Err(error) if seen => {
            record.verdict = Verdict::Fails;
            record.message = Some(error);
        }
        Ok(true) | Err(_) => {
            record.message = Some("the experiment broke before all of this could be seen".to_owned());
            return record;
        }
    }
    record.values = expression.parts(&scope);
    if record.verdict == Verdict::Fails {
        record.look_at = bench.target.places(&claim.look_at);
    }
    record
}

/// What the rules say at the end of an experiment. Never an error: who may not look, or gets no answer, learns nothing.
async fn troubles(bench: &Bench<'_>) -> Vec<TroubleSeen> {
    let looked =
        tokio::time::timeout(Duration::from_secs(5), look::at(&bench.access.client, &bench.namespace));
    let Ok(Ok((objects, _))) = looked.await else { return Vec::new() };
    ::explain::explain(&objects).into_iter().map(look::seen).collect()
}

/// What a person would ask first when something went wrong. Never an error: it explains one.
async fn diagnose(bench: &Bench<'_>) -> Vec<CommandRecord> {
    let questions: [&[&str]; 4] = [
        &["get", "pods,statefulsets,deployments,services,persistentvolumeclaims", "--output=wide"],
        &["get", "events", "--sort-by=.metadata.creationTimestamp"],
        &["describe", "pods"],
        &["logs", "--selector=app.kubernetes.io/instance", "--all-containers", "--prefix", "--tail=40"],
    ];
    let commands = questions.map(|args| bench.kubectl().args(args).deadline(Duration::from_secs(10)));
    let outputs =
        join_all(commands.iter().map(|command| async move { (command, command.output().await) })).await;
    outputs.into_iter().filter_map(|(command, output)| Some(record_of(command, &output.ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use crate::lab::Lab;
    use crate::lab::post_render::PostRenderer;
    use crate::lab::target::Target;
    use crate::run::bench::Access;
    use crate::run::timeline::Timeline;
    use machine::command::Command;
    use machine::identity::Identity;
    use machine::workspace::Workspace;
    use model::kinds::Kind;
    use model::settings::Settings;
    use model::spec::Values;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    const LAB: &str = r#"
lab: small
title: A lab of one experiment
rubric:
  - { id: all, title: All, points: 1 }
target: { chart: chart, release: r }
experiments:
  - id: one
    question: Is it?
    steps: [{ observe: { as: seen } }]
    claims:
      - { id: is, says: It is., criterion: all, points: 1, expect: "true" }
"#;

    fn access(fake: &Fake, kubectl: Command) -> Access {
        Access {
            client: fake.client(),
            kubectl,
            helm: Command::new("false"),
            kubernetes: "v1.37.0".to_owned(),
            nodes: None,
            post_renderer: PostRenderer::pretended(),
            tools: Arc::new(Semaphore::new(4)),
        }
    }

    #[tokio::test]
    async fn a_namespace_that_does_not_go_is_named_and_breaks_no_run() {
        let fake = Fake::serving(|method, path| {
            let refused =
                json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "not yours"});
            (method == "DELETE" && path == "/api/v1/namespaces/small-one").then_some((403, refused))
        });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab.yaml");
        std::fs::write(&path, LAB).unwrap();
        let workspace = Workspace { root: "/".into(), lab: "/".into(), cache: "/".into() };
        let lab = Lab::of(&workspace, Some(&path)).unwrap();
        let subject = Subject {
            name: None,
            lab,
            only: Vec::new(),
            values: Values::new(),
            always: Settings::default(),
            adapts: None,
            app: None,
            stays: false,
            page: None,
            folder: dir.path().into(),
            refreshes: false,
        };
        let access = access(&fake, Command::new("false"));
        let namespaces = Namespaces::of(fake.client(), Identity::here(Path::new("/")));
        let targets = vec![Ok(Target::pretended())];
        let installed = Installed { access, targets, namespaces, owner: None };
        let args = RunArgs { keep: true, ..RunArgs::default() };
        let mut ended = vec![Vec::new()];
        let left = experiments(&[subject], &installed, &args, &mut ended, &Progress::new()).await.unwrap();
        assert_eq!(ended[0][0].claims[0].verdict, Verdict::Holds);
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].starts_with("cannot delete namespace small-one"), "{left:?}");
    }

    fn bench<'a>(access: &'a Access, target: &'a Target) -> Bench<'a> {
        Bench {
            access,
            target,
            namespace: "lab".to_owned(),
            timeline: Arc::new(Timeline::begin()),
            recorded: Scope::new(),
            asked: BTreeMap::new(),
            set: Vec::new(),
            adapted: Vec::new(),
            commands: Vec::new(),
            act: Act::at(Instant::now()),
        }
    }

    fn experiment(timeout_s: u64, steps: Json) -> Experiment {
        let declared =
            json!({"id": "it", "question": "?", "timeout_s": timeout_s, "steps": steps, "claims": []});
        serde_json::from_value(declared).unwrap()
    }

    #[tokio::test]
    async fn the_deadline_of_an_experiment_names_the_step_under_way_and_keeps_what_it_ran() {
        let folder = tempfile::tempdir().unwrap();
        let kubectl = folder.path().join("kubectl");
        std::fs::write(
            &kubectl,
            "#!/bin/sh
case $3 in get) ;; *) sleep 60 ;; esac
",
        )
        .unwrap();
        std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
        let access = access(&Fake::serving(|_, _| None), Command::new(kubectl));
        let target = Target::pretended();
        let mut bench = bench(&access, &target);
        let first = json!({"run": {"as": "first", "command": "kubectl get pods"}});
        let experiment = experiment(1, json!([first, {"run": {"command": "kubectl wait pods"}}]));
        let (mut steps, task) = (Vec::new(), Progress::new().start("it"));
        let end = tokio::time::Instant::now() + Duration::from_secs(1);
        let failure = do_steps(&experiment, &mut bench, &mut steps, &task, end).await.unwrap_err();
        assert_eq!(failure.to_string(), "step `run-2`: the experiment did not end within 1 s");
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["first", "run-2"]);
        assert_eq!(steps[1].error, Some(Why::Deadline { limit_s: 1 }.into()));
        let ran = &steps[1].commands[0];
        assert!(ran.argv.ends_with(&["wait".to_owned(), "pods".to_owned()]) && ran.status == -1, "{ran:?}");
    }

    #[tokio::test]
    async fn what_changes_something_is_the_act_that_later_waits_look_back_to() {
        let folder = tempfile::tempdir().unwrap();
        let mut target = Target::pretended();
        target.release.values_dir = folder.path().into();
        let access = Access {
            helm: Command::new("true"),
            ..access(&Fake::serving(|_, _| None), Command::new("true"))
        };
        let mut bench = bench(&access, &target);
        let (install, uninstall) = (json!({"install": {}}), json!({"uninstall": {"timeout_s": 600}}));
        for step in [install, json!({"run": {"command": "kubectl delete pod counter-0"}}), uninstall] {
            let asked = Instant::now();
            steps::perform(&serde_json::from_value(step.clone()).unwrap(), &mut bench).await.unwrap();
            assert!(bench.act.began >= asked && bench.act.ended > bench.act.began, "{step}");
        }
        let uninstalled = &bench.commands[2].argv;
        assert!(uninstalled.contains(&"--timeout=600s".to_owned()), "{uninstalled:?}");
    }

    #[tokio::test]
    async fn waiting_for_the_watches_or_for_pods_to_go_is_never_hopeless() {
        let set = json!({"metadata": {"name": "counter", "resourceVersion": "7"}});
        let listed = json!({"kind": "List", "metadata": {"resourceVersion": "7"}, "items": [set.clone()]});
        let fake =
            Fake::serving(move |_, path| path.ends_with("/statefulsets").then(|| (200, listed.clone())));
        let access = Access { helm: Command::new("true"), ..access(&fake, Command::new("true")) };
        let target = Target::pretended();
        let mut bench = bench(&access, &target);
        let timeline = Arc::clone(&bench.timeline);
        let labels = json!({"app.kubernetes.io/instance": "r"});
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "nope"}});
        let stuck = json!({"metadata": {"name": "counter-0", "uid": "p", "labels": labels},
            "status": {"containerStatuses": [{"state": waiting}]}});
        // Each wait sees the pod that can't run once more, after its act, before it sees what it waits for.
        timeline.applied(Kind::Pod, stuck.clone());
        let pause = || tokio::time::sleep(Duration::from_millis(200));
        let watched = async {
            pause().await;
            timeline.applied(Kind::Pod, stuck.clone());
            pause().await;
            timeline.applied(Kind::StatefulSet, set.clone());
        };
        let step = json!({"run": {"command": "kubectl delete pod counter-0"}});
        let step = serde_json::from_value(step).unwrap();
        let (settled, ()) = tokio::join!(steps::perform(&step, &mut bench), watched);
        settled.unwrap();
        let watched = async {
            pause().await;
            timeline.applied(Kind::Pod, stuck.clone());
            pause().await;
            timeline.deleted(Kind::Pod, &stuck);
        };
        let step = serde_json::from_value(json!({"uninstall": {}})).unwrap();
        let (gone, ()) = tokio::join!(steps::perform(&step, &mut bench), watched);
        gone.unwrap();
    }

    #[tokio::test]
    async fn a_broken_experiment_earns_nothing_for_what_did_not_happen() {
        let (access, target) =
            (access(&Fake::serving(|_, _| None), Command::new("false")), Target::pretended());
        let mut bench = bench(&access, &target);
        bench.recorded.insert("before".to_owned(), json!({"status": 0}));
        let verdict = |expect: &str, broke: bool| {
            let declared = json!({"id": "it", "says": "?", "criterion": "c", "points": 1, "expect": expect});
            judge(&serde_json::from_value(declared).unwrap(), &bench, broke).verdict
        };
        let nothing_happened = "!timeline.exists(t, t.what == \"deleted\")";
        assert_eq!(verdict(nothing_happened, false), Verdict::Holds);
        for unseen in [nothing_happened, "pods.size() == 0", "before.status == 0 || never.status == 0"] {
            assert_eq!(verdict(unseen, true), Verdict::NotJudged, "{unseen}");
        }
        assert_eq!(verdict("before.status == 0", true), Verdict::Holds);
        assert_eq!(verdict("before.status == 1", true), Verdict::Fails);
    }
}
