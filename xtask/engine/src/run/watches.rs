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
use model::kinds::{Kind, WATCHED, Watched};

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

type Timelines = Arc<Mutex<HashMap<String, Arc<Timeline>>>>;

impl Watches {
    /// Opens the watches and returns when each has its first list: from then on nothing is missed.
    ///
    /// # Errors
    /// When the API server does not answer a first list.
    pub async fn open(client: &kube::Client) -> Result<Self> {
        let timelines = Timelines::default();
        let lists = WATCHED.iter().map(|watched| async {
            let mut watch = Watch::new(client.clone(), watched, Arc::clone(&timelines));
            let what = format!("list {}", watch.resource.plural);
            let version = transient::read(&what, || watch.list()).await?.metadata.resource_version;
            watch.version = version;
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
        lock(&self.timelines).insert(namespace.to_owned(), Arc::clone(&timeline));
        timeline
    }
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
                    if let Some(timeline) = self.timeline_of(&object) {
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
        for (namespace, timeline) in lock(&self.timelines).iter() {
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

    fn hand_out(&self, mut object: Json) {
        if let Some(timeline) = self.timeline_of(&object) {
            // Who wrote which field is half of an object and of no use here.
            if let Some(metadata) = object.get_mut("metadata").and_then(Json::as_object_mut) {
                metadata.remove("managedFields");
            }
            timeline.applied(self.kind, object);
        }
    }

    fn timeline_of(&self, object: &Json) -> Option<Arc<Timeline>> {
        lock(&self.timelines).get(text(object, "/metadata/namespace")).cloned()
    }

    fn tell(&self, what: impl Fn(&Timeline, Kind)) {
        for timeline in lock(&self.timelines).values() {
            what(timeline, self.kind);
        }
    }
}

fn version_of(object: &Json) -> Option<String> {
    Some(text(object, "/metadata/resourceVersion").to_owned()).filter(|version| !version.is_empty())
}

fn lock(timelines: &Timelines) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Timeline>>> {
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
        lock(&timelines).insert("lab".to_owned(), Arc::clone(&timeline));
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
