//! The watches of a run: one per kind for the whole cluster, handed out to the timelines by namespace.
//!
//! One connection per kind, not per kind and experiment: a dozen experiments side by side would open a hundred.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt;
use futures::future::try_join_all;
use kube::Resource;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Request, WatchEvent, WatchParams};
use kube::core::ObjectList;
use serde_json::Value as Json;
use tokio::task::JoinSet;

use crate::run::timeline::Timeline;
use crate::transient::{self, Pauses};
use model::condition::text;
use model::kinds::{Kind, NODES, WATCHED, Watched};

/// How long the API server keeps a watch open before it ends it in good order.
const WATCHED_S: u32 = 290;
/// A watch that lasted this long did not break because it had just been opened.
const LASTED: Duration = Duration::from_secs(2);

/// The open watches. They close when this is dropped.
#[derive(Debug)]
pub struct Watches {
    timelines: Timelines,
    _tasks: JoinSet<()>,
}

type Timelines = Arc<Mutex<Open>>;

/// The timelines by namespace, and the nodes as they are now: those belong to every timeline.
#[derive(Debug, Default)]
struct Open {
    by_namespace: HashMap<String, Arc<Timeline>>,
    nodes: HashMap<String, Json>,
}

impl Watches {
    /// Opens the watches, with one of the nodes where they are asked for, and returns when each has its first list: from
    /// then on nothing is missed.
    ///
    /// # Errors
    /// When the API server does not answer a first list.
    pub async fn open(client: &kube::Client, nodes: bool) -> Result<Self> {
        let timelines = Timelines::default();
        let lists = WATCHED.iter().chain(nodes.then_some(&NODES)).map(|watched| async {
            let mut watch = Watch::new(client.clone(), watched, Arc::clone(&timelines));
            let what = format!("list {}", watch.resource.plural);
            let list = transient::read(&what, || watch.list()).await?;
            watch.version = list.metadata.resource_version;
            if watch.kind == Kind::Node {
                lock(&timelines).nodes.extend(list.items.into_iter().map(named));
            }
            anyhow::Ok(watch)
        });
        let mut tasks = JoinSet::new();
        for watch in try_join_all(lists).await? {
            tasks.spawn(watch.follow());
        }
        Ok(Self { timelines, _tasks: tasks })
    }

    /// Begins the timeline of a namespace.
    pub fn timeline(&self, namespace: &str) -> Arc<Timeline> {
        let timeline = Arc::new(Timeline::begin());
        let mut open = lock(&self.timelines);
        open.nodes.values().for_each(|node| timeline.knows(Kind::Node, node.clone()));
        open.by_namespace.insert(namespace.to_owned(), Arc::clone(&timeline));
        timeline
    }
}

/// An object with its name, and without what is of no use here: who wrote which field is half of an object.
fn named(mut object: Json) -> (String, Json) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Json::as_object_mut) {
        metadata.remove("managedFields");
    }
    (text(&object, "/metadata/name").to_owned(), object)
}

/// A watched kind as the API server knows it.
pub(super) fn resource(watched: &Watched) -> ApiResource {
    let Watched { kind, group, version, plural, .. } = watched;
    let named = GroupVersionKind::gvk(group, version, &kind.to_string());
    ApiResource::from_gvk_with_plural(&named, plural)
}

/// The watch of one kind.
///
/// kube's own `watcher` does the same and keeps a connection that ended to itself; the record has to tell of it.
struct Watch {
    client: kube::Client,
    kind: Kind,
    resource: ApiResource,
    timelines: Timelines,
    /// The resourceVersion seen last: from there a watch goes on. Without one everything is listed anew.
    version: Option<String>,
}

impl Watch {
    fn new(client: kube::Client, watched: &Watched, timelines: Timelines) -> Self {
        Self { client, kind: watched.kind, resource: resource(watched), timelines, version: None }
    }

    /// Follows the kind until the run ends. A watch that breaks is resumed where it stopped, so that nothing is
    /// lost and nothing comes twice; where the API server has forgotten that place, everything is listed anew.
    async fn follow(mut self) {
        let (mut pauses, mut broken) = (Pauses::default(), false);
        loop {
            let began = Instant::now();
            match self.go_on(&mut broken).await {
                Ok(()) => {}
                Err(error) => {
                    broken = true;
                    if began.elapsed() > LASTED {
                        pauses.reset();
                    }
                    if matches!(&error, kube::Error::Api(status) if status.code == 410) {
                        self.version = None;
                    }
                    self.tell(|timeline, kind| timeline.watch_dropped(kind, &transient::told(&error)));
                    pauses.pause().await;
                }
            }
        }
    }

    /// Lists when it must, then watches until the watch ends: in good order, or with an error.
    async fn go_on(&mut self, broken: &mut bool) -> kube::Result<()> {
        let listed = self.version.is_none();
        let version = match self.version.clone() {
            Some(version) => version,
            None => self.relist().await?,
        };
        let params = WatchParams::default().timeout(WATCHED_S);
        let request = self.request().watch(&params, &version).map_err(kube::Error::BuildRequest)?;
        let began = Instant::now();
        let mut events = pin!(self.client.request_events::<Json>(request).await?);
        self.version = Some(version);
        if std::mem::take(broken) && !listed {
            self.tell(Timeline::watch_resumed);
        }
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.version = version_of(&object).or_else(|| self.version.take());
                    self.hand_out(object);
                }
                WatchEvent::Deleted(object) => {
                    self.version = version_of(&object).or_else(|| self.version.take());
                    if self.kind == Kind::Node {
                        lock(&self.timelines).nodes.remove(text(&object, "/metadata/name"));
                    }
                    for timeline in self.timelines_of(&object) {
                        timeline.deleted(self.kind, &object);
                    }
                }
                WatchEvent::Bookmark(bookmark) => self.version = Some(bookmark.metadata.resource_version),
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        // kube takes a connection that is cut for the end of the stream.
        match began.elapsed() + Duration::from_secs(1) < Duration::from_secs(u64::from(WATCHED_S)) {
            true => Err(kube::Error::ReadEvents(std::io::Error::other("the connection was closed"))),
            false => Ok(()),
        }
    }

    async fn relist(&mut self) -> kube::Result<String> {
        let list = self.list().await?;
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        for object in list.items {
            let namespace = text(&object, "/metadata/namespace").to_owned();
            names.entry(namespace).or_default().push(text(&object, "/metadata/name").to_owned());
            self.hand_out(object);
        }
        let version = list.metadata.resource_version.unwrap_or_default();
        let number = version.parse().unwrap_or(0);
        for (namespace, timeline) in &lock(&self.timelines).by_namespace {
            let namespace = if self.kind == Kind::Node { "" } else { namespace };
            timeline.relisted(self.kind, names.get(namespace).map_or(&[], Vec::as_slice), number);
        }
        Ok(version)
    }

    async fn list(&self) -> kube::Result<ObjectList<Json>> {
        let request = self.request().list(&ListParams::default()).map_err(kube::Error::BuildRequest)?;
        self.client.request(request).await
    }

    fn request(&self) -> Request {
        Request::new(DynamicObject::url_path(&self.resource, None))
    }

    fn hand_out(&self, object: Json) {
        let (name, object) = named(object);
        if self.kind == Kind::Node {
            lock(&self.timelines).nodes.insert(name, object.clone());
        }
        let timelines = self.timelines_of(&object);
        let Some((last, others)) = timelines.split_last() else { return };
        others.iter().for_each(|timeline| timeline.applied(self.kind, object.clone()));
        last.applied(self.kind, object);
    }

    /// That of its namespace, or all where it belongs to none.
    fn timelines_of(&self, object: &Json) -> Vec<Arc<Timeline>> {
        let open = lock(&self.timelines);
        match self.kind {
            Kind::Node => open.by_namespace.values().cloned().collect(),
            _ => open.by_namespace.get(text(object, "/metadata/namespace")).cloned().into_iter().collect(),
        }
    }

    fn tell(&self, what: impl Fn(&Timeline, Kind)) {
        for timeline in lock(&self.timelines).by_namespace.values() {
            what(timeline, self.kind);
        }
    }
}

fn version_of(object: &Json) -> Option<String> {
    Some(text(object, "/metadata/resourceVersion").to_owned()).filter(|version| !version.is_empty())
}

fn lock(timelines: &Timelines) -> std::sync::MutexGuard<'_, Open> {
    timelines.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    #[tokio::test]
    async fn a_list_tells_how_far_the_watch_has_come() {
        let watched = WATCHED.iter().find(|watched| watched.kind == Kind::StatefulSet).unwrap();
        let timeline = Arc::new(Timeline::begin());
        let timelines = Timelines::default();
        lock(&timelines).by_namespace.insert("lab".to_owned(), Arc::clone(&timeline));
        // The fake's lists are empty, and of resourceVersion 1.
        let mut watch = Watch::new(Fake::serving(|_, _| None).client(), watched, timelines);
        assert!(!timeline.reached(Kind::StatefulSet, "counter", 1));
        assert_eq!(watch.relist().await.unwrap(), "1");
        assert!(
            timeline.reached(Kind::StatefulSet, "counter", 1),
            "it came and went while the watch was down"
        );
    }
}
