//! The fields that labs speak of: where they stand, whatever the values of a chart are called.

use super::difference::Field;

/// A field that labs speak of.
#[derive(Debug)]
pub(super) struct Setting {
    /// What it is called.
    pub(super) name: &'static str,
    kind: &'static str,
    /// JSON pointer; `*` stands for any index.
    pointer: &'static str,
}

const fn of(name: &'static str, kind: &'static str, pointer: &'static str) -> Setting {
    Setting { name, kind, pointer }
}

/// All of them. <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/stateful-set-v1/>
pub(super) const SETTINGS: [Setting; 17] = [
    of("replicas", "StatefulSet", "/spec/replicas"),
    of("image", "StatefulSet", "/spec/template/spec/containers/*/image"),
    of("podManagementPolicy", "StatefulSet", "/spec/podManagementPolicy"),
    of("updateStrategy.type", "StatefulSet", "/spec/updateStrategy/type"),
    of("partition", "StatefulSet", "/spec/updateStrategy/rollingUpdate/partition"),
    of("maxUnavailable", "StatefulSet", "/spec/updateStrategy/rollingUpdate/maxUnavailable"),
    of("ordinals.start", "StatefulSet", "/spec/ordinals/start"),
    of("minReadySeconds", "StatefulSet", "/spec/minReadySeconds"),
    of("retention.whenDeleted", "StatefulSet", "/spec/persistentVolumeClaimRetentionPolicy/whenDeleted"),
    of("retention.whenScaled", "StatefulSet", "/spec/persistentVolumeClaimRetentionPolicy/whenScaled"),
    of("claim size", "StatefulSet", "/spec/volumeClaimTemplates/*/spec/resources/requests/storage"),
    of("storage class", "StatefulSet", "/spec/volumeClaimTemplates/*/spec/storageClassName"),
    of("resources", "StatefulSet", "/spec/template/spec/containers/*/resources"),
    of("service type", "Service", "/spec/type"),
    of("service port", "Service", "/spec/ports/*/port"),
    of("node port", "Service", "/spec/ports/*/nodePort"),
    of("the set itself", "StatefulSet", ""),
];

impl Setting {
    /// Whether a change of `field` is a change of this: it is the same, on the way to it, or inside it.
    pub(super) fn is(&self, field: &Field) -> bool {
        if field.kind != self.kind || self.pointer.is_empty() != field.pointer.is_empty() {
            return false;
        }
        let mut ours = self.pointer.split('/').skip(1);
        let mut theirs = field.pointer.split('/').skip(1);
        loop {
            match (ours.next(), theirs.next()) {
                (Some("*"), Some(index)) if index.bytes().all(|byte| byte.is_ascii_digit()) => {}
                (Some(one), Some(other)) if one == other => {}
                // The whole of it comes or goes.
                (Some(_), None) => return self.pointer.split('/').count() > 2 && field.pointer.len() > 5,
                (None, _) => return true,
                _ => return false,
            }
        }
    }
}
