//! What `up` would change in the API: addons, the sample, and what the inventory says of nodes. Looks only.

use std::time::Duration;

use hoststate::Action;
use kube::Client;

use crate::api::apply::{Applier, ObjectChange, named};
use crate::api::{Servers, node, prune};
use crate::commands::fleet::Member;
use crate::commands::{Run, lost, up};
use crate::desired::{Inputs, admin_kubeconfig};

/// How long a server may take to answer; one that does not is about to be started, or cannot be reached from here.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Objects {
    pub changes: Vec<ObjectChange>,
    /// How many `up` brings.
    pub wanted: usize,
}

/// One of the API servers, if one answers soon.
async fn client(inputs: Inputs<'_>) -> anyhow::Result<Client> {
    Ok(Servers::open(&admin_kubeconfig(inputs)?).await?.ready(PATIENCE).await?.client)
}

/// What addons do not have any more.
///
/// # Errors
/// When no API server answers.
pub async fn removals(run: &Run<'_>, inputs: Inputs<'_>) -> anyhow::Result<Vec<ObjectChange>> {
    let addons = up::addons(&run.cluster, &inputs.bundle.version)?;
    prune::plan(&client(inputs).await?, &addons).await
}

/// # Errors
/// When the cluster was installed and none of its API servers answers, or an object could not be brought as it is.
pub async fn plan(run: &Run<'_>, inputs: Inputs<'_>, members: &[Member<'_>]) -> anyhow::Result<Objects> {
    let addons = up::addons(&run.cluster, &inputs.bundle.version)?;
    let mut documents = addons.clone();
    documents.extend(up::sample(&run.cluster, &run.state, inputs.bundle)?.unwrap_or_default());
    let wanted = documents.len();
    let is_served = |member: &Member<'_>| member.host.control_plane && member.facts.manifest.is_some();
    if !members.iter().any(is_served) && !lost::has_served(run)? {
        let create = |object| ObjectChange { object, action: Action::Create, fields: Vec::new() };
        return Ok(Objects { changes: documents.iter().map(named).map(create).collect(), wanted });
    }
    let client = client(inputs).await?;
    let mut changes = Applier::new(client.clone()).plan(&documents).await?;
    changes.extend(prune::plan(&client, &addons).await?);
    changes.extend(node::plan(&client, &run.cluster).await?);
    Ok(Objects { changes, wanted })
}
