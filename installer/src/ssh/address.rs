//! `[user@]host[:port]` and `ssh://[user@]host[:port]`, as `ssh -J` and ProxyJump take them.

use std::net::Ipv6Addr;

/// Where somebody logs in. `host`: an address, a name or an alias of ssh_config; without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub user: Option<String>,
    pub host: String,
    pub port: Option<u16>,
}

impl Login {
    /// A user may hold an `@` itself, an address of IPv6 stands in brackets where a port follows.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected [user@]host[:port], found {text:?}");
        let rest = text.trim();
        let rest = rest.strip_prefix("ssh://").map_or(rest, |rest| rest.trim_end_matches('/'));
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (host, port) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (host, after) = inner.split_once(']').ok_or_else(wrong)?;
                let port = match after {
                    "" => None,
                    after => Some(after.strip_prefix(':').ok_or_else(wrong)?),
                };
                (host, port)
            }
            None if rest.parse::<Ipv6Addr>().is_ok() => (rest, None),
            None => rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)).transpose()?;
        if host.is_empty() || user.as_ref().is_some_and(String::is_empty) || host.contains(char::is_whitespace) {
            return Err(wrong());
        }
        Ok(Self { user, host: host.to_owned(), port })
    }

    /// A chain as ProxyJump writes it: logins with commas between.
    pub fn chain(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(Self::parse).collect()
    }
}

/// `host:port`, with brackets where they are needed.
pub fn socket(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn logins() {
        for (text, user, host, port) in [
            ("jump", None, "jump", None),
            ("admin@jump:2222", Some("admin"), "jump", Some(2222)),
            ("a@corp@jump", Some("a@corp"), "jump", None),
            ("ssh://admin@jump:22/", Some("admin"), "jump", Some(22)),
            ("2001:db8::1", None, "2001:db8::1", None),
            ("root@[2001:db8::1]:22", Some("root"), "2001:db8::1", Some(22)),
            ("[fe80::1%eth0]", None, "fe80::1%eth0", None),
        ] {
            let expected = Login { user: user.map(str::to_owned), host: host.to_owned(), port };
            assert_eq!(Login::parse(text).unwrap(), expected, "{text}");
        }
        for text in ["", "@jump", "jump:", "jump:0", "jump:port", "[::1", "[::1]22", "a b"] {
            assert!(Login::parse(text).unwrap_err().contains("expected [user@]host[:port]"), "{text}");
        }
        assert_eq!(Login::chain("a,b@c:3").unwrap().len(), 2);
        assert_eq!((socket("::1", 22), socket("h1", 22)), ("[::1]:22".into(), "h1:22".into()));
    }
}
