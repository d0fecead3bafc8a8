//! The versions this lab is made with: one place, which `checks::versions` compares with every other mention.

/// Kubernetes of the cluster and of `kubectl`.
pub const KUBERNETES: &str = "v1.37.0";

/// kind, as `xtask/tools/kind/go.mod` builds it.
pub const KIND: &str = "v0.33.0";

/// Helm, as `xtask/tools/helm/go.mod` builds it.
pub const HELM: &str = "v4.3.1";

/// The node image that kind 0.33 was released with, by digest: kind's own default is never relied on.
pub const NODE_IMAGE: &str =
    "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5";
