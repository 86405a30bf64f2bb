//! Pods made for an owner under the guard of its expectations: what every controller of pods does alike.

use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::PostParams;

use super::context::Ctx;
use super::expectations::Expectations;
use super::informer::Object;
use super::slow_start::slow_start;
use super::{meta, pods};

/// Creates `count` pods, the n-th as `make` says, in batches that grow while all succeed. Each is expected until the cache
/// shows it; those that were refused or never tried are not. Events tell of each. Returns the first error.
pub async fn create_pods<O>(
    ctx: &Ctx,
    component: &'static str,
    owner: &Arc<O>,
    expectations: &Expectations,
    count: usize,
    make: impl Fn(usize) -> Pod,
) -> Option<kube::Error>
where
    O: Object + Resource<Scope = NamespaceResourceScope>,
{
    let uid = meta::uid(owner.meta());
    let api = &ctx.api::<Pod>(meta::namespace(owner.meta()));
    expectations.expect_creates(uid, count);
    let (skipped, error) = slow_start(count, |number| {
        let pod = make(number);
        async move {
            match api.create(&PostParams::default(), &pod).await {
                Ok(pod) => {
                    let text = format!("Created pod: {}", meta::name(&pod.metadata));
                    ctx.events.normal(component, owner.as_ref(), "SuccessfulCreate", text);
                    Ok(())
                }
                Err(error) => {
                    expectations.created(uid);
                    if meta::namespace_terminating(&error) {
                        return Ok(());
                    }
                    ctx.events.warning(component, owner.as_ref(), "FailedCreate", format!("Error creating: {error}"));
                    Err(error)
                }
            }
        }
    })
    .await;
    (0..skipped).for_each(|_| expectations.created(uid));
    error
}

/// Feeds pod changes into the expectations of controllers of kind `kind`.
pub fn observe(expectations: &Expectations, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>, kind: &str) {
    let Some(pod) = new.or(old) else { return };
    let Some(owner) = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == kind) else { return };
    if old.is_none() {
        expectations.created(&owner.uid);
    }
    if new.is_none_or(|pod| pods::is_terminating(pod)) {
        expectations.deleted(&owner.uid, meta::uid(&pod.metadata));
    }
}
