//! CustomResourceDefinitions themselves, and defaulting.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::client::{JSON, JSON_PATCH};
use crate::context::{T, names, same};
use crate::lifecycle::write_status;
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new(
            "[sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch on custom resource definition objects",
            watch,
        ),
        Entry::new(
            "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition creating/deleting custom resource definition objects works",
            create_delete,
        ),
        Entry::new(
            "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works",
            status,
        ),
        Entry::new(
            "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition listing custom resource definition objects works",
            list,
        ),
        Entry::new(
            "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for requests and from storage works",
            defaulting,
        ),
    ]
}

/// A definition as a test describes it; its group belongs to the test alone.
#[derive(Clone)]
pub struct Crd {
    pub group: String,
    pub plural: String,
    pub kind: String,
    pub versions: Vec<Value>,
    /// More fields of the spec.
    pub extra: Value,
    pub labels: Value,
}

/// A schema that accepts every field.
pub fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// One served version; the first of a definition should be the stored one.
pub fn version(name: &str, storage: bool, schema: &Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}})
}

impl Crd {
    pub fn new(t: &T, versions: Vec<Value>) -> Self {
        Crd {
            group: format!("{}.example.com", t.ns),
            plural: "foos".into(),
            kind: "Foo".into(),
            versions,
            extra: json!({}),
            labels: json!({}),
        }
    }

    /// One version `v1`, any fields.
    pub fn simple(t: &T) -> Self {
        Self::new(t, vec![version("v1", true, &anything())])
    }

    pub fn named(mut self, plural: &str, kind: &str) -> Self {
        self.plural = plural.into();
        self.kind = kind.into();
        self
    }

    pub fn name(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    pub fn path(&self) -> String {
        Res::CRD.named("", &self.name())
    }

    pub fn body(&self) -> Value {
        let singular = self.kind.to_lowercase();
        let mut spec = json!({
            "group": self.group, "scope": "Namespaced", "versions": self.versions,
            "names": {"plural": self.plural, "singular": singular, "kind": self.kind, "listKind": format!("{}List", self.kind)},
        });
        for (key, value) in self.extra.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": self.name(), "labels": self.labels}, "spec": spec})
    }

    /// Where its objects lie in the test's namespace.
    pub fn objects(&self, t: &T, version: &str) -> String {
        format!("/apis/{}/{version}/namespaces/{}/{}", self.group, t.ns, self.plural)
    }

    pub fn object(&self, version: &str, name: &str, fields: &Value) -> Value {
        let mut object = fields.clone();
        object["apiVersion"] = json!(format!("{}/{version}", self.group));
        object["kind"] = json!(self.kind);
        object["metadata"]["name"] = json!(name);
        object
    }
}

fn established(crd: &Value) -> bool {
    let conditions = crd["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let holds = |kind: &str| conditions.iter().any(|c| c["type"] == kind && c["status"] == "True");
    holds("Established") && holds("NamesAccepted")
}

/// Creates it and waits until its first version is served.
pub async fn make(t: &T, crd: &Crd) -> Result<Crd> {
    t.make(&Res::CRD, crd.body()).await?;
    serve(t, crd).await?;
    Ok(crd.clone())
}

pub async fn serve(t: &T, crd: &Crd) -> Result<()> {
    t.until("the definition's Established", &crd.path(), established).await?;
    let version = crd.versions[0]["name"].as_str().context("no version")?.to_owned();
    let path = crd.objects(t, &version);
    t.eventually("the custom resource is served", || t.api.get(&path)).await.map(drop)
}

async fn create_delete(t: Arc<T>) -> Result<()> {
    let crd = make(&t, &Crd::simple(&t)).await?;
    let path = crd.objects(&t, "v1");
    let made = t.api.post(&path, &crd.object("v1", "one", &json!({"spec": {"key": "value"}}))).await?;
    same("what was stored", &made["spec"], &json!({"key": "value"}))?;
    t.api.delete(&crd.path(), &Value::Null).await?;
    t.gone(&crd.path()).await?;
    t.eventually("its objects' path is gone", || async {
        let answer = t.api.call("GET", &path, JSON, &Value::Null).await?;
        ensure!(answer.status == 404, "status {}", answer.status);
        Ok(())
    })
    .await
}

async fn watch(t: Arc<T>) -> Result<()> {
    let crd = make(&t, &Crd::simple(&t)).await?;
    let path = crd.objects(&t, "v1");
    let mut a = t.api.watch(&format!("{path}?fieldSelector=metadata.name%3Da")).await?;
    let mut b = t.api.watch(&format!("{path}?fieldSelector=metadata.name%3Db")).await?;
    for (name, watch) in [("a", &mut a), ("b", &mut b)] {
        t.api.post(&path, &crd.object("v1", name, &json!({}))).await?;
        watch.expect("ADDED", name).await?;
    }
    for (name, watch) in [("a", &mut a), ("b", &mut b)] {
        t.update(&format!("{path}/{name}"), |object| object["num"] = json!({"num1": 1})).await?;
        watch.expect("MODIFIED", name).await?;
    }
    for (name, watch) in [("a", &mut a), ("b", &mut b)] {
        t.api.delete(&format!("{path}/{name}"), &Value::Null).await?;
        let gone = watch.expect("DELETED", name).await?;
        same("namespace of the deleted", &gone["metadata"]["namespace"], &json!(t.ns))?;
    }
    Ok(())
}

async fn status(t: Arc<T>) -> Result<()> {
    let crd = make(&t, &Crd::simple(&t)).await?;
    let path = crd.path();
    let patch = json!({"status": {"storedVersions": ["v1"]}});
    write_status(&t, &path, &patch, "/status/storedVersions").await?;
    let condition = super::objects::condition("StatusUpdate", "True");
    let add = json!([{"op": "add", "path": "/status/conditions/-", "value": condition}]);
    t.api.patch(&format!("{path}/status"), JSON_PATCH, &add).await?;
    let read = t.api.get(&format!("{path}/status")).await?;
    let conditions = read["status"]["conditions"].as_array().context("no conditions")?;
    ensure!(conditions.iter().any(|c| c["type"] == "StatusUpdate"), "the condition is lost: {conditions:?}");
    // a write to the definition itself leaves the status alone
    let updated = t.update(&path, |crd| crd["status"] = json!({})).await?;
    ensure!(established(&updated), "a main update changed the status: {}", updated["status"]);
    Ok(())
}

async fn list(t: Arc<T>) -> Result<()> {
    for number in 0..10 {
        let mut crd = Crd::simple(&t).named(&format!("foo{number}s"), &format!("Foo{number}"));
        crd.labels = json!({"conformance": t.ns});
        t.make(&Res::CRD, crd.body()).await?;
    }
    let other = Crd::simple(&t).named("bars", "Bar");
    t.make(&Res::CRD, other.body()).await?;
    let selected = format!("{}?labelSelector=conformance%3D{}", Res::CRD.everywhere(), t.ns);
    same("definitions with the label", &names(&t.api.get(&selected).await?).len(), &10)?;
    t.api.call("DELETE", &selected, JSON, &Value::Null).await?.ok()?;
    t.until_list("end of the labelled definitions", &selected, <[Value]>::is_empty).await?;
    t.api.get(&other.path()).await.map(drop)
}

/// Defaults come into what is written and into what was stored before them; what a default filled in stays when it goes.
async fn defaulting(t: Arc<T>) -> Result<()> {
    let schema = |a: Option<&str>, b: Option<&str>| {
        let field = |default: Option<&str>| match default {
            Some(default) => json!({"type": "string", "default": default}),
            None => json!({"type": "string"}),
        };
        json!({"type": "object", "properties": {"a": field(a), "b": field(b)}})
    };
    let crd = make(&t, &Crd::new(&t, vec![version("v1", true, &schema(None, None))])).await?;
    let path = crd.objects(&t, "v1");
    let made = t.api.post(&path, &crd.object("v1", "one", &json!({}))).await?;
    ensure!(made.get("a").is_none(), "a value without a default: {made}");

    let default = |a: Option<&'static str>, b: Option<&'static str>| {
        let replace =
            json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema(a, b)}]);
        let (t, crd) = (t.clone(), crd.clone());
        async move { t.api.patch(&crd.path(), JSON_PATCH, &replace).await }
    };
    default(Some("A"), None).await?;
    t.eventually("the default of an object stored before", || async {
        let read = t.api.get(&format!("{path}/one")).await?;
        same("a", &read["a"], &json!("A"))
    })
    .await?;
    let list = t.api.get(&path).await?;
    same("the default in a list", &list["items"][0]["a"], &json!("A"))?;
    let made = t.api.post(&path, &crd.object("v1", "two", &json!({}))).await?;
    same("the default of a create", &made["a"], &json!("A"))?;

    default(None, Some("B")).await?;
    t.eventually("the second default", || async {
        let read = t.api.get(&format!("{path}/two")).await?;
        same("b", &read["b"], &json!("B"))
    })
    .await?;
    let read = t.api.get(&format!("{path}/two")).await?;
    same("what the first default filled in", &read["a"], &json!("A"))?;
    let read = t.api.get(&format!("{path}/one")).await?;
    ensure!(read.get("a").is_none(), "a default that was only shown is still shown: {read}");
    same("the second default on the first object", &read["b"], &json!("B"))
}
