//! `meta.k8s.io/v1` Table and PartialObjectMetadata, made from full objects (KEP-2334 era "server-side printing").

use serde_json::{Map, Value, json};

use crate::{
    resources::{Cell, Column, Resource},
    time, value,
};

/// What each row carries besides its cells (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Include {
    /// Reads the `includeObject` parameter.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// A Table of `items` (full objects, with apiVersion and kind). `metadata` is the list's metadata; `columns` is false for the later
/// events of a watch, which repeat no column definitions.
pub fn render(resource: &Resource, items: &[Value], metadata: Value, include: Include, columns: bool) -> Value {
    let definitions = match resource.custom() {
        _ if !columns => Vec::new(),
        Some(custom) => custom.columns(),
        None => resource.columns.iter().map(definition).collect(),
    };
    let rows: Vec<Value> = items.iter().map(|item| row(resource, item, include)).collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": definitions, "rows": rows})
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format,
        "description": column.description, "priority": column.priority,
    })
}

fn row(resource: &Resource, item: &Value, include: Include) -> Value {
    let cells: Vec<Value> = match resource.custom() {
        Some(custom) => custom.cells(item),
        None => resource.columns.iter().map(|c| cell(c, item)).collect(),
    };
    match include {
        Include::None => json!({"cells": cells}),
        Include::Metadata => json!({"cells": cells, "object": partial_metadata(item)}),
        Include::Object => json!({"cells": cells, "object": item}),
    }
}

fn cell(column: &Column, item: &Value) -> Value {
    match column.cell {
        Cell::Of(f) => f(item),
        Cell::Age(path) => time::age(value::str_at(item, path)).into(),
        Cell::Path(path) => match value::get(item, path) {
            None | Some(Value::Null) => "<none>".into(),
            Some(Value::String(text)) if text.is_empty() => "<none>".into(),
            Some(found) => found.clone(),
        },
    }
}

/// The object reduced to its metadata.
pub fn partial_metadata(object: &Value) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_table_has_one_row_per_item() {
        let resource = crate::resources::find("", "v1", "configmaps").unwrap();
        let item = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "y"}});
        let table =
            render(resource, std::slice::from_ref(&item), json!({"resourceVersion": "3"}), Include::Metadata, true);
        assert_eq!(table["columnDefinitions"][0]["format"], "name");
        assert_eq!(table["rows"][0]["cells"], json!(["a", 1, "<unknown>"]));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        let bare = render(resource, &[item], json!({}), Include::None, false);
        assert_eq!(bare["rows"][0].get("object"), None);
        assert_eq!(bare["columnDefinitions"], json!([]));
    }

    #[test]
    fn every_column_survives_an_empty_object() {
        for resource in crate::resources::all() {
            let table = render(resource, &[json!({"metadata": {"name": "a"}})], json!({}), Include::Object, true);
            assert_eq!(
                table["rows"][0]["cells"].as_array().unwrap().len(),
                resource.columns.len(),
                "{}",
                resource.kind
            );
        }
    }
}
