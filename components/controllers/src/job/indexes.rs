//! Completion indexes: sets written as `1,3-5,7`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use crate::core::meta;

pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

pub type Indexes = BTreeSet<i32>;

/// Indexes below `limit`; what does not parse is skipped.
pub fn parse(text: &str, limit: i32) -> Indexes {
    let mut result = Indexes::new();
    for part in text.split(',').filter(|it| !it.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            result.extend(first.max(0)..=last.min(limit - 1));
        }
    }
    result
}

pub fn format(indexes: &Indexes) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let text = |(first, last): &(i32, i32)| {
        if first == last {
            first.to_string()
        } else if first + 1 == *last {
            format!("{first},{last}")
        } else {
            format!("{first}-{last}")
        }
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

pub fn of_pod(pod: &Pod) -> Option<i32> {
    meta::annotation(&pod.metadata, COMPLETION_INDEX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let indexes = parse("1,3-5,7,9-20", 10);
        assert_eq!(indexes, Indexes::from([1, 3, 4, 5, 7, 9]));
        assert_eq!(format(&indexes), "1,3-5,7,9");
        assert_eq!(format(&Indexes::from([0, 1])), "0,1");
        assert_eq!(format(&Indexes::new()), "");
    }
}
