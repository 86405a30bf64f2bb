//! What names mean: a table kept from API objects, and the answer to a question. No input or output.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use anyhow::Context;
use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service as ApiService;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

/// Seconds an answer may be kept.
const TTL: u32 = 5;
/// The version of the specification that `dns-version` tells.
const SPECIFICATION: &str = "1.1.0";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

type Key = (String, String);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Cluster(Vec<IpAddr>),
    Headless,
    External(String),
}

#[derive(Debug, Clone)]
struct Service {
    kind: Kind,
    ports: Vec<Port>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    name: String,
    protocol: String,
    number: u16,
}

/// One address of an endpoint.
#[derive(Debug, Clone)]
struct Endpoint {
    /// Its hostname, or its address with dashes.
    label: String,
    address: IpAddr,
}

#[derive(Debug, Clone, Default)]
struct Slice {
    endpoints: Vec<Endpoint>,
    ports: Vec<Port>,
}

/// The answer to one question.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
    /// A name outside of the cluster that the last CNAME leads to.
    pub continues_at: Option<Name>,
}

/// Every name of the cluster.
pub struct Zone {
    origin: Name,
    origin_labels: Vec<String>,
    serial: u32,
    namespaces: BTreeSet<String>,
    services: HashMap<Key, Service>,
    slices: HashMap<Key, BTreeMap<String, Slice>>,
    /// Address → the Service whose cluster address it is.
    cluster_addresses: HashMap<IpAddr, Key>,
    /// Address → (Service, label) of headless endpoints.
    endpoint_addresses: HashMap<IpAddr, BTreeSet<(String, String, String)>>,
}

impl Zone {
    pub fn new(domain: &str) -> anyhow::Result<Self> {
        let told = || format!("{domain:?} is not a domain name");
        let mut origin = Name::from_ascii(domain).with_context(told)?.to_lowercase();
        origin.set_fqdn(true);
        let origin_labels = labels(&origin);
        Ok(Self {
            origin,
            origin_labels,
            serial: 1,
            namespaces: BTreeSet::new(),
            services: HashMap::new(),
            slices: HashMap::new(),
            cluster_addresses: HashMap::new(),
            endpoint_addresses: HashMap::new(),
        })
    }

    pub fn set_namespace(&mut self, name: &str) {
        self.namespaces.insert(name.to_owned());
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    pub fn set_service(&mut self, object: &ApiService) {
        let key = key_of(object);
        self.remove_service(&key);
        let service = read_service(object);
        if let Kind::Cluster(addresses) = &service.kind {
            for address in addresses {
                self.cluster_addresses.insert(*address, key.clone());
            }
        }
        self.services.insert(key.clone(), service);
        self.index(&key, true);
        self.serial = self.serial.wrapping_add(1);
    }

    pub fn remove_service(&mut self, key: &Key) {
        self.index(key, false);
        if self.services.remove(key).is_some() {
            self.cluster_addresses.retain(|_, owner| owner != key);
            self.serial = self.serial.wrapping_add(1);
        }
    }

    pub fn set_slice(&mut self, object: &EndpointSlice) {
        let Some(key) = service_of(object) else { return };
        self.index(&key, false);
        self.slices.entry(key.clone()).or_default().insert(object.name_any(), read_slice(object));
        self.index(&key, true);
        self.serial = self.serial.wrapping_add(1);
    }

    pub fn remove_slice(&mut self, object: &EndpointSlice) {
        let Some(key) = service_of(object) else { return };
        self.index(&key, false);
        if let Some(slices) = self.slices.get_mut(&key) {
            slices.remove(&object.name_any());
            if slices.is_empty() {
                self.slices.remove(&key);
            }
        }
        self.index(&key, true);
        self.serial = self.serial.wrapping_add(1);
    }

    /// Enters or removes a headless Service's endpoints in the reverse table.
    fn index(&mut self, key: &Key, enter: bool) {
        if self.services.get(key).is_none_or(|service| service.kind != Kind::Headless) {
            return;
        }
        let endpoints: Vec<Endpoint> = self.endpoints(key).cloned().collect();
        for endpoint in endpoints {
            let entry = (key.0.clone(), key.1.clone(), endpoint.label);
            if enter {
                self.endpoint_addresses.entry(endpoint.address).or_default().insert(entry);
            } else if let Some(names) = self.endpoint_addresses.get_mut(&endpoint.address) {
                names.remove(&entry);
                if names.is_empty() {
                    self.endpoint_addresses.remove(&endpoint.address);
                }
            }
        }
    }

    fn endpoints(&self, key: &Key) -> impl Iterator<Item = &Endpoint> {
        self.slices.get(key).into_iter().flat_map(BTreeMap::values).flat_map(|slice| &slice.endpoints)
    }

    /// The answer, or `None` when the question is not about the cluster.
    pub fn answer(&self, query: &Query) -> Option<Answer> {
        let name = query.name();
        if query.query_class() != DNSClass::IN {
            return None;
        }
        if self.origin.zone_of(name) {
            return Some(self.in_zone(name, query.query_type()));
        }
        self.reverse(name, query.query_type())
    }

    fn in_zone(&self, name: &Name, kind: RecordType) -> Answer {
        let mut answer = Answer::default();
        let mut current = name.clone();
        // A chain of ExternalNames is followed inside of the zone; eight is more than anyone needs, and ends loops.
        for _ in 0..8 {
            match self.look_up(&current, kind) {
                Found::Records(found) => {
                    answer.answers.extend(found.answers);
                    answer.additionals.extend(found.additionals);
                    break;
                }
                Found::Alias(target) => {
                    answer.answers.push(record(&current, RData::CNAME(CNAME(target.clone()))));
                    if kind == RecordType::CNAME {
                        return answer;
                    }
                    if !self.origin.zone_of(&target) {
                        answer.continues_at = Some(target);
                        return answer;
                    }
                    current = target;
                }
                Found::NoName => {
                    answer.code = ResponseCode::NXDomain;
                    break;
                }
            }
        }
        let only_aliases = answer.answers.iter().all(|record| record.record_type() == RecordType::CNAME);
        if only_aliases {
            answer.authorities.push(self.soa());
        }
        answer
    }

    fn look_up(&self, name: &Name, kind: RecordType) -> Found {
        let all = labels(name);
        let mut inner: Vec<&str> =
            all[..all.len().saturating_sub(self.origin_labels.len())].iter().map(String::as_str).collect();
        inner.reverse();
        match inner[..] {
            [] => self.apex(name, kind),
            ["dns-version"] => of_type(name, kind, [RData::TXT(TXT::new(vec![SPECIFICATION.into()]))]),
            ["ns", "dns"] | ["svc"] | ["pod"] => Found::Records(Answer::default()),
            ["svc" | "pod", namespace] if self.namespaces.contains(namespace) => Found::Records(Answer::default()),
            ["pod", namespace, address] if self.namespaces.contains(namespace) => match from_dashes(address) {
                Some(address) => addresses(name, kind, [address]),
                None => Found::NoName,
            },
            ["svc", namespace, service] => self.service(name, kind, &(namespace.into(), service.into())),
            ["svc", namespace, service, label] => self.endpoint(name, kind, &(namespace.into(), service.into()), label),
            ["svc", namespace, service, protocol, port] => {
                self.port(name, kind, &(namespace.into(), service.into()), protocol, port)
            }
            _ => Found::NoName,
        }
    }

    fn apex(&self, name: &Name, kind: RecordType) -> Found {
        let soa = self.soa().data;
        let ns = self.name_server().map(|server| RData::NS(NS(server)));
        of_type(name, kind, std::iter::once(soa).chain(ns))
    }

    fn service(&self, name: &Name, kind: RecordType, key: &Key) -> Found {
        let Some(service) = self.services.get(key) else { return Found::NoName };
        match &service.kind {
            Kind::External(target) => match alias_target(target) {
                Some(target) => Found::Alias(target),
                None => Found::Records(Answer::default()),
            },
            _ if kind == RecordType::SRV => Found::Records(self.srv(name, key, service, |_| true)),
            Kind::Cluster(cluster) => addresses(name, kind, cluster.iter().copied()),
            Kind::Headless => addresses(name, kind, self.endpoints(key).map(|endpoint| endpoint.address)),
        }
    }

    fn endpoint(&self, name: &Name, kind: RecordType, key: &Key, label: &str) -> Found {
        let Some(service) = self.services.get(key) else { return Found::NoName };
        // `_tcp.service` has names below it, so it exists, empty.
        if service.ports.iter().any(|port| label.strip_prefix('_') == Some(&port.protocol)) {
            return Found::Records(Answer::default());
        }
        let matching: Vec<IpAddr> =
            self.endpoints(key).filter(|endpoint| endpoint.label == label).map(|endpoint| endpoint.address).collect();
        if service.kind != Kind::Headless || matching.is_empty() {
            return Found::NoName;
        }
        addresses(name, kind, matching)
    }

    fn port(&self, name: &Name, kind: RecordType, key: &Key, protocol: &str, port: &str) -> Found {
        let (Some(service), Some(protocol), Some(port)) =
            (self.services.get(key), protocol.strip_prefix('_'), port.strip_prefix('_'))
        else {
            return Found::NoName;
        };
        let wanted = |candidate: &Port| candidate.name == port && candidate.protocol == protocol;
        let found = self.srv(name, key, service, wanted);
        match (found.answers.is_empty(), kind) {
            (true, _) => Found::NoName,
            (false, RecordType::SRV | RecordType::ANY) => Found::Records(found),
            (false, _) => Found::Records(Answer::default()),
        }
    }

    /// SRV records of named ports, with the targets' addresses.
    fn srv(&self, name: &Name, key: &Key, service: &Service, wanted: impl Fn(&Port) -> bool) -> Answer {
        let mut targets: BTreeSet<(u16, Option<String>)> = BTreeSet::new();
        let mut found: Vec<(Option<String>, IpAddr)> = Vec::new();
        let useful = |port: &&Port| !port.name.is_empty() && wanted(port);
        match &service.kind {
            Kind::External(_) => {}
            Kind::Cluster(cluster) => {
                targets.extend(service.ports.iter().filter(useful).map(|port| (port.number, None)));
                found.extend(cluster.iter().map(|address| (None, *address)));
            }
            Kind::Headless => {
                for slice in self.slices.get(key).into_iter().flat_map(BTreeMap::values) {
                    for port in slice.ports.iter().filter(useful) {
                        targets
                            .extend(slice.endpoints.iter().map(|endpoint| (port.number, Some(endpoint.label.clone()))));
                        found.extend(
                            slice.endpoints.iter().map(|endpoint| (Some(endpoint.label.clone()), endpoint.address)),
                        );
                    }
                }
            }
        }
        if targets.is_empty() {
            return Answer::default();
        }
        let weight = u16::try_from(100 / targets.len().min(100)).unwrap_or(1);
        let records = targets.iter().filter_map(|(port, label)| {
            let target = self.name_of(key, label.as_deref())?;
            Some(record(name, RData::SRV(SRV::new(0, weight, *port, target))))
        });
        let unique: BTreeSet<(Option<String>, IpAddr)> = found.into_iter().collect();
        let additionals = unique
            .iter()
            .filter_map(|(label, address)| Some(record(&self.name_of(key, label.as_deref())?, RData::from(*address))));
        Answer { answers: records.collect(), additionals: additionals.collect(), ..Answer::default() }
    }

    fn reverse(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        let address = whole_address(name)?;
        let names: Vec<Name> = match self.cluster_addresses.get(&address) {
            Some(key) => self.name_of(key, None).into_iter().collect(),
            None => {
                let entries = self.endpoint_addresses.get(&address)?;
                let named = |(namespace, service, label): &(String, String, String)| {
                    self.name_of(&(namespace.clone(), service.clone()), Some(label))
                };
                entries.iter().filter_map(named).collect()
            }
        };
        match of_type(name, kind, names.into_iter().map(|target| RData::PTR(PTR(target)))) {
            Found::Records(answer) => Some(answer),
            _ => None,
        }
    }

    /// `[label.]service.namespace.svc.domain.`
    fn name_of(&self, (namespace, service): &Key, label: Option<&str>) -> Option<Name> {
        let parts = label.into_iter().chain([service.as_str(), namespace.as_str(), "svc"]);
        let parts = parts.map(str::as_bytes).chain(self.origin_labels.iter().map(|label| label.as_bytes()));
        Name::from_labels(parts).ok()
    }

    fn name_server(&self) -> Option<Name> {
        Name::from_labels([b"ns".as_slice(), b"dns".as_slice()]).ok()?.append_domain(&self.origin).ok()
    }

    fn soa(&self) -> Record {
        let server = self.name_server().unwrap_or_else(|| self.origin.clone());
        let mailbox = self.origin.prepend_label("hostmaster").unwrap_or_else(|_| self.origin.clone());
        record(&self.origin, RData::SOA(SOA::new(server, mailbox, self.serial, 7200, 1800, 86400, TTL)))
    }

    pub fn namespaces(&self) -> impl Iterator<Item = &String> {
        self.namespaces.iter()
    }

    pub fn services(&self) -> impl Iterator<Item = &Key> {
        self.services.keys()
    }

    /// Forgets slices that are not in `kept`, which holds (namespace, name).
    pub fn retain_slices(&mut self, kept: &BTreeSet<Key>) {
        let keys: Vec<Key> = self.slices.keys().cloned().collect();
        for key in keys {
            self.index(&key, false);
            if let Some(slices) = self.slices.get_mut(&key) {
                slices.retain(|name, _| kept.contains(&(key.0.clone(), name.clone())));
            }
            self.index(&key, true);
        }
        self.slices.retain(|_, slices| !slices.is_empty());
    }
}

enum Found {
    Records(Answer),
    Alias(Name),
    NoName,
}

/// (namespace, name) of an object.
pub fn key_of<K: ResourceExt>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    Some((slice.namespace()?, slice.labels().get(SERVICE_NAME)?.clone()))
}

fn read_service(object: &ApiService) -> Service {
    let spec = object.spec.clone().unwrap_or_default();
    let ports = spec.ports.iter().flatten();
    let ports = ports.map(|port| read_port(port.name.as_deref(), port.protocol.as_deref(), Some(port.port))).collect();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Service { kind: Kind::External(spec.external_name.unwrap_or_default()), ports };
    }
    let all = spec.cluster_ips.unwrap_or_default();
    let texts = if all.is_empty() { spec.cluster_ip.into_iter().collect() } else { all };
    let kind = match texts.first().map(String::as_str) {
        Some("None") => Kind::Headless,
        _ => Kind::Cluster(texts.iter().filter_map(|text| text.parse().ok()).collect()),
    };
    Service { kind, ports }
}

fn read_port(name: Option<&str>, protocol: Option<&str>, number: Option<i32>) -> Port {
    Port {
        name: name.unwrap_or_default().to_ascii_lowercase(),
        protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
        number: number.and_then(|number| u16::try_from(number).ok()).unwrap_or(0),
    }
}

/// Only ready endpoints have names; a missing condition counts as ready.
fn read_slice(object: &EndpointSlice) -> Slice {
    let ready = object
        .endpoints
        .iter()
        .flatten()
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
    let endpoints = ready.flat_map(|endpoint| {
        endpoint.addresses.iter().filter_map(|text| {
            let address: IpAddr = text.parse().ok()?;
            let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
            Some(Endpoint { label: hostname.map_or_else(|| to_dashes(address), str::to_ascii_lowercase), address })
        })
    });
    let ports = object.ports.iter().flatten();
    Slice {
        endpoints: endpoints.collect(),
        ports: ports.map(|port| read_port(port.name.as_deref(), port.protocol.as_deref(), port.port)).collect(),
    }
}

fn labels(name: &Name) -> Vec<String> {
    name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect()
}

fn alias_target(target: &str) -> Option<Name> {
    let mut name = Name::from_ascii(target).ok().filter(|name| !name.is_root())?;
    name.set_fqdn(true);
    Some(name)
}

fn to_dashes(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

fn from_dashes(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse().ok().map(IpAddr::V4);
    v4.or_else(|| label.replace('-', ":").parse().ok().map(IpAddr::V6))
}

/// The address of a reverse name that names one address, not a network.
fn whole_address(name: &Name) -> Option<IpAddr> {
    let wanted = match labels(name) {
        labels if labels.ends_with(&["in-addr".into(), "arpa".into()]) => 6,
        labels if labels.ends_with(&["ip6".into(), "arpa".into()]) => 34,
        _ => return None,
    };
    if name.iter().count() != wanted {
        return None;
    }
    Some(name.parse_arpa_name().ok()?.addr())
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

fn of_type(name: &Name, kind: RecordType, data: impl IntoIterator<Item = RData>) -> Found {
    let wanted = data.into_iter().filter(|data| kind == RecordType::ANY || data.record_type() == kind);
    Found::Records(Answer { answers: wanted.map(|data| record(name, data)).collect(), ..Answer::default() })
}

fn addresses(name: &Name, kind: RecordType, addresses: impl IntoIterator<Item = IpAddr>) -> Found {
    let unique: BTreeSet<IpAddr> = addresses.into_iter().collect();
    of_type(name, kind, unique.into_iter().map(RData::from))
}

#[cfg(test)]
mod tests;
