//! An image archive read into its config and the files that a container of it sees.

#[cfg(test)]
pub mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use serde_json::Value;
use tar::EntryType;

use machine::digest::{Hashing, sha256};

/// Links followed before a path is taken for a loop, as Linux does.
const LINKS: usize = 40;

/// An image in its archive: a node image takes a gigabyte, and stays where it is.
pub struct Archive {
    /// The names it is imported under.
    pub names: Vec<String>,
    /// `sha256:` and the digest of its config, as `docker images` and the kubelet know it.
    pub id: String,
    /// Its config, by the words of the image specification.
    pub config: Value,
    members: Members,
    /// Where in the archive each layer is, from the lowest up.
    layers: Vec<Member>,
}

impl Archive {
    /// Opens a Docker archive, an OCI archive, or one that is both.
    pub fn open(path: &Path) -> Result<Self> {
        let members = Members::of(path)?;
        let (names, config, layers) = match (members.find("index.json"), members.find("manifest.json")) {
            (Ok(_), Ok(_)) => both(&members)?,
            (Ok(_), Err(_)) => oci(&members)?,
            (Err(_), Ok(_)) => docker(&members)?,
            (Err(_), Err(_)) => bail!("it holds neither manifest.json nor index.json"),
        };
        let config = members.read(config)?;
        let id = digest(&config);
        let config: Value = serde_json::from_slice(&config).context("its config is no image config")?;
        let diff_ids = config["rootfs"]["diff_ids"].as_array().context("its config names no layers")?;
        let (ours, theirs) = (layers.len(), diff_ids.len());
        ensure!(ours == theirs, "it has {ours} layers, its config {theirs}");
        Ok(Self { names, id, config, members, layers })
    }

    /// How many layers it has.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The digest of a layer without its compression.
    pub fn diff_id(&self, layer: usize) -> &str {
        self.config["rootfs"]["diff_ids"][layer].as_str().unwrap_or_default()
    }

    /// What `read` makes of a layer, which must be the one that the config names.
    pub fn layer<T>(&self, layer: usize, read: impl FnOnce(&mut dyn Read) -> Result<T>) -> Result<T> {
        let mut plain = Digested {
            inner: plain(self.members.open(self.layers[layer])?)?,
            hash: Hashing::new(io::sink()),
        };
        let made = read(&mut plain)?;
        io::copy(&mut plain, &mut io::sink()).context("not to be read to its end")?;
        let (digest, diff_id) = (format!("sha256:{}", plain.hash.finish().1), self.diff_id(layer));
        ensure!(diff_id == digest, "the layer {diff_id} of the config has the digest {digest}");
        Ok(made)
    }

    /// What a container of it sees.
    pub fn files(&self) -> Result<Tree> {
        let mut files = Tree::default();
        for layer in 0..self.layers() {
            self.layer(layer, |layer| files.add_layer(layer))?;
        }
        Ok(files)
    }
}

type Parts = (Vec<String>, Member, Vec<Member>);

/// An OCI layout that `docker load` reads too: whoever reads it, it is the same image.
fn both(members: &Members) -> Result<Parts> {
    let (mut names, config, layers) = oci(members)?;
    let (other_names, other_config, other_layers) = docker(members)?;
    let pairs = layers.iter().chain([&config]).zip(other_layers.iter().chain([&other_config]));
    let mut same = layers.len() == other_layers.len();
    for (one, other) in pairs {
        same = same && (one == other || members.digest(*one)? == members.digest(*other)?);
    }
    ensure!(same, "index.json and manifest.json hold different images");
    names.extend(other_names);
    Ok((names, config, layers))
}

fn docker(members: &Members) -> Result<Parts> {
    let manifest: Value = serde_json::from_slice(&members.read(members.find("manifest.json")?)?)?;
    let images = manifest.as_array().context("manifest.json is no list")?;
    let [image] = images.as_slice() else { bail!("it holds {} images, not one", images.len()) };
    let layers = strings(&image["Layers"]).iter().map(|layer| members.find(layer)).collect::<Result<_>>()?;
    let config = image["Config"].as_str().context("manifest.json names no config")?;
    Ok((strings(&image["RepoTags"]), members.find(config)?, layers))
}

fn oci(members: &Members) -> Result<Parts> {
    let index: Value = serde_json::from_slice(&members.read(members.find("index.json")?)?)?;
    let images = index["manifests"].as_array().context("index.json names no image")?;
    let [image] = images.as_slice() else { bail!("it holds {} images, not one", images.len()) };
    let annotations = &image["annotations"];
    // containerd's key holds the whole name; OCI's own may hold only the tag.
    let name = annotations["io.containerd.image.name"].as_str();
    let name = name.or_else(|| annotations["org.opencontainers.image.ref.name"].as_str());
    let manifest: Value = serde_json::from_slice(&members.read(members.blob(image)?)?)?;
    let layers = manifest["layers"].as_array().context("its manifest names no layers")?;
    let layers = layers.iter().map(|layer| members.blob(layer)).collect::<Result<_>>()?;
    Ok((name.map(str::to_owned).into_iter().collect(), members.blob(&manifest["config"])?, layers))
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The files of the archive itself, by name.
struct Members {
    /// The archive, without its compression.
    file: PathBuf,
    by_name: BTreeMap<String, Member>,
    /// Where an archive that came compressed lies without.
    _plain: Option<tempfile::NamedTempFile>,
}

/// Where a file of the archive begins, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    at: u64,
    bytes: u64,
}

impl Members {
    fn of(path: &Path) -> Result<Self> {
        let (mut file, mut unpacked) = (path.to_owned(), None);
        if let Packed::Gzip(mut packed) = Packed::of(File::open(path)?)? {
            let mut plain = tempfile::NamedTempFile::new()?;
            io::copy(&mut packed, &mut plain).context("not gzip to its end")?;
            file = plain.path().to_owned();
            unpacked = Some(plain);
        }
        let (mut by_name, mut links) = (BTreeMap::new(), Vec::new());
        for entry in tar::Archive::new(BufReader::new(File::open(&file)?)).entries_with_seek()? {
            let entry = entry?;
            let path = absolute(&entry.path_bytes());
            match entry.header().entry_type() {
                EntryType::Regular => {
                    let member = Member { at: entry.raw_file_position(), bytes: entry.size() };
                    by_name.insert(path[1..].to_owned(), member);
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
            if let Some(member) = by_name.get(&target[1..]).copied() {
                by_name.insert(path, member);
            }
        }
        Ok(Self { file, by_name, _plain: unpacked })
    }

    fn find(&self, name: &str) -> Result<Member> {
        self.by_name.get(name).copied().with_context(|| format!("it has no {name}"))
    }

    fn open(&self, member: Member) -> Result<io::Take<File>> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(member.at))?;
        Ok(file.take(member.bytes))
    }

    fn read(&self, member: Member) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(member)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn digest(&self, member: Member) -> Result<String> {
        let mut hash = Hashing::new(io::sink());
        io::copy(&mut self.open(member)?, &mut hash)?;
        Ok(format!("sha256:{}", hash.finish().1))
    }

    /// The content that an OCI descriptor names by its digest.
    fn blob(&self, descriptor: &Value) -> Result<Member> {
        let named = descriptor["digest"].as_str().context("a descriptor without a digest")?;
        let member = self.find(&format!("blobs/{}", named.replace(':', "/")))?;
        let digest = self.digest(member)?;
        ensure!(named == digest, "the blob {named} has the digest {digest}");
        Ok(member)
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// Content with its compression, or without.
enum Packed<R: Read> {
    Not(BufReader<R>),
    Gzip(GzDecoder<BufReader<R>>),
}

impl<R: Read> Packed<R> {
    fn of(content: R) -> Result<Self> {
        let mut content = BufReader::with_capacity(1 << 20, content);
        let magic = io::BufRead::fill_buf(&mut content)?;
        ensure!(
            !magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
            "it is compressed with zstd; this check reads gzip and none"
        );
        let gzip = magic.starts_with(&[0x1f, 0x8b]);
        Ok(if gzip { Self::Gzip(GzDecoder::new(content)) } else { Self::Not(content) })
    }
}

/// Content without its compression.
fn plain(content: io::Take<File>) -> Result<Box<dyn Read>> {
    Ok(match Packed::of(content)? {
        Packed::Not(plain) => Box::new(plain),
        Packed::Gzip(plain) => Box::new(plain),
    })
}

/// Takes the digest of what is read.
struct Digested<R> {
    inner: R,
    hash: Hashing<io::Sink>,
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        io::Write::write_all(&mut self.hash, &bytes[..read])?;
        Ok(read)
    }
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

    fn add_layer(&mut self, layer: &mut dyn Read) -> Result<()> {
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

    fn add(&mut self, path: &str, entry: &tar::Entry<'_, impl Read>) -> Result<()> {
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
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        match Archive::open(file.path()).and_then(|archive| archive.files()) {
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
