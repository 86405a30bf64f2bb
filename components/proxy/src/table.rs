//! The pure heart: Services and endpoints in, the whole nftables table out.
//!
//! | name | what |
//! | --- | --- |
//! | map `service-ips` | address . protocol . port → the Service port's entry chain |
//! | map `service-nodeports` | protocol . port → the entry chain for outside traffic |
//! | maps `no-endpoint-services`, `no-endpoint-nodeports` | the same keys → refuse or drop, looked at after translation |
//! | map `firewall-ips` | load balancer addresses with source ranges → the chain that checks them |
//! | set `hairpin` | endpoint . endpoint: a pod that reached itself through a Service |
//! | chains `internal/ID`, `external/ID` | entry: masquerade or not, all endpoints or local ones |
//! | chains `all/ID`, `local/ID`, `endpoint/ID/…` | the choice of an endpoint |
//!
//! ID is namespace/name/protocol/port name.

use std::net::Ipv4Addr;

use netlink::nftables::{ChainKind, Data, Expr, Fib, Field, Hook, Set, Table, Value, Verdict, key, matches::*};

use crate::balance;
use crate::model::{Node, Port, Service, State, proto_name};
use crate::select::{Selection, Target, select};

/// kube-proxy's mark for "masquerade this", on bit 14.
const MASQUERADE_MARK: u32 = 0x4000;
const REFUSE: &str = "refuse";
const MARK: &str = "mark-for-masquerade";

/// Everything the state asks for on this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    pub table: Table,
    pub udp: Vec<UdpFront>,
    pub health_checks: Vec<HealthCheck>,
}

/// A UDP Service port: where clients send, and who may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpFront {
    pub addresses: Vec<Ipv4Addr>,
    pub port: u16,
    pub node_port: Option<u16>,
    pub targets: Vec<Target>,
}

/// What a load balancer asks a node: does it have an endpoint of this Service?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub port: u16,
    pub namespace: String,
    pub name: String,
    pub local_endpoints: usize,
}

#[must_use]
pub fn desired(node: &Node, state: &State) -> Desired {
    let mut out = Desired { table: skeleton(node), ..Desired::default() };
    for ((namespace, name), service) in &state.services {
        let mut local_endpoints = 0;
        for port in &service.ports {
            let selection = select(state, namespace, name, &port.name, port.proto, node);
            local_endpoints = local_endpoints.max(selection.local.len());
            let id = format!("{namespace}/{name}/{}/{}", proto_name(port.proto), port.name);
            let id = id.trim_end_matches('/');
            ServicePort { id, service, port, selection: &selection, node }.add_to(&mut out.table);
            if port.proto == UDP {
                out.udp.push(udp_front(service, port, &selection));
            }
        }
        if let (Some(port), true) = (service.health_check_node_port, service.external_local) {
            out.health_checks.push(HealthCheck {
                port,
                namespace: namespace.clone(),
                name: name.clone(),
                local_endpoints,
            });
        }
    }
    out
}

fn skeleton(node: &Node) -> Table {
    let mut table = Table::new(crate::TABLE);
    let ip_port = [Field::Ipv4, Field::Proto, Field::Port];
    for name in ["service-ips", "no-endpoint-services", "firewall-ips"] {
        table.sets.insert(name.into(), Set::map(&ip_port, Value::Verdict));
    }
    for name in ["service-nodeports", "no-endpoint-nodeports"] {
        table.sets.insert(name.into(), Set::map(&[Field::Proto, Field::Port], Value::Verdict));
    }
    table.sets.insert("hairpin".into(), Set::new(&[Field::Ipv4, Field::Ipv4]));

    table.chain(REFUSE, vec![rule([proto(TCP), vec![Expr::Reset]]), vec![Expr::Reject]]);
    table.chain(MARK, vec![add_mark(MASQUERADE_MARK)]);
    let mut services = vec![rule([load_service(), vmap("service-ips")])];
    services.extend(node_port_rules(node, "service-nodeports"));
    table.chain("services", services);
    let mut refusals = vec![rule([load_service(), vmap("no-endpoint-services")])];
    refusals.extend(node_port_rules(node, "no-endpoint-nodeports"));
    // What still has an address of the Service CIDR here belongs to no Service, or to none of its ports.
    refusals.push(rule([destination_in(node.service_cidr), goto(REFUSE)]));
    table.chain("refusals", refusals);

    for (name, hook) in [("nat-prerouting", Hook::Prerouting), ("nat-output", Hook::Output)] {
        table.base_chain(name, ChainKind::Nat, hook, -100, vec![jump("services")]);
    }
    table.base_chain(
        "nat-postrouting",
        ChainKind::Nat,
        Hook::Postrouting,
        100,
        vec![
            // The mark goes first: it would travel on with an encapsulated packet and be masqueraded once more.
            rule([has_mark(MASQUERADE_MARK), clear_mark(MASQUERADE_MARK), vec![Expr::Masquerade]]),
            rule([load_source(0), load_destination(1), in_set("hairpin"), was_dnat(), vec![Expr::Masquerade]]),
        ],
    );
    for (name, hook) in
        [("filter-input", Hook::Input), ("filter-forward", Hook::Forward), ("filter-output", Hook::Output)]
    {
        table.base_chain(name, ChainKind::Filter, hook, -10, vec![rule([new_connection(), jump("refusals")])]);
    }
    for (name, hook) in [("firewall-prerouting", Hook::Prerouting), ("firewall-output", Hook::Output)] {
        table.base_chain(name, ChainKind::Filter, hook, -110, vec![rule([load_service(), vmap("firewall-ips")])]);
    }
    table
}

/// NodePorts answer on this host's own addresses, but not on the loopback.
fn node_port_rules(node: &Node, map: &str) -> Vec<Vec<Expr>> {
    let loopback = ipnet::Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    let on = |net: Vec<Expr>| rule([is_local(Fib::Destination), net, load_proto_port(0), vmap(map)]);
    match node.node_port_addresses.as_slice() {
        [] => vec![on(destination_not_in(loopback))],
        nets => nets.iter().map(|net| on(destination_in(*net))).collect(),
    }
}

struct ServicePort<'a> {
    id: &'a str,
    service: &'a Service,
    port: &'a Port,
    selection: &'a Selection,
    node: &'a Node,
}

impl ServicePort<'_> {
    fn add_to(&self, table: &mut Table) {
        let Self { service, selection, id, .. } = self;
        let outside = self.has_outside();
        let uses_local = service.internal_local || (outside && service.external_local);
        let uses_all = !service.internal_local || outside;
        if uses_all && !selection.cluster.is_empty() {
            balance::add(table, &format!("all/{id}"), id, &selection.cluster, service.affinity);
        }
        if uses_local && !selection.local.is_empty() {
            balance::add(table, &format!("local/{id}"), id, &selection.local, service.affinity);
        }
        let hairpin = table.sets.entry("hairpin".into()).or_insert_with(|| Set::new(&[Field::Ipv4, Field::Ipv4]));
        for (ip, _) in selection.cluster.iter().chain(&selection.local) {
            hairpin.elements.insert(key::ip_ip(*ip, *ip), Data::None);
        }
        self.add_internal(table);
        if outside {
            self.add_external(table);
        }
    }

    fn has_outside(&self) -> bool {
        self.port.node_port.is_some()
            || !self.service.external_ips.is_empty()
            || !self.service.load_balancer_ips.is_empty()
    }

    /// What happens to traffic that finds no endpoint it may use: dropped if only this node has none, else refused.
    fn refusal(&self, local_only: bool) -> Option<Verdict> {
        let Selection { cluster, local } = self.selection;
        match (cluster.is_empty(), local_only && local.is_empty()) {
            (true, _) if !local_only || local.is_empty() => Some(Verdict::Goto(REFUSE.into())),
            (_, true) => Some(Verdict::Drop),
            _ => None,
        }
    }

    fn add_internal(&self, table: &mut Table) {
        let Self { id, service, .. } = self;
        match self.refusal(service.internal_local) {
            Some(refusal) => self.insert_ip(table, "no-endpoint-services", service.cluster_ip, refusal),
            None => {
                let balance = if service.internal_local { "local" } else { "all" };
                let chain = format!("internal/{id}");
                table.chain(
                    &chain,
                    vec![rule([source_not_in(self.node.cluster_cidr), jump(MARK)]), goto(format!("{balance}/{id}"))],
                );
                self.insert_ip(table, "service-ips", service.cluster_ip, Verdict::Goto(chain));
            }
        }
    }

    fn add_external(&self, table: &mut Table) {
        let Self { id, service, .. } = self;
        let addresses: Vec<_> = service.external_ips.iter().chain(&service.load_balancer_ips).copied().collect();
        if let Some(refusal) = self.refusal(service.external_local) {
            for ip in &addresses {
                self.insert_ip(table, "no-endpoint-services", *ip, refusal.clone());
            }
            self.insert_node_port(table, "no-endpoint-nodeports", refusal);
        }
        let rules = self.external_rules();
        if !rules.is_empty() {
            let chain = format!("external/{id}");
            table.chain(&chain, rules);
            for ip in &addresses {
                self.insert_ip(table, "service-ips", *ip, Verdict::Goto(chain.clone()));
            }
            self.insert_node_port(table, "service-nodeports", Verdict::Goto(chain));
        }
        if !service.source_ranges.is_empty() && !service.load_balancer_ips.is_empty() {
            let chain = format!("firewall/{id}");
            let mut rules: Vec<_> =
                service.source_ranges.iter().map(|net| rule([source_in(*net), verdict(Verdict::Return)])).collect();
            rules.push(verdict(Verdict::Drop));
            table.chain(&chain, rules);
            for ip in &service.load_balancer_ips {
                self.insert_ip(table, "firewall-ips", *ip, Verdict::Goto(chain.clone()));
            }
        }
    }

    /// With the policy Local, what comes from this cluster's pods or from this node may still go anywhere.
    fn external_rules(&self) -> Vec<Vec<Expr>> {
        let Self { id, selection, .. } = self;
        let mut rules = Vec::new();
        let all = format!("all/{id}");
        let any = !selection.cluster.is_empty();
        if !self.service.external_local {
            if any {
                rules.extend([jump(MARK), goto(&all)]);
            }
            return rules;
        }
        if any {
            rules.push(rule([source_in(self.node.cluster_cidr), goto(&all)]));
            rules.push(rule([is_local(Fib::Source), jump(MARK)]));
            rules.push(rule([is_local(Fib::Source), goto(&all)]));
        }
        if !selection.local.is_empty() {
            rules.push(goto(format!("local/{id}")));
        }
        rules
    }

    /// Two Services may claim one external address: the first in order of name keeps it.
    fn insert_ip(&self, table: &mut Table, map: &str, ip: Ipv4Addr, verdict: Verdict) {
        insert(table, map, key::ip_proto_port(ip, self.port.proto, self.port.port), verdict);
    }

    fn insert_node_port(&self, table: &mut Table, map: &str, verdict: Verdict) {
        if let Some(port) = self.port.node_port {
            insert(table, map, key::proto_port(self.port.proto, port), verdict);
        }
    }
}

fn insert(table: &mut Table, map: &str, key: Vec<u8>, verdict: Verdict) {
    if let Some(set) = table.sets.get_mut(map) {
        set.elements.entry(key).or_insert(Data::Verdict(verdict));
    }
}

fn udp_front(service: &Service, port: &Port, selection: &Selection) -> UdpFront {
    let mut addresses = vec![service.cluster_ip];
    addresses.extend(service.external_ips.iter().chain(&service.load_balancer_ips));
    let mut targets = selection.cluster.clone();
    targets.extend(&selection.local);
    UdpFront { addresses, port: port.port, node_port: port.node_port, targets }
}
