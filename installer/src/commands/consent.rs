//! What `up` asks before it restarts or removes something on hosts that serve. See `docs/decisions/0022-up-asks.md`.

use hoststate::Action;
use hoststate::wire::Change;

use super::fleet::Member;
use super::membership::Membership;
use super::plan::text::is_removal;
use super::plan::{Planned, objects};
use super::{Run, ask};
use crate::desired::Inputs;

/// Longest list of one host.
const NAMED: usize = 6;

/// Whether to go on. Nobody is asked where nothing is in question, where `--yes` was said, or where there is no terminal to ask at:
/// there the plan is told, as always, and `up` does what its inventory says.
pub async fn given(
    run: &Run<'_>,
    inputs: Inputs<'_>,
    members: &[Member<'_>],
    planned: &[Option<Planned>],
    membership: &Membership,
) -> anyhow::Result<bool> {
    if run.yes || !ask::has_terminal() {
        return Ok(true);
    }
    let serves = |member: &Member<'_>| member.facts.manifest.as_ref().is_some_and(|manifest| manifest.complete);
    let serving = members.iter().zip(planned).filter(|(member, _)| serves(member));
    let mut lines: Vec<String> =
        serving.filter_map(|(member, planned)| disturbance(&member.host.name, &planned.as_ref()?.1)).collect();
    lines.extend(membership.lines());
    if members.iter().any(|member| member.host.control_plane && serves(member)) {
        // where no server answers `up` tells what it deletes when it does
        let removed = objects::removals(run, inputs).await.unwrap_or_default();
        lines.extend(removed.into_iter().map(|change| format!("API: remove {}", change.object)));
    }
    if lines.is_empty() {
        return Ok(true);
    }
    let question = format!("`up` will, on what serves already:\n  {}\nType yes to go on:", lines.join("\n  "));
    ask::is_typed("yes", &question, "`up` restarts or removes something")
}

/// What a host that serves would notice; None: nothing.
fn disturbance(host: &str, changes: &[Change]) -> Option<String> {
    let named = |verb: &str, which: fn(&Change) -> bool| {
        let names: Vec<_> =
            changes.iter().filter(|change| which(change)).map(|change| change.resource.as_str()).collect();
        let more = names.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let first = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("{verb} {first}{more}"))
    };
    let parts = [named("restart", |change| change.action == Action::Restart), named("remove", is_removal)]
        .into_iter()
        .flatten();
    let parts = parts.collect::<Vec<_>>().join("; ");
    (!parts.is_empty()).then(|| format!("{host}: {parts}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_restarts_and_removals_are_worth_a_question() {
        let change = |resource: &str, action| Change::new(resource, action, "");
        let quiet = [change("file /x", Action::Update), change("unit a.service", Action::Start)];
        assert_eq!(disturbance("h1", &quiet), None);
        let mut loud = vec![change("unit b.service", Action::Restart), change("file /y", Action::Restore)];
        loud.extend(quiet);
        assert_eq!(disturbance("h1", &loud).as_deref(), Some("h1: restart unit b.service; remove file /y"));
        let many: Vec<_> = (0..9).map(|number| change(&format!("file /{number}"), Action::Remove)).collect();
        assert!(disturbance("h1", &many).is_some_and(|text| text.ends_with("file /5 and 3 more")));
    }
}
