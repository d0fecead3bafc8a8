//! What a release hands out: files under speaking names, a bill of materials, checksums, and where it all came from.

mod sbom;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use cli::ReleaseArgs;
use engine::Lab;
use engine::image;
use engine::image::Part;
use engine::image::contract::{NAME, VERSION};
use machine::digest::sha256;
use machine::exit::{BadInput, Exit};
use machine::files::files_below;
use machine::print;
use machine::progress::Progress;
use machine::workspace::Workspace;
use setup::Need;

const CHECKSUMS: &str = "SHA256SUMS";
const PROVENANCE: &str = "provenance.json";
/// Of all machines of a release, those with this processor package the chart.
const CHART_PROCESSOR: &str = "x86_64";

/// Lays out what this machine makes for a release, or gathers what several laid out, in `target/release-assets`.
///
/// # Errors
/// When a part can't be made, or what is to be gathered isn't there.
pub(crate) async fn release(workspace: &Workspace, args: &ReleaseArgs, progress: &Progress) -> Result<Exit> {
    let out = workspace.lab.with_file_name("release-assets");
    match &args.gather {
        Some(built) => gather(built, &out, |name| std::env::var(name).ok())?,
        None => make(workspace, progress, &out).await?,
    }
    for file in files_below(&out)? {
        print::result(workspace.display(&file));
    }
    Ok(Exit::Holds)
}

async fn make(workspace: &Workspace, progress: &Progress, out: &Path) -> Result<()> {
    let released = image::build_for_release(workspace, progress).await?;
    let work = tempfile::tempdir().context("no place to package the chart in")?;
    let chart = match released.target.starts_with(CHART_PROCESSOR) {
        true => Some(package_chart(workspace, progress, work.path()).await?),
        false => None,
    };
    let made = Made {
        target: released.target,
        binary: released.binary,
        image: released.image.archive,
        parts: released.parts,
        chart,
    };
    lay_out(&workspace.root, &made, out)
}

/// The chart's package, in the folder `work`.
async fn package_chart(workspace: &Workspace, progress: &Progress, work: &Path) -> Result<PathBuf> {
    let environment = setup::ensure(workspace, progress, Need::Tools, None, false).await?;
    let (helm, chart, shell) = (&environment.helm.path, Lab::shipped(workspace)?.chart(), Shell::new()?);
    cmd!(shell, "{helm} package {chart} --destination {work}").quiet().ignore_stdout().run()?;
    files_below(work)?.into_iter().next().context("helm left no package")
}

/// What one machine made for its own processor.
#[derive(Debug)]
pub(crate) struct Made {
    /// Target triple of the binary: `x86_64-unknown-linux-gnu`.
    pub target: String,
    /// The static counter.
    pub binary: PathBuf,
    /// The archive of the image.
    pub image: PathBuf,
    /// What the image holds besides the counter.
    pub parts: Vec<Part>,
    /// The chart's package, which is for every processor: one machine of a release makes it.
    pub chart: Option<PathBuf>,
}

/// Puts what this machine made, and its bill of materials, into the folder `out`, emptied before.
pub(crate) fn lay_out(root: &Path, made: &Made, out: &Path) -> Result<()> {
    let shell = empty(out)?;
    let processor = made.target.split('-').next().unwrap_or(&made.target);
    let name = format!("{NAME}-{VERSION}-linux-{processor}");
    shell.copy_file(&made.binary, &name)?;
    shell.copy_file(&made.image, format!("{name}.image.tar"))?;
    shell.write_file(format!("{name}.cdx.json"), sbom::bill(root, &made.target, &made.parts)?)?;
    if let Some(chart) = &made.chart {
        shell.copy_file(chart, out)?;
    }
    Ok(())
}

/// Brings what several machines laid out below `built` into the folder `out`, emptied before, with provenance
/// when `variable` tells of a run of GitHub Actions, and with the checksum of every file.
pub(crate) fn gather(built: &Path, out: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<()> {
    // Emptying one would empty the other.
    let places = (built.canonicalize(), out.canonicalize());
    if let (Ok(built), Ok(out)) = &places
        && (built.starts_with(out) || out.starts_with(built))
    {
        let text = format!("{} is where the release itself is put together", out.display());
        return Err(BadInput(text).into());
    }
    let mut from = BTreeMap::new();
    for file in files_below(built)? {
        let name = file.file_name().expect("a file has a name").to_owned();
        if let Some(other) = from.insert(name, file.clone()) {
            bail!("{} and {} have the same name", other.display(), file.display());
        }
    }
    ensure!(!from.is_empty(), "{} holds nothing to release", built.display());
    let shell = empty(out)?;
    for (name, file) in &from {
        shell.copy_file(file, name)?;
    }
    if let Some(provenance) = provenance(variable)? {
        shell.write_file(PROVENANCE, serde_json::to_string_pretty(&provenance)?)?;
    }
    let mut checksums = String::new();
    for file in files_below(out)? {
        let bytes = shell.read_binary_file(&file)?;
        let name = file.file_name().expect("a file has a name").to_string_lossy();
        checksums += &format!("{}  {name}\n", sha256(&bytes));
    }
    Ok(shell.write_file(CHECKSUMS, checksums)?)
}

/// A shell in the folder `out`, which is made anew.
fn empty(out: &Path) -> Result<Shell> {
    let shell = Shell::new()?;
    shell.remove_path(out)?;
    shell.change_dir(shell.create_dir(out)?);
    Ok(shell)
}

/// The SLSA predicate (<https://slsa.dev/spec/v1.0/provenance>) of a run of GitHub Actions, from what the runner
/// tells its steps; nothing elsewhere, where nobody could vouch for it.
fn provenance(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Value>> {
    if variable("GITHUB_ACTIONS").as_deref() != Some("true") {
        return Ok(None);
    }
    let tell = |name: &str| variable(name).with_context(|| format!("the runner does not tell {name}"));
    let repository = format!("{}/{}", tell("GITHUB_SERVER_URL")?, tell("GITHUB_REPOSITORY")?);
    let (reference, commit) = (tell("GITHUB_REF")?, tell("GITHUB_SHA")?);
    let tag = format!("refs/tags/v{VERSION}");
    ensure!(reference == tag, "the release is of {reference}, and Cargo.toml's version wants {tag}");
    // `owner/name/.github/workflows/release.yml@refs/tags/v0.1.0`
    let workflow = tell("GITHUB_WORKFLOW_REF")?;
    let path = workflow.split('@').next().unwrap_or_default();
    let path = path.splitn(3, '/').nth(2).unwrap_or_default().to_owned();
    let run = format!(
        "{repository}/actions/runs/{}/attempts/{}",
        tell("GITHUB_RUN_ID")?,
        tell("GITHUB_RUN_ATTEMPT")?
    );
    Ok(Some(json!({
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {
                "workflow": { "ref": reference, "repository": repository, "path": path },
            },
            "internalParameters": { "github": { "event_name": tell("GITHUB_EVENT_NAME")? } },
            "resolvedDependencies": [
                { "uri": format!("git+{repository}@{reference}"), "digest": { "gitCommit": commit } },
            ],
        },
        "runDetails": {
            "builder": { "id": format!("{}/{workflow}", tell("GITHUB_SERVER_URL")?) },
            "metadata": { "invocationId": run },
        },
    })))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use tempfile::TempDir;

    fn names(folder: &Path) -> Vec<String> {
        let files = files_below(folder).unwrap();
        files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    fn runner(name: &str) -> Option<String> {
        let value = match name {
            "GITHUB_ACTIONS" => "true",
            "GITHUB_SERVER_URL" => "https://github.com",
            "GITHUB_REPOSITORY" => "owner/name",
            "GITHUB_REF" => "refs/tags/v0.1.0",
            "GITHUB_SHA" => "4b3f5e2",
            "GITHUB_WORKFLOW_REF" => "owner/name/.github/workflows/release.yml@refs/tags/v0.1.0",
            "GITHUB_RUN_ID" => "7",
            "GITHUB_RUN_ATTEMPT" => "1",
            "GITHUB_EVENT_NAME" => "push",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn machine(built: &Path, target: &str, chart: bool) {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies in the workspace");
        let made = TempDir::new().unwrap();
        let file = |name: &str| {
            let path = made.path().join(name);
            fs::write(&path, format!("{name} for {target}")).unwrap();
            path
        };
        let made = Made {
            target: target.to_owned(),
            binary: file("counter"),
            image: file("counter.tar"),
            parts: vec![],
            chart: chart.then(|| file("counter-chart.tgz")),
        };
        lay_out(root, &made, &built.join(target)).unwrap();
    }

    #[test]
    fn two_machines_make_one_release_whose_checksums_hold() {
        let folder = TempDir::new().unwrap();
        let (built, out) = (folder.path().join("built"), folder.path().join("out"));
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join("of an older release"), "").unwrap();
        machine(&built, "x86_64-unknown-linux-gnu", true);
        machine(&built, "aarch64-unknown-linux-gnu", false);
        gather(&built, &out, runner).unwrap();
        let expected = [
            "SHA256SUMS",
            "counter-0.1.0-linux-aarch64",
            "counter-0.1.0-linux-aarch64.cdx.json",
            "counter-0.1.0-linux-aarch64.image.tar",
            "counter-0.1.0-linux-x86_64",
            "counter-0.1.0-linux-x86_64.cdx.json",
            "counter-0.1.0-linux-x86_64.image.tar",
            "counter-chart.tgz",
            "provenance.json",
        ];
        assert_eq!(names(&out), expected.map(|name| name.replace("0.1.0", VERSION)));
        let holds = || {
            let check = ["--check", "--strict", CHECKSUMS];
            std::process::Command::new("sha256sum")
                .args(check)
                .current_dir(&out)
                .output()
                .unwrap()
                .status
                .success()
        };
        assert!(holds());
        fs::write(out.join("counter-chart.tgz"), "another").unwrap();
        assert!(!holds());
    }

    #[test]
    fn files_of_one_name_from_two_machines_are_refused() {
        let folder = TempDir::new().unwrap();
        let built = folder.path().join("built");
        machine(&built, "x86_64-unknown-linux-gnu", true);
        machine(&built, "aarch64-unknown-linux-gnu", true);
        let said = gather(&built, &folder.path().join("out"), runner).unwrap_err().to_string();
        assert!(said.contains("counter-chart.tgz have the same name"), "{said}");
    }

    #[test]
    fn what_is_to_be_gathered_is_not_emptied() {
        let folder = TempDir::new().unwrap();
        machine(folder.path(), "x86_64-unknown-linux-gnu", true);
        let made = names(folder.path());
        assert!(gather(folder.path(), folder.path(), runner).is_err());
        assert!(gather(folder.path(), &folder.path().join("x86_64-unknown-linux-gnu"), runner).is_err());
        assert_eq!(names(folder.path()), made);
    }

    #[test]
    fn provenance_names_the_commit_and_the_workflow_that_built_it() {
        let told = provenance(runner).unwrap().expect("a run of GitHub Actions");
        let workflow = &told["buildDefinition"]["externalParameters"]["workflow"];
        assert_eq!(workflow["path"], ".github/workflows/release.yml");
        assert_eq!(told["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"], "4b3f5e2");
        assert_eq!(
            told["runDetails"]["metadata"]["invocationId"],
            "https://github.com/owner/name/actions/runs/7/attempts/1"
        );
        assert_eq!(provenance(|_| None).unwrap(), None);
        let forgetful = |name: &str| runner(name).filter(|_| name != "GITHUB_SHA");
        assert_eq!(provenance(forgetful).unwrap_err().to_string(), "the runner does not tell GITHUB_SHA");
    }
}
