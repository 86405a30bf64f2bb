//! Claims that get no volume.

use serde_json::Value;

use super::{Found, Sure, found};
use crate::commands::doctor::seen::{Objects, Seen, list, name};

/// Longer than this no volume takes that is going to come.
const PATIENCE_SECONDS: i64 = 60;
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

pub fn claims(seen: &Seen<'_>) -> Vec<Found> {
    let Some(objects) = seen.objects() else { return Vec::new() };
    objects.of("persistentvolumeclaims").iter().filter_map(|claim| problem(seen, objects, claim)).collect()
}

fn problem(seen: &Seen<'_>, objects: &Objects, claim: &Value) -> Option<Found> {
    let on = format!("persistentvolumeclaim {}", name(claim));
    let namespace = claim["metadata"]["namespace"].as_str().unwrap_or_default();
    let describe =
        format!("kubectl -n {namespace} describe pvc {}", claim["metadata"]["name"].as_str().unwrap_or_default());
    match claim["status"]["phase"].as_str() {
        Some("Lost") => {
            let what = "its volume is gone, with what was in it";
            return Some(found(Sure::Certain, on, what, format!("{describe}; bring the volume back from a backup")));
        }
        Some("Pending") => {}
        _ => return None,
    }
    let classes = objects.of("storageclasses");
    let class = match claim["spec"]["storageClassName"].as_str() {
        // a volume of nobody's class is to be made by hand
        Some("") => return None,
        Some(named) => {
            let Some(class) = classes.iter().find(|class| class["metadata"]["name"] == named) else {
                let what = format!("there is no StorageClass {named:?}");
                let there: Vec<_> = classes.iter().map(name).collect();
                let cure =
                    format!("name one that there is ({}) in the claim, which has to be made anew", there.join(", "));
                return Some(found(Sure::Certain, on, what, cure));
            };
            class
        }
        None => {
            let Some(class) = classes.iter().find(|class| class["metadata"]["annotations"][DEFAULT] == "true") else {
                let what = "it names no StorageClass, and none is the default";
                return Some(found(
                    Sure::Certain,
                    on,
                    what,
                    "name a StorageClass in the claim, or make one the default",
                ));
            };
            class
        }
    };
    let waits = class["volumeBindingMode"] == "WaitForFirstConsumer";
    let old = seen.age(&claim["metadata"]["creationTimestamp"]).is_some_and(|age| age > PATIENCE_SECONDS);
    // as long as nobody uses it nothing is missing
    (old && (!waits || is_used(objects, claim))).then(|| {
        let what = "it gets no volume";
        found(Sure::Likely, on, what, format!("{describe}; mend what the last event says"))
            .signs(objects.warning(claim))
    })
}

fn is_used(objects: &Objects, claim: &Value) -> bool {
    objects.of("pods").iter().any(|pod| {
        pod["metadata"]["namespace"] == claim["metadata"]["namespace"]
            && list(&pod["spec"]["volumes"])
                .iter()
                .any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"])
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{ago, cluster, objects, one, well};
    use super::*;

    fn judged(claim: Value, mode: &str, used: bool, age: i64) -> Vec<Found> {
        let cluster = cluster();
        let mut seen = well(&cluster);
        let mut claim = claim;
        claim["metadata"] = json!({"namespace": "n", "name": "c", "uid": "u", "creationTimestamp": ago(&seen, age)});
        objects(&mut seen, "persistentvolumeclaims").push(claim);
        objects(&mut seen, "storageclasses").push(json!({"metadata": {"name": "local"}, "volumeBindingMode": mode}));
        if used {
            objects(&mut seen, "pods").push(json!({"metadata": {"namespace": "n"}, "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "c"}}]}}));
        }
        claims(&seen)
    }

    #[test]
    fn a_claim_is_told_when_nothing_will_come_of_it() {
        let pending = || json!({"spec": {"storageClassName": "local"}, "status": {"phase": "Pending"}});
        assert!(judged(pending(), "WaitForFirstConsumer", false, 900).is_empty(), "nobody uses it");
        assert!(judged(pending(), "WaitForFirstConsumer", true, 5).is_empty(), "it takes its time");
        assert!(judged(json!({"status": {"phase": "Bound"}}), "Immediate", true, 900).is_empty());
        assert_eq!(one(judged(pending(), "WaitForFirstConsumer", true, 900)).sure, Sure::Likely);
        assert_eq!(one(judged(pending(), "Immediate", false, 900)).sure, Sure::Likely);
        let unknown = one(judged(
            json!({"spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}}),
            "Immediate",
            false,
            1,
        ));
        assert!(unknown.what.contains("\"fast\"") && unknown.cure.contains("local"), "{unknown:?}");
        assert!(
            one(judged(json!({"spec": {}, "status": {"phase": "Pending"}}), "Immediate", false, 1))
                .what
                .contains("none is the default")
        );
        assert!(one(judged(json!({"status": {"phase": "Lost"}}), "Immediate", false, 1)).what.contains("gone"));
    }
}
