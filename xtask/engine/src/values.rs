//! Which value of a chart drives which field of which object: found by rendering the chart once more for each value,
//! with that value changed. What differs is what the value drives.

mod chart;
mod difference;
mod probe;
mod setting;
mod table;
mod handle;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use serde::Serialize;
use serde_json::Value as Json;

use model::text::last_line;

use crate::lab::stranger;
use cli::{OutputArg, ValuesArgs};
use machine::command::Command;
use machine::exit::{BadInput, Exit};
use machine::pins::KUBERNETES;
use machine::print;
use machine::progress::Progress;
use machine::tools::Tool;
use machine::workspace::Workspace;

pub(crate) use self::handle::handles;

use self::chart::ChartFiles;
use self::difference::{Field, fields_that_differ};
use self::probe::{Path as ValuePath, candidates, leaves, with};
use self::setting::{SETTINGS, Setting};

/// The rendering of one chart many times: Helm needs a tenth of a second for each.
const DEADLINE: Duration = Duration::from_secs(120);
/// One rendering: a template that goes on for ever is ended.
const ONE_DEADLINE: Duration = Duration::from_secs(10);
/// Values that are tried; no hand-written chart has more.
const MOST_VALUES: usize = 600;

/// The values of a chart, and what each of them does.
#[derive(Debug, Serialize)]
pub(crate) struct Trace {
    /// What was set before anything was tried, because the chart renders no StatefulSet without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken: Option<Taken>,
    /// The values in the order of the chart's file.
    pub values: Vec<TracedValue>,
    /// The fields that labs speak of, and the values that drive each.
    pub settings: Vec<DrivenSetting>,
    /// Values that were not tried any more when the time was up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub untried: Vec<String>,
}

/// What makes the StatefulSet of a chart appear.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Taken {
    /// A values file that lies in the chart.
    File(String),
    /// A single value.
    Value(String, Json),
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => f.write_str(file),
            Self::Value(path, value) => write!(f, "{path}={value}"),
        }
    }
}

/// A value of a chart.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TracedValue {
    /// Where it stands: `image.tag`.
    pub path: String,
    /// What it is when nobody sets it; absent where only a template names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Json>,
    /// What it does.
    pub effect: Effect,
}

/// What a value does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Effect {
    /// It drives these fields.
    Drives(Vec<Field>),
    /// It drives these fields once other values are set.
    DrivesWith(Vec<(String, Json)>, Vec<Field>),
    /// Nothing that is rendered depends on it.
    Nothing,
    /// The chart does not render with another value: the last line of what Helm says.
    Breaks(String),
}

/// A field that labs speak of, and what drives it.
#[derive(Debug, Serialize)]
pub(crate) struct DrivenSetting {
    /// Its name.
    pub setting: &'static str,
    /// The values that drive it; none where it can only be changed on the object.
    pub values: Vec<String>,
}

/// `cargo xtask values`: traces a chart and prints what was found.
///
/// # Errors
/// The machine has no Helm; the chart is none, or does not render.
pub(crate) async fn values(workspace: &Workspace, args: &ValuesArgs, progress: &Progress) -> Result<Exit> {
    let helm = setup::helm(workspace, progress, args.setup).await?;
    let task = progress.start(args.chart.display().to_string());
    let began = Instant::now();
    let trace = trace(&helm, &args.chart, args.values.as_deref()).await?;
    task.done(&format!("{} values, {:.1} s", trace.values.len(), began.elapsed().as_secs_f64()));
    match args.output {
        OutputArg::Json => print::result(serde_json::to_string_pretty(&trace)?),
        OutputArg::Text => print::result(table::text(&trace)),
    }
    Ok(Exit::Holds)
}

/// What a chart renders as it is, or with a values file.
///
/// # Errors
/// [`BadInput`] for what is no chart, or does not render: in Helm's words.
pub(crate) async fn render(helm: &Tool, chart: &Path, values: Option<&Path>) -> Result<Vec<Json>> {
    sound(chart)?;
    Renderer::new(helm, chart, values)?.plain(chart).await
}

/// The files of what is a chart, and reads nothing but itself.
fn sound(chart: &Path) -> Result<ChartFiles> {
    let files = ChartFiles::read(chart).and_then(|files| stranger::reads_only_itself(chart).map(|()| files));
    files.map_err(|error| BadInput(format!("{error:#}")).into())
}

/// Renders the chart once as it is, and once more for each of its values.
///
/// # Errors
/// [`BadInput`] for what is no chart, or does not render as it is.
pub(crate) async fn trace(helm: &Tool, chart: &Path, values: Option<&Path>) -> Result<Trace> {
    let files = sound(chart)?;
    let render = Renderer::new(helm, chart, values)?;
    let defaults =
        files.values().map_err(|error| BadInput(format!("chart {}: {error:#}", chart.display())))?;
    let plain = render.plain(chart).await?;
    let end = Instant::now() + DEADLINE;
    let (taken, base) = render.make_a_set_appear(&files, &defaults, &plain).await;
    let objects = if base.is_null() { plain } else { render.with(&base).await.unwrap_or(plain) };

    let mut paths = leaves(&defaults);
    paths.extend(
        files
            .named_in_templates()
            .into_iter()
            .filter(|named| !paths.iter().any(|path| path.starts_with(named) || named.starts_with(path)))
            .collect::<Vec<_>>(),
    );
    let untried = paths.split_off(paths.len().min(MOST_VALUES));
    let mut untried: Vec<String> = untried.iter().map(ToString::to_string).collect();

    let schema = files.schema();
    let once = |path: ValuePath, base: Json, objects: Vec<Json>| {
        let default = path.of(&defaults).cloned();
        // What a values file of the chart or of the user sets is where a change starts from.
        let now = path.of(&base).cloned().or_else(|| default.clone());
        let tries = candidates(&path, now.as_ref(), &schema);
        let render = &render;
        async move {
            let mut said = None;
            for candidate in tries {
                if Instant::now() > end {
                    return (path, default, None);
                }
                match render.with(&with(&base, &path, candidate)).await {
                    Ok(changed) => {
                        let fields = fields_that_differ(&objects, &changed);
                        if !fields.is_empty() {
                            return (path, default, Some(Effect::Drives(fields)));
                        }
                        said = Some(Effect::Nothing);
                    }
                    Err(says) => said = said.or(Some(Effect::Breaks(last_line(&says).to_owned()))),
                }
            }
            (path, default, said)
        }
    };
    let first = paths.into_iter().map(|path| once(path, base.clone(), objects.clone()));
    let first: Vec<_> = futures::stream::iter(first).buffered(at_once()).collect().await;

    // What does nothing by itself may do something once a switch is on.
    let switches: Vec<(ValuePath, Json)> = first
        .iter()
        .filter_map(|(path, default, effect)| {
            let Some(Effect::Drives(fields)) = effect else { return None };
            let on = match default {
                Some(Json::Bool(false)) | None => Json::Bool(true),
                _ => return None,
            };
            fields.iter().any(Field::appeared).then(|| (path.clone(), on))
        })
        .collect();
    let contexts = render.contexts(&base, &switches, &first, &schema).await;
    let again = first.into_iter().map(|(path, default, effect)| {
        let (contexts, once) = (&contexts, &once);
        async move {
            if !matches!(effect, Some(Effect::Nothing | Effect::Breaks(_))) {
                return (path, default, effect);
            }
            for context in contexts.iter().filter(|context| !context.sets(&path)) {
                let (_, _, found) = once(path.clone(), context.base.clone(), context.objects.clone()).await;
                if let Some(Effect::Drives(fields)) = found {
                    let by = context.set.iter().map(|(path, value)| (path.to_string(), value.clone()));
                    return (path, default, Some(Effect::DrivesWith(by.collect(), fields)));
                }
            }
            (path, default, effect)
        }
    });
    let traced: Vec<_> = futures::stream::iter(again).buffered(at_once()).collect().await;

    let mut values = Vec::new();
    for (path, default, effect) in traced {
        match effect {
            Some(effect) => values.push(TracedValue { path: path.to_string(), default, effect }),
            None => untried.push(path.to_string()),
        }
    }
    let settings = SETTINGS.iter().map(|setting| driven(setting, &values)).collect();
    Ok(Trace { taken, values, settings, untried })
}

fn driven(setting: &Setting, values: &[TracedValue]) -> DrivenSetting {
    let drives = |value: &&TracedValue| match &value.effect {
        Effect::Drives(fields) | Effect::DrivesWith(_, fields) => {
            fields.iter().any(|field| setting.is(field))
        }
        _ => false,
    };
    DrivenSetting {
        setting: setting.name,
        values: values.iter().filter(drives).map(|value| value.path.clone()).collect(),
    }
}

/// The chart's own way to a StatefulSet where what `helm` renders has none, and the values that lead there.
///
/// # Errors
/// It is no chart.
pub(crate) async fn way_to_a_set(
    helm: Command,
    chart: &Path,
    objects: &[Json],
) -> Result<(Option<Taken>, Json)> {
    let files = ChartFiles::read(chart)?;
    let defaults = files.values()?;
    let render = Renderer::of(helm)?;
    let (way, values) = render.make_a_set_appear(&files, &defaults, objects).await;
    if way.is_none()
        && !has_a_set(objects)
        && let Some((file, error)) = render.broken_way(&files).await
    {
        return Err(error.context(format!("{file}, which should make a StatefulSet appear, does not render")));
    }
    Ok((way, values))
}

fn has_a_set(objects: &[Json]) -> bool {
    objects.iter().any(|object| object["kind"] == "StatefulSet")
}

/// Helm, told to render one chart.
struct Renderer {
    command: Command,
    folder: tempfile::TempDir,
    number: std::sync::atomic::AtomicUsize,
}

/// Values under which others may do something, and what is rendered then.
struct Switched {
    set: Vec<(ValuePath, Json)>,
    base: Json,
    objects: Vec<Json>,
}

impl Switched {
    fn sets(&self, path: &ValuePath) -> bool {
        self.set.iter().any(|(set, _)| set == path)
    }
}

impl Renderer {
    /// `command` renders the chart; more values can be given to it.
    fn of(command: Command) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for values files")?;
        Ok(Self { command, folder, number: Default::default() })
    }

    fn new(helm: &Tool, chart: &Path, values: Option<&Path>) -> Result<Self> {
        let command = stranger::bounded(Command::new(&helm.path)).args(["template", "counter"]).arg(chart);
        let command = command.args(["--kube-version", KUBERNETES]);
        let command = values.into_iter().fold(command, |command, values| command.arg("--values").arg(values));
        let mut render = Self::of(command.deadline(ONE_DEADLINE))?;
        for (name, of) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
            ("KUBECONFIG", "none"),
        ] {
            render.command = render.command.env(name, render.folder.path().join(of));
        }
        Ok(render)
    }

    /// What the chart renders as it is.
    async fn plain(&self, chart: &Path) -> Result<Vec<Json>> {
        self.with(&Json::Null).await.map_err(|says| {
            BadInput(format!("chart {} does not render\n{}", chart.display(), says.trim())).into()
        })
    }

    /// Helm, rendering the chart with these values over its own.
    fn given(&self, values: &Json) -> Result<Command> {
        if values.is_null() {
            return Ok(self.command.clone());
        }
        let number = self.number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = self.folder.path().join(format!("{number}.json"));
        std::fs::write(&file, values.to_string())?;
        Ok(self.command.clone().arg("--values").arg(file))
    }

    /// What the chart renders with these values over its own, or what Helm says against them.
    async fn with(&self, values: &Json) -> Result<Vec<Json>, String> {
        let output = async { self.given(values)?.output().await };
        let output = output.await.map_err(|error| format!("{error:#}"))?;
        if output.status != 0 {
            return Err(output.stderr);
        }
        crate::lab::target::parse(&output.stdout).map_err(|error| format!("{error:#}"))
    }

    /// The chart's own way to a StatefulSet, where the default has none: a values file beside its own, then a single
    /// switch.
    async fn make_a_set_appear(
        &self,
        files: &ChartFiles,
        defaults: &Json,
        plain: &[Json],
    ) -> (Option<Taken>, Json) {
        if has_a_set(plain) {
            return (None, Json::Null);
        }
        for (name, values) in files.other_values() {
            if self.with(&values).await.is_ok_and(|objects| has_a_set(&objects)) {
                return (Some(Taken::File(name)), values);
            }
        }
        let mut switches: Vec<(ValuePath, Json)> = Vec::new();
        let named = files.named_in_templates();
        for path in leaves(defaults).into_iter().chain(named) {
            match path.of(defaults) {
                Some(Json::Bool(on)) => switches.push((path, Json::Bool(!on))),
                Some(Json::String(_)) => {
                    switches.extend(["StatefulSet", "statefulset"].map(|kind| (path.clone(), kind.into())));
                }
                None => switches.push((path, Json::Bool(true))),
                Some(_) => {}
            }
        }
        switches.sort_by_key(|(path, _)| {
            let path = path.to_string().to_lowercase();
            !["stateful", "sts", "kind", "workload"].iter().any(|word| path.contains(word))
        });
        for (path, value) in switches {
            let values = with(&Json::Null, &path, value.clone());
            if self.with(&values).await.is_ok_and(|objects| has_a_set(&objects)) {
                return (Some(Taken::Value(path.to_string(), value)), values);
            }
        }
        (None, Json::Null)
    }

    /// A values file that is called as if it made a set appear, and what Helm says against it.
    async fn broken_way(&self, files: &ChartFiles) -> Option<(String, anyhow::Error)> {
        for (name, values) in files.other_values() {
            if name.to_lowercase().contains("stateful") {
                let failed = async { self.given(&values)?.read().await };
                if let Err(error) = failed.await {
                    return Some((name, error));
                }
            }
        }
        None
    }

    /// All switches on at once, or one by one where that does not render; then each other member of an enumeration.
    async fn contexts(
        &self,
        base: &Json,
        switches: &[(ValuePath, Json)],
        traced: &[(ValuePath, Option<Json>, Option<Effect>)],
        schema: &Json,
    ) -> Vec<Switched> {
        let mut sets: Vec<Vec<(ValuePath, Json)>> = Vec::new();
        if !switches.is_empty() {
            sets.push(switches.to_vec());
            sets.extend(switches.iter().map(|switch| vec![switch.clone()]));
        }
        for (path, default, effect) in traced {
            if matches!(effect, Some(Effect::Drives(_))) && default.as_ref().is_some_and(Json::is_string) {
                let words = probe::words(path, default.as_ref(), schema);
                sets.extend(words.into_iter().map(|word| vec![(path.clone(), word)]));
            }
        }
        let rendered = sets.into_iter().map(|set| async {
            let values =
                set.iter().fold(base.clone(), |values, (path, value)| with(&values, path, value.clone()));
            let objects = self.with(&values).await.ok()?;
            Some(Switched { set, base: values, objects })
        });
        let rendered: Vec<_> = futures::stream::iter(rendered).buffered(at_once()).collect().await;
        rendered.into_iter().flatten().collect()
    }
}

fn at_once() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}
