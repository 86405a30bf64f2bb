//! ResourceQuota: counts what the objects of a namespace use (upstream: pkg/controller/resourcequota).
//!
//! Admission charges what is written; this controller counts anew when a quota is new or changed, and when something was
//! freed. It counts by lists, not from caches, and writes under the revision it read before: what admission charges meanwhile
//! makes the write fail, and it counts again.

mod monitors;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ::quota::{Kind, Usage};
use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Api;
use kube::api::{ListParams, PostParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use self::monitors::Monitors;
use crate::core::{Ctx, Key, WorkQueue, meta, pods};
use crate::resources::{Resources, Served};

const NAME: &str = "resourcequota-controller";
/// Lists are read in pages of this size.
const PAGE: u32 = 500;
/// Everything is counted anew now and then, as upstream does.
const RESYNC: Duration = Duration::from_secs(300);

struct Controller {
    ctx: Ctx,
    queue: Arc<WorkQueue>,
    resources: Arc<Resources>,
    monitors: Arc<Monitors>,
}

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>, resources: Arc<Resources>) {
    let queue = WorkQueue::new();
    let monitors = Monitors::start(ctx, tasks, queue.clone());
    let to = queue.clone();
    ctx.informers.quotas.on_change(move |old, new| {
        let Some(new) = new else { return };
        let limits = |it: &Arc<ResourceQuota>| (it.spec.clone(), it.status.as_ref().and_then(|it| it.hard.clone()));
        if old.map(limits) != Some(limits(new)) {
            to.add(Key::of(new.as_ref()));
        }
    });
    watch_measured(ctx, &queue);
    let informers = ctx.informers.clone();
    let ready = async move { informers.quotas.wait_synced().await };
    let controller = Arc::new(Controller { ctx: ctx.clone(), queue: queue.clone(), resources, monitors });
    queue.work(tasks, NAME, 5, ready, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    });
}

/// Pods that end or shrink, and services and claims that change, free something.
fn watch_measured(ctx: &Ctx, queue: &Arc<WorkQueue>) {
    let (to, quotas) = (queue.clone(), ctx.informers.quotas.clone());
    let recount = Arc::new(move |ns: &str| {
        quotas.in_namespace(ns).iter().for_each(|it| to.add(Key::of(it.as_ref())));
    });
    let tell = recount.clone();
    ctx.informers.pods.on_change(move |old, new| {
        let live = |pod: &Arc<Pod>| (!pods::is_terminal(pod)).then(|| pod.spec.clone());
        if let Some(old) = old
            && Some(live(old)) != new.map(live)
        {
            tell(meta::namespace(&old.metadata));
        }
    });
    let tell = recount.clone();
    ctx.informers.services.on_change(move |old, new| {
        if let Some(old) = old
            && Some(&old.spec) != new.map(|it| &it.spec)
        {
            tell(meta::namespace(&old.metadata));
        }
    });
    ctx.informers.claims.on_change(move |old, new| {
        if let Some(old) = old
            && Some(&old.spec) != new.map(|it| &it.spec)
        {
            recount(meta::namespace(&old.metadata));
        }
    });
}

impl Controller {
    async fn sync(&self, key: &Key) -> anyhow::Result<()> {
        let api = self.ctx.api::<ResourceQuota>(&key.ns);
        // read first: a charge after this makes the write below fail
        let Some(quota) = api.get_opt(&key.name).await.with_context(|| format!("cannot read ResourceQuota {key}"))?
        else {
            return Ok(());
        };
        let hard = quota.spec.as_ref().and_then(|it| it.hard.clone()).unwrap_or_default();
        let used = self.count(&key.ns, &quota, hard.keys()).await?;
        let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
        self.queue.add_after(key.clone(), RESYNC);
        if quota.status.as_ref().is_some_and(|old| same(old, &status)) {
            return Ok(());
        }
        let changed = ResourceQuota { status: Some(status), ..quota };
        match api.replace_status(&key.name, &PostParams::default(), &changed).await {
            Err(error) if !meta::not_found(&error) => {
                Err(error).with_context(|| format!("cannot write the status of ResourceQuota {key}"))
            }
            _ => Ok(()),
        }
    }

    /// What each name uses now.
    async fn count(
        &self,
        ns: &str,
        quota: &ResourceQuota,
        names: impl Iterator<Item = &String>,
    ) -> anyhow::Result<BTreeMap<String, Quantity>> {
        let names: BTreeSet<&String> = names.collect();
        let kinds: BTreeSet<Kind> = names.iter().filter_map(|name| Kind::counted_by(name)).collect();
        let catalogue = self.resources.fresh().await?;
        let as_json = json!(quota);
        let mut total = Usage::new();
        for kind in kinds {
            let found = catalogue
                .served
                .iter()
                .find(|it| it.resource.group == kind.group && it.resource.plural == kind.plural && it.can("list"));
            let Some(served) = found else { continue };
            self.monitors.follow(&kind, served);
            ::quota::add(&mut total, &self.count_kind(ns, &kind, served, &as_json).await?);
        }
        let none = ::quota::count_only(&Kind::new("", ""), 0);
        let zero = none.values().next().map(ToString::to_string).unwrap_or_default();
        Ok(names
            .into_iter()
            .map(|name| (name.clone(), Quantity(total.get(name).map_or_else(|| zero.clone(), ToString::to_string))))
            .collect())
    }

    async fn count_kind(&self, ns: &str, kind: &Kind, served: &Served, quota: &Value) -> anyhow::Result<Usage> {
        let api: Api<DynamicObject> = served.api(&self.ctx.client, ns);
        let mut total = Usage::new();
        let mut counted = 0;
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let failed = || format!("cannot list the {} of namespace {ns}", served.id());
            let token = if kind.is_measured() {
                let list = api.list(&page).await.with_context(failed)?;
                for object in &list.items {
                    let object = json!(object);
                    if ::quota::matches_scopes(quota, kind, &object) {
                        ::quota::add(&mut total, &::quota::usage(kind, &object, OffsetDateTime::now_utc()));
                    }
                }
                list.metadata.continue_
            } else {
                let list = api.list_metadata(&page).await.with_context(failed)?;
                counted += list.items.len();
                list.metadata.continue_
            };
            match token.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
        if !kind.is_measured() && ::quota::matches_scopes(quota, kind, &Value::Null) {
            total = ::quota::count_only(kind, counted);
        }
        Ok(total)
    }
}

/// Amounts compare by value: `1` and `1000m` are the same.
fn same(old: &ResourceQuotaStatus, new: &ResourceQuotaStatus) -> bool {
    let amounts = |it: &Option<BTreeMap<String, Quantity>>| ::quota::amounts(Some(&json!(it)));
    old.hard.is_some()
        && old.used.is_some()
        && amounts(&old.hard) == amounts(&new.hard)
        && amounts(&old.used) == amounts(&new.used)
}
