//! A line of a host's journal.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

/// The fields that are asked for, besides the time.
pub const FIELDS: &str = "MESSAGE,UNIT,_SYSTEMD_UNIT";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Microseconds since the epoch, by the host's clock.
    pub micros: u64,
    pub unit: String,
    pub message: String,
}

impl Entry {
    /// From `journalctl -o json`. None: this is no entry.
    pub fn parse(line: &str) -> Option<Self> {
        let fields: Value = serde_json::from_str(line).ok()?;
        let micros = fields["__REALTIME_TIMESTAMP"].as_str()?.parse().ok()?;
        // what systemd says of a unit names it in UNIT
        let unit = fields["UNIT"].as_str().or(fields["_SYSTEMD_UNIT"].as_str()).unwrap_or_default();
        Some(Self { micros, unit: short(unit).to_owned(), message: text(&fields["MESSAGE"]) })
    }

    pub fn time(&self) -> String {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.micros) * 1000);
        let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        time.ok().and_then(|time| time.format(form).ok()).unwrap_or_default()
    }

    pub fn has(&self, wanted: &str) -> bool {
        match wanted.chars().any(char::is_uppercase) {
            true => self.message.contains(wanted),
            false => self.message.to_lowercase().contains(wanted),
        }
    }

    pub fn as_json(&self, host: &str) -> Value {
        json!({"host": host, "time": self.time(), "unit": self.unit, "message": self.message})
    }
}

/// `kubelet` of `kinstall-kubelet.service`.
pub fn short(unit: &str) -> &str {
    let name = unit.strip_suffix(".service").unwrap_or(unit);
    name.strip_prefix("kinstall-").unwrap_or(name)
}

/// The journal has texts, and bytes where they are none.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            let bytes: Vec<u8> =
                bytes.iter().filter_map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn entries_are_read_whoever_wrote_them() {
        let own = Entry::parse(r#"{"__REALTIME_TIMESTAMP":"1763784000123456","_SYSTEMD_UNIT":"kinstall-kubelet.service","MESSAGE":"Pod is Ready"}"#).unwrap();
        assert_eq!((own.unit.as_str(), own.message.as_str()), ("kubelet", "Pod is Ready"));
        assert_eq!(own.time(), "2025-11-22T04:00:00.123Z");
        let systemds = Entry::parse(
            r#"{"__REALTIME_TIMESTAMP":"1","_SYSTEMD_UNIT":"init.scope","UNIT":"ssh.service","MESSAGE":[72,105,255]}"#,
        )
        .unwrap();
        assert_eq!((systemds.unit.as_str(), systemds.message.as_str()), ("ssh", "Hi\u{fffd}"));
        assert_eq!(Entry::parse("Failed to add filter for units"), None);
        assert!(own.has("pod") && own.has("Pod") && !own.has("POD"));
    }
}
