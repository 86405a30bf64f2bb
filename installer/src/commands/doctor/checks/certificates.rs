//! How long certificates are good.

use hoststate::certificates::in_pem;

use super::{Found, Sure, found};
use crate::commands::doctor::seen::Seen;

/// Hosts renew theirs long before: what has so little left nobody renews.
const SOON_DAYS: i64 = 21;

pub fn certificates(seen: &Seen<'_>) -> Vec<Found> {
    let mut list = Vec::new();
    for (host, told) in seen.told() {
        let name = &host.host.name;
        for file in &told.facts.certificates {
            let infos = in_pem(&file.pem).into_iter().filter_map(|pem| certs::inspect(&pem).ok());
            // of a file that has several the first to end counts
            let Some(info) = infos.min_by_key(|info| info.not_after) else { continue };
            let days = (info.not_after - seen.now).whole_days();
            let cure = match (info.is_ca, file.path.starts_with("/var/lib/kubelet/")) {
                (true, _) => seen.kinstall("certs rotate-ca"),
                (_, true) => seen.on(host.host, "systemctl restart kinstall-kubelet.service"),
                _ => seen.kinstall("certs renew"),
            };
            if info.not_after <= seen.now {
                let what = format!("the certificate {} has run out, {} days ago", file.path, -days);
                list.push(found(Sure::Certain, name, what, cure));
            } else if days < SOON_DAYS {
                let what = format!("the certificate {} ends in {days} days, and was not renewed", file.path);
                list.push(found(Sure::Likely, name, what, cure));
            }
        }
        let Some(renewal) = told.facts.renewal.as_ref().filter(|_| told.facts.manifest.is_some()) else { continue };
        if !renewal.active {
            let what = "it does not renew its certificates by itself: kinstall-certs.timer is not active";
            let cure = seen.on(host.host, "systemctl enable --now kinstall-certs.timer");
            list.push(found(Sure::Certain, name, what, cure));
        }
        if renewal.failed {
            let what = "its last renewal of certificates failed";
            let cure = format!("{} says why", seen.kinstall(&format!("logs {name} --unit certs")));
            list.push(found(Sure::Certain, name, what, cure));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use certs::{Ca, Leaf, Subject, Usage};
    use hoststate::certificates::CertificateFile;

    use super::super::fixtures::{cluster, edit, one, well};
    use super::*;

    #[test]
    fn certificates_that_have_ended_or_are_not_renewed_are_told() {
        let cluster = cluster();
        let ca = Ca::generate("kinstall-ca").unwrap();
        let judged = |path: &str, days: i64| {
            let mut seen = well(&cluster);
            let leaf = Leaf::new(Subject::new("x", &[]), Usage::Server);
            let (from, to) = (seen.now - time::Duration::days(400), seen.now + time::Duration::days(days));
            let pem = ca.issue(&leaf.valid(from, to)).unwrap().cert_pem;
            edit(&mut seen, 0).facts.certificates = vec![CertificateFile { path: path.into(), pem }];
            certificates(&seen)
        };
        assert!(judged("/etc/kinstall/pki/apiserver.crt", 100).is_empty());
        let ended = one(judged("/etc/kinstall/pki/apiserver.crt", -3));
        assert_eq!((ended.sure, ended.cure.as_str()), (Sure::Certain, "kinstall certs renew"));
        let soon = one(judged("/var/lib/kubelet/pki/kubelet-client-current.pem", 5));
        assert!(soon.sure == Sure::Likely && soon.cure.contains("restart kinstall-kubelet"), "{soon:?}");
    }

    #[test]
    fn a_host_that_does_not_renew_is_told() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        if let Some(renewal) = &mut edit(&mut seen, 1).facts.renewal {
            renewal.active = false;
        }
        assert!(one(certificates(&seen)).cure.contains("enable --now kinstall-certs.timer"));
        let mut seen = well(&cluster);
        if let Some(renewal) = &mut edit(&mut seen, 1).facts.renewal {
            renewal.failed = true;
        }
        assert!(one(certificates(&seen)).cure.contains("kinstall logs h2 --unit certs"));
    }
}
