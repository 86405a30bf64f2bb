//! Checks and what came of them: named, timed, with a hint when they fail.

use std::future::Future;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::printer::Printer;

#[derive(Clone, Debug)]
pub struct Outcome {
    pub name: String,
    pub duration: Duration,
    /// What was seen, or why it failed.
    pub result: Result<String, String>,
    pub hint: String,
}

/// The outcomes of one validation, told as they come.
pub struct Report<'a> {
    printer: &'a Printer,
    pub outcomes: Vec<Outcome>,
}

impl<'a> Report<'a> {
    pub fn new(printer: &'a Printer) -> Self {
        Self { printer, outcomes: Vec::new() }
    }

    /// Runs one check. `None` when it failed: checks that build on it can be left out.
    pub async fn check<T>(
        &mut self,
        name: &str,
        hint: &str,
        work: impl Future<Output = anyhow::Result<(T, String)>>,
    ) -> Option<T> {
        let started = Instant::now();
        let underway = self.printer.cluster(&format!("check {name}"));
        let result = work.await;
        drop(underway);
        let (value, result) = match result {
            Ok((value, detail)) => (Some(value), Ok(detail)),
            Err(error) => (None, Err(format!("{error:#}"))),
        };
        self.add(Outcome { name: name.to_owned(), duration: started.elapsed(), result, hint: hint.to_owned() });
        value
    }

    pub fn add(&mut self, outcome: Outcome) {
        let millis = outcome.duration.as_millis();
        let text = match &outcome.result {
            Ok(detail) => format!("  ok      {:<32} {millis:>6} ms  {detail}", outcome.name),
            Err(error) => {
                format!("  FAILED  {:<32} {millis:>6} ms  {error}\n          hint: {}", outcome.name, outcome.hint)
            }
        };
        match outcome.result {
            Ok(_) => self.printer.event("check", &text, outcome.json()),
            Err(_) => self.printer.finding("check", &text, outcome.json()),
        }
        self.outcomes.push(outcome);
    }

    pub fn passed(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.result.is_ok())
    }

    pub fn failures(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.result.is_err()).count()
    }

    pub fn json(&self) -> Value {
        json!({"passed": self.passed(), "checks": self.outcomes.iter().map(Outcome::json).collect::<Vec<_>>()})
    }

    /// JUnit's XML, as CI systems read it.
    pub fn junit(&self) -> String {
        let seconds = |duration: Duration| format!("{:.3}", duration.as_secs_f64());
        let total: Duration = self.outcomes.iter().map(|outcome| outcome.duration).sum();
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"kinstall validate\" tests=\"{}\" failures=\"{}\" time=\"{}\">\n",
            self.outcomes.len(),
            self.failures(),
            seconds(total)
        );
        for outcome in &self.outcomes {
            let open = format!(
                "  <testcase classname=\"kinstall\" name=\"{}\" time=\"{}\"",
                escape(&outcome.name),
                seconds(outcome.duration)
            );
            match &outcome.result {
                Ok(_) => text.push_str(&format!("{open}/>\n")),
                Err(error) => text.push_str(&format!(
                    "{open}>\n    <failure message=\"{}\">hint: {}</failure>\n  </testcase>\n",
                    escape(error),
                    escape(&outcome.hint)
                )),
            }
        }
        text.push_str("</testsuite>\n");
        text
    }
}

impl Outcome {
    fn json(&self) -> Value {
        json!({
            "check": self.name,
            "ok": self.result.is_ok(),
            "checkMillis": u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            "detail": self.result.as_ref().ok(),
            "error": self.result.as_ref().err(),
            "hint": self.result.is_err().then_some(&self.hint),
        })
    }
}

fn escape(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\n' => "&#10;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::cli::Output;

    #[tokio::test]
    async fn junit_names_failures_with_their_hint() {
        let printer = Printer::new(Output::Junit, 0, true);
        let mut report = Report::new(&printer);
        assert_eq!(report.check("good", "", async { Ok((7, "fine".to_owned())) }).await, Some(7));
        assert_eq!(
            report.check("bad", "look <there>", async { Err::<((), String), _>(anyhow::anyhow!("a & b")) }).await,
            None
        );
        assert!(!report.passed());
        let xml = report.junit();
        assert!(
            xml.contains("tests=\"2\" failures=\"1\"")
                && xml.contains("a &amp; b")
                && xml.contains("look &lt;there&gt;"),
            "{xml}"
        );
    }
}
