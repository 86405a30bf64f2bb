//! Networks with holes.

use ipnet::Ipv4Net;

/// The parts of `net` that no exception covers (`ipBlock.cidr` less `ipBlock.except`).
pub fn without(net: Ipv4Net, except: &[Ipv4Net]) -> Vec<Ipv4Net> {
    let net = net.trunc();
    if except.iter().any(|hole| hole.contains(&net)) {
        return Vec::new();
    }
    if !except.iter().any(|hole| net.contains(hole)) {
        return vec![net];
    }
    // A hole lies strictly within, so the net can be halved.
    let halves = net.subnets(net.prefix_len() + 1).into_iter().flatten();
    halves.flat_map(|half| without(half, except)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn cut(net: &str, holes: &[&str]) -> Vec<String> {
        let holes: Vec<_> = holes.iter().map(|h| h.parse().unwrap()).collect();
        without(net.parse().unwrap(), &holes).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn holes_are_cut_out() {
        assert_eq!(cut("10.0.0.0/8", &[]), ["10.0.0.0/8"]);
        assert_eq!(cut("10.0.0.0/24", &["10.0.0.0/8"]), Vec::<String>::new());
        assert_eq!(cut("10.0.0.0/30", &["10.0.0.1/32"]), ["10.0.0.0/32", "10.0.0.2/31"]);
        assert_eq!(cut("0.0.0.0/0", &["128.0.0.0/1", "0.0.0.0/2"]), ["64.0.0.0/2"]);
    }
}
