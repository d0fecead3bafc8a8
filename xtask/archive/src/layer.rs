//! Layers: tars, written so that the same content makes the same bytes.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tar::{EntryType, Header};

use machine::digest::Hashing;

/// All files have this time: 2026-01-01, in seconds since 1970.
pub const MTIME: u64 = 1_767_225_600;

/// A finished layer: an uncompressed tar and its hash.
#[derive(Debug, Clone)]
pub struct Layer {
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
    pub(crate) origin: String,
}

impl Layer {
    /// A layer out of a tar that is already there.
    ///
    /// # Errors
    /// It can't be read.
    pub fn of(path: PathBuf) -> Result<Self> {
        let hash = || -> io::Result<String> {
            let mut hashing = Hashing::new(io::sink());
            io::copy(&mut File::open(&path)?, &mut hashing)?;
            Ok(hashing.finish().1)
        };
        let sha256 = hash().with_context(|| format!("cannot read the layer {}", path.display()))?;
        Ok(Self { path, sha256, origin: String::new() })
    }
}

/// A layer under way. What is in it belongs to root unless it is said otherwise.
pub struct LayerWriter {
    path: PathBuf,
    tar: tar::Builder<Hashing<BufWriter<File>>>,
}

impl LayerWriter {
    /// Starts a layer in the file `path`; its entries come in the order in which they are added.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn create(path: PathBuf) -> Result<Self> {
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let hashing = Hashing::new(BufWriter::with_capacity(1 << 20, file));
        Ok(Self { path, tar: tar::Builder::new(hashing) })
    }

    /// Adds a folder.
    ///
    /// # Errors
    /// The layer can't be written.
    pub fn folder(&mut self, name: &str, mode: u32) -> Result<&mut Self> {
        self.folder_of(0, name, mode)
    }

    /// Adds a folder of another user; the group has the same number.
    ///
    /// # Errors
    /// The layer can't be written.
    pub fn folder_of(&mut self, owner: u32, name: &str, mode: u32) -> Result<&mut Self> {
        let mut header = header(EntryType::Directory, mode, 0);
        header.set_uid(owner.into());
        header.set_gid(owner.into());
        let written = self.tar.append_data(&mut header, format!("{name}/"), io::empty());
        self.said(written, name)
    }

    /// Adds a file with this content.
    ///
    /// # Errors
    /// The layer can't be written.
    pub fn text(&mut self, name: &str, mode: u32, content: impl AsRef<[u8]>) -> Result<&mut Self> {
        let content = content.as_ref();
        let mut header = header(EntryType::Regular, mode, content.len() as u64);
        let written = self.tar.append_data(&mut header, name, content);
        self.said(written, name)
    }

    /// Adds a file of the machine.
    ///
    /// # Errors
    /// It can't be read, or the layer can't be written.
    pub fn file(&mut self, name: &str, mode: u32, from: &Path) -> Result<&mut Self> {
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
    pub fn link(&mut self, name: &str, target: &str) -> Result<&mut Self> {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        let written = self.tar.append_link(&mut header, name, target);
        self.said(written, name)
    }

    /// Adds a folder of the machine with all that is below it; `mode` says how a file is to be kept, or that
    /// it is left out.
    ///
    /// # Errors
    /// It can't be read, or the layer can't be written.
    pub fn tree(
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

    /// Ends the layer; `origin` is what `docker history` says of it.
    ///
    /// # Errors
    /// It can't be written to its end.
    pub fn finish(self, origin: &str) -> Result<Layer> {
        let end = |tar: tar::Builder<Hashing<BufWriter<File>>>| -> io::Result<String> {
            let (mut file, sha256) = tar.into_inner()?.finish();
            file.flush()?;
            Ok(sha256)
        };
        let sha256 =
            end(self.tar).with_context(|| format!("cannot write the layer {}", self.path.display()))?;
        Ok(Layer { path: self.path, sha256, origin: origin.to_owned() })
    }

    fn said(&mut self, written: io::Result<()>, name: &str) -> Result<&mut Self> {
        written.with_context(|| format!("cannot add {name} to the layer {}", self.path.display()))?;
        Ok(self)
    }
}

pub(crate) fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(MTIME);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(dir: &Path, name: &str, text: &str) -> Layer {
        let mut layer = LayerWriter::create(dir.join(name)).unwrap();
        layer.folder("etc", 0o755).unwrap().text("etc/hello", 0o644, text).unwrap();
        layer.link("etc/hi", "hello").unwrap();
        layer.finish("a test").unwrap()
    }

    #[test]
    fn the_same_content_makes_the_same_layer_and_another_another() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (layer(dir.path(), "1", "a"), layer(dir.path(), "2", "a"));
        assert_eq!(one.sha256, two.sha256);
        assert_ne!(one.sha256, layer(dir.path(), "3", "b").sha256);
        assert_eq!(Layer::of(one.path.clone()).unwrap().sha256, one.sha256);
    }
}
