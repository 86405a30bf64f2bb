//! What is done to a cluster under load, in the order in which it is done, and what applications may notice of it.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::cluster::Cluster;
use super::report::Borne;

/// What the issue asks for.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    NothingFails,
    /// At most so many seconds in which requests fail.
    Seconds(f64),
    /// An application of one pod has to bear it.
    None,
}

use Aim::{NothingFails, Seconds};

impl Aim {
    pub fn is_met(self, borne: &Borne) -> bool {
        match self {
            NothingFails => borne.failed == 0,
            Seconds(seconds) => borne.outage <= seconds,
            Aim::None => true,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NothingFails => f.pad("none fails"),
            Seconds(seconds) => f.pad(&format!("≤ {seconds} s")),
            Aim::None => f.pad("–"),
        }
    }
}

pub struct Act {
    pub name: &'static str,
    pub stateless: Aim,
    pub wordpress: Aim,
}

/// How a disturbance went.
#[derive(Default)]
pub struct Course {
    /// When its acts began, but for the first.
    pub turns: Vec<Instant>,
    /// The host that was lost with it: nothing that is sent to its address is counted.
    pub lost: Option<u32>,
}

/// One thing that is done, of one act or several.
pub struct Disturbance {
    pub acts: &'static [Act],
    pub run: fn(&Cluster) -> Result<Course>,
}

const fn act(name: &'static str, stateless: Aim, wordpress: Aim) -> Act {
    Act { name, stateless, wordpress }
}

pub const ALL: [Disturbance; 4] = [
    Disturbance {
        acts: &[act("components alone are upgraded, on every host", NothingFails, NothingFails)],
        run: |cluster| cluster.upgrade("KINSTALL_BUNDLE_NEXT", "100%", None),
    },
    Disturbance {
        acts: &[
            act("control planes are upgraded, their runtime too", NothingFails, NothingFails),
            // the database goes with its worker and comes back on it
            act("workers are drained and upgraded", NothingFails, Aim::None),
        ],
        run: |cluster| cluster.upgrade("KINSTALL_BUNDLE_RUNTIME", "1", Some("upgrading workers")),
    },
    Disturbance {
        acts: &[act("the leading control plane loses power", NothingFails, NothingFails)],
        run: |cluster| {
            let host = cluster.leading()?;
            cluster.lab.host(host).poweroff()?;
            sleep(cluster.after_a_loss());
            Ok(Course::default())
        },
    },
    Disturbance {
        acts: &[act("a worker loses power", Seconds(5.0), Aim::None)],
        run: |cluster| {
            let host = cluster.without_database()?;
            cluster.lab.host(host).poweroff()?;
            sleep(cluster.after_a_loss());
            Ok(Course { lost: Some(host), ..Course::default() })
        },
    },
];

impl Disturbance {
    pub fn is_called(&self, only: &str) -> bool {
        self.acts.iter().any(|act| act.name.contains(only))
    }

    /// The place in `acts` of the one that was on.
    pub fn act_at(&self, course: &Course, at: Instant) -> usize {
        course.turns.iter().filter(|turn| **turn <= at).count().min(self.acts.len() - 1)
    }
}

/// Before and after a disturbance.
pub const CALM: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_follow_each_other_at_their_turns() {
        let begun = Instant::now();
        let course = Course { turns: vec![begun + Duration::from_secs(5)], lost: None };
        let at = |seconds| ALL[1].act_at(&course, begun + Duration::from_secs(seconds));
        assert_eq!([at(0), at(4), at(5), at(60)], [0, 0, 1, 1]);
        assert_eq!(ALL[0].act_at(&Course::default(), begun), 0);
    }

    #[test]
    fn aims_are_judged() {
        let borne = |failed, outage| Borne { sent: 9, failed, outage, ..Borne::default() };
        assert!(NothingFails.is_met(&borne(0, 0.0)) && !NothingFails.is_met(&borne(1, 0.0)));
        assert!(Seconds(5.0).is_met(&borne(300, 4.9)) && !Seconds(5.0).is_met(&borne(2, 5.1)));
        assert!(Aim::None.is_met(&borne(9, 60.0)));
    }
}
