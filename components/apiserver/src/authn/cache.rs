//! Tokens that were believed: a signature costs a hundred times what finding it here does.
//!
//! Bounded by two generations in each shard: when the young one is full it becomes the old one, and what nobody asked for since is
//! forgotten with the old one. Keys are digests, so the memory holds no tokens.

use std::{collections::HashMap, sync::Arc};

use aws_lc_rs::digest;
use parking_lot::Mutex;

use super::Accepted;

const SHARDS: usize = 16;
/// Entries of one generation of one shard: 8192 tokens together.
const GENERATION: usize = 256;

type Digest = [u8; 32];

#[derive(Default)]
struct Generations {
    young: HashMap<Digest, Arc<Accepted>>,
    old: HashMap<Digest, Arc<Accepted>>,
}

#[derive(Default)]
pub struct TokenCache([Mutex<Generations>; SHARDS]);

fn digest_of(token: &str) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    out
}

impl TokenCache {
    fn shard(&self, digest: &Digest) -> &Mutex<Generations> {
        &self.0[usize::from(digest[0]) % SHARDS]
    }

    pub fn get(&self, token: &str) -> Option<Arc<Accepted>> {
        let digest = digest_of(token);
        let mut shard = self.shard(&digest).lock();
        if let Some(accepted) = shard.young.get(&digest) {
            return Some(accepted.clone());
        }
        let accepted = shard.old.remove(&digest)?;
        shard.put(digest, accepted.clone());
        Some(accepted)
    }

    pub fn put(&self, token: &str, accepted: Accepted) {
        let digest = digest_of(token);
        self.shard(&digest).lock().put(digest, Arc::new(accepted));
    }
}

impl Generations {
    fn put(&mut self, digest: Digest, accepted: Arc<Accepted>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, accepted);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn remembers_what_is_asked_for_and_forgets_the_rest() {
        let cache = TokenCache::default();
        let accepted = |user: &str| Accepted {
            identity: Arc::new(Identity::new(user, [""; 0])),
            audiences: Vec::new(),
            until: 0,
            proofs: Vec::new(),
        };
        cache.put("kept", accepted("kept"));
        for n in 0..SHARDS * GENERATION * 4 {
            cache.put(&n.to_string(), accepted("other"));
            if n % 64 == 0 {
                assert_eq!(cache.get("kept").unwrap().identity.user, "kept");
            }
        }
        assert!(cache.get("0").is_none());
        let of = |shard: &Mutex<Generations>| {
            let shard = shard.lock();
            shard.young.len() + shard.old.len()
        };
        let held: usize = cache.0.iter().map(of).sum();
        assert!(held <= 2 * SHARDS * GENERATION, "{held}");
    }
}
