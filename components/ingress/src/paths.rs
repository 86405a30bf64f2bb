//! Path rules of an Ingress (networking.k8s.io/v1 `HTTPIngressPath`).

/// How a rule's path is compared with a request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Exact,
    /// Element by element: `/foo` matches `/foo` and `/foo/bar`, not `/foobar`. ImplementationSpecific is treated the same.
    Prefix,
}

/// A rule's path, without a trailing slash where it is a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    kind: Kind,
    path: String,
}

impl Pattern {
    pub fn new(path_type: &str, path: Option<&str>) -> Self {
        let path = path.filter(|path| !path.is_empty()).unwrap_or("/");
        match path_type {
            "Exact" => Self { kind: Kind::Exact, path: path.to_owned() },
            _ => Self { kind: Kind::Prefix, path: path.trim_end_matches('/').to_owned() },
        }
    }

    pub fn matches(&self, path: &str) -> bool {
        match self.kind {
            Kind::Exact => path == self.path,
            Kind::Prefix => {
                path.strip_prefix(self.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }

    /// Of several that match, the greatest wins: exact before prefix, then the longest.
    pub fn precedence(&self) -> (bool, usize) {
        (self.kind == Kind::Exact, self.path.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of examples in the Ingress documentation ("Path types").
    #[test]
    fn documented_examples() {
        let cases = [
            ("Prefix", "/", "/anything", true),
            ("Exact", "/foo", "/foo", true),
            ("Exact", "/foo", "/bar", false),
            ("Exact", "/foo", "/foo/", false),
            ("Exact", "/foo/", "/foo", false),
            ("Prefix", "/foo", "/foo", true),
            ("Prefix", "/foo", "/foo/", true),
            ("Prefix", "/foo/", "/foo", true),
            ("Prefix", "/foo/", "/foo/", true),
            ("Prefix", "/aaa/bb", "/aaa/bbb", false),
            ("Prefix", "/aaa/bbb", "/aaa/bbb", true),
            ("Prefix", "/aaa/bbb/", "/aaa/bbb", true),
            ("Prefix", "/aaa/bbb", "/aaa/bbb/", true),
            ("Prefix", "/aaa/bbb", "/aaa/bbb/ccc", true),
            ("Prefix", "/aaa/bbb", "/aaa/bbbxyz", false),
            ("ImplementationSpecific", "", "/x", true),
        ];
        for (kind, rule, request, expected) in cases {
            assert_eq!(Pattern::new(kind, Some(rule)).matches(request), expected, "{kind} {rule} {request}");
        }
    }

    #[test]
    fn exact_wins_over_prefix_and_long_over_short() {
        let exact = Pattern::new("Exact", Some("/a")).precedence();
        let (long, short) =
            (Pattern::new("Prefix", Some("/a/b")).precedence(), Pattern::new("Prefix", None).precedence());
        assert!(exact > long && long > short);
    }
}
