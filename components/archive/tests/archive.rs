//! An archive is read back, and never when it is damaged, cut, or of somebody else.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use archive::dump::{Checker, Encoder};
use archive::{About, FORMAT, Key, Origin, STORE, Seal, StoreSummary, Unseal, Writer, extract, verify};

fn about() -> About {
    let cluster = Origin { name: "lab".into(), id: "1".into() };
    About { format: FORMAT, cluster, version: "0".into(), created: "now".into(), made_on: "here".into() }
}

fn dump() -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), 9).unwrap();
    encoder.record("/a", b"value", 3, 9).unwrap();
    zstd::encode_all(&encoder.finish().unwrap()[..], 1).unwrap()
}

fn sealed(seal: &Seal, large: usize) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), seal, &about()).unwrap();
    writer.file("operator/cluster.json", b"{}").unwrap();
    writer.file("operator/empty", b"").unwrap();
    writer.begin(STORE);
    writer.write_all(&dump()).unwrap();
    writer.end().unwrap();
    writer.store(StoreSummary { objects: 1, revision: 9 });
    writer.begin("volumes/h1.tar.zst");
    let bytes: Vec<u8> = (0..large).map(|index| (index % 251) as u8).collect();
    writer.write_all(&bytes).unwrap();
    let stream = writer.end().unwrap();
    assert_eq!(stream.parts as usize, large.div_ceil(8 << 20));
    writer.finish().unwrap().0
}

#[test]
fn what_was_put_in_comes_out_with_the_right_key_only() {
    let (key, other) = (Key::generate(), Key::generate());
    let bytes = sealed(&Seal::to([key.public().as_str()]).unwrap(), (20 << 20) + 5);
    let unseal = Unseal::identities(&key.file()).unwrap();
    let found = verify(&bytes[..], &unseal).unwrap();
    assert_eq!((found.about, found.contents.store), (about(), Some(StoreSummary { objects: 1, revision: 9 })));

    let directory = tempfile::tempdir().unwrap();
    extract(&bytes[..], &unseal, directory.path()).unwrap();
    let volumes = std::fs::read(directory.path().join("volumes/h1.tar.zst")).unwrap();
    assert!(volumes.len() == (20 << 20) + 5 && volumes[1000] == (1000 % 251) as u8);
    assert_eq!(std::fs::read(directory.path().join("operator/empty")).unwrap(), b"");
    let mut checker = Checker::default();
    let store = std::fs::read(directory.path().join(STORE)).unwrap();
    checker.write_all(&zstd::decode_all(&store[..]).unwrap()).unwrap();
    assert_eq!(checker.finish().unwrap().objects, 1);

    let told = |unseal: &Unseal| verify(&bytes[..], unseal).unwrap_err().to_string();
    assert!(told(&Unseal::identities(&other.file()).unwrap()).contains("not sealed to this key"));
    assert!(told(&Unseal::passphrase("x".into())).contains("--identity"));
    assert!(!bytes.windows(7).any(|window| window == b"cluster"), "nothing of it can be read without the key");
}

#[test]
fn damage_anywhere_is_told() {
    let key = Key::generate();
    let bytes = sealed(&Seal::to([key.public().as_str()]).unwrap(), 100_000);
    let unseal = Unseal::identities(&key.file()).unwrap();
    for at in [10, 120, 260, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(verify(&damaged[..], &unseal).is_err(), "a changed byte {at} of {}", bytes.len());
    }
    for length in [0, 100, 300, bytes.len() / 2, bytes.len() - 1] {
        assert!(verify(&bytes[..length], &unseal).is_err(), "cut to {length} of {}", bytes.len());
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(verify(&longer[..], &unseal).is_err(), "something follows");
}

#[test]
fn a_passphrase_opens_what_it_sealed() {
    let bytes = sealed(&Seal::passphrase("correct horse".into()), 10);
    assert!(verify(&bytes[..], &Unseal::passphrase("correct horse".into())).is_ok());
    let wrong = verify(&bytes[..], &Unseal::passphrase("battery".into())).unwrap_err().to_string();
    assert!(wrong.contains("passphrase is wrong"), "{wrong}");
    let key = Unseal::identities(&Key::generate().file()).unwrap();
    assert!(verify(&bytes[..], &key).unwrap_err().to_string().contains("--passphrase-file"));
}
