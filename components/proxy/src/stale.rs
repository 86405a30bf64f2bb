//! UDP flows that still follow an endpoint which is gone.

use std::net::Ipv4Addr;

use netlink::conntrack::Flow;

use crate::table::UdpFront;

/// The flows to forget, so that their next packet is translated anew.
pub fn stale<'a>(flows: &'a [Flow], fronts: &[UdpFront], node_ip: Ipv4Addr) -> Vec<&'a Flow> {
    flows.iter().filter(|flow| fronts.iter().any(|front| is_stale(flow, front, node_ip))).collect()
}

fn is_stale(flow: &Flow, front: &UdpFront, node_ip: Ipv4Addr) -> bool {
    let (to, port) = flow.original.dst;
    let from = flow.reply.src;
    let translated = from != flow.original.dst;
    let through_service = front.addresses.contains(&to) && port == front.port;
    // A NodePort of another node may pass through here untranslated, and that is well.
    let through_node_port = Some(port) == front.node_port && (translated || to == node_ip);
    if !through_service && !through_node_port {
        return false;
    }
    // Untranslated: it began when there were no endpoints.
    if translated { !front.targets.contains(&from) } else { !front.targets.is_empty() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use netlink::conntrack::Tuple;

    fn at(text: &str) -> (Ipv4Addr, u16) {
        let (ip, port) = text.split_once(':').unwrap();
        (ip.parse().unwrap(), port.parse().unwrap())
    }

    fn flow(to: &str, from: &str) -> Flow {
        let client = at("10.244.0.9:4000");
        Flow::new(Tuple { src: client, dst: at(to), proto: 17 }, Tuple { src: at(from), dst: client, proto: 17 })
    }

    #[test]
    fn only_flows_of_a_service_to_a_gone_endpoint_are_stale() {
        let front = UdpFront {
            addresses: vec!["10.96.0.10".parse().unwrap()],
            port: 53,
            node_port: Some(30053),
            targets: vec![at("10.244.0.2:53")],
        };
        let node_ip = "10.99.0.1".parse().unwrap();
        let check = |to, from| !stale(&[flow(to, from)], std::slice::from_ref(&front), node_ip).is_empty();
        assert!(!check("10.96.0.10:53", "10.244.0.2:53"));
        assert!(check("10.96.0.10:53", "10.244.0.3:53"), "endpoint gone");
        assert!(check("10.96.0.10:53", "10.96.0.10:53"), "began without endpoints");
        assert!(!check("10.96.0.10:54", "10.244.0.3:53"));
        assert!(check("10.99.0.1:30053", "10.244.0.3:53"));
        assert!(!check("10.99.0.2:30053", "10.99.0.2:30053"), "another node's port");
        assert!(!check("192.0.2.1:53", "192.0.2.1:53"));
    }
}
