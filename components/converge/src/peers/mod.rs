//! Hosts of one run pass blobs on to each other, so that the operator's uplink is not the limit.
//!
//! Who asks proves that it knows the run's token, which never travels: one line comes with a number that is used once, one line
//! goes back with what is wanted and a proof made of both. Everything else is refused. What is passed on is no secret, and who
//! gets it believes nothing but the digest.
//!
//! Two forms: `whole` is the bytes, of a blob that is there from its first to its last, for a shell; `framed` is pieces, each behind
//! its length (four bytes, the highest first), also of a blob that still comes. A length of nothing says that there is more to
//! wait for.

mod fetch;
mod serve;

use std::time::Duration;

use hoststate::sha256_hex;

pub use fetch::Fetcher;
pub use serve::Share;

/// How long either side may say nothing.
const SILENT: Duration = Duration::from_secs(5);
/// How often who waits for a blob itself says that.
const WAITING: Duration = Duration::from_secs(1);

/// Nested, so that nothing can be put behind what was asked.
fn proof(token: &str, nonce: &str, sha256: &str) -> String {
    sha256_hex(format!("{token}{}", sha256_hex(format!("{token}{nonce}{sha256}").as_bytes())).as_bytes())
}
