//! The images that kubeadm and kind expect in the node: each a static binary on nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::parts::{Parts, Site};
use archive::{Image, Layer, LayerWriter};
use machine::advice::advised;
use machine::pins;

/// Where the binaries are in every image.
const BIN: &str = "usr/local/bin";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The agent of each node, and its rights.
pub(crate) const AGENT_MANIFEST: &str = include_str!("../../tools/node-agent/agent.yaml");
/// What the manifest calls the agent's image.
const AGENT_IMAGE: &str = "localhost/statefulset-lab/node-agent:v1";

/// The image that holds a pod's namespaces open, as kind's containerd is told to call it.
///
/// # Errors
/// It does not name it.
pub(crate) fn pause_image(containerd_config: &str) -> Result<String> {
    let (_, named) = containerd_config.split_once("sandbox_image = \"").unwrap_or_default();
    let (name, _) = named
        .split_once('"')
        .ok_or_else(|| anyhow!("kind's containerd configuration does not name its sandbox_image"))?;
    Ok(name.to_owned())
}

/// The names of the control plane's images, as this version of kubeadm asks for them.
///
/// # Errors
/// kubeadm does not run.
pub(crate) async fn kubeadm_images(parts: &Parts, site: &Site<'_>) -> Result<Vec<String>> {
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
pub(crate) fn images(
    parts: &Parts,
    (pause_image, pause): (&str, &Path),
    wanted: &[String],
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
    let single = |tag: &str, layer: Layer, entry: &str| Image {
        tags: vec![tag.to_owned()],
        layers: vec![layer],
        config: starts(entry),
    };
    let agent = binary(dir, "node-agent", &parts.node_agent, &[])?;
    images.push(single(AGENT_IMAGE, agent, &format!("/{BIN}/node-agent")));
    images.push(single(pause_image, pause_layer(dir, pause)?, "/pause"));
    Ok(images)
}

/// The four images that share the multi-call binary.
const KUBE_IMAGES: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"];

fn starts(entry: &str) -> Value {
    json!({ "Env": [PATH], "Entrypoint": [entry] })
}

/// A layer with one binary and links to it.
fn binary(dir: &Path, name: &str, bin: &Path, links: &[&str]) -> Result<Layer> {
    let mut layer = LayerWriter::create(dir.join(format!("{name}.layer.tar")))?;
    layer.folder("tmp", 0o1777)?.folder("usr", 0o755)?.folder("usr/local", 0o755)?.folder(BIN, 0o755)?;
    layer.file(&format!("{BIN}/{name}"), 0o755, &bin.join(name))?;
    for link in links {
        layer.link(&format!("{BIN}/{link}"), name)?;
    }
    layer.finish(name)
}

/// The links that the packages' scripts would make.
fn proxy_links(dir: &Path) -> Result<Layer> {
    let mut layer = LayerWriter::create(dir.join("proxy-links.layer.tar"))?;
    for family in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            layer.link(&format!("usr/sbin/{family}{suffix}"), "xtables-nft-multi")?;
        }
    }
    layer.finish("links to iptables")
}

fn pause_layer(dir: &Path, pause: &Path) -> Result<Layer> {
    let mut layer = LayerWriter::create(dir.join("pause.layer.tar"))?;
    layer.file("pause", 0o755, pause)?;
    layer.finish("pause")
}

/// Compiles the pause program of the Kubernetes source.
///
/// # Errors
/// There is no C compiler, or no static C library.
pub(crate) async fn compile_pause(kubernetes: &Path, site: &Site<'_>) -> Result<PathBuf> {
    let pause = site.work.join("pause");
    site.surroundings
        .command("cc")
        .args(["-Os", "-Wall", "-Werror", "-static", "-DVERSION=3.10", "-o"])
        .arg(&pause)
        .arg(kubernetes.join("build/pause/linux/pause.c"))
        .read()
        .await
        .context(advised("cannot compile pause.c", "install gcc and libc6-dev"))?;
    Ok(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_image_is_read_from_kinds_source_and_not_guessed_at() {
        let config = "[plugins]\n  sandbox_image = \"registry.k8s.io/pause:3.10\"\n";
        assert_eq!(pause_image(config).unwrap(), "registry.k8s.io/pause:3.10");
        let error = pause_image("sandbox = 1").unwrap_err().to_string();
        assert!(error.contains("sandbox_image"), "{error}");
    }

    #[test]
    fn the_agents_manifest_starts_the_image_that_is_made_here() {
        assert!(AGENT_MANIFEST.contains(&format!("image: {AGENT_IMAGE}\n")));
    }
}
