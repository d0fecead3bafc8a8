//! What a run puts the lab to: a chart, what it is called among others, and where its evidence goes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::evidence::Paths;
use crate::image::Image;
use crate::lab::Lab;
use crate::lab::release::{Release, merge};
use crate::lab::stranger;
use crate::lab::target::Target;
use crate::run::bench::Access;
use crate::run::namespaces;
use cli::LabArgs;
use machine::exit::BadInput;
use machine::identity::Identity;
use machine::workspace::Workspace;
use model::record::ExperimentRecord;
use model::spec::{Experiment, Values};

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
            folder: workspace.lab.clone(),
            refreshes: lab.shipped && !lab.foreign && !args.check,
            lab,
        };
        subject.chosen()?;
        subject.chart().map_err(|error| BadInput(format!("{error:#}")))?;
        Ok(subject)
    }

    /// One of several charts, with a folder of its own below `folder`.
    pub fn named(name: &str, lab: Lab, only: &[String], values: Values, folder: &Path) -> Self {
        let folder = folder.join(name);
        Self { name: Some(name.to_owned()), lab, only: only.to_vec(), values, folder, refreshes: false }
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

    /// Finds the roles of the chart's objects. `image` takes the place of the one that the chart's values name.
    ///
    /// # Errors
    /// When it is no chart, does not render, or lacks a role that the lab speaks of.
    pub async fn target(
        &self,
        root: &Path,
        access: &Access,
        upgrade_flags: &'static [&'static str],
        owner: Option<&Identity>,
        image: Option<&Image>,
    ) -> Result<Target> {
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
            values_dir: values_dir.strip_prefix(root).unwrap_or(&values_dir).to_owned(),
            root: root.to_owned(),
            upgrade_flags,
            user: self.user(owner),
        };
        let _turn = access.tools.acquire().await?;
        let target = Target::discover(&access.helm, release).await?;
        target.plays(&self.lab.target_fields())?;
        Ok(target)
    }

    /// Whether the namespace of an experiment may go when it has ended: those are left that somebody will want to
    /// look at, because they failed or, in a cluster that is kept, were asked for by name. Of several charts only the
    /// latter: a node bears about a hundred pods.
    pub fn may_go(&self, record: &ExperimentRecord, keep: bool) -> bool {
        let asked_for = keep && !self.only.is_empty();
        let holds = record.failure.is_none() && !record.claims.iter().any(|claim| claim.verdict.is_red());
        !asked_for && (self.name.is_some() || holds)
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
