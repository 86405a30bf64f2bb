//! Content negotiation: which form of which syntax the client would like best.

use http::{HeaderMap, header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    Json,
    Yaml,
}

/// What an object or list is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    Table,
    PartialMetadata,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    pub form: Form,
    pub syntax: Syntax,
    /// Version of meta.k8s.io for tables and partial metadata.
    pub meta_version: &'static str,
}

pub const MEDIA_TYPES: &[&str] = &["application/json", "application/yaml"];

const PLAIN: Accept = Accept { form: Form::Object, syntax: Syntax::Json, meta_version: "v1" };

/// Every media range of every Accept header, in order.
pub fn ranges(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim)
}

impl Default for Accept {
    fn default() -> Self {
        PLAIN
    }
}

impl Accept {
    /// `None`: nothing of what the client accepts can be served.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut ranges = ranges(headers).peekable();
        if ranges.peek().is_none() {
            return Some(PLAIN);
        }
        ranges.find_map(Self::from_range)
    }

    fn from_range(range: &str) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let syntax = match parts.next()?.to_ascii_lowercase().as_str() {
            "" | "*/*" | "application/*" | "application/json" => Syntax::Json,
            "application/yaml" => Syntax::Yaml,
            _ => return None,
        };
        let mut accept = Accept { syntax, ..PLAIN };
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            match (key, value) {
                ("as", "Table") => accept.form = Form::Table,
                ("as", "PartialObjectMetadata" | "PartialObjectMetadataList") => accept.form = Form::PartialMetadata,
                ("as", _) => return None,
                ("g", "meta.k8s.io") => {}
                ("g", _) => return None,
                ("v", "v1beta1") => accept.meta_version = "v1beta1",
                ("v", "v1") => accept.meta_version = "v1",
                _ => {}
            }
        }
        Some(accept)
    }

    pub fn content_type(&self) -> &'static str {
        match self.syntax {
            Syntax::Json => "application/json",
            Syntax::Yaml => "application/yaml",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> Option<Accept> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().unwrap());
        Accept::from_headers(&headers)
    }

    #[test]
    fn the_first_that_can_be_served_wins() {
        let table = of("application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json").unwrap();
        assert_eq!((table.form, table.meta_version), (Form::Table, "v1"));
        assert_eq!(of("application/vnd.kubernetes.protobuf, application/json").unwrap(), PLAIN);
        assert_eq!(
            of("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json").unwrap(),
            PLAIN
        );
        assert_eq!(of("application/vnd.kubernetes.protobuf"), None);
        assert_eq!(of("application/yaml").unwrap().syntax, Syntax::Yaml);
    }
}
