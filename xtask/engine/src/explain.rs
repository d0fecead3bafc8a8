//! `explain`: the rules asked about what a cluster has, or about what a chart renders. It reads, and changes nothing.

mod look;

use anyhow::Result;
use serde_json::json;

use ::explain::{Objects, Origin, RULES, Trouble, concerns};
use cli::{ExplainArgs, OutputArg};
use machine::exit::{BadInput, Exit};
use machine::paint::Paint;
use machine::print;
use machine::progress::Progress;
use machine::workspace::Workspace;

use crate::values::render;

/// Looks, and tells what is wrong; [`Exit::ClaimFails`] when something is.
///
/// # Errors
/// [`BadInput`] for a workload that is not there or a chart that does not render; a cluster that can't be looked at.
pub(crate) async fn explain(workspace: &Workspace, args: &ExplainArgs, progress: &Progress) -> Result<Exit> {
    let (objects, looked_at) = match &args.chart {
        Some(chart) => {
            let helm = setup::helm(workspace, progress, false).await?;
            let rendered = render(&helm, chart, args.values.as_deref()).await?;
            let kinds = format!("{} objects that {} renders", rendered.len(), chart.display());
            (Objects::new(Origin::Chart, "", rendered), kinds)
        }
        None => look::at(args.context.as_deref(), args.namespace.as_deref()).await?,
    };
    let mut troubles = ::explain::explain(&objects);
    if let Some(named) = &args.workload {
        let workload = workload(&objects, named)?;
        troubles.retain(|trouble| concerns(&objects, workload, &trouble.case));
    }
    match args.output {
        OutputArg::Json => {
            let told = json!({"looked_at": looked_at, "rules": RULES.len(), "troubles": troubles});
            print::result(serde_json::to_string_pretty(&told)?);
        }
        OutputArg::Text if troubles.is_empty() => {
            print::result(format!(
                "nothing is wrong that {} rules know of: looked at {looked_at}",
                RULES.len()
            ));
        }
        OutputArg::Text => {
            let paint = Paint::stdout();
            let told: Vec<String> = troubles.iter().map(|trouble| text(trouble, paint)).collect();
            print::result(told.join("\n\n"));
        }
    }
    Ok(if troubles.is_empty() { Exit::Holds } else { Exit::ClaimFails })
}

/// The workload that `KIND/NAME` names, by kubectl's own short names too.
fn workload<'a>(objects: &'a Objects, named: &str) -> Result<&'a serde_json::Value> {
    let (kind, name) = named.split_once('/').unwrap_or(("statefulset", named));
    let kind = match kind.to_lowercase().as_str() {
        "statefulset" | "statefulsets" | "sts" => "StatefulSet",
        "deployment" | "deployments" | "deploy" => "Deployment",
        other => return Err(BadInput(format!("`{other}` is neither statefulset nor deployment")).into()),
    };
    let found = objects.named(kind, name);
    found.ok_or_else(|| {
        BadInput(format!("there is no {kind} {name} in the namespace {}", objects.namespace)).into()
    })
}

fn text(trouble: &Trouble, paint: Paint) -> String {
    let case = &trouble.case;
    let mut lines = vec![paint.bad(&case.says)];
    let mut add = |what: &str, texts: &[String]| {
        for (position, text) in texts.iter().enumerate() {
            let what = if position == 0 { what } else { "" };
            lines.push(format!("  {what:<9} {text}"));
        }
    };
    add("seen:", &case.seen);
    add("why:", &[model::text::on_one_line(trouble.why)]);
    add("source:", &[trouble.source.to_owned()]);
    add("mend:", &case.mend);
    add("costs:", std::slice::from_ref(&case.costs));
    add("not:", &[trouble.not.to_owned()]);
    if let Some(question) = &case.question {
        add("ask:", std::slice::from_ref(question));
    }
    lines.join("\n")
}
