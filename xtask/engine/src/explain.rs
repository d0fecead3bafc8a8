//! `explain`: the rules asked about what a cluster has, or about what a chart renders. It reads, and changes nothing.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use time::OffsetDateTime;

use ::explain::{Objects, Origin, RULES, concerns, unwell};
use cli::{ExplainArgs, OutputArg};
use machine::exit::{BadInput, Exit};
use machine::paint::Paint;
use machine::print;
use machine::progress::Progress;
use machine::workspace::Workspace;
use model::kinds::is_name;

use crate::look;
use crate::transient;
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
        None => cluster(args.context.as_deref(), args.namespace.as_deref()).await?,
    };
    let mut troubles = ::explain::explain(&objects);
    let workload = args.workload.as_ref().map(|named| workload(&objects, named)).transpose()?;
    if let Some(workload) = workload {
        troubles.retain(|trouble| concerns(&objects, workload, &trouble.case));
    }
    let unwell = match troubles.is_empty() {
        true => unwell(&objects, workload, OffsetDateTime::now_utc()),
        false => Vec::new(),
    };
    match args.output {
        OutputArg::Json => {
            let told =
                json!({"looked_at": looked_at, "rules": RULES.len(), "troubles": troubles, "unwell": unwell});
            print::result(serde_json::to_string_pretty(&told)?);
        }
        OutputArg::Text if !unwell.is_empty() => {
            let told: Vec<String> = unwell.iter().map(|pod| format!("  {pod}")).collect();
            print::result(format!(
                "none of {} rules knows why, and these pods are not well: looked at {looked_at}\n{}",
                RULES.len(),
                told.join("\n")
            ));
        }
        OutputArg::Text => print::result(look::told(&troubles, &looked_at, Paint::stdout())),
    }
    Ok(if troubles.is_empty() && unwell.is_empty() { Exit::Holds } else { Exit::ClaimFails })
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

/// A namespace of a cluster that a kubeconfig names.
async fn cluster(context: Option<&str>, namespace: Option<&str>) -> Result<(Objects, String)> {
    let kubeconfig = Kubeconfig::read().context("there is no kubeconfig to be read")?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .with_context(|| format!("the context {} can't be used", context.unwrap_or("that is current")))?;
    let namespace = namespace.map_or(config.default_namespace.clone(), str::to_owned);
    let client = transient::client(config).context("the kubeconfig can't be used")?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    // Who may look into a namespace may not always look at it, and is not held up by that.
    if is_name(&namespace) {
        let there = transient::read("look for the namespace", || async {
            match namespaces.get_opt(&namespace).await {
                Err(kube::Error::Api(status)) if status.code == 403 => Ok(true),
                there => there.map(|there| there.is_some()),
            }
        });
        if !there.await? {
            return Err(BadInput(format!("there is no namespace {namespace}")).into());
        }
    } else {
        return Err(BadInput(format!("{namespace:?} is no name of a namespace")).into());
    }
    let (mut objects, looked_at) = look::at(&client, &namespace).await?;
    objects.context = context.map(str::to_owned);
    Ok((objects, looked_at))
}
