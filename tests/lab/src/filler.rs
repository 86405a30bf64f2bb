//! What takes the room on a host's disk.

use anyhow::Result;

use crate::Host;

/// Leaves some hundred KiB, as a log that fills a disk would; what is written meanwhile takes its part.
pub fn nearly_fill(host: &Host) -> Result<()> {
    let script = "for n in 1 2 3 4 5 6 7 8 9; do
        free=$(df --output=avail -B1 / | tail -1); [ $free -gt 600000 ] || exit 0
        fallocate -l $((free - 300000)) /filler.$n
    done; exit 1";
    host.exec(script)?.ok().map(drop)
}

/// Leaves nothing.
pub fn fill(host: &Host) -> Result<()> {
    nearly_fill(host)?;
    let script = "! dd if=/dev/zero of=/filler.last bs=4k 2>/run/filler && grep -q 'No space left' /run/filler";
    host.exec(script)?.ok().map(drop)
}

/// Gives it all back; fine where nothing was taken.
pub fn free(host: &Host) -> Result<()> {
    host.exec("rm -f /filler.*")?.ok().map(drop)
}
