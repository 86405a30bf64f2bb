//! The members of etcd, and when one may be taken out.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub id: u64,
    /// Empty until it has started for the first time.
    pub name: String,
    pub peer_urls: Vec<String>,
    /// It has no vote yet.
    pub learner: bool,
    /// It answers and sees a leader.
    pub healthy: bool,
}

impl Member {
    /// Its name, or its address as long as it has none.
    pub fn title(&self) -> String {
        if self.name.is_empty() { self.peer_urls.join(", ") } else { self.name.clone() }
    }
}

/// Whether those that are left decide without this member: more than half of them have to be healthy. A learner has no vote.
///
/// # Errors
/// Says what would be lost.
pub fn may_remove(members: &[Member], id: u64) -> Result<(), String> {
    let Some(going) = members.iter().find(|member| member.id == id) else {
        return Err(format!("etcd has no member {id:x}"));
    };
    if going.learner {
        return Ok(());
    }
    let voters: Vec<_> = members.iter().filter(|member| !member.learner && member.id != id).collect();
    let healthy = voters.iter().filter(|member| member.healthy).count();
    if healthy > voters.len() / 2 {
        return Ok(());
    }
    Err(format!(
        "without the member {} only {healthy} of etcd's {} members would be healthy, which is no majority",
        going.title(),
        voters.len()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn members(healthy: &[bool]) -> Vec<Member> {
        let member = |(index, healthy): (usize, &bool)| Member {
            id: index as u64,
            name: format!("h{index}"),
            peer_urls: Vec::new(),
            learner: false,
            healthy: *healthy,
        };
        healthy.iter().enumerate().map(member).collect()
    }

    #[test]
    fn a_member_goes_only_when_the_majority_stays() {
        for (healthy, allowed) in [
            (&[false, true, true][..], true),
            (&[true, true, true], true),
            // the one that is healthy would be one of two
            (&[true, false, true], false),
            (&[false, false, true], false),
            (&[true], false),
            (&[false, false, true, true, true], true),
        ] {
            assert_eq!(may_remove(&members(healthy), 0).is_ok(), allowed, "{healthy:?}");
        }
        assert!(may_remove(&members(&[true]), 7).unwrap_err().contains("no member 7"));
        let mut learner = members(&[false, false, true]);
        learner[0].learner = true;
        assert!(may_remove(&learner, 0).is_ok(), "it has no vote");
    }
}
