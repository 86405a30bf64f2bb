//! Lists and watches: revisions, pages, selectors, and that watchers see every change once and in order.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use common::Api;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WATCH_LIST: &str = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

fn config_map(name: &str, tier: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"tier": tier}}})
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn options_are_checked() {
    let api = Api::start().await;
    let cases = [
        (
            "resourceVersionMatch=Exact",
            422,
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersionMatch=Exact&resourceVersion=0",
            422,
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        ("resourceVersionMatch=Odd&resourceVersion=1", 422, "resourceVersionMatch: Unsupported value: \"Odd\""),
        ("sendInitialEvents=true", 422, "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        (
            "watch=1&sendInitialEvents=true",
            422,
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "watch=1&resourceVersionMatch=NotOlderThan",
            422,
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        ("resourceVersion=abc", 400, "invalid resource version: resourceVersion: Invalid value: \"abc\""),
        ("continue=%21", 400, "invalid continue token: continue key is not valid"),
        (
            "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MCwic3RhcnQiOiJhIn0",
            400,
            "incorrect encoded start resourceVersion",
        ),
    ];
    for (query, code, text) in cases {
        let (status, error) = api.call("GET", &format!("{CONFIG_MAPS}?{query}"), Value::Null).await;
        assert!(status == code && error["message"].as_str().unwrap().contains(text), "{query}: {status} {error}");
    }
    let (status, error) = api.call("DELETE", &format!("{CONFIG_MAPS}/a?propagationPolicy=Odd"), Value::Null).await;
    assert!(status == 422 && error["details"]["kind"] == "DeleteOptions", "{error}");
}

#[tokio::test]
async fn a_revision_of_the_future_is_waited_for() {
    let api = Api::start().await;
    let mut now = revision(&api.create(CONFIG_MAPS, config_map("a", "x")).await);
    let answers = |revision: u64| {
        let api = &api;
        async move {
            let begun = std::time::Instant::now();
            let queries = [
                format!("{CONFIG_MAPS}?resourceVersion={revision}"),
                format!("{CONFIG_MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact"),
                format!("{CONFIG_MAPS}/a?resourceVersion={revision}"),
                format!(
                    "{CONFIG_MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1&resourceVersion={revision}"
                ),
            ];
            let all = queries.iter().map(|query| api.call("GET", query, Value::Null));
            (futures::future::join_all(all).await, begun.elapsed())
        }
    };
    // The server waits 3 s, and renews its Lease every 10 s, which is a revision, too. Where this process stood still
    // meanwhile, other revisions are asked for.
    for round in 1.. {
        let wanted = now + 2;
        let writing = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            api.create(CONFIG_MAPS, config_map(&format!("b{round}"), "x")).await;
            revision(&api.create(CONFIG_MAPS, config_map(&format!("c{round}"), "x")).await)
        };
        let ((found, _), written) = futures::join!(answers(wanted), writing);
        now = written;
        let stood_still = written != wanted || found.iter().any(|(status, _)| *status == 504);
        if round < 5 && stood_still {
            continue;
        }
        assert!(found.iter().all(|(status, _)| *status == 200), "{found:?}");
        assert_eq!(found[1].1["items"].as_array().unwrap().len(), 1 + 2 * round, "{}", found[1].1);
        break;
    }

    let (refused, took) = answers(now + 1000).await;
    assert!(took >= Duration::from_millis(2900), "{took:?}");
    for (status, error) in refused {
        assert_eq!((status, &error["reason"]), (504, &json!("Timeout")), "{error}");
        let message = format!("Timeout: Too large resource version: {}, current: ", now + 1000);
        let current: Option<u64> = error["message"].as_str().and_then(|text| text.strip_prefix(&message)?.parse().ok());
        assert!(current.is_some_and(|current| (now..now + 1000).contains(&current)), "{error}");
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        assert_eq!((&error["details"]["causes"], &error["details"]["retryAfterSeconds"]), (&json!([cause]), &json!(1)));
    }
}

#[tokio::test]
async fn a_token_from_forgotten_times_comes_back_fresh() {
    let mut api = Api::start().await;
    for name in ["a", "b", "c", "d"] {
        api.create(CONFIG_MAPS, config_map(name, "x")).await;
    }
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    let token = first["metadata"]["continue"].as_str().unwrap();
    api.create(CONFIG_MAPS, config_map("e", "x")).await;
    // the embedded store keeps its history in memory
    api.restart().await;
    let (status, expired) = api.call("GET", &format!("{CONFIG_MAPS}?limit=2&continue={token}"), Value::Null).await;
    assert_eq!((status, &expired["reason"]), (410, &json!("Expired")));
    let fresh = expired["metadata"]["continue"].as_str().unwrap();
    let rest = api.get(&format!("{CONFIG_MAPS}?continue={fresh}")).await;
    let names: Vec<&str> =
        rest["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["c", "d", "e"]);
    assert!(revision(&rest) > revision(&first));
    let exact = format!("{CONFIG_MAPS}?resourceVersion={}&resourceVersionMatch=Exact", revision(&first));
    let (status, expired) = api.call("GET", &exact, Value::Null).await;
    assert_eq!(
        (status, expired["message"].as_str().unwrap()),
        (410, "The resourceVersion for the provided list is too old.")
    );
}

#[tokio::test]
async fn watches_begin_where_they_are_asked_to() {
    let api = Api::start().await;
    let one = api.create(CONFIG_MAPS, config_map("one", "x")).await;
    // the state, its end, then changes
    let mut listed = api.watch(&format!("{CONFIG_MAPS}?{WATCH_LIST}")).await;
    assert_eq!(listed.next().await, ("ADDED".into(), one.clone()));
    let (kind, mark) = listed.next().await;
    assert_eq!(
        (kind.as_str(), &mark["metadata"]["annotations"]),
        ("BOOKMARK", &json!({"k8s.io/initial-events-end": "true"}))
    );
    assert!(revision(&mark) >= revision(&one));
    // a revision to come is waited for
    let later = revision(&one) + 2;
    let mut ahead = api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={later}")).await;
    let mut now = api
        .watch(&format!(
            "{CONFIG_MAPS}?watch=1&resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"
        ))
        .await;
    api.create(CONFIG_MAPS, config_map("two", "x")).await;
    api.create(CONFIG_MAPS, config_map("three", "x")).await;
    api.create(CONFIG_MAPS, config_map("four", "x")).await;
    assert_eq!(ahead.next().await.1["metadata"]["name"], "four");
    assert_eq!(now.next().await.1["metadata"]["name"], "two");
    assert_eq!(listed.next().await.1["metadata"]["name"], "two");
    // one name, and an end in time
    let mut named =
        api.watch(&format!("{CONFIG_MAPS}?watch=1&fieldSelector=metadata.name%3Dtwo&timeoutSeconds=1")).await;
    assert_eq!(named.next().await.1["metadata"]["name"], "two");
    assert_eq!(named.line().await, None);
}

/// A change as the reference watcher saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    deleted: bool,
    name: String,
    tier: String,
    revision: u64,
}

type Seen = (String, String, u64);

fn label(object: &Value) -> String {
    object["metadata"]["labels"]["tier"].as_str().unwrap_or_default().to_owned()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// A small generator of its own: the same operations in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

async fn writer(api: Arc<Api>, seed: u64) {
    let mut dice = Dice(seed);
    for _ in 0..60 {
        let name = format!("o{}", dice.below(8));
        let tier = ["red", "blue"][usize::try_from(dice.below(2)).unwrap()];
        let url = format!("{CONFIG_MAPS}/{name}");
        // whoever loses a race does nothing
        match dice.below(4) {
            0 => api.call("DELETE", &url, Value::Null).await,
            1 => api.call("POST", CONFIG_MAPS, config_map(&name, tier)).await,
            _ => {
                api.call(
                    "PATCH",
                    &url,
                    json!({"metadata": {"labels": {"tier": tier}}, "data": {"n": dice.below(100).to_string()}}),
                )
                .await
            }
        };
    }
}

/// Where a watcher began, the objects it began with, and what it was told then.
struct Told {
    began: u64,
    state: BTreeSet<String>,
    events: Vec<Seen>,
}

/// Lists and watches, in one request or two, until the object `end` comes.
async fn watcher(api: Arc<Api>, selector: &str, in_one: bool) -> Told {
    let selector = format!("labelSelector={selector}");
    let mut state = BTreeSet::new();
    let (mut watch, began) = if in_one {
        let mut watch = api.watch(&format!("{CONFIG_MAPS}?{WATCH_LIST}&{selector}")).await;
        loop {
            let (kind, object) = watch.line().await.unwrap();
            if kind == "BOOKMARK" {
                break (watch, revision(&object));
            }
            assert_eq!(kind, "ADDED");
            assert!(state.insert(name(&object)));
        }
    } else {
        let list = api.get(&format!("{CONFIG_MAPS}?{selector}")).await;
        state.extend(list["items"].as_array().unwrap().iter().map(name));
        let began = revision(&list);
        (api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={began}&{selector}")).await, began)
    };
    let mut events = Vec::new();
    loop {
        let (kind, object) = watch.line().await.unwrap();
        if kind == "BOOKMARK" {
            continue;
        }
        if name(&object) == "end" {
            return Told { began, state, events };
        }
        events.push((kind, name(&object), revision(&object)));
    }
}

/// What a watcher of `tier` ("": all) that began at a revision must have been told.
fn expected(log: &[Change], tier: &str, began: u64) -> (BTreeSet<String>, Vec<Seen>) {
    let mut inside: BTreeMap<String, bool> = BTreeMap::new();
    let mut state = BTreeSet::new();
    let mut events = Vec::new();
    for change in log {
        let was = inside.get(&change.name).copied().unwrap_or(false);
        let is = !change.deleted && (tier.is_empty() || change.tier == tier);
        inside.insert(change.name.clone(), is);
        let kind = match (was, is) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => continue,
        };
        if change.revision > began {
            events.push((kind.to_owned(), change.name.clone(), change.revision));
        } else if is {
            state.insert(change.name.clone());
        } else {
            state.remove(&change.name);
        }
    }
    (state, events)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_lose_repeat_and_reorder_nothing() {
    let api = Arc::new(Api::start().await);
    let list = api.get(CONFIG_MAPS).await;
    let reference = tokio::spawn({
        let (api, from) = (api.clone(), revision(&list));
        async move {
            let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}")).await;
            let mut log: Vec<Change> = Vec::new();
            loop {
                let (kind, object) = watch.line().await.unwrap();
                if name(&object) == "end" {
                    return log;
                }
                let change = Change {
                    deleted: kind == "DELETED",
                    name: name(&object),
                    tier: label(&object),
                    revision: revision(&object),
                };
                assert!(log.last().is_none_or(|last| last.revision < change.revision), "{change:?}");
                log.push(change);
            }
        }
    });
    let writers: Vec<_> = (0..4).map(|seed| tokio::spawn(writer(api.clone(), seed))).collect();
    let mut watchers = Vec::new();
    for index in 0..24_usize {
        let tier = ["", "red", "blue"][index % 3];
        let selector =
            if tier.is_empty() { "" } else { ["", "tier+in+(red,always)", "tier+in+(blue,always)"][index % 3] };
        let in_one = index % 2 == 0;
        watchers.push((
            tier,
            tokio::spawn({
                let api = api.clone();
                async move { watcher(api, selector, in_one).await }
            }),
        ));
        // begins spread over the writes
        api.get(&format!("{CONFIG_MAPS}/o1")).await;
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    api.create(CONFIG_MAPS, config_map("end", "always")).await;
    let log = tokio::time::timeout(std::time::Duration::from_secs(20), reference).await.unwrap().unwrap();
    assert!(log.len() > 60, "{}", log.len());
    for (tier, task) in watchers {
        let told = tokio::time::timeout(std::time::Duration::from_secs(20), task).await.unwrap().unwrap();
        let (state, events) = expected(&log, tier, told.began);
        assert_eq!(told.state, state, "{tier} from {}", told.began);
        assert_eq!(told.events, events, "{tier} from {}", told.began);
    }
}
