//! One generic handler for each verb, and the few subresources that are more than a part of their object.

mod apply;
mod binding;
mod components;
mod connect;
mod create;
mod decode;
mod delete;
mod devices;
mod eviction;
pub(crate) mod health;
mod list;
mod logs;
mod managed;
mod options;
mod patch;
mod proxy;
mod respond;
pub(crate) mod reviews;
mod scale;
mod selection;
mod streams;
mod token;
pub(crate) mod update;
mod versions;
mod watch;
mod yaml;

use http::Method;
use machinery::{ApiError, ResourceRef, protobuf, request_info::RequestInfo};

use crate::{
    core::Core,
    http::{Able, Request, Response},
    pipeline::Call,
    registry,
};

pub use create::create_object;
pub use decode::settle;
pub use delete::{DeleteOptions, delete_object};
pub use managed::shape;

/// The object (or, with an empty name, the collection) a call is about.
#[derive(Clone)]
pub struct Target {
    pub resource: ResourceRef,
    /// Empty for cluster-wide resources, and for lists over all namespaces.
    pub namespace: String,
    pub name: String,
}

impl Target {
    fn of(call: &Call) -> Result<Self, ApiError> {
        let info = &call.info;
        let resource = registry::resolve(&call.core, &info.group, &info.version, &info.resource)
            .ok_or_else(ApiError::no_such_resource)?;
        let namespace = if resource.namespaced { info.namespace.clone() } else { String::new() };
        // a cluster-wide kind below a namespace does not exist, or a right in one namespace would reach beyond it; a
        // namespace itself is "in" itself
        let own_namespace = resource.plural == "namespaces"
            && info.namespace == info.name
            && !matches!(info.verb, "list" | "watch" | "deletecollection");
        if !resource.namespaced && !info.namespace.is_empty() && !own_namespace {
            return Err(ApiError::no_such_resource());
        }
        if resource.namespaced && namespace.is_empty() && !matches!(info.verb, "list" | "watch") {
            return Err(match info.name.is_empty() {
                true => ApiError::method_not_allowed(resource.group, resource.plural, info.verb),
                false => ApiError::no_such_resource(),
            });
        }
        Ok(Target { resource, namespace, name: info.name.clone() })
    }

    pub fn not_found(&self) -> ApiError {
        ApiError::not_found(self.resource.group, self.resource.plural, &self.name)
    }

    pub fn forbidden(&self, why: &str) -> ApiError {
        ApiError::forbidden(self.resource.group, self.resource.plural, &self.name, why)
    }
}

/// What a request names, as far as it exists; empty otherwise.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    pub subresource: &'static str,
}

pub fn known_names(core: &Core, info: &RequestInfo) -> Named {
    if !info.is_resource {
        return Named::default();
    }
    if let Some(review) = reviews::find(info) {
        return Named { group: review.group, version: "v1", resource: review.plural, subresource: "" };
    }
    registry::resolve(core, &info.group, &info.version, &info.resource).map_or_else(Named::default, |resource| {
        let subresource = resource.subresource(&info.subresource).map_or("", |it| it.name);
        Named { group: resource.group, version: resource.version, resource: resource.plural, subresource }
    })
}

/// What the endpoint of a request can answer. Discovery and documents negotiate for themselves.
pub fn able(info: &RequestInfo) -> Able {
    let virtual_kind = reviews::find(info).is_some() || matches!(&*info.subresource, "binding" | "eviction" | "token");
    Able { protobuf: protobuf::knows_group(&info.group), shapes: info.is_resource && !virtual_kind }
}

/// Group and version of the kinds that are questions and lie in no table.
pub fn review_groups() -> impl Iterator<Item = (String, String)> {
    reviews::ALL.iter().map(|review| (review.group.to_owned(), "v1".to_owned()))
}

pub async fn dispatch(call: Call, request: Request) -> Result<Response, ApiError> {
    if !call.info.is_resource {
        return without_resource(&call).await;
    }
    if let Some(review) = reviews::find(&call.info) {
        return reviews::answer(&call, review, request).await;
    }
    let target = Target::of(&call)?;
    let row = Some(target.resource.deprecation).filter(|text| !text.is_empty());
    if let Some(text) = row.or_else(|| target.resource.custom().and_then(|custom| custom.deprecation())) {
        call.notes.warn(text);
    }
    if !call.info.subresource.is_empty() {
        return subresource(call, target, request).await;
    }
    if !target.resource.supports(call.info.verb) {
        return Err(ApiError::method_not_allowed(target.resource.group, target.resource.plural, call.info.verb));
    }
    match (target.resource.group, target.resource.plural) {
        ("", "bindings") => return binding::create(&call, &target, request).await,
        ("", "componentstatuses") => return components::answer(&call, &target).await,
        _ => {}
    }
    match call.info.verb {
        "get" => respond::get(&call, &target).await,
        "list" => list::list(&call, &target).await,
        "watch" => watch::watch(&call, &target).await,
        "create" => create::create(&call, target, request).await,
        "update" => update::put(&call, &target, update::Part::Main, request).await,
        "patch" if options::is_apply(&request) => apply::apply(&call, &target, update::Part::Main, request).await,
        "patch" => patch::patch(&call, &target, update::Part::Main, request).await,
        "delete" => delete::delete(&call, &target, request).await,
        "deletecollection" => delete::collection(&call, &target, request).await,
        _ => Err(ApiError::method_not_allowed(target.resource.group, target.resource.plural, call.info.verb)),
    }
}

async fn without_resource(call: &Call) -> Result<Response, ApiError> {
    if !matches!(call.info.verb, "get" | "head") {
        return Err(ApiError::method_not_allowed("", "", call.info.verb));
    }
    if let Some(response) = health::answer(call).await {
        return Ok(response);
    }
    if let Some(response) = crate::openapi::answer(call).await? {
        return Ok(response);
    }
    crate::discovery::answer(call).ok_or_else(ApiError::no_such_resource)
}

async fn subresource(call: Call, target: Target, request: Request) -> Result<Response, ApiError> {
    let resource = &*target.resource;
    let name = call.info.subresource.as_str();
    let unknown = || Err(ApiError::no_such_resource());
    if resource.subresource(name).is_none() {
        return unknown();
    }
    if matches!(name, "exec" | "attach" | "portforward" | "proxy") {
        connect::admit(&call, &target).await?;
    }
    let part = match (resource.plural, name) {
        (_, "status") => update::Part::Status,
        ("certificatesigningrequests", "approval") => update::Part::Approval,
        ("namespaces", "finalize") => update::Part::Finalize,
        (_, "scale") => return scale::answer(&call, &target, request).await,
        ("pods", "binding") => return binding::bind(&call, &target, request).await,
        ("pods", "eviction") => return eviction::evict(&call, &target, request).await,
        ("pods", "log" | "exec" | "attach" | "portforward") => return logs::forward(&call, &target, request).await,
        ("pods", "ephemeralcontainers") => update::Part::EphemeralContainers,
        ("pods", "resize") => update::Part::Resize,
        ("nodes" | "pods" | "services", "proxy") => return proxy::forward(&call, &target, request).await,
        ("serviceaccounts", "token") => return token::create(&call, &target, request).await,
        _ => return unknown(),
    };
    match *request.method() {
        Method::GET | Method::HEAD => respond::get(&call, &target).await,
        Method::PUT => update::put(&call, &target, part, request).await,
        Method::PATCH if options::is_apply(&request) => apply::apply(&call, &target, part, request).await,
        Method::PATCH => patch::patch(&call, &target, part, request).await,
        _ => Err(ApiError::method_not_allowed(resource.group, resource.plural, call.info.verb)),
    }
}
