//! When the operator last wanted a leaf made anew.
//!
//! Hosts renew their certificates by themselves, and `up` keeps what they have; but not what is from before such an order, also
//! when the run that was to bring it was cut off.

use std::collections::BTreeMap;

use anyhow::Context as _;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::state::StateDir;

const FILE: &str = "ordered.json";

/// What a host says that it issued so long after an order counts as before it: clocks differ. Hosts renew nothing that is so young.
const CLOCKS: Duration = Duration::days(1);

/// By the leaf's name in the state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders(BTreeMap<String, OffsetDateTime>);

impl Orders {
    pub fn load(state: &StateDir) -> anyhow::Result<Self> {
        let written: BTreeMap<String, String> = state.read(FILE)?.unwrap_or_default();
        let parsed = written.into_iter().map(|(name, at)| {
            let at = OffsetDateTime::parse(&at, &Rfc3339)
                .with_context(|| format!("{FILE} in {} is damaged", state.path().display()))?;
            Ok((name, at))
        });
        parsed.collect::<anyhow::Result<_>>().map(Self)
    }

    /// These leaves are wanted anew from now on.
    pub fn place(state: &StateDir, names: &[String]) -> anyhow::Result<()> {
        let Self(mut orders) = Self::load(state)?;
        let now = OffsetDateTime::now_utc();
        orders.extend(names.iter().map(|name| (name.clone(), now)));
        let written: BTreeMap<_, _> =
            orders.into_iter().map(|(name, at)| Ok((name, at.format(&Rfc3339)?))).collect::<anyhow::Result<_>>()?;
        state.write(FILE, &written)
    }

    /// Whether a leaf that was issued then is what the operator wanted anew.
    pub fn want_anew(&self, name: &str, issued: OffsetDateTime) -> bool {
        self.0.get(name).is_some_and(|ordered| issued < *ordered + CLOCKS)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_from_before_an_order_is_wanted_anew() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path(), "t");
        state.create().unwrap();
        assert_eq!(Orders::load(&state).unwrap(), Orders::default());
        Orders::place(&state, &["admin".to_owned()]).unwrap();
        Orders::place(&state, &["proxy".to_owned()]).unwrap();
        let (orders, now) = (Orders::load(&state).unwrap(), OffsetDateTime::now_utc());
        for name in ["admin", "proxy"] {
            assert!(orders.want_anew(name, now) && !orders.want_anew(name, now + Duration::days(2)), "{name}");
        }
        assert!(!orders.want_anew("cni-agent", now - Duration::days(300)), "nobody ordered it");
        state.write_bytes(FILE, b"{\"admin\": \"yesterday\"}").unwrap();
        assert!(format!("{:#}", Orders::load(&state).unwrap_err()).contains(FILE));
    }
}
