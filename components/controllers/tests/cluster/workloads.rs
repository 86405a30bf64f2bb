//! Deployments, StatefulSets, DaemonSets and Jobs.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Endpoints, Event, PersistentVolumeClaim, Pod, Service};
use kube::api::DeleteParams;
use serde_json::json;

use crate::lag::{Lag, Of};
use crate::support::{CONTROLLERS, Cluster, client_of, deployment, eventually, template};

const REVISION: &str = "deployment.kubernetes.io/revision";

fn complete(it: &Deployment) -> bool {
    let status = it.status.clone().unwrap_or_default();
    let wanted = it.spec.replicas;
    status.observed_generation == it.metadata.generation
        && status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
}

async fn rolled_out(cluster: &Cluster, name: &str) -> Deployment {
    eventually("the rollout", || async { cluster.get::<Deployment>("default", name).await.filter(complete) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_out_updates_and_rolls_back() {
    let cluster = Cluster::start().await;
    let started = Instant::now();
    cluster.create::<Deployment>("default", deployment("web", "one", 3)).await;
    eventually("three pods", || async { Some(cluster.list::<Pod>("default").await).filter(|it| it.len() == 3) }).await;
    println!("three pods exist after {:?}", started.elapsed());
    let first = rolled_out(&cluster, "web").await;
    println!("rolled out after {:?}", started.elapsed());
    assert_eq!(first.metadata.annotations.as_ref().unwrap()[REVISION], "1");

    let image = |image: &str| json!({"spec": {"template": template("web", image)}});
    cluster.merge::<Deployment>("default", "web", image("two")).await;
    let second = rolled_out(&cluster, "web").await;
    assert_eq!(second.metadata.annotations.as_ref().unwrap()[REVISION], "2");
    let sets = cluster.list::<ReplicaSet>("default").await;
    assert_eq!(sets.len(), 2);
    let old = sets.iter().find(|it| it.metadata.annotations.as_ref().unwrap()[REVISION] == "1").unwrap();
    assert_eq!(old.spec.replicas, Some(0));

    cluster.merge::<Deployment>("default", "web", json!({"spec": {"template": template("web", "one")}})).await;
    let third = rolled_out(&cluster, "web").await;
    assert_eq!(third.metadata.annotations.as_ref().unwrap()[REVISION], "3");
    assert_eq!(cluster.list::<ReplicaSet>("default").await.len(), 2, "the old set is used again");
    let reason = third
        .status
        .unwrap()
        .conditions
        .unwrap()
        .into_iter()
        .find(|it| it.type_.as_deref() == Some("Progressing"))
        .unwrap()
        .reason;
    assert_eq!(reason.as_deref(), Some("NewReplicaSetAvailable"));
    eventually("an event", || async {
        cluster.list::<Event>("default").await.into_iter().find(|it| it.reason.as_deref() == Some("ScalingReplicaSet"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_scales_and_recreates() {
    let cluster = Cluster::start().await;
    let mut object = deployment("web", "one", 2);
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    cluster.create::<Deployment>("default", object).await;
    rolled_out(&cluster, "web").await;
    cluster.merge::<Deployment>("default", "web", json!({"spec": {"replicas": 4}})).await;
    assert_eq!(rolled_out(&cluster, "web").await.status.unwrap().ready_replicas, Some(4));
    cluster
        .merge::<Deployment>(
            "default",
            "web",
            json!({"spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}}),
        )
        .await;
    rolled_out(&cluster, "web").await;
    let pods =
        eventually("one pod", || async { Some(cluster.list::<Pod>("default").await).filter(|it| it.len() == 1) }).await;
    assert_eq!(pods[0].spec.as_ref().unwrap().containers[0].image.as_deref(), Some("two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_adopts_and_releases() {
    let cluster = Cluster::start().await;
    let mut lonely = template("web", "one");
    lonely["metadata"]["name"] = json!("lonely");
    cluster.create::<Pod>("default", lonely).await;
    // A set that is heard of before the pod would make one of its own. All controllers share one sight of the pods: an address of
    // a Service shows that the pod has come into it.
    cluster
        .create::<Service>(
            "default",
            json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
        )
        .await;
    eventually("the pod's address", || async {
        cluster.get::<Endpoints>("default", "web").await.filter(|it| it.subsets.iter().flatten().count() == 1)
    })
    .await;
    cluster.create::<ReplicaSet>("default", json!({"metadata": {"name": "rs"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "one")}})).await;
    eventually("adoption", || async {
        cluster
            .get::<Pod>("default", "lonely")
            .await
            .filter(|it| it.metadata.owner_references.as_ref().is_some_and(|it| it.len() == 1))
    })
    .await;
    assert_eq!(cluster.list::<Pod>("default").await.len(), 1);
    cluster.merge::<Pod>("default", "lonely", json!({"metadata": {"labels": {"app": "other"}}})).await;
    eventually("release", || async {
        cluster
            .get::<Pod>("default", "lonely")
            .await
            .filter(|it| it.metadata.owner_references.as_ref().is_none_or(Vec::is_empty))
    })
    .await;
    eventually("a replacement", || async { Some(cluster.list::<Pod>("default").await).filter(|it| it.len() == 2) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_makes_pods_in_order_with_claims() {
    let cluster = Cluster::start().await;
    let set = json!({"metadata": {"name": "db"}, "spec": {"serviceName": "db", "replicas": 3, "selector": {"matchLabels": {"app": "db"}}, "template": template("db", "one"),
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}});
    cluster.create::<StatefulSet>("default", set).await;
    let ready = |wanted: i32| {
        move |it: &StatefulSet| {
            it.status.as_ref().is_some_and(|status| status.ready_replicas == Some(wanted) && status.replicas == wanted)
        }
    };
    eventually("three ready pods", || async { cluster.get::<StatefulSet>("default", "db").await.filter(ready(3)) })
        .await;
    let mut pods = cluster.list::<Pod>("default").await;
    pods.sort_by_key(|it| it.metadata.resource_version.as_ref().unwrap().parse::<u64>().unwrap());
    let names: Vec<_> = pods.iter().map(|it| it.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, ["db-0", "db-1", "db-2"], "each became ready before the next was made");
    assert_eq!(cluster.list::<PersistentVolumeClaim>("default").await.len(), 3);

    cluster
        .merge::<StatefulSet>(
            "default",
            "db",
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}}),
        )
        .await;
    let updated = |it: &StatefulSet| {
        it.status.as_ref().is_some_and(|status| {
            status.current_revision == status.update_revision
                && status.observed_generation == Some(2)
                && status.updated_replicas == Some(3)
        })
    };
    eventually("the update", || async { cluster.get::<StatefulSet>("default", "db").await.filter(updated) }).await;
    assert!(
        cluster
            .list::<Pod>("default")
            .await
            .iter()
            .all(|it| it.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("two"))
    );
    cluster.merge::<StatefulSet>("default", "db", json!({"spec": {"replicas": 1}})).await;
    eventually("one pod", || async {
        Some(cluster.list::<Pod>("default").await)
            .filter(|it| it.len() == 1 && it[0].metadata.name.as_deref() == Some("db-0"))
    })
    .await;
    assert_eq!(cluster.list::<PersistentVolumeClaim>("default").await.len(), 3, "claims are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_go_with_whom_the_policy_says_and_with_nobody_else() {
    let cluster = Cluster::start().await;
    let set = |name: &str, replicas: u32, policy: serde_json::Value| {
        json!({"metadata": {"name": name}, "spec": {"serviceName": name, "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name, "one"),
            "persistentVolumeClaimRetentionPolicy": policy,
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}})
    };
    let owners = |name: &'static str| {
        let cluster = &cluster;
        async move {
            let claim = cluster.get::<PersistentVolumeClaim>("default", name).await?;
            assert!(claim.metadata.deletion_timestamp.is_none(), "{name} is being deleted");
            let owners = claim.metadata.owner_references.unwrap_or_default();
            Some(owners.into_iter().map(|it| it.kind).collect::<Vec<_>>())
        }
    };
    let owned_by = |name: &'static str, kinds: &'static [&'static str]| {
        let owners = &owners;
        async move {
            eventually(&format!("{name} of {kinds:?}"), || async { owners(name).await.filter(|it| it == kinds) }).await;
        }
    };
    let gone = |name: &'static str| {
        let cluster = &cluster;
        async move {
            eventually(&format!("the end of {name}"), || async {
                Some(cluster.get::<PersistentVolumeClaim>("default", name).await).filter(Option::is_none)
            })
            .await;
        }
    };
    // changed one's mind: nothing is lost with the set
    cluster.create::<StatefulSet>("default", set("mind", 1, json!({"whenDeleted": "Delete"}))).await;
    owned_by("data-mind-0", &["StatefulSet"]).await;
    let retain = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}}});
    cluster.merge::<StatefulSet>("default", "mind", retain).await;
    owned_by("data-mind-0", &[]).await;

    // its pods are set free, and their claims with them
    cluster.create::<StatefulSet>("default", set("free", 2, json!({"whenDeleted": "Delete"}))).await;
    owned_by("data-free-1", &["StatefulSet"]).await;
    cluster.api::<StatefulSet>("default").delete("free", &DeleteParams::orphan()).await.unwrap();
    eventually("the set's end", || async {
        Some(cluster.get::<StatefulSet>("default", "free").await).filter(Option::is_none)
    })
    .await;
    let revisions = cluster.list::<ControllerRevision>("default").await;
    let of_free = revisions.iter().filter(|it| it.metadata.name.as_deref().unwrap().starts_with("free-"));
    assert_eq!(of_free.count(), 1, "no history is begun for a set that is being deleted");
    for name in ["data-free-0", "data-free-1"] {
        assert_eq!(owners(name).await, Some(vec![]), "{name}");
    }

    // scaled down: what belongs to a pod that went, but not what somebody made in advance
    let both = json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
    cluster.create::<StatefulSet>("default", set("db", 2, both)).await;
    owned_by("data-db-1", &["StatefulSet"]).await;
    let ahead = json!({"metadata": {"name": "data-db-5"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    cluster.create::<PersistentVolumeClaim>("default", ahead).await;
    cluster.merge::<StatefulSet>("default", "db", json!({"spec": {"replicas": 1}})).await;
    gone("data-db-1").await;
    assert_eq!(owners("data-db-5").await, Some(vec![]));
    assert_eq!(owners("data-db-0").await, Some(vec!["StatefulSet".into()]));
    cluster.merge::<StatefulSet>("default", "db", json!({"spec": {"replicas": 2}})).await;
    owned_by("data-db-1", &["StatefulSet"]).await;
    cluster.api::<StatefulSet>("default").delete("db", &DeleteParams::background()).await.unwrap();
    gone("data-db-0").await;
    gone("data-db-1").await;
    assert_eq!(owners("data-db-5").await, Some(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_runs_on_the_node_and_updates() {
    let cluster = Cluster::start().await;
    cluster.create::<DaemonSet>("default", json!({"metadata": {"name": "ds"}, "spec": {"selector": {"matchLabels": {"app": "ds"}}, "template": template("ds", "one")}})).await;
    let done = |image: &'static str| {
        let cluster = &cluster;
        move || async move {
            let status = cluster.get::<DaemonSet>("default", "ds").await?.status?;
            let pods = cluster.list::<Pod>("default").await;
            let right = pods.len() == 1 && pods[0].spec.as_ref()?.containers[0].image.as_deref() == Some(image);
            Some(()).filter(|()| {
                right
                    && status.number_ready == 1
                    && status.desired_number_scheduled == 1
                    && status.updated_number_scheduled == Some(1)
            })
        }
    };
    eventually("the daemon", done("one")).await;
    cluster
        .merge::<DaemonSet>(
            "default",
            "ds",
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}}),
        )
        .await;
    eventually("the updated daemon", done("two")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_complete_fail_and_are_cleaned_up() {
    let cluster = Cluster::start().await;
    let job = |name: &str, command: &str, extra: serde_json::Value| {
        let mut spec = json!({"completions": 3, "parallelism": 2, "backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "command": [command]}]}}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"metadata": {"name": name}, "spec": spec})
    };
    cluster.create::<Job>("default", job("good", "succeed", json!({}))).await;
    cluster
        .create::<Job>(
            "default",
            job("indexed", "succeed", json!({"completionMode": "Indexed", "ttlSecondsAfterFinished": 1})),
        )
        .await;
    cluster.create::<Job>("default", job("bad", "fail", json!({}))).await;
    let has = |kind: &'static str| {
        move |it: &Job| {
            it.status
                .iter()
                .flat_map(|it| it.conditions.iter().flatten())
                .any(|it| it.type_ == kind && it.status == "True")
        }
    };
    let good =
        eventually("completion", || async { cluster.get::<Job>("default", "good").await.filter(has("Complete")) })
            .await;
    assert_eq!(
        eventually("the count", || async {
            cluster.get::<Job>("default", "good").await?.status?.succeeded.filter(|it| *it == 3)
        })
        .await,
        3,
        "{good:?}"
    );
    eventually("failure", || async { cluster.get::<Job>("default", "bad").await.filter(has("Failed")) }).await;
    eventually("the end of its life", || async {
        Some(cluster.get::<Job>("default", "indexed").await).filter(Option::is_none)
    })
    .await;
    let released = |pods: &Vec<Pod>| pods.iter().all(|it| it.metadata.finalizers.as_ref().is_none_or(Vec::is_empty));
    eventually("released pods", || async { Some(cluster.list::<Pod>("default").await).filter(released) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_a_job_stops_itself_are_no_failures() {
    let cluster = Cluster::start().await;
    let template =
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "command": ["hang"]}]}});
    let wide = json!({"metadata": {"name": "wide"}, "spec": {"completions": 9, "parallelism": 7, "backoffLimit": 3, "template": template}});
    cluster.create::<Job>("default", wide).await;
    let has = |wanted: i32| {
        let cluster = &cluster;
        move || async move {
            let status = cluster.get::<Job>("default", "wide").await?.status?;
            let there = cluster.list::<Pod>("default").await.len();
            let settled = status.active.unwrap_or(0) == wanted && status.terminating == Some(0);
            Some(status).filter(|_| settled && there == wanted as usize)
        }
    };
    eventually("seven pods", has(7)).await;
    for (change, wanted) in [
        (json!({"spec": {"suspend": true}}), 0),
        (json!({"spec": {"suspend": false}}), 7),
        (json!({"spec": {"parallelism": 2}}), 2),
    ] {
        cluster.merge::<Job>("default", "wide", change).await;
        let status = eventually(&format!("{wanted} pods"), has(wanted)).await;
        assert_eq!(status.failed, None, "{status:?}");
        let failing = |it: &str| it == "Failed" || it == "FailureTarget";
        assert!(!status.conditions.iter().flatten().any(|it| failing(&it.type_)), "{status:?}");
        let uncounted = status.uncounted_terminated_pods.and_then(|it| it.failed).unwrap_or_default();
        assert!(uncounted.is_empty(), "{uncounted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_an_earlier_job_of_the_same_name_is_let_go() {
    let lag = Lag::default();
    let cluster = Cluster::with_controllers(|server| {
        lag.client(client_of(server, CONTROLLERS, &[]), Of::Objects, "/api/v1/pods")
    })
    .await;
    lag.begin();
    let job = json!({"metadata": {"name": "again"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let pod_of = |job: Job| {
        let cluster = &cluster;
        move || {
            let uid = job.metadata.uid.clone();
            async move {
                let pods = cluster.list::<Pod>("default").await.into_iter();
                pods.into_iter()
                    .find(|pod| Some(&pod.metadata.owner_references.as_ref().unwrap()[0].uid) == uid.as_ref())
            }
        }
    };
    let earlier = pod_of(cluster.create::<Job>("default", job.clone()).await);
    eventually("its pod", &earlier).await;
    cluster.api::<Job>("default").delete("again", &DeleteParams::background()).await.unwrap();
    eventually("the pod's deletion", || async {
        earlier().await.filter(|it| it.metadata.deletion_timestamp.is_some())
    })
    .await;
    let later = pod_of(cluster.create::<Job>("default", job).await);
    eventually("the next pod", &later).await;
    lag.end();
    eventually("the end of the first", || async { Some(earlier().await).filter(Option::is_none) }).await;
    assert!(later().await.is_some_and(|it| it.metadata.finalizers.is_some()));
}

fn set_with_claims(name: &str) -> serde_json::Value {
    json!({"metadata": {"name": name}, "spec": {"serviceName": name, "replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template(name, "one"),
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}})
}

async fn until_owned(cluster: &Cluster, claim: &str) {
    eventually(&format!("the owner of {claim}"), || async {
        let claim = cluster.get::<PersistentVolumeClaim>("default", claim).await?;
        claim.metadata.owner_references.filter(|it| it[0].kind == "StatefulSet")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_heard_of_late_gets_its_owner() {
    let lag = Lag::default();
    let cluster = Cluster::with_controllers(|server| {
        lag.client(client_of(server, CONTROLLERS, &[]), Of::Objects, "/api/v1/persistentvolumeclaims")
    })
    .await;
    cluster.create::<StatefulSet>("default", set_with_claims("earlier")).await;
    until_owned(&cluster, "data-earlier-0").await;
    lag.begin();
    cluster.create::<StatefulSet>("default", set_with_claims("db")).await;
    eventually("the pod", || async {
        let status = cluster.get::<StatefulSet>("default", "db").await?.status?;
        (status.replicas == 1).then_some(())
    })
    .await;
    // nothing is left for the set to hear of but its claim
    tokio::time::sleep(Duration::from_millis(300)).await;
    lag.end();
    until_owned(&cluster, "data-db-0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_whose_end_is_heard_of_late_makes_no_claims() {
    let lag = Lag::default();
    let cluster = Cluster::with_controllers(|server| {
        lag.client(client_of(server, CONTROLLERS, &[]), Of::Objects, "/apis/apps/v1/statefulsets")
    })
    .await;
    cluster.create::<StatefulSet>("default", set_with_claims("db")).await;
    until_owned(&cluster, "data-db-0").await;
    lag.begin();
    cluster.api::<StatefulSet>("default").delete("db", &DeleteParams::background()).await.unwrap();
    eventually("the claim's end", || async {
        Some(cluster.get::<PersistentVolumeClaim>("default", "data-db-0").await).filter(Option::is_none)
    })
    .await;
    // so long it takes the set for alive: what it makes in this time is collected, or is not made at all
    tokio::time::sleep(Duration::from_secs(1)).await;
    lag.end();
    eventually("the end of all its pods", || async {
        Some(cluster.list::<Pod>("default").await).filter(Vec::is_empty)
    })
    .await;
    assert_eq!(cluster.list::<PersistentVolumeClaim>("default").await, []);
}
