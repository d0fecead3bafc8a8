//! What the node has and can have: the kinds that its API serves, and the images that charts of others name.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use futures::future::join_all;
use kube::discovery::Discovery;
use serde_json::Value as Json;
use tokio::sync::{Mutex, OnceCell};

use crate::cluster::{Cluster, full_name};
use crate::image::Image;
use crate::lab::adapt::Adapt;
use crate::transient;
use cli::ImageOf;

/// The node, asked once for each image.
pub(crate) struct Node<'a> {
    cluster: &'a Cluster,
    /// Our own image, as it is called in the node.
    ours: Option<String>,
    kinds: BTreeSet<String>,
    /// Images that were loaded for its charts.
    given: BTreeSet<String>,
    asked: Mutex<BTreeMap<String, std::sync::Arc<OnceCell<bool>>>>,
}

impl<'a> Node<'a> {
    /// Asks for the kinds.
    ///
    /// # Errors
    /// The API server does not answer.
    pub(crate) async fn of(
        cluster: &'a Cluster,
        client: &kube::Client,
        ours: Option<&Image>,
        given: &[Image],
    ) -> Result<Self> {
        let found =
            transient::read("list the kinds that there are", || Discovery::new(client.clone()).run()).await?;
        let kinds = found.groups().flat_map(|group| {
            group
                .versions()
                .flat_map(|version| group.versioned_resources(version))
                .map(|(resource, _)| resource)
        });
        let kinds = kinds.map(|resource| format!("{} {}", resource.api_version, resource.kind)).collect();
        let ours = ours.map(|image| full_name(&image.name));
        let given = given.iter().map(|image| full_name(&image.name)).collect();
        Ok(Self { cluster, ours, kinds, given, asked: Mutex::default() })
    }

    /// What a chart is adapted to that renders these objects.
    pub(crate) async fn adapt(&self, objects: &[Json], images: ImageOf) -> Adapt {
        let kinds = self.kinds.clone();
        let Some(ours) = &self.ours else { return Adapt { kinds, ..Adapt::default() } };
        let mut named = BTreeSet::new();
        objects.iter().for_each(|object| images_of(object, &mut named));
        let asked = named.into_iter().map(|image| async {
            let has = match images {
                _ if self.given.contains(&full_name(&image)) => true,
                ImageOf::Chart => true,
                ImageOf::StandIn => false,
                ImageOf::Auto => self.has(&image).await,
            };
            (image, has)
        });
        let lacks = join_all(asked).await.into_iter().filter(|(_, has)| !has);
        let stand_ins = lacks.map(|(image, _)| (image, ours.clone())).collect();
        Adapt { kinds, stand_ins, shell: Some(ours.clone()), ..Adapt::default() }
    }

    async fn has(&self, image: &str) -> bool {
        let once = std::sync::Arc::clone(self.asked.lock().await.entry(image.to_owned()).or_default());
        *once.get_or_init(|| self.cluster.can_have(image)).await
    }
}

/// The images that containers name, wherever they stand.
fn images_of(object: &Json, found: &mut BTreeSet<String>) {
    match object {
        Json::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Json::Array(containers) if key == "containers" || key == "initContainers" => {
                        let images = containers.iter().filter_map(|container| container["image"].as_str());
                        found.extend(images.map(str::to_owned));
                    }
                    value => images_of(value, found),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| images_of(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_are_found_in_every_kind_of_workload() {
        let mut found = BTreeSet::new();
        let cron = json!({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec":
            {"initContainers": [{"image": "a"}], "containers": [{"image": "b"}]}}}}}});
        images_of(&cron, &mut found);
        images_of(&json!({"kind": "ConfigMap", "data": {"image": "c"}}), &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}
