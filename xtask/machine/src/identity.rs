//! Who a run is: a user, on a host, with a cache. What it makes outside of its own folders bears this name, and what
//! bears another is somebody else's.

use std::fmt;
use std::path::Path;

use rustix::process::getuid;
use rustix::system::uname;

use crate::digest::sha256;

/// Hexadecimal digits of a key: with the longest name that kind and the node add it still is a DNS label.
const KEY_CHARS: usize = 8;

/// How the names of the lab's own clusters begin, and so those of their nodes; a key follows.
pub const CLUSTER: &str = "statefulset-lab-";

/// A user, a host, and the cache that the two share with nobody: checkouts of one user have one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    user: String,
    host: String,
    key: String,
}

impl Identity {
    /// That of this process, with this cache.
    pub fn here(cache: &Path) -> Self {
        let uid = getuid().as_raw();
        let named = ["USER", "LOGNAME"].into_iter().find_map(|key| std::env::var(key).ok());
        let host = uname().nodename().to_string_lossy().into_owned();
        Self::of(uid, &named.unwrap_or_else(|| uid.to_string()), &host, cache)
    }

    /// A user may be called as others are on another host, and `sudo` keeps a name: the key is made of the uid.
    fn of(uid: u32, user: &str, host: &str, cache: &Path) -> Self {
        let all = format!("{uid}\n{host}\n{}", cache.display());
        let key = sha256(all.as_bytes())[..KEY_CHARS].to_owned();
        Self { user: user.to_owned(), host: host.to_owned(), key }
    }

    /// Eight hexadecimal digits: fit for a label, and for a part of any name.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Name of the lab's own cluster, and of the engine's network that it is in.
    pub fn cluster(&self) -> String {
        format!("{CLUSTER}{}", self.key)
    }
}

/// The name of a node without that of a cluster of ours, which differs from machine to machine.
pub fn node(name: &str) -> &str {
    name.strip_prefix(CLUSTER).and_then(|rest| rest.split_once('-')).map_or(name, |(_, node)| node)
}

/// `USER@HOST`, for people.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_host_or_cache_has_another_cluster_and_another_checkout_the_same() {
        let mine = Identity::of(1000, "ann", "desk", Path::new("/home/ann/.cache/statefulset-lab"));
        assert_eq!(mine, Identity::of(1000, "ann", "desk", Path::new("/home/ann/.cache/statefulset-lab")));
        let others = [
            Identity::of(1001, "ann", "desk", Path::new("/home/ann/.cache/statefulset-lab")),
            Identity::of(1000, "ann", "rack", Path::new("/home/ann/.cache/statefulset-lab")),
            Identity::of(1000, "ann", "desk", Path::new("/big/statefulset-lab")),
        ];
        for other in others {
            assert_ne!(mine.cluster(), other.cluster());
        }
        assert_eq!(mine.to_string(), "ann@desk");
    }

    #[test]
    fn its_names_fit_for_labels_and_containers() {
        let identity = Identity::of(1000, "Ann Ä.", "a.very.long.host", Path::new("/c"));
        let node = format!("{}-control-plane", identity.cluster());
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(node.len() <= 63 && node.chars().all(fits), "{node}");
    }

    #[test]
    fn a_node_of_ours_is_called_the_same_on_every_machine() {
        assert_eq!(node("statefulset-lab-0123abcd-worker2"), "worker2");
        assert_eq!(node("statefulset-lab-0123abcd-control-plane"), "control-plane");
        assert_eq!(node("kind-worker"), "kind-worker");
    }
}
