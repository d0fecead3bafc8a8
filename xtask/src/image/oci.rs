//! The archive an image travels in: layers packed the same way every time, an OCI layout that containerd and
//! podman read, and beside it the `manifest.json` that `docker load` reads.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use oci_spec::image::{
    Arch, Config, DescriptorBuilder, HistoryBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, RootFsBuilder, SCHEMA_VERSION, Sha256Digest,
};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Every time in an archive. The real ones would make two builds of the same tree differ.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// Files that change together. Entries are sorted by path when packed, whatever order they came in.
#[derive(Debug)]
pub struct Layer {
    /// Where the files come from, for `docker history`.
    pub origin: String,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    kind: tar::EntryType,
    mode: u32,
    owner: u32,
    content: Vec<u8>,
    target: String,
}

impl Layer {
    /// An empty layer.
    pub fn new(origin: impl Into<String>) -> Self {
        Self {
            origin: origin.into(),
            entries: BTreeMap::new(),
        }
    }

    /// Adds a folder; `owner` is its user and its group.
    pub fn folder(&mut self, path: &str, mode: u32, owner: u32) {
        let entry = Entry {
            kind: tar::EntryType::Directory,
            mode,
            owner,
            content: vec![],
            target: String::new(),
        };
        self.entries.insert(format!("{path}/"), entry);
    }

    /// Adds a file of root's.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        let entry = Entry {
            kind: tar::EntryType::Regular,
            mode,
            owner: 0,
            content: content.into(),
            target: String::new(),
        };
        self.entries.insert(path.to_owned(), entry);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        let entry = Entry {
            kind: tar::EntryType::Symlink,
            mode: 0o777,
            owner: 0,
            content: vec![],
            target: target.to_owned(),
        };
        self.entries.insert(path.to_owned(), entry);
    }

    fn pack(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            let mut header = header(entry.kind, entry.mode, entry.content.len());
            header.set_uid(entry.owner.into());
            header.set_gid(entry.owner.into());
            if entry.kind == tar::EntryType::Symlink {
                archive.append_link(&mut header, path, &entry.target)
            } else {
                archive.append_data(&mut header, path, entry.content.as_slice())
            }
            .with_context(|| format!("cannot pack {path}"))?;
        }
        Ok(archive.into_inner()?)
    }
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}

/// Packs an image called `name` (`counter:0.1.0`) into an archive.
///
/// containerd takes the name in `io.containerd.image.name` as it stands, so it is written out there:
/// `docker.io/library/counter:0.1.0` is what the kubelet makes of `counter:0.1.0` in a pod. The engine that kind
/// runs on has no say in it, since the archive goes straight into the node's containerd.
///
/// # Errors
/// When a path doesn't fit into a tar header.
pub fn pack(name: &str, architecture: &str, config: Config, layers: &[Layer]) -> Result<Vec<u8>> {
    let mut blobs = Blobs::default();
    let (mut diff_ids, mut descriptors, mut history) = (vec![], vec![], vec![]);
    for layer in layers {
        // Not compressed: the archive is read once, on the machine it was made on.
        let descriptor = blobs.add(MediaType::ImageLayer, layer.pack()?)?;
        diff_ids.push(descriptor.digest().to_string());
        descriptors.push(descriptor);
        history.push(
            HistoryBuilder::default()
                .created(EPOCH)
                .created_by(&*layer.origin)
                .build()?,
        );
    }
    let image = ImageConfigurationBuilder::default()
        .created(EPOCH)
        .architecture(Arch::from(architecture))
        .os(Os::Linux)
        .config(config)
        .rootfs(
            RootFsBuilder::default()
                .typ("layers")
                .diff_ids(diff_ids)
                .build()?,
        )
        .history(history)
        .build()?;
    let config = blobs.add(MediaType::ImageConfig, canonical(&image)?)?;
    let docker = json!([{
        "Config": blob_path(config.digest().digest()),
        "RepoTags": [name],
        "Layers": descriptors.iter().map(|layer| blob_path(layer.digest().digest())).collect::<Vec<_>>(),
    }]);
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(descriptors)
        .build()?;
    let mut manifest = blobs.add(MediaType::ImageManifest, canonical(&manifest)?)?;
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    manifest.set_annotations(Some(HashMap::from([
        (
            "io.containerd.image.name".to_owned(),
            format!("docker.io/library/{name}"),
        ),
        ("org.opencontainers.image.ref.name".to_owned(), tag.to_owned()),
    ])));
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests([manifest])
        .build()?;
    let layout = OciLayoutBuilder::default()
        .image_layout_version("1.0.0")
        .build()?;

    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: &[u8]| {
        let mut header = header(tar::EntryType::Regular, 0o644, content.len());
        archive.append_data(&mut header, path, content)
    };
    add("oci-layout", &canonical(&layout)?)?;
    add("index.json", &canonical(&index)?)?;
    add("manifest.json", &canonical(&docker)?)?;
    for (digest, content) in &blobs.0 {
        add(&blob_path(digest), content)?;
    }
    Ok(archive.into_inner()?)
}

#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    fn add(&mut self, media_type: MediaType, content: Vec<u8>) -> Result<oci_spec::image::Descriptor> {
        let digest = sha256(&content);
        let descriptor = DescriptorBuilder::default()
            .media_type(media_type)
            .digest(digest.parse::<Sha256Digest>()?)
            .size(content.len() as u64)
            .build()?;
        self.0.insert(digest, content);
        Ok(descriptor)
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

/// Labels and annotations are hash maps: written as they come, no two runs would agree on their order.
fn canonical(document: &impl Serialize) -> Result<Vec<u8>> {
    let mut value = serde_json::to_value(document)?;
    value.sort_all_objects();
    Ok(serde_json::to_vec(&value)?)
}

/// The SHA-256 of `content` in hexadecimal.
pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// An archive read back, be it ours, `docker save`'s or Nix's.
#[derive(Debug)]
pub struct Contents {
    /// The name it carries, as in `docker images`.
    pub name: String,
    /// The image's id: `sha256:` and the digest of its configuration.
    pub id: String,
    /// Its configuration.
    pub config: Value,
    /// Its layers from the bottom up, each a tar.
    pub layers: Vec<Vec<u8>>,
}

/// Reads an archive that holds one image.
///
/// # Errors
/// When it can't be read, is no image archive, or doesn't hold exactly one named image.
pub fn read(archive: &Path) -> Result<Contents> {
    let at = || format!("cannot read the image archive {}", archive.display());
    read_parts(archive).with_context(at)
}

fn read_parts(archive: &Path) -> Result<Contents> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(std::fs::File::open(archive)?).entries()? {
        let mut entry = entry.context("it is not a tar file (a compressed one has to be unpacked first)")?;
        let path = entry
            .path()?
            .to_string_lossy()
            .trim_start_matches("./")
            .to_owned();
        let mut content = Vec::new();
        if entry.header().entry_type().is_file() {
            entry.read_to_end(&mut content)?;
        } else if let Some(target) = entry.link_name()? {
            // `docker save` before version 25 links to a layer that it wrote already.
            let target = target.to_string_lossy().trim_start_matches("../").to_owned();
            content = files.get(&target).cloned().unwrap_or_default();
        }
        files.insert(path, content);
    }
    let file = |path: &str| files.get(path).with_context(|| format!("it lacks {path}"));
    let parse = |path: &str| -> Result<Value> {
        serde_json::from_slice(file(path)?).with_context(|| format!("its {path} is not JSON"))
    };
    let text = |value: &Value| {
        value
            .as_str()
            .map(str::to_owned)
            .context("its manifest is incomplete")
    };
    let blob = |value: &Value| -> Result<String> {
        Ok(format!("blobs/{}", text(&value["digest"])?.replace(':', "/")))
    };

    let (name, config, layers) = if files.contains_key("manifest.json") {
        let manifest = parse("manifest.json")?;
        let [image] = manifest.as_array().map_or(&[][..], Vec::as_slice) else {
            anyhow::bail!("it doesn't hold exactly one image");
        };
        let layers = image["Layers"]
            .as_array()
            .context("its manifest names no layers")?;
        (
            text(&image["RepoTags"][0]),
            text(&image["Config"])?,
            layers.iter().map(text).collect::<Result<Vec<_>>>()?,
        )
    } else {
        let index = parse("index.json").context("it holds neither a docker nor an OCI image")?;
        let [image] = index["manifests"].as_array().map_or(&[][..], Vec::as_slice) else {
            anyhow::bail!("it doesn't hold exactly one image");
        };
        let manifest = parse(&blob(image)?)?;
        let layers = manifest["layers"]
            .as_array()
            .context("its manifest names no layers")?;
        let name = text(&image["annotations"]["io.containerd.image.name"]);
        (
            name,
            blob(&manifest["config"])?,
            layers.iter().map(blob).collect::<Result<Vec<_>>>()?,
        )
    };
    let name = name.context("its image has no name")?;
    Ok(Contents {
        name: name.trim_start_matches("docker.io/library/").to_owned(),
        id: format!("sha256:{}", sha256(file(&config)?)),
        config: parse(&config)?,
        layers: layers
            .iter()
            .map(|layer| file(layer).cloned())
            .collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use oci_spec::image::ConfigBuilder;

    use super::*;

    fn example(order: [&str; 2]) -> Vec<u8> {
        let mut layer = Layer::new("a test");
        for path in order {
            layer.file(path, 0o644, path);
        }
        layer.folder("data", 0o755, 65532);
        layer.link("link", "a");
        let labels = ["one", "two", "three", "four"].map(|key| (key.to_owned(), key.to_owned()));
        let config = ConfigBuilder::default()
            .user("65532:65532")
            .labels(HashMap::from(labels))
            .build()
            .unwrap();
        pack("counter:0.1.0", "amd64", config, &[layer]).unwrap()
    }

    #[test]
    fn the_same_files_make_the_same_archive_in_whatever_order_they_come() {
        // Hash maps differ from one to the next within a process: a few rounds would show it.
        for _ in 0..8 {
            assert!(example(["a", "b"]) == example(["b", "a"]));
        }
    }

    #[test]
    fn an_archive_reads_back_as_what_was_packed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        std::fs::write(&path, example(["a", "b"])).unwrap();
        let image = read(&path).unwrap();
        assert_eq!(image.name, "counter:0.1.0");
        assert_eq!(image.config["config"]["User"], "65532:65532");
        let entries: Vec<_> = tar::Archive::new(image.layers[0].as_slice())
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().display().to_string();
                (
                    path,
                    header.mode().unwrap(),
                    header.uid().unwrap(),
                    header.mtime().unwrap(),
                )
            })
            .collect();
        let expected = [
            ("a", 0o644, 0, 0),
            ("b", 0o644, 0, 0),
            ("data/", 0o755, 65532, 0),
            ("link", 0o777, 0, 0),
        ];
        assert_eq!(
            entries,
            expected.map(|(path, mode, uid, mtime)| (path.to_owned(), mode, uid, mtime))
        );
    }

    #[test]
    fn a_file_that_is_no_image_archive_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar.gz");
        std::fs::write(&path, [0x1f, 0x8b, 8, 0].repeat(300)).unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(
            error.contains("image.tar.gz") && error.contains("not a tar file"),
            "{error}"
        );
    }
}
