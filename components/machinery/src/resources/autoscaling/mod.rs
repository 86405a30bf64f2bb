//! HorizontalPodAutoscalers: one stored object (autoscaling/v2), served also as autoscaling/v1.

mod columns;
mod v1;
mod v2;
mod validate;

use super::{PLAIN, Resource, STATUS, Strategy, View, row, writing};

const KIND: (&str, &str) = ("HorizontalPodAutoscaler", "HorizontalPodAutoscalerList");
const NAMES: (&str, &str) = ("horizontalpodautoscalers", "horizontalpodautoscaler");

const STRATEGY: Strategy =
    Strategy { prepare_create: writing::drop_status, prepare_update: writing::keep_status, ..PLAIN };

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        short_names: &["hpa"],
        categories: &["all"],
        subresources: &[STATUS],
        columns: columns::V2,
        strategy: Strategy {
            default: v2::defaults,
            validate_create: validate::create,
            validate_update: validate::update,
            validate_status_update: |new, _| validate::status(new),
            ..STRATEGY
        },
        ..row(("autoscaling", "v2"), KIND, NAMES, "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler")
    },
    Resource {
        short_names: &["hpa"],
        categories: &["all"],
        subresources: &[STATUS],
        columns: columns::V1,
        view: Some(View {
            group: "autoscaling",
            version: "v2",
            plural: "horizontalpodautoscalers",
            from_stored: v1::from_v2,
            to_stored: v1::to_v2,
        }),
        strategy: Strategy {
            default: v1::defaults,
            validate_create: |new| validate::create(&v1::as_v2(new)),
            validate_update: |new, old| validate::update(&v1::as_v2(new), &v1::as_v2(old)),
            validate_status_update: |new, _| validate::status(&v1::as_v2(new)),
            ..STRATEGY
        },
        ..row(("autoscaling", "v1"), KIND, NAMES, "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler")
    },
];

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
