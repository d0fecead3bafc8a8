//! The command line. Doc comments are the help text.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

use machine::advice::advised;
use machine::exit::BadInput;
use serde::{Deserialize, Serialize};

/// Stands in the help of the program and of the lab: a literal, so that it can be joined to others.
macro_rules! exit_codes {
    () => {
        "\
Exit codes:
  0  every claim holds
  1  the lab ran, and a claim does not hold
  2  bad usage, or an invalid lab file
  3  the lab could not run: environment, cluster or build
  4  committed evidence is out of date (--check)"
    };
}

const EXIT_CODES: &str = exit_codes!();

const LAB_EXAMPLES: &str = concat!(
    "\
Examples:
  cargo xtask lab --setup                      everything, on a machine that has nothing yet
  cargo xtask lab --list                       what will be asked, and what it is worth
  cargo xtask lab --only persistence --keep    one experiment, and the cluster to look at after it
  cargo xtask lab --chart ../theirs/chart      the same questions, put to somebody else's chart
  cargo xtask lab --check                      does the committed page still tell the truth?

",
    exit_codes!()
);

const GRADE_EXAMPLES: &str = concat!(
    "\
Examples:
  cargo xtask grade green/chart red/chart        two charts, and what each of them earns
  cargo xtask grade --keep */chart               thirty, and the cluster for the next ones
  cargo xtask grade counter-0.1.0.tgz --only identity,updates
  cargo xtask grade chart --image-of app:1.0=app.tar     the app's own image, from an archive
  cargo xtask grade green/chart --page green/REPORT.md
                                                 concepts and documentation, from a page of another name

Each chart's evidence is in target/lab/grade/NAME, in report.html first of all.

",
    exit_codes!()
);

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  cargo xtask explain                                     the current context and its namespace
  cargo xtask explain --namespace shop statefulset/db     one set
  cargo xtask explain --chart ./chart --values prod.yaml  before there is a cluster

Exit codes:
  0  nothing is wrong that it knows of
  1  something is
  2  bad usage, or a chart that does not render
  3  it could not look";

/// A declarative lab for Kubernetes: build, cluster, install, experiments, evidence.
///
/// Start with `cargo xtask lab --setup`. It installs what this machine lacks, brings up a real cluster,
/// runs the lab of docs/labs/statefulset.yaml and writes what it saw into docs/STATEFULSET.md.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXIT_CODES, version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Subcommands,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Subcommands {
    /// Run the lab: build the image, start a cluster, install the chart, run the experiments, write the evidence.
    Lab(LabArgs),
    /// Run the lab against other people's charts, side by side on one cluster, and print points and why.
    Grade(GradeArgs),
    /// Say what is wrong with a StatefulSet, how one sees it, why, and what mends it. Reads only, on any cluster, or on a
    /// chart without one.
    Explain(ExplainArgs),
    /// Say what each value of a chart really does: which field of which object it drives, and which values do nothing.
    Values(ValuesArgs),
    /// What Helm runs between rendering and installing: changes the objects on stdin as the file says.
    #[command(hide = true)]
    PostRender {
        /// What is changed.
        changes: PathBuf,
    },
    /// Install what the machine lacks: a container engine, kind, kubectl, helm, a node image.
    Setup,
    /// Say what is there, what is missing, and the exact command that fixes it. Changes nothing.
    Doctor,
    /// Build the image of the counter.
    Image(ImageArgs),
    /// The lab's own cluster, by itself.
    Cluster {
        /// What to do with it.
        #[command(subcommand)]
        action: ClusterAction,
    },
    /// Open a shell whose KUBECONFIG is the lab's cluster, with the lab's kubectl and helm on PATH.
    Shell,
    /// Render the page again from the recorded run, without a cluster.
    Docs {
        /// Change nothing; exit with 4 and a diff when page and record are apart.
        #[arg(long)]
        check: bool,
    },
    /// The JSON Schema of lab files, which gives editors completion and checks.
    Schema {
        /// Change nothing; exit with 4 when docs/labs/lab.schema.json is not what the types say.
        #[arg(long)]
        check: bool,
    },
    /// Measure the counter against the disk below it, and write docs/PERFORMANCE.md. Takes two quiet minutes.
    Bench {
        /// What to measure.
        #[arg(value_enum, default_value = "app")]
        what: BenchArg,
    },
    /// Record a run of the lab as a terminal shows it: docs/images/lab.svg, the picture of the README.
    Screencast,
    /// Lay out what this machine hands out in a release: binary, image, bill of materials, and the chart.
    Release(ReleaseArgs),
    /// Everything a change must pass: formatting, lints, unit tests, the chart, the flake, the lab on a real cluster.
    Test(TestArgs),
}

/// How to run the lab.
#[derive(Debug, Clone, Args)]
#[command(after_help = LAB_EXAMPLES)]
pub struct LabArgs {
    /// List experiments, claims and points, and stop.
    #[arg(long)]
    pub list: bool,
    /// Check the lab file and every expression in it, without a cluster, and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Write nothing into docs; exit with 4 when the committed evidence is not what this run saw.
    #[arg(long)]
    pub check: bool,
    /// Another chart than the lab's.
    #[arg(long, value_name = "DIR")]
    pub chart: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// Whose charts to grade, and how.
#[derive(Debug, Clone, Args)]
#[command(after_help = GRADE_EXAMPLES)]
pub struct GradeArgs {
    /// Charts: folders, or archives made by `helm package`.
    #[arg(required = true, value_name = "CHART")]
    pub charts: Vec<PathBuf>,
    /// Whose images the pods run: `chart`, the chart's own; `stand-in`, the lab's in their place; `auto`, for each image
    /// the chart's where the node can have it. NAME=ARCHIVE loads an image that the chart names from an archive, as
    /// `docker save` writes one; give it once for each.
    #[arg(long, default_value = "auto", value_name = "chart|stand-in|auto|NAME=ARCHIVE", value_parser = image_of)]
    pub image_of: Vec<ImageOfArg>,
    /// What the apps call things, where no `hand-in.yaml` beside a chart says it: `counts` and `reads`, paths; `number`, a
    /// CEL expression over `answer`; `file`, where no path reads.
    #[arg(long, value_name = "FILE")]
    pub app: Option<PathBuf>,
    /// The page that was handed in with the chart, for concepts and documentation. When left out: STATEFULSET.md, in any
    /// case, in the chart's folder, in up to three folders above it, or in `docs` of one of these.
    #[arg(long, value_name = "FILE")]
    pub page: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// What `--image-of` is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageOfArg {
    /// Whose images run.
    Whose(ImageOf),
    /// An image that the chart names, and the archive it is in.
    Of(String, PathBuf),
}

fn image_of(given: &str) -> Result<ImageOfArg, String> {
    if let Some((name, archive)) =
        given.split_once('=').filter(|(name, archive)| !name.is_empty() && !archive.is_empty())
    {
        return Ok(ImageOfArg::Of(name.to_owned(), archive.into()));
    }
    ImageOf::from_str(given, false)
        .map(ImageOfArg::Whose)
        .map_err(|_| "it is none of `chart`, `stand-in`, `auto` and NAME=ARCHIVE".to_owned())
}

impl GradeArgs {
    /// What clap can't see: a page belongs to one chart.
    ///
    /// # Errors
    /// [`BadInput`] when it was given with several.
    pub fn sound(&self) -> Result<()> {
        if self.page.is_none() || self.charts.len() == 1 {
            return Ok(());
        }
        Err(BadInput("--page is for one chart".to_owned())).context(advised(
            format!("a page can't belong to {} charts", self.charts.len()),
            "grade them one by one with --page, or put each page beside its chart as STATEFULSET.md",
        ))
    }
}

/// Whose images run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageOf {
    /// Those that the chart names.
    Chart,
    /// The counter in the place of the app, and its shell in that of every other.
    StandIn,
    /// The chart's where the node can have them, else what stands in for them.
    Auto,
}

/// What to look at.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub struct ExplainArgs {
    /// A workload: `statefulset/web`, `deployment/web`; everything in the namespace when left out.
    #[arg(value_name = "KIND/NAME", conflicts_with = "chart")]
    pub workload: Option<String>,
    /// A context of your kubeconfig; the current one when left out.
    #[arg(long, value_name = "NAME", conflicts_with = "chart")]
    pub context: Option<String>,
    /// The namespace; that of the context when left out.
    #[arg(short, long, value_name = "NS", conflicts_with = "chart")]
    pub namespace: Option<String>,
    /// A chart instead of a cluster: what is already wrong with what it renders.
    #[arg(long, value_name = "CHART")]
    pub chart: Option<PathBuf>,
    /// Values over the chart's own.
    #[arg(long, value_name = "FILE", requires = "chart")]
    pub values: Option<PathBuf>,
    /// What stdout gets: text to read, or JSON.
    #[arg(long, value_enum, default_value_t = OutputArg::Text)]
    pub output: OutputArg,
}

/// Whose values to trace.
#[derive(Debug, Clone, Args)]
pub struct ValuesArgs {
    /// A chart: a folder, or an archive made by `helm package`.
    #[arg(value_name = "CHART")]
    pub chart: PathBuf,
    /// Values over the chart's own, before anything is tried.
    #[arg(long, value_name = "FILE")]
    pub values: Option<PathBuf>,
    /// First install Helm where the machine lacks it.
    #[arg(long)]
    pub setup: bool,
    /// What stdout gets: a table to read, or JSON.
    #[arg(long, value_enum, default_value_t = OutputArg::Text)]
    pub output: OutputArg,
}

// A doc comment here would take the place of those above.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// First install what the machine lacks; what that is, is printed before it happens.
    #[arg(long)]
    pub setup: bool,
    /// Run only these experiments (comma-separated ids, see `cargo xtask lab --list`). The committed page stays as it is.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub only: Vec<String>,
    /// Leave the cluster for a look around and for the next run; `lab` leaves with it the namespaces of experiments
    /// that failed or were named with --only.
    #[arg(long)]
    pub keep: bool,
    /// Experiments at the same time; four for each core when left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Another lab.
    #[arg(long, value_name = "FILE")]
    pub lab: Option<PathBuf>,
    /// Values over those of the lab.
    #[arg(long, value_name = "FILE")]
    pub values: Option<PathBuf>,
    /// An image archive to load instead of building one; for the lab's own cluster.
    #[arg(long, value_name = "ARCHIVE")]
    pub image: Option<PathBuf>,
    /// What builds the image.
    #[arg(long, value_enum, default_value_t = Builder::Auto)]
    pub builder: Builder,
    /// The lab's own kind cluster, or one that a kubeconfig reaches: `context:NAME`.
    #[arg(long, default_value = "kind", value_name = "kind|context:NAME")]
    pub cluster: ClusterArg,
    /// Another node image for the lab's own cluster: another Kubernetes. The committed page stays as it is.
    #[arg(long, value_name = "IMAGE", conflicts_with = "cluster")]
    pub node_image: Option<String>,
    /// What stdout gets: text to read, or JSON.
    #[arg(long, value_enum, default_value_t = OutputArg::Text)]
    pub output: OutputArg,
}

impl RunArgs {
    /// What clap can't see: `--image` is for a cluster that an image can be loaded into.
    ///
    /// # Errors
    /// [`BadInput`] when it was given for another one.
    pub fn sound(&self) -> Result<()> {
        let (ClusterArg::Context(name), Some(_)) = (&self.cluster, &self.image) else {
            return Ok(());
        };
        Err(BadInput("--image is for a cluster that is made here".to_owned())).context(advised(
            format!("an image can't be loaded into the cluster of context {name}"),
            "push it to a registry that the cluster reads, and name it with --values: image.repository and image.tag",
        ))
    }
}

/// Who builds the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Builder {
    /// Nix where it is there and can, else cargo.
    #[default]
    Auto,
    /// `nix build .#image`.
    Nix,
    /// A static binary by cargo, and Debian's busybox.
    Cargo,
}

/// How to build the image.
#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    /// What builds the image.
    #[arg(long, value_enum, default_value_t = Builder::Auto)]
    pub builder: Builder,
    /// Build twice, from two folders, and compare.
    #[arg(long)]
    pub verify: bool,
    /// Compare two builds of the node image and of its parts instead; takes some minutes.
    #[arg(long, requires = "verify")]
    pub node: bool,
}

/// What to lay out in target/release-assets.
#[derive(Debug, Clone, Args)]
pub struct ReleaseArgs {
    /// Bring together what several machines laid out below this folder, with checksums and provenance.
    #[arg(long, value_name = "DIR")]
    pub gather: Option<PathBuf>,
}

/// What to test.
#[derive(Debug, Clone, Args)]
pub struct TestArgs {
    /// First install what the machine lacks.
    #[arg(long)]
    pub setup: bool,
    /// Leave out what needs a cluster.
    #[arg(long)]
    pub no_cluster: bool,
    /// Only these negative controls (comma-separated ids, names of labs, or `all`), on a cluster that is kept. Without it
    /// those run whose lab does with one node.
    #[arg(long, value_delimiter = ',', value_name = "ID", conflicts_with = "no_cluster")]
    pub control: Vec<String>,
}

/// What to do with the lab's own cluster.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ClusterAction {
    /// Start it, or find it running.
    Up {
        /// How many nodes it has: the first is the control plane's, pods run on the others. Left out, the one that is
        /// running will do, and a new one has a single node. Nodes that say nothing are taken for lost after 6 s.
        #[arg(long, value_name = "N", value_parser = nodes)]
        nodes: Option<usize>,
    },
    /// Remove it and everything that came with it.
    Down,
    /// Say whether it runs and answers.
    Status,
}

/// As many nodes as a machine bears.
fn nodes(text: &str) -> Result<usize, String> {
    let nodes = text.parse().ok().filter(|nodes| (1..=MOST_NODES).contains(nodes));
    nodes.ok_or_else(|| format!("a number from 1 to {MOST_NODES} is wanted"))
}

/// The most nodes that a cluster of ours can have.
pub const MOST_NODES: usize = 9;

/// What `bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchArg {
    /// The counter.
    App,
}

/// What stdout gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputArg {
    /// A summary to read.
    #[default]
    Text,
    /// The record of the run; of graded charts, the summary of each.
    Json,
}

/// Which cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ClusterArg {
    /// The lab's own.
    #[default]
    Kind,
    /// A context of the user's kubeconfig.
    Context(String),
}

impl std::str::FromStr for ClusterArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "kind" => Ok(Self::Kind),
            Some(("context", name)) if !name.is_empty() => Ok(Self::Context(name.to_owned())),
            _ => Err("neither `kind` nor `context:NAME`".to_owned()),
        }
    }
}

impl std::fmt::Display for ClusterArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind => f.write_str("kind"),
            Self::Context(name) => write!(f, "context:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_image_is_somebodys_or_lies_in_an_archive() {
        let of = |name: &str, archive: &str| ImageOfArg::Of(name.to_owned(), archive.into());
        assert_eq!(image_of("stand-in"), Ok(ImageOfArg::Whose(ImageOf::StandIn)));
        assert_eq!(image_of("me/app:1.0=app.tar"), Ok(of("me/app:1.0", "app.tar")));
        for wrong in ["mine", "=app.tar", "app="] {
            assert!(image_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cluster_is_ours_or_a_context() {
        assert_eq!("kind".parse(), Ok(ClusterArg::Kind));
        assert_eq!("context:minikube".parse(), Ok(ClusterArg::Context("minikube".to_owned())));
        let args = |line: &str| match Cli::parse_from(line.split(' ')).command {
            Subcommands::Lab(args) => args.run.sound(),
            other => panic!("{other:?}"),
        };
        assert!(args("xtask lab --image a.tar").is_ok() && args("xtask lab --cluster context:a").is_ok());
        let error = args("xtask lab --cluster context:a --image a.tar").unwrap_err().to_string();
        assert!(error.contains("can't be loaded into the cluster of context a"), "{error}");
        assert!("context:".parse::<ClusterArg>().is_err() && "k3d".parse::<ClusterArg>().is_err());
    }

    #[test]
    fn a_page_belongs_to_one_chart() {
        let args = |line: &str| match Cli::parse_from(line.split(' ')).command {
            Subcommands::Grade(args) => args.sound(),
            other => panic!("{other:?}"),
        };
        assert!(args("xtask grade a --page a.md").is_ok() && args("xtask grade a b").is_ok());
        let error = args("xtask grade a b --page a.md").unwrap_err();
        assert!(error.chain().any(|cause| cause.is::<BadInput>()), "{error:?}");
    }
}
