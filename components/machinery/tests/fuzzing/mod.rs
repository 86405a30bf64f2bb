//! What fuzz tests share: inputs that are made anew from a seed, and the three things no input may cause: a panic, a hang,
//! memory without bound.
//!
//! Each run takes the same cases. `KINSTALL_FUZZ_SECONDS=n` takes other ones for that long and prints its seed.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

/// No single case may take longer, in a debug build on a busy machine.
const TOO_LONG: Duration = Duration::from_secs(20);
/// The most memory the whole test process may ever hold.
const MEMORY: u64 = 1024 * 1024 * 1024;

/// Runs `case` with `count` seeds (or for the time that is asked for).
pub fn fuzz(count: u64, mut case: impl FnMut(&mut StdRng)) {
    let seconds: Option<u64> = std::env::var("KINSTALL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let first = seconds.map_or(0, |_| rand::rng().random_range(1 << 20..1 << 40));
    if seconds.is_some() {
        println!("seeds from {first}");
    }
    let begun = Instant::now();
    let watched = Watchdog::start();
    let mut seed = first;
    loop {
        let enough = match seconds {
            Some(seconds) => begun.elapsed() >= Duration::from_secs(seconds),
            None => seed >= first + count,
        };
        if enough {
            break;
        }
        watched.begin(seed);
        if catch_unwind(AssertUnwindSafe(|| case(&mut StdRng::seed_from_u64(seed)))).is_err() {
            panic!("seed {seed} made it panic");
        }
        seed += 1;
    }
    let peak = peak_memory();
    assert!(peak < MEMORY, "the process held {} MiB", peak >> 20);
}

/// Ends the process, naming the seed, when one case does not end.
struct Watchdog(Arc<Mutex<Option<(u64, Instant)>>>);

impl Watchdog {
    fn start() -> Self {
        let state: Arc<Mutex<Option<(u64, Instant)>>> = Arc::default();
        let seen = Arc::downgrade(&state);
        std::thread::spawn(move || {
            while let Some(state) = seen.upgrade() {
                if let Some((seed, since)) = *state.lock().unwrap()
                    && since.elapsed() > TOO_LONG
                {
                    eprintln!("seed {seed} did not end within {} s", TOO_LONG.as_secs());
                    std::process::abort();
                }
                drop(state);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Watchdog(state)
    }

    fn begin(&self, seed: u64) {
        *self.0.lock().unwrap() = Some((seed, Instant::now()));
    }
}

/// Bytes, by the kernel's account.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

/// Any bytes at all.
pub fn bytes(rng: &mut StdRng, most: usize) -> Vec<u8> {
    let length = rng.random_range(0..=most);
    (0..length).map(|_| rng.random()).collect()
}

/// Pieces that parsers look for.
const PIECES: &[&str] = &[
    "",
    " ",
    "\0",
    "\n",
    "%",
    "%00",
    "%2F",
    "%ff",
    "/",
    "//",
    "?",
    "&",
    "=",
    "==",
    "!=",
    "!",
    ",",
    "(",
    ")",
    "in",
    "notin",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    ":",
    "- ",
    "&a",
    "*a",
    "<<: ",
    "|",
    ">",
    "!!binary",
    "null",
    "true",
    "~",
    "-",
    "-1",
    "0",
    "1e999",
    "9223372036854775808",
    "0x10",
    "1e-400",
    "metadata",
    "name",
    "spec",
    "status",
    "$patch",
    "ä",
    "€",
    "\u{202e}",
    "𝄞",
    "..",
    ".",
    "*",
    "watch",
    "proxy",
    "namespaces",
    "apis",
    "api",
    "v1",
    "?watch=true",
    "m",
    "Ki",
    "E",
    "eyJ",
    ".",
    "k8s\0",
];

/// A text from the corpus, changed a few times; sometimes it is no UTF-8 any more.
pub fn mutated(rng: &mut StdRng, corpus: &[&str]) -> Vec<u8> {
    let mut text = corpus.choose(rng).map(|text| text.as_bytes().to_vec()).unwrap_or_default();
    for _ in 0..rng.random_range(0..8) {
        let at = rng.random_range(0..=text.len());
        match rng.random_range(0..6) {
            0 => text.insert(at, rng.random()),
            1 if at < text.len() => drop(text.remove(at)),
            2 if at < text.len() => text[at] ^= 1 << rng.random_range(0..8),
            3 => {
                let piece = PIECES.choose(rng).unwrap().as_bytes();
                text.splice(at..at, piece.iter().copied());
            }
            4 => {
                // a part of it again, so that nesting and repetition arise
                let from = rng.random_range(0..=at);
                let part = text[from..at].to_vec();
                for _ in 0..rng.random_range(1..40) {
                    if text.len() > 64 * 1024 {
                        break;
                    }
                    text.splice(at..at, part.iter().copied());
                }
            }
            _ => {
                let other = corpus.choose(rng).unwrap().as_bytes();
                let from = rng.random_range(0..=other.len());
                text.truncate(at);
                text.extend_from_slice(&other[from..]);
            }
        }
    }
    text
}

pub fn mutated_text(rng: &mut StdRng, corpus: &[&str]) -> String {
    String::from_utf8_lossy(&mutated(rng, corpus)).into_owned()
}

/// Keys that mean something somewhere.
const KEYS: &[&str] = &[
    "metadata",
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "uid",
    "managedFields",
    "spec",
    "status",
    "containers",
    "image",
    "ports",
    "containerPort",
    "protocol",
    "env",
    "value",
    "conditions",
    "type",
    "$patch",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "$retainKeys",
    "replicas",
    "selector",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "template",
    "data",
    "apiVersion",
    "kind",
    "op",
    "path",
    "from",
    "",
    "properties",
    "items",
    "additionalProperties",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-int-or-string",
    "x-kubernetes-embedded-resource",
    "required",
    "default",
    "nullable",
    "enum",
    "format",
    "pattern",
    "maximum",
    "minLength",
    "anyOf",
    "not",
    "f:metadata",
    "k:{\"name\":\"a\"}",
    ".",
    "v:1",
    "a",
    "b",
];

const TEXTS: &[&str] = &[
    "",
    "a",
    "Pod",
    "v1",
    "apps/v1",
    "In",
    "NotIn",
    "Exists",
    "delete",
    "replace",
    "merge",
    "add",
    "remove",
    "test",
    "copy",
    "move",
    "/metadata/name",
    "/spec/containers/0",
    "/spec/containers/-",
    "/",
    "~1",
    "object",
    "string",
    "array",
    "integer",
    "map",
    "set",
    "atomic",
    "(a+)+$",
    "date-time",
    "1Gi",
    "100m",
    "-1",
    "TCP",
    "2020-01-01T00:00:00Z",
    "kubernetes",
    "foregroundDeletion",
];

/// A JSON value with meaningful keys; `depth` bounds its nesting.
pub fn value(rng: &mut StdRng, depth: u32) -> Value {
    let kinds = if depth == 0 { 5 } else { 8 };
    match rng.random_range(0..kinds) {
        0 => Value::Null,
        1 => json!(rng.random::<bool>()),
        2 => json!(*[0, 1, -1, 80, i64::MAX, i64::MIN].choose(rng).unwrap()),
        // eighths: the JSON parser is exact for these, for others only to the last bit but one
        3 => json!(f64::from(rng.random::<i32>()) / 8.0),
        4 => json!(TEXTS.choose(rng).unwrap()),
        5 => (0..rng.random_range(0..5)).map(|_| value(rng, depth - 1)).collect(),
        _ => object(rng, depth - 1),
    }
}

pub fn object(rng: &mut StdRng, depth: u32) -> Value {
    let mut map = Map::new();
    for _ in 0..rng.random_range(0..6) {
        map.insert((*KEYS.choose(rng).unwrap()).to_owned(), value(rng, depth));
    }
    Value::Object(map)
}

/// Some places of a value changed to others.
pub fn disturb(rng: &mut StdRng, whole: &mut Value, depth: u32) {
    if depth == 0 || rng.random_range(0..12) == 0 {
        *whole = value(rng, 3);
        return;
    }
    match whole {
        Value::Object(map) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            if let Some(key) = keys.choose(rng) {
                match rng.random_range(0..5) {
                    0 => drop(map.remove(key)),
                    1 => drop(map.insert((*KEYS.choose(rng).unwrap()).to_owned(), value(rng, 2))),
                    _ => disturb(rng, map.get_mut(key).unwrap(), depth - 1),
                }
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = rng.random_range(0..list.len());
            if rng.random_range(0..4) == 0 {
                let again = list[at].clone();
                list.push(again);
            } else {
                disturb(rng, &mut list[at], depth - 1);
            }
        }
        other => *other = value(rng, 1),
    }
}

/// Objects of some kinds as clients send them.
pub fn samples() -> Vec<Value> {
    let container = json!({"name": "c", "image": "i:1", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}],
        "env": [{"name": "A", "value": "1"}], "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}}});
    let spec = json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"operator": "Exists"}]});
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": spec});
    let selector = json!({"matchLabels": {"app": "x"}});
    vec![
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"app": "x"}, "finalizers": ["a.b/c"]}, "spec": spec}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
            "spec": {"replicas": 1, "selector": selector, "template": template}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
            "spec": {"ports": [{"port": 80, "targetPort": "http"}], "selector": {"app": "x"}}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}),
    ]
}
