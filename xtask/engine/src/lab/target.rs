//! The chart under test: the names of its parts, found in what Helm renders, so that a lab speaks of roles.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;

use crate::lab::adapt::PROBES;
use crate::lab::app::App;
use crate::lab::changes::{WORKLOADS, app, workload};
use crate::lab::places::{self, Source, sources};
use crate::lab::release::Release;
use machine::command::Command;
use model::condition::text;
use model::kinds::is_name;
use model::roles::Roles;

/// More pods than any lab asks for, and than a node bears.
const MOST_REPLICAS: i64 = 100;

/// A folder that every container has and may write to. What lies there goes with the pod.
pub(super) const ANYWHERE: &str = "/dev/shm";

/// A release, and the roles its objects play.
#[derive(Debug, Clone)]
pub struct Target {
    /// The chart and how it is installed.
    pub release: Release,
    /// What plays which role.
    pub roles: Roles,
    /// Labels that all pods of its workload have.
    pub selector: Json,
    /// What is to be told of it: how its set was found, and what its probes do.
    pub told: Vec<String>,
    /// The words of its app, where that is somebody else's and nothing stands in for it.
    pub app: Option<App>,
    /// The app's container, where it isn't the first.
    pub container: Option<String>,
    /// All that the chart renders, as it is installed.
    pub objects: Vec<Json>,
    /// The same as the chart has it.
    pub rendered: Vec<Json>,
    /// The template of each.
    pub sources: Vec<Source>,
}

impl Target {
    /// What the chart renders, and from which templates.
    ///
    /// # Errors
    /// It does not render.
    pub(crate) async fn render(helm: &Command, release: &Release) -> Result<(Vec<Json>, Vec<Source>)> {
        let chart = release.chart.display();
        let rendered = release.template(helm)?.read().await;
        let rendered = rendered.with_context(|| format!("chart {chart} does not render"))?;
        let objects = parse(&rendered).with_context(|| format!("chart {chart} renders no valid YAML"))?;
        Ok((objects, sources(&rendered)))
    }

    /// Finds the roles in what the chart renders.
    ///
    /// # Errors
    /// A chart without a workload, or with names that are none.
    pub(crate) fn of(release: Release, rendered: Vec<Json>) -> Result<Self> {
        let mut objects = rendered.clone();
        release.changes(release.wanted(&release.set)).make(&mut objects);
        let chart = release.chart.display();
        let workload = workload(&objects)
            .with_context(|| format!("chart {chart} renders neither {}", WORKLOADS.join(" nor ")))?;
        let roles = roles(&release.name, workload, &objects).with_context(|| format!("chart {chart}"))?;
        let selector = workload.pointer("/spec/selector/matchLabels").cloned().unwrap_or_default();
        let containers = workload.pointer("/spec/template/spec/containers/0/name");
        let container = app(workload).map(|app| &app["name"]).filter(|name| Some(*name) != containers);
        let container = container.and_then(Json::as_str).map(str::to_owned);
        let sources = Vec::new();
        Ok(Self {
            release,
            roles,
            selector,
            told: Vec::new(),
            app: None,
            container,
            objects,
            rendered,
            sources,
        })
    }

    /// One that was never rendered, for tests of what needs no chart.
    #[cfg(test)]
    pub(crate) fn pretended() -> Self {
        let release = Release {
            name: "r".to_owned(),
            chart: "chart".into(),
            values: Default::default(),
            set: Default::default(),
            always: Default::default(),
            handles: Default::default(),
            adapt: None,
            values_dir: Default::default(),
            root: Default::default(),
            upgrade_flags: &[],
            user: None,
            kubernetes: "v1.37.0".to_owned(),
        };
        Self {
            release,
            roles: Roles::default(),
            selector: Json::Null,
            told: Vec::new(),
            app: None,
            container: None,
            objects: Vec::new(),
            rendered: Vec::new(),
            sources: Vec::new(),
        }
    }

    /// Whether something stands in for the image of the app.
    pub(crate) fn stood_in(&self) -> bool {
        let adapt = self.release.adapt.as_ref();
        let image = workload(&self.rendered).and_then(app).and_then(|app| app["image"].as_str());
        image.is_some_and(|image| adapt.is_some_and(|adapt| adapt.stand_ins.contains_key(image)))
    }

    /// Gives the app the words that its chart has for things.
    pub(crate) fn speaks(&mut self, words: App) {
        self.roles.probes_count = probes_ask_for(workload(&self.objects), &words.counts);
        if self.roles.probes_count {
            let counts = &words.counts;
            self.told.push(format!(
                "a probe asks for {counts}, which counts: there are at least as many visits as were made"
            ));
        }
        self.app = Some(words);
    }

    /// Where in the chart to look when a claim fails: files with their lines.
    pub(crate) fn places(&self, look_at: &[String]) -> Vec<String> {
        places::places(&self.release.root.join(&self.release.chart), &self.sources, look_at)
    }

    /// Refuses a chart that renders nothing for a role the lab speaks of.
    ///
    /// # Errors
    /// The fields of `target` that this chart leaves without a value.
    pub fn plays(&self, fields: &[String]) -> Result<()> {
        let variable = self.roles.variable("");
        let lacking: Vec<String> = fields
            .iter()
            .filter(|field| variable.get(field.as_str()).is_none())
            .map(|field| format!("`target.{field}`"))
            .collect();
        ensure!(
            lacking.is_empty(),
            "chart {} renders nothing that could be {}, of which the lab speaks",
            self.release.chart.display(),
            lacking.join(", ")
        );
        Ok(())
    }
}

/// Whether a probe of the app asks for a path.
fn probes_ask_for(workload: Option<&Json>, path: &str) -> bool {
    let app = workload.and_then(app);
    let asks = |probe: &str| app?.get(probe)?.pointer("/httpGet/path")?.as_str();
    PROBES.iter().any(|(probe, _)| asks(probe) == Some(path))
}

/// The names of what a chart renders, by the role it plays; of each kind the first.
fn roles(release: &str, workload: &Json, objects: &[Json]) -> Result<Roles> {
    let mut roles = Roles { release: release.to_owned(), ..Roles::default() };
    if let Some(set) = of_kind(objects, "StatefulSet").next() {
        let name = text(set, "/metadata/name");
        let number = |pointer: &str| set.pointer(pointer).and_then(Json::as_i64);
        let start = number("/spec/ordinals/start").unwrap_or(0);
        let replicas = number("/spec/replicas").unwrap_or(1);
        if !(0..=MOST_REPLICAS).contains(&replicas) || !(0..=i64::from(i32::MAX)).contains(&start) {
            bail!("it renders {replicas} pods from ordinal {start} on");
        }
        roles.pods = Some((start..start + replicas).map(|ordinal| format!("{name}-{ordinal}")).collect());
        roles.volume_claim = Some(text(set, "/spec/volumeClaimTemplates/0/metadata/name").to_owned());
        // Whether or not there is such a service.
        roles.headless = Some(text(set, "/spec/serviceName").to_owned());
        roles.statefulset = Some(name.to_owned());
    }
    let deployment = of_kind(objects, "Deployment").next();
    roles.deployment = deployment.map(|deployment| text(deployment, "/metadata/name").to_owned());
    // For access from outside: not the governing service, and rather one with an address than one without.
    let headless = roles.headless.as_deref().unwrap_or_default();
    let service = of_kind(objects, "Service").min_by_key(|service| {
        (text(service, "/metadata/name") == headless, text(service, "/spec/clusterIP") == "None")
    });
    roles.service = service.map(|service| text(service, "/metadata/name").to_owned()).unwrap_or_default();
    roles.port = port(workload, service);
    roles.service_port = service.and_then(|service| port_of(service.pointer("/spec/ports/0/port")?));
    roles.data = data(workload);
    let Roles { statefulset, deployment, headless, service, volume_claim, .. } = &roles;
    let named = [statefulset, deployment, headless, volume_claim].into_iter().flatten().chain([service]);
    named.into_iter().try_for_each(|name| sound_name(name))?;
    Ok(roles)
}

/// The container's port, or the one that the service leads to: a container need not name any.
fn port(workload: &Json, service: Option<&Json>) -> Option<u16> {
    let of_container = app(workload).and_then(|app| app.pointer("/ports/0/containerPort"));
    let of_service = |name| service.and_then(|service| service.pointer("/spec/ports/0")?.get(name));
    let ports = [of_container, of_service("targetPort"), of_service("port")];
    ports.into_iter().flatten().find_map(port_of)
}

fn port_of(port: &Json) -> Option<u16> {
    u16::try_from(port.as_u64()?).ok()
}

/// Where the app's container has the claim mounted, or else its first volume; without any, a folder that all have.
pub(super) fn data(workload: &Json) -> String {
    let claim = text(workload, "/spec/volumeClaimTemplates/0/metadata/name");
    let mounts = app(workload).and_then(|app| app["volumeMounts"].as_array());
    let mounts = || mounts.into_iter().flatten();
    let mount = mounts().find(|mount| mount["name"] == claim).or_else(|| mounts().next());
    let path = mount.and_then(|mount| mount["mountPath"].as_str()).unwrap_or(ANYWHERE);
    if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path.to_owned() }
}

/// A name stands in command lines. The API server would refuse what is none too, but a chart may render otherwise once
/// it is installed.
fn sound_name(name: &str) -> Result<()> {
    ensure!(
        name.is_empty() || is_name(name),
        "the chart calls an object {name:?}, which is no name of Kubernetes"
    );
    Ok(())
}

pub(crate) fn parse(rendered: &str) -> Result<Vec<Json>> {
    Ok(serde_saphyr::from_multiple::<Json>(rendered)?)
}

fn of_kind<'a>(objects: &'a [Json], kind: &'a str) -> impl Iterator<Item = &'a Json> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Target {
        Target::of(Target::pretended().release, parse(text).unwrap()).unwrap()
    }

    #[test]
    fn roles_are_found_by_what_is_rendered() {
        let set = rendered(
            "kind: StatefulSet\nmetadata: { name: db }\nspec: { replicas: 2, serviceName: peers, ordinals: { start: 5 } }\n\
             ---\nkind: Service\nmetadata: { name: peers }\n---\nkind: Service\nmetadata: { name: way-in }\n",
        );
        assert_eq!(set.roles.pods.as_deref().unwrap(), ["db-5", "db-6"]);
        let target = set.roles.variable("ns");
        assert_eq!([&target["statefulset"], &target["service"]], ["db", "way-in"]);
        assert_eq!(target["domain"], "peers.ns.svc.cluster.local");
    }

    #[test]
    fn a_lab_is_refused_a_chart_without_the_roles_it_speaks_of() {
        let deployment = rendered(
            "kind: Deployment\nmetadata: { name: web }\n\
             spec: { template: { spec: { containers: [ { ports: [ { containerPort: 80 } ] } ] } } }\n",
        );
        assert_eq!(deployment.roles.pods, None);
        let fields = |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>();
        assert!(deployment.plays(&fields(&["deployment", "service", "port"])).is_ok());
        let error = deployment.plays(&fields(&["pods", "deployment", "domain"])).unwrap_err().to_string();
        assert_eq!(
            error,
            "chart chart renders nothing that could be `target.pods`, `target.domain`, of which the lab speaks"
        );
    }

    #[test]
    fn a_name_that_would_be_two_arguments_is_none() {
        assert!(["counter", "counter-headless", ""].iter().all(|name| sound_name(name).is_ok()));
        for name in ["a --namespace kube-system", "--all", "a\u{1b}[2J", "A"] {
            assert!(sound_name(name).is_err(), "{name}");
        }
    }
}
