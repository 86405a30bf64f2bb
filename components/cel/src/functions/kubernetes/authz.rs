//! `authorizer`: questions to the cluster's authorization, asked through a trait.

use std::sync::Arc;

use super::Extra;
use crate::{
    eval::{Ctx, Fault},
    functions::{Answer, Function, no_overload},
    value::Val,
};

/// What is asked, in the words of SubjectAccessReview.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// Asks for this service account instead of the request's user.
    pub account: Option<ServiceAccount>,
    pub path: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
    pub verb: String,
}

#[derive(Clone, Debug)]
pub struct ServiceAccount {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// Set when the question could not be decided.
    pub error: Option<String>,
}

/// Who answers.
pub trait Authorize {
    fn decide(&self, check: &Check) -> Decision;
}

/// The value of the variable `authorizer`.
pub fn authorizer<'a>() -> Val<'a> {
    Val::Extra(Arc::new(Extra::Authorizer(None)))
}

/// The value of `authorizer.requestResource`.
pub fn request_resource<'a>(check: Check) -> Val<'a> {
    Val::Extra(Arc::new(Extra::Resource(check)))
}

/// Changes the check a builder carries.
macro_rules! builder {
    ($name:literal, $from:ident, $signature:literal, |$check:ident, $text:ident| $change:expr) => {
        Function {
            name: $name,
            overloads: &[(concat!("resourcecheck_", $name), $signature)],
            run: |_, args| match args {
                [Val::Extra(extra), Val::Str($text)] => match &**extra {
                    Extra::$from(found) => {
                        let mut $check = found.clone();
                        $change;
                        Ok(Val::Extra(Arc::new(Extra::Resource($check))))
                    }
                    _ => no_overload(args),
                },
                _ => no_overload(args),
            },
        }
    };
}

pub(crate) static TABLE: &[Function] = &[
    Function {
        name: "path",
        overloads: &[(
            "authorizer_path",
            "kubernetes.authorization.Authorizer.(string) -> kubernetes.authorization.PathCheck",
        )],
        run: |_, args| {
            from_authorizer(args, |account, text| {
                if text.is_empty() {
                    return Err(Fault::new("path must not be empty"));
                }
                Ok(Extra::Path(Check { account, path: text.to_owned(), ..Check::default() }))
            })
        },
    },
    Function {
        name: "group",
        overloads: &[(
            "authorizer_group",
            "kubernetes.authorization.Authorizer.(string) -> kubernetes.authorization.GroupCheck",
        )],
        run: |_, args| {
            from_authorizer(args, |account, text| {
                Ok(Extra::Group(Check { account, group: text.to_owned(), ..Check::default() }))
            })
        },
    },
    Function {
        name: "serviceAccount",
        overloads: &[(
            "authorizer_serviceaccount",
            "kubernetes.authorization.Authorizer.(string, string) -> kubernetes.authorization.Authorizer",
        )],
        run: |_, args| match args {
            [Val::Extra(_), Val::Str(namespace), Val::Str(name)] => {
                let wrong = |what: &str| Err(Fault::new(format!("Invalid service account {what}")));
                if !notation::names::dns1123_label(namespace).is_empty() {
                    return wrong("namespace");
                }
                if !notation::names::dns1123_subdomain(name).is_empty() {
                    return wrong("name");
                }
                let account = ServiceAccount { namespace: namespace.to_string(), name: name.to_string() };
                Ok(Val::Extra(Arc::new(Extra::Authorizer(Some(account)))))
            }
            _ => no_overload(args),
        },
    },
    builder!(
        "resource",
        Group,
        "kubernetes.authorization.GroupCheck.(string) -> kubernetes.authorization.ResourceCheck",
        |check, text| check.resource = text.to_string()
    ),
    builder!(
        "subresource",
        Resource,
        "kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        |check, text| check.subresource = text.to_string()
    ),
    builder!(
        "namespace",
        Resource,
        "kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        |check, text| check.namespace = text.to_string()
    ),
    builder!(
        "name",
        Resource,
        "kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        |check, text| check.name = text.to_string()
    ),
    builder!(
        "fieldSelector",
        Resource,
        "kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        |check, text| check.field_selector = text.to_string()
    ),
    builder!(
        "labelSelector",
        Resource,
        "kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        |check, text| check.label_selector = text.to_string()
    ),
    Function {
        name: "check",
        overloads: &[
            ("pathcheck_check", "kubernetes.authorization.PathCheck.(string) -> kubernetes.authorization.Decision"),
            (
                "resourcecheck_check",
                "kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.Decision",
            ),
        ],
        run: check,
    },
    Function {
        name: "allowed",
        overloads: &[("decision_allowed", "kubernetes.authorization.Decision.() -> bool")],
        run: |_, args| decision(args, |d| Val::Bool(d.allowed)),
    },
    Function {
        name: "reason",
        overloads: &[("decision_reason", "kubernetes.authorization.Decision.() -> string")],
        run: |_, args| decision(args, |d| Val::text(d.reason.as_str())),
    },
    Function {
        name: "errored",
        overloads: &[("decision_errored", "kubernetes.authorization.Decision.() -> bool")],
        run: |_, args| decision(args, |d| Val::Bool(d.error.is_some())),
    },
    Function {
        name: "error",
        overloads: &[("decision_error", "kubernetes.authorization.Decision.() -> string")],
        run: |_, args| decision(args, |d| Val::text(d.error.clone().unwrap_or_default())),
    },
];

fn from_authorizer<'a>(args: &[Val<'a>], make: fn(Option<ServiceAccount>, &str) -> Result<Extra, Fault>) -> Answer<'a> {
    match args {
        [Val::Extra(extra), Val::Str(text)] => match &**extra {
            Extra::Authorizer(account) => Ok(Val::Extra(Arc::new(make(account.clone(), text)?))),
            _ => no_overload(args),
        },
        _ => no_overload(args),
    }
}

fn check<'a>(ctx: &mut Ctx<'a>, args: &[Val<'a>]) -> Answer<'a> {
    let [Val::Extra(extra), Val::Str(verb)] = args else { return no_overload(args) };
    let (Extra::Path(found) | Extra::Resource(found)) = &**extra else { return no_overload(args) };
    let question = Check { verb: verb.to_string(), ..found.clone() };
    let decision = match ctx.authorizer {
        Some(authorizer) => authorizer.decide(&question),
        None => return Err(Fault::new("no authorizer is available")),
    };
    Ok(Val::Extra(Arc::new(Extra::Decision(decision))))
}

fn decision<'a>(args: &[Val<'a>], get: fn(&Decision) -> Val<'a>) -> Answer<'a> {
    match args {
        [Val::Extra(extra)] => match &**extra {
            Extra::Decision(decision) => Ok(get(decision)),
            _ => no_overload(args),
        },
        _ => no_overload(args),
    }
}
