//! The archive an image travels in: layers packed the same way every time, an OCI layout that containerd and
//! podman read, and beside it the `manifest.json` that `docker load` reads.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use anyhow::{Context, Result};
use oci_spec::image::{
    Arch, Config, DescriptorBuilder, HistoryBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, RootFsBuilder, SCHEMA_VERSION, Sha256Digest,
};
use serde::Serialize;
use serde_json::json;

use machine::digest::sha256;

/// Every time in an archive. The real ones would make two builds of the same tree differ.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// Files that change together. Entries are sorted by path when packed, whatever order they came in.
#[derive(Debug)]
pub(super) struct Layer {
    /// Where the files come from, for `docker history`.
    pub origin: String,
    /// What is in it, by path.
    pub entries: BTreeMap<String, Entry>,
}

/// A file, a folder or a symbolic link.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    kind: tar::EntryType,
    mode: u32,
    owner: u32,
    target: String,
    /// A file's bytes.
    pub content: Vec<u8>,
}

impl fmt::Display for Entry {
    /// All of it but the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} mode {:o} owner {}", self.kind, self.mode, self.owner)?;
        if !self.target.is_empty() {
            write!(f, " to {}", self.target)?;
        }
        Ok(())
    }
}

impl Layer {
    /// An empty layer.
    pub(super) fn new(origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), entries: BTreeMap::new() }
    }

    /// Adds a folder; `owner` is its user and its group.
    pub(super) fn folder(&mut self, path: &str, mode: u32, owner: u32) {
        let entry =
            Entry { kind: tar::EntryType::Directory, mode, owner, content: vec![], target: String::new() };
        self.entries.insert(format!("{path}/"), entry);
    }

    /// Adds a file of root's.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
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
    pub(super) fn link(&mut self, path: &str, target: &str) {
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

/// All that makes an image.
#[derive(Debug)]
pub(super) struct Contents {
    /// Its name with tag: `counter:0.1.0`.
    pub name: String,
    /// The CPU it runs on, in Go's words.
    pub architecture: String,
    /// How its containers start.
    pub config: Config,
    /// Its files, from the bottom up.
    pub layers: Vec<Layer>,
}

/// An image, ready to be written to a file.
#[derive(Debug)]
pub(super) struct Packed {
    /// The archive's bytes.
    pub archive: Vec<u8>,
    /// `sha256:` and the digest of the image's configuration: its id for docker, podman and the kubelet.
    pub id: String,
}

/// Packs an image into an archive.
///
/// containerd takes the name in `io.containerd.image.name` as it stands, so it is written out there:
/// `docker.io/library/counter:0.1.0` is what the kubelet makes of `counter:0.1.0` in a pod. The engine that kind
/// runs on has no say in it, since the archive goes straight into the node's containerd.
///
/// # Errors
/// When a path doesn't fit into a tar header.
pub(super) fn pack(image: &Contents) -> Result<Packed> {
    let Contents { name, architecture, config, layers } = image;
    let mut blobs = Blobs::default();
    let (mut diff_ids, mut descriptors, mut history) = (vec![], vec![], vec![]);
    for layer in layers {
        // Not compressed: the archive is read once, on the machine it was made on.
        let descriptor = blobs.add(MediaType::ImageLayer, layer.pack()?)?;
        diff_ids.push(descriptor.digest().to_string());
        descriptors.push(descriptor);
        history.push(HistoryBuilder::default().created(EPOCH).created_by(&*layer.origin).build()?);
    }
    let image = ImageConfigurationBuilder::default()
        .created(EPOCH)
        .architecture(Arch::from(architecture.as_str()))
        .os(Os::Linux)
        .config(config.clone())
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?)
        .history(history)
        .build()?;
    let config = blobs.add(MediaType::ImageConfig, canonical(&image)?)?;
    let id = config.digest().to_string();
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
        ("io.containerd.image.name".to_owned(), format!("docker.io/library/{name}")),
        ("org.opencontainers.image.ref.name".to_owned(), tag.to_owned()),
    ])));
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests([manifest])
        .build()?;
    let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;

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
    Ok(Packed { archive: archive.into_inner()?, id })
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

#[cfg(test)]
mod tests {
    use oci_spec::image::ConfigBuilder;

    use super::super::inspect::{Archive, Kind};
    use super::*;

    fn example(order: [&str; 2]) -> Packed {
        let mut layer = Layer::new("a test");
        for path in order {
            layer.file(path, 0o644, path);
        }
        layer.folder("data", 0o755, 65532);
        layer.link("link", "a");
        let labels = ["one", "two", "three", "four"].map(|key| (key.to_owned(), key.to_owned()));
        let config = ConfigBuilder::default().user("65532:65532").labels(HashMap::from(labels));
        pack(&Contents {
            name: "counter:0.1.0".to_owned(),
            architecture: "amd64".to_owned(),
            config: config.build().unwrap(),
            layers: vec![layer],
        })
        .unwrap()
    }

    #[test]
    fn the_same_files_make_the_same_archive_in_whatever_order_they_come() {
        // Hash maps differ from one to the next within a process: a few rounds would show it.
        for _ in 0..8 {
            assert!(example(["a", "b"]).archive == example(["b", "a"]).archive);
        }
    }

    #[test]
    fn an_archive_reads_back_as_what_was_packed_to_docker_and_to_containerd() {
        let packed = example(["a", "b"]);
        // Each reader goes by its own: without manifest.json it is an OCI archive, without index.json docker's.
        for (left_out, name) in
            [("manifest.json", "docker.io/library/counter:0.1.0"), ("index.json", "counter:0.1.0")]
        {
            let mut archive = tar::Builder::new(Vec::new());
            for entry in tar::Archive::new(packed.archive.as_slice()).entries().unwrap() {
                let entry = entry.unwrap();
                if entry.path().unwrap().as_os_str() != left_out {
                    archive.append(&entry.header().clone(), entry).unwrap();
                }
            }
            let image = Archive::parse(&archive.into_inner().unwrap()).unwrap();
            assert_eq!((image.names.as_slice(), &image.id), (&[name.to_owned()][..], &packed.id));
            let user = image.config.config().as_ref().and_then(|config| config.user().clone());
            assert_eq!(user.as_deref(), Some("65532:65532"));
            let files: Vec<_> = image
                .files
                .iter()
                .map(|(path, node)| (path, node.kind.clone(), node.mode, node.uid))
                .collect();
            let link = Kind::Symlink("a".to_owned());
            assert_eq!(
                files,
                [
                    ("/a", Kind::File, 0o644, 0),
                    ("/b", Kind::File, 0o644, 0),
                    ("/data", Kind::Folder, 0o755, 65532),
                    ("/link", link, 0o777, 0)
                ]
            );
        }
    }
}
