//! Everything etcd holds, at one revision.

use std::collections::BTreeMap;

use etcd_client::GetOptions;

use super::connection::Members;
use super::translate::{Offset, is_object, key_value};
use crate::mirror::Memory;
use crate::{Error, Result};

/// Keys asked for at once.
const PAGE: i64 = 500;

/// The state as of the moment of the first page. What is compacted away meanwhile is read anew from the start.
pub async fn everything(members: &Members, offset: Offset) -> Result<Memory> {
    loop {
        match pages(members, offset).await {
            Err(Error::Compacted { .. }) => tracing::debug!("etcd was compacted while it was read"),
            other => return other,
        }
    }
}

async fn pages(members: &Members, offset: Offset) -> Result<Memory> {
    let mut live = BTreeMap::new();
    let mut from = vec![0];
    let mut revision = 0;
    loop {
        let options = GetOptions::new().with_from_key().with_limit(PAGE).with_revision(revision);
        let page = members
            .ask("all keys", |client| {
                let mut client = client.kv_client().max_decoding_message_size(usize::MAX);
                let (from, options) = (from.clone(), options.clone());
                async move { client.get(from, Some(options)).await }
            })
            .await?;
        if revision == 0 {
            revision = page.header().map_or(0, etcd_client::ResponseHeader::revision);
        }
        for kv in page.kvs().iter().filter(|kv| is_object(kv.key())) {
            if let Some(kv) = key_value(kv, offset) {
                live.insert(kv.key.clone(), kv);
            }
        }
        match page.kvs().last() {
            Some(last) if page.more() => {
                from = last.key().to_vec();
                from.push(0);
            }
            _ => return Ok(Memory::restored(live, offset.ours(revision))),
        }
    }
}
