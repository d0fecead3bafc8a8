//! What is on the machine now. Finding it out changes nothing.

use anyhow::Result;

use machine::container::Engine;
use machine::tools::gomod::Go;
use machine::tools::{self, Found, Wanted};
use machine::workspace::Workspace;
use node_image::NodeImage;

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
}
