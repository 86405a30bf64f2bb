//! The OpenAPI v2 document in protobuf (`openapi.v2.Document` of gnostic), which kubectl before 1.27 wants before it applies:
//! the JSON document, written in other words.

use serde_json::{Map, Value};

use super::protobuf::Message;

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
        pub const DESCRIPTION: u32 = 4;
        pub const DEFAULT: u32 = 5;
        pub const REQUIRED: u32 = 19;
        pub const ADDITIONAL_PROPERTIES: u32 = 21;
        pub const TYPE: u32 = 22;
        pub const ITEMS: u32 = 23;
        pub const PROPERTIES: u32 = 25;
        pub const VENDOR_EXTENSION: u32 = 31;
    }
    pub mod operation {
        pub const ID: u32 = 5;
        pub const PRODUCES: u32 = 6;
        pub const CONSUMES: u32 = 7;
        pub const PARAMETERS: u32 = 8;
        pub const RESPONSES: u32 = 9;
        pub const VENDOR_EXTENSION: u32 = 13;
    }
    /// QueryParameterSubSchema and PathParameterSubSchema: the same but for the type.
    pub mod parameter {
        pub const REQUIRED: u32 = 1;
        pub const IN: u32 = 2;
        pub const DESCRIPTION: u32 = 3;
        pub const NAME: u32 = 4;
        pub const QUERY_TYPE: u32 = 6;
        pub const PATH_TYPE: u32 = 5;
    }
    /// BodyParameter.
    pub mod body {
        pub const NAME: u32 = 2;
        pub const IN: u32 = 3;
        pub const REQUIRED: u32 = 4;
        pub const SCHEMA: u32 = 5;
    }
    /// Operations of a PathItem.
    pub const METHODS: [(&str, u32); 5] = [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)];
    pub const PATH_ITEM_PARAMETERS: u32 = 9;
    pub const PATHS_PATH: u32 = 2;
    /// Of Parameter.
    pub const BODY_PARAMETER: u32 = 1;
    pub const NON_BODY_PARAMETER: u32 = 2;
    /// Of NonBodyParameter.
    pub const QUERY_PARAMETER: u32 = 3;
    pub const PATH_PARAMETER: u32 = 4;
    pub const RESPONSE_SCHEMA: u32 = 2;
    /// NamedSchema, NamedAny, NamedPathItem and NamedResponseValue alike.
    pub const NAME: u32 = 1;
    pub const VALUE: u32 = 2;
    pub const ANY_YAML: u32 = 2;
    /// The only field of TypeItem, ItemsItem, Properties, Definitions, AdditionalPropertiesItem, ParametersItem, Responses,
    /// ResponseValue and SchemaItem that is used, and the description of Response.
    pub const FIRST: u32 = 1;
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// One definition, as it stands among the others.
pub fn definition(name: &str, value: &Value) -> Vec<u8> {
    Message::default().message(field::FIRST, named(name, schema(value))).into_bytes()
}

/// One path, as it stands among the others.
pub fn path(path: &str, item: &Value) -> Vec<u8> {
    Message::default().message(field::PATHS_PATH, named(path, path_item(item))).into_bytes()
}

/// The whole, of all paths and definitions.
pub fn document(title: &str, version: &str, paths: &[u8], definitions: &[u8]) -> Vec<u8> {
    let info = Message::default().string(field::info::TITLE, title).string(field::info::VERSION, version);
    Message::default()
        .string(field::document::SWAGGER, "2.0")
        .message(field::document::INFO, info)
        .bytes(field::document::PATHS, paths)
        .bytes(field::document::DEFINITIONS, definitions)
        .into_bytes()
}

fn named(name: &str, value: Message) -> Message {
    Message::default().string(field::NAME, name).message(field::VALUE, value)
}

/// JSON is YAML.
fn any(value: &Value) -> Message {
    Message::default().string(field::ANY_YAML, &format!("{value}\n"))
}

fn extensions(message: Message, number: u32, value: &Value) -> Message {
    entries(Some(value))
        .filter(|(key, _)| key.starts_with("x-"))
        .fold(message, |m, (key, value)| m.message(number, named(key, any(value))))
}

fn path_item(item: &Value) -> Message {
    let message = field::METHODS.iter().fold(Message::default(), |m, (method, number)| match item.get(method) {
        Some(value) => m.message(*number, operation(value)),
        None => m,
    });
    items(item, "parameters").fold(message, |m, p| m.message(field::PATH_ITEM_PARAMETERS, parameter(p)))
}

fn operation(operation: &Value) -> Message {
    use field::operation as number;
    let mut message = Message::default().string(number::ID, text(operation, "operationId"));
    for (key, number) in [("produces", number::PRODUCES), ("consumes", number::CONSUMES)] {
        message = items(operation, key).filter_map(Value::as_str).fold(message, |m, media| m.string(number, media));
    }
    message = items(operation, "parameters").fold(message, |m, p| m.message(number::PARAMETERS, parameter(p)));
    let responses = entries(operation.get("responses"))
        .fold(Message::default(), |m, (code, value)| m.message(field::FIRST, named(code, response(value))));
    extensions(message.message(number::RESPONSES, responses), number::VENDOR_EXTENSION, operation)
}

fn response(response: &Value) -> Message {
    let mut message = Message::default().string(field::FIRST, text(response, "description"));
    if let Some(value) = response.get("schema") {
        message = message.message(field::RESPONSE_SCHEMA, Message::default().message(field::FIRST, schema(value)));
    }
    Message::default().message(field::FIRST, message)
}

fn flag(message: Message, number: u32, value: &Value, key: &str) -> Message {
    if value.get(key) == Some(&Value::Bool(true)) { message.boolean(number) } else { message }
}

/// A ParametersItem.
fn parameter(value: &Value) -> Message {
    let place = text(value, "in");
    let parameter = if place == "body" {
        use field::body as number;
        let body = Message::default().string(number::NAME, text(value, "name")).string(number::IN, place);
        let body = flag(body, number::REQUIRED, value, "required");
        let schema = value.get("schema").map(schema).unwrap_or_default();
        Message::default().message(field::BODY_PARAMETER, body.message(number::SCHEMA, schema))
    } else {
        use field::parameter as number;
        let (outer, kind) = match place {
            "path" => (field::PATH_PARAMETER, number::PATH_TYPE),
            _ => (field::QUERY_PARAMETER, number::QUERY_TYPE),
        };
        let inner = flag(Message::default(), number::REQUIRED, value, "required")
            .string(number::IN, place)
            .string(number::DESCRIPTION, text(value, "description"))
            .string(number::NAME, text(value, "name"))
            .string(kind, text(value, "type"));
        Message::default().message(field::NON_BODY_PARAMETER, Message::default().message(outer, inner))
    };
    Message::default().message(field::FIRST, parameter)
}

fn schema(value: &Value) -> Message {
    use field::schema as number;
    let mut message = Message::default();
    for (key, number) in [("$ref", number::REF), ("format", number::FORMAT), ("description", number::DESCRIPTION)] {
        if let Some(text) = value.get(key).and_then(Value::as_str) {
            message = message.string(number, text);
        }
    }
    if let Some(default) = value.get("default") {
        message = message.message(number::DEFAULT, any(default));
    }
    message = items(value, "required").filter_map(Value::as_str).fold(message, |m, r| m.string(number::REQUIRED, r));
    if let Some(inner) = value.get("additionalProperties").filter(|v| v.is_object()) {
        message =
            message.message(number::ADDITIONAL_PROPERTIES, Message::default().message(field::FIRST, schema(inner)));
    }
    if let Some(kind) = value.get("type").and_then(Value::as_str) {
        message = message.message(number::TYPE, Message::default().string(field::FIRST, kind));
    }
    if let Some(inner) = value.get("items") {
        message = message.message(number::ITEMS, Message::default().message(field::FIRST, schema(inner)));
    }
    if value.get("properties").is_some() {
        let properties = entries(value.get("properties"))
            .fold(Message::default(), |m, (key, value)| m.message(field::FIRST, named(key, schema(value))));
        message = message.message(number::PROPERTIES, properties);
    }
    extensions(message, number::VENDOR_EXTENSION, value)
}
