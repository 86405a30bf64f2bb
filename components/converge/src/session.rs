//! One conversation with the installer.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::thread::JoinHandle;

use hoststate::backup::Placement;
use hoststate::resource::ClusterRef;
use hoststate::wire::Failure;
use hoststate::{Event, HostState, Request};

use crate::abandon::Abandon;
use crate::apply::Keep;
use crate::blobs::{Blobs, skip};
use crate::lock::HostLock;
use crate::peers::{Fetcher, Share};
use crate::planned::{Moment, Planned, Seen};
use crate::resources::{self, Context};
use crate::sink::Sink;
use crate::{
    Root, STATE_DIR, apply, backup, down, facts, keeps, kept, manifest, members, operator, own, plan, rollback, tidy,
};

/// Longest request line; a HostState with every config inline stays far below.
const LINE_LIMIT: u64 = 64 << 20;

/// Serves requests until the input ends.
pub fn serve(root: &Root, input: impl Read, output: impl Write + Send + 'static) -> anyhow::Result<()> {
    let sink = Sink::new(output);
    sink.send(&Event::Hello { version: env!("CARGO_PKG_VERSION").to_owned() });
    let blobs = Arc::new(Blobs::new(root.path(STATE_DIR).join("blobs")));
    let mut input = BufReader::with_capacity(1 << 18, input);
    // While a state is applied on its own thread this one goes on reading: the blobs come through the same input.
    let mut applying: Option<JoinHandle<bool>> = None;
    // From the first request that changes something until the session ends.
    let mut lock: Option<HostLock> = None;
    let mut abandon = Abandon::default();
    let mut passing: Option<(Share, Fetcher)> = None;
    // what the last plan saw, and of which state
    let mut planned: Option<Planned> = None;
    while let Some(request) = next(&mut input)? {
        match request {
            // another installer may be at work
            Request::Blob { size, .. } if lock.is_none() => {
                skip(&mut input.by_ref().take(size))?;
                continue;
            }
            Request::Blob { sha256, size } => {
                if let Err(error) = blobs.receive(&sha256, size, &mut input) {
                    blobs.end(&format!("the connection ended while blob {sha256} was sent: {error}"));
                    break;
                }
                continue;
            }
            Request::Alive => continue,
            Request::Share { address, token } => {
                let share = Share::start(address, token.clone(), blobs.clone());
                sink.send(&Event::Sharing { port: share.as_ref().ok().map(Share::port) });
                passing = share.ok().map(|share| (share, Fetcher::start(token, blobs.clone(), sink.clone())));
                continue;
            }
            Request::Fetch { sha256, size, from } => {
                match &passing {
                    Some((_, fetcher)) if lock.is_some() => {
                        blobs.expect(&sha256);
                        fetcher.want(sha256, size, from);
                    }
                    _ => sink.send(&Event::Fetched { sha256, why: Some("this host does not share".into()) }),
                }
                continue;
            }
            // One thing at a time; a new request waits for the work before it.
            _ => _ = join(applying.take()),
        }
        if changes_something(&request) && lock.is_none() {
            match HostLock::take(root) {
                Ok(taken) => lock = Some(taken),
                Err(failure) => {
                    sink.send(&Event::Failed(failure));
                    continue;
                }
            }
        }
        if let Some(planned) = planned.as_mut().filter(|_| changes_something(&request) && !is_planned(&request)) {
            planned.stale = true;
        }
        match request {
            // what takes blobs or goes on for long works beside this thread
            Request::Apply { .. } | Request::ApplyPlanned { .. } | Request::Rollback | Request::Place { .. } => {
                let planned = planned.take();
                abandon = Abandon::default();
                let (root, sink, blobs, abandon) = (root.clone(), sink.clone(), blobs.clone(), abandon.clone());
                applying = Some(std::thread::spawn(move || {
                    let context = Context { root: &root, sink: &sink, blobs: &blobs, abandon: &abandon };
                    let result = match request {
                        Request::Apply { state, keep_previous } => observed(context, state)
                            .and_then(|seen| run_apply(context, seen, Keep::from(keep_previous))),
                        Request::ApplyPlanned { keep_previous } => as_planned(context, planned)
                            .and_then(|seen| run_apply(context, seen, Keep::from(keep_previous))),
                        Request::Place { placement } => run_place(context, &placement),
                        _ => in_order(context).and_then(|()| rollback::rollback(context)),
                    };
                    let good = result.is_ok();
                    sink.send(&result.unwrap_or_else(Event::Failed));
                    good
                }));
            }
            Request::Plan { state } => {
                let context = Context { root, sink: &sink, blobs: &blobs, abandon: &abandon };
                let answer = run_plan(context, state);
                let (event, kept) = answer.map_or_else(|failure| (Event::Failed(failure), None), |(e, p)| (e, Some(p)));
                planned = kept;
                sink.send(&event);
            }
            other => sink.send(&answer(Context { root, sink: &sink, blobs: &blobs, abandon: &abandon }, other)),
        }
    }
    blobs.end("the connection to the installer ended; run the command again");
    abandon.set();
    let going_on = applying.as_ref().is_some_and(|thread| !thread.is_finished());
    let cut_off = !join(applying) && going_on;
    drop(passing);
    blobs.end_sharing();
    drop(lock);
    // then our executable stays where it was staged: the next installer may be about to start it
    anyhow::ensure!(!cut_off, "the installer went away before the work was done");
    Ok(())
}

fn is_planned(request: &Request) -> bool {
    matches!(request, Request::ApplyPlanned { .. })
}

/// Whether nobody else may do anything meanwhile.
fn changes_something(request: &Request) -> bool {
    matches!(
        request,
        Request::Apply { .. }
            | Request::ApplyPlanned { .. }
            | Request::Amend { .. }
            | Request::Rollback
            | Request::Down { .. }
            | Request::RemoveMember { .. }
            | Request::Place { .. }
            | Request::Keep { .. }
            | Request::Tidy { .. }
    )
}

/// Whether the work was done.
fn join(thread: Option<JoinHandle<bool>>) -> bool {
    // a panic has been printed to stderr, which the installer shows
    thread.is_none_or(|thread| thread.join().unwrap_or(false))
}

fn next(input: &mut impl BufRead) -> anyhow::Result<Option<Request>> {
    let mut line = Vec::new();
    input.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

fn answer(context: Context<'_>, request: Request) -> Event {
    match request {
        Request::Facts => Event::Facts { facts: Box::new(facts::collect(context.root)) },
        Request::Manifest => match manifest::load(context.root) {
            Ok(manifest) => Event::Manifest { manifest },
            Err(error) => Event::Failed(resources::io("manifest", &error)),
        },
        Request::Drift => drift(context.root).unwrap_or_else(|error| Event::Failed(resources::io("drift", &error))),
        Request::Amend { state } => run_amend(context, state).unwrap_or_else(Event::Failed),
        Request::Down { keep_data } => down::down(context, keep_data).unwrap_or_else(Event::Failed),
        Request::Members => members::list(context.sink).unwrap_or_else(Event::Failed),
        Request::RemoveMember { id } => members::remove(context.sink, id).unwrap_or_else(Event::Failed),
        Request::Tidy { keep } => tidy::tidy(context, &keep).unwrap_or_else(Event::Failed),
        Request::Keep { text } => operator::keep(context, &text).unwrap_or_else(Event::Failed),
        Request::Kept => operator::kept(context).unwrap_or_else(Event::Failed),
        Request::Backups => backup::list(context).unwrap_or_else(Event::Failed),
        Request::Take { what } => backup::take(context, what).unwrap_or_else(Event::Failed),
        Request::Plan { .. }
        | Request::Apply { .. }
        | Request::ApplyPlanned { .. }
        | Request::Rollback
        | Request::Place { .. }
        | Request::Blob { .. }
        | Request::Share { .. }
        | Request::Fetch { .. }
        | Request::Alive => unreachable!("handled by the caller"),
    }
}

fn run_plan(context: Context<'_>, state: HostState) -> Result<(Event, Planned), Failure> {
    // before anything is looked at: what changes meanwhile has to be noticed
    let began = Moment::now(context.root);
    let asked = state.clone();
    let (state, observations) = observed(context, state)?;
    let removed = plan::removed(context.root, &state).map_err(|error| resources::io("plan", &error))?;
    context.blobs.learn(context.root, &state);
    let needs = apply::missing_blobs(&state, &observations, |sha256| context.blobs.has(sha256));
    let event = Event::Plan { changes: plan::changes(&state, &observations), removed, needs };
    Ok((event, Planned { asked, seen: (state, observations), began, stale: false }))
}

fn drift(root: &Root) -> std::io::Result<Event> {
    let Some(state) = kept::load(root)? else { return Ok(Event::Drift { changes: None }) };
    let observations = plan::observe(root, &state)?;
    Ok(Event::Drift { changes: Some(plan::drift(&state, &observations)) })
}

fn run_apply(context: Context<'_>, (state, observations): Seen, keep: Keep) -> Result<Event, Failure> {
    refuse_other_cluster(context, &state.cluster)?;
    context.blobs.learn(context.root, &state);
    let missing = apply::missing_blobs(&state, &observations, |sha256| context.blobs.have(sha256));
    context.sink.send(&Event::NeedBlobs { sha256: missing });
    in_order(context)?;
    let changed = apply::apply(context, &state, &observations, keep)?;
    Ok(Event::Done { changed, unchanged: state.resources.len().saturating_sub(changed) })
}

fn run_amend(context: Context<'_>, state: HostState) -> Result<Event, Failure> {
    refuse_other_cluster(context, &state.cluster)?;
    let (state, observations) = observed(context, state)?;
    in_order(context)?;
    let changed = apply::amend(context, &state, &observations)?;
    Ok(Event::Done { changed, unchanged: state.resources.len().saturating_sub(changed) })
}

fn as_planned(context: Context<'_>, planned: Option<Planned>) -> Result<Seen, Failure> {
    let nothing = || resources::io("plan", &std::io::Error::other("nothing was planned in this session"));
    match planned.ok_or_else(nothing)?.fresh(context.root) {
        Ok(seen) => Ok(seen),
        Err(asked) => observed(context, asked),
    }
}

fn observed(context: Context<'_>, state: HostState) -> Result<Seen, Failure> {
    let resolved = keeps::resolved(context.root, state).and_then(|state| {
        let observations = plan::observe(context.root, &state)?;
        Ok((state, observations))
    });
    resolved.map_err(|error| resources::io("plan", &error))
}

/// What the host had begun by itself is not gone on with: it may be what is replaced now.
fn in_order(context: Context<'_>) -> Result<(), Failure> {
    own::forget(context.root).map_err(|error| resources::io("plan", &error))
}

fn run_place(context: Context<'_>, placement: &Placement) -> Result<Event, Failure> {
    refuse_other_cluster(context, &placement.cluster)?;
    backup::place(context, placement)
}

/// The installer has checked this too; here it holds even when two operators come at once.
fn refuse_other_cluster(context: Context<'_>, cluster: &ClusterRef) -> Result<(), Failure> {
    let there = manifest::load(context.root).map_err(|error| resources::io("manifest", &error))?;
    match there {
        Some(manifest) if manifest.cluster.id != cluster.id => Err(Failure {
            hint: Some(
                "run `kinstall down` with that cluster's inventory first, or take this host out of this one".into(),
            ),
            ..resources::io(
                "manifest",
                &std::io::Error::other(format!("this host belongs to the cluster {:?}", manifest.cluster.name)),
            )
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
