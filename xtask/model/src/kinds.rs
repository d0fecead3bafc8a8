//! The kinds of Kubernetes' objects that a run watches, and the limits of their names.

/// The kinds that are watched, and the variable that holds their objects by name.
pub const KINDS: [(&str, &str); 8] = [
    ("Pod", "pods"),
    ("StatefulSet", "statefulsets"),
    ("Deployment", "deployments"),
    ("Service", "services"),
    ("PersistentVolumeClaim", "volume_claims"),
    ("EndpointSlice", "endpoints"),
    ("ControllerRevision", "revisions"),
    ("Job", "jobs"),
];

/// What the variable `target` of expressions may hold.
pub const TARGET_FIELDS: [&str; 10] = [
    "release",
    "namespace",
    "statefulset",
    "deployment",
    "headless",
    "service",
    "pods",
    "volume_claim",
    "port",
    "domain",
];

/// A namespace's name is a DNS label: <https://www.rfc-editor.org/rfc/rfc1123>.
pub const NAMESPACE_CHARS: usize = 63;
