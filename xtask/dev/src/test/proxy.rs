//! The lab through a proxy that cuts every connection to the API server: nothing may be lost, nothing come twice.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams};
use kube::config::Kubeconfig;
use serde_json::{Value as Json, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::LAB_DEADLINE;
use crate::checks::Outcome;
use engine::Timeline;
use engine::Watches;
use engine::namespace_name;
use machine::command::Command;
use machine::workspace::Workspace;
use model::condition;
use model::kinds::{Change, Kind, WATCHED};
use model::record::{ExperimentRecord, Record, Transition};

const LAB: &str = "xtask/dev/src/test/proxy.yaml";
/// How long connections are refused after a cut.
const REFUSED: Duration = Duration::from_secs(1);
/// How long no connection comes or goes when the lab waits to be let go on.
const CALM: Duration = Duration::from_millis(500);
/// The reads of the lab that are cut off, one after the other: those of a tool, of a visit, of a command inside a
/// pod, and of our own.
const READS: usize = 4;

/// Runs the lab through the proxy, which cuts in the middle of the update and then at each read. Another pair of eyes
/// watches past the proxy: both must have seen the same.
pub(super) async fn run(workspace: &Workspace, program: &Path) -> Result<Outcome> {
    let direct = Kubeconfig::read_from(workspace.kubeconfig())?;
    let past = engine::client(&workspace.kubeconfig()).await?;
    let watches = Watches::open(&past, false).await?;
    // To the lab this cluster is one of somebody else's.
    let namespace = namespace_name("proxy", None, "cut", Some(&workspace.identity()));
    let seen = watches.timeline(&namespace);
    let (proxy, kubeconfig, context) = through_proxy(workspace, direct).await?;
    let lab = Command::new(program)
        .args(["lab", "--lab", LAB, "--cluster", &format!("context:{context}")])
        .env("KUBECONFIG", kubeconfig)
        .dir(&workspace.root)
        .deadline(LAB_DEADLINE);
    let cuts = Cell::new(0);
    let lab = tokio::select! {
        ended = lab.output() => ended?,
        failed = cut(&proxy, &past, &namespace, &seen, &cuts) => return failed.map(|never| match never {}),
    };
    ensure!(lab.status == 0, "the lab ended with {}\n{}{}", lab.status, lab.stderr, lab.stdout);
    let cuts = cuts.get();
    ensure!(cuts == 1 + READS, "the lab came to its end after {cuts} cuts of {}", 1 + READS);
    let record = std::fs::read_to_string(workspace.lab.join("run.json"))?;
    let record: Record = serde_json::from_str(&record)?;
    let experiment = record.experiments.first().context("the record has no experiment")?;
    told(experiment, cuts)?;
    let compared = same(&experiment.timeline, &seen.transitions())?;
    Ok(Outcome::Passed(format!("{cuts} cuts, {compared} transitions, none lost and none twice")))
}

/// A kubeconfig whose server is a proxy of ours: TLS still asks for the certificate of the real one.
async fn through_proxy(workspace: &Workspace, mut config: Kubeconfig) -> Result<(Proxy, PathBuf, String)> {
    let context = config.current_context.clone().context("the kubeconfig has no current context")?;
    let cluster = config.clusters.first_mut().and_then(|named| named.cluster.as_mut());
    let cluster = cluster.context("the kubeconfig has no cluster")?;
    let server: hyper::Uri = cluster.server.as_deref().unwrap_or_default().parse()?;
    let host = server.host().context("the cluster's server has no name")?.to_owned();
    let port = server.port_u16().unwrap_or(443);
    let to = tokio::net::lookup_host((host.as_str(), port)).await?.next();
    let proxy = Proxy::open(to.with_context(|| format!("{host} has no address"))?).await?;
    cluster.server = Some(format!("https://{}", proxy.address));
    cluster.tls_server_name = Some(host);
    let folder = workspace.lab.join("proxy");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("kubeconfig");
    std::fs::write(&file, serde_json::to_string(&config)?)?;
    Ok((proxy, file, context))
}

/// Cuts while the update waits for its second pod, and then at each of the reads that follow; counts how often.
async fn cut(
    proxy: &Proxy,
    past: &kube::Client,
    namespace: &str,
    seen: &Timeline,
    cuts: &Cell<usize>,
) -> Result<Infallible> {
    let mut changes = seen.subscribe();
    // The first pod of the new revision is ready: Helm is long done, and only watches are open.
    while !updated(seen) {
        changes.changed().await.expect("the timeline is ours");
    }
    proxy.cut();
    cuts.set(1);
    for number in 1..=READS {
        proxy.snare(WATCHED.len()).await;
        tell(past, namespace, number).await?;
        proxy.caught().await;
        cuts.update(|cuts| cuts + 1);
    }
    std::future::pending().await
}

/// Lets the lab go on: it waits for this before each of its reads, with the watches that are open already.
async fn tell(past: &kube::Client, namespace: &str, number: usize) -> Result<()> {
    let services: Api<Service> = Api::namespaced(past.clone(), namespace);
    let laid = json!({"metadata": {"annotations": {"snare": number.to_string()}}});
    let patched = services.patch("counter", &PatchParams::default(), &Patch::Merge(laid)).await;
    patched.context("cannot tell the lab that the snare is laid").map(drop)
}

fn updated(seen: &Timeline) -> bool {
    let ready: BTreeMap<String, Json> =
        seen.objects(Kind::Pod).into_iter().filter(|(_, pod)| condition::ready(pod)).collect();
    let revisions = ready.values().filter_map(|pod| pod.pointer("/metadata/labels/controller-revision-hash"));
    let first = seen.transitions().into_iter().find_map(|transition| transition.revision);
    revisions.into_iter().any(|revision| first.as_deref() != revision.as_str())
}

/// The record says that the watches were cut and taken up again, and that reads were asked again.
fn told(experiment: &ExperimentRecord, cuts: usize) -> Result<()> {
    for kind in [Kind::Pod, Kind::StatefulSet] {
        let of_watch = |what: Change| {
            experiment
                .timeline
                .iter()
                .filter(|it| it.kind == Kind::Watch && it.name == kind.to_string() && it.what == what)
                .count()
        };
        let (dropped, back) =
            (of_watch(Change::Dropped), of_watch(Change::Resumed) + of_watch(Change::Relisted));
        ensure!(
            dropped >= 2 && dropped <= cuts,
            "the watch of {kind}s was dropped {dropped} times in {cuts} cuts"
        );
        ensure!(
            back + 1 >= dropped,
            "the watch of {kind}s was dropped {dropped} times and back {back} times"
        );
    }
    for name in ["listing", "read", "files", "objects"] {
        let step = experiment.steps.iter().find(|step| step.name == name).context("a step is missing")?;
        let dropped =
            experiment.timeline.iter().filter(|it| it.kind == Kind::Watch && it.what == Change::Dropped);
        let within = dropped.filter(|it| (step.started_ms..=step.ended_ms).contains(&it.at_ms)).count();
        ensure!(within > 0, "no connection was cut while step {name} was under way");
    }
    // kubectl may ask again by itself; a visit is asked again by us.
    let visit = experiment.steps.iter().find(|step| step.name == "read").context("a step is missing")?;
    let told = visit.commands.iter().any(|command| !command.before.is_empty());
    ensure!(told, "a visit was cut, and its record does not tell");
    Ok(())
}

/// Pods, sets and their revisions went through the same transitions for both pairs of eyes, as far as the lab looked.
fn same(recorded: &[Transition], seen: &[Transition]) -> Result<usize> {
    let mut compared = 0;
    for kind in [Kind::Pod, Kind::StatefulSet, Kind::ControllerRevision, Kind::Service] {
        let of = |transitions: &[Transition]| -> Vec<_> {
            let of_kind = transitions.iter().filter(|it| it.kind == kind);
            of_kind
                .map(|it| {
                    (
                        it.name.clone(),
                        it.uid.clone(),
                        it.what.clone(),
                        it.resource_version.clone(),
                        it.revision.clone(),
                    )
                })
                .collect()
        };
        let (recorded, seen) = (of(recorded), of(seen));
        ensure!(!recorded.is_empty(), "the record has no {kind}");
        let apart = recorded.iter().zip(&seen).position(|(one, other)| one != other);
        if let Some(place) = apart.or((recorded.len() > seen.len()).then_some(seen.len())) {
            return Err(anyhow!(
                "transition {place} of {kind}s differs\nthrough the proxy: {:?}\npast it:           {:?}",
                recorded.get(place),
                seen.get(place)
            ));
        }
        compared += recorded.len();
    }
    Ok(compared)
}

/// Hands on bytes until it is told to cut.
struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Order>,
    /// Connections that are open.
    open: watch::Receiver<usize>,
    _serving: JoinSet<()>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Serve,
    Cut,
    /// Cut when the next connection comes, that one too.
    CutAtNext,
}

impl Proxy {
    async fn open(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (orders, (count, open)) = (watch::Sender::new(Order::Serve), watch::channel(0));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, to, orders.clone(), count));
        Ok(Self { address, orders, open, _serving: serving })
    }

    fn cut(&self) {
        self.orders.send_replace(Order::Cut);
    }

    /// Waits until the watches are back after a cut and nothing else comes or goes, and cuts at the next connection.
    async fn snare(&self, watches: usize) {
        let (mut orders, mut open) = (self.orders.subscribe(), self.open.clone());
        let _ = orders.wait_for(|order| *order == Order::Serve).await;
        loop {
            let _ = open.wait_for(|open| *open >= watches).await;
            if tokio::time::timeout(CALM, open.changed()).await.is_err() {
                break;
            }
        }
        self.orders.send_replace(Order::CutAtNext);
    }

    /// Waits until a connection has come, and was cut with all others.
    async fn caught(&self) {
        let _ = self.orders.subscribe().wait_for(|order| *order != Order::CutAtNext).await;
    }
}

async fn serve(
    mut listener: TcpListener,
    to: SocketAddr,
    orders: watch::Sender<Order>,
    open: watch::Sender<usize>,
) {
    let address = listener.local_addr().expect("it is bound");
    let mut orders_seen = orders.subscribe();
    loop {
        let mut connections = JoinSet::new();
        while *orders.borrow() != Order::Cut {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((mut from, _)) = accepted else { continue };
                    if *orders.borrow() == Order::CutAtNext {
                        orders.send_replace(Order::Cut);
                        continue;
                    }
                    let counted = Counted::new(open.clone());
                    connections.spawn(async move {
                        let _counted = counted;
                        if let Ok(mut to) = TcpStream::connect(to).await {
                            let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                        }
                    });
                }
                _ = orders_seen.changed() => {}
            }
        }
        connections.shutdown().await;
        drop(listener);
        tokio::time::sleep(REFUSED).await;
        listener = TcpListener::bind(address).await.expect("its port is free again");
        orders.send_replace(Order::Serve);
    }
}

/// One open connection, for as long as it lives.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(open: watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Lab;

    #[test]
    fn its_lab_is_one() {
        let workspace = Workspace::discover().unwrap();
        Lab::of(&workspace, Some(&workspace.root.join(LAB))).unwrap();
    }
}
