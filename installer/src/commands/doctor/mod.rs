//! `kinstall doctor`: what is wrong with hosts and cluster, how sure that is, and what mends it. Looks only, and needs neither a
//! bundle nor an API that answers.
//!
//! [`look`] asks hosts and API at once, [`checks`] judges what was [`seen`].

mod checks;
mod connect;
pub mod look;
mod script;
pub mod seen;

use serde_json::{Value, json};

pub use checks::judge;
use checks::{CHECKS, Found, Sure};

use super::{Ended, Run, chosen};
use crate::cli::{Chosen, Doctor};

pub async fn run(run: &Run<'_>, arguments: &Doctor) -> anyhow::Result<Ended> {
    if arguments.list {
        return Ok(list(run));
    }
    let hosts = chosen::hosts(&run.cluster, &arguments.hosts, &Chosen::default())?;
    let seen = look::look(run, &hosts).await;
    let found = judge(&seen);
    let seconds = run.printer.elapsed().as_secs_f64();
    let whose = match seen.objects() {
        Some(_) => format!("{} hosts and the API", seen.hosts.len()),
        None => format!("{} hosts", seen.hosts.len()),
    };
    let text = format!("{}{}", text(&found), sum(&found, &whose, seconds));
    run.printer.result(&text, &value(&found, seconds));
    // what may be meant so is told, but nothing to be called for
    let is_wrong = |(_, found): &(&str, Found)| found.sure != Sure::Possible;
    Ok(if found.iter().any(is_wrong) { Ended::Ill } else { Ended::Done })
}

/// The table of checks.
fn list(run: &Run<'_>) -> Ended {
    let width = CHECKS.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let text: String = CHECKS.iter().map(|check| format!("{:<width$}  {}\n", check.name, check.looks_at)).collect();
    let rows: Vec<_> = CHECKS.iter().map(|check| json!({"check": check.name, "looksAt": check.looks_at})).collect();
    run.printer.result(&text, &json!({"event": "checks", "checks": rows}));
    Ended::Done
}

/// As programs get it.
pub fn value(found: &[(&'static str, Found)], seconds: f64) -> Value {
    let rows: Vec<_> = found
        .iter()
        .map(|(check, found)| {
            json!({"check": check, "on": found.on, "sure": found.sure, "what": found.what, "signs": found.signs, "cure": found.cure})
        })
        .collect();
    json!({"event": "doctor", "ok": rows.is_empty(), "findings": rows, "totalSeconds": seconds})
}

/// What is wrong, for people.
pub fn text(found: &[(&'static str, Found)]) -> String {
    let mut text = String::new();
    for (_, Found { sure, on, what, signs, cure }) in found {
        text.push_str(&format!("{on}: {what}  ({})\n", sure.word()));
        for sign in signs.iter().flat_map(|sign| sign.lines()) {
            text.push_str(&format!("    | {sign}\n"));
        }
        text.push_str(&format!("    cure: {cure}\n"));
    }
    text
}

fn sum(found: &[(&'static str, Found)], whose: &str, seconds: f64) -> String {
    let count = |sure: Sure| found.iter().filter(|(_, found)| found.sure == sure).count();
    match found.len() {
        0 => format!("nothing is wrong that could be seen of {whose} ({seconds:.1} s)"),
        all => {
            let counts =
                [Sure::Certain, Sure::Likely, Sure::Possible].map(|sure| format!("{} {}", count(sure), sure.word()));
            let noun = if all == 1 { "finding" } else { "findings" };
            format!("{all} {noun} ({}), seen of {whose} ({seconds:.1} s)", counts.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::checks::found;
    use super::*;

    #[test]
    fn findings_are_told_with_signs_and_cure() {
        let list = [(
            "units",
            found(Sure::Certain, "h2", "x.service is stopped", "start it").signs(["a\nb".to_owned(), " ".to_owned()]),
        )];
        assert_eq!(text(&list), "h2: x.service is stopped  (certain)\n    | a\n    | b\n    cure: start it\n");
        assert!(sum(&list, "3 hosts", 1.0).starts_with("1 finding (1 certain, 0 likely, 0 possible), seen of 3 hosts"));
        assert_eq!(value(&list, 1.0)["findings"][0]["sure"], "certain");
        assert!(sum(&[], "3 hosts", 1.0).starts_with("nothing is wrong"));
    }
}
