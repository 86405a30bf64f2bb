//! A member's space: what it does not use is given back, and where its quota was used up it takes writes again.

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, Error, ResponseHeader, StatusResponse};

/// Defragments a member of which at least half, and at least so many bytes, hold nothing; gives how many bytes that was.
///
/// A member whose quota was used up keeps its cluster from writing until its alarm is taken back, whatever room there is. Nobody
/// writes then, so less than half is worth it, too. Where there is still no room the next write raises the alarm again.
pub async fn give_back(client: &mut Client, at_least: u64) -> Result<u64, Error> {
    let status = client.status().await?;
    let (size, used) = (status.db_size().max(0).cast_unsigned(), status.raft_used_db_size().max(0).cast_unsigned());
    let unused = size.saturating_sub(used);
    let member = status.header().map_or(0, ResponseHeader::member_id);
    let used_up = used_up(client, &status, member).await?;
    let worth_it = unused >= at_least.max(1) && (used_up || unused * 2 >= size);
    if worth_it {
        client.defragment().await?;
    }
    if used_up {
        let mut own = AlarmOptions::new();
        own.with_member(member);
        client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(own)).await?;
        tracing::warn!("etcd's space quota was used up; its member takes writes again as long as there is room");
    }
    Ok(if worth_it { unused } else { 0 })
}

/// Whether this member has raised the alarm. Its state tells whether anybody has, which costs etcd nothing.
async fn used_up(client: &mut Client, status: &StatusResponse, member: u64) -> Result<bool, Error> {
    if status.errors().is_empty() {
        return Ok(false);
    }
    let raised = client.alarm(AlarmAction::Get, AlarmType::Nospace, None).await?;
    Ok(raised.alarms().iter().any(|alarm| alarm.member_id() == member))
}
