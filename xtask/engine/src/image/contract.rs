//! What any archive of the image must hold, whoever built it: its config, its files and their rights, its size.
//!
//! Both archive formats are read (Docker's with `manifest.json`, OCI's with `index.json`), layers plain or gzipped.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::inspect::{Archive, Kind, Node, Tree};

/// The name that charts and `kind load` know the image by; its tag is the workspace's version.
pub const NAME: &str = "counter";
/// The version of the workspace, and so of the counter.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// User and group, by number: `runAsNonRoot` cannot judge a name.
pub const USER: &str = "65532:65532";
pub const ENTRYPOINT: &str = "/bin/counter";
pub const PORT: &str = "8000/tcp";
pub const VOLUME: &str = "/data";
/// The counter's licence and busybox's. A builder that puts more inside adds to it.
pub const LICENSES: &str = "Apache-2.0 AND GPL-2.0-only";
/// What the lab types into pods.
pub const TOOLS: [&str; 5] = ["sh", "cat", "nslookup", "touch", "kill"];

/// Bytes an archive of the built-in builder may take: a static counter and a busybox.
pub const CARGO_LIMIT_BYTES: u64 = 6 * 1024 * 1024;
/// Bytes an archive built by Nix may take: the same, and glibc with what it needs.
pub const NIX_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

const UID: u64 = 65532;

/// Something that is not as agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The field of the config, or the path in the image.
    pub place: String,
    pub found: String,
    pub expected: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}, expected {}", self.place, self.found, self.expected)
    }
}

/// Reads the archive and says everything in it that is not as agreed: nothing, for a good one.
///
/// An archive that cannot be read, or whose digests do not match its content, is an error.
pub fn check(archive: &Path, limit_bytes: u64) -> Result<Vec<Finding>> {
    let read = || -> Result<Vec<Finding>> {
        let mut findings = Findings::default();
        let size = fs::metadata(archive)?.len();
        findings.expect(
            size <= limit_bytes,
            "size",
            format!("{size} bytes"),
            format!("at most {limit_bytes}"),
        );
        let archive = Archive::open(archive)?;
        let tree = archive.files()?;
        names(&archive.names, &mut findings);
        config(&archive.config, &mut findings);
        files(&tree, &mut findings);
        programs(&archive.config["config"], &tree, &mut findings);
        Ok(findings.0)
    };
    read().with_context(|| format!("could not read the image archive {}", archive.display()))
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn expect(
        &mut self,
        holds: bool,
        place: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) {
        if !holds {
            self.0.push(Finding { place: place.into(), found: found.into(), expected: expected.into() });
        }
    }
}

/// `kind load` imports the image under the name in the archive: without one, no pod finds it.
fn names(names: &[String], findings: &mut Findings) {
    let expected = format!("{NAME}:{VERSION}");
    // Docker writes the short name, podman and containerd may write it out.
    let short = |name: &String| {
        let name = name
            .strip_prefix("docker.io/library/")
            .or_else(|| name.strip_prefix("localhost/"))
            .unwrap_or(name);
        name == expected
    };
    findings.expect(!names.is_empty() && names.iter().all(short), "name", format!("{names:?}"), expected);
}

fn config(image: &Value, findings: &mut Findings) {
    let config = &image["config"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // What may be there once only are the keys of an object.
    let listed = |field: &str| match &config[field] {
        Value::Object(keys) => keys.keys().cloned().collect(),
        list => list.as_array().into_iter().flatten().map(text).collect::<Vec<_>>(),
    };
    let list = |field: &str, expected: &[&str], findings: &mut Findings| {
        let found = listed(field);
        findings.expect(
            found == expected,
            format!("config.{field}"),
            format!("{found:?}"),
            format!("{expected:?}"),
        );
    };

    let (os, user) = (text(&image["os"]), text(&config["User"]));
    findings.expect(os == "linux", "os", os, "linux");
    findings.expect(user == USER, "config.User", format!("{user:?}"), USER);
    list("Entrypoint", &[ENTRYPOINT], findings);
    list("Cmd", &[], findings);
    list("ExposedPorts", &[PORT], findings);
    list("Volumes", &[VOLUME], findings);

    let label = |name: &str| text(&config["Labels"][format!("org.opencontainers.image.{name}")]);
    for (name, expected) in [("title", Some(NAME)), ("version", Some(VERSION)), ("revision", None)] {
        let found = label(name);
        let holds = expected.map_or(!found.is_empty(), |expected| found == expected);
        findings.expect(
            holds,
            format!("label org.opencontainers.image.{name}"),
            format!("{found:?}"),
            expected.unwrap_or("a commit"),
        );
    }
    let licenses = label("licenses");
    let more =
        licenses.strip_prefix(LICENSES).is_some_and(|more| more.is_empty() || more.starts_with(" AND "));
    findings.expect(more, "label org.opencontainers.image.licenses", format!("{licenses:?}"), LICENSES);
}

/// Nobody becomes somebody else, and the user writes where the data is, and nowhere else.
fn files(files: &Tree, findings: &mut Findings) {
    for (path, node) in files.iter() {
        let mode = format!("mode {:04o}, owner {}:{}", node.mode, node.uid, node.gid);
        if matches!(node.kind, Kind::Other) {
            findings.expect(false, path, "a device, a pipe or a socket", "a file, a folder or a link");
            continue;
        }
        // The rights of a link are those of what it leads to.
        if matches!(node.kind, Kind::Symlink(_)) {
            continue;
        }
        let folder = matches!(node.kind, Kind::Folder);
        findings.expect(node.mode & 0o6000 == 0, path, &mode, "neither setuid nor setgid");
        if path == "/tmp" {
            findings.expect(folder && node.mode == 0o1777, path, mode, "a folder for everybody, mode 1777");
            continue;
        }
        findings.expect(node.mode & 0o002 == 0, path, &mode, "not writable by everybody");
        let owned = node.uid == UID && node.mode & 0o200 != 0 || node.gid == UID && node.mode & 0o020 != 0;
        findings.expect(!owned || path == VOLUME, path, &mode, format!("not writable by {USER}"));
    }
    let data = files.get(VOLUME);
    let writable = |node: &Node| {
        matches!(node.kind, Kind::Folder) && node.uid == UID && node.gid == UID && node.mode & 0o700 == 0o700
    };
    let found = data.map_or("absent".to_owned(), |node| {
        format!("mode {:04o}, owner {}:{}", node.mode, node.uid, node.gid)
    });
    findings.expect(data.is_some_and(writable), VOLUME, found, format!("a folder that {USER} may write"));
}

/// The counter starts, and what is typed into pods is found on `PATH` and runs as the user.
fn programs(config: &Value, files: &Tree, findings: &mut Findings) {
    let executable = |path: &str| {
        let (path, node) = files.resolve(path)?;
        (matches!(node.kind, Kind::File) && runs_for_user(node)).then_some(path)
    };
    let counter = executable(ENTRYPOINT);
    findings.expect(
        counter.is_some(),
        ENTRYPOINT,
        "absent or not executable",
        format!("a program for {USER}"),
    );

    let env = config["Env"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let env: BTreeMap<_, _> = env.filter_map(|variable| variable.split_once('=')).collect();
    // What containerd gives a container whose image names no PATH.
    let path =
        env.get("PATH").copied().unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for tool in TOOLS {
        let found = path.split(':').find_map(|folder| executable(&format!("{folder}/{tool}")));
        // Every name is the one busybox, by a link of either kind.
        let busybox = found.as_ref().is_some_and(|found| files.has_name(found, "busybox"));
        let found = found.unwrap_or_else(|| format!("absent from {path}"));
        findings.expect(busybox, tool, found, "a link to busybox");
    }
}

fn runs_for_user(node: &Node) -> bool {
    let bit = if node.uid == UID {
        0o100
    } else if node.gid == UID {
        0o010
    } else {
        0o001
    };
    node.mode & bit != 0
}

#[cfg(test)]
mod tests {
    use super::super::inspect::fixture::{Format, ImageBuilder};
    use super::*;

    fn good() -> ImageBuilder {
        ImageBuilder::new(serde_json::json!({
            "User": "65532:65532",
            "Entrypoint": ["/bin/counter"],
            "Env": ["PATH=/bin"],
            "ExposedPorts": { "8000/tcp": {} },
            "Volumes": { "/data": {} },
            "Labels": {
                "org.opencontainers.image.title": "counter",
                "org.opencontainers.image.version": VERSION,
                "org.opencontainers.image.revision": "4b3f5e2",
                "org.opencontainers.image.licenses": LICENSES,
            },
        }))
        .name(&format!("counter:{VERSION}"))
        .folder("bin", 0o755, 0)
        .folder("data", 0o755, 65532)
        .folder("tmp", 0o1777, 0)
        .file("bin/busybox", 0o755, 0)
        .file("bin/counter", 0o755, 0)
        .symlink("bin/sh", "busybox")
        .symlink("bin/cat", "/bin/busybox")
        .symlink("bin/nslookup", "../bin/busybox")
        .hard_link("bin/touch", "bin/busybox")
        .hard_link("bin/kill", "bin/busybox")
    }

    fn findings(image: &ImageBuilder, format: Format) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("image.tar");
        fs::write(&archive, image.archive(format)).unwrap();
        check(&archive, CARGO_LIMIT_BYTES).unwrap().iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_good_image_passes_in_every_format() {
        for format in [Format::Docker, Format::Oci, Format::OciGzip, Format::Both] {
            assert_eq!(findings(&good(), format), [""; 0]);
        }
    }

    #[test]
    fn a_program_reached_through_links_between_folders_is_found() {
        let image = good()
            .without("bin/counter")
            .folder("nix/store/counter/bin", 0o555, 0)
            .file("nix/store/counter/bin/counter", 0o555, 0)
            .symlink("bin/counter", "/nix/store/link/bin/counter")
            .symlink("nix/store/link", "counter");
        assert_eq!(findings(&image, Format::Docker), [""; 0]);
    }

    #[test]
    fn every_departure_from_the_contract_is_named() {
        let departures: Vec<(ImageBuilder, &str)> = vec![
            (good().config("User", "0:0".into()), "config.User: \"0:0\", expected 65532:65532"),
            (good().config("User", "".into()), "config.User"),
            (good().config("Entrypoint", serde_json::json!(["counter"])), "config.Entrypoint"),
            (good().config("Cmd", serde_json::json!(["sh"])), "config.Cmd"),
            (good().config("ExposedPorts", serde_json::json!({ "80/tcp": {} })), "config.ExposedPorts"),
            (good().config("Volumes", serde_json::json!({})), "config.Volumes"),
            (good().config("Labels", serde_json::json!({})), "label org.opencontainers.image.revision"),
            (good().name("counter:latest"), "name: [\"counter:latest\"]"),
            (good().file("bin/su", 0o4755, 0), "/bin/su: mode 4755, owner 0:0, expected neither setuid"),
            (good().file("bin/wall", 0o2755, 0), "/bin/wall: mode 2755"),
            (
                good().file("etc/passwd", 0o666, 0),
                "/etc/passwd: mode 0666, owner 0:0, expected not writable by everybody",
            ),
            (
                good().file("bin/own", 0o755, 65532),
                "/bin/own: mode 0755, owner 65532:65532, expected not writable",
            ),
            (good().folder("tmp", 0o777, 0), "/tmp: mode 0777"),
            (
                good().folder("data", 0o755, 0),
                "/data: mode 0755, owner 0:0, expected a folder that 65532:65532 may write",
            ),
            (good().without("data"), "/data: absent"),
            (good().file("bin/counter", 0o644, 0), "/bin/counter: absent or not executable"),
            (good().symlink("bin/counter", "/nowhere"), "/bin/counter: absent or not executable"),
            (good().symlink("bin/counter", "counter"), "/bin/counter: absent or not executable"),
            (good().without("bin/nslookup"), "nslookup: absent from /bin"),
            (good().file("bin/kill", 0o755, 0), "kill: /bin/kill, expected a link to busybox"),
            (good().config("Env", serde_json::json!(["PATH=/sbin"])), "sh: absent from /sbin"),
            (good().device("dev/console"), "/dev/console: a device"),
            (good().file("padding", 0o644, 0).padding(CARGO_LIMIT_BYTES as usize), "size: "),
        ];
        for (image, named) in departures {
            for format in [Format::Docker, Format::Oci] {
                let found = findings(&image, format);
                assert!(
                    found.iter().any(|finding| finding.contains(named)),
                    "{named:?} is not in {found:#?}"
                );
            }
        }
    }

    #[test]
    fn what_a_later_layer_deletes_is_not_in_the_image() {
        let image = good().file("bin/su", 0o4755, 0).next_layer().file("bin/.wh.su", 0o644, 0);
        assert_eq!(findings(&image, Format::Docker), [""; 0]);
        let image = good().next_layer().file("bin/.wh..wh..opq", 0o644, 0);
        assert!(
            findings(&image, Format::Docker)
                .iter()
                .any(|finding| finding.starts_with("/bin/counter: absent"))
        );
    }
}
