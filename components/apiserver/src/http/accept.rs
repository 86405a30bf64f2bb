//! Content negotiation: which form of which syntax the client would like best.

use http::{HeaderMap, header};
use machinery::protobuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    Json,
    Yaml,
    Protobuf,
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

/// What an endpoint can answer beside plain JSON and YAML.
#[derive(Clone, Copy, Debug)]
pub struct Able {
    pub protobuf: bool,
    /// Tables and partial metadata.
    pub shapes: bool,
}

const TEXTS: &[&str] = &["application/json", "application/yaml"];
const ALL: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];

const PLAIN: Accept = Accept { form: Form::Object, syntax: Syntax::Json, meta_version: "v1" };

impl Able {
    pub const NOTHING: Able = Able { protobuf: false, shapes: false };

    pub fn media_types(self) -> &'static [&'static str] {
        if self.protobuf { ALL } else { TEXTS }
    }
}

/// Every media range of every Accept header, the most wanted first (`q`), otherwise in order.
pub fn ranges(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let mut ranges: Vec<&str> = all.map(str::trim).filter(|r| quality(r) > 0.0).collect();
    ranges.sort_by(|a, b| quality(b).total_cmp(&quality(a)));
    ranges.into_iter()
}

fn quality(range: &str) -> f32 {
    let given = range.split(';').filter_map(|p| p.trim().strip_prefix("q=")).next();
    given.and_then(|q| q.trim().parse().ok()).unwrap_or(1.0)
}

impl Default for Accept {
    fn default() -> Self {
        PLAIN
    }
}

impl Accept {
    /// `None`: nothing of what the client accepts can be served.
    pub fn from_headers(headers: &HeaderMap, able: Able) -> Option<Self> {
        if !headers.contains_key(header::ACCEPT) {
            return Some(PLAIN);
        }
        ranges(headers).find_map(|range| Self::from_range(range, able))
    }

    fn from_range(range: &str, able: Able) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let syntax = match parts.next()?.to_ascii_lowercase().as_str() {
            "" | "*/*" | "application/*" | "application/json" => Syntax::Json,
            "application/yaml" => Syntax::Yaml,
            protobuf::MEDIA_TYPE if able.protobuf => Syntax::Protobuf,
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
        // a Table has no protobuf form
        let servable = match accept.form {
            Form::Object => true,
            Form::PartialMetadata => able.shapes,
            Form::Table => able.shapes && syntax != Syntax::Protobuf,
        };
        servable.then_some(accept)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EVERYTHING: Able = Able { protobuf: true, shapes: true };

    fn of(text: &str, able: Able) -> Option<Accept> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().unwrap());
        Accept::from_headers(&headers, able)
    }

    #[test]
    fn the_first_that_can_be_served_wins() {
        let tables = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let table = of(tables, EVERYTHING).unwrap();
        assert_eq!((table.form, table.meta_version), (Form::Table, "v1"));
        assert_eq!(of(tables, Able::NOTHING).unwrap(), PLAIN);
        assert_eq!(of("application/json;as=Table;v=v1;g=meta.k8s.io", Able::NOTHING), None);
        let protobuf = "application/vnd.kubernetes.protobuf, application/json";
        assert_eq!(of(protobuf, Able::NOTHING).unwrap(), PLAIN);
        assert_eq!(of(protobuf, EVERYTHING).unwrap().syntax, Syntax::Protobuf);
        assert_eq!(of("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", EVERYTHING), None);
        assert_eq!(
            of("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json", EVERYTHING)
                .unwrap(),
            PLAIN
        );
        assert_eq!(of("application/vnd.kubernetes.protobuf", Able::NOTHING), None);
        assert_eq!(of("application/yaml", Able::NOTHING).unwrap().syntax, Syntax::Yaml);
    }

    #[test]
    fn quality_counts() {
        let text = "application/yaml;q=0.5, application/vnd.kubernetes.protobuf;q=0, application/json;q=0.9";
        assert_eq!(of(text, EVERYTHING).unwrap(), PLAIN);
        assert_eq!(of("*/*;q=0.1,application/yaml", EVERYTHING).unwrap().syntax, Syntax::Yaml);
    }
}
