#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use serde_json::{Value, from_value, json};

fn service(name: &str, spec: Value) -> ApiService {
    from_value(json!({"metadata": {"name": name, "namespace": "blog"}, "spec": spec})).unwrap()
}

fn slice(service: &str, endpoints: Value) -> EndpointSlice {
    from_value(json!({
        "metadata": {"name": format!("{service}-1"), "namespace": "blog", "labels": {SERVICE_NAME: service}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "mysql", "port": 3306, "protocol": "TCP"}],
    }))
    .unwrap()
}

fn zone() -> Zone {
    let mut zone = Zone::new("cluster.local").unwrap();
    zone.set_namespace("blog");
    zone.set_service(&service(
        "web",
        json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "ports": [
            {"name": "http", "port": 80, "protocol": "TCP"}, {"port": 9, "protocol": "UDP"}]}),
    ));
    zone.set_service(&service("db", json!({"clusterIP": "None", "ports": [{"name": "mysql", "port": 3306}]})));
    zone.set_slice(&slice(
        "db",
        json!([{"addresses": ["10.244.1.2"], "hostname": "db-0"}, {"addresses": ["10.244.2.3"], "conditions": {"ready": true}},
               {"addresses": ["10.244.2.4"], "conditions": {"ready": false}}]),
    ));
    zone.set_service(&service("out", json!({"type": "ExternalName", "externalName": "Example.COM"})));
    zone.set_service(&service("alias", json!({"type": "ExternalName", "externalName": "web.blog.svc.cluster.local"})));
    zone
}

fn ask(zone: &Zone, name: &str, kind: RecordType) -> Answer {
    zone.answer(&Query::query(Name::from_ascii(name).unwrap(), kind)).unwrap()
}

fn data(zone: &Zone, name: &str, kind: RecordType) -> Vec<String> {
    ask(zone, name, kind).answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn cluster_addresses() {
    let zone = zone();
    assert_eq!(data(&zone, "web.blog.svc.cluster.local.", RecordType::A), ["10.96.0.7"]);
    assert_eq!(data(&zone, "WEB.Blog.svc.Cluster.local.", RecordType::AAAA), ["fd00::7"]);
    assert_eq!(
        data(&zone, "_http._tcp.web.blog.svc.cluster.local.", RecordType::SRV),
        ["0 100 80 web.blog.svc.cluster.local."]
    );
    let srv = ask(&zone, "_http._tcp.web.blog.svc.cluster.local.", RecordType::SRV);
    assert_eq!(srv.additionals.len(), 2, "both of the target's addresses come along");
    assert_eq!(srv.answers[0].ttl, TTL);
}

#[test]
fn headless_services_name_ready_endpoints() {
    let mut zone = zone();
    assert_eq!(data(&zone, "db.blog.svc.cluster.local.", RecordType::A), ["10.244.1.2", "10.244.2.3"]);
    assert_eq!(data(&zone, "db-0.db.blog.svc.cluster.local.", RecordType::A), ["10.244.1.2"]);
    assert_eq!(data(&zone, "10-244-2-3.db.blog.svc.cluster.local.", RecordType::A), ["10.244.2.3"]);
    assert_eq!(ask(&zone, "10-244-2-4.db.blog.svc.cluster.local.", RecordType::A).code, ResponseCode::NXDomain);
    assert_eq!(
        data(&zone, "_mysql._tcp.db.blog.svc.cluster.local.", RecordType::SRV),
        ["0 50 3306 10-244-2-3.db.blog.svc.cluster.local.", "0 50 3306 db-0.db.blog.svc.cluster.local."]
    );
    zone.set_slice(&slice("db", json!([])));
    let empty = ask(&zone, "db.blog.svc.cluster.local.", RecordType::A);
    assert_eq!((empty.code, empty.answers.len()), (ResponseCode::NoError, 0));
}

#[test]
fn external_names_are_aliases() {
    let mut zone = zone();
    let outside = ask(&zone, "out.blog.svc.cluster.local.", RecordType::A);
    assert_eq!(outside.continues_at.unwrap().to_lowercase().to_string(), "example.com.");
    assert_eq!(outside.answers[0].record_type(), RecordType::CNAME);
    assert_eq!(
        data(&zone, "alias.blog.svc.cluster.local.", RecordType::A),
        ["web.blog.svc.cluster.local.", "10.96.0.7"]
    );
    zone.set_service(&service("loop", json!({"type": "ExternalName", "externalName": "loop.blog.svc.cluster.local"})));
    assert!(ask(&zone, "loop.blog.svc.cluster.local.", RecordType::A).answers.len() <= 8);
    // The type may change at any time.
    zone.set_service(&service("out", json!({"clusterIP": "10.96.0.9"})));
    assert_eq!(data(&zone, "out.blog.svc.cluster.local.", RecordType::A), ["10.96.0.9"]);
}

#[test]
fn reverse_names() {
    let mut zone = zone();
    assert_eq!(data(&zone, "7.0.96.10.in-addr.arpa.", RecordType::PTR), ["web.blog.svc.cluster.local."]);
    assert_eq!(data(&zone, "2.1.244.10.in-addr.arpa.", RecordType::PTR), ["db-0.db.blog.svc.cluster.local."]);
    let not_ours = Query::query(Name::from_ascii("1.2.0.192.in-addr.arpa.").unwrap(), RecordType::PTR);
    assert!(zone.answer(&not_ours).is_none());
    zone.remove_service(&("blog".into(), "db".into()));
    assert!(zone.endpoint_addresses.is_empty());
    zone.set_service(&service("web", json!({"clusterIP": "10.96.0.8"})));
    assert_eq!(zone.cluster_addresses.len(), 1);
}

#[test]
fn pods_and_missing_names() {
    let zone = zone();
    assert_eq!(data(&zone, "10-244-1-2.blog.pod.cluster.local.", RecordType::A), ["10.244.1.2"]);
    for (name, code) in [
        ("10-244-1-2.nowhere.pod.cluster.local.", ResponseCode::NXDomain),
        ("nonsense.blog.pod.cluster.local.", ResponseCode::NXDomain),
        ("nothing.blog.svc.cluster.local.", ResponseCode::NXDomain),
        ("blog.svc.cluster.local.", ResponseCode::NoError),
        ("nowhere.svc.cluster.local.", ResponseCode::NXDomain),
        ("svc.cluster.local.", ResponseCode::NoError),
        ("_tcp.web.blog.svc.cluster.local.", ResponseCode::NoError),
        ("_nope._tcp.web.blog.svc.cluster.local.", ResponseCode::NXDomain),
        ("example.com.cluster.local.", ResponseCode::NXDomain),
    ] {
        let answer = ask(&zone, name, RecordType::A);
        assert_eq!((answer.code, answer.answers.len()), (code, 0), "{name}");
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA, "{name}");
    }
    let text = ask(&zone, "web.blog.svc.cluster.local.", RecordType::TXT);
    assert_eq!((text.code, text.authorities.len()), (ResponseCode::NoError, 1));
    assert_eq!(data(&zone, "dns-version.cluster.local.", RecordType::TXT), [SPECIFICATION]);
    assert_eq!(ask(&zone, "cluster.local.", RecordType::SOA).answers.len(), 1);
    let outside = Query::query(Name::from_ascii("example.com.").unwrap(), RecordType::A);
    assert!(zone.answer(&outside).is_none());
}

#[test]
fn a_relist_forgets_old_slices() {
    let mut zone = zone();
    zone.retain_slices(&BTreeSet::new());
    assert!(ask(&zone, "db.blog.svc.cluster.local.", RecordType::A).answers.is_empty());
    assert!(zone.endpoint_addresses.is_empty());
}
