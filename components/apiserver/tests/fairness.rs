//! Priority and fairness: a flood waits, is told so, and does not keep nodes from renewing their leases.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::{Duration, Instant};

use apiserver::{Handler, Identity};
use bytes::Bytes;
use common::Api;
use futures::{FutureExt, StreamExt};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::json;
use tokio::sync::watch;
use tower::Service;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const NOBODY: [&str; 0] = [];
/// How long the server lets a request wait for a seat.
const PATIENCE: Duration = Duration::from_secs(15);
const SEATED: &str = "apiserver_flowcontrol_current_executing_seats{priority_level=\"global-default\"}";
const WAITING: &str = "apiserver_flowcontrol_current_inqueue_requests{priority_level=\"global-default\"}";

async fn small(seats: u32) -> Api {
    let api = Api::start_with(|config, _| {
        config.fairness.max_requests_inflight = seats;
        config.fairness.max_mutating_requests_inflight = 0;
    })
    .await;
    let binding = json!({"metadata": {"name": "all"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}]});
    api.create("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", binding).await;
    api
}

/// A create whose body does not come before `released`: it holds a seat as long as we like.
async fn slow_create(mut handler: Handler, name: String, mut released: watch::Receiver<bool>) -> u16 {
    let body = json!({"metadata": {"name": name}}).to_string();
    let piece = async move {
        loop {
            let done = *released.borrow_and_update();
            if done {
                break;
            }
            released.changed().await.unwrap();
        }
        Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(body)))
    };
    let request = http::Request::post(MAPS)
        .header("content-type", "application/json")
        .body(StreamBody::new(piece.into_stream().boxed()))
        .unwrap();
    let answering = handler.call(request);
    answering.await.unwrap().status().as_u16()
}

async fn metric(api: &Api, name: &str) -> f64 {
    let text = api.get("/metrics").await;
    let line = text.as_str().unwrap().lines().find(|l| l.starts_with(name)).map(str::to_owned);
    line.and_then(|l| l.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

#[tokio::test]
async fn a_flood_waits_is_refused_and_leaves_nodes_alone() {
    let api = small(30).await;
    let node = Identity::new("system:node:n1", ["system:nodes"]);
    let lease = json!({"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}});
    assert_eq!(api.call_as(node.clone(), "POST", LEASES, lease).await.0, 201);
    // a flood that waited in vain because this process stood still is none any more: then there is another one
    for round in 0..5 {
        let begun = Instant::now();
        let (release, released) = watch::channel(false);
        let mut flood = tokio::task::JoinSet::new();
        for n in 0..500 {
            let handler = api.server().handler_as(Identity::new("flooder", NOBODY));
            flood.spawn(slow_create(handler, format!("f{round}-{n}"), released.clone()));
        }
        // those for whom there is no place are refused at once: what fits has a seat or waits
        let mut refused = 0_u32;
        loop {
            while let Some(status) = flood.try_join_next() {
                assert_eq!(status.unwrap(), 429);
                refused += 1;
            }
            // in the order of their ways, so that who goes on meanwhile is not counted twice
            let others = metric(&api, SEATED).await + metric(&api, WAITING).await;
            if f64::from(refused) + others >= 500.0 {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{refused} refused, {others} seated or waiting");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(refused > 100, "{refused}");

        let mut renewed = 0;
        while renewed < 20 {
            let patch = json!({"spec": {"leaseTransitions": renewed}});
            let (status, answer) = api.call_as(node.clone(), "PATCH", &format!("{LEASES}/n1"), patch).await;
            assert_eq!(status, 200, "{answer}");
            if metric(&api, WAITING).await <= 100.0 {
                break;
            }
            renewed += 1;
        }
        assert!(renewed == 20 || begun.elapsed() >= PATIENCE, "the flood did not wait beside {renewed} renewals");

        release.send(true).unwrap();
        let (mut made, mut in_vain) = (0, 0);
        while let Some(status) = flood.join_next().await {
            match status.unwrap() {
                201 => made += 1,
                429 => in_vain += 1,
                other => panic!("{other}"),
            }
        }
        assert_eq!(made + refused + in_vain, 500);
        assert!(in_vain == 0 || begun.elapsed() >= PATIENCE, "{in_vain} were sent away before their time");
        assert_eq!(metric(&api, SEATED).await, 0.0);
        if renewed > 0 {
            return;
        }
    }
    panic!("no flood lasted as long as a renewal");
}

#[tokio::test]
async fn who_is_refused_is_told_when_to_come_again() {
    let api = small(10).await;
    let (_release, released) = watch::channel(false);
    let mut flood = tokio::task::JoinSet::new();
    for n in 0..400 {
        let handler = api.server().handler_as(Identity::new("flooder", NOBODY));
        flood.spawn(slow_create(handler, format!("f{n}"), released.clone()));
    }
    assert_eq!(flood.join_next().await.unwrap().unwrap(), 429);
    let response = api.send(Identity::new("flooder", NOBODY), "GET", MAPS, "", "").await;
    assert_eq!(response.status(), 429);
    assert_eq!(
        (&response.headers()["retry-after"], &response.headers()["content-type"]),
        (&"1".parse().unwrap(), &"text/plain; charset=utf-8".parse().unwrap())
    );
    // administrators and probes do not wait
    assert_eq!(api.call("GET", MAPS, serde_json::Value::Null).await.0, 200);
    assert_eq!(api.call_as(Identity::new("flooder", NOBODY), "GET", "/readyz", serde_json::Value::Null).await.0, 200);
    flood.abort_all();
}
