//! Which place a member takes when it starts: the one decision here that could cost data, as a pure function.

use hoststate::Member;
use hoststate::facts::Birth;

/// What is found on this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// etcd has data here.
    pub data: bool,
    /// The member with that data had its vote at some time.
    pub joined: bool,
    /// A member of this host had its vote at some time, whatever has become of its data.
    pub had_vote: bool,
    /// The data was made for other founders than those that are configured now.
    pub other_founders: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Start with what is here.
    Keep,
    /// Found etcd with the others.
    Found,
    /// It is in etcd already, as one that has never started.
    Added,
    /// Be added to etcd.
    Join,
}

/// `members`: of etcd, if one of them answers and sees the majority; not asked for where etcd is founded. Gives the place, and
/// whether what is here has to be put aside first.
///
/// A member that had a vote and lost its data must not come back as itself: it would deny what it has confirmed.
///
/// # Errors
/// Says what a person has to do.
pub fn place(birth: Birth, here: Here, own_url: &str, members: Option<&[Member]>) -> Result<(Place, bool), String> {
    let own = members.map(|members| members.iter().find(|member| member.peer_urls.iter().any(|url| url == own_url)));
    let keep = |place| Ok((place, false));
    let anew = |place| Ok((place, here.data));
    match (here.data, own) {
        // the others went on without this one: what it has is of the past
        (true, Some(None)) => anew(Place::Join),
        (true, None) if birth == Birth::Found && !here.joined && here.other_founders => anew(Place::Found),
        (true, _) => keep(Place::Keep),
        (false, Some(None)) => keep(Place::Join),
        (false, Some(Some(own))) if own.name.is_empty() => keep(Place::Added),
        (false, _) if birth == Birth::Found && !here.had_vote => keep(Place::Found),
        (false, Some(Some(own))) => Err(format!(
            "etcd has the member {} with this host's address, but its data is not here; run `kinstall up`, which removes that \
             member and adds this one",
            own.title()
        )),
        (false, None) if here.had_vote => Err(
            "the data of this host's member of etcd is gone, and no other member answers; bring the other control planes back, \
             then run `kinstall up`"
                .to_owned(),
        ),
        (false, None) => Err("no member of etcd answers; bring the other control planes back".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OWN: &str = "https://10.0.0.1:2380";

    fn member(name: &str, url: &str) -> Member {
        Member { id: 1, name: name.into(), peer_urls: vec![url.into()], learner: false, healthy: true }
    }

    #[test]
    fn the_table() {
        let none = Here::default();
        let data = Here { data: true, ..none };
        let joined = Here { joined: true, had_vote: true, ..data };
        let lost = Here { had_vote: true, ..none };
        let others = [member("h2", "https://10.0.0.2:2380")];
        let with_own = [member("h1", OWN), member("h2", "https://10.0.0.2:2380")];
        let unstarted = [member("", OWN), member("h2", "https://10.0.0.2:2380")];
        use Birth::{Found, Join};
        for (birth, here, members, expected) in [
            (Found, none, None, Some((Place::Found, false))),
            (Found, data, None, Some((Place::Keep, false))),
            (Found, Here { other_founders: true, ..data }, None, Some((Place::Found, true))),
            (Found, Here { other_founders: true, ..joined }, None, Some((Place::Keep, false))),
            (Found, lost, None, None),
            (Found, lost, Some(&with_own[..]), None),
            (Found, joined, Some(&others), Some((Place::Join, true))),
            (Join, none, None, None),
            (Join, none, Some(&others), Some((Place::Join, false))),
            (Join, none, Some(&unstarted), Some((Place::Added, false))),
            (Join, none, Some(&with_own), None),
            (Join, lost, Some(&others), Some((Place::Join, false))),
            (Join, joined, Some(&with_own), Some((Place::Keep, false))),
            (Join, joined, None, Some((Place::Keep, false))),
        ] {
            assert_eq!(place(birth, here, OWN, members).ok(), expected, "{birth:?} {here:?} {members:?}");
        }
    }
}
