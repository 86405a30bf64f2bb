#![allow(clippy::unwrap_used, clippy::expect_used)]
//! What is issued is what was asked for, and openssl agrees.

use std::process::Command;

use certs::{
    Ca, Csr, Error, KeyKind, Leaf, Subject, Usage, WorkloadKey, authority_of, create_csr, generate_key, inspect,
    is_key_of,
};

#[test]
fn a_leaf_says_what_was_asked_for() {
    let ca = Ca::generate("kubernetes-ca").unwrap();
    let leaf = Leaf::new(Subject::new("kube-apiserver", &[]), Usage::Server)
        .names(["kubernetes.default", "10.96.0.1"])
        .days(30);
    let info = inspect(&ca.issue(&leaf).unwrap().cert_pem).unwrap();
    assert_eq!(info.subject.common_name, "kube-apiserver");
    assert_eq!(info.issuer, "kubernetes-ca");
    assert_eq!(info.dns_names, ["kubernetes.default"]);
    assert_eq!(info.ip_addresses, ["10.96.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert!(!info.is_ca && info.usage == Some(Usage::Server));
    let days = (info.not_after - info.not_before).whole_days();
    assert_eq!(days, 30);
}

#[test]
fn openssl_verifies_a_chain_of_a_reloaded_ca() {
    let made = Ca::generate("etcd-ca").unwrap();
    let ca = Ca::from_pem(made.cert_pem(), &made.key_pem()).unwrap();
    let key = generate_key().unwrap();
    let request =
        create_csr(&key, &Subject::new("system:node:h1", &["system:nodes"]), &["h1".into(), "10.99.0.11".into()])
            .unwrap();
    let csr = Csr::parse(&request).unwrap();
    assert_eq!(csr.subject, Subject::new("system:node:h1", &["system:nodes"]));
    assert_eq!(csr.dns_names, ["h1"]);
    let cert = ca.sign(&csr, Usage::Both, 365).unwrap();
    let info = inspect(&cert).unwrap();
    assert_eq!(info.subject.organizations, ["system:nodes"]);
    assert_eq!(info.ip_addresses.len(), 1);

    let dir = std::env::temp_dir().join(format!("kinstall-certs-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("ca.crt"), ca.cert_pem()).unwrap();
    std::fs::write(dir.join("leaf.crt"), &cert).unwrap();
    let verified = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
        .args([dir.join("ca.crt"), dir.join("leaf.crt")])
        .output()
        .expect("openssl is part of `make deps`");
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[test]
fn an_authority_is_found_by_what_it_signed_not_by_its_name() {
    let (one, other) = (Ca::generate("ca").unwrap(), Ca::generate("ca").unwrap());
    let issued = other.issue(&Leaf::new(Subject::new("x", &[]), Usage::Both)).unwrap();
    assert!(is_key_of(&issued.key_pem, &issued.cert_pem) && !is_key_of(&other.key_pem(), &issued.cert_pem));
    let leaf = issued.cert_pem;
    assert_eq!(inspect(&leaf).unwrap().usage, Some(Usage::Both));
    let both = format!("{}{}", one.cert_pem(), other.cert_pem());
    assert_eq!(authority_of(&leaf, &both), authority_of(&leaf, other.cert_pem()));
    assert!(authority_of(&leaf, &both).is_some() && authority_of(&leaf, one.cert_pem()).is_none());
}

#[test]
fn a_foreign_key_or_a_leaf_is_no_ca() {
    let (a, b) = (Ca::generate("a").unwrap(), Ca::generate("b").unwrap());
    assert!(Ca::from_pem(a.cert_pem(), &b.key_pem()).is_err());
    let leaf = a.issue(&Leaf::new(Subject::new("x", &[]), Usage::Client)).unwrap();
    assert!(Ca::from_pem(&leaf.cert_pem, &leaf.key_pem).is_err());
}

#[test]
fn several_groups_are_refused_instead_of_lost() {
    let ca = Ca::generate("ca").unwrap();
    let subject = Subject::new("x", &["one", "two"]);
    assert!(matches!(ca.issue(&Leaf::new(subject, Usage::Client)), Err(Error::SeveralOrganizations(2))));
}

#[test]
fn a_tampered_request_is_refused() {
    let key = generate_key().unwrap();
    let pem = create_csr(&key, &Subject::new("x", &[]), &[]).unwrap();
    let mut lines: Vec<String> = pem.lines().map(str::to_owned).collect();
    let last = lines.len() - 2;
    let flipped: String = lines[last].chars().rev().collect();
    lines[last] = flipped;
    assert!(Csr::parse(&lines.join("\n")).is_err());
}

#[test]
fn the_key_is_not_in_debug_output() {
    let ca = Ca::generate("ca").unwrap();
    let issued = ca.issue(&Leaf::new(Subject::new("x", &[]), Usage::Client)).unwrap();
    assert!(!format!("{issued:?}").contains("PRIVATE"));
}

#[test]
fn a_workload_has_the_key_it_asks_for_and_a_life_to_the_second() {
    let ca = Ca::generate("workloads").unwrap();
    let from = time::OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
    let uris = ["spiffe://cluster.local/ns/a/sa/b".to_owned()];
    for (name, says) in [
        ("RSA3072", "Public-Key: (3072 bit)"),
        ("ECDSAP256", "NIST CURVE: P-256"),
        ("ECDSAP384", "NIST CURVE: P-384"),
        ("ECDSAP521", "NIST CURVE: P-521"),
        ("ED25519", "Public Key Algorithm: ED25519"),
    ] {
        let made = WorkloadKey::generate(name.parse::<KeyKind>().unwrap()).unwrap();
        // who signs checks the request; of P-521 signatures the parser knows nothing
        if name != "ECDSAP521" {
            let life = (from, from + time::Duration::hours(1));
            let info = inspect(&ca.sign_workload(&made.request, life, &uris).unwrap()).unwrap();
            assert_eq!((info.not_before, info.not_after), life);
            assert_eq!((info.uris.as_slice(), info.subject.common_name.as_str()), (&uris[..], ""));
        }
        let file = std::env::temp_dir().join(format!("kinstall-request-{}-{name}", std::process::id()));
        std::fs::write(&file, &made.request).unwrap();
        let request = ["req", "-inform", "DER", "-noout", "-verify", "-text", "-in"];
        let output = Command::new("openssl").args(request).arg(&file).output().unwrap();
        std::fs::remove_file(&file).unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(says), "{name}: {text}");
        assert!(made.key_pem.starts_with("-----BEGIN PRIVATE KEY-----"));
    }
    assert!("RSA1024".parse::<KeyKind>().is_err());
}

#[test]
fn among_several_authorities_the_keys_own_signs() {
    let (old, new) = (Ca::generate("ca").unwrap(), Ca::generate("ca").unwrap());
    let both = format!("{}{}", old.cert_pem(), new.cert_pem());
    let leaf = Leaf::new(Subject::new("x", &[]), Usage::Client);
    for (ca, other) in [(&old, &new), (&new, &old)] {
        let taken = Ca::from_pem(&both, &ca.key_pem()).unwrap();
        let issued = taken.issue(&leaf).unwrap();
        assert!(ca.has_signed(&issued.cert_pem) && taken.has_signed(&issued.cert_pem));
        assert!(!other.has_signed(&issued.cert_pem), "of the same name, with another key");
        assert_eq!(taken.cert_pem(), both);
    }
    assert!(Ca::from_pem(new.cert_pem(), &old.key_pem()).is_err());
}

#[test]
fn a_leaf_can_be_one_that_has_run_out() {
    let ca = Ca::generate("ca").unwrap();
    let now = time::OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
    let (from, to) = (now - time::Duration::days(400), now - time::Duration::days(35));
    let issued = ca.issue(&Leaf::new(Subject::new("x", &[]), Usage::Client).valid(from, to)).unwrap();
    let info = inspect(&issued.cert_pem).unwrap();
    assert_eq!((info.not_before, info.not_after), (from, to));
    assert!(ca.has_signed(&issued.cert_pem));
}
