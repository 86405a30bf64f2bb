//! One conversation with the installer.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hoststate::backup::Placement;
use hoststate::resource::ClusterRef;
use hoststate::wire::Failure;
use hoststate::{Event, HostState, Request};

use crate::abandon::Abandon;
use crate::apply::Keep;
use crate::blobs::Blobs;
use crate::input::Input;
use crate::lock::HostLock;
use crate::resources::{self, Context, Observation};
use crate::sink::Sink;
use crate::{
    Root, STATE_DIR, apply, backup, down, facts, keeps, kept, manifest, members, operator, own, plan, rollback, tidy,
};

/// Longest request line; a HostState with every config inline stays far below.
const LINE_LIMIT: u64 = 64 << 20;

/// Serves requests until the input ends.
pub fn serve(root: &Root, input: impl Input, output: impl Write + Send + 'static) -> anyhow::Result<()> {
    let sink = Sink::new(output);
    sink.send(&Event::Hello { version: env!("CARGO_PKG_VERSION").to_owned() });
    let blobs = Arc::new(Blobs::new(root.path(STATE_DIR).join("blobs")));
    let mut input = BufReader::with_capacity(1 << 18, input);
    // While a state is applied on its own thread this one goes on reading: the blobs come through the same input.
    let mut applying: Option<JoinHandle<bool>> = None;
    // From the first request that changes something until the session ends.
    let mut lock: Option<HostLock> = None;
    let mut abandon = Abandon::default();
    // a state is being applied
    let mut working = Arc::new(AtomicBool::new(false));
    while let Some(request) = next(&mut input)? {
        match request {
            Request::Blob { sha256, size } => {
                if let Err(error) = blobs.receive(&sha256, size, &mut input) {
                    blobs.end(&format!("the connection ended while blob {sha256} was sent: {error}"));
                    break;
                }
                continue;
            }
            Request::Alive => {
                input.get_mut().expect_while(&working);
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
        match request {
            // what takes blobs or goes on for long works beside this thread
            Request::Apply { .. } | Request::Rollback | Request::Place { .. } => {
                abandon = Abandon::default();
                working = Arc::new(AtomicBool::new(true));
                let (root, sink, blobs, abandon) = (root.clone(), sink.clone(), blobs.clone(), abandon.clone());
                let working = working.clone();
                applying = Some(std::thread::spawn(move || {
                    let context = Context { root: &root, sink: &sink, blobs: &blobs, abandon: &abandon };
                    let result = match request {
                        Request::Apply { state, keep_previous: true } => run_apply(context, state, Keep::Previous),
                        Request::Apply { state, .. } => run_apply(context, state, Keep::Nothing),
                        Request::Place { placement } => run_place(context, &placement),
                        _ => in_order(context).and_then(|()| rollback::rollback(context)),
                    };
                    let good = result.is_ok();
                    working.store(false, Ordering::Relaxed);
                    sink.send(&result.unwrap_or_else(Event::Failed));
                    good
                }));
            }
            other => sink.send(&answer(Context { root, sink: &sink, blobs: &blobs, abandon: &abandon }, other)),
        }
    }
    blobs.end("the connection to the installer ended; run the command again");
    abandon.set();
    let going_on = applying.as_ref().is_some_and(|thread| !thread.is_finished());
    let cut_off = !join(applying) && going_on;
    drop(lock);
    // then our executable stays where it was staged: the next installer may be about to start it
    anyhow::ensure!(!cut_off, "the installer went away before the work was done");
    Ok(())
}

/// Whether nobody else may do anything meanwhile.
fn changes_something(request: &Request) -> bool {
    matches!(
        request,
        Request::Apply { .. }
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
        Request::Plan { state } => run_plan(context, state).unwrap_or_else(Event::Failed),
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
        Request::Apply { .. } | Request::Rollback | Request::Place { .. } | Request::Blob { .. } | Request::Alive => {
            unreachable!("handled by the caller")
        }
    }
}

fn run_plan(context: Context<'_>, state: HostState) -> Result<Event, Failure> {
    let (state, observations) = observed(context, state)?;
    let removed = plan::removed(context.root, &state).map_err(|error| resources::io("plan", &error))?;
    Ok(Event::Plan { changes: plan::changes(&state, &observations), removed })
}

fn drift(root: &Root) -> std::io::Result<Event> {
    let Some(state) = kept::load(root)? else { return Ok(Event::Drift { changes: None }) };
    let observations = plan::observe(root, &state)?;
    Ok(Event::Drift { changes: Some(plan::drift(&state, &observations)) })
}

fn run_apply(context: Context<'_>, state: HostState, keep: Keep) -> Result<Event, Failure> {
    refuse_other_cluster(context, &state.cluster)?;
    let (state, observations) = observed(context, state)?;
    context.sink.send(&Event::NeedBlobs { sha256: apply::missing_blobs(context, &state, &observations) });
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

/// What the state is on this host, and what that changes.
fn observed(context: Context<'_>, state: HostState) -> Result<(HostState, Vec<Observation>), Failure> {
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
