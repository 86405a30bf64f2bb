//! What a namespace may use: ResourceQuota and LimitRange; names of resources.

mod limit_range;
pub(super) mod names;
mod quota;

pub(super) use limit_range::{defaults as limit_range_defaults, validate as limit_range};
pub(super) use quota::{
    request_and_limit, validate as quota, validate_status as quota_status, validate_update as quota_update,
};
