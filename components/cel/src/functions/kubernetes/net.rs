//! `ip()` and `cidr()`.

use std::{fmt, net::IpAddr, sync::Arc};

use super::Extra;
use crate::{
    eval::Fault,
    functions::{Answer, Function, no_overload},
    value::Val,
};

/// An address with a prefix length; bits behind the prefix may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    fn net(&self) -> Option<ipnet::IpNet> {
        ipnet::IpNet::new(self.address, self.prefix).ok().map(|n| n.trunc())
    }
}

/// Strict: no leading zeros, no zones, no IPv4 inside IPv6.
fn parse_ip(text: &str) -> Result<IpAddr, Fault> {
    let fail =
        |why: &str| Err(Fault::new(format!("IP Address '{text}' parse error during conversion from string: {why}")));
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => fail("IPv4-mapped IPv6 address is not allowed"),
        Ok(ip) => Ok(ip),
        Err(_) if text.contains('%') => fail("IP address with zone value is not allowed"),
        Err(_) => fail(&format!("ParseAddr(\"{text}\"): unable to parse IP")),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, Fault> {
    let fail = |why: String| Fault::new(format!("network address parse error during conversion from string: {why}"));
    let syntax = || fail(format!("netip.ParsePrefix(\"{text}\"): no '/'"));
    let (address, prefix) = text.split_once('/').ok_or_else(syntax)?;
    let address = parse_ip(address).map_err(|_| fail(format!("netip.ParsePrefix(\"{text}\"): invalid address")))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let canonical = prefix == "0" || !prefix.starts_with(['0', '+']);
    let prefix: u8 = prefix
        .parse()
        .ok()
        .filter(|p| *p <= longest && canonical)
        .ok_or_else(|| fail(format!("netip.ParsePrefix(\"{text}\"): prefix length out of range")))?;
    Ok(Cidr { address, prefix })
}

fn made<'a>(extra: Extra) -> Val<'a> {
    Val::Extra(Arc::new(extra))
}

fn of_ip<'a>(args: &[Val<'a>], get: fn(&IpAddr) -> Val<'a>) -> Answer<'a> {
    match args {
        [Val::Extra(extra)] => match &**extra {
            Extra::Ip(ip) => Ok(get(ip)),
            _ => no_overload(args),
        },
        _ => no_overload(args),
    }
}

fn of_cidr<'a>(args: &[Val<'a>], get: impl Fn(&Cidr) -> Answer<'a>) -> Answer<'a> {
    match args {
        [Val::Extra(extra), ..] => match &**extra {
            Extra::Cidr(cidr) => get(cidr),
            _ => no_overload(args),
        },
        _ => no_overload(args),
    }
}

pub(crate) static TABLE: &[Function] = &[
    Function {
        name: "ip",
        overloads: &[("string_to_ip", "(string) -> net.IP"), ("cidr_ip", "net.CIDR.() -> net.IP")],
        run: |_, args| match args {
            [Val::Str(text)] => Ok(made(Extra::Ip(parse_ip(text)?))),
            _ => of_cidr(args, |c| Ok(made(Extra::Ip(c.address)))),
        },
    },
    Function {
        name: "isIP",
        overloads: &[("is_ip", "(string) -> bool")],
        run: |_, args| match args {
            [Val::Str(text)] => Ok(Val::Bool(parse_ip(text).is_ok())),
            _ => no_overload(args),
        },
    },
    Function {
        name: "ip.isCanonical",
        overloads: &[("ip_is_canonical", "(string) -> bool")],
        run: |_, args| match args {
            [Val::Str(text)] => Ok(Val::Bool(parse_ip(text)?.to_string() == **text)),
            _ => no_overload(args),
        },
    },
    Function {
        name: "family",
        overloads: &[("ip_family", "net.IP.() -> int")],
        run: |_, args| of_ip(args, |ip| Val::Int(if ip.is_ipv4() { 4 } else { 6 })),
    },
    Function {
        name: "isUnspecified",
        overloads: &[("ip_is_unspecified", "net.IP.() -> bool")],
        run: |_, args| of_ip(args, |ip| Val::Bool(ip.is_unspecified())),
    },
    Function {
        name: "isLoopback",
        overloads: &[("ip_is_loopback", "net.IP.() -> bool")],
        run: |_, args| of_ip(args, |ip| Val::Bool(ip.is_loopback())),
    },
    Function {
        name: "isLinkLocalMulticast",
        overloads: &[("ip_is_link_local_multicast", "net.IP.() -> bool")],
        run: |_, args| of_ip(args, |ip| Val::Bool(link_local_multicast(ip))),
    },
    Function {
        name: "isLinkLocalUnicast",
        overloads: &[("ip_is_link_local_unicast", "net.IP.() -> bool")],
        run: |_, args| of_ip(args, |ip| Val::Bool(link_local_unicast(ip))),
    },
    Function {
        name: "isGlobalUnicast",
        overloads: &[("ip_is_global_unicast", "net.IP.() -> bool")],
        run: |_, args| {
            of_ip(args, |ip| {
                let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
                let special = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local_unicast(ip);
                Val::Bool(!broadcast && !special)
            })
        },
    },
    Function {
        name: "cidr",
        overloads: &[("string_to_cidr", "(string) -> net.CIDR")],
        run: |_, args| match args {
            [Val::Str(text)] => Ok(made(Extra::Cidr(parse_cidr(text)?))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "isCIDR",
        overloads: &[("is_cidr", "(string) -> bool")],
        run: |_, args| match args {
            [Val::Str(text)] => Ok(Val::Bool(parse_cidr(text).is_ok())),
            _ => no_overload(args),
        },
    },
    Function {
        name: "containsIP",
        overloads: &[
            ("cidr_contains_ip_string", "net.CIDR.(string) -> bool"),
            ("cidr_contains_ip_ip", "net.CIDR.(net.IP) -> bool"),
        ],
        run: |_, args| {
            of_cidr(args, |cidr| {
                let ip = match args.get(1) {
                    Some(Val::Str(text)) => parse_ip(text)?,
                    Some(Val::Extra(extra)) => match &**extra {
                        Extra::Ip(ip) => *ip,
                        _ => return no_overload(args),
                    },
                    _ => return no_overload(args),
                };
                Ok(Val::Bool(cidr.net().is_some_and(|net| net.contains(&ip))))
            })
        },
    },
    Function {
        name: "containsCIDR",
        overloads: &[
            ("cidr_contains_cidr_string", "net.CIDR.(string) -> bool"),
            ("cidr_contains_cidr", "net.CIDR.(net.CIDR) -> bool"),
        ],
        run: |_, args| {
            of_cidr(args, |cidr| {
                let other = match args.get(1) {
                    Some(Val::Str(text)) => parse_cidr(text)?,
                    Some(Val::Extra(extra)) => match &**extra {
                        Extra::Cidr(cidr) => *cidr,
                        _ => return no_overload(args),
                    },
                    _ => return no_overload(args),
                };
                let inside = cidr.prefix <= other.prefix && cidr.net().is_some_and(|net| net.contains(&other.address));
                Ok(Val::Bool(inside))
            })
        },
    },
    Function {
        name: "masked",
        overloads: &[("masked", "net.CIDR.() -> net.CIDR")],
        run: |_, args| {
            of_cidr(args, |cidr| {
                let address = cidr.net().map_or(cidr.address, |net| net.addr());
                Ok(made(Extra::Cidr(Cidr { address, prefix: cidr.prefix })))
            })
        },
    },
    Function {
        name: "prefixLength",
        overloads: &[("prefix_length", "net.CIDR.() -> int")],
        run: |_, args| of_cidr(args, |cidr| Ok(Val::Int(cidr.prefix.into()))),
    },
];

fn link_local_unicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn link_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}
