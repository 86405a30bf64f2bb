//! What the operator sees: bars on a terminal, plain lines otherwise, JSON lines for programs. Everything also goes to the
//! run's log file. Progress goes to stderr (JSON: stdout), results to stdout.

mod table;

use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hoststate::{Action, Event};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cli::Output;
use crate::state::log::RunLog;

pub struct Printer {
    output: Output,
    bars: Option<MultiProgress>,
    color: bool,
    verbose: u8,
    quiet: bool,
    started: Instant,
    log: OnceLock<RunLog>,
    /// How many results were written.
    stdout: Mutex<usize>,
}

impl Printer {
    pub fn new(output: Output, verbose: u8, no_color: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let color = terminal && !no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let bars = (output != Output::Json && terminal && verbose == 0).then(MultiProgress::new);
        Self {
            output,
            bars,
            color,
            verbose,
            quiet: false,
            started: Instant::now(),
            log: OnceLock::new(),
            stdout: Mutex::new(0),
        }
    }

    /// Whether warnings, errors and the result are all that is shown. JSON has every event all the same.
    pub fn quiet(mut self, quiet: bool) -> Self {
        self.quiet = quiet;
        self.bars = self.bars.filter(|_| !quiet);
        self
    }

    /// From now on everything is logged too.
    pub fn log_to(&self, log: RunLog) {
        let _ = self.log.set(log);
    }

    pub fn log_path(&self) -> Option<&std::path::Path> {
        self.log.get().map(|log| log.path.as_path())
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
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
        if let Some(log) = self.log.get() {
            log.line(&format!("{kind}: {text}"));
        }
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
        if let Some(log) = self.log.get() {
            log.line(&format!("result: {text}"));
        }
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

    /// One host's line of progress.
    pub fn host(&self, name: &str, width: usize) -> HostLine<'_> {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(0));
            let template = format!("  {{prefix:{width}}} {{bar:24}} {{pos:>3}}/{{len:<3}} {{wide_msg}}");
            bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(name.to_owned());
            bar
        });
        HostLine { printer: self, name: name.to_owned(), bar }
    }

    fn logged(&self, kind: &str, text: &str, shown: bool) {
        if let Some(log) = self.log.get() {
            log.line(&format!("{kind}: {text}"));
        }
        if shown {
            self.line(text);
        }
    }

    fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    fn write_stdout(&self, text: &str) {
        let _guard = self.stdout.lock();
        write_line(text);
    }
}

pub struct HostLine<'a> {
    printer: &'a Printer,
    name: String,
    bar: Option<ProgressBar>,
}

impl HostLine<'_> {
    pub fn doing(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None if self.printer.is_json() => self.printer.event("host", what, json!({"host": self.name})),
            None if self.printer.verbose > 0 => self.printer.line(&format!("{}: {what}", self.name)),
            None => {}
        }
        if let Some(log) = self.printer.log.get().filter(|_| !self.printer.is_json()) {
            log.line(&format!("{}: {what}", self.name));
        }
    }

    /// An event of converge.
    pub fn seen(&self, event: &Event) {
        if let Some(log) = self.printer.log.get() {
            log_event(log, &self.name, event);
        }
        match event {
            Event::Step { index, total, resource, action, finished, millis } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(*total as u64);
                    bar.set_position(*index as u64);
                    bar.set_message(resource.clone());
                } else if self.printer.is_json() {
                    let fields = json!({"host": self.name, "index": index, "total": total, "resource": resource, "action": action, "finished": finished, "stepMillis": millis});
                    self.printer.event("step", "", fields);
                } else if *finished
                    && !self.printer.quiet
                    && (self.printer.verbose > 0 || resource.starts_with("unit ") || resource.starts_with("image "))
                {
                    self.printer.line(&format!("  {}: {} {resource} ({millis} ms)", self.name, verb(*action)));
                }
            }
            Event::Command { line, status, millis } if self.printer.is_json() => {
                self.printer.event(
                    "command",
                    "",
                    json!({"host": self.name, "line": line, "status": status, "commandMillis": millis}),
                );
            }
            _ => {}
        }
    }

    pub fn done(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_length(bar.length().unwrap_or(1).max(1));
            bar.set_position(bar.length().unwrap_or(1));
            bar.abandon_with_message(text.to_owned());
            return;
        }
        self.printer.event("hostDone", &format!("  {}: {text}", self.name), json!({"host": self.name}));
    }

    pub fn failed(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.abandon_with_message(format!("failed: {text}"));
        }
    }
}

fn write_line(text: &str) {
    // a reader that went away (`| head`) is no error of ours
    let _ = writeln!(std::io::stdout(), "{text}");
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
