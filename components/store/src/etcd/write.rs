//! One transaction of ours as one of etcd's.

use etcd_client::{Compare, CompareOp, TxnOp, TxnOpResponse, TxnResponse};

use super::connection::{Attempts, Members};
use super::translate::{Failure, Offset, key_value};
use crate::{Error, Expect, KeyValue, Op, Result, Revision, Txn};

/// Committed when it returns. A member that fails in the middle may have committed; the transaction is then sent again: its
/// expectations keep it from happening twice, and what stands there tells whether it had happened.
pub async fn commit(members: &Members, offset: Offset, txn: &Txn) -> Result<Revision> {
    let mut attempts = Attempts::new();
    let mut uncertain = false;
    loop {
        let request = request(txn, offset);
        match members.attempt(|mut client| async move { client.txn(request).await }).await {
            Ok(answer) if answer.succeeded() => return Ok(offset.ours(revision(&answer))),
            Ok(answer) => return judge(txn, &actual(&answer, offset), uncertain),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(why)) => {
                uncertain = true;
                if !attempts.again().await {
                    return Err(Error::Unavailable(format!("etcd does not answer (write): {why}")));
                }
            }
        }
    }
}

fn request(txn: &Txn, offset: Offset) -> etcd_client::Txn {
    let mut compares = Vec::with_capacity(txn.ops.len());
    let mut then = Vec::with_capacity(txn.ops.len());
    let mut otherwise = Vec::with_capacity(txn.ops.len());
    for op in &txn.ops {
        let (Op::Put { key, expect, .. } | Op::Delete { key, expect }) = op;
        compares.push(match expect {
            Expect::Absent => Compare::create_revision(key.as_str(), CompareOp::Equal, 0),
            // A revision from before the store was moved is 0 for etcd, which would mean absence.
            Expect::Revision(wanted) => match offset.theirs(*wanted) {
                0 => Compare::mod_revision(key.as_str(), CompareOp::Less, 0),
                wanted => Compare::mod_revision(key.as_str(), CompareOp::Equal, wanted),
            },
        });
        then.push(match op {
            Op::Put { key, value, .. } => TxnOp::put(key.as_str(), value.as_ref(), None),
            Op::Delete { key, .. } => TxnOp::delete(key.as_str(), None),
        });
        otherwise.push(TxnOp::get(key.as_str(), None));
    }
    etcd_client::Txn::new().when(compares).and_then(then).or_else(otherwise)
}

fn revision(answer: &TxnResponse) -> i64 {
    answer.header().map_or(0, etcd_client::ResponseHeader::revision)
}

/// What stands at each operation's key.
fn actual(answer: &TxnResponse, offset: Offset) -> Vec<Option<KeyValue>> {
    let found = |response: &TxnOpResponse| match response {
        TxnOpResponse::Get(get) => get.kvs().first().and_then(|kv| key_value(kv, offset)),
        _ => None,
    };
    answer.op_responses().iter().map(found).collect()
}

/// A refused transaction: whose expectation was not met. After an attempt with an unknown end: that one had succeeded if all of it
/// stands there. If something else does, nobody knows: it may have succeeded and been overwritten since, which others have seen.
fn judge(txn: &Txn, actual: &[Option<KeyValue>], uncertain: bool) -> Result<Revision> {
    if uncertain {
        return stands(txn, actual).ok_or_else(|| {
            let keys: Vec<&str> = txn.ops.iter().map(key).collect();
            Error::Unavailable(format!(
                "etcd lost its leader while {} was written; it has changed since, after this request or instead of it",
                keys.join(", ")
            ))
        });
    }
    for (op, actual) in txn.ops.iter().zip(actual) {
        let (Op::Put { key, expect, .. } | Op::Delete { key, expect }) = op;
        let met = match expect {
            Expect::Absent => actual.is_none(),
            Expect::Revision(wanted) => actual.as_ref().is_some_and(|kv| kv.mod_revision == *wanted),
        };
        if met {
            continue;
        }
        return Err(Error::Conflict { key: key.clone(), actual: actual.clone() });
    }
    Err(Error::Unavailable("etcd refused a transaction whose expectations are met".into()))
}

fn key(op: &Op) -> &str {
    let (Op::Put { key, .. } | Op::Delete { key, .. }) = op;
    key
}

/// The revision at which all of this transaction stands, if there is one.
fn stands(txn: &Txn, actual: &[Option<KeyValue>]) -> Option<Revision> {
    let mut revision = None;
    for (op, actual) in txn.ops.iter().zip(actual) {
        match (op, actual) {
            (Op::Put { value, .. }, Some(kv))
                if kv.value == *value && revision.is_none_or(|it| it == kv.mod_revision) =>
            {
                revision = Some(kv.mod_revision);
            }
            (Op::Delete { .. }, None) => {}
            _ => return None,
        }
    }
    revision
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn kv(key: &str, value: &str, revision: Revision) -> KeyValue {
        let value = bytes::Bytes::copy_from_slice(value.as_bytes());
        KeyValue { key: key.into(), value, create_revision: 1, mod_revision: revision }
    }

    fn put(key: &str, value: &str, expect: Expect) -> Op {
        Op::Put { key: key.into(), value: bytes::Bytes::copy_from_slice(value.as_bytes()), expect }
    }

    #[test]
    fn an_attempt_with_an_unknown_end_is_recognised() {
        let txn = Txn { ops: vec![put("/a", "1", Expect::Absent), put("/b", "2", Expect::Revision(3))] };
        let ours = [Some(kv("/a", "1", 9)), Some(kv("/b", "2", 9))];
        assert_eq!(judge(&txn, &ours, true).unwrap(), 9);
        assert!(matches!(judge(&txn, &ours, false), Err(Error::Conflict { key, .. }) if key == "/a"));
        let others = [Some(kv("/a", "1", 9)), Some(kv("/b", "2", 8))];
        assert!(matches!(judge(&txn, &others, false), Err(Error::Conflict { .. })));
        assert!(matches!(judge(&txn, &others, true), Err(Error::Unavailable(_))), "ours may have stood there before");
        let gone = Txn { ops: vec![Op::Delete { key: "/a".into(), expect: Expect::Revision(3) }] };
        assert!(matches!(judge(&gone, &[None], true), Err(Error::Unavailable(_))), "nobody knows whose deletion");
        assert!(matches!(judge(&gone, &[None], false), Err(Error::Conflict { actual: None, .. })));
    }
}
