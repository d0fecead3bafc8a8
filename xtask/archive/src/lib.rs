//! The archives that images travel in, written so that the same content makes the same bytes.
//!
//! Every archive has the `manifest.json` that docker, podman and containerd all read; one with a single image may be an
//! OCI layout besides. <https://github.com/opencontainers/image-spec>

mod layer;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tar::EntryType;

use machine::digest::sha256;

pub use layer::{Layer, LayerWriter, MTIME};

/// [`MTIME`] as images write times: the real one would make two builds of the same content differ.
const CREATED: &str = "2026-01-01T00:00:00Z";

/// An image: what it is called, its layers from the lowest up, and how it starts.
#[derive(Debug, Clone)]
pub struct Image {
    /// Names with tags.
    pub tags: Vec<String>,
    /// From the lowest up.
    pub layers: Vec<Layer>,
    /// Entry point, environment and the like, as the image specification names them.
    pub config: Value,
}

/// Go's and the image specification's name of this machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Writes images as one docker-archive: the only format that docker, podman and containerd all read of many. A layer that
/// images share is in it once.
///
/// # Errors
/// A layer can't be read or the archive can't be written.
pub fn write(images: &[Image], path: &Path) -> Result<()> {
    let configurations: Vec<String> = images.iter().map(configuration).collect();
    let entries = images.iter().zip(&configurations).map(|(image, config)| {
        let layers: Vec<String> = image.layers.iter().map(|layer| blob(&layer.sha256)).collect();
        json!({ "Config": blob(&sha256(config.as_bytes())), "RepoTags": image.tags, "Layers": layers })
    });
    let mut archive = Archive::create(path)?;
    archive.text("manifest.json", &Value::from(entries.collect::<Vec<_>>()).to_string())?;
    archive.blobs(images, &configurations)?;
    archive.finish()
}

/// Writes one image as a docker-archive that is an OCI layout too, and returns its id: `sha256:` and the digest of its
/// configuration, as docker, podman and the kubelet know it.
///
/// containerd takes the name in `io.containerd.image.name` as it stands, so it is written out there:
/// `docker.io/library/counter:0.1.0` is what the kubelet makes of `counter:0.1.0` in a pod. The engine that kind
/// runs on has no say in it, since the archive goes straight into the node's containerd.
///
/// # Errors
/// As [`write`].
pub fn write_layout(image: &Image, path: &Path) -> Result<String> {
    let config = configuration(image);
    let mut layers = vec![];
    for layer in &image.layers {
        let size =
            layer.path.metadata().with_context(|| format!("cannot read {}", layer.path.display()))?.len();
        // Not compressed: the archive is read once, on the machine it was made on.
        layers.push(descriptor("application/vnd.oci.image.layer.v1.tar", &layer.sha256, size));
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor_of("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers,
    })
    .to_string();
    let manifests: Vec<Value> = image
        .tags
        .iter()
        .map(|name| {
            let mut named = descriptor_of("application/vnd.oci.image.manifest.v1+json", &manifest);
            named["annotations"] = json!({
                "io.containerd.image.name": format!("docker.io/library/{name}"),
                "org.opencontainers.image.ref.name": name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
            });
            named
        })
        .collect();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    let paths: Vec<String> = image.layers.iter().map(|layer| blob(&layer.sha256)).collect();
    let id = sha256(config.as_bytes());
    let docker = json!([{ "Config": blob(&id), "RepoTags": image.tags, "Layers": paths }]);
    let mut archive = Archive::create(path)?;
    archive.text("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    archive.text("index.json", &index.to_string())?;
    archive.text("manifest.json", &docker.to_string())?;
    archive.text(&blob(&sha256(manifest.as_bytes())), &manifest)?;
    archive.blobs(std::slice::from_ref(image), &[config])?;
    archive.finish()?;
    Ok(format!("sha256:{id}"))
}

/// <https://github.com/opencontainers/image-spec/blob/main/config.md>
fn configuration(image: &Image) -> String {
    let layers: Vec<String> = image.layers.iter().map(|layer| format!("sha256:{}", layer.sha256)).collect();
    let history = image.layers.iter().map(|layer| json!({ "created": CREATED, "created_by": layer.origin }));
    json!({
        "created": CREATED,
        "architecture": architecture(),
        "os": "linux",
        "config": image.config,
        "rootfs": { "type": "layers", "diff_ids": layers },
        "history": history.collect::<Vec<_>>(),
    })
    .to_string()
}

fn descriptor(media_type: &str, sha256: &str, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{sha256}"), "size": size })
}

fn descriptor_of(media_type: &str, document: &str) -> Value {
    descriptor(media_type, &sha256(document.as_bytes()), document.len() as u64)
}

fn blob(sha256: &str) -> String {
    format!("blobs/sha256/{sha256}")
}

/// An archive under way.
struct Archive<'a> {
    path: &'a Path,
    tar: tar::Builder<BufWriter<File>>,
}

impl<'a> Archive<'a> {
    fn create(path: &'a Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, tar: tar::Builder::new(BufWriter::with_capacity(1 << 20, file)) })
    }

    /// Configurations and layers, each once.
    fn blobs(&mut self, images: &[Image], configurations: &[String]) -> Result<()> {
        let mut written = BTreeSet::new();
        for config in configurations {
            let digest = sha256(config.as_bytes());
            if written.insert(digest.clone()) {
                self.text(&blob(&digest), config)?;
            }
        }
        for layer in images.iter().flat_map(|image| &image.layers) {
            if written.insert(layer.sha256.clone()) {
                let open = || -> io::Result<(File, u64)> {
                    let file = File::open(&layer.path)?;
                    let size = file.metadata()?.len();
                    Ok((file, size))
                };
                let (file, size) = open().with_context(|| format!("cannot read {}", layer.path.display()))?;
                self.add(&blob(&layer.sha256), size, file)?;
            }
        }
        Ok(())
    }

    fn text(&mut self, name: &str, text: &str) -> Result<()> {
        self.add(name, text.len() as u64, text.as_bytes())
    }

    fn add(&mut self, name: &str, size: u64, content: impl Read) -> Result<()> {
        let mut header = layer::header(EntryType::Regular, 0o644, size);
        self.tar
            .append_data(&mut header, name, content)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn finish(self) -> Result<()> {
        let end = || self.tar.into_inner()?.flush();
        end().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_layer_is_in_the_archive_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut layer = LayerWriter::create(dir.path().join("layer")).unwrap();
        layer.text("etc/hello", 0o644, "a").unwrap();
        let shared = layer.finish("a test").unwrap();
        let image =
            |tag: &str| Image { tags: vec![tag.to_owned()], layers: vec![shared.clone()], config: json!({}) };
        let path = dir.path().join("images.tar");
        write(&[image("one:1"), image("two:2")], &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        // The manifest, the one configuration that both have, the one layer.
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(String::from_utf8_lossy(&bytes).contains("\"RepoTags\":[\"two:2\"]"));
    }
}
