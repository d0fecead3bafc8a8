//! The variable `target` of expressions: which of a chart's objects plays which role, by name.

use std::sync::LazyLock;

use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use serde_json::Value as Json;

/// What `target` holds. A role that nothing plays is left out, and a lab that speaks of it is refused the chart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Roles {
    /// The release.
    pub release: String,
    /// The experiment's namespace.
    pub namespace: String,
    /// The first StatefulSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statefulset: Option<String>,
    /// The first Deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// The service that the set's `serviceName` names, whether or not there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headless: Option<String>,
    /// The service for access from outside; empty where there is none.
    pub service: String,
    /// The names of the set's pods by ordinal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<Vec<String>>,
    /// The set's first claim template; empty where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_claim: Option<String>,
    /// The port the app listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The port of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_port: Option<u16>,
    /// The folder in which the app keeps its data.
    pub data: String,
    /// Whether a probe of the app asks for the page that counts: what is counted is then at least what was visited.
    pub probes_count: bool,
    /// What follows the name of a set's pod in its domain name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

impl Roles {
    /// The names of its fields.
    pub fn fields() -> Vec<&'static str> {
        static SCHEMA: LazyLock<Json> = LazyLock::new(|| schema_for!(Roles).to_value());
        SCHEMA["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
    }

    /// What expressions see of it in a namespace.
    pub fn variable(&self, namespace: &str) -> Json {
        let domain =
            self.headless.as_ref().map(|headless| format!("{headless}.{namespace}.svc.cluster.local"));
        let within = Self { namespace: namespace.to_owned(), domain, ..self.clone() };
        serde_json::to_value(within).unwrap_or_default()
    }
}
