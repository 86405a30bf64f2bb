//! The files: one SQLite database that holds the newest value of every live key.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use crate::mirror::Memory;
use crate::{Error, KeyValue, Result, Revision};

/// Raised when the tables change; a newer file is refused instead of misread.
const FORMAT: i64 = 1;

pub const FILE: &str = "store.db";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS kv (
        key TEXT NOT NULL UNIQUE,
        value BLOB NOT NULL,
        create_revision INTEGER NOT NULL,
        mod_revision INTEGER NOT NULL
    );
";

pub struct Database {
    connection: Connection,
}

impl Database {
    pub fn open(dir: &Path) -> Result<Self> {
        create_private_dir(dir).map_err(|error| Error::Unavailable(format!("{}: {error}", dir.display())))?;
        let path = dir.join(FILE);
        check_log(&log_of(&path))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(|error| told(&error))?;
        let mut database = Self { connection };
        database.prepare().map_err(|error| match error {
            Error::Corrupt(why) => Error::Corrupt(format!("{}: {why}; restore it from a backup", path.display())),
            other => other,
        })?;
        if let Err(error) = reserve(&log_of(&path)) {
            // nothing is wrong but that the first writes are slower
            tracing::warn!("cannot make room for the store's log: {error}");
        }
        Ok(database)
    }

    fn prepare(&mut self) -> Result<()> {
        let connection = &self.connection;
        // Exclusive: a second control plane on the same files would be a second truth.
        for (name, value) in
            [("locking_mode", "EXCLUSIVE"), ("journal_mode", "WAL"), ("synchronous", "FULL"), ("cache_size", "-2048")]
        {
            connection.pragma_update(None, name, value).map_err(|error| told(&error))?;
        }
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| told(&error))?;
        if verdict != "ok" {
            return Err(Error::Corrupt(verdict));
        }
        connection.execute_batch(SCHEMA).map_err(|error| told(&error))?;
        match self.meta("format")? {
            Some(FORMAT) => Ok(()),
            Some(other) => Err(Error::Unavailable(format!(
                "the store has format {other}, this version reads format {FORMAT}: use the version that wrote it"
            ))),
            None => self
                .connection
                .execute("INSERT INTO meta VALUES ('format', ?1), ('revision', 0)", [FORMAT])
                .map(|_| ())
                .map_err(|error| told(&error)),
        }
    }

    fn meta(&self, name: &str) -> Result<Option<i64>> {
        match self.connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)) {
            Ok(value) => Ok(Some(value)),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            Err(error) => Err(told(&error)),
        }
    }

    pub fn load(&mut self) -> Result<Memory> {
        let revision = self.meta("revision")?.unwrap_or(0);
        let mut statement = self
            .connection
            .prepare("SELECT key, value, create_revision, mod_revision FROM kv")
            .map_err(|error| told(&error))?;
        let rows = statement
            .query_map([], |row| {
                let key: Arc<str> = row.get::<_, String>(0)?.into();
                Ok(KeyValue {
                    key,
                    value: row.get::<_, Vec<u8>>(1)?.into(),
                    create_revision: row.get::<_, i64>(2)?.cast_unsigned(),
                    mod_revision: row.get::<_, i64>(3)?.cast_unsigned(),
                })
            })
            .map_err(|error| told(&error))?;
        let mut live = BTreeMap::new();
        for row in rows {
            let kv = row.map_err(|error| told(&error))?;
            live.insert(kv.key.clone(), kv);
        }
        Ok(Memory::restored(live, revision.cast_unsigned()))
    }

    /// Writes the last value of every changed key (`None`: deleted) in one durable transaction.
    pub fn commit(&mut self, changed: &HashMap<Arc<str>, Option<KeyValue>>, revision: Revision) -> Result<()> {
        let work = || -> rusqlite::Result<()> {
            let transaction = self.connection.transaction()?;
            {
                let mut put = transaction.prepare_cached(
                    "INSERT INTO kv VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO UPDATE SET
                     value = excluded.value, create_revision = excluded.create_revision, mod_revision = excluded.mod_revision",
                )?;
                let mut delete = transaction.prepare_cached("DELETE FROM kv WHERE key = ?1")?;
                for (key, kv) in changed {
                    match kv {
                        Some(kv) => put.execute(params![
                            &**key,
                            &*kv.value,
                            kv.create_revision.cast_signed(),
                            kv.mod_revision.cast_signed()
                        ])?,
                        None => delete.execute([&**key])?,
                    };
                }
                transaction
                    .prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'revision'")?
                    .execute([revision.cast_signed()])?;
            }
            transaction.commit()
        };
        let mut work = work;
        work().map_err(|error| told(&error))
    }
}

impl Database {
    /// See [`crate::Store::defragment`].
    pub fn defragment(&mut self, at_least: u64) -> Result<u64> {
        let pragma = |name: &str| -> Result<u64> {
            let value: i64 =
                self.connection.pragma_query_value(None, name, |row| row.get(0)).map_err(|error| told(&error))?;
            Ok(value.max(0).cast_unsigned())
        };
        let (pages, free, size) = (pragma("page_count")?, pragma("freelist_count")?, pragma("page_size")?);
        if free * 2 < pages || free * size < at_least.max(1) {
            return Ok(0);
        }
        // the log holds the new file until it is brought into the old one's place
        self.connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").map_err(|error| told(&error))?;
        Ok(free * size)
    }
}

/// Before SQLite reads the log: it would take damage for the log's end and begin it anew.
fn check_log(log: &Path) -> Result<()> {
    match super::log::lost_commits(log) {
        Ok(None) => Ok(()),
        Ok(Some(commits)) => Err(Error::Corrupt(format!(
            "{} is damaged, and {commits} commits follow the damage; restore the store from a backup",
            log.display()
        ))),
        Err(error) => Err(Error::Unavailable(format!("cannot read {}: {error}", log.display()))),
    }
}

/// SQLite's write-ahead log of a database file.
pub fn log_of(database: &Path) -> PathBuf {
    database.with_extension("db-wal")
}

/// Writes zeros behind the log's end, up to the length at which SQLite begins it anew (a thousand pages). A commit that makes a
/// file longer waits for the file system's journal, milliseconds; one that overwrites waits for its own blocks only. What does
/// not continue the log SQLite does not read.
fn reserve(log: &Path) -> std::io::Result<()> {
    const LENGTH: u64 = 1024 * (4096 + 24);
    let mut file = std::fs::OpenOptions::new().append(true).open(log)?;
    let missing = LENGTH.saturating_sub(file.metadata()?.len());
    std::io::copy(&mut std::io::repeat(0).take(missing), &mut file)?;
    Ok(())
}

fn create_private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// SQLite's errors as the operator should read them.
fn told(error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Corrupt(error.to_string()),
        Some(ErrorCode::DiskFull) => Error::Unavailable("the disk is full; free some space".into()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::Unavailable("another process has the store open; stop it first".into())
        }
        _ => Error::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_log_has_room_before_the_first_write_and_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_of(&dir.path().join(FILE));
        let mut database = Database::open(dir.path()).unwrap();
        let room = std::fs::metadata(&log).unwrap().len();
        assert!(room > 4 * 1024 * 1024, "{room}");
        let kv = KeyValue { key: "/a".into(), value: b"1"[..].into(), create_revision: 1, mod_revision: 1 };
        database.commit(&HashMap::from([(kv.key.clone(), Some(kv))]), 1).unwrap();
        assert_eq!(std::fs::metadata(&log).unwrap().len(), room);
        // as after a crash: nobody closed it
        let copy = tempfile::tempdir().unwrap();
        for file in [dir.path().join(FILE), log] {
            std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
        let mut after = Database::open(copy.path()).unwrap();
        let memory = after.load().unwrap();
        assert_eq!((memory.revision(), memory.get("/a").unwrap().mod_revision), (1, 1));
        assert_eq!(std::fs::metadata(log_of(&copy.path().join(FILE))).unwrap().len(), room);
    }
}
