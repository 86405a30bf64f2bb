//! Which endpoints a Service port uses (kube-proxy's topology rules; KEP-1669, KEP-2086, KEP-2433, KEP-3015).

use std::net::Ipv4Addr;

use crate::model::{Endpoint, Node, State};

/// Where a packet can go.
pub type Target = (Ipv4Addr, u16);

/// The endpoints of one Service port, as this node uses them. Sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// For traffic that may go anywhere.
    pub cluster: Vec<Target>,
    /// For traffic that must stay on this node.
    pub local: Vec<Target>,
}

pub fn select(state: &State, namespace: &str, service: &str, port: &str, proto: u8, node: &Node) -> Selection {
    let first = (namespace.to_string(), String::new());
    let slices = state.slices.range(first..).take_while(|((ns, _), _)| ns == namespace).map(|(_, slice)| slice);
    let mut all: Vec<(&Endpoint, Target)> = Vec::new();
    for slice in slices.filter(|slice| slice.service == service) {
        for slice_port in slice.ports.iter().filter(|p| p.name == port && p.proto == proto) {
            all.extend(slice.endpoints.iter().map(|e| (e, (e.ip, slice_port.port))));
        }
    }
    let ready: Vec<_> = all.iter().filter(|(e, _)| e.ready).copied().collect();
    let is_local = |e: &Endpoint| e.node.as_deref() == Some(&node.name);
    let mut cluster = near(&ready, node);
    if cluster.is_empty() {
        cluster = targets(all.iter().filter(|(e, _)| e.serving && e.terminating));
    }
    let mut local = targets(ready.iter().filter(|(e, _)| is_local(e)));
    if local.is_empty() {
        local = targets(all.iter().filter(|(e, _)| is_local(e) && e.serving && e.terminating));
    }
    Selection { cluster, local }
}

/// Follows hints only if every ready endpoint has one and one of them points here.
fn near(ready: &[(&Endpoint, Target)], node: &Node) -> Vec<Target> {
    let hinted = |hints: fn(&Endpoint) -> &Vec<String>, here: Option<&String>| {
        let here = here?;
        let all_have = ready.iter().all(|(e, _)| !hints(e).is_empty());
        let chosen = targets(ready.iter().filter(|(e, _)| hints(e).contains(here)));
        (all_have && !chosen.is_empty()).then_some(chosen)
    };
    hinted(|e| &e.node_hints, Some(&node.name))
        .or_else(|| hinted(|e| &e.zone_hints, node.zone.as_ref()))
        .unwrap_or_else(|| targets(ready.iter()))
}

fn targets<'a>(endpoints: impl Iterator<Item = &'a (&'a Endpoint, Target)>) -> Vec<Target> {
    let mut targets: Vec<_> = endpoints.map(|(_, target)| *target).collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::model::{Slice, SlicePort};

    fn endpoint(n: u8, node: &str, ready: bool, terminating: bool) -> Endpoint {
        Endpoint {
            ip: Ipv4Addr::new(10, 244, 0, n),
            ready,
            serving: ready || terminating,
            terminating,
            node: Some(node.into()),
            zone_hints: vec![],
            node_hints: vec![],
        }
    }

    fn pick(endpoints: Vec<Endpoint>) -> (Vec<u8>, Vec<u8>) {
        let node = Node {
            name: "here".into(),
            ip: "10.99.0.1".parse().unwrap(),
            zone: Some("z1".into()),
            cluster_cidr: "10.244.0.0/16".parse().unwrap(),
            service_cidr: "10.96.0.0/16".parse().unwrap(),
            node_port_addresses: vec![],
        };
        let port = SlicePort { name: "web".into(), proto: 6, port: 80 };
        let mut state = State::default();
        state
            .slices
            .insert(("ns".into(), "s-1".into()), Slice { service: "s".into(), ports: vec![port.clone()], endpoints });
        state.slices.insert(
            ("ns".into(), "other".into()),
            Slice { service: "t".into(), ports: vec![port], endpoints: vec![endpoint(99, "here", true, false)] },
        );
        let Selection { cluster, local } = select(&state, "ns", "s", "web", 6, &node);
        let last = |targets: Vec<Target>| targets.iter().map(|(ip, _)| ip.octets()[3]).collect();
        (last(cluster), last(local))
    }

    #[test]
    fn ready_ones_first_then_terminating_ones_that_still_serve() {
        assert_eq!(
            pick(vec![
                endpoint(1, "here", true, false),
                endpoint(2, "far", true, false),
                endpoint(3, "here", false, true)
            ]),
            (vec![1, 2], vec![1])
        );
        assert_eq!(
            pick(vec![endpoint(2, "far", true, false), endpoint(3, "here", false, true)]),
            (vec![2], vec![3]),
            "each group falls back by itself"
        );
        assert_eq!(pick(vec![endpoint(3, "far", false, true), endpoint(4, "here", false, false)]), (vec![3], vec![]));
    }

    #[test]
    fn hints_count_only_when_all_have_them() {
        let hinted = |n, zone: &str| Endpoint { zone_hints: vec![zone.into()], ..endpoint(n, "far", true, false) };
        assert_eq!(pick(vec![hinted(1, "z1"), hinted(2, "z2")]).0, vec![1]);
        assert_eq!(pick(vec![hinted(1, "z1"), endpoint(2, "far", true, false)]).0, vec![1, 2]);
        assert_eq!(pick(vec![hinted(1, "z3"), hinted(2, "z2")]).0, vec![1, 2]);
    }
}
