//! An image archive read into its config and the files that a container of it sees.

#[cfg(test)]
pub mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use oci_spec::image::ImageConfiguration;
use serde_json::Value;
use tar::EntryType;

use machine::digest::sha256;

/// Links followed before a path is taken for a loop, as Linux does.
const LINKS: usize = 40;

/// An image, in memory: ours take some megabytes.
pub struct Archive {
    /// The names it is imported under.
    pub names: Vec<String>,
    /// `sha256:` and the digest of its config, as `docker images` and the kubelet know it.
    pub id: String,
    pub config: ImageConfiguration,
    pub files: Tree,
}

impl Archive {
    /// Reads a Docker archive, an OCI archive, or one that is both, and checks its digests.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let members = Members::read(&plain(bytes)?)?;
        let (names, config, layers) = match (members.has("index.json"), members.has("manifest.json")) {
            (true, true) => both(&members)?,
            (true, false) => oci(&members)?,
            (false, true) => docker(&members)?,
            (false, false) => bail!("it holds neither manifest.json nor index.json"),
        };
        let id = digest(config);
        let config = ImageConfiguration::from_reader(config).context("its config is no image config")?;
        let diff_ids = config.rootfs().diff_ids();
        ensure!(
            diff_ids.len() == layers.len(),
            "it has {} layers, its config {}",
            layers.len(),
            diff_ids.len()
        );
        let mut files = Tree::default();
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            let layer = plain(layer)?;
            let digest = digest(&layer);
            ensure!(*diff_id == digest, "the layer {diff_id} of the config has the digest {digest}");
            files.add_layer(&layer)?;
        }
        Ok(Self { names, id, config, files })
    }
}

type Parts<'a> = (Vec<String>, &'a [u8], Vec<&'a [u8]>);

/// An OCI layout that `docker load` reads too: whoever reads it, it is the same image.
fn both(members: &Members) -> Result<Parts<'_>> {
    let (mut names, config, layers) = oci(members)?;
    let (other_names, other_config, other_layers) = docker(members)?;
    ensure!(
        config == other_config && layers == other_layers,
        "index.json and manifest.json hold different images"
    );
    names.extend(other_names);
    Ok((names, config, layers))
}

fn docker(members: &Members) -> Result<Parts<'_>> {
    let manifest: Value = serde_json::from_slice(members.get("manifest.json")?)?;
    let images = manifest.as_array().context("manifest.json is no list")?;
    let [image] = images.as_slice() else { bail!("it holds {} images, not one", images.len()) };
    let layers = strings(&image["Layers"]).iter().map(|layer| members.get(layer)).collect::<Result<_>>()?;
    let config = image["Config"].as_str().context("manifest.json names no config")?;
    Ok((strings(&image["RepoTags"]), members.get(config)?, layers))
}

fn oci(members: &Members) -> Result<Parts<'_>> {
    let index: Value = serde_json::from_slice(members.get("index.json")?)?;
    let images = index["manifests"].as_array().context("index.json names no image")?;
    let [image] = images.as_slice() else { bail!("it holds {} images, not one", images.len()) };
    let annotations = &image["annotations"];
    // containerd's key holds the whole name; OCI's own may hold only the tag.
    let name = annotations["io.containerd.image.name"].as_str();
    let name = name.or_else(|| annotations["org.opencontainers.image.ref.name"].as_str());
    let manifest: Value = serde_json::from_slice(members.blob(image)?)?;
    let layers = manifest["layers"].as_array().context("its manifest names no layers")?;
    let layers = layers.iter().map(|layer| members.blob(layer)).collect::<Result<_>>()?;
    Ok((name.map(str::to_owned).into_iter().collect(), members.blob(&manifest["config"])?, layers))
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The files of the archive itself.
struct Members(BTreeMap<String, Vec<u8>>);

impl Members {
    fn read(archive: &[u8]) -> Result<Self> {
        let mut members = BTreeMap::new();
        let mut links = Vec::new();
        for entry in tar::Archive::new(archive).entries()? {
            let mut entry = entry?;
            let path = absolute(&entry.path_bytes());
            match entry.header().entry_type() {
                EntryType::Regular => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes)?;
                    members.insert(path[1..].to_owned(), bytes);
                }
                // Docker and podman write a layer once and link to it.
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().context("a link without a target")?;
                    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                    links.push((path[1..].to_owned(), normal(folder, &String::from_utf8_lossy(&target))));
                }
                _ => {}
            }
        }
        for (path, target) in links {
            if let Some(bytes) = members.get(&target[1..]).cloned() {
                members.insert(path, bytes);
            }
        }
        Ok(Self(members))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn get(&self, name: &str) -> Result<&[u8]> {
        self.0.get(name).map(Vec::as_slice).with_context(|| format!("it has no {name}"))
    }

    /// The content that an OCI descriptor names by its digest.
    fn blob(&self, descriptor: &Value) -> Result<&[u8]> {
        let named = descriptor["digest"].as_str().context("a descriptor without a digest")?;
        let bytes = self.get(&format!("blobs/{}", named.replace(':', "/")))?;
        let digest = digest(bytes);
        ensure!(named == digest, "the blob {named} has the digest {digest}");
        Ok(bytes)
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// Content without its compression.
fn plain(bytes: &[u8]) -> Result<Vec<u8>> {
    ensure!(
        !bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
        "it is compressed with zstd; this check reads gzip and none"
    );
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes.to_vec());
    }
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).context("not gzip to its end")?;
    Ok(plain)
}

/// A file, a folder or a link of the image.
#[derive(Debug, Clone)]
pub struct Node {
    pub kind: Kind,
    /// Rights with setuid, setgid and sticky: at most 0o7777.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// The same number for names of the same file.
    inode: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Symlink(String),
    Other,
}

/// Every path of the image, absolute, with what is there after the last layer.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
    inodes: usize,
}

impl Tree {
    /// Paths and what is there, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Follows links in every part of `path`, as the kernel does, and returns where they end.
    pub fn resolve(&self, path: &str) -> Option<(String, &Node)> {
        let mut path = normal("", path);
        for _ in 0..LINKS {
            let link =
                path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]).find_map(|end| {
                    match &self.nodes.get(&path[..end])?.kind {
                        Kind::Symlink(target) => Some((end, target)),
                        _ => None,
                    }
                });
            let Some((end, target)) = link else {
                return self.nodes.get_key_value(&path).map(|(path, node)| (path.clone(), node));
            };
            let folder = path[..end].rsplit_once('/').map_or("", |(folder, _)| folder);
            path = normal("", &format!("{}{}", normal(folder, target), &path[end..]));
        }
        None
    }

    /// Whether the file at `path` has `name` too: its own, or by a hard link.
    pub fn has_name(&self, path: &str, name: &str) -> bool {
        let Some(inode) = self.nodes.get(path).map(|node| node.inode) else {
            return false;
        };
        let mut names = self.nodes.iter().filter(|(_, node)| node.inode == inode);
        names.any(|(path, _)| path.rsplit('/').next() == Some(name))
    }

    fn add_layer(&mut self, layer: &[u8]) -> Result<()> {
        // A whiteout hides what lower layers have, wherever it stands in its own.
        let mut mine = BTreeSet::new();
        for entry in tar::Archive::new(layer).entries()? {
            let entry = entry?;
            let path = absolute(&entry.path_bytes());
            let (folder, name) = path.rsplit_once('/').unwrap_or_default();
            if name == ".wh..wh..opq" {
                self.remove_below(folder, &mine);
            } else if let Some(hidden) = name.strip_prefix(".wh.") {
                let hidden = format!("{folder}/{hidden}");
                self.remove_below(&hidden, &mine);
                if !mine.contains(&hidden) {
                    self.nodes.remove(&hidden);
                }
            } else {
                self.add(&path, &entry)?;
                mine.insert(path);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, entry: &tar::Entry<'_, &[u8]>) -> Result<()> {
        let header = entry.header();
        let link = || {
            let name =
                entry.link_name_bytes().with_context(|| format!("{path} is a link without a target"))?;
            Ok::<_, anyhow::Error>(String::from_utf8_lossy(&name).into_owned())
        };
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Symlink(link()?),
            EntryType::Link => {
                let target = normal("", &link()?);
                let node = self
                    .nodes
                    .get(&target)
                    .with_context(|| format!("{path} is a link to {target}, which is absent"))?;
                self.nodes.insert(path.to_owned(), node.clone());
                return Ok(());
            }
            EntryType::XGlobalHeader => return Ok(()),
            _ => Kind::Other,
        };
        // What is no folder any more has nothing below it.
        if kind != Kind::Folder {
            self.remove_below(path, &BTreeSet::new());
        }
        self.inodes += 1;
        let node = Node {
            kind,
            mode: header.mode()? & 0o7777,
            uid: header.uid()?,
            gid: header.gid()?,
            inode: self.inodes,
        };
        self.nodes.insert(path.to_owned(), node);
        Ok(())
    }

    fn remove_below(&mut self, folder: &str, keep: &BTreeSet<String>) {
        let prefix = format!("{folder}/");
        self.nodes.retain(|path, _| !path.starts_with(&prefix) || keep.contains(path));
    }
}

/// `./bin/`, `bin` and `/bin` are all `/bin`.
fn absolute(path: &[u8]) -> String {
    normal("", &String::from_utf8_lossy(path))
}

/// `path` seen from `folder`, without `.`, `..` and doubled slashes; absolute.
fn normal(folder: &str, path: &str) -> String {
    let mut parts = Vec::new();
    let base = if path.starts_with('/') { "" } else { folder };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::fixture::{Format, ImageBuilder};
    use super::*;

    fn fault_of(bytes: &[u8]) -> String {
        match Archive::parse(bytes) {
            Ok(_) => panic!("it was read without a fault"),
            Err(fault) => format!("{fault:#}"),
        }
    }

    #[test]
    fn content_that_does_not_match_its_digest_is_no_image() {
        let image =
            ImageBuilder::new(serde_json::json!({})).name("counter:0.1.0").file("bin/counter", 0o755, 0);
        let changed = |format| {
            let mut bytes = image.archive(format);
            let at = bytes.windows(4).position(|bytes| bytes == b"xxxx").expect("the file's content");
            bytes[at] = b'y';
            fault_of(&bytes)
        };
        assert!(changed(Format::Docker).starts_with("the layer sha256:"));
        assert!(changed(Format::Oci).starts_with("the blob sha256:"));
    }

    #[test]
    fn a_truncated_or_foreign_archive_says_what_is_missing() {
        assert_eq!(fault_of(&[0; 1024]), "it holds neither manifest.json nor index.json");
        assert!(fault_of(&[0x28, 0xb5, 0x2f, 0xfd, 0]).contains("zstd"));
        assert!(fault_of(&[0x1f, 0x8b, 8, 0]).contains("not gzip"));
    }

    #[test]
    fn paths_are_written_one_way() {
        assert_eq!(normal("", "./bin//sh/"), "/bin/sh");
        assert_eq!(normal("/bin", "../sbin/./init"), "/sbin/init");
        assert_eq!(normal("/bin", "/etc"), "/etc");
        assert_eq!(normal("", "../../etc"), "/etc");
    }
}
