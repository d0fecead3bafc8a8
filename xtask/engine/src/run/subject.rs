//! What a run puts the lab to: a chart, what it is called among others, and where its evidence goes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value as Json;

use crate::evidence::Paths;
use crate::evidence::grade::HandedIn;
use crate::image::Image;
use crate::lab::Lab;
use crate::lab::app::App;
use crate::lab::places::Source;
use crate::lab::release::{Release, merge};
use crate::lab::stranger;
use crate::lab::target::Target;
use crate::run::bench::Access;
use crate::run::namespaces;
use crate::run::node::Node;
use crate::values;
use cli::{ImageOf, LabArgs, RunArgs};
use machine::exit::BadInput;
use machine::identity::Identity;
use machine::workspace::Workspace;
use model::record::ExperimentRecord;
use model::settings::{Settings, Wanted};
use model::spec::{Experiment, Step, Values};

/// Where charts are put to the lab.
pub(crate) struct Around<'a> {
    /// The folder that commands run in.
    pub(crate) root: &'a Path,
    /// The way into the cluster.
    pub(crate) access: &'a Access,
    /// What `helm upgrade` is told besides.
    pub(crate) flags: &'static [&'static str],
    /// Whose the namespaces are, on a cluster that others use as well.
    pub(crate) owner: Option<&'a Identity>,
}

/// A chart under test.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its name among the charts of the run; none where there is only the lab's.
    pub name: Option<String>,
    /// The lab it is put to, which names the chart.
    pub lab: Lab,
    /// Ids of the experiments that are run; all of them when empty.
    pub only: Vec<String>,
    /// Values over those of the lab.
    pub values: Values,
    /// What is wanted of the chart's objects, whatever the lab wants.
    pub always: Settings,
    /// Whose images it runs with, where it is somebody else's and is adapted to the cluster.
    pub adapts: Option<ImageOf>,
    /// The words of its app, where whoever grades it said them.
    pub app: Option<App>,
    /// Whether the namespaces of its experiments stay: somebody named them, to look at what is in them.
    pub stays: bool,
    /// The page that was handed in with it, where somebody looked for one.
    pub page: Option<HandedIn>,
    /// Where its evidence goes.
    pub folder: PathBuf,
    /// Whether its evidence may take the place of what is committed.
    pub refreshes: bool,
}

impl Subject {
    /// The lab that the command line names, with the chart it names.
    ///
    /// # Errors
    /// [`BadInput`] for a lab that makes no sense, a chart or an experiment that isn't there.
    pub fn of_lab(workspace: &Workspace, args: &LabArgs) -> Result<Self> {
        let lab = Lab::of(workspace, args.run.lab.as_deref())?;
        let lab = args.chart.as_ref().map_or(Ok(lab.clone()), |chart| lab.with_chart(chart))?;
        let subject = Self {
            name: None,
            only: args.run.only.clone(),
            values: values_of(args.run.values.as_deref())?,
            always: Settings::default(),
            adapts: lab.foreign.then_some(ImageOf::Auto),
            app: None,
            stays: stays(&args.run),
            page: None,
            folder: workspace.lab.clone(),
            refreshes: lab.kept && !lab.foreign && !args.check,
            lab,
        };
        subject.chosen()?;
        subject.chart().map_err(|error| BadInput(format!("{error:#}")))?;
        Ok(subject)
    }

    /// One of several charts, with a folder of its own below `folder`.
    pub fn named(name: &str, lab: Lab, only: &[String], values: Values, folder: &Path) -> Self {
        let folder = folder.join(name);
        let (name, only, always) = (Some(name.to_owned()), only.to_vec(), Settings::default());
        Self {
            name,
            lab,
            only,
            values,
            always,
            adapts: None,
            app: None,
            page: None,
            stays: false,
            folder,
            refreshes: false,
        }
    }

    /// The experiments that are run.
    ///
    /// # Errors
    /// A name that no experiment has.
    pub fn chosen(&self) -> Result<Vec<&Experiment>> {
        self.lab.choose(&self.only)
    }

    /// The namespace of an experiment; `owner` of a cluster that others use as well.
    pub fn namespace(&self, experiment: &Experiment, owner: Option<&Identity>) -> String {
        namespaces::name(&self.lab.spec.lab, self.stranger(), &experiment.id, owner)
    }

    /// What a person calls an experiment of it.
    pub fn title(&self, experiment: &Experiment) -> String {
        let name = self.name.iter().map(|name| format!("{name}/")).collect::<String>();
        format!("{name}{}", experiment.id)
    }

    /// The user Helm acts as with somebody else's chart: of several charts none may touch another's namespaces, and
    /// none at all anything beside its own.
    pub fn user(&self, owner: Option<&Identity>) -> Option<String> {
        let of = owner.map(|owner| format!("{}:", owner.key())).unwrap_or_default();
        self.stranger().map(|name| format!("{of}{}:{name}", self.lab.spec.lab))
    }

    /// What somebody else's chart goes by.
    fn stranger(&self) -> Option<&str> {
        self.name.as_deref().or(self.lab.foreign.then_some("chart"))
    }

    /// Its chart, a folder or an archive.
    ///
    /// # Errors
    /// It is no chart; somebody else's makes Helm read what is not its own.
    pub fn chart(&self) -> Result<PathBuf> {
        let chart = self.lab.chart();
        if !chart.is_file() && !chart.join("Chart.yaml").is_file() {
            bail!("{} is no chart: it has no Chart.yaml", chart.display());
        }
        if self.lab.foreign {
            stranger::reads_only_itself(&chart)?;
        }
        Ok(chart)
    }

    /// Finds the roles of the chart's objects. `image` takes the place of the one that the chart's values name; to `node` a
    /// chart of somebody else's is adapted.
    ///
    /// # Errors
    /// When it is no chart, does not render, or lacks a role that the lab speaks of.
    pub(crate) async fn target(
        &self,
        around: &Around<'_>,
        image: Option<&Image>,
        node: Option<&Node<'_>>,
    ) -> Result<Target> {
        let Around { root, access, flags, owner } = *around;
        let chart = self.chart()?;
        let chart = chart.strip_prefix(root).map_or(chart.clone(), |inside| {
            // A relative path without a slash could be a chart's name in a repository.
            if inside.components().count() == 1 { PathBuf::from(".").join(inside) } else { inside.to_owned() }
        });
        let values_dir = self.folder.join("values");
        let release = Release {
            name: self.lab.spec.target.release.clone(),
            chart,
            values: self.values_over(&image.map(image_values).transpose()?.unwrap_or_default()),
            set: self.lab.spec.target.set.clone(),
            always: self.always.clone(),
            handles: BTreeMap::new(),
            values_dir: values_dir.strip_prefix(root).unwrap_or(&values_dir).to_owned(),
            root: root.to_owned(),
            adapt: None,
            upgrade_flags: flags,
            user: self.user(owner),
            kubernetes: access.kubernetes.clone(),
        };
        let _turn = access.tools.acquire().await?;
        let fields = self.lab.target_fields();
        let (rendered, sources) = Target::render(&access.helm, &release).await?;
        let mut target = match (self.adapts, node) {
            (Some(images), Some(node)) => {
                adapted(release, (rendered, sources), around, images, self.app.as_ref(), node).await?
            }
            _ => Target { sources, ..Target::of(release, rendered)? },
        };
        target.plays(&fields)?;
        let template = target.release.template(&access.helm)?;
        let chart = root.join(&target.release.chart);
        target.release.handles =
            values::handles(template, &chart, &self.wanted(&target.release)?, &target.rendered).await?;
        Ok(target)
    }

    /// Every field that an experiment wants, once.
    fn wanted(&self, release: &Release) -> Result<Vec<Wanted>> {
        let mut all = release.wanted(&release.set);
        for step in self.chosen()?.into_iter().flat_map(|experiment| &experiment.steps) {
            if let Step::Install(step) | Step::Upgrade(step) = step {
                all.extend(step.set.wanted());
            }
        }
        let mut known = BTreeSet::new();
        all.retain(|wanted| known.insert(wanted.field.clone()));
        Ok(all)
    }

    /// Whether the namespace of an experiment may go when it has ended: those are left that somebody will want to
    /// look at, because they failed or were asked for. Of several charts only the latter: a node bears about a hundred
    /// pods.
    pub fn may_go(&self, record: &ExperimentRecord) -> bool {
        let holds = record.failure.is_none() && !record.claims.iter().any(|claim| claim.verdict.is_red());
        !self.stays && (self.name.is_some() || holds)
    }

    /// Name and version of its chart.
    ///
    /// # Errors
    /// A manifest that is no YAML.
    pub fn version(&self) -> Result<String> {
        let chart = self.chart()?;
        if chart.is_file() {
            // `helm package` puts both into the archive's name.
            return Ok(chart.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
        let manifest = chart.join("Chart.yaml");
        let text = std::fs::read_to_string(&manifest)
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        let chart: serde_json::Value =
            serde_saphyr::from_str(&text).map_err(|error| anyhow!("{}: {error}", manifest.display()))?;
        let field = |name: &str| chart[name].as_str().unwrap_or("unknown");
        Ok(format!("{} {}", field("name"), field("version")))
    }

    /// Where its evidence goes.
    pub fn paths(&self, workspace: &Workspace) -> Paths {
        let mut paths = Paths { target: self.folder.clone(), ..Paths::of(workspace, &self.lab) };
        if self.name.is_some() {
            paths.step_summary = None;
        }
        paths
    }

    /// The lab's values with these and its own over them.
    pub fn values_over(&self, more: &Values) -> Values {
        let mut values = self.lab.spec.target.values.clone();
        merge(&mut values, more);
        merge(&mut values, &self.values);
        values
    }
}

/// A chart of somebody else's, with its set found and all that is in its way known.
async fn adapted(
    mut release: Release,
    (mut rendered, mut sources): (Vec<Json>, Vec<Source>),
    around: &Around<'_>,
    images: ImageOf,
    words: Option<&App>,
    node: &Node<'_>,
) -> Result<Target> {
    let helm = &around.access.helm;
    let chart = around.root.join(&release.chart);
    let (way, values) = values::way_to_a_set(release.template(helm)?, &chart, &rendered).await?;
    if let Json::Object(values) = values {
        // What the user gives holds.
        let mut all = values.into_iter().collect();
        merge(&mut all, &release.values);
        release.values = all;
        (rendered, sources) = Target::render(helm, &release).await?;
    }
    release.adapt = Some(node.adapt(&rendered, images).await);
    let told = way.map(|way| format!("the StatefulSet appears with {way}, which was taken"));
    let mut target = Target { told: told.into_iter().collect(), sources, ..Target::of(release, rendered)? };
    if !target.stood_in() {
        let words = match words {
            Some(words) => Some(words.clone()),
            None => App::beside(&chart)?,
        };
        target.speaks(words.unwrap_or_default());
    }
    Ok(target)
}

/// Whether a command line asks for namespaces to be left: experiments by name, on a cluster that is kept.
pub(crate) fn stays(args: &RunArgs) -> bool {
    args.keep && !args.only.is_empty()
}

/// The values in a file of the user's.
///
/// # Errors
/// [`BadInput`] for one that can't be read or holds no map.
pub(crate) fn values_of(file: Option<&Path>) -> Result<Values> {
    let Some(file) = file else { return Ok(Values::new()) };
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| BadInput(format!("cannot read values file {shown}: {error}")))?;
    serde_saphyr::from_str(&text).map_err(|error| BadInput(format!("values file {shown}: {error}")).into())
}

/// The values that name an image which is not the chart's own.
fn image_values(image: &Image) -> Result<Values> {
    let (repository, tag) = image.name.rsplit_once(':').unwrap_or((&image.name, ""));
    Ok(serde_json::from_value(serde_json::json!({"image": {"repository": repository, "tag": tag}}))?)
}
