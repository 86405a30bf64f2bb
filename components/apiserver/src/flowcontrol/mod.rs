//! Priority and fairness (KEP-1040): a request is sorted by a FlowSchema into a priority level and waits there for a seat, fairly.
//!
//! In: [`FlowControl::enter`] before a request is authorized and handled. Out: a [`Seat`] that is held as long as the handler works
//! (for a watch: until its first events are ready), or the refusal 429.

mod dispatch;
mod inflight;
mod metrics;
mod objects;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use machinery::request_info::RequestInfo;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use crate::{config::Fairness, handlers::Named, identity::Identity, metrics::text::Text};
use dispatch::{Asked, State};
use inflight::Inflight;
use metrics::Counters;
use objects::{Distinguisher, Schema, Sources};

pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// A quarter of the longest a request may take, as upstream.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of a list that count as one seat.
const SEAT_BYTES: usize = 256 * 1024;
const WIDEST: u32 = 10;
const SCHEMA_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// A FlowSchema with the level it leads to.
pub struct Flow {
    schema: Schema,
    level: usize,
    level_name: String,
    level_uid: Option<HeaderValue>,
    exempt: bool,
    counters: Counters,
}

pub struct FlowControl {
    enabled: bool,
    /// Bounds requests when this is not enabled.
    inflight: Inflight,
    seats: u32,
    sources: Mutex<Sources>,
    flows: RwLock<Arc<[Arc<Flow>]>>,
    state: Mutex<State>,
    /// Bytes of the last answer to a list of a kind: what the next one will probably take.
    sizes: RwLock<HashMap<ListKey, usize>>,
}

/// Group, plural, and whether it was of all namespaces.
type ListKey = (&'static str, &'static str, bool);

/// A place at the server's table; given back when dropped.
pub struct Seat {
    control: Arc<FlowControl>,
    flow: Arc<Flow>,
    width: u32,
    /// `None`: it never waited.
    queue: Option<(usize, u64)>,
    seated: Option<Instant>,
}

/// The request must come again later.
pub struct Refused {
    /// `None` without priority and fairness.
    pub flow: Option<Arc<Flow>>,
}

/// What a request holds while it is served.
pub enum Place {
    Seat(Seat),
    /// Given back when dropped.
    Counted {
        place: OwnedSemaphorePermit,
    },
    /// It needs none.
    None,
}

impl Place {
    pub fn flow(&self) -> Option<&Arc<Flow>> {
        match self {
            Place::Seat(seat) => Some(&seat.flow),
            _ => None,
        }
    }
}

impl Flow {
    /// Who sorted the request, told in the answer.
    pub fn mark(&self, headers: &mut HeaderMap) {
        for (name, uid) in [(SCHEMA_HEADER, &self.schema.uid), (LEVEL_HEADER, &self.level_uid)] {
            if let Some(uid) = uid {
                headers.insert(name, uid.clone());
            }
        }
    }

    fn hash(&self, who: &Identity, info: &RequestInfo) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.schema.name.hash(&mut hasher);
        match self.schema.distinguisher {
            Distinguisher::User => who.user.hash(&mut hasher),
            Distinguisher::Namespace => info.namespace.hash(&mut hasher),
            Distinguisher::None => {}
        }
        hasher.finish()
    }
}

impl FlowControl {
    pub fn new(config: &Fairness) -> Arc<Self> {
        let seats = config.max_requests_inflight + config.max_mutating_requests_inflight;
        let control = FlowControl {
            enabled: config.enabled && seats > 0,
            inflight: Inflight::new(config),
            seats,
            sources: Mutex::default(),
            flows: RwLock::new(Arc::new([])),
            state: Mutex::new(State::new(seats)),
            sizes: RwLock::default(),
        };
        control.configure(&Sources::default());
        Arc::new(control)
    }

    /// An object of this group was written, or (`None`) deleted.
    pub fn set(&self, plural: &str, name: &str, object: Option<&Value>) {
        let mut sources = self.sources.lock();
        let objects = match plural {
            "flowschemas" => &mut sources.schemas,
            "prioritylevelconfigurations" => &mut sources.levels,
            _ => return,
        };
        // a status tells about us, not to us
        let same = object.is_some_and(|new| objects.get(name).is_some_and(|old| old["spec"] == new["spec"]));
        match object {
            Some(object) => objects.insert(name.to_owned(), object.clone()),
            None => objects.remove(name),
        };
        if !same {
            self.configure(&sources);
        }
    }

    /// Forgets all objects: they are read anew.
    pub fn clear(&self) {
        *self.sources.lock() = Sources::default();
    }

    fn configure(&self, sources: &Sources) {
        let effective = sources.effective();
        let levels = objects::levels(&effective.levels, self.seats);
        let mut state = self.state.lock();
        state.configure(levels.clone());
        let before = self.flows.read().clone();
        let flows: Vec<Arc<Flow>> = objects::schemas(&effective.schemas)
            .into_iter()
            .filter_map(|schema| {
                let level = levels.iter().find(|l| l.name == schema.level)?;
                let counters = before
                    .iter()
                    .find(|f| f.schema.name == schema.name && f.level_name == level.name)
                    .map(|f| f.counters.clone())
                    .unwrap_or_default();
                Some(Arc::new(Flow {
                    level: state.index(&level.name)?,
                    level_name: level.name.clone(),
                    level_uid: HeaderValue::from_str(&level.uid).ok().filter(|u| !u.is_empty()),
                    exempt: level.exempt,
                    counters,
                    schema,
                }))
            })
            .collect();
        *self.flows.write() = flows.into();
    }

    /// How many seats a request probably needs.
    fn width(&self, info: &RequestInfo, named: Named) -> u32 {
        if info.verb != "list" || named.resource.is_empty() {
            return 1;
        }
        let size =
            self.sizes.read().get(&(named.group, named.resource, info.namespace.is_empty())).copied().unwrap_or(0);
        u32::try_from(1 + size / SEAT_BYTES).unwrap_or(WIDEST).min(WIDEST)
    }

    /// Remembers what a list took.
    pub fn listed(&self, info: &RequestInfo, named: Named, bytes: usize) {
        if !self.enabled || info.verb != "list" || named.resource.is_empty() {
            return;
        }
        let key = (named.group, named.resource, info.namespace.is_empty());
        // only what changes much is worth a lock that others wait for
        if self.sizes.read().get(&key).is_none_or(|known| known.abs_diff(bytes) > SEAT_BYTES / 2) {
            self.sizes.write().insert(key, bytes);
        }
    }

    /// Waits for a place.
    pub async fn enter(self: &Arc<Self>, who: &Identity, info: &RequestInfo, named: Named) -> Result<Place, Refused> {
        if self.enabled {
            return Ok(self.seat(who, info, named).await?.map_or(Place::None, Place::Seat));
        }
        if info.verb == "watch" {
            return Ok(Place::None);
        }
        let place = self.inflight.enter(who, info).map_err(|_| Refused { flow: None })?;
        Ok(place.map_or(Place::None, |place| Place::Counted { place }))
    }

    async fn seat(self: &Arc<Self>, who: &Identity, info: &RequestInfo, named: Named) -> Result<Option<Seat>, Refused> {
        let flows = self.flows.read().clone();
        let Some(flow) = flows.iter().find(|f| f.schema.fits(who, info)) else { return Ok(None) };
        let mut seat =
            Seat { control: self.clone(), flow: flow.clone(), width: 0, queue: None, seated: Some(Instant::now()) };
        if flow.exempt {
            flow.counters.dispatched(None);
            return Ok(Some(seat));
        }
        let wanted = self.width(info, named);
        let hash = flow.hash(who, info);
        let (asked, width) = {
            let mut state = self.state.lock();
            let width = state.width(flow.level, wanted);
            (state.ask(flow.level, width, hash), width)
        };
        match asked {
            Asked::Seated => {
                seat.width = width;
                flow.counters.dispatched(Some(Duration::ZERO));
                Ok(Some(seat))
            }
            Asked::Refused(why) => {
                flow.counters.rejected(why);
                Err(Refused { flow: Some(flow.clone()) })
            }
            Asked::Queued(woken, queue, id) => {
                (seat.width, seat.queue, seat.seated) = (width, Some((queue, id)), None);
                let begun = Instant::now();
                if tokio::time::timeout(PATIENCE, woken).await.is_err() && seat.leave() {
                    flow.counters.rejected("time-out");
                    return Err(Refused { flow: Some(flow.clone()) });
                }
                seat.seated = Some(Instant::now());
                flow.counters.dispatched(Some(begun.elapsed()));
                Ok(Some(seat))
            }
        }
    }

    pub fn render(&self, out: &mut Text) {
        let flows = self.flows.read().clone();
        let state = self.state.lock();
        metrics::render(out, &flows, &state.levels);
    }
}

impl Seat {
    /// Out of the queue; `false` when the seat was given in the same moment.
    fn leave(&mut self) -> bool {
        let Some((queue, id)) = self.queue else { return false };
        let left = self.control.state.lock().leave(self.flow.level, queue, id);
        if left {
            self.width = 0;
        }
        left
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // a request that was dropped while it waited either still waits, or was seated without knowing
        if self.width == 0 || (self.seated.is_none() && self.leave()) {
            return;
        }
        let took = self.seated.map_or(Duration::ZERO, |since| since.elapsed());
        let queue = self.queue.map(|(queue, _)| queue);
        self.control.state.lock().give_back(self.flow.level, queue, self.width, took);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identity::MASTERS;
    use http::Method;
    use serde_json::json;

    fn small(seats: u32) -> Arc<FlowControl> {
        FlowControl::new(&Fairness { enabled: true, max_requests_inflight: seats, max_mutating_requests_inflight: 0 })
    }

    fn list() -> RequestInfo {
        RequestInfo::parse(&Method::GET, "/api/v1/pods", "")
    }

    const PODS: Named = Named { group: "", version: "v1", resource: "pods", subresource: "" };

    #[tokio::test]
    async fn a_full_level_queues_and_seats_again() {
        let control = small(1);
        let joe = Identity::new("joe", [""; 0]);
        let first = control.enter(&joe, &list(), PODS).await.ok().unwrap();
        let second = {
            let (control, joe) = (control.clone(), joe.clone());
            tokio::spawn(async move { control.enter(&joe, &list(), PODS).await.is_ok() })
        };
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
        assert!(control.state.lock().levels.iter().all(|l| l.used == 0 && l.waiting == 0));
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_leaves_nothing_behind() {
        let control = small(1);
        let joe = Identity::new("joe", [""; 0]);
        let first = control.enter(&joe, &list(), PODS).await.ok().unwrap();
        let info = list();
        let waiting = control.enter(&joe, &info, PODS);
        assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
        assert_eq!(control.state.lock().levels.iter().map(|l| l.waiting).sum::<usize>(), 0);
        drop(first);
        assert!(control.enter(&joe, &info, PODS).await.is_ok());
    }

    #[tokio::test]
    async fn administrators_are_exempt_and_big_lists_are_wide() {
        let control = small(1);
        let joe = Identity::new("joe", [""; 0]);
        let held = control.enter(&joe, &list(), PODS).await.ok().unwrap();
        assert!(control.enter(&Identity::new("a", ["system:masters"]), &list(), PODS).await.is_ok());
        drop(held);
        control.listed(&list(), PODS, 10 * SEAT_BYTES);
        assert_eq!(control.width(&list(), PODS), WIDEST);
        assert_eq!(control.width(&list(), Named { resource: "secrets", ..PODS }), 1);
    }

    #[tokio::test]
    async fn without_fairness_two_numbers_bound() {
        let config = Fairness { enabled: false, max_requests_inflight: 1, max_mutating_requests_inflight: 0 };
        let control = FlowControl::new(&config);
        let joe = Identity::new("joe", [""; 0]);
        let write = RequestInfo::parse(&Method::POST, "/api/v1/namespaces/a/pods", "");
        let watch = RequestInfo::parse(&Method::GET, "/api/v1/pods", "watch=1");
        let held = control.enter(&joe, &list(), PODS).await.ok().unwrap();
        assert!(control.enter(&joe, &list(), PODS).await.is_err_and(|refused| refused.flow.is_none()));
        for (who, info) in [(&joe, &write), (&joe, &watch), (&Identity::new("a", [MASTERS]), &list())] {
            assert!(control.enter(who, info, PODS).await.is_ok(), "{}", info.verb);
        }
        drop(held);
        assert!(control.enter(&joe, &list(), PODS).await.is_ok());
    }

    #[tokio::test]
    async fn objects_take_effect() {
        let control = small(10);
        control.set("prioritylevelconfigurations", "mine", Some(&json!({"metadata": {"name": "mine", "uid": "u1"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 10, "limitResponse": {"type": "Reject"}}}})));
        control.set("flowschemas", "joes", Some(&json!({"metadata": {"name": "joes", "uid": "u2"}, "spec": {"matchingPrecedence": 5,
            "priorityLevelConfiguration": {"name": "mine"}, "rules": [{"subjects": [{"kind": "User", "user": {"name": "joe"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true}]}]}})));
        let seat = control.enter(&Identity::new("joe", [""; 0]), &list(), PODS).await.ok().unwrap();
        let mut headers = HeaderMap::new();
        seat.flow().unwrap().mark(&mut headers);
        assert_eq!((&headers[SCHEMA_HEADER], &headers[LEVEL_HEADER]), (&"u2".parse().unwrap(), &"u1".parse().unwrap()));
    }
}
