//! Expressions (CEL) as Kubernetes uses them: admission policies, match conditions, rules of custom resources.
//!
//! In: the text of an expression and declared variables ([`Env`]). Out: a checked [`Program`], or the errors clients see. A program's
//! cost is estimated when it is written and counted while it runs over JSON that is not copied; both are bounded, as are depth, size and
//! memory. Pure: no I/O; authorization is asked through a trait. Depends on `notation` and `cron` (time zones).

mod ast;
mod check;
pub mod cost;
mod env;
mod eval;
mod functions;
mod lexer;
mod macros;
mod parser;
pub mod schema;
mod source;
mod types;
mod value;

pub use cost::Cost;
pub use env::{Env, Program};
pub use eval::{Budget, Fault, Input, Variables, to_json};
pub use functions::{
    convert::to_text,
    kubernetes::authz::{Authorize, Check, Decision, ServiceAccount, authorizer, request_resource},
    time::parse_duration,
};
pub use schema::{Schema, Shape};
pub use source::{CompileError, Problem};
pub use types::Type;
pub use value::{Key, List, Map, Val};
