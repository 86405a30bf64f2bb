//! `registries` and `proxy`: where the hosts' container runtime gets images from.

use std::path::PathBuf;

use super::decode::{At, Fields, Sink};
use super::yaml::{Node, Pos};

#[derive(Clone, Debug, Default)]
pub struct Registry {
    pub path: String,
    pub pos: Pos,
    pub name: Option<At<String>>,
    pub mirrors: Vec<At<String>>,
    pub ca_file: Option<PathBuf>,
    pub skip_verify: Option<bool>,
    pub username: Option<At<String>>,
    pub password_file: Option<PathBuf>,
    pub password_env: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Proxy {
    pub http: Option<At<String>>,
    pub https: Option<At<String>>,
    pub no_proxy: Vec<At<String>>,
    pub pos: Pos,
}

pub fn registry(node: &Node, path: String, sink: &mut Sink) -> Registry {
    let mut fields = Fields::open(node, path.clone(), sink);
    let registry = Registry {
        path,
        pos: fields.pos,
        name: fields.required("name", sink),
        mirrors: fields.texts("mirrors", sink),
        ca_file: fields.string("caFile", sink).map(|at| PathBuf::from(at.value)),
        skip_verify: fields.boolean("skipVerify", sink),
        username: fields.string("username", sink),
        password_file: fields.string("passwordFile", sink).map(|at| PathBuf::from(at.value)),
        password_env: fields.string("passwordEnv", sink).map(|at| at.value),
    };
    fields.finish(sink);
    registry
}

pub fn proxy(mut fields: Fields<'_>, sink: &mut Sink) -> Proxy {
    let proxy = Proxy {
        http: fields.string("http", sink),
        https: fields.string("https", sink),
        no_proxy: fields.texts("noProxy", sink),
        pos: fields.pos,
    };
    fields.finish(sink);
    proxy
}
