//! What expressions cost: estimated when they are written, counted when they run. The rules are cel-go's and apiserver's, so that what is
//! accepted upstream is accepted here.

pub mod estimate;
pub mod runtime;

/// Estimated cost of one rule of a CustomResourceDefinition, at most.
pub const RULE_ESTIMATE_LIMIT: u64 = 10_000_000;
/// Estimated cost of all rules of a CustomResourceDefinition, at most.
pub const CRD_ESTIMATE_LIMIT: u64 = 100_000_000;
/// Cost of one evaluation, at most.
pub const CALL_LIMIT: u64 = 1_000_000;
/// Cost of everything evaluated for one object, at most.
pub const BUDGET: u64 = 10_000_000;
/// Cost of the match conditions of one webhook or policy, at most.
pub const MATCH_CONDITIONS_BUDGET: u64 = BUDGET / 4;

const STRING_TRAVERSAL: f64 = 0.1;
const REGEX_LENGTH: f64 = 0.25;
pub(crate) const LIST_BASE: u64 = 10;
pub(crate) const MAP_BASE: u64 = 30;
pub(crate) const STRUCT_BASE: u64 = 40;
const AUTHORIZATION_CHECK: u64 = 350_000;

/// A range; sums and products saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub min: u64,
    pub max: u64,
}

/// Sizes are ranges too.
pub type Size = Cost;

const UNKNOWN: Size = Size { min: 0, max: u64::MAX };

impl Cost {
    pub const fn fixed(cost: u64) -> Self {
        Cost { min: cost, max: cost }
    }

    pub fn plus(self, other: Self) -> Self {
        Cost { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub fn times(self, other: Self) -> Self {
        Cost { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub fn scaled(self, factor: f64) -> Self {
        Cost { min: scale(self.min, factor), max: scale(self.max, factor) }
    }

    pub fn union(self, other: Self) -> Self {
        Cost { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// Rounded up; conversion from floating point saturates.
fn scale(value: u64, factor: f64) -> u64 {
    (value as f64 * factor).ceil() as u64
}
