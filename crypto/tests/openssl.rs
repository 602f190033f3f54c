//! Exchanges keys and signatures with OpenSSL, in both directions.
//!
//! Where there is no `openssl` command that can do SM2, each test says so and passes.

use piaogen_crypto::sm2::{PublicKey, SecretKey, Signature, verify};
use std::path::Path;
use std::process::Command;

const MESSAGE: &[u8] = b"exchange with openssl";
const SM2_OPTIONS: [&str; 5] = ["-rawin", "-digest", "sm3", "-pkeyopt", "distid:1234567812345678"];

/// Runs `openssl` in `folder`; whether it succeeded.
fn openssl(folder: &Path, arguments: &[&str]) -> bool {
    Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// A folder with a key that OpenSSL made, or nothing where it cannot.
fn folder_with_key() -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    if openssl(folder.path(), &["genpkey", "-algorithm", "SM2", "-out", "theirs.pem"]) {
        return Some(folder);
    }
    eprintln!("SKIPPED: no openssl command that can generate an SM2 key");
    None
}

#[test]
fn we_verify_what_openssl_signs() {
    let Some(folder) = folder_with_key() else { return };
    let path = folder.path();
    assert!(openssl(path, &["pkey", "-in", "theirs.pem", "-pubout", "-out", "theirs.pub"]));
    std::fs::write(path.join("message"), MESSAGE).unwrap();
    let sign = ["pkeyutl", "-sign", "-inkey", "theirs.pem", "-in", "message", "-out", "signature"];
    assert!(openssl(path, &[&sign[..], &SM2_OPTIONS].concat()));

    let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
    let public = PublicKey::from_spki_pem(&read("theirs.pub")).unwrap();
    let secret = SecretKey::from_pkcs8_pem(&read("theirs.pem")).unwrap();
    assert_eq!(secret.public_key(), public);
    assert_eq!(public.to_spki_pem(), read("theirs.pub"));
    let signature = Signature::from_der(&std::fs::read(path.join("signature")).unwrap()).unwrap();
    assert!(verify(&public, MESSAGE, &signature));
    assert!(!verify(&public, b"another message", &signature));
}

#[test]
fn openssl_verifies_what_we_sign() {
    let Some(folder) = folder_with_key() else { return };
    let path = folder.path();
    let key = SecretKey::from_bytes(&[0x42; 32]).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(path.join(name), bytes).unwrap();
    write("ours.pem", key.to_pkcs8_pem().as_bytes());
    write("ours.pub", key.public_key().to_spki_pem().as_bytes());
    write("message", MESSAGE);
    write("signature", &key.sign(MESSAGE).to_der());

    assert!(openssl(path, &["pkey", "-in", "ours.pem", "-pubout", "-out", "derived.pub"]));
    assert!(openssl(path, &["pkey", "-in", "ours.pem", "-check", "-noout"]));
    let derived = std::fs::read_to_string(path.join("derived.pub")).unwrap();
    assert_eq!(derived, key.public_key().to_spki_pem());
    let accepts = |message: &str| {
        let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", "ours.pub", "-in", message];
        openssl(path, &[&verify[..], &["-sigfile", "signature"], &SM2_OPTIONS].concat())
    };
    assert!(accepts("message"));
    write("another", b"another message");
    assert!(!accepts("another"));
}
