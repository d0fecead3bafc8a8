//! The versions the lab is made with, and which versions of a tool found on the machine will do.
//! The pins of tools built from source are the `go.mod` and `go.sum` files below `xtask/tools`.

use semver::Version;

/// Kubernetes, in the node image and of the kubectl that is built.
pub const KUBERNETES: &str = "v1.37.0";
/// kind, where it is built.
pub const KIND: &str = "v0.33.0";
/// Helm, where it is built.
pub const HELM: &str = "v4.3.1";
/// The Go that the pinned modules ask for.
pub const GO: Version = Version::new(1, 26, 0);

/// cargo-deny, where it is built.
pub const CARGO_DENY: &str = "0.20.2";

/// kind's own node image for [`KUBERNETES`], by digest.
pub const NODE_IMAGE: &str =
    "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5";

/// The release of Debian inside a node image built here. Its systemd 252 still boots on a host with
/// cgroup v1; 257 objects and 258 refuses.
pub const NODE_DEBIAN: &str = "bookworm";

/// A tool that may be found on `PATH`, with the versions that will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// This version or a later one of the same major version.
    AtLeast(u64, u64),
    /// From this version to before that major version.
    Below(u64, u64, u64),
    /// One minor version away at most, as Kubernetes' version skew policy allows kubectl.
    Near(u64, u64),
}

/// kind below 0.33 does not know Kubernetes 1.37's kubeadm.
pub const KIND_ACCEPTS: Accepts = Accepts::AtLeast(0, 33);
/// kubectl of the cluster's version, or one minor version beside it.
pub const KUBECTL_ACCEPTS: Accepts = Accepts::Near(1, 37);
/// The chart is written for Helm 3 and 4.
pub const HELM_ACCEPTS: Accepts = Accepts::Below(3, 15, 5);

impl Accepts {
    /// Whether this version will do.
    pub fn fits(self, version: &Version) -> bool {
        let at_least = |major, minor| (version.major, version.minor) >= (major, minor);
        match self {
            Self::AtLeast(major, minor) => at_least(major, minor) && version.major == major,
            Self::Below(major, minor, end) => at_least(major, minor) && version.major < end,
            Self::Near(major, minor) => version.major == major && version.minor.abs_diff(minor) <= 1,
        }
    }
}

impl std::fmt::Display for Accepts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(major, minor) => write!(f, "{major}.{minor} or later"),
            Self::Below(major, minor, end) => write!(f, "{major}.{minor} or later, below {end}"),
            Self::Near(major, minor) => {
                write!(f, "{major}.{} to {major}.{}", minor.saturating_sub(1), minor + 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accepted_versions_are_the_ones_that_were_seen_to_work() {
        let table = [
            (KIND_ACCEPTS, "0.32.9", false),
            (KIND_ACCEPTS, "0.33.0", true),
            (KIND_ACCEPTS, "0.40.1", true),
            (KIND_ACCEPTS, "1.0.0", false),
            (KUBECTL_ACCEPTS, "1.35.4", false),
            (KUBECTL_ACCEPTS, "1.36.0", true),
            (KUBECTL_ACCEPTS, "1.38.2", true),
            (KUBECTL_ACCEPTS, "1.39.0", false),
            (HELM_ACCEPTS, "3.14.4", false),
            (HELM_ACCEPTS, "3.15.0", true),
            (HELM_ACCEPTS, "4.3.1", true),
            (HELM_ACCEPTS, "5.0.0", false),
        ];
        for (accepts, version, fits) in table {
            assert_eq!(accepts.fits(&Version::parse(version).unwrap()), fits, "{version}: {accepts}");
        }
    }

    #[test]
    fn the_pins_agree_with_the_module_files() {
        for (pin, module) in [
            (format!("sigs.k8s.io/kind {KIND}"), include_str!("../../tools/kind/go.mod")),
            (format!("helm.sh/helm/v4 {HELM}"), include_str!("../../tools/helm/go.mod")),
            (format!("k8s.io/kubernetes {KUBERNETES}"), include_str!("../../tools/kubernetes/go.mod")),
        ] {
            assert!(module.contains(&pin), "go.mod does not pin {pin}");
        }
        assert!(NODE_IMAGE.starts_with(&format!("kindest/node:{KUBERNETES}@sha256:")));
    }
}
