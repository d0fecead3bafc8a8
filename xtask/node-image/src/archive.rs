//! Layers and docker-archives, written so that the same content makes the same bytes.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tar::{EntryType, Header};

use machine::digest::{Hashing, sha256};

/// All files have this time: 2026-01-01, in seconds since 1970.
pub(crate) const MTIME: u64 = 1_767_225_600;

/// A finished layer: an uncompressed tar and its hash.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    path: PathBuf,
    sha256: String,
}

impl Layer {
    /// A layer out of a tar that is already there.
    ///
    /// # Errors
    /// It can't be read.
    pub(crate) fn of(path: PathBuf) -> Result<Self> {
        let hash = || -> io::Result<String> {
            let mut hashing = Hashing::new(io::sink());
            io::copy(&mut File::open(&path)?, &mut hashing)?;
            Ok(hashing.finish().1)
        };
        let sha256 = hash().with_context(|| format!("cannot read the layer {}", path.display()))?;
        Ok(Self { path, sha256 })
    }
}

/// A layer under way. Everything in it belongs to root.
pub(crate) struct LayerWriter {
    path: PathBuf,
    tar: tar::Builder<Hashing<BufWriter<File>>>,
}

impl LayerWriter {
    /// Starts a layer in the file `path`.
    ///
    /// # Errors
    /// The file can't be made.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let hashing = Hashing::new(BufWriter::with_capacity(1 << 20, file));
        Ok(Self { path, tar: tar::Builder::new(hashing) })
    }

    /// Adds a folder.
    ///
    /// # Errors
    /// The layer can't be written.
    pub(crate) fn folder(&mut self, name: &str, mode: u32) -> Result<&mut Self> {
        let mut header = header(EntryType::Directory, mode, 0);
        let written = self.tar.append_data(&mut header, format!("{name}/"), io::empty());
        self.said(written, name)
    }

    /// Adds a file with this text.
    ///
    /// # Errors
    /// The layer can't be written.
    pub(crate) fn text(&mut self, name: &str, mode: u32, text: &str) -> Result<&mut Self> {
        let mut header = header(EntryType::Regular, mode, text.len() as u64);
        let written = self.tar.append_data(&mut header, name, text.as_bytes());
        self.said(written, name)
    }

    /// Adds a file of the machine.
    ///
    /// # Errors
    /// It can't be read, or the layer can't be written.
    pub(crate) fn file(&mut self, name: &str, mode: u32, from: &Path) -> Result<&mut Self> {
        let file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
        let size = file.metadata().with_context(|| format!("cannot read {}", from.display()))?.len();
        let mut header = header(EntryType::Regular, mode, size);
        let written = self.tar.append_data(&mut header, name, BufReader::with_capacity(1 << 20, file));
        self.said(written, name)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// The layer can't be written.
    pub(crate) fn link(&mut self, name: &str, target: &str) -> Result<&mut Self> {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        let written = self.tar.append_link(&mut header, name, target);
        self.said(written, name)
    }

    /// Adds a folder of the machine with all that is below it; `mode` says how a file is to be kept, or that
    /// it is left out.
    ///
    /// # Errors
    /// It can't be read, or the layer can't be written.
    pub(crate) fn tree(
        &mut self,
        name: &str,
        from: &Path,
        mode: &impl Fn(&str) -> Option<u32>,
    ) -> Result<&mut Self> {
        let read = || -> io::Result<Vec<PathBuf>> {
            std::fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect()
        };
        let mut paths = read().with_context(|| format!("cannot list {}", from.display()))?;
        // The order of a folder is the file system's affair; that of a layer is not.
        paths.sort();
        for path in paths {
            let last = path.file_name().unwrap_or_default().to_string_lossy();
            let name = if name.is_empty() { last.into_owned() } else { format!("{name}/{last}") };
            if path.is_dir() {
                self.folder(&name, 0o755)?.tree(&name, &path, mode)?;
            } else if let Some(mode) = mode(&name) {
                self.file(&name, mode, &path)?;
            }
        }
        Ok(self)
    }

    /// Ends the layer.
    ///
    /// # Errors
    /// It can't be written to its end.
    pub(crate) fn finish(self) -> Result<Layer> {
        let end = |tar: tar::Builder<Hashing<BufWriter<File>>>| -> io::Result<String> {
            let (mut file, sha256) = tar.into_inner()?.finish();
            file.flush()?;
            Ok(sha256)
        };
        let sha256 =
            end(self.tar).with_context(|| format!("cannot write the layer {}", self.path.display()))?;
        Ok(Layer { path: self.path, sha256 })
    }

    fn said(&mut self, written: io::Result<()>, name: &str) -> Result<&mut Self> {
        written.with_context(|| format!("cannot add {name} to the layer {}", self.path.display()))?;
        Ok(self)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(MTIME);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// An image: what it is called, its layers from the lowest up, and how it starts.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Names with tags.
    pub tags: Vec<String>,
    /// From the lowest up.
    pub layers: Vec<Layer>,
    /// Entry point, environment and the like, as the image specification names them.
    pub config: Value,
}

/// Writes images as one docker-archive: the only format that docker, podman and containerd all read.
/// A layer that images share is in it once.
///
/// # Errors
/// A layer can't be read or the archive can't be written.
pub(crate) fn write(images: &[Image], path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, file));
    let mut written: Vec<&str> = vec![];
    let mut entries = vec![];
    for image in images {
        let mut layers = vec![];
        for layer in &image.layers {
            let name = format!("{}.tar", layer.sha256);
            if !written.contains(&layer.sha256.as_str()) {
                let open = || -> io::Result<(File, u64)> {
                    let file = File::open(&layer.path)?;
                    let size = file.metadata()?.len();
                    Ok((file, size))
                };
                let (file, size) = open().with_context(|| format!("cannot read {}", layer.path.display()))?;
                tar.append_data(&mut header(EntryType::Regular, 0o644, size), &name, file)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                written.push(&layer.sha256);
            }
            layers.push(name);
        }
        let config = configuration(image);
        let name = format!("{}.json", sha256(config.as_bytes()));
        let mut head = header(EntryType::Regular, 0o644, config.len() as u64);
        tar.append_data(&mut head, &name, config.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        entries.push(json!({ "Config": name, "RepoTags": image.tags, "Layers": layers }));
    }
    let manifest = Value::from(entries).to_string();
    let mut head = header(EntryType::Regular, 0o644, manifest.len() as u64);
    tar.append_data(&mut head, "manifest.json", manifest.as_bytes())
        .and_then(|()| tar.into_inner()?.flush())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// <https://github.com/opencontainers/image-spec/blob/main/config.md>
fn configuration(image: &Image) -> String {
    let layers: Vec<String> = image.layers.iter().map(|layer| format!("sha256:{}", layer.sha256)).collect();
    json!({
        "created": "2026-01-01T00:00:00Z",
        "architecture": super::architecture(),
        "os": "linux",
        "config": image.config,
        "rootfs": { "type": "layers", "diff_ids": layers },
    })
    .to_string()
}

/// Reads one file out of a tar, for the tests.
#[cfg(test)]
fn read_entry(path: &Path, name: &str) -> Option<String> {
    let mut archive = tar::Archive::new(File::open(path).ok()?);
    let mut entry = archive
        .entries()
        .ok()?
        .filter_map(Result::ok)
        .find(|entry| entry.path().is_ok_and(|path| path == Path::new(name)))?;
    let mut text = String::new();
    use std::io::Read;
    entry.read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(dir: &Path, name: &str, text: &str) -> Layer {
        let mut layer = LayerWriter::create(dir.join(name)).unwrap();
        layer.folder("etc", 0o755).unwrap().text("etc/hello", 0o644, text).unwrap();
        layer.link("etc/hi", "hello").unwrap();
        layer.finish().unwrap()
    }

    #[test]
    fn the_same_content_makes_the_same_layer_and_another_another() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (layer(dir.path(), "1", "a"), layer(dir.path(), "2", "a"));
        assert_eq!(one.sha256, two.sha256);
        assert_ne!(one.sha256, layer(dir.path(), "3", "b").sha256);
        assert_eq!(Layer::of(one.path.clone()).unwrap().sha256, one.sha256);
    }

    #[test]
    fn a_shared_layer_is_in_the_archive_once() {
        let dir = tempfile::tempdir().unwrap();
        let shared = layer(dir.path(), "1", "a");
        let image =
            |tag: &str| Image { tags: vec![tag.to_owned()], layers: vec![shared.clone()], config: json!({}) };
        let path = dir.path().join("images.tar");
        write(&[image("one:1"), image("two:2")], &path).unwrap();
        let mut archive = tar::Archive::new(File::open(&path).unwrap());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names.iter().filter(|name| name.ends_with(".tar")).count(), 1, "{names:?}");
        let manifest = read_entry(&path, "manifest.json").unwrap();
        assert!(manifest.contains("\"RepoTags\":[\"two:2\"]"), "{manifest}");
    }
}
