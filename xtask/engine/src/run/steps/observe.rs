//! `observe`: the objects of the namespace as the API server has them at this moment, not as a watch saw them.

use std::time::Instant;

use anyhow::Result;
use futures::future::try_join_all;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::{Map, Value as Json};

use crate::run::bench::Bench;
use crate::run::watches;
use crate::transient;
use model::kinds::{Kind, NODES, WATCHED};

pub(super) async fn observe(bench: &Bench<'_>) -> Result<Json> {
    let nodes = bench.access.nodes.as_ref().map(|_| &NODES);
    let kinds = WATCHED.iter().chain(nodes);
    let kinds =
        kinds.filter_map(|watched| Some((watched.variable?, watched.kind, watches::resource(watched))));
    let kinds: Vec<_> = kinds.collect();
    let lists = kinds.iter().map(|(variable, kind, resource)| async {
        let client = bench.access.client.clone();
        let api: Api<DynamicObject> = match kind {
            Kind::Node => Api::all_with(client, resource),
            _ => Api::namespaced_with(client, &bench.namespace, resource),
        };
        let asked = Instant::now();
        let (what, all) = (format!("list {} of {}", resource.plural, bench.namespace), ListParams::default());
        let objects = transient::read(&what, || api.list(&all)).await;
        bench.timeline.ledger.cluster(asked, Instant::now());
        let mut by_name: Vec<(String, Json)> = Vec::new();
        for mut object in objects?.items {
            object.metadata.managed_fields = None;
            by_name.push((object.metadata.name.clone().unwrap_or_default(), serde_json::to_value(object)?));
        }
        by_name.sort_by(|(a, _), (b, _)| a.cmp(b));
        anyhow::Ok(((*variable).to_owned(), Json::Object(by_name.into_iter().collect())))
    });
    Ok(Json::Object(try_join_all(lists).await?.into_iter().collect::<Map<_, _>>()))
}
