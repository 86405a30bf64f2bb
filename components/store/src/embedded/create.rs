//! Making a store from what another one held.

use std::collections::HashMap;
use std::path::Path;

use super::database::{self, Database};
use crate::{Error, KeyValue, Revision};

/// Objects of one commit.
const GROUP: usize = 1000;

/// Makes a store in `dir`, which must hold none, with these objects; it goes on counting after `revision`. It is there only once
/// all of it is. Gives how many objects there were.
///
/// # Errors
/// The first error of `objects`, or why the store cannot be written.
pub fn create<E: From<Error>>(
    dir: &Path,
    revision: Revision,
    objects: impl IntoIterator<Item = std::result::Result<KeyValue, E>>,
) -> std::result::Result<u64, E> {
    let file = dir.join(database::FILE);
    if file.exists() {
        return Err(Error::Unavailable(format!("{} is there already", file.display())).into());
    }
    let scratch = dir.join("unfinished");
    gone(std::fs::remove_dir_all(&scratch)).map_err(|error| told(&scratch, &error))?;
    let mut database = Database::open(&scratch)?;
    let mut group = HashMap::new();
    let mut count = 0;
    for object in objects {
        let object = object?;
        count += 1;
        group.insert(object.key.clone(), Some(object));
        if group.len() == GROUP {
            database.commit(&group, revision)?;
            group.clear();
        }
    }
    database.commit(&group, revision)?;
    // closed: nothing is left in the log that a renamed file would miss
    drop(database);
    let rename = || -> std::io::Result<()> {
        std::fs::rename(scratch.join(database::FILE), &file)?;
        std::fs::remove_dir_all(&scratch)?;
        std::fs::File::open(dir)?.sync_all()
    };
    rename().map_err(|error| told(&file, &error))?;
    Ok(count)
}

fn gone(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn told(path: &Path, error: &std::io::Error) -> Error {
    Error::Unavailable(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Result;

    fn objects(count: u64) -> impl Iterator<Item = Result<KeyValue>> {
        (1..=count).map(|n| {
            let value = bytes::Bytes::from(format!("value {n}"));
            Ok(KeyValue { key: format!("/{n:06}").into(), value, create_revision: n, mod_revision: n })
        })
    }

    #[test]
    fn a_made_store_holds_everything_and_counts_on() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(create(dir.path(), 5_000_000, objects(2500)).unwrap(), 2500);
        let (found, revision) = super::super::contents(dir.path()).unwrap().unwrap();
        assert_eq!((found, revision), (objects(2500).map(Result::unwrap).collect(), 5_000_000));
        let twice = create(dir.path(), 1, objects(1));
        assert!(twice.unwrap_err().to_string().contains("already"), "what is there stays");
    }

    #[test]
    fn an_error_on_the_way_leaves_no_store() {
        let dir = tempfile::tempdir().unwrap();
        let broken = objects(1500).chain([Err(Error::Corrupt("cut off".into()))]);
        assert!(create(dir.path(), 1, broken).is_err());
        assert!(super::super::contents(dir.path()).unwrap().is_none());
        assert_eq!(create(dir.path(), 10, objects(3)).unwrap(), 3, "the next attempt begins anew");
    }
}
