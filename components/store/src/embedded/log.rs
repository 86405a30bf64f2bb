//! Whether SQLite's write-ahead log was damaged after it had been written.
//!
//! SQLite reads the log up to the first frame whose checksum is wrong and takes that for its end: right after a power cut, where
//! only what nobody was told of can be missing. Damage in the middle looks the same to it and would silently take back
//! acknowledged writes. They are told apart by what follows: a commit begins only after the one before it is on the disk, so
//! that two commits behind a wrong frame mean that the frame had been right (format: sqlite.org `fileformat2.html`, section 4).

use std::io::Read;
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const MAGIC: u32 = 0x377f_0682;

/// How many whole commits lie behind the first wrong frame; `None` if the log is as a power cut may leave it.
pub fn lost_commits(log: &Path) -> std::io::Result<Option<usize>> {
    let mut bytes = Vec::new();
    match std::fs::File::open(log) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(behind_damage(&bytes).filter(|commits| *commits > 1))
}

fn behind_damage(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER)?;
    let magic = word(header, 0, true);
    if magic & !1 != MAGIC {
        // empty, or zeros that make room
        return None;
    }
    let big_endian = magic & 1 == 1;
    let page = word(header, 8, true) as usize;
    if !(512..=65536).contains(&page) {
        return None;
    }
    let mut sum = checksum((0, 0), &header[..24], big_endian);
    if sum != (word(header, 24, true), word(header, 28, true)) {
        return None;
    }
    let salt = &header[16..24];
    let mut broken = false;
    let mut commits = 0;
    for frame in bytes[HEADER..].chunks_exact(FRAME_HEADER + page) {
        // frames of an earlier round of the log, and room that was never used
        if frame.get(8..16) != Some(salt) {
            if broken {
                continue;
            }
            broken = true;
            continue;
        }
        if !broken {
            sum = checksum(checksum(sum, &frame[..8], big_endian), &frame[FRAME_HEADER..], big_endian);
            broken = sum != (word(frame, 16, true), word(frame, 20, true));
            continue;
        }
        commits += usize::from(word(frame, 4, true) != 0);
    }
    broken.then_some(commits)
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let Some(bytes) = bytes.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()) else { return 0 };
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

fn checksum((mut one, mut two): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        one = one.wrapping_add(word(pair, 0, big_endian)).wrapping_add(two);
        two = two.wrapping_add(word(pair, 4, big_endian)).wrapping_add(one);
    }
    (one, two)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::database::{Database, FILE, log_of};
    use super::*;
    use crate::KeyValue;
    use std::collections::HashMap;

    /// A store that was not closed, with ten commits in its log.
    fn copied() -> (tempfile::TempDir, std::path::PathBuf, usize) {
        let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut database = Database::open(dir.path()).unwrap();
        for n in 1..=10 {
            let value = vec![b'x'; 3000].into();
            let kv = KeyValue { key: format!("/{n}").into(), value, create_revision: n, mod_revision: n };
            database.commit(&HashMap::from([(kv.key.clone(), Some(kv))]), n).unwrap();
        }
        let log = log_of(&dir.path().join(FILE));
        for file in [dir.path().join(FILE), log.clone()] {
            std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
        let bytes = std::fs::read(&log).unwrap();
        let page = word(&bytes, 8, true) as usize + FRAME_HEADER;
        let used = bytes[HEADER..].chunks_exact(page).take_while(|frame| frame[8..16] == bytes[16..24]).count();
        let log = log_of(&copy.path().join(FILE));
        (copy, log, HEADER + used * page)
    }

    #[test]
    fn a_torn_end_is_no_damage() {
        let (dir, log, end) = copied();
        assert_eq!(lost_commits(&log).unwrap(), None);
        let mut bytes = std::fs::read(&log).unwrap();
        bytes[end - 100..].fill(0);
        std::fs::write(&log, &bytes).unwrap();
        assert_eq!(lost_commits(&log).unwrap(), None);
        assert_eq!(Database::open(dir.path()).unwrap().load().unwrap().revision(), 9);
    }

    #[test]
    fn damage_in_the_middle_is_told_instead_of_forgetting_what_follows() {
        let (dir, log, end) = copied();
        let mut bytes = std::fs::read(&log).unwrap();
        bytes[end / 2] ^= 1;
        std::fs::write(&log, &bytes).unwrap();
        assert!(lost_commits(&log).unwrap().unwrap() > 1);
        let refused = Database::open(dir.path()).err().unwrap().to_string();
        assert!(refused.contains("store.db-wal") && refused.contains("backup"), "{refused}");
    }
}
