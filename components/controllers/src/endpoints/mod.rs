//! EndpointSlices and Endpoints of Services with a selector (KEP-752 and the older API). `default/kubernetes` has no
//! selector: it is the API server's own and is never touched here.

mod build;
mod hints;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use tokio::task::JoinSet;

use self::build::Group;
use crate::core::context::SERVICE;
use crate::core::{Ctx, Key, WorkQueue, meta};

const NAME: &str = "endpoint-slice-controller";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const CORE_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CORE_MANAGER: &str = "endpoint-controller";

struct Controller {
    ctx: Ctx,
}

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    register(ctx, &queue);
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.services.wait_synced().await;
        informers.pods.wait_synced().await;
        informers.nodes.wait_synced().await;
        informers.slices.wait_synced().await;
        informers.endpoints.wait_synced().await;
    };
    let controller = Arc::new(Controller { ctx: ctx.clone() });
    queue.work(tasks, NAME, 8, ready, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    });
}

fn register(ctx: &Ctx, queue: &Arc<WorkQueue>) {
    let to = queue.clone();
    ctx.informers
        .services
        .on_change(move |old, new| new.or(old).into_iter().for_each(|it| to.add(Key::of(it.as_ref()))));
    let (to, services) = (queue.clone(), ctx.informers.services.clone());
    ctx.informers.pods.on_change(move |old, new| {
        let unchanged = matches!((old, new), (Some(old), Some(new)) if relevant(old) == relevant(new));
        let Some(pod) = new.or(old).filter(|_| !unchanged) else { return };
        for service in services.in_namespace(meta::namespace(&pod.metadata)) {
            if [old, new].into_iter().flatten().any(|pod| selected(&service, pod)) {
                to.add(Key::of(service.as_ref()));
            }
        }
    });
    // Labels come after a node's pods; that is rare enough to look at every Service again.
    let (to, services) = (queue.clone(), ctx.informers.services.clone());
    ctx.informers.nodes.on_change(move |old, new| {
        if old.and_then(|node| build::zone(node)) != new.and_then(|node| build::zone(node)) {
            services.list().into_iter().for_each(|service| to.add(Key::of(service.as_ref())));
        }
    });
    // What others do to our objects is undone.
    let to = queue.clone();
    ctx.informers.slices.on_change(move |old, new| {
        let Some(slice) = new.or(old).filter(|it| meta::label(&it.metadata, MANAGED_BY) == Some(MANAGER)) else {
            return;
        };
        if let Some(service) = meta::label(&slice.metadata, SERVICE_NAME) {
            to.add(Key::new(meta::namespace(&slice.metadata), service));
        }
    });
    let to = queue.clone();
    ctx.informers
        .endpoints
        .on_change(move |old, new| new.or(old).into_iter().for_each(|it| to.add(Key::of(it.as_ref()))));
}

/// The part of a pod that can change its endpoints.
fn relevant(pod: &Pod) -> impl PartialEq {
    let status = pod.status.as_ref();
    (
        pod.metadata.labels.clone(),
        pod.metadata.deletion_timestamp.is_some(),
        crate::core::pods::is_terminal(pod),
        crate::core::pods::is_ready(pod),
        status.and_then(|it| it.pod_ips.clone()),
        status.and_then(|it| it.pod_ip.clone()),
        crate::core::pods::node_name(pod).map(str::to_owned),
        pod.metadata.uid.clone(),
    )
}

fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"))?;
    spec.selector.as_ref().filter(|it| !it.is_empty())
}

fn selected(service: &Service, pod: &Pod) -> bool {
    selector(service).is_some_and(|it| it.iter().all(|(key, value)| meta::label(&pod.metadata, key) == Some(value)))
}

impl Controller {
    async fn sync(&self, key: &Key) -> anyhow::Result<()> {
        let service = self.ctx.informers.services.get_key(key).filter(|it| it.metadata.deletion_timestamp.is_none());
        let own = self
            .ctx
            .informers
            .slices
            .by(SERVICE, &key.to_string())
            .into_iter()
            .filter(|it| meta::label(&it.metadata, MANAGED_BY) == Some(MANAGER))
            .collect::<Vec<_>>();
        let Some(service) = service else {
            self.delete_slices(&key.ns, &own).await?;
            return self.delete_endpoints(key).await;
        };
        if selector(&service).is_none() {
            return self.delete_slices(&key.ns, &own).await;
        }
        let pods: Vec<_> =
            self.ctx.informers.pods.in_namespace(&key.ns).into_iter().filter(|pod| selected(&service, pod)).collect();
        let groups = build::groups(&service, &pods, |node| self.ctx.informers.nodes.get("", node));
        let subsets = build::subsets(&service, &groups);
        self.write_slices(&service, groups, own).await?;
        self.write_endpoints(&service, subsets).await
    }

    /// Reuses slices of the same family, nearest content first, creates what is missing and deletes the rest.
    async fn write_slices(
        &self,
        service: &Service,
        groups: Vec<Group>,
        mut own: Vec<Arc<EndpointSlice>>,
    ) -> anyhow::Result<()> {
        let ns = meta::namespace(&service.metadata);
        let api = self.ctx.api::<EndpointSlice>(ns);
        let mut pending = Vec::new();
        // A slice that already says it is left alone, whatever its position.
        for group in groups {
            let wanted = slice(service, group);
            match own.iter().position(|it| same(it, &wanted)) {
                Some(position) => drop(own.remove(position)),
                None => pending.push(wanted),
            }
        }
        for wanted in pending {
            let reusable = own.iter().position(|it| it.address_type == wanted.address_type);
            let written = match reusable.map(|position| own.remove(position)) {
                Some(existing) => {
                    let mut changed = existing.as_ref().clone();
                    changed.metadata.labels = wanted.metadata.labels;
                    changed.metadata.owner_references = wanted.metadata.owner_references;
                    (changed.endpoints, changed.ports) = (wanted.endpoints, wanted.ports);
                    let written = api.replace(meta::name(&existing.metadata), &PostParams::default(), &changed).await;
                    if written.as_ref().is_err_and(meta::not_found) {
                        self.ctx.informers.slices.remove(Key::of(existing.as_ref()));
                    }
                    written
                }
                None => api.create(&PostParams::default(), &wanted).await,
            };
            match written {
                // Seen at once, so that the next pass does not create a second one before the watch delivers it.
                Ok(slice) => self.ctx.informers.slices.note_new(slice),
                Err(error) if meta::namespace_terminating(&error) => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("cannot write an endpoint slice of Service {ns}/{}", meta::name(&service.metadata))
                    });
                }
            }
        }
        self.delete_slices(ns, &own).await
    }

    async fn delete_slices(&self, ns: &str, slices: &[Arc<EndpointSlice>]) -> anyhow::Result<()> {
        for slice in slices {
            let name = meta::name(&slice.metadata);
            meta::ignore_gone(
                self.ctx.api::<EndpointSlice>(ns).delete(name, &meta::delete_exactly(&slice.metadata)).await,
            )
            .with_context(|| format!("cannot delete endpoint slice {name}"))?;
        }
        Ok(())
    }

    async fn write_endpoints(
        &self,
        service: &Service,
        subsets: Vec<k8s_openapi::api::core::v1::EndpointSubset>,
    ) -> anyhow::Result<()> {
        let (ns, name) = (meta::namespace(&service.metadata), meta::name(&service.metadata));
        let subsets = Some(subsets).filter(|it| !it.is_empty());
        let mut labels = service.metadata.labels.clone().unwrap_or_default();
        labels.remove(HEADLESS);
        if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
            labels.insert(HEADLESS.into(), String::new());
        }
        labels.insert(CORE_MANAGED_BY.into(), CORE_MANAGER.into());
        let existing = self.ctx.informers.endpoints.get(ns, name);
        if existing.as_ref().is_some_and(|it| it.subsets == subsets && it.metadata.labels.as_ref() == Some(&labels)) {
            return Ok(());
        }
        let mut wanted = existing.as_deref().cloned().unwrap_or_else(|| Endpoints {
            metadata: ObjectMeta { name: Some(name.into()), namespace: Some(ns.into()), ..Default::default() },
            subsets: None,
        });
        (wanted.subsets, wanted.metadata.labels) = (subsets, Some(labels));
        let api = self.ctx.api::<Endpoints>(ns);
        let written = if existing.is_some() {
            api.replace(name, &PostParams::default(), &wanted).await
        } else {
            api.create(&PostParams::default(), &wanted).await
        };
        match written {
            Ok(_) => Ok(()),
            Err(error) if meta::namespace_terminating(&error) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot write Endpoints {ns}/{name}")),
        }
    }

    /// Only those this controller made: others may keep Endpoints without a Service.
    async fn delete_endpoints(&self, key: &Key) -> anyhow::Result<()> {
        let Some(existing) = self.ctx.informers.endpoints.get_key(key) else { return Ok(()) };
        if meta::label(&existing.metadata, CORE_MANAGED_BY) != Some(CORE_MANAGER) {
            return Ok(());
        }
        let result =
            self.ctx.api::<Endpoints>(&key.ns).delete(&key.name, &meta::delete_exactly(&existing.metadata)).await;
        meta::ignore_gone(result).map(drop).with_context(|| format!("cannot delete Endpoints {key}"))
    }
}

fn slice(service: &Service, group: Group) -> EndpointSlice {
    let name = meta::name(&service.metadata);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.into(), name.to_owned());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            namespace: service.metadata.namespace.clone(),
            generate_name: Some(format!("{name}-")),
            labels: Some(labels),
            owner_references: Some(vec![meta::controller_ref(service)]),
            ..Default::default()
        },
        address_type: group.family.to_owned(),
        endpoints: Some(group.endpoints),
        ports: Some(group.ports),
    }
}

fn same(existing: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let filled = |it: &EndpointSlice| (it.endpoints.clone().unwrap_or_default(), it.ports.clone().unwrap_or_default());
    existing.address_type == wanted.address_type
        && existing.metadata.owner_references == wanted.metadata.owner_references
        && filled(existing) == filled(wanted)
        && existing.metadata.labels == wanted.metadata.labels
}
