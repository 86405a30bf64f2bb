//! What addresses look like (apimachinery `pkg/util/validation/ip.go`).

use std::net::IpAddr;

use crate::field::{FieldError, Path};

const NO_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// An address, with leading zeros tolerated in the parts of one of IPv4, as upstream's older parser did.
pub(in crate::resources) fn lenient(text: &str) -> Option<IpAddr> {
    let plain: Vec<&str> = text
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0",
            rest if part.bytes().all(|c| c.is_ascii_digit()) => rest,
            _ => part,
        })
        .collect();
    plain.join(".").parse().ok()
}

/// `StrictIPCIDRValidation`: what would have been read in more than one way is refused.
pub(in crate::resources) fn ip(text: &str, path: &Path) -> Option<FieldError> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Some(FieldError::invalid(path, text, "must not be an IPv4-mapped IPv6 address"))
        }
        Ok(_) => None,
        Err(_) if lenient(text).is_some() => Some(FieldError::invalid(path, text, "must not have leading 0s")),
        Err(_) => Some(FieldError::invalid(path, text, NO_IP)),
    }
}

/// The warning of an IPv6 address that is not written in its one canonical form (`GetWarningsForIP`).
pub(in crate::resources) fn odd(text: &str, path: &Path) -> Option<String> {
    let canonical = text.parse::<std::net::Ipv6Addr>().ok()?.to_string();
    (canonical != text)
        .then(|| format!("{path}: IPv6 address \"{text}\" should be in RFC 5952 canonical format (\"{canonical}\")"))
}

/// Addresses that nobody else can reach (`ValidateNonSpecialIP`).
pub(in crate::resources) fn special(text: &str, path: &Path) -> Vec<FieldError> {
    let Ok(address) = text.parse::<IpAddr>() else { return Vec::new() };
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let local_multicast = match address {
        IpAddr::V4(v4) => v4.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    let faults = [
        (address.is_unspecified(), format!("may not be unspecified ({text})")),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (local_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()),
    ];
    let found = faults.into_iter().filter(|(is, _)| *is);
    found.map(|(_, detail)| FieldError::invalid(path, text, detail)).collect()
}

/// Whether Go's `net.SplitHostPort` takes it.
pub(super) fn host_port(text: &str) -> bool {
    match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((_, port))) => port.starts_with(':') && !port[1..].contains(':'),
        Some(None) => false,
        None => text.matches(':').count() == 1 && !text.contains(['[', ']']),
    }
}

/// Not more than one address of each family.
pub(super) fn one_of_each_family(addresses: &[&str]) -> bool {
    let parsed: Vec<IpAddr> = addresses.iter().filter_map(|a| a.parse().ok()).collect();
    match parsed.as_slice() {
        [a, b] => addresses.len() == 2 && a.is_ipv4() != b.is_ipv4(),
        _ => addresses.len() < 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let problem = |text: &str| ip(text, &Path::new("x")).map(|e| e.detail);
        assert_eq!(problem("10.0.0.1"), None);
        assert_eq!(problem("fd00::1"), None);
        assert_eq!(problem("10.0.0.01").as_deref(), Some("must not have leading 0s"));
        assert_eq!(problem("::ffff:10.0.0.1").as_deref(), Some("must not be an IPv4-mapped IPv6 address"));
        assert_eq!(problem("10.0.0").as_deref(), Some(NO_IP));
        assert!(host_port("a:1") && host_port("[::1]:2") && !host_port("a") && !host_port("a:b:c"));
        assert!(one_of_each_family(&["10.0.0.1", "fd00::1"]) && !one_of_each_family(&["10.0.0.1", "10.0.0.2"]));
    }
}
