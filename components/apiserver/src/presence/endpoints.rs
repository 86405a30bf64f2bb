//! Endpoints and EndpointSlice of `default/kubernetes`.

use std::{collections::BTreeSet, net::IpAddr};

use machinery::{
    ApiError,
    value::{list_at, str_at},
};
use serde_json::{Value, json};

use crate::{core::Core, registry};

/// The addresses that are there now.
pub async fn published(core: &Core) -> Result<BTreeSet<IpAddr>, ApiError> {
    let Some(row) = registry::find("", "v1", "endpoints") else { return Ok(BTreeSet::new()) };
    let object = match registry::read(core, row, "default", "kubernetes").await {
        Ok(stored) => stored.object,
        Err(error) if error.code == 404 => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let addresses = list_at(&object, "subsets").iter().flat_map(|subset| list_at(subset, "addresses"));
    Ok(addresses.filter_map(|address| str_at(address, "ip").parse().ok()).collect())
}

/// All addresses are of one family; the servers of a cluster listen on the same port, as upstream has it.
pub fn objects(addresses: &BTreeSet<IpAddr>, port: u16) -> [Value; 2] {
    let mirrored = json!({"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}});
    let slice =
        json!({"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}});
    let family = if addresses.iter().all(IpAddr::is_ipv4) { "IPv4" } else { "IPv6" };
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let ips: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({"addresses": [address], "conditions": {"ready": true}})).collect();
    [
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": mirrored, "subsets": [{"addresses": ips, "ports": ports}]}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": slice, "addressType": family,
            "endpoints": endpoints, "ports": ports}),
    ]
}
