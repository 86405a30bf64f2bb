//! The pod failure policy of a Job (KEP-3329): what a failed pod means.

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::Pod;

use crate::core::{meta, pods};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Count,
    Ignore,
    FailIndex,
    FailJob,
}

/// The action of the first matching rule of the pod failure policy (KEP-3329).
pub fn policy(spec: &JobSpec, pod: &Pod) -> (Action, String) {
    let rules = spec.pod_failure_policy.iter().flat_map(|it| &it.rules);
    for (number, rule) in rules.enumerate() {
        let by_code = rule.on_exit_codes.as_ref().and_then(|wanted| {
            let status = pod.status.as_ref();
            let all = status
                .iter()
                .flat_map(|it| {
                    it.container_statuses.iter().flatten().chain(it.init_container_statuses.iter().flatten())
                })
                .filter(|it| wanted.container_name.as_ref().is_none_or(|name| *name == it.name))
                .collect::<Vec<_>>();
            all.into_iter().find_map(|it| {
                let code = it.state.as_ref()?.terminated.as_ref()?.exit_code;
                let listed = wanted.values.contains(&code);
                let matches =
                    code != 0 && if wanted.operator == "In" { listed } else { wanted.operator == "NotIn" && !listed };
                matches.then(|| {
                    format!(
                        "Container {} for pod {}/{} failed with exit code {code} matching {} rule at index {number}",
                        it.name,
                        meta::namespace(&pod.metadata),
                        meta::name(&pod.metadata),
                        rule.action
                    )
                })
            })
        });
        let by_condition = rule.on_pod_conditions.iter().flatten().find(|wanted| {
            pods::condition(pod, &wanted.type_)
                .is_some_and(|it| it.status == wanted.status.as_deref().unwrap_or("True"))
        });
        let by_condition = by_condition.map(|it| {
            format!(
                "Pod {}/{} has condition {} matching {} rule at index {number}",
                meta::namespace(&pod.metadata),
                meta::name(&pod.metadata),
                it.type_,
                rule.action
            )
        });
        if let Some(message) = by_code.or(by_condition) {
            let action = match rule.action.as_str() {
                "FailJob" => Action::FailJob,
                "FailIndex" => Action::FailIndex,
                "Ignore" => Action::Ignore,
                _ => Action::Count,
            };
            return (action, message);
        }
    }
    (Action::Count, String::new())
}
