//! API machinery: everything about Kubernetes objects that needs no network and no disk.
//!
//! In: objects as `serde_json::Value` (the write path) or as encoded bytes (the read path). Out: defaulted, validated, patched,
//! selected and rendered objects, and the errors clients expect. One static table (`resources`) says what is served; one schema
//! engine (`schema`) knows the shape of every kind. Pure: no I/O; only `time` reads the clock and `names` draws random characters.
//! Depends on `notation` and `cel` only, which are pure too.

pub mod apply;
pub mod encoding;
pub mod expressions;
pub mod field;
pub mod numbers;
pub mod patch;
pub mod protobuf;
pub mod request_info;
pub mod resources;
pub mod schema;
pub mod selector;
pub mod status;
pub mod structural;
mod structure;
pub mod table;
pub mod time;
pub mod value;

pub use notation::{names, quantity};

pub use field::{FieldError, Path};
pub use resources::{Resource, ResourceRef};
pub use status::ApiError;
