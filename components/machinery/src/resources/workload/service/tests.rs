#![allow(clippy::unwrap_used)]

use super::*;
use crate::{FieldError, patch::merge_patch};

fn service(spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    merge_patch(&mut service, &json!({"spec": spec}));
    defaults(&mut service);
    service
}

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(FieldError::to_string).collect()
}

#[test]
fn each_fault_has_upstreams_words() {
    let cases: &[(Value, &[&str])] = &[
        (json!({}), &[]),
        (
            json!({"type": "NodePort", "clusterIP": "None"}),
            &["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
        ),
        (
            json!({"type": "ExternalName", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}),
            &[
                "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
                "spec.externalName: Required value",
            ],
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "FOO"}, {"name": "a.b", "port": 0, "targetPort": "x--y", "appProtocol": "/"}]}),
            &[
                "spec.ports[0].name: Required value",
                "spec.ports[0].protocol: Unsupported value: \"FOO\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                "spec.ports[1].name: Invalid value: \"a.b\": must not contain dots",
                "spec.ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[1].targetPort: Invalid value: \"x--y\": must not contain consecutive hyphens",
                "spec.ports[1].appProtocol: Invalid value: \"/\": prefix part must be non-empty",
                "spec.ports[1].appProtocol: Invalid value: \"/\": name part must be non-empty",
                "spec.ports[1].appProtocol: Invalid value: \"/\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ],
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}, {"name": "a", "port": 81, "nodePort": 30000}]}),
            &[
                "spec.ports[2].name: Duplicate value: \"a\"",
                "spec.ports[2].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}",
            ],
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}}),
            &[
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
            ],
        ),
        (
            json!({"sessionAffinity": "Foo"}),
            &["spec.sessionAffinity: Unsupported value: \"Foo\": supported values: \"ClientIP\", \"None\""],
        ),
        (
            json!({"clusterIPs": ["10.0.0.1"]}),
            &["spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: must be empty when `clusterIP` is not specified"],
        ),
        (
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "10.0.0.2"], "ipFamilies": ["IPv4", "IPv4", "x"], "ipFamilyPolicy": "y"}),
            &[
                "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
                "spec.ipFamilies[2]: Unsupported value: \"x\": supported values: \"IPv4\", \"IPv6\"",
                "spec.ipFamilyPolicy: Unsupported value: \"y\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
                "spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP family",
            ],
        ),
        (
            json!({"clusterIP": "fd00::1", "ipFamilies": ["IPv4"]}),
            &["spec.clusterIPs[0]: Invalid value: \"fd00::1\": expected an IPv4 value as indicated by `ipFamilies[0]`"],
        ),
        (
            json!({"externalIPs": ["127.0.0.1", "0.0.0.0", "x"]}),
            &[
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "spec.externalIPs[1]: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)",
                "spec.externalIPs[2]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
        (
            json!({"type": "Foo"}),
            &[
                "spec.type: Unsupported value: \"Foo\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        ),
        (
            json!({"loadBalancerSourceRanges": ["x"], "loadBalancerClass": "a/b", "allocateLoadBalancerNodePorts": true,
                "externalTrafficPolicy": "Local", "healthCheckNodePort": 30000, "internalTrafficPolicy": "x", "trafficDistribution": "y"}),
            &[
                "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.LoadBalancerSourceRanges[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
                "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
                "spec.internalTrafficPolicy: Unsupported value: \"x\": supported values: \"Cluster\", \"Local\"",
                "spec.trafficDistribution: Unsupported value: \"y\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\"",
            ],
        ),
    ];
    for (spec, wanted) in cases {
        assert_eq!(&texts(&validate(&service(spec.clone()))), wanted, "{spec}");
    }
}

#[test]
fn what_is_set_stays() {
    let old = service(json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1", "loadBalancerClass": "a/b"}));
    let changed = |spec: Value| {
        let mut new = old.clone();
        merge_patch(&mut new, &json!({"spec": spec}));
        prepare_update(&mut new, &old);
        texts(&validate_update(&new, &old))
    };
    assert_eq!(changed(json!({})), [""; 0]);
    assert_eq!(
        changed(json!({"clusterIP": "10.0.0.2"})),
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
    assert_eq!(
        changed(json!({"ipFamilies": ["IPv6"]}))[0],
        "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set"
    );
    assert_eq!(
        changed(json!({"loadBalancerClass": "a/c"})),
        ["spec.loadBalancerClass: Invalid value: \"a/c\": may not change once set"]
    );
}

#[test]
fn who_needs_no_address_loses_what_goes_with_it() {
    let old = service(json!({"clusterIP": "10.0.0.1"}));
    for given in [json!({}), json!({"clusterIP": null, "clusterIPs": null})] {
        let mut new = old.clone();
        merge_patch(&mut new, &json!({"spec": given}));
        merge_patch(&mut new, &json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}));
        defaults(&mut new);
        prepare_update(&mut new, &old);
        assert_eq!(texts(&validate_update(&new, &old)), [""; 0], "{given}");
    }
}

#[test]
fn what_a_balancer_tells() {
    let mut told = service(json!({"type": "LoadBalancer"}));
    told["status"] = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}});
    defaults(&mut told);
    assert_eq!(told["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
    assert_eq!(texts(&validate_status_update(&told, &told)), [""; 0]);
    told["status"]["loadBalancer"]["ingress"] =
        json!([{"ip": "1.2.3", "ipMode": "x"}, {"hostname": "1.2.3.4", "ipMode": "VIP"}]);
    assert_eq!(
        texts(&validate_status_update(&told, &told)),
        [
            "status.loadBalancer.ingress[0].ip: Invalid value: \"1.2.3\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "status.loadBalancer.ingress[0].ipMode: Unsupported value: \"x\": supported values: \"Proxy\", \"VIP\"",
            "status.loadBalancer.ingress[1].ipMode: Forbidden: may not be specified when `ip` is not set",
            "status.loadBalancer.ingress[1].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
        ]
    );
    told["spec"]["type"] = "ClusterIP".into();
    assert_eq!(
        texts(&validate_status_update(&told, &told)),
        ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"]
    );
}

#[test]
fn what_nobody_heeds_is_said() {
    let said = |spec: Value| warnings(&service(spec), None);
    assert_eq!(said(json!({})), [""; 0]);
    assert_eq!(
        said(
            json!({"clusterIP": "None", "loadBalancerIP": "1.2.3.4", "externalIPs": ["1.2.3.4"], "sessionAffinity": "ClientIP"})
        ),
        [
            "spec.loadBalancerIP is ignored for headless services",
            "spec.externalIPs is ignored for headless services",
            "spec.SessionAffinity is ignored for headless services",
        ]
    );
    assert_eq!(
        said(
            json!({"externalIPs": ["2001:DB8::1"], "loadBalancerSourceRanges": ["10.0.0.1/8"], "externalName": "x", "trafficDistribution": "PreferClose"})
        ),
        [
            "spec.externalIPs[0]: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
            "spec.loadBalancerSourceRanges[0]: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)",
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ]
    );
}

#[test]
fn headless_without_selector_has_both_families() {
    let mut headless = json!({"spec": {"clusterIP": "None"}});
    defaults(&mut headless);
    assert_eq!(headless["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(headless["spec"]["ipFamilyPolicy"], "RequireDualStack");
    assert_eq!(texts(&validate(&headless)), [""; 0]);
}
