//! The Kubernetes API server.
//!
//! In: HTTP requests, over TLS or in process. Out: objects, watches, tables, errors, as Kubernetes v1.37 gives them. There is one
//! generic handler for each verb ([`handlers`]), driven by `machinery`'s resource table; only real subresources have code of their own.
//! A request passes [`pipeline`]: authentication, authorization, admission, handler, store. May depend on `machinery`, `store`
//! and `certs`, on no client of the API.

mod activity;
pub mod admission;
pub mod aggregation;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod backend;
pub mod bootstrap;
pub mod callback;
pub mod cluster_ips;
pub mod config;
pub mod connection;
pub mod core;
pub mod crd;
pub mod discovery;
mod encryption;
mod expiry;
pub mod flowcontrol;
pub mod handlers;
pub mod http;
pub mod identity;
pub mod impersonation;
pub mod kubelet;
pub mod memo;
pub mod metrics;
pub mod observed;
pub mod openapi;
pub mod pipeline;
pub mod presence;
pub mod registry;
pub mod server;
pub mod services;
mod serving;
mod storage;
pub mod testing;
pub mod tls;

pub use config::{Config, PortRange};
pub use http::ResponseBody;
pub use identity::Identity;
pub use server::{ApiServer, Handler};
