//! The OpenAPI v2 document in protobuf (`openapi.v2.Document` of gnostic), which kubectl before 1.27 wants before it applies.

use std::collections::BTreeMap;

use machinery::{
    Resource,
    schema::{Definition, Type},
};

use super::{QUERY, json::merge_extensions, kinds_of, object_path, patchable, protobuf::Message};

/// Field numbers of gnostic's `OpenAPIv2.proto`.
mod field {
    pub mod document {
        pub const SWAGGER: u32 = 1;
        pub const INFO: u32 = 2;
        pub const PATHS: u32 = 8;
        pub const DEFINITIONS: u32 = 9;
    }
    pub mod info {
        pub const TITLE: u32 = 1;
        pub const VERSION: u32 = 2;
    }
    pub mod schema {
        pub const REF: u32 = 1;
        pub const FORMAT: u32 = 2;
        pub const ADDITIONAL_PROPERTIES: u32 = 21;
        pub const TYPE: u32 = 22;
        pub const ITEMS: u32 = 23;
        pub const PROPERTIES: u32 = 25;
        pub const VENDOR_EXTENSION: u32 = 31;
    }
    pub mod operation {
        pub const PARAMETERS: u32 = 8;
        pub const RESPONSES: u32 = 9;
        pub const VENDOR_EXTENSION: u32 = 13;
    }
    /// QueryParameterSubSchema.
    pub mod query {
        pub const IN: u32 = 2;
        pub const NAME: u32 = 4;
        pub const TYPE: u32 = 6;
    }
    pub const PATHS_PATH: u32 = 2;
    pub const PATH_ITEM_PATCH: u32 = 8;
    /// Of Parameter and of NonBodyParameter.
    pub const NON_BODY_PARAMETER: u32 = 2;
    pub const QUERY_PARAMETER: u32 = 3;
    /// NamedSchema, NamedAny, NamedPathItem and NamedResponseValue alike.
    pub const NAME: u32 = 1;
    pub const VALUE: u32 = 2;
    pub const ANY_YAML: u32 = 2;
    /// The only field of TypeItem, ItemsItem, Properties, Definitions, AdditionalPropertiesItem, ParametersItem, Responses,
    /// ResponseValue and Response that is used.
    pub const FIRST: u32 = 1;
}

pub fn document(definitions: &BTreeMap<&str, &'static Definition>) -> Vec<u8> {
    let all = definitions
        .iter()
        .fold(Message::default(), |m, (name, d)| m.message(field::FIRST, named(name, definition_schema(name, d))));
    let paths = patchable().fold(Message::default(), |m, r| {
        m.message(
            field::PATHS_PATH,
            named(&object_path(r), Message::default().message(field::PATH_ITEM_PATCH, patch(r))),
        )
    });
    Message::default()
        .string(field::document::SWAGGER, "2.0")
        .message(
            field::document::INFO,
            Message::default().string(field::info::TITLE, "Kubernetes").string(field::info::VERSION, "v1.37.0"),
        )
        .message(field::document::PATHS, paths)
        .message(field::document::DEFINITIONS, all)
        .into_bytes()
}

/// Clients look here for whether patches of a kind know `dryRun`.
fn patch(resource: &Resource) -> Message {
    let operation = QUERY.iter().fold(Message::default(), |m, name| {
        let query = Message::default()
            .string(field::query::IN, "query")
            .string(field::query::NAME, name)
            .string(field::query::TYPE, "string");
        let other_than_body = Message::default().message(field::QUERY_PARAMETER, query);
        let parameter = Message::default().message(field::NON_BODY_PARAMETER, other_than_body);
        m.message(field::operation::PARAMETERS, Message::default().message(field::FIRST, parameter))
    });
    let response = Message::default().message(field::FIRST, Message::default().string(field::FIRST, "OK"));
    let kind = format!("group: \"{}\"\nkind: {}\nversion: {}\n", resource.group, resource.kind, resource.version);
    operation
        .message(field::operation::RESPONSES, Message::default().message(field::FIRST, named("200", response)))
        .message(
            field::operation::VENDOR_EXTENSION,
            named("x-kubernetes-group-version-kind", Message::default().string(field::ANY_YAML, &kind)),
        )
}

fn named(name: &str, value: Message) -> Message {
    Message::default().string(field::NAME, name).message(field::VALUE, value)
}

fn extension(schema: Message, name: &str, yaml: &str) -> Message {
    schema.message(field::schema::VENDOR_EXTENSION, named(name, Message::default().string(field::ANY_YAML, yaml)))
}

fn typed(name: &str) -> Message {
    Message::default().message(field::schema::TYPE, Message::default().string(field::FIRST, name))
}

fn definition_schema(name: &str, definition: &Definition) -> Message {
    let mut schema = typed("object");
    if !definition.fields.is_empty() {
        let properties = definition.fields.iter().fold(Message::default(), |m, (key, kind)| {
            let value = merge_extensions(name, key)
                .into_iter()
                .fold(type_schema(kind), |s, (key, value)| extension(s, key, &format!("{value}\n")));
            m.message(field::FIRST, named(key, value))
        });
        schema = schema.message(field::schema::PROPERTIES, properties);
    }
    let kinds = kinds_of(name);
    if kinds.is_empty() {
        return schema;
    }
    let yaml: String =
        kinds.iter().map(|(g, v, k)| format!("- group: \"{g}\"\n  kind: {k}\n  version: {v}\n")).collect();
    extension(schema, "x-kubernetes-group-version-kind", &yaml)
}

fn type_schema(kind: &Type) -> Message {
    let formatted = |name: &str, format: &str| {
        Message::default()
            .string(field::schema::FORMAT, format)
            .message(field::schema::TYPE, Message::default().string(field::FIRST, name))
    };
    match kind {
        Type::Object(name) => Message::default().string(field::schema::REF, &format!("#/definitions/{name}")),
        Type::Map(inner) => typed("object").message(
            field::schema::ADDITIONAL_PROPERTIES,
            Message::default().message(field::FIRST, type_schema(inner)),
        ),
        Type::List(inner) => {
            typed("array").message(field::schema::ITEMS, Message::default().message(field::FIRST, type_schema(inner)))
        }
        Type::String | Type::Quantity => typed("string"),
        Type::Bytes => formatted("string", "byte"),
        Type::Time | Type::MicroTime => formatted("string", "date-time"),
        Type::IntOrString => formatted("string", "int-or-string"),
        Type::Int32 => formatted("integer", "int32"),
        Type::Int64 => formatted("integer", "int64"),
        Type::Float => formatted("number", "double"),
        Type::Bool => typed("boolean"),
        Type::Any => typed("object"),
    }
}
