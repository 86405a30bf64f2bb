//! When a CronJob's next Job is due: pure (upstream: pkg/controller/cronjob/utils.go).

use cron::Schedule;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// More missed starts than this are reported; only the last one is made up for in any case.
const MANY: i64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub at: Timestamp,
    /// Starts were missed for so long that somebody should look.
    pub many_missed: bool,
}

/// The most recent time at which a Job should have been started and was not.
pub fn due(cron_job: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<Due> {
    let mut earliest = cron_job.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0);
    if let Some(last) = cron_job.status.as_ref().and_then(|it| it.last_schedule_time.as_ref()) {
        earliest = last.0;
    }
    if let Some(seconds) = cron_job.spec.starting_deadline_seconds
        && let Ok(deadline) = now.checked_sub(SignedDuration::from_secs(seconds))
    {
        earliest = earliest.max(deadline);
    }
    let first = schedule.next_after(earliest, zone).filter(|first| *first <= now)?;
    let Some(second) = schedule.next_after(first, zone).filter(|second| *second <= now) else {
        return Some(Due { at: first, many_missed: false });
    };
    // Jump near the end instead of walking through months of minutes. Regular schedules land just before the last start.
    let step = (second.as_second() - first.as_second()).max(1);
    let missed = (now.as_second() - first.as_second()) / step + 1;
    let near = first.as_second() + (missed - 2).max(0) * step;
    let mut at = first;
    let mut candidate = Timestamp::from_second(near).ok().and_then(|near| schedule.next_after(near, zone));
    while let Some(next) = candidate.filter(|next| *next <= now) {
        at = next;
        candidate = schedule.next_after(next, zone);
    }
    Some(Due { at, many_missed: missed > MANY })
}

/// Whether a start comes too late to be made up for.
pub fn too_late(cron_job: &CronJob, at: Timestamp, now: Timestamp) -> bool {
    cron_job.spec.starting_deadline_seconds.is_some_and(|seconds| at.as_second() + seconds < now.as_second())
}

/// One start, one name: a second attempt at the same start cannot make a second Job.
pub fn job_name(cron_job: &str, at: Timestamp) -> String {
    format!("{cron_job}-{}", at.as_second() / 60)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn cron_job(last: Option<&str>, deadline: Option<i64>) -> CronJob {
        serde_json::from_value(json!({
            "metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"schedule": "", "jobTemplate": {}, "startingDeadlineSeconds": deadline},
            "status": {"lastScheduleTime": last},
        }))
        .unwrap()
    }

    #[test]
    fn the_last_missed_start_is_made_up_for() {
        let hourly = Schedule::parse("0 * * * *").unwrap();
        let due = |last, deadline, now| due(&cron_job(last, deadline), &hourly, &TimeZone::UTC, at(now));
        assert_eq!(due(None, None, "2026-01-01T00:59:59Z"), None);
        assert_eq!(
            due(None, None, "2026-01-01T01:00:00Z"),
            Some(Due { at: at("2026-01-01T01:00:00Z"), many_missed: false })
        );
        assert_eq!(due(Some("2026-01-01T01:00:00Z"), None, "2026-01-01T01:30:00Z"), None);
        assert_eq!(
            due(Some("2026-01-01T01:00:00Z"), None, "2026-01-01T05:30:00Z").unwrap().at,
            at("2026-01-01T05:00:00Z")
        );
        assert_eq!(
            due(Some("2026-01-01T01:00:00Z"), None, "2026-03-01T05:30:00Z"),
            Some(Due { at: at("2026-03-01T05:00:00Z"), many_missed: true })
        );
        assert_eq!(due(Some("2026-01-01T01:00:00Z"), Some(60), "2026-01-01T05:30:00Z"), None);
    }

    #[test]
    fn deadlines_and_names() {
        let late = cron_job(None, Some(10));
        assert!(too_late(&late, at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:11Z")));
        assert!(!too_late(&cron_job(None, None), at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z")));
        assert_eq!(job_name("c", at("1970-01-01T01:00:30Z")), "c-60");
    }
}
