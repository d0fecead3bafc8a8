//! What is on the machine now. Finding it out changes nothing.

use anyhow::Result;

use machine::container::{Engine, program_exists};
use machine::tools::gomod::Go;
use machine::tools::{self, Found, Wanted};
use machine::workspace::Workspace;
use node_image::NodeImage;

use crate::{Environment, Kind, Need};

/// A program of the distribution that something is built with.
pub struct HostProgram {
    /// What it is called.
    pub name: &'static str,
    /// The packages of Debian and Ubuntu that bring it.
    pub packages: &'static [&'static str],
    /// What it is for.
    pub purpose: &'static str,
    node_image_only: bool,
}

/// All of them.
pub const HOST_PROGRAMS: [HostProgram; 3] = [
    HostProgram {
        name: "busybox",
        packages: &["busybox-static"],
        purpose: "the shell and tools in the images",
        node_image_only: false,
    },
    HostProgram {
        name: "mmdebstrap",
        packages: &["mmdebstrap"],
        purpose: "the node image's Debian",
        node_image_only: true,
    },
    HostProgram {
        name: "cc",
        packages: &["gcc", "libc6-dev"],
        purpose: "the node image's pause program",
        node_image_only: true,
    },
];

impl HostProgram {
    /// Whether a run needs it that has or has not a cluster and a node image to make, and has or has not its image
    /// built by Nix, which brings its own busybox.
    pub fn needed(&self, own_cluster: bool, builds_node: bool, nix_builds: bool) -> bool {
        own_cluster && (builds_node || (!self.node_image_only && !nix_builds))
    }

    /// Whether it is there and will do.
    pub fn is_there(&self) -> bool {
        match self.name {
            "busybox" => tools::static_busybox().is_ok(),
            name => program_exists(name),
        }
    }
}

/// What is on the machine now. Finding it out changes nothing.
pub struct Survey {
    /// A Go that answers, or why there is none.
    pub go: Result<Go>,
    /// The container engine, or why it can't be used.
    pub engine: Result<Option<Engine>>,
    /// kind.
    pub kind: Found,
    /// kubectl.
    pub kubectl: Found,
    /// helm.
    pub helm: Found,
    /// The node image that is there.
    pub node_image: Option<NodeImage>,
    /// Whether Nix builds the counter's image; not looked at where cargo can as well.
    pub nix_builds: bool,
}

impl Survey {
    /// Looks at the machine.
    pub async fn take(workspace: &Workspace) -> Self {
        let (go, engine) = tokio::join!(Go::find(), Engine::find(workspace));
        let usable = go.as_ref().ok().filter(|go| go.fits());
        let look = |wanted| tools::find(workspace, usable, wanted);
        let image = async {
            match &engine {
                Ok(Some(engine)) if engine.missing_packages().is_empty() => {
                    node_image::find(workspace, engine, usable).await
                }
                _ => None,
            }
        };
        // What Nix has built before, it can build.
        let built = workspace.image().join("nix.json").exists();
        let nix = async {
            tools::static_busybox().is_err()
                && (built || tools::nix::obstacle(&workspace.root).await.is_none())
        };
        let (kind, kubectl, helm, node_image, nix_builds) =
            tokio::join!(look(Wanted::Kind), look(Wanted::Kubectl), look(Wanted::Helm), image, nix);
        Self { go, engine, kind, kubectl, helm, node_image, nix_builds }
    }

    /// With the node image that was asked for in place of the one that is there.
    #[must_use]
    pub(crate) fn with_node(mut self, asked: Option<&str>) -> Self {
        self.node_image = asked.map(NodeImage::asked).or(self.node_image);
        self
    }

    pub(crate) fn environment(&self, need: Need) -> Option<Environment> {
        let kind = match need {
            Need::Tools => None,
            Need::OwnCluster => Some(Kind {
                tool: self.kind.tool.clone()?,
                engine: self.engine.as_ref().ok()?.clone()?,
                node_image: self.node_image.clone()?,
            }),
        };
        Some(Environment { kubectl: self.kubectl.tool.clone()?, helm: self.helm.tool.clone()?, kind })
    }
}
