//! `grade`: the charts of others, what each of them earns, and why not more.

mod names;
mod verdict;
mod page;
mod table;

use anyhow::Result;
use serde_json::json;

use self::page::Place;
use self::verdict::Verdict;
use crate::cluster::full_name;
use crate::evidence::grade::Outcome;
use crate::image::{self, Image};
use crate::lab::app::App;
use crate::lab::{HAND_IN, Lab};
use crate::run::journal::Finding;
use crate::run::subject::{Subject, stays, values_of};
use cli::{GradeArgs, ImageOf, ImageOfArg, OutputArg};
use machine::exit::{BadInput, Exit};
use machine::paint::Paint;
use machine::print;
use machine::workspace::Workspace;

/// The page of this repository.
const OURS: &str = "docs/STATEFULSET.md";

/// The charts that the command line names, each under a name of its own and with the page that came with it.
///
/// # Errors
/// A lab that makes no sense, an experiment or a chart that isn't there, a chart named twice, a page that can't be read.
pub(crate) fn subjects(workspace: &Workspace, args: &GradeArgs) -> Result<Vec<Subject>> {
    args.sound()?;
    let hand_in = workspace.root.join(HAND_IN);
    let lab = Lab::of(workspace, Some(args.run.lab.as_deref().unwrap_or(&hand_in)))?;
    lab.choose(&args.run.only)?;
    let values = values_of(args.run.values.as_deref())?;
    let folder = workspace.lab.join("grade");
    let named = names::names(&args.charts)?.into_iter().zip(&args.charts);
    let whose = args.image_of.iter().rev().find_map(|of| match of {
        ImageOfArg::Whose(whose) => Some(*whose),
        ImageOfArg::Of(..) => None,
    });
    let app = args.app.as_deref().map(App::read).transpose();
    let app = app.map_err(|error| BadInput(format!("{error:#}")))?;
    named
        .map(|(name, chart)| {
            let place = Place { chart, named: args.page.as_deref(), ours: workspace.root.join(OURS) };
            let page = page::handed_in(&lab.spec, &place, |path| workspace.display(path).to_string())?;
            let lab = lab.with_chart(chart)?;
            let subject = Subject::named(&name, lab, &args.run.only, values.clone(), &folder);
            Ok(Subject {
                adapts: Some(whose.unwrap_or(ImageOf::Auto)),
                app: app.clone(),
                page,
                stays: stays(&args.run),
                ..subject
            })
        })
        .collect()
}

/// The images that were given, each called as charts call it.
///
/// # Errors
/// An archive that can't be read, or that holds another image.
pub(crate) fn given(of: &[ImageOfArg]) -> Result<Vec<Image>> {
    let archives = of.iter().filter_map(|of| match of {
        ImageOfArg::Whose(_) => None,
        ImageOfArg::Of(name, archive) => Some((name, archive)),
    });
    let opened = archives.map(|(name, archive)| {
        let image = image::open(archive).map_err(|error| BadInput(format!("{error:#}")))?;
        let (shown, held) = (archive.display(), &image.name);
        let other = full_name(held) != full_name(name);
        if other {
            Err(BadInput(format!("{shown} holds the image {held}, not {name}")).into())
        } else {
            Ok(image)
        }
    });
    opened.collect()
}

/// The points of every chart and what they lack, and how the program ends.
///
/// # Errors
/// When stdout can't be written.
pub(crate) fn conclude(
    workspace: &Workspace,
    args: &GradeArgs,
    subjects: &[Subject],
    findings: &[Finding],
) -> Result<Exit> {
    let graded: Vec<table::Graded<'_>> = subjects
        .iter()
        .zip(&args.charts)
        .zip(findings)
        .map(|((subject, chart), finding)| table::Graded {
            name: subject.name.as_deref().unwrap_or_default(),
            chart,
            report: subject.folder.join("report.html"),
            summary: &finding.written.summary,
        })
        .collect();
    match args.run.output {
        OutputArg::Text => {
            print::result(format!("\n{}", table::text(&graded, workspace, Paint::stdout()).trim_end()))
        }
        OutputArg::Json => {
            let charts = graded.iter().map(|graded| {
                json!({"name": graded.name, "verdict": Verdict::of(graded.summary), "chart": graded.chart, "report": graded.report, "summary": graded.summary})
            });
            print::result(serde_json::to_string_pretty(&charts.collect::<Vec<_>>())?);
        }
    }
    let all_hold = findings.iter().all(|finding| finding.written.grade.outcome == Outcome::Holds);
    Ok(if all_hold { Exit::Holds } else { Exit::ClaimFails })
}
