//! Changing a part of what hosts have, with what the hosts themselves have: no bundle, nothing else touched.

use hoststate::certificates::in_pem;
use time::OffsetDateTime;

use super::Run;
use super::fleet::{self, Fleet, Member};
use super::plan::plan_part;
use super::progress::Work;
use crate::desired::{Inputs, certificates_state};

/// What every host is to have of certificates and keys, each planned by its host. Who cannot be planned is told.
pub async fn plan_certificates<'a>(
    run: &Run<'_>,
    fleet: &Fleet<'_>,
    mut members: Vec<Member<'a>>,
    inputs: Inputs<'_>,
) -> (Vec<Work<'a>>, bool) {
    let planned = plan_part(fleet, &mut members, |host, facts| certificates_state(inputs, host, facts)).await;
    let mut good = true;
    let mut work = Vec::new();
    for (member, planned) in members.into_iter().zip(planned) {
        match planned {
            Ok(planned) => work.push(Work::new(member, planned)),
            Err(error) => {
                good = false;
                member.session.close().await;
                fleet::tell(run.printer, &error);
            }
        }
    }
    (work, good)
}

/// Whether certificates of kinstall's on this host have run out. Then nothing there serves whom one would have to wait for, and
/// several control planes only come back together.
pub fn has_run_out(member: &Member<'_>) -> bool {
    let now = OffsetDateTime::now_utc();
    let ours = member.facts.certificates.iter().filter(|file| file.path.starts_with("/etc/kinstall/pki/"));
    let mut infos = ours.flat_map(|file| in_pem(&file.pem)).filter_map(|pem| certs::inspect(&pem).ok());
    infos.any(|info| info.not_after < now && !info.is_ca)
}
