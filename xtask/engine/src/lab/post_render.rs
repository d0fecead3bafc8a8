//! Our part of `helm upgrade`: between rendering and installing, Helm hands the objects to a program of its user's
//! choice, which is this one. So Helm owns what was installed, as it was changed, and later upgrades keep working.
//!
//! Helm 4 finds that program in a plugin, and gives it the hooks as well; Helm 3 takes a path, and keeps the hooks.
//! <https://helm.sh/docs/topics/advanced/#post-rendering>

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::Value as Json;

use super::changes::{Changed, Changes};
use machine::command::Command;
use machine::print;

/// What the plugin is called, and the folder it lies in.
const PLUGIN: &str = "statefulset-lab";
/// Our subcommand that does it.
const SUBCOMMAND: &str = "post-render";

/// A way to have objects changed by Helm.
#[derive(Debug, Clone)]
pub(crate) struct PostRenderer {
    /// This program.
    program: PathBuf,
    /// Where plugins are, as commands name it; none for Helm 3, which knows no plugins of this kind.
    plugins: Option<PathBuf>,
}

/// This program for as long as it runs, also when a build has put another one in its place meanwhile: its path then
/// leads to that one, or nowhere.
fn this_program() -> Result<PathBuf> {
    match cfg!(target_os = "linux") {
        true => Ok(format!("/proc/{}/exe", std::process::id()).into()),
        false => std::env::current_exe().context("this program has no path"),
    }
}

impl PostRenderer {
    /// Makes one in `folder`.
    ///
    /// # Errors
    /// The plugin can't be written.
    pub(crate) fn install(folder: &Path, helm: &semver::Version) -> Result<Self> {
        let program = this_program()?;
        let plugins = (helm.major >= 4).then(|| folder.join("plugins"));
        if let Some(plugins) = &plugins {
            let (dir, file) = (plugins.join(PLUGIN), plugins.join(PLUGIN).join("plugin.yaml"));
            let manifest = serde_json::json!({
                "apiVersion": "v1", "type": "postrenderer/v1", "name": PLUGIN, "version": "1.0.0",
                "runtime": "subprocess",
                "runtimeConfig": {"platformCommand": [{"command": program, "args": [SUBCOMMAND]}]},
            });
            std::fs::create_dir_all(&dir)
                .and_then(|()| std::fs::write(&file, manifest.to_string()))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(Self { program, plugins })
    }

    /// One that nobody calls, for tests of what installs nothing.
    #[cfg(test)]
    pub(crate) fn pretended() -> Self {
        Self { program: "false".into(), plugins: None }
    }

    /// Helm, handing what it renders to us, with the file that says what is changed.
    pub(crate) fn with(&self, helm: Command, changes: &Path) -> Command {
        let arg = "--post-renderer-args";
        match &self.plugins {
            Some(plugins) => {
                helm.env("HELM_PLUGINS", plugins).args(["--post-renderer", PLUGIN]).arg(arg).arg(changes)
            }
            None => {
                let ours = helm.arg("--post-renderer").arg(&self.program).args([arg, SUBCOMMAND]);
                ours.arg(arg).arg(changes)
            }
        }
    }
}

/// Where it is written what was changed, beside the file that says what shall be.
fn answer(changes: &Path) -> PathBuf {
    changes.with_extension("changed.json")
}

/// Writes what shall be changed.
///
/// # Errors
/// It can't be written.
pub(crate) fn ask(file: &Path, changes: &Changes) -> Result<()> {
    let failed = || format!("cannot write {}", file.display());
    std::fs::create_dir_all(file.parent().unwrap_or(Path::new("."))).with_context(failed)?;
    // What was changed the last time is no answer.
    std::fs::remove_file(answer(file)).ok();
    std::fs::write(file, serde_json::to_string_pretty(changes)? + "\n").with_context(failed)
}

/// Reads what was changed. `None` where Helm never came to it.
pub(crate) fn answered(file: &Path) -> Option<Changed> {
    serde_json::from_str(&std::fs::read_to_string(answer(file)).ok()?).ok()
}

/// `engine post-render FILE`: objects come in, and go out as they are wanted.
///
/// # Errors
/// The file can't be read, what comes in is no YAML.
pub(crate) fn post_render(file: &Path) -> Result<()> {
    let failed = || format!("cannot read {}", file.display());
    let changes: Changes =
        serde_json::from_str(&std::fs::read_to_string(file).with_context(failed)?).with_context(failed)?;
    let mut rendered = String::new();
    std::io::stdin().read_to_string(&mut rendered).context("cannot read what Helm renders")?;
    let (out, changed) = rewritten(&rendered, &changes)?;
    let file = answer(file);
    std::fs::write(&file, serde_json::to_string(&changed)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    print::result(out.trim_end());
    Ok(())
}

/// The objects as they are wanted. What is not changed stays as it is written: two readers of YAML may disagree.
fn rewritten(rendered: &str, changes: &Changes) -> Result<(String, Changed)> {
    let texts: Vec<&str> = documents(rendered);
    let before: Vec<Json> = texts.iter().map(|text| parse_one(text)).collect::<Result<_>>()?;
    let mut after = before.clone();
    let changed = changes.make(&mut after);
    let out = after.iter().map(|object| match before.iter().position(|old| old == object) {
        Some(at) => texts[at].trim_end().to_owned(),
        // JSON is YAML, and keeps every string a string.
        None => object.to_string(),
    });
    Ok((out.collect::<Vec<_>>().join("\n---\n"), changed))
}

/// The documents of a stream that hold something.
fn documents(stream: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut begins, mut at) = (0, 0);
    for line in stream.split_inclusive('\n') {
        if line.trim_end() == "---" {
            found.push(&stream[begins..at]);
            begins = at + line.len();
        }
        at += line.len();
    }
    found.push(&stream[begins..]);
    let holds = |text: &&str| text.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#'));
    found.into_iter().filter(holds).collect()
}

/// As Helm reads it: of two entries of the same name the last holds, and a mode is octal.
fn parse_one(text: &str) -> Result<Json> {
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::LastWins;
    options.legacy_octal_numbers = true;
    options.with_snippet = false;
    serde_saphyr::from_str_with_options(text, options).map_err(|error| anyhow!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::settings::Wanted;
    use serde_json::json;

    const RENDERED: &str = "kind: ConfigMap\nmetadata:\n  name: a\ndata:\n  a: \"1\"\n  a: \"2\"\n---\n# nothing\n---\n\
        apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: web\nspec:\n  replicas: 1\n";

    #[test]
    fn what_is_changed_is_written_anew_and_the_rest_stays_as_it_is() {
        let set = vec![Wanted { field: "replicas".to_owned(), value: json!(3) }];
        let (out, changed) = rewritten(RENDERED, &Changes { set, ..Changes::default() }).unwrap();
        let (first, second) = out.split_once("\n---\n").unwrap();
        assert_eq!(first, "kind: ConfigMap\nmetadata:\n  name: a\ndata:\n  a: \"1\"\n  a: \"2\"");
        assert_eq!(parse_one(second).unwrap()["spec"], json!({"replicas": 3}));
        assert_eq!(changed.set, ["replicas"]);
    }

    #[test]
    fn a_mode_is_octal_as_helm_reads_it() {
        assert_eq!(parse_one("defaultMode: 0644").unwrap(), json!({"defaultMode": 420}));
    }

    #[test]
    fn helm_4_finds_us_in_a_plugin_and_helm_3_by_our_path() {
        let dir = tempfile::tempdir().unwrap();
        let command = |version: &str| {
            let ours = PostRenderer::install(dir.path(), &version.parse().unwrap()).unwrap();
            ours.with(Command::new("helm"), Path::new("a.json")).argv().join(" ")
        };
        assert_eq!(command("4.3.1"), "helm --post-renderer statefulset-lab --post-renderer-args a.json");
        let exe = this_program().unwrap();
        let three = format!("helm --post-renderer {} --post-renderer-args post-render", exe.display());
        assert_eq!(command("3.18.0"), format!("{three} --post-renderer-args a.json"));
        let manifest = dir.path().join("plugins/statefulset-lab/plugin.yaml");
        let manifest: Json = serde_json::from_str(&std::fs::read_to_string(manifest).unwrap()).unwrap();
        assert_eq!(manifest["runtimeConfig"]["platformCommand"][0]["args"], json!(["post-render"]));
    }
}
