//! ReplicationControllers, CronJobs and ResourceQuotas.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, ReplicationController, ResourceQuota};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::lag::{Lag, Of};
use crate::support::{CONTROLLERS, Cluster, client_of, eventually, template};
use crate::trap::Trap;

#[tokio::test(flavor = "multi_thread")]
async fn a_replication_controller_keeps_its_pods_and_tells_of_refusals() {
    let cluster = Cluster::start().await;
    cluster
        .create::<ReplicationController>(
            "default",
            json!({"metadata": {"name": "rc"}, "spec": {"replicas": 2, "template": template("old", "one")}}),
        )
        .await;
    let ready = |it: &ReplicationController| it.status.as_ref().is_some_and(|it| it.ready_replicas == Some(2));
    eventually("two ready pods", || async {
        cluster.get::<ReplicationController>("default", "rc").await.filter(ready)
    })
    .await;
    let pod = cluster.list::<Pod>("default").await.remove(0);
    assert_eq!(pod.metadata.owner_references.unwrap()[0].kind, "ReplicationController");

    // a quota that is full makes the next ones fail, and the condition says so until there is room
    cluster
        .create::<ResourceQuota>("default", json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}}))
        .await;
    let used = |wanted: &'static str| {
        let cluster = &cluster;
        move || async move {
            let status = cluster.get::<ResourceQuota>("default", "q").await?.status?;
            Some(()).filter(|()| status.used.is_some_and(|it| it.get("pods").is_some_and(|it| it.0 == wanted)))
        }
    };
    eventually("the first count", used("2")).await;
    cluster.merge::<ReplicationController>("default", "rc", json!({"spec": {"replicas": 3}})).await;
    let failing = |it: &ReplicationController| {
        it.status.iter().flat_map(|it| it.conditions.iter().flatten()).any(|it| it.type_ == "ReplicaFailure")
    };
    eventually("the refusal", || async { cluster.get::<ReplicationController>("default", "rc").await.filter(failing) })
        .await;
    cluster.merge::<ReplicationController>("default", "rc", json!({"spec": {"replicas": 1}})).await;
    eventually("what was freed", used("1")).await;
    eventually("an end of the refusal", || async {
        cluster.get::<ReplicationController>("default", "rc").await.filter(|it| !failing(it))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_starts_once_and_keeps_its_history() {
    let cluster = Cluster::start().await;
    let job = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "command": ["succeed"]}]}}}});
    let every_second = json!({"metadata": {"name": "cj"}, "spec": {"schedule": "@every 1s", "concurrencyPolicy": "Forbid", "successfulJobsHistoryLimit": 1, "jobTemplate": job}});
    cluster.create::<CronJob>("default", every_second).await;
    let done = |it: &CronJob| it.status.as_ref().is_some_and(|it| it.last_successful_time.is_some());
    eventually("a success", || async { cluster.get::<CronJob>("default", "cj").await.filter(done) }).await;
    let jobs = cluster.list::<Job>("default").await;
    assert!(jobs.len() <= 2, "one start, one job: {}", jobs.len());
    assert_eq!(jobs[0].metadata.owner_references.as_ref().unwrap()[0].name, "cj");
    cluster
        .merge::<CronJob>("default", "cj", json!({"spec": {"suspend": true, "successfulJobsHistoryLimit": 0}}))
        .await;
    eventually("no history", || async { Some(cluster.list::<Job>("default").await).filter(Vec::is_empty) }).await;
}

/// A CronJob with a start to be made up for, of a year ago or less.
async fn overdue(cluster: &Cluster, policy: &str) -> CronJob {
    let job = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "command": ["hang"]}]}}}});
    let yearly = json!({"metadata": {"name": "cj"}, "spec": {"schedule": "0 0 1 1 *", "suspend": true, "concurrencyPolicy": policy, "jobTemplate": job}});
    cluster.create::<CronJob>("default", yearly).await;
    let last = json!({"status": {"lastScheduleTime": "2025-06-01T00:00:00Z"}});
    let cron_jobs = cluster.api::<CronJob>("default");
    cron_jobs.patch_status("cj", &PatchParams::default(), &Patch::Merge(&last)).await.unwrap();
    cluster.merge::<CronJob>("default", "cj", json!({"spec": {"suspend": false}})).await
}

async fn active(cluster: &Cluster) -> Option<String> {
    let status = cluster.get::<CronJob>("default", "cj").await?.status?;
    Some(status.active?.first()?.uid.clone().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_replaces_what_it_started_before_and_nothing_else() {
    let trap = Trap::default();
    let cluster = Cluster::with_controllers(|server| trap.client(client_of(server, CONTROLLERS, &[]))).await;
    let write = trap.set("PUT", "/apis/batch/v1/namespaces/default/cronjobs/cj/status");
    let cron_job = overdue(&cluster, "Replace").await;
    let write = write.await;
    // with a pod the Job is known to every controller
    eventually("a pod", || async { cluster.list::<Pod>("default").await.pop() }).await;
    let made = cluster.list::<Job>("default").await.remove(0);
    write.answer(409);
    assert_eq!(Some(eventually("the second write", || active(&cluster)).await), made.metadata.uid);

    let owner = json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "cj", "uid": cron_job.metadata.uid, "controller": true});
    let by_hand =
        json!({"metadata": {"name": "by-hand", "ownerReferences": [owner]}, "spec": cron_job.spec.job_template.spec});
    cluster.create::<Job>("default", by_hand).await;
    eventually("its pod", || async { Some(cluster.list::<Pod>("default").await).filter(|it| it.len() == 2) }).await;
    cluster.merge::<CronJob>("default", "cj", json!({"spec": {"schedule": "@every 1s"}})).await;
    eventually("the replacement", || async {
        active(&cluster).await.filter(|it| Some(it) != made.metadata.uid.as_ref())
    })
    .await;
    let uids: Vec<_> = cluster.list::<Job>("default").await.into_iter().map(|it| it.metadata.uid).collect();
    assert!(!uids.contains(&made.metadata.uid));
    assert!(cluster.get::<Job>("default", "by-hand").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_that_forbids_it_starts_no_second_job_beside_one_it_has_not_heard_of() {
    let lag = Lag::default();
    let cluster = Cluster::with_controllers(|server| {
        lag.client(client_of(server, CONTROLLERS, &[]), Of::Objects, "/apis/batch/v1/jobs")
    })
    .await;
    lag.begin();
    overdue(&cluster, "Forbid").await;
    let made = eventually("a start", || active(&cluster)).await;
    cluster.merge::<CronJob>("default", "cj", json!({"spec": {"schedule": "@every 1s"}})).await;
    eventually("the refusal", || async {
        let events = cluster.list::<Event>("default").await;
        events.into_iter().find(|it| it.reason.as_deref() == Some("JobAlreadyActive"))
    })
    .await;
    assert_eq!(cluster.list::<Job>("default").await.len(), 1);
    assert_eq!(active(&cluster).await, Some(made));

    // one that is really gone is forgotten
    let job = cluster.list::<Job>("default").await.remove(0).metadata.name.unwrap();
    cluster.api::<Job>("default").delete(&job, &DeleteParams::background()).await.unwrap();
    eventually("the next start", || async {
        cluster.list::<Job>("default").await.into_iter().find(|it| it.metadata.name.as_ref() != Some(&job))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_counts_what_is_there_and_what_goes() {
    let cluster = Cluster::bare().await;
    let map = |name: &str| json!({"metadata": {"name": name}});
    cluster.create::<ConfigMap>("default", map("one")).await;
    let hard = json!({"count/configmaps": "3", "secrets": "1", "count/deployments.apps": "1", "limits.cpu": "2"});
    cluster.create::<ResourceQuota>("default", json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await;
    let used = |wanted: &'static str| {
        let cluster = &cluster;
        move || async move {
            let status = cluster.get::<ResourceQuota>("default", "q").await?.status?;
            let used = status.used?;
            Some(used.clone()).filter(|it| it.get("count/configmaps").is_some_and(|it| it.0 == wanted))
        }
    };
    // kube-root-ca.crt is there, too
    let counted = eventually("the first count", used("2")).await;
    assert_eq!((counted["secrets"].0.as_str(), counted["limits.cpu"].0.as_str()), ("0", "0"));
    cluster.create::<ConfigMap>("default", map("two")).await;
    let refused = cluster
        .api::<ConfigMap>("default")
        .create(&PostParams::default(), &serde_json::from_value(map("three")).unwrap())
        .await;
    assert!(refused.unwrap_err().to_string().contains("exceeded quota: q"));
    cluster.api::<ConfigMap>("default").delete("one", &DeleteParams::default()).await.unwrap();
    eventually("what was freed", used("2")).await;
    cluster.create::<ConfigMap>("default", map("three")).await;
}
