//! The images that kubeadm and kind expect in the node: each a static binary on nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use oci_spec::image::Config;

use crate::cluster::node_image::archive::{Image, Layer, LayerWriter};
use crate::cluster::node_image::assembly::{Parts, Site};
use crate::pins;

/// Where the binaries are in every image.
const BIN: &str = "usr/local/bin";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What kind's source says about the images and manifests in a node.
#[derive(Debug, PartialEq, Eq)]
pub struct KindSays {
    /// The image that holds a pod's namespaces open.
    pub pause: String,
    /// The provisioner of the default StorageClass.
    pub provisioner: String,
    /// The pod with which it makes and removes folders.
    pub helper: String,
    /// The provisioner, its rights and its StorageClass.
    pub storage_manifest: String,
}

impl KindSays {
    /// Reads kind's source.
    ///
    /// # Errors
    /// It does not look as it did in the pinned version.
    pub fn read(kind: &Path) -> Result<Self> {
        let read = |path: &str| {
            let path = kind.join(path);
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Self::parse(
            &read("pkg/build/nodeimage/const_storage.go")?,
            &read("images/base/files/etc/containerd/config.toml")?,
        )
    }

    fn parse(storage: &str, containerd: &str) -> Result<Self> {
        let quoted = |text: &str, name: &str| {
            let (_, rest) = text.split_once(&format!("{name} = \""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let named = |text: &str, name: &str| {
            quoted(text, name).ok_or_else(|| anyhow!("kind's source does not name its {name}"))
        };
        let provisioner = named(storage, "storageProvisionerImage")?;
        let helper = named(storage, "storageHelperImage")?;
        let manifest = storage
            .split_once("defaultStorageManifest = `")
            .and_then(|(_, rest)| rest.rsplit_once('`'))
            .ok_or_else(|| anyhow!("kind's source does not hold its storage manifest"))?
            .0
            .replace("` + storageProvisionerImage + `", &provisioner)
            .replace("` + storageHelperImage + `", &helper);
        if manifest.contains('`') {
            bail!("kind's storage manifest is put together in an unknown way");
        }
        Ok(Self {
            pause: named(containerd, "sandbox_image")?,
            storage_manifest: manifest.trim_start().to_owned(),
            provisioner,
            helper,
        })
    }
}

/// The names of the control plane's images, as this version of kubeadm asks for them.
///
/// # Errors
/// kubeadm does not run.
pub async fn kubeadm_images(parts: &Parts, site: &Site<'_>) -> Result<Vec<String>> {
    let answer = site
        .surroundings
        .command(parts.kubernetes.join("kubeadm"))
        .args(["config", "images", "list", "--kubernetes-version", pins::KUBERNETES])
        .deadline(Duration::from_secs(30))
        .read()
        .await
        .context("kubeadm does not tell which images it wants")?;
    // kind's containerd names the pause image it uses; kubeadm's wish for another does not matter.
    let names = answer.split_whitespace().filter(|name| !name.contains("/pause:"));
    Ok(names.map(str::to_owned).collect())
}

/// Makes the images; the layers go to `dir`.
///
/// # Errors
/// A binary or a layer can't be read or written; kubeadm asks for an image that isn't known here.
pub fn images(
    parts: &Parts,
    pause: &Path,
    wanted: &[String],
    kind: &KindSays,
    dir: &Path,
) -> Result<Vec<Image>> {
    let kubernetes = binary(dir, "kubernetes", &parts.kubernetes, &KUBE_IMAGES)?;
    let proxy = Layer::of(parts.proxy.clone())?;
    let proxy_links = proxy_links(dir)?;
    let mut images = vec![];
    for name in wanted {
        let image = name.rsplit('/').next().unwrap_or(name);
        let image = image.split(':').next().unwrap_or(image);
        let (layers, entry) = match image {
            "kube-apiserver" | "kube-controller-manager" | "kube-scheduler" => {
                (vec![kubernetes.clone()], format!("/{BIN}/{image}"))
            }
            "kube-proxy" => {
                (vec![proxy.clone(), proxy_links.clone(), kubernetes.clone()], format!("/{BIN}/kube-proxy"))
            }
            "etcd" => (vec![binary(dir, "etcd", &parts.etcd, &[])?], format!("/{BIN}/etcd")),
            "coredns" => (vec![binary(dir, "coredns", &parts.coredns, &[])?], format!("/{BIN}/coredns")),
            _ => bail!("kubeadm {} wants an image that is not known here: {name}", pins::KUBERNETES),
        };
        images.push(Image { tags: vec![name.clone()], layers, config: starts(&entry) });
    }
    let provisioner = binary(dir, "local-path-provisioner", &parts.local_path, &[])?;
    let single = |tag: &str, layer: Layer, entry: &str| Image {
        tags: vec![tag.to_owned()],
        layers: vec![layer],
        config: starts(entry),
    };
    images.push(single(&kind.provisioner, provisioner, &format!("/{BIN}/local-path-provisioner")));
    images.push(single(&kind.helper, helper(dir, &parts.busybox)?, "/bin/sh"));
    images.push(single(&kind.pause, pause_layer(dir, pause)?, "/pause"));
    Ok(images)
}

/// The four images that share the multi-call binary.
const KUBE_IMAGES: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"];

fn starts(entry: &str) -> Config {
    let mut config = Config::default();
    config.set_entrypoint(Some(vec![entry.to_owned()])).set_env(Some(vec![PATH.to_owned()]));
    config
}

/// A layer with one binary and links to it.
fn binary(dir: &Path, name: &str, bin: &Path, links: &[&str]) -> Result<Layer> {
    let mut layer = LayerWriter::create(dir.join(format!("{name}.layer.tar")))?;
    layer.folder("tmp", 0o1777)?.folder("usr", 0o755)?.folder("usr/local", 0o755)?.folder(BIN, 0o755)?;
    layer.file(&format!("{BIN}/{name}"), 0o755, &bin.join(name))?;
    for link in links {
        layer.link(&format!("{BIN}/{link}"), name)?;
    }
    layer.finish()
}

/// The links that the packages' scripts would make.
fn proxy_links(dir: &Path) -> Result<Layer> {
    let mut layer = LayerWriter::create(dir.join("proxy-links.layer.tar"))?;
    for family in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            layer.link(&format!("usr/sbin/{family}{suffix}"), "xtables-nft-multi")?;
        }
    }
    layer.finish()
}

/// A shell and what it takes to make and remove a folder.
fn helper(dir: &Path, busybox: &Path) -> Result<Layer> {
    let mut layer = LayerWriter::create(dir.join("helper.layer.tar"))?;
    layer.folder("bin", 0o755)?.folder("tmp", 0o1777)?.file("bin/busybox", 0o755, busybox)?;
    for applet in ["sh", "mkdir", "rm", "chmod"] {
        layer.link(&format!("bin/{applet}"), "busybox")?;
    }
    layer.finish()
}

fn pause_layer(dir: &Path, pause: &Path) -> Result<Layer> {
    let mut layer = LayerWriter::create(dir.join("pause.layer.tar"))?;
    layer.file("pause", 0o755, pause)?;
    layer.finish()
}

/// Compiles the pause program of the Kubernetes source.
///
/// # Errors
/// There is no C compiler, or no static C library.
pub async fn compile_pause(kubernetes: &Path, site: &Site<'_>) -> Result<PathBuf> {
    let pause = site.work.join("pause");
    site.surroundings
        .command("cc")
        .args(["-Os", "-Wall", "-Werror", "-static", "-DVERSION=3.10", "-o"])
        .arg(&pause)
        .arg(kubernetes.join("build/pause/linux/pause.c"))
        .read()
        .await
        .context("cannot compile pause.c\nnext: install gcc and libc6-dev")?;
    Ok(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORAGE: &str = "package nodeimage\n\
        const storageProvisionerImage = \"docker.io/kindest/provisioner:v1\"\n\
        const storageHelperImage = \"docker.io/kindest/helper:v2\"\n\
        const defaultStorageManifest = `\nkind: Namespace\n---\nimage: ` + storageProvisionerImage + `\n\
        - ` + storageHelperImage + `\n`\n";

    #[test]
    fn images_and_manifest_are_read_from_kinds_source() {
        let says = KindSays::parse(STORAGE, "  sandbox_image = \"registry.k8s.io/pause:3.10\"\n").unwrap();
        let expected = KindSays {
            pause: "registry.k8s.io/pause:3.10".to_owned(),
            provisioner: "docker.io/kindest/provisioner:v1".to_owned(),
            helper: "docker.io/kindest/helper:v2".to_owned(),
            storage_manifest: "kind: Namespace\n---\nimage: docker.io/kindest/provisioner:v1\n- docker.io/kindest/helper:v2\n"
                .to_owned(),
        };
        assert_eq!(says, expected);
    }

    #[test]
    fn a_source_that_changed_its_shape_is_told_and_not_guessed_at() {
        let error = KindSays::parse(STORAGE, "sandbox = 1").unwrap_err().to_string();
        assert!(error.contains("sandbox_image"), "{error}");
        let other = STORAGE.replace("storageHelperImage + `\n`", "otherImage + `\n`");
        assert!(KindSays::parse(&other, "sandbox_image = \"p\"").is_err());
    }
}
