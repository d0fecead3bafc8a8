//! The lab as a sentence: build → cluster → install → experiments → evidence.

// Each knows only those above it.
#[cfg(test)]
mod fake;
mod transient;
mod failed;
pub mod image;
mod cluster;
mod lab;
mod values;
mod look;
mod evidence;
mod run;
mod grade;
mod explain;

pub use cluster::{client, down};
pub use evidence::Paths;
pub use evidence::grade::Outcome;
pub use lab::schema::schema;
pub use lab::{Lab, others};
pub use run::journal::Finding;
pub use run::namespaces::name as namespace_name;
pub use run::subject::Subject;
pub use run::timeline::Timeline;
pub use run::watches::Watches;

use std::time::Instant;

use anyhow::Result;

use cli::{ClusterAction, ClusterArg, GradeArgs, ImageArgs, LabArgs, RunArgs, Subcommands};
use machine::exit::Exit;
use machine::interrupt;
use machine::lock::Lock;
use machine::print;
use machine::progress::{self, Progress};
use machine::tools;
use machine::workspace::Workspace;
use setup::Need;

use crate::image::Image;
use crate::image::verify_node::{self, Depth};
use crate::run::course::Course;
use crate::run::journal::Journal;
use crate::run::session::Session;

/// Does what the command line asks of a lab.
///
/// # Errors
/// Those of the command.
///
/// # Panics
/// The command is none of a lab.
pub async fn dispatch(command: Subcommands) -> Result<Exit> {
    if let Subcommands::PostRender { changes } = &command {
        return lab::post_render::post_render(changes).map(|()| Exit::Holds);
    }
    let workspace = Workspace::discover()?;
    let progress = Progress::new();
    match command {
        Subcommands::Lab(args) => lab(&workspace, &args, &progress).await,
        Subcommands::Grade(args) => grade(&workspace, &args, &progress).await,
        Subcommands::Explain(args) => interrupt::or(explain::explain(&workspace, &args, &progress)).await,
        Subcommands::Values(args) => interrupt::or(values::values(&workspace, &args, &progress)).await,
        Subcommands::Image(args) => interrupt::or(build_image(&workspace, &args, &progress)).await,
        Subcommands::Cluster { action } => cluster(&workspace, action, &progress).await,
        Subcommands::Shell => cluster::shell(&workspace, &progress).await,
        Subcommands::Docs { check } => docs(&workspace, check),
        Subcommands::Schema { check } => lab::schema::schema(&workspace, check),
        other => unreachable!("{other:?} is no command of a lab"),
    }
}

/// The lab against its chart, from its file to its evidence.
async fn lab(workspace: &Workspace, args: &LabArgs, progress: &Progress) -> Result<Exit> {
    let subjects = [Subject::of_lab(workspace, args)?];
    if args.list || args.dry_run {
        let lab = &subjects[0].lab;
        print::result(if args.list { lab.list() } else { lab.summary() });
        return Ok(Exit::Holds);
    }
    run(workspace, &args.run, &subjects, &[], progress, |journals, findings| {
        journals[0].conclude(&findings[0], args.check, progress)
    })
    .await
}

/// The lab against the charts of others.
async fn grade(workspace: &Workspace, args: &GradeArgs, progress: &Progress) -> Result<Exit> {
    let subjects = grade::subjects(workspace, args)?;
    let given = grade::given(&args.image_of)?;
    run(workspace, &args.run, &subjects, &given, progress, |journals, findings| {
        let exit = grade::conclude(workspace, args, &subjects, &findings)?;
        if let Some(kept) = journals[0].session.kept(journals[0].course) {
            progress.say(&format!("cluster {kept}"));
        }
        Ok(exit)
    })
    .await
}

/// The lab against one chart or many, on one cluster, which is given images that the charts name. Whatever happens on the
/// way, what was set up is taken down again.
pub async fn run<T>(
    workspace: &Workspace,
    args: &RunArgs,
    subjects: &[Subject],
    given: &[Image],
    progress: &Progress,
    conclude: impl FnOnce(&[Journal<'_>], Vec<Finding>) -> Result<T>,
) -> Result<T> {
    args.sound()?;
    let need = if args.cluster == ClusterArg::Kind { Need::OwnCluster } else { Need::Tools };
    // Without --setup a machine that lacks something is left as it is: not even a lock is made on it.
    let installing = args.setup.then(|| Lock::of_run(workspace)).transpose()?;
    let ensure = setup::ensure(workspace, progress, need, args.node_image.as_deref(), args.setup);
    let environment = interrupt::or(ensure).await?;
    let _alone = installing.map_or_else(|| Lock::of_run(workspace), Ok)?;

    let session = Session::begin(workspace, &environment, args, given).await;
    let mut course = Course::default();
    let ran = interrupt::or(course.run(&session, subjects, progress)).await;
    let (session, course) = (&session, &course);
    let of = |(at, subject)| Journal {
        subject,
        session,
        course,
        target: course.target(at),
        ended: course.ended(at),
    };
    let journals: Vec<_> = subjects.iter().enumerate().map(of).collect();
    let _listening = interrupt::meanwhile("writing the evidence and removing what was set up").ok();
    let written = journals.iter().map(|journal| journal.write_evidence(ran.as_ref().err()));
    let findings: Result<Vec<Finding>> = written.collect();
    let left = session.undo(course, journals.iter().any(Journal::leaves_questions), progress).await;
    let concluded = findings.and_then(|findings| conclude(&journals, findings));
    for left in left {
        progress.say(&format!("left: {left}"));
    }
    ran.and(concluded)
}

/// Builds the image, or builds it twice and compares.
///
/// # Errors
/// It can't be built.
async fn build_image(workspace: &Workspace, args: &ImageArgs, progress: &Progress) -> Result<Exit> {
    if args.node {
        let go = tools::gomod::Go::find().await?;
        let verdict = verify_node::verify(workspace, &go, progress, Depth::Parts).await?;
        let exit = differing(&verdict.differences);
        for known in &verdict.known {
            print::result(format!("known: {known}"));
        }
        print::result(format!("{} {}", node_image::reference(workspace, &go), verdict.id));
        return Ok(exit);
    }
    if args.verify {
        let verdict = image::verify(workspace, progress, args.builder).await?;
        let exit = differing(&verdict.differences);
        print::result(format!("{} {}", verdict.image.name, verdict.image.digest));
        return Ok(exit);
    }
    let image = image::build(workspace, progress, args.builder).await?;
    print::result(format!("{}\n{}\n{}", workspace.display(&image.archive), image.name, image.digest));
    Ok(Exit::Holds)
}

/// Prints where two builds differ, and ends accordingly.
fn differing(differences: &[String]) -> Exit {
    for difference in differences {
        print::result(difference);
    }
    if differences.is_empty() { Exit::Holds } else { Exit::ClaimFails }
}

/// The lab's own cluster, by itself.
///
/// # Errors
/// The machine lacks what it needs, or it does not come up.
async fn cluster(workspace: &Workspace, action: ClusterAction, progress: &Progress) -> Result<Exit> {
    let environment = || setup::ensure(workspace, progress, Need::OwnCluster, None, false);
    match action {
        ClusterAction::Up { nodes } => {
            let _alone = Lock::of_run(workspace)?;
            let environment = environment().await?;
            let started = Instant::now();
            let up = interrupt::or(cluster::up(workspace, &environment, nodes, progress)).await;
            if up.is_err() {
                let _listening = interrupt::meanwhile("removing half a cluster");
                // Half a cluster is of no use to anybody.
                cluster::down(workspace, progress).await?;
            }
            let cluster = up?;
            let kubeconfig = cluster.kubeconfig.display();
            let (version, took) = (&cluster.server_version, progress::seconds(started.elapsed()));
            print::result(format!(
                "Kubernetes {version} is up after {took}\n\
                 next: cargo xtask shell, or export KUBECONFIG={kubeconfig}; cargo xtask cluster down removes it"
            ));
        }
        ClusterAction::Down => {
            let _alone = Lock::of_run(workspace)?;
            cluster::down(workspace, progress).await?;
        }
        ClusterAction::Status => {
            let (up, text) = cluster::status(workspace, &environment().await?).await?;
            print::result(text);
            return Ok(if up { Exit::Holds } else { Exit::CannotRun });
        }
    }
    Ok(Exit::Holds)
}

/// Renders the pages from the committed records, or says where the two are apart.
pub fn docs(workspace: &Workspace, check: bool) -> Result<Exit> {
    let mut found = Vec::new();
    let mut faults = false;
    for lab in Lab::all_kept(workspace)? {
        let paths = evidence::Paths::of(workspace, &lab);
        if check {
            found.extend(evidence::check(&paths, &lab.spec)?);
            continue;
        }
        let rendered = evidence::render(&paths, &lab.spec)?;
        for file in &rendered.files {
            print::result(format!("wrote {}", workspace.display(file)));
        }
        for fault in &rendered.faults {
            print::message(fault);
        }
        faults |= !rendered.faults.is_empty();
        found.extend(rendered.stale);
    }
    let current = evidence::tell(&found);
    Ok(if faults { Exit::OutOfDate } else { current })
}
