//! The watches of a run: one per kind for the whole cluster, handed out to the timelines by namespace.
//!
//! One connection per kind, not per kind and experiment: a dozen experiments side by side would open a hundred.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value as Json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::run::timeline::Timeline;

/// The open watches. They close when this is dropped.
#[derive(Debug)]
pub struct Watches {
    timelines: Timelines,
    _tasks: JoinSet<()>,
}

type Timelines = Arc<Mutex<HashMap<String, Arc<Timeline>>>>;

impl Watches {
    /// Opens the watches and returns when each has its first list: from then on nothing is missed.
    ///
    /// # Errors
    /// When the API server does not answer a first list.
    pub async fn open(client: &kube::Client) -> Result<Self> {
        let timelines = Timelines::default();
        let mut tasks = JoinSet::new();
        let (listed, mut all_listed) = mpsc::channel::<Result<()>>(16);
        let resources = resources();
        let kinds = resources.len();
        for resource in resources {
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            tasks.spawn(follow(api, resource.kind, Arc::clone(&timelines), listed.clone()));
        }
        for _ in 0..kinds {
            all_listed.recv().await.context("a watch ended before its first list")??;
        }
        Ok(Self { timelines, _tasks: tasks })
    }

    /// Begins the timeline of a namespace.
    pub fn timeline(&self, namespace: &str) -> Arc<Timeline> {
        let timeline = Arc::new(Timeline::begin());
        lock(&self.timelines).insert(namespace.to_owned(), Arc::clone(&timeline));
        timeline
    }
}

/// The kinds that are watched: those that expressions see, and events, which explain.
pub fn resources() -> Vec<ApiResource> {
    vec![
        ApiResource::erase::<Pod>(&()),
        ApiResource::erase::<StatefulSet>(&()),
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<EndpointSlice>(&()),
        ApiResource::erase::<ControllerRevision>(&()),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<Event>(&()),
    ]
}

/// Follows one kind until the run ends. The watcher reconnects with backoff and lists anew when it must.
async fn follow(
    api: Api<DynamicObject>,
    kind: String,
    timelines: Timelines,
    listed: mpsc::Sender<Result<()>>,
) {
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut list: Vec<(String, String)> = Vec::new();
    let (mut first_list, mut failures) = (true, 0);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => list.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                list.push((namespace_of(&object), object.metadata.name.clone().unwrap_or_default()));
                apply(&timelines, &kind, object);
            }
            Ok(watcher::Event::InitDone) => {
                if first_list {
                    first_list = false;
                    // The receiver is gone only when the run is.
                    let _ = listed.send(Ok(())).await;
                    continue;
                }
                for (namespace, timeline) in lock(&timelines).iter() {
                    let here = list.iter().filter(|(other, _)| other == namespace);
                    let names: Vec<String> = here.map(|(_, name)| name.clone()).collect();
                    timeline.relisted(&kind, &names);
                }
            }
            Ok(watcher::Event::Apply(object)) => apply(&timelines, &kind, object),
            Ok(watcher::Event::Delete(object)) => {
                if let Some(timeline) = lock(&timelines).get(&namespace_of(&object)) {
                    timeline.deleted(&kind, object.metadata.name.as_deref().unwrap_or_default());
                }
            }
            Err(error) if first_list => {
                failures += 1;
                if failures == 5 {
                    let error =
                        anyhow::Error::new(error).context(format!("cannot list and watch {kind} objects"));
                    let _ = listed.send(Err(error)).await;
                }
            }
            // Taken up again with backoff; the relist says so in the timelines.
            Err(_) => {}
        }
    }
}

fn apply(timelines: &Timelines, kind: &str, mut object: DynamicObject) {
    let timeline = lock(timelines).get(&namespace_of(&object)).cloned();
    if let Some(timeline) = timeline {
        // Who wrote which field is half of an object and of no use here.
        object.metadata.managed_fields = None;
        timeline.applied(kind, serde_json::to_value(object).unwrap_or(Json::Null));
    }
}

fn namespace_of(object: &DynamicObject) -> String {
    object.metadata.namespace.clone().unwrap_or_default()
}

fn lock(timelines: &Timelines) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Timeline>>> {
    timelines.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
