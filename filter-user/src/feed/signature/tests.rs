use std::io::Cursor;

use minisign::KeyPair;

use super::*;

/// A key pair, and files that it signs.
struct Signer {
    keys: KeyPair,
}

impl Signer {
    fn new() -> Self {
        Self { keys: KeyPair::generate_unencrypted_keypair().unwrap() }
    }

    fn key(&self) -> Key {
        Key::parse(&self.keys.pk.to_base64()).unwrap()
    }

    fn sign(&self, content: &str, comment: &str) -> String {
        let content = Cursor::new(content.as_bytes());
        minisign::sign(None, &self.keys.sk, content, Some(comment), None).unwrap().into_string()
    }
}

#[test]
fn a_signature_is_of_one_key_and_one_content() {
    let signer = Signer::new();
    let signature = signer.sign("orders", "timestamp:7\tfile:f.jsonl");
    let key = signer.key();
    assert_eq!(key.check(b"orders", &signature, "f.jsonl"), Ok(Signed { time: Some(7) }));
    assert!(key.check(b"Orders", &signature, "f.jsonl").unwrap_err().starts_with("its signature does not hold"));
    assert!(Signer::new().key().check(b"orders", &signature, "f.jsonl").is_err());
    assert_eq!(
        key.check(b"orders", &signature, "g.jsonl").unwrap_err(),
        "it was signed under the name \"f.jsonl\", not \"g.jsonl\""
    );
    // The comment is signed, too.
    let forged = signature.replace("timestamp:7", "timestamp:8");
    assert_ne!(forged, signature);
    assert!(key.check(b"orders", &forged, "f.jsonl").is_err());
    assert!(key.check(b"orders", "junk", "f.jsonl").is_err());
    assert_eq!(key.check(b"", &signer.sign("", "no time"), "f.jsonl"), Ok(Signed { time: None }));
    assert!(Key::parse("junk").is_err());
}

#[test]
fn an_old_file_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.jsonl");
    let signer = Signer::new();
    let seal = Seal { key: signer.key(), newest: folder.path().join("state/f.signed") };
    let write = |content: &str, comment: &str| {
        fs::write(&file, content).unwrap();
        fs::write(beside(&file), signer.sign(content, comment)).unwrap();
    };
    let take = || {
        let (content, time) = seal.checked(&file).map_err(|error| error.to_string())?;
        time.map_or(Ok(()), |time| seal.taken(&file, time)).unwrap();
        Ok::<_, String>(String::from_utf8(content).unwrap())
    };
    fs::write(&file, "a").unwrap();
    assert_eq!(take().unwrap_err(), "it is not signed, and the feed's `signature` says that it must be");
    write("old", "timestamp:100\tfile:f.jsonl");
    assert_eq!(take().unwrap(), "old");
    write("new", "timestamp:200\tfile:f.jsonl");
    assert_eq!(take().unwrap(), "new");
    assert_eq!(take().unwrap(), "new");
    write("old", "timestamp:100\tfile:f.jsonl");
    assert!(take().unwrap_err().ends_with("before the one that was taken last, 200: this is an old file"));
    write("old", "no time");
    assert!(take().unwrap_err().contains("has no time"));
    // Another file of the same key has its own time.
    let other = folder.path().join("g.jsonl");
    fs::write(&other, "g").unwrap();
    fs::write(beside(&other), signer.sign("g", "timestamp:50\tfile:g.jsonl")).unwrap();
    assert!(seal.checked(&other).is_ok());
}
