//! HTTP as the handlers see it: bodies, negotiation, queries, answers.

pub mod accept;
pub mod body;
pub mod compress;
pub mod duration;
pub mod query;
pub mod respond;

pub use accept::{Able, Accept, Form, Syntax};
pub use body::{RequestBody, ResponseBody};
pub use query::Query;

pub type Request = http::Request<RequestBody>;
pub type Response = http::Response<ResponseBody>;
