//! What the operator sees: a board on a terminal, plain lines otherwise, JSON lines for programs. Everything also goes to the
//! run's log file. Progress goes to stderr (JSON: stdout), results to stdout.

mod board;
mod draw;
mod screen;
mod svg;
mod table;
mod timeline;

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hoststate::{Action, Event};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cli::Output;
use crate::host::Onlooker;
use crate::state::log::RunLog;
use screen::Screen;
use timeline::{CLUSTER, Timeline};

pub struct Printer {
    output: Output,
    screen: Option<Screen>,
    color: bool,
    verbose: u8,
    quiet: bool,
    started: Instant,
    log: OnceLock<RunLog>,
    /// How many results were written.
    stdout: Mutex<usize>,
    /// A reader of stdout went away.
    unread: AtomicBool,
    timeline: Timeline,
    /// What each host is at, and since when, where that is no step of its own.
    doing: Mutex<HashMap<String, (String, Instant)>>,
    /// When steps of hosts began that are not over.
    steps: Mutex<HashMap<(String, usize), Duration>>,
}

impl Printer {
    pub fn new(output: Output, verbose: u8, no_color: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let color = terminal && !no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let can_draw = terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let started = Instant::now();
        Self {
            output,
            screen: (output != Output::Json && can_draw && verbose == 0).then(|| Screen::new(color)),
            color,
            verbose,
            quiet: false,
            started,
            log: OnceLock::new(),
            stdout: Mutex::new(0),
            unread: AtomicBool::new(false),
            timeline: Timeline::new(started),
            doing: Mutex::default(),
            steps: Mutex::default(),
        }
    }

    /// Whether warnings, errors and the result are all that is shown. JSON has every event all the same.
    pub fn quiet(mut self, quiet: bool) -> Self {
        self.quiet = quiet;
        self.screen = self.screen.filter(|_| !quiet);
        self
    }

    /// From now on everything is logged too.
    pub fn log_to(&self, log: RunLog) {
        let _ = self.log.set(log);
    }

    /// The log's path as it is told; empty where there is none.
    pub fn log_name(&self) -> String {
        self.log.get().map(|log| log.path.display().to_string()).unwrap_or_default()
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How much more is to be told than usual.
    pub fn verbose(&self) -> u8 {
        self.verbose
    }

    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    pub fn output(&self) -> Output {
        self.output
    }

    /// A line for people; for programs the event `kind` with `fields`.
    pub fn event(&self, kind: &str, text: &str, fields: Value) {
        self.tell(kind, text, fields, !self.quiet);
    }

    /// As [`Printer::event`], for what also those want to see who want quiet.
    pub fn finding(&self, kind: &str, text: &str, fields: Value) {
        self.tell(kind, text, fields, true);
    }

    fn tell(&self, kind: &str, text: &str, fields: Value, shown: bool) {
        self.log(&format!("{kind}: {text}"));
        if self.is_json() {
            let mut object = json!({"event": kind, "millis": u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX), "text": text});
            if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
                object.extend(fields);
            }
            self.write_stdout(&object.to_string());
        } else if shown && !text.is_empty() {
            self.line(text);
        }
    }

    pub fn phase(&self, text: &str) {
        let shown = if self.color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
        match self.is_json() {
            true => self.event("phase", text, Value::Null),
            false => self.logged("phase", &shown, !self.quiet),
        }
    }

    pub fn warning(&self, text: &str) {
        let shown = if self.color { format!("\x1b[33mwarning:\x1b[0m {text}") } else { format!("warning: {text}") };
        if self.is_json() { self.event("warning", text, Value::Null) } else { self.logged("warning", &shown, true) }
    }

    pub fn error(&self, text: &str, fields: Value) {
        let shown = if self.color { format!("\x1b[31merror:\x1b[0m {text}") } else { format!("error: {text}") };
        if self.is_json() { self.event("error", text, fields) } else { self.logged("error", &shown, true) }
    }

    /// A command's result on stdout: `text` for people, else `value`, whose `event` only those who read events need.
    pub fn result(&self, text: &str, value: &Value) {
        self.log(&format!("result: {text}"));
        let written = match self.output {
            Output::Text | Output::Junit => text.to_owned(),
            Output::Json => value.to_string(),
            Output::Yaml => yaml(without_event(value)),
            Output::Table => table::render(&without_event(value)),
        };
        let mut results = self.stdout.lock();
        // a command that is made of others has several
        let between = match self.output {
            Output::Yaml if *results > 0 => "---\n",
            Output::Table if *results > 0 => "\n",
            _ => "",
        };
        *results += 1;
        write_line(&format!("{between}{}", written.trim_end()));
    }

    /// Whether what is printed is for people.
    pub fn is_text(&self) -> bool {
        matches!(self.output, Output::Text | Output::Junit)
    }

    /// Whether something is printed before the result.
    pub fn streams(&self) -> bool {
        !matches!(self.output, Output::Yaml | Output::Table)
    }

    /// Whether somebody still reads what is printed on stdout.
    pub fn is_read(&self) -> bool {
        !self.unread.load(Ordering::Relaxed)
    }

    /// What a command passes on as it comes, on stdout: `line` for people, for programs that read events one of `kind` with `text`.
    /// False where it has to be told with the result at the end.
    pub fn stream(&self, kind: &str, line: &str, text: &str, fields: Value) -> bool {
        match self.output {
            Output::Text | Output::Junit => self.write_stdout(line),
            Output::Json => self.tell(kind, text, fields, false),
            Output::Yaml | Output::Table => return false,
        }
        true
    }

    /// One host's line of progress, until it is dropped.
    pub fn host(&self, name: &str) -> HostLine<'_> {
        if let Some(screen) = &self.screen {
            screen.change(|board, now| board.begin(name, now));
        }
        HostLine { printer: self, name: name.to_owned() }
    }

    /// Something that is done for all hosts, until what is returned is dropped.
    pub fn cluster(&self, what: &str) -> Underway<'_> {
        if let Some(screen) = &self.screen {
            screen.change(|board, now| board.cluster = Some((what.to_owned(), now)));
        }
        Underway { printer: self, what: what.to_owned(), since: Instant::now() }
    }

    /// Something has taken so long, and ended now.
    pub fn took(&self, lane: &str, what: &str, took: Duration) {
        let span = self.timeline.add(lane, what, took);
        if self.is_json() {
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let fields = json!({
                "lane": span.lane, "what": span.what, "kind": span.kind,
                "fromMillis": millis(span.from), "spanMillis": millis(span.took),
            });
            self.event("span", "", fields);
        }
    }

    /// A stage of the run, which is what hosts are at meanwhile, began then and is over.
    pub fn stage(&self, what: &str, since: Instant) {
        self.took(CLUSTER, what, since.elapsed());
    }

    /// [`Printer::svg`] will be wanted.
    pub fn keep_timeline(&self) {
        self.timeline.keep();
    }

    /// Where the time went until now, as a picture.
    pub fn svg(&self, title: &str) -> String {
        svg::svg(title, self.elapsed(), &self.timeline.spans())
    }

    /// A step begins, or has taken so long. It may be told late that it is over: units are, when somebody waits for them.
    fn step(&self, host: &str, index: usize, resource: &str, took: Option<Duration>) {
        let key = (host.to_owned(), index);
        match took {
            None => {
                self.steps.lock().insert(key, self.started.elapsed());
            }
            Some(took) => {
                let began = self.steps.lock().remove(&key);
                match began {
                    Some(began) => self.timeline.add_from(host, resource, began, took),
                    None => self.timeline.add(host, resource, took),
                };
            }
        }
    }

    /// What the host was at by its own account is over.
    fn over(&self, host: &str) {
        // what takes no time is not worth a bar
        const SHORTEST: Duration = Duration::from_millis(1);
        let was = self.doing.lock().remove(host);
        if let Some((what, since)) = was.filter(|(_, since)| since.elapsed() >= SHORTEST) {
            self.took(host, &what, since.elapsed());
        }
    }

    /// Gives a function that asks a person something while nothing is drawn.
    pub fn aside(
        &self,
    ) -> impl Fn(&mut dyn FnMut() -> anyhow::Result<String>) -> anyhow::Result<String> + Send + Sync + use<> {
        let aside = self.screen.as_ref().map(Screen::aside);
        move |ask| match &aside {
            Some(aside) => aside(ask),
            None => ask(),
        }
    }

    /// To the run's log alone.
    fn log(&self, text: &str) {
        if let Some(log) = self.log.get() {
            log.line(text);
        }
    }

    fn logged(&self, kind: &str, text: &str, shown: bool) {
        self.log(&format!("{kind}: {text}"));
        if shown {
            self.line(text);
        }
    }

    fn line(&self, text: &str) {
        match &self.screen {
            Some(screen) => screen.line(text),
            None => eprintln!("{text}"),
        }
    }

    fn write_stdout(&self, text: &str) {
        let _guard = self.stdout.lock();
        if !write_line(text) {
            self.unread.store(true, Ordering::Relaxed);
        }
    }
}

impl Onlooker for Printer {
    fn doing(&self, host: &str, what: &str) {
        self.over(host);
        self.doing.lock().insert(host.to_owned(), (what.to_owned(), Instant::now()));
        match &self.screen {
            Some(screen) => screen.change(|board, now| board.doing(host, what, now)),
            None if self.verbose > 0 && !self.is_json() => self.line(&format!("{host}: {what}")),
            None => {}
        }
        self.log(&format!("{host}: {what}"));
    }

    fn sent(&self, host: &str, what: &str, sent: u64, total: u64) {
        if let Some(screen) = &self.screen {
            screen.change(|board, now| board.sent(host, what, sent, total, now));
        }
    }

    fn note(&self, host: &str, text: &str) {
        self.log(&format!("{host}: {text}"));
    }

    fn took(&self, host: &str, what: &str, started: Instant) {
        Printer::took(self, host, what, started.elapsed());
    }
}

pub struct HostLine<'a> {
    printer: &'a Printer,
    name: String,
}

impl HostLine<'_> {
    /// Work on the host, which may change it.
    pub fn doing(&self, what: &str) {
        Onlooker::doing(self.printer, &self.name, what);
        if self.printer.is_json() {
            self.printer.event("host", what, json!({"host": self.name}));
        }
    }

    /// An event of converge.
    pub fn seen(&self, event: &Event) {
        let printer = self.printer;
        if let Some(log) = printer.log.get() {
            log_event(log, &self.name, event);
        }
        match event {
            Event::Step { index, total, resource, action, finished, millis } => {
                printer.over(&self.name);
                printer.step(&self.name, *index, resource, finished.then(|| Duration::from_millis(*millis)));
                if let Some(screen) = &printer.screen {
                    screen.change(|board, _| board.step(&self.name, *index, *total, resource));
                } else if printer.is_json() {
                    let fields = json!({"host": self.name, "index": index, "total": total, "resource": resource, "action": action, "finished": finished, "stepMillis": millis});
                    printer.event("step", "", fields);
                } else if *finished
                    && !printer.quiet
                    && (printer.verbose > 0 || resource.starts_with("unit ") || resource.starts_with("image "))
                {
                    printer.line(&format!("  {}: {} {resource} ({millis} ms)", self.name, verb(*action)));
                }
            }
            Event::Command { line, status, millis } if printer.is_json() => {
                printer.event(
                    "command",
                    "",
                    json!({"host": self.name, "line": line, "status": status, "commandMillis": millis}),
                );
            }
            _ => {}
        }
    }

    pub fn done(&self, text: &str) {
        self.printer.over(&self.name);
        match &self.printer.screen {
            Some(screen) => {
                screen.change(|board, now| board.ended(&self.name, Ok(text.to_owned()), now));
                self.printer.log(&format!("{}: {text}", self.name));
            }
            None => {
                self.printer.event("hostDone", &format!("  {}: {text}", self.name), json!({"host": self.name}));
            }
        }
    }

    pub fn failed(&self, text: &str) {
        self.printer.over(&self.name);
        if let Some(screen) = &self.printer.screen {
            screen.change(|board, now| board.ended(&self.name, Err(text.to_owned()), now));
        }
    }
}

impl Drop for HostLine<'_> {
    fn drop(&mut self) {
        self.printer.over(&self.name);
        if let Some(screen) = &self.printer.screen
            && screen.change(|board, now| board.leave(&self.name, now))
        {
            screen.settle();
        }
    }
}

/// Something that goes on until this is dropped.
pub struct Underway<'a> {
    printer: &'a Printer,
    what: String,
    since: Instant,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.printer.took(CLUSTER, &self.what, self.since.elapsed());
        if let Some(screen) = &self.printer.screen {
            screen.change(|board, _| board.cluster = None);
            screen.refresh();
        }
    }
}

/// False: the reader went away (`| head`), which is no error of ours.
fn write_line(text: &str) -> bool {
    writeln!(std::io::stdout(), "{text}").is_ok()
}

fn without_event(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Object(fields) = &mut value {
        fields.remove("event");
    }
    value
}

fn yaml(value: Value) -> String {
    // a JSON value always has a form in YAML
    serde_yaml::to_string(&value).unwrap_or_else(|error| format!("error: {error}"))
}

fn log_event(log: &RunLog, host: &str, event: &Event) {
    match event {
        Event::Command { line, status, millis } => {
            let status = status.map_or_else(|| "killed".to_owned(), |status| status.to_string());
            log.line(&format!("{host}$ {line} → {status} ({millis} ms)"));
        }
        Event::Step { resource, action, finished: true, millis, .. } => {
            log.line(&format!("{host}: {} {resource} ({millis} ms)", verb(*action)))
        }
        Event::NeedBlobs { sha256 } => log.line(&format!("{host}: needs {} blobs", sha256.len())),
        Event::Done { changed, unchanged } => {
            log.line(&format!("{host}: done, {changed} changed, {unchanged} unchanged"))
        }
        Event::Failed(failure) => log.line(&format!("{host}: failed: {failure:?}")),
        _ => {}
    }
}

/// An action as plans and progress name it.
pub fn verb(action: Action) -> &'static str {
    match action {
        Action::None => "keep",
        Action::Create => "create",
        Action::Update => "update",
        Action::Start => "start",
        Action::Restart => "restart",
        Action::Remove => "remove",
        Action::Restore => "restore",
    }
}
