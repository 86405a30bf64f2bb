//! etcd's words in ours.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Error, KeyValue, Revision};

/// What is added to etcd's revisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset(pub u64);

impl Offset {
    pub fn ours(self, theirs: i64) -> Revision {
        theirs.max(0).cast_unsigned() + self.0
    }

    /// 0 for a revision from before the store was made.
    pub fn theirs(self, ours: Revision) -> i64 {
        i64::try_from(ours.saturating_sub(self.0)).unwrap_or(i64::MAX)
    }
}

/// Objects lie below `/`; whatever else etcd holds is not ours to show.
pub fn is_object(key: &[u8]) -> bool {
    key.first() == Some(&b'/')
}

/// `None` for a key that is not text; we never write such.
pub fn key_of(kv: &etcd_client::KeyValue) -> Option<Arc<str>> {
    kv.key_str().ok().map(Arc::from)
}

pub fn key_value(kv: &etcd_client::KeyValue, offset: Offset) -> Option<KeyValue> {
    Some(KeyValue {
        key: key_of(kv)?,
        value: Bytes::copy_from_slice(kv.value()),
        create_revision: offset.ours(kv.create_revision()),
        mod_revision: offset.ours(kv.mod_revision()),
    })
}

/// What a failed call means.
pub enum Failure {
    /// Another member, or the same a moment later, may do it. A write may have happened nevertheless.
    Passing(String),
    Final(Error),
}

/// gRPC's codes: etcd `api/v3rpc/rpctypes/error.go`.
pub fn failure(error: etcd_client::Error) -> Failure {
    /// `google.golang.org/grpc/codes`
    const RESOURCE_EXHAUSTED: i32 = 8;
    const OUT_OF_RANGE: i32 = 11;
    const PASSING: [i32; 5] = [1, 2, 4, 13, 14];
    let etcd_client::Error::GRpcStatus(status) = &error else {
        return Failure::Passing(error.to_string());
    };
    let message = status.message();
    match i32::from(status.code()) {
        OUT_OF_RANGE if message.contains("compacted") => Failure::Final(Error::Compacted { requested: 0, oldest: 0 }),
        RESOURCE_EXHAUSTED if message.contains("space exceeded") => Failure::Final(Error::Unavailable(
            "etcd's space quota is used up. delete objects that nobody needs: deletions are still taken, their space is given back \
             within ten minutes, and writes go on"
                .into(),
        )),
        // too many requests
        RESOURCE_EXHAUSTED => Failure::Passing(message.to_owned()),
        code if PASSING.contains(&code) => Failure::Passing(message.to_owned()),
        _ => Failure::Final(Error::Unavailable(format!("etcd refuses: {message}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_go_both_ways() {
        let offset = Offset(1000);
        assert_eq!((offset.ours(7), offset.theirs(1007), offset.theirs(12)), (1007, 7, 0));
    }
}
