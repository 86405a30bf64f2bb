//! ClusterTrustBundles as files in pods.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use certs::Ca;
use serde_json::{Value, json};

use super::containers::{certificates, log, projected, shell};
use super::service_accounts::succeeded;
use crate::context::{T, same};
use crate::resource::Res;
use crate::runner::Entry;

const AREA: &str = "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection]";
const COMBINED: &str = "should be capable to mount multiple trust bundles by signer+labels";
const PREVENTED: &str = "should prevent a pod from starting if:";
const WHY: &str = "a kubelet mounts the bundle";

pub fn entries() -> Vec<Entry> {
    let combined: [(&str, Value, &[Kind]); 4] = [
        ("can combine all signer CTBs with an empty label selector", json!({}), &[Kind::Alive, Kind::Dead]),
        (
            "can combine multiple CTBs with signer name and label selector",
            json!({"matchLabels": {"signer.alive": "true"}}),
            &[Kind::Alive],
        ),
        (
            "should start if only signer name and explicit label selector matches nothing + optional=true",
            json!({"matchLabels": {"signer.alive": "unknown"}}),
            &[],
        ),
        ("should start if only signer name and nil label selector + optional=true", Value::Null, &[]),
    ];
    let mut all = vec![
        Entry::new("should be able to mount a big number (>100) of CTBs", many),
        Entry::new("should be able to mount a single ClusterTrustBundle by name", single),
        Entry::new("should be able to specify multiple CTB volumes", several),
        Entry::new("sets optional=false and no trust bundle matches query", |t| prevented(t, false)).under(PREVENTED),
        Entry::new("sets optional=false and the configured CTB does not exist", |t| prevented(t, true))
            .under(PREVENTED),
    ];
    for (name, selector, kinds) in combined {
        all.push(Entry::new(name, move |t| by_signer(t, selector.clone(), kinds)).under(COMBINED));
    }
    all.into_iter().map(|entry| entry.of_kubelets("1.37").under(AREA)).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Alive,
    Dead,
    /// Of another signer.
    Foreign,
    /// Of no signer.
    Nobody,
}

/// Bundles of two signers and of nobody.
struct Bundles {
    signer: String,
    made: Vec<(Kind, String, String)>,
}

impl Bundles {
    async fn make(t: &T) -> Result<Self> {
        let (one, two) = (format!("{}.test/signer-one", t.ns), format!("{}.test/signer-two", t.ns));
        let mut made = Vec::new();
        for (number, kind) in
            [Kind::Alive, Kind::Alive, Kind::Dead, Kind::Foreign, Kind::Nobody].into_iter().enumerate()
        {
            let (signer, alive) = match kind {
                Kind::Alive => (one.as_str(), "true"),
                Kind::Dead => (one.as_str(), "false"),
                Kind::Foreign => (two.as_str(), "true"),
                Kind::Nobody => ("", "true"),
            };
            let (name, pem) = publish(t, signer, number, alive).await?;
            made.push((kind, name, pem));
        }
        Ok(Bundles { signer: one, made })
    }

    fn pem(&self, kinds: &[Kind]) -> BTreeSet<String> {
        self.made.iter().filter(|(kind, _, _)| kinds.contains(kind)).map(|(_, _, pem)| pem.clone()).collect()
    }

    fn of_nobody(&self) -> Result<&str> {
        let found = self.made.iter().find(|(kind, _, _)| *kind == Kind::Nobody);
        Ok(&found.context("no bundle of nobody")?.1)
    }
}

/// Makes a bundle with an anchor of its own; its name and the anchor.
async fn publish(t: &T, signer: &str, number: usize, alive: &str) -> Result<(String, String)> {
    let name = match signer {
        "" => format!("{}.bundle-{number}", t.ns),
        signer => format!("{}:{number}", signer.replace('/', ":")),
    };
    let pem = Ca::generate(&format!("root-{number}"))?.cert_pem().trim().replace('\r', "");
    let mut spec = json!({"trustBundle": format!("{pem}\n")});
    if !signer.is_empty() {
        spec["signerName"] = json!(signer);
    }
    t.make(&Res::TRUST_BUNDLE, json!({"metadata": {"name": name, "labels": {"signer.alive": alive}}, "spec": spec}))
        .await?;
    Ok((name, pem))
}

fn source(mut selection: Value, path: &str) -> Value {
    selection["path"] = json!(path);
    json!({"clusterTrustBundle": selection})
}

/// A pod prints files (`<volume>/<path>`); each must hold exactly these anchors, readable for everybody.
async fn shows(t: &T, pod: &str, volumes: &[Vec<Value>], expected: &[(String, BTreeSet<String>)]) -> Result<()> {
    let files: Vec<String> = expected.iter().map(|(file, _)| format!("/v/{file}")).collect();
    let script = format!("for f in {}; do echo \"file $(stat -Lc %a $f)\"; cat $f; done", files.join(" "));
    let (volumes, mounts) = projected(volumes);
    let mut container = shell(t, &script);
    container["volumeMounts"] = mounts;
    let spec = json!({"restartPolicy": "Never", "volumes": volumes, "containers": [container]});
    t.make(&Res::POD, json!({"metadata": {"name": pod}, "spec": spec})).await?;
    succeeded(t, pod).await?;
    let printed = log(t, pod).await?;
    let parts: Vec<&str> = printed.split("file ").skip(1).collect();
    same("files printed", &parts.len(), &expected.len())?;
    for (part, (file, anchors)) in parts.iter().zip(expected) {
        ensure!(part.starts_with("644\n"), "mode of {file}: {part}");
        same(&format!("anchors in {file}"), &certificates(part), anchors)?;
        let length: usize = anchors.iter().map(|anchor| anchor.len() + 1).sum();
        same(&format!("bytes in {file}"), &(part.len() - "644\n".len()), &length)?;
    }
    Ok(())
}

async fn single(t: Arc<T>) -> Result<()> {
    t.needs_cluster(WHY)?;
    let bundles = Bundles::make(&t).await?;
    let named = source(json!({"name": bundles.of_nobody()?}), "anchors.pem");
    let expected = [("0/anchors.pem".to_owned(), bundles.pem(&[Kind::Nobody]))];
    shows(&t, "existing", &[vec![named]], &expected).await?;
    let missing = source(json!({"name": "does-not-exist.at.all", "optional": true}), "anchors.pem");
    shows(&t, "missing", &[vec![missing]], &[("0/anchors.pem".to_owned(), BTreeSet::new())]).await
}

async fn several(t: Arc<T>) -> Result<()> {
    t.needs_cluster(WHY)?;
    let bundles = Bundles::make(&t).await?;
    let named = source(json!({"name": bundles.of_nobody()?}), "anchors.pem");
    let dead = json!({"signerName": bundles.signer, "labelSelector": {"matchLabels": {"signer.alive": "false"}}});
    let expected = [
        ("0/anchors.pem".to_owned(), bundles.pem(&[Kind::Nobody])),
        ("1/bundle.crt".to_owned(), bundles.pem(&[Kind::Dead])),
    ];
    shows(&t, "several", &[vec![named], vec![source(dead, "bundle.crt")]], &expected).await
}

async fn by_signer(t: Arc<T>, selector: Value, kinds: &[Kind]) -> Result<()> {
    t.needs_cluster(WHY)?;
    let bundles = Bundles::make(&t).await?;
    let mut selection = json!({"signerName": bundles.signer});
    if !selector.is_null() {
        selection["labelSelector"] = selector;
    }
    if kinds.is_empty() {
        selection["optional"] = json!(true);
    }
    let expected = [("0/bundle.crt".to_owned(), bundles.pem(kinds))];
    shows(&t, "combined", &[vec![source(selection, "bundle.crt")]], &expected).await
}

/// As many files of one volume, as many volumes, and as one file.
async fn many(t: Arc<T>) -> Result<()> {
    const COUNT: usize = 150;
    t.needs_cluster(WHY)?;
    let signer = format!("{}.test/signer-hundreds", t.ns);
    let (mut sources, mut expected) = (Vec::new(), Vec::new());
    for number in 0..COUNT {
        let (name, pem) = publish(&t, &signer, number, "true").await?;
        sources.push(source(json!({"name": name}), &format!("anchors-{number}.pem")));
        expected.push(BTreeSet::from([pem]));
    }
    let numbered = |volume: fn(usize) -> usize| -> Vec<(String, BTreeSet<String>)> {
        let file = |(number, anchors): (usize, &BTreeSet<String>)| {
            (format!("{}/anchors-{number}.pem", volume(number)), anchors.clone())
        };
        expected.iter().enumerate().map(file).collect()
    };
    shows(&t, "one-volume", &[sources.clone()], &numbered(|_| 0)).await?;
    let separate: Vec<Vec<Value>> = sources.into_iter().map(|source| vec![source]).collect();
    shows(&t, "many-volumes", &separate, &numbered(|number| number)).await?;
    let joined = source(json!({"signerName": signer, "labelSelector": {}}), "anchors.pem");
    let all = expected.iter().flatten().cloned().collect();
    shows(&t, "one-file", &[vec![joined]], &[("0/anchors.pem".to_owned(), all)]).await
}

async fn prevented(t: Arc<T>, by_name: bool) -> Result<()> {
    t.needs_cluster(WHY)?;
    let bundles = Bundles::make(&t).await?;
    let selection = if by_name {
        json!({"name": "does-not-exist", "optional": false})
    } else {
        let unknown = json!({"matchLabels": {"signer.alive": "unknown"}});
        json!({"signerName": bundles.signer, "labelSelector": unknown, "optional": false})
    };
    let (volumes, mounts) = projected(&[vec![source(selection, "bundle.crt")]]);
    let mut container = shell(&t, "cat /v/0/bundle.crt");
    container["volumeMounts"] = mounts;
    let spec = json!({"restartPolicy": "Never", "volumes": volumes, "containers": [container]});
    t.make(&Res::POD, json!({"metadata": {"name": "held"}, "spec": spec})).await?;
    let path = format!("{}?fieldSelector=reason%3DFailedMount", Res::CORE_EVENT.collection(&t.ns));
    // told twice: after the first failure the kubelet has tried again
    t.until_list("word of a failed mount that is tried again", &path, |events| {
        events.iter().any(|event| event["count"].as_u64().unwrap_or(0) >= 2) || events.len() >= 2
    })
    .await?;
    let pod = t.read(&Res::POD, "held").await?;
    same("phase", &pod["status"]["phase"], &json!("Pending"))?;
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").context("no condition Ready")?;
    same("Ready", &ready["status"], &json!("False"))?;
    same("its reason", &ready["reason"], &json!("ContainersNotReady"))?;
    same("its message", &ready["message"], &json!("containers with unready status: [main]"))
}
