//! The image without Nix: the counter as a static binary, Debian's static busybox for the shell, nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use archive::{Image, Layer, LayerWriter};
use serde_json::{Value, json};

use super::Part;
use super::contract;
use super::inputs::Fingerprint;
use machine::advice::advised;
use machine::command::Command;
use machine::progress::Task;
use machine::surroundings::Surroundings;
use machine::tools::elf::is_static;
use machine::tools::{host_of, static_busybox};

/// User and group the counter runs as, as [`contract::USER`] has them.
const UID: u32 = 65532;
/// A cold build on one slow core; a warm one takes seconds.
const BUILD_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// A change of the code that builds is a change of the image.
const BUILDER_CODE: &str = concat!(
    include_str!("cargo.rs"),
    include_str!("../../../archive/src/lib.rs"),
    include_str!("../../../archive/src/layer.rs")
);

/// Where to build, and in what surroundings.
#[derive(Debug)]
pub(super) struct Site {
    /// The source tree.
    pub root: PathBuf,
    /// Cargo's target folder: not the one of the development build, whose flags differ.
    pub target: PathBuf,
    /// Where the build's output is kept.
    pub log: PathBuf,
    /// None of them may change a byte of the image.
    pub surroundings: Surroundings,
}

/// What the machine gives to the image, besides the sources.
#[derive(Debug)]
pub(super) struct Parts {
    host: String,
    rustc: String,
    libc: PathBuf,
    busybox: PathBuf,
    busybox_binary: Vec<u8>,
}

impl Parts {
    /// Looks for the toolchain, the static C library and busybox.
    ///
    /// # Errors
    /// Names what is missing and what provides it.
    pub(super) async fn find() -> Result<Self> {
        let rustc = Command::new("rustc").arg("-vV").read().await.context("no Rust toolchain answers")?;
        let host = host_of(&rustc)?.to_owned();
        if !host.contains("-linux-") {
            bail!(advised(
                format!("the cargo builder makes Linux images on Linux, and this is {host}"),
                "cargo xtask image --builder nix"
            ));
        }
        let libc = if host.ends_with("-musl") { PathBuf::new() } else { static_libc().await? };
        let busybox = static_busybox()?;
        let busybox_binary =
            std::fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
        Ok(Self { host, rustc, libc, busybox, busybox_binary })
    }

    /// Target triple of the counter: that of this machine's compiler.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// What goes into the image and no crate is: for the bill of materials.
    ///
    /// # Errors
    /// When one doesn't tell its version.
    pub(super) async fn of_bill(&self) -> Result<Vec<Part>> {
        let part = |name: &str, version: &str, license: &str| Part {
            name: name.to_owned(),
            version: version.to_owned(),
            license: license.to_owned(),
            package_type: "generic".to_owned(),
        };
        let said = Command::new(&self.busybox).arg("busybox").read().await?;
        let version = busybox_version(&said)
            .with_context(|| format!("{} doesn't tell its version", self.busybox.display()))?;
        let mut parts = vec![part("busybox", version, "GPL-2.0-only")];
        if self.host.ends_with("-gnu") {
            let said = Command::new("getconf").arg("GNU_LIBC_VERSION").read().await?;
            let version =
                said.trim().strip_prefix("glibc ").context("the C library doesn't tell its version")?;
            parts.push(part("glibc", version, "LGPL-2.1-or-later"));
        }
        Ok(parts)
    }

    /// The fingerprint of an image made of the sources in `root` and of these parts.
    ///
    /// # Errors
    /// When a source can't be read.
    pub(super) fn fingerprint(&self, root: &Path, revision: &str) -> Result<String> {
        let mut fingerprint = Fingerprint::of_sources(root, BUILDER_CODE)?;
        fingerprint.add("name", super::NAME.as_bytes());
        fingerprint.add("revision", revision.as_bytes());
        fingerprint.add("rustc", self.rustc.as_bytes());
        fingerprint.add("busybox", &self.busybox_binary);
        // Megabytes that change with a package upgrade only: size and time of the file tell.
        if let Ok(libc) = self.libc.metadata() {
            let changed =
                libc.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            fingerprint.add("libc", format!("{} {changed:?}", libc.len()).as_bytes());
        }
        Ok(fingerprint.finish())
    }
}

/// An archive that was made.
pub(super) struct Made {
    /// Where it is.
    pub archive: PathBuf,
    /// The id of its image.
    pub id: String,
}

/// Builds an image from the sources' `revision`, and its archive in the folder `work`.
///
/// # Errors
/// When the counter doesn't compile or isn't static, or busybox doesn't run.
pub(super) async fn build(
    site: &Site,
    parts: &Parts,
    revision: &str,
    work: &Path,
    task: &Task,
) -> Result<Made> {
    let counter = compile(site, parts, task).await?;
    task.note("packing");
    let applets = Command::new(&parts.busybox).arg("--list").read().await?;
    let labels = [
        ("title", contract::NAME),
        ("version", contract::VERSION),
        ("revision", revision),
        ("licenses", contract::LICENSES),
    ];
    let labels = labels.map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.into()));
    let image = Image {
        tags: vec![super::NAME.to_owned()],
        layers: vec![base_layer(work, &parts.busybox_binary, &applets)?, counter_layer(work, &counter)?],
        config: json!({
            "User": contract::USER,
            "ExposedPorts": { (contract::PORT): {} },
            "Env": ["PATH=/bin"],
            "Entrypoint": [contract::ENTRYPOINT],
            "Volumes": { (contract::VOLUME): {} },
            "WorkingDir": "/",
            "Labels": Value::Object(labels.into_iter().collect()),
        }),
    };
    let archive = work.join("counter.tar");
    let id = archive::write_layout(&image, &archive)?;
    Ok(Made { archive, id })
}

/// The static release binary. Everything about the place it is built in is mapped away, so that another folder,
/// cargo home or registry mirror makes the same bytes.
async fn compile(site: &Site, parts: &Parts, task: &Task) -> Result<Vec<u8>> {
    // The sources of the crates have to be there before their folders can be named.
    let cargo = |args: &[&str]| {
        site.surroundings.command("cargo").dir(&site.root).args(args).deadline(BUILD_DEADLINE)
    };
    let on_line = |line: &str| task.note(line.trim());
    cargo(&["fetch", "--locked", "--target", &parts.host]).logged(&site.log, on_line).await?;
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    let mut hide = |path: &Path, name: &str| {
        flags.push(format!("--remap-path-prefix={}={name}", path.display()));
    };
    // rustc takes the last one that fits.
    let home = cargo_home()?;
    hide(&site.root, "/src");
    hide(&site.target, "/target");
    hide(&home, "/cargo");
    for registry in subfolders(&home.join("registry/src")) {
        hide(&registry, "/cargo/registry");
    }
    let target = site.target.to_str().context("the target folder's name is not UTF-8")?;
    let mut cargo = cargo(&[
        "build",
        "--release",
        "--locked",
        "--package",
        "counter",
        "--target",
        &parts.host,
        "--target-dir",
    ])
    .arg(target)
    .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
    .env("CARGO_INCREMENTAL", "0");
    // What a developer sets for builds of their own is not to leak into the image.
    for (key, _) in std::env::vars_os() {
        let key = key.to_string_lossy().into_owned();
        if key.starts_with("CARGO_PROFILE_") || ["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"].contains(&&*key) {
            cargo = cargo.env_remove(key);
        }
    }
    cargo.logged(&site.log, on_line).await?;
    let path = binary(site, parts);
    let binary = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if !is_static(&binary) {
        bail!("{} came out dynamic: it would not run in an image without a C library", path.display());
    }
    Ok(binary)
}

/// Where the counter lies once it is compiled.
pub(super) fn binary(site: &Site, parts: &Parts) -> PathBuf {
    site.target.join(&parts.host).join("release/counter")
}

fn base_layer(work: &Path, busybox: &[u8], applets: &str) -> Result<Layer> {
    let passwd = format!("root:x:0:0:root:/:/bin/sh\ncounter:x:{UID}:{UID}:counter:/data:/bin/sh\n");
    let group = format!("root:x:0:\ncounter:x:{UID}:\n");
    let mut layer = LayerWriter::create(work.join("base.layer"))?;
    layer
        .folder("bin", 0o755)?
        .folder("etc", 0o755)?
        .folder_of(UID, "data", 0o755)?
        .folder("tmp", 0o1777)?
        .text("etc/passwd", 0o644, passwd)?
        .text("etc/group", 0o644, group)?
        // Only what is built into a static glibc: any other source of names would be a library that isn't there.
        .text("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n")?
        .text("bin/busybox", 0o755, busybox)?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        layer.link(&format!("bin/{applet}"), "busybox")?;
    }
    layer.finish("busybox, and the few files a C library asks for")
}

fn counter_layer(work: &Path, binary: &[u8]) -> Result<Layer> {
    let mut layer = LayerWriter::create(work.join("counter.layer"))?;
    layer.folder("bin", 0o755)?.text("bin/counter", 0o755, binary)?;
    layer.finish("the counter")
}

async fn static_libc() -> Result<PathBuf> {
    let answer = Command::new("cc").arg("-print-file-name=libc.a").read().await;
    let path = PathBuf::from(answer.context("no C compiler answers to link the counter")?.trim());
    if !path.is_absolute() {
        // Asked for a file it doesn't have, the compiler returns the bare name.
        bail!(advised(
            "there is no static C library to link the counter with",
            "apt-get install libc6-dev (Debian, Ubuntu) or dnf install glibc-static (Fedora)"
        ));
    }
    Ok(path)
}

/// From its first line: `BusyBox v1.35.0 (Debian 1:1.35.0-4) multi-call binary.`
fn busybox_version(said: &str) -> Option<&str> {
    said.strip_prefix("BusyBox v")?.split_whitespace().next()
}

fn cargo_home() -> Result<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set: cargo's home is unknown")
}

fn subfolders(path: &Path) -> Vec<PathBuf> {
    // A cargo home without a registry has no folders to hide.
    std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busybox_tells_its_version_in_its_first_line() {
        let said =
            "BusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1+b1) multi-call binary.\nBusyBox is copyrighted";
        assert_eq!(busybox_version(said), Some("1.35.0"));
        assert_eq!(busybox_version("sh: not found"), None);
    }
}
