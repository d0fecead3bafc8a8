//! Small image archives for tests, told file by file.

use std::io::Write;

use serde_json::Value;
use tar::EntryType;

use super::digest;

#[derive(Clone, Copy)]
pub enum Format {
    Docker,
    Oci,
    OciGzip,
    Both,
}

#[derive(Clone)]
struct File {
    path: String,
    kind: EntryType,
    link: Option<String>,
    mode: u32,
    owner: u64,
    size: usize,
}

/// A small image, told file by file.
#[derive(Clone)]
pub struct ImageBuilder {
    name: String,
    config: Value,
    layers: Vec<Vec<File>>,
}

impl ImageBuilder {
    pub fn new(config: Value) -> Self {
        Self { name: String::new(), config, layers: vec![vec![]] }
    }

    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    pub fn config(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    pub fn folder(self, path: &str, mode: u32, owner: u64) -> Self {
        self.put(path, EntryType::Directory, None, mode, owner)
    }

    pub fn file(self, path: &str, mode: u32, owner: u64) -> Self {
        self.put(path, EntryType::Regular, None, mode, owner)
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.put(path, EntryType::Symlink, Some(target), 0o777, 0)
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.put(path, EntryType::Link, Some(target), 0o755, 0)
    }

    pub fn device(self, path: &str) -> Self {
        self.put(path, EntryType::Char, None, 0o600, 0)
    }

    /// Makes the last file this many bytes longer.
    pub fn padding(mut self, bytes: usize) -> Self {
        self.layers.last_mut().unwrap().last_mut().unwrap().size += bytes;
        self
    }

    pub fn without(mut self, path: &str) -> Self {
        self.layers.last_mut().unwrap().retain(|file| file.path != path);
        self
    }

    pub fn next_layer(mut self) -> Self {
        self.layers.push(vec![]);
        self
    }

    fn put(self, path: &str, kind: EntryType, link: Option<&str>, mode: u32, owner: u64) -> Self {
        let mut image = self.without(path);
        let link = link.map(str::to_owned);
        let file = File { path: path.to_owned(), kind, link, mode, owner, size: 4 };
        image.layers.last_mut().unwrap().push(file);
        image
    }

    pub fn archive(&self, format: Format) -> Vec<u8> {
        let layers: Vec<Vec<u8>> = self.layers.iter().map(|files| layer(files)).collect();
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        let mut archive = tar::Builder::new(Vec::new());
        match format {
            Format::Docker => {
                let names: Vec<_> = (0..layers.len()).map(|layer| format!("{layer}/layer.tar")).collect();
                let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [self.name], "Layers": names }]);
                for (name, layer) in names.iter().zip(&layers) {
                    append(&mut archive, name, layer);
                }
                append(&mut archive, "config.json", &config);
                append(&mut archive, "manifest.json", manifest.to_string().as_bytes());
            }
            Format::Oci | Format::OciGzip | Format::Both => {
                let mut blob = |bytes: &[u8]| {
                    let digest = digest(bytes);
                    append(&mut archive, &format!("blobs/{}", digest.replace(':', "/")), bytes);
                    serde_json::json!({ "digest": digest, "size": bytes.len() })
                };
                let gzip = matches!(format, Format::OciGzip);
                let layers: Vec<_> = layers
                    .iter()
                    .map(|layer| blob(&if gzip { gzipped(layer) } else { layer.clone() }))
                    .collect();
                let path =
                    |blob: &Value| format!("blobs/{}", blob["digest"].as_str().unwrap().replace(':', "/"));
                let config = blob(&config);
                let docker = serde_json::json!([{
                    "Config": path(&config), "RepoTags": [self.name],
                    "Layers": layers.iter().map(path).collect::<Vec<_>>(),
                }]);
                let manifest = serde_json::json!({ "config": config, "layers": layers });
                let mut image = blob(manifest.to_string().as_bytes());
                image["annotations"] = serde_json::json!({ "io.containerd.image.name": self.name });
                let index = serde_json::json!({ "manifests": [image] });
                append(&mut archive, "index.json", index.to_string().as_bytes());
                if matches!(format, Format::Both) {
                    append(&mut archive, "manifest.json", docker.to_string().as_bytes());
                }
            }
        }
        archive.into_inner().unwrap()
    }
}

fn layer(files: &[File]) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(file.kind);
        header.set_mode(file.mode);
        header.set_uid(file.owner);
        header.set_gid(file.owner);
        let size = if file.kind == EntryType::Regular { file.size } else { 0 };
        header.set_size(size as u64);
        match &file.link {
            Some(target) => layer.append_link(&mut header, &file.path, target).unwrap(),
            None => layer.append_data(&mut header, &file.path, vec![b'x'; size].as_slice()).unwrap(),
        }
    }
    layer.into_inner().unwrap()
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, bytes).unwrap();
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
