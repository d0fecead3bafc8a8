//! Everything a change must pass, in the order in which it is cheapest to hear of a fault.

mod evidence;
mod alarms;
mod controls;
mod proxy;
mod leftovers;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use self::controls::Which;
use crate::checks::cargo_home::CargoHome;
use crate::checks::{self, Outcome};
use cli::TestArgs;
use engine::Lab;
use engine::Paths;
use engine::image::verify_node::{self, Depth};
use engine::image::{self, Builder};
use engine::schema;
use machine::advice;
use machine::command::Command;
use machine::exit::Exit;
use machine::print;
use machine::progress::{Progress, Task};
use machine::tools;
use machine::tools::gomod::{Go, KIND};
use machine::workspace::Workspace;
use setup::{Environment, Need};

/// What a cold build of everything may take on a slow machine.
const BUILD_DEADLINE: Duration = Duration::from_secs(1800);
/// What a run of the lab may take on a busy machine.
const LAB_DEADLINE: Duration = Duration::from_secs(900);

/// The tests' own count: every check is one.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Runs every test, tells each fault, and goes on with what does not depend on it.
///
/// # Errors
/// The machine lacks what the tests need.
pub(crate) async fn test(workspace: &Workspace, args: &TestArgs, progress: &Progress) -> Result<Exit> {
    let mut tally = Tally::default();
    if !args.control.is_empty() {
        controls(workspace, &Which::Named(args.control.clone()), args.setup, progress, &mut tally).await;
        return Ok(tally.conclude());
    }
    // Asked now: `cargo test` puts another build of this program in its place.
    let program = std::env::current_exe().context("this program has no path")?;
    let tools = async {
        if args.setup {
            setup::ensure_checks(workspace, progress).await;
        }
        Ok(())
    };
    let environment = async {
        match args.no_cluster {
            true => Ok(None),
            false => setup::ensure(workspace, progress, Need::OwnCluster, None, args.setup).await.map(Some),
        }
    };
    let ((), environment) = tokio::try_join!(tools, environment)?;
    code(workspace, progress, &mut tally).await;
    surroundings(workspace, progress, environment.as_ref(), &mut tally).await;
    tally.check(progress, "image twice", twice_the_same(workspace, progress)).await;
    if let Some(environment) = &environment {
        tally.check(progress, "image in a container", in_container(workspace, environment, progress)).await;
        tally.check(progress, "node image twice", node_twice(workspace, environment, progress)).await;
        cluster(workspace, environment, &program, progress, &mut tally).await;
    }
    Ok(tally.conclude())
}

/// Formatting, lints and the unit tests, whose count is shown.
async fn code(workspace: &Workspace, progress: &Progress, tally: &mut Tally) {
    let cargo =
        |args: &[&str]| Command::new("cargo").args(args).dir(&workspace.root).deadline(BUILD_DEADLINE);
    tally.run(progress, "format", cargo(&["fmt", "--all", "--check"])).await;
    let lints = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "--deny", "warnings"];
    tally.run(progress, "lints", cargo(&lints)).await;
    let units = async {
        let machine = NewMachine::fetched(&workspace.root).await?;
        let tests = cargo(&["test", "--workspace", "--locked", "--quiet"]).env(&machine.key, &machine.runner);
        let output = tests.output().await?;
        ensure!(output.status == 0, tests.failed(output));
        let counts = output.stdout.lines().filter(|line| line.starts_with("test result:"));
        let counts: Vec<&str> = counts.collect();
        for line in &counts {
            progress.result(line);
        }
        Ok(Outcome::Passed(format!("{} test programs", counts.len())))
    };
    tally.check(progress, "unit tests", units).await;
}

/// What runs test programs as a machine does that has the toolchain and this checkout, and nothing else: a test that
/// needs what some build or another test left behind is red here, as it would be there. Cargo itself keeps its home,
/// or it would compile everything anew.
struct NewMachine {
    key: String,
    runner: String,
    _home: CargoHome,
}

impl NewMachine {
    async fn fetched(root: &Path) -> Result<Self> {
        let rustc = Command::new("rustc").arg("-vV").read().await?;
        let host = tools::host_of(&rustc)?.to_owned();
        let key = format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace(['-', '.'], "_"));
        let root = root.to_owned();
        let home = tokio::task::spawn_blocking(move || CargoHome::fetched(&root, Some(&host)));
        let home = home.await.context("the fetch was lost")??;
        let path = home.path().display();
        // Outside is closed by the settings that cargo, go and whoever speaks HTTP know.
        let runner = format!(
            "env --unset=GOPATH --unset=GOMODCACHE HOME={path} CARGO_HOME={path} XDG_CACHE_HOME={path}/cache \
             CARGO_NET_OFFLINE=true GOPROXY=off HTTPS_PROXY=http://127.0.0.1:9 HTTP_PROXY=http://127.0.0.1:9"
        );
        Ok(Self { key, runner, _home: home })
    }
}

/// What stands around the code, and what no compiler keeps of it: schema, page, dependencies, layers, flake, versions,
/// workflows, policy, chart.
async fn surroundings(
    workspace: &Workspace,
    progress: &Progress,
    environment: Option<&Environment>,
    tally: &mut Tally,
) {
    let root = &workspace.root;
    let current = |what: &'static str, exit: Result<Exit>| async move {
        ensure!(exit? == Exit::Holds, "{what} is out of date");
        Ok(Outcome::Passed("current".to_owned()))
    };
    tally.check(progress, "schema", current("the schema", schema(workspace, true))).await;
    tally.check(progress, "page", current("the page", engine::docs(workspace, true))).await;
    // These run tools of their own, one after the other: a thread that blocks, not one that serves others.
    let beside = |check: fn(&Workspace) -> Result<Outcome>| {
        let workspace = workspace.clone();
        async move { tokio::task::spawn_blocking(move || check(&workspace)).await.context("the check was lost")? }
    };
    tally
        .check(progress, "dependencies", beside(|workspace| checks::dependencies::check(&workspace.root)))
        .await;
    tally.check(progress, "layers", beside(|workspace| checks::layers::check(&workspace.root))).await;
    tally.check(progress, "flake", beside(|workspace| checks::flake::check(&workspace.root))).await;
    tally.check(progress, "sources of the flake", beside(checks::sources::check)).await;
    let versions = async {
        let kind = match Go::find().await {
            Ok(go) if go.fits() => Some(go.source(workspace, &KIND, "sigs.k8s.io/kind").await?),
            _ => None,
        };
        checks::versions::check(root, kind.as_deref())
    };
    tally.check(progress, "versions", versions).await;
    tally.check(progress, "workflows", beside(|workspace| checks::workflows::check(&workspace.root))).await;
    tally.check(progress, "oldest Rust", beside(|workspace| checks::msrv::check(&workspace.root))).await;
    tally.check(progress, "policy", beside(checks::policy::check)).await;
    tally.check(progress, "advisories", beside(checks::policy::advisories)).await;
    if let Some(environment) = environment {
        let (root, helm) = (root.clone(), environment.helm.path.clone());
        let chart = tokio::task::spawn_blocking(move || checks::chart::check(&root, &helm));
        tally.check(progress, "chart", async { chart.await.context("the check was lost")? }).await;
    }
}

/// The image is built again, elsewhere, and must be the same; and it keeps its contract.
async fn twice_the_same(workspace: &Workspace, progress: &Progress) -> Result<Outcome> {
    let verdict = image::verify(workspace, progress, Builder::Auto).await?;
    ensure!(verdict.differences.is_empty(), "two builds differ\n{}", verdict.differences.join("\n"));
    let breaches: Vec<String> = verdict.image.breaches()?.iter().map(ToString::to_string).collect();
    ensure!(breaches.is_empty(), "the image breaks its contract\n{}", breaches.join("\n"));
    Ok(Outcome::Passed(verdict.image.digest))
}

/// What the lab types into pods is typed into a container of the image.
async fn in_container(
    workspace: &Workspace,
    environment: &Environment,
    progress: &Progress,
) -> Result<Outcome> {
    let image = image::build(workspace, progress, Builder::Auto).await?;
    let typed = image::exercise::exercise(&environment.kind()?.engine, &image).await?;
    Ok(Outcome::Passed(format!("{typed} commands end as they should, as {}", image::contract::USER)))
}

/// The node image is put together again, elsewhere, where it is one that was made here.
async fn node_twice(
    workspace: &Workspace,
    environment: &Environment,
    progress: &Progress,
) -> Result<Outcome> {
    if !environment.kind()?.node_image.built {
        return Ok(Outcome::Skipped("it is kind's own, which was pulled by its digest".to_owned()));
    }
    let verdict = verify_node::verify(workspace, &Go::find().await?, progress, Depth::Image).await?;
    ensure!(verdict.differences.is_empty(), "two builds differ\n{}", verdict.differences.join("\n"));
    Ok(Outcome::Passed(format!("but for {}", verdict.known.join(", "))))
}

/// The lab on a real cluster, the charts under which it must turn red, and what is left after it.
async fn cluster(
    workspace: &Workspace,
    environment: &Environment,
    program: &Path,
    progress: &Progress,
    tally: &mut Tally,
) {
    let before = match leftovers::before(environment).await {
        Ok(before) => before,
        Err(error) => {
            return tally.check(progress, "nothing is left", async { Err(error) }).await;
        }
    };
    let whole = async {
        let (status, text) = lab(program, &["--keep", "--check"]).await?;
        if status == 0 || status == 4 {
            alarms::none(workspace)?;
        }
        match status {
            0 => Ok(Outcome::Passed(
                "every claim holds, and the committed evidence is that of this run".to_owned(),
            )),
            4 => {
                let recorded = evidence::versions(
                    &Paths::of(workspace, &Lab::shipped(workspace)?).evidence.join("run.json"),
                )?;
                evidence::judge(&text, &recorded, &evidence::versions(&workspace.lab.join("run.json"))?)
            }
            _ => Err(anyhow!("`cargo xtask lab --keep --check` ended with {status}\n{text}")),
        }
    };
    tally.check(progress, "lab", whole).await;
    let (several, one): (Vec<_>, Vec<_>) = engine::others(workspace)
        .into_iter()
        .partition(|file| Lab::of(workspace, Some(file)).is_ok_and(|lab| lab.spec.needs.nodes > 1));
    for file in one {
        other(workspace, program, &file, progress, tally).await;
    }
    controls(workspace, &Which::OfOneNode, false, progress, tally).await;
    // After the controls: it does not begin before their namespaces are gone, also that of a chart that holds it.
    tally.check(progress, "connections that break", proxy::run(workspace, program)).await;
    for file in several {
        other(workspace, program, &file, progress, tally).await;
    }
    tally
        .check(progress, "nothing is left", leftovers::check(workspace, environment, &before, progress))
        .await;
}

/// Another lab than that of the page, on a cluster that is kept.
async fn other(workspace: &Workspace, program: &Path, file: &Path, progress: &Progress, tally: &mut Tally) {
    let ran = async {
        // What is committed stays; that the words of a cluster differ from one run to the next is no fault of a lab that
        // is about its errors.
        let kept = Lab::of(workspace, Some(file))?.kept;
        let path = file.to_string_lossy();
        let args = ["--keep", "--lab", &path, "--check"];
        let (status, text) = lab(program, if kept { &args } else { &args[..3] }).await?;
        ensure!(status == 0 || kept && status == 4, "exit status {status} where 0 was expected\n{text}");
        alarms::none(workspace)?;
        Ok(Outcome::Passed("every claim holds, and the rules have nothing to say at the end".to_owned()))
    };
    tally.check(progress, &format!("lab {}", workspace.display(file)), ran).await;
}

/// The charts under which the lab must turn red, a check for each.
async fn controls(workspace: &Workspace, which: &Which, setup: bool, progress: &Progress, tally: &mut Tally) {
    match controls::run(workspace, which, setup, progress).await {
        Ok(judged) => {
            for (id, outcome) in judged {
                tally.check(progress, &format!("control {id}"), async { outcome }).await;
            }
        }
        Err(error) => tally.check(progress, "controls", async { Err(error) }).await,
    }
}

/// This program's own `lab`, as a user calls it: its status and all it printed.
async fn lab(program: &Path, args: &[&str]) -> Result<(i32, String)> {
    let output = Command::new(program).arg("lab").args(args).deadline(LAB_DEADLINE).output().await?;
    Ok((output.status, output.stderr + &output.stdout))
}

impl Tally {
    /// Says how many there were, and how the program ends.
    fn conclude(&self) -> Exit {
        print::result(format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped));
        if self.failed == 0 { Exit::Holds } else { Exit::ClaimFails }
    }

    async fn run(&mut self, progress: &Progress, name: &str, command: Command) {
        let check = async {
            command.read().await?;
            Ok(Outcome::Passed(String::new()))
        };
        self.check(progress, name, check).await;
    }

    async fn check(&mut self, progress: &Progress, name: &str, check: impl Future<Output = Result<Outcome>>) {
        let task: Task = progress.start(name);
        match check.await {
            Ok(Outcome::Passed(what)) => {
                self.passed += 1;
                task.done(&what);
            }
            Ok(Outcome::Skipped(why)) => {
                self.skipped += 1;
                task.done(&format!("skipped: {why}"));
            }
            Err(error) => {
                self.failed += 1;
                task.fail("");
                progress.say(&advice::in_words(&error));
            }
        }
    }
}
