//! Changing a part of what hosts have, with what the hosts themselves have: no bundle, nothing else touched.

use futures::future::join_all;
use hoststate::Action;
use hoststate::certificates::in_pem;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::Run;
use super::fleet::{self, Fleet, Member};
use super::progress::{Progress, Work};
use crate::desired::{Inputs, Topology, certificates_state};
use crate::host::{Done, HostError};

/// What every host is to have of certificates and keys, each planned by its host. Who cannot be planned is told.
pub async fn plan_certificates<'a>(
    run: &Run<'_>,
    fleet: &Fleet,
    members: Vec<Member<'a>>,
    inputs: Inputs<'_>,
) -> (Vec<Work<'a>>, bool) {
    let planning = members.into_iter().map(|mut member| async move {
        let planned = async {
            let state = certificates_state(inputs, member.host, &member.facts)
                .map_err(|error| HostError::new(&member.host.name, "state", format!("{error:#}")))?;
            let changes = fleet.bounded(member.host, member.session.plan(&state)).await?;
            Ok((state, changes.into_iter().filter(|change| change.action != Action::None).collect()))
        };
        let planned: Result<_, HostError> = planned.await;
        match planned {
            Ok(planned) => Ok(Work::new(member, planned)),
            Err(error) => {
                member.session.close().await;
                Err(error)
            }
        }
    });
    let mut good = true;
    let mut work = Vec::new();
    for planned in join_all(planning).await {
        match planned {
            Ok(planned) => work.push(planned),
            Err(error) => {
                good = false;
                fleet::tell(run.printer, &error);
            }
        }
    }
    (work, good)
}

/// All hosts at once; but control planes that serve are restarted one after the other. Gives how much changed, and whether all
/// went well.
pub async fn amend_all(run: &Run<'_>, fleet: &Fleet, work: Vec<Work<'_>>) -> (usize, bool) {
    let width = work.iter().map(|work| work.member.host.name.len()).max().unwrap_or(0);
    let progress = Progress::new(&run.cluster, &Topology::default(), &work);
    let (progress, turns) = (&progress, &Semaphore::new(1));
    let amending = work.into_iter().map(|Work { mut member, state, restarts }| async move {
        let host = member.host;
        let line = run.printer.host(&host.name, width);
        let _turn = match restarts {
            true => {
                line.doing("waiting for its turn");
                turns.acquire().await.ok()
            }
            false => None,
        };
        line.doing("starting");
        let work = fleet.bounded(host, member.session.amend(&state, |event| line.seen(event)));
        let result = tokio::select! {
            result = work => result,
            () = progress.hopeless() => {
                Err(HostError::new(&host.name, "wait for the API server", "the control plane did not come up"))
            }
        };
        member.session.close().await;
        progress.ended(host, restarts, result.is_ok());
        match &result {
            Ok(Done { changed: 0, .. }) => line.done("nothing changed"),
            Ok(Done { changed, .. }) => line.done(&format!("{changed} changed")),
            Err(error) => {
                line.failed(&error.message);
                fleet::tell(run.printer, error);
            }
        }
        result.map(|done| done.changed)
    });
    let results = join_all(amending).await;
    (results.iter().flatten().sum(), results.iter().all(Result::is_ok))
}

/// Whether certificates of kinstall's on this host have run out. Then nothing there serves whom one would have to wait for, and
/// several control planes only come back together.
pub fn has_run_out(member: &Member<'_>) -> bool {
    let now = OffsetDateTime::now_utc();
    let ours = member.facts.certificates.iter().filter(|file| file.path.starts_with("/etc/kinstall/pki/"));
    let mut infos = ours.flat_map(|file| in_pem(&file.pem)).filter_map(|pem| certs::inspect(&pem).ok());
    infos.any(|info| info.not_after < now && !info.is_ca)
}
