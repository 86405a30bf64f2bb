//! Which nodes and zones are to use an endpoint, as `spec.trafficDistribution` of its Service asks (KEP-4444, KEP-3015).

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForNode, ForZone};

use crate::core::meta;

/// Its owner wants hints by each zone's share of CPU (KEP-2433), and these exclude the field. None are given for it here: traffic
/// goes to every endpoint, as it does upstream where zones cannot be balanced.
const TOPOLOGY_MODE: [&str; 2] = ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"];

/// How near an endpoint is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearness {
    Zone,
    /// And, where no endpoint is on the node, the zone.
    Node,
}

impl Nearness {
    pub fn of(service: &Service) -> Option<Self> {
        let wants_shares =
            |key: &str| meta::annotation(&service.metadata, key).is_some_and(|mode| ["Auto", "auto"].contains(&mode));
        if TOPOLOGY_MODE.into_iter().any(wants_shares) {
            return None;
        }
        match service.spec.as_ref()?.traffic_distribution.as_deref()? {
            "PreferSameNode" => Some(Self::Node),
            "PreferClose" | "PreferSameZone" => Some(Self::Zone),
            _ => None,
        }
    }

    /// An endpoint that takes no traffic has none.
    pub fn hints(self, endpoint: &Endpoint) -> Option<EndpointHints> {
        let ready = endpoint.conditions.as_ref().and_then(|it| it.ready) != Some(false);
        let for_zones = endpoint.zone.as_ref().map(|zone| vec![ForZone { name: zone.clone() }]);
        let node = endpoint.node_name.as_ref().filter(|_| self == Self::Node);
        let for_nodes = node.map(|node| vec![ForNode { name: node.clone() }]);
        (ready && (for_zones.is_some() || for_nodes.is_some())).then_some(EndpointHints { for_nodes, for_zones })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn service(distribution: Value, annotations: Value) -> Service {
        let metadata = json!({"name": "s", "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"trafficDistribution": distribution}})).unwrap()
    }

    fn hints(distribution: &str, endpoint: Value) -> Value {
        let nearness = Nearness::of(&service(json!(distribution), json!({}))).unwrap();
        serde_json::to_value(nearness.hints(&serde_json::from_value(endpoint).unwrap())).unwrap()
    }

    #[test]
    fn a_node_is_nearer_than_its_zone() {
        let endpoint = json!({"addresses": ["10.0.0.1"], "nodeName": "n", "zone": "z", "conditions": {"ready": true}});
        let zone = json!({"forZones": [{"name": "z"}]});
        assert_eq!(hints("PreferSameZone", endpoint.clone()), zone);
        assert_eq!(hints("PreferClose", endpoint.clone()), zone);
        let both = json!({"forNodes": [{"name": "n"}], "forZones": [{"name": "z"}]});
        assert_eq!(hints("PreferSameNode", endpoint), both);
        let homeless = json!({"addresses": ["10.0.0.1"], "nodeName": "n"});
        assert_eq!(hints("PreferSameZone", homeless.clone()), Value::Null, "its node is in no zone");
        assert_eq!(hints("PreferSameNode", homeless), json!({"forNodes": [{"name": "n"}]}));
        let starting = json!({"addresses": ["10.0.0.1"], "nodeName": "n", "conditions": {"ready": false}});
        assert_eq!(hints("PreferSameNode", starting), Value::Null);
    }

    #[test]
    fn who_asks_for_shares_gets_no_nearness() {
        assert_eq!(Nearness::of(&service(Value::Null, json!({}))), None);
        let shares = json!({"service.kubernetes.io/topology-mode": "Auto"});
        assert_eq!(Nearness::of(&service(json!("PreferSameNode"), shares)), None);
        let off = json!({"service.kubernetes.io/topology-mode": "Disabled"});
        assert_eq!(Nearness::of(&service(json!("PreferSameNode"), off)), Some(Nearness::Node));
    }
}
