//! The API server, and what it asks before it answers.

use super::{Found, Sure, found};
use crate::commands::doctor::seen::{Seen, condition, name};

pub fn api(seen: &Seen<'_>) -> Vec<Found> {
    match &seen.api {
        None => Vec::new(),
        Some(Err(why)) => {
            let cure = format!("{} says why", seen.kinstall("logs --role controlPlane --unit control-plane"));
            vec![found(Sure::Certain, &seen.cluster.name, "the API does not answer", cure).signs([why.clone()])]
        }
        Some(Ok(objects)) => objects
            .of("apiservices")
            .iter()
            .filter(|service| condition(service, "Available").is_some_and(|available| available["status"] == "False"))
            .map(|service| {
                let message = condition(service, "Available").and_then(|available| available["message"].as_str());
                let what = "what serves this part of the API does not answer; lists of all kinds fail or are slow";
                let cure = format!(
                    "kubectl describe apiservice {0}; kubectl delete apiservice {0} where nobody needs it",
                    name(service)
                );
                found(Sure::Certain, format!("apiservice {}", name(service)), what, cure)
                    .signs(message.map(str::to_owned))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{cluster, objects, one, well};
    use super::*;

    #[test]
    fn an_api_that_does_not_answer_is_told() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        let service = |status: &str| json!({"metadata": {"name": "v1.metrics"}, "status": {"conditions": [{"type": "Available", "status": status, "message": "no endpoints"}]}});
        objects(&mut seen, "apiservices").push(service("True"));
        assert!(api(&seen).is_empty());
        objects(&mut seen, "apiservices").push(service("False"));
        assert_eq!(one(api(&seen)).signs, ["no endpoints"]);
        seen.api = Some(Err("refused".into()));
        assert!(one(api(&seen)).cure.contains("kinstall logs --role controlPlane"));
        seen.api = None;
        assert!(api(&seen).is_empty());
    }
}
