//! Reads certificates made by the simple writer beside this file and by OpenSSL, good ones and bad.
//!
//! Where there is no `openssl` command that can do SM2, its tests say so and pass.

#![cfg(feature = "certificate")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Draft, oid, pem, tlv};
use piaogen_crypto::certificate::{CERTIFICATE_MAX, CHAIN_MAX};
use piaogen_crypto::certificate::{Certificate, CertificateError, check_chain};
use piaogen_crypto::sm2::SecretKey;
use std::path::Path;
use std::process::Command;

const SELLER: &[(&[u8], &str)] = &[
    (oid::ORGANIZATION, "示例纸业有限公司"),
    (oid::ORGANIZATION_IDENTIFIER, "91440300708461136T"),
    (oid::SERIAL_NUMBER, "7"),
    (oid::COMMON_NAME, "示例, 纸业"),
];
const MIDDLE: &[(&[u8], &str)] = &[(oid::COMMON_NAME, "Example CA 1")];
const ROOT: &[(&[u8], &str)] = &[(oid::COMMON_NAME, "Example Root")];

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

fn seller() -> Draft {
    Draft::new(SELLER, MIDDLE, &key(3).public_key())
}

fn middle() -> Draft {
    Draft::new(MIDDLE, ROOT, &key(2).public_key()).ca(Some(0))
}

fn root() -> Draft {
    Draft::new(ROOT, ROOT, &key(1).public_key()).ca(Some(1))
}

fn read(der: &[u8]) -> Certificate {
    Certificate::from_der(der).unwrap()
}

fn chain() -> [Certificate; 3] {
    [seller().sign(&key(2)), middle().sign(&key(1)), root().sign(&key(1))].map(|der| read(&der))
}

#[test]
fn a_certificate_says_whose_key_it_is() {
    let [seller, middle, root] = chain();
    assert_eq!(seller.key(), &key(3).public_key());
    let subject = seller.subject();
    assert_eq!(subject.organization().as_deref(), Some("示例纸业有限公司"));
    assert_eq!(subject.organization_identifier().as_deref(), Some("91440300708461136T"));
    assert_eq!(subject.serial_number().as_deref(), Some("7"));
    assert_eq!(subject.common_name().as_deref(), Some("示例, 纸业"));
    assert!(subject.text().starts_with("CN=示例\\, 纸业,"), "{}", subject.text());
    assert_eq!(seller.issuer(), middle.subject());
    assert_eq!(seller.number(), "1234");
    assert_eq!(seller.validity(), (1_767_225_600, 2_713_910_400));
    assert_eq!(seller.validity_text().1, "2056-01-01T00:00:00Z");
    assert!(seller.may_sign() && !middle.may_sign());
    assert!(root.is_self_issued() && !middle.is_self_issued());
    // Two of a kind are none: nobody could say which one is meant.
    let twice = [SELLER, &[(oid::COMMON_NAME, "another")]].concat();
    let twice = read(&Draft::new(&twice, MIDDLE, &key(3).public_key()).sign(&key(2)));
    assert_eq!(twice.subject().common_name(), None);
}

#[test]
fn chains_hold() {
    let chain = chain();
    for length in 1..=3 {
        assert_eq!(check_chain(&chain[..length]), Ok(()));
    }
    let alone = Draft::new(SELLER, SELLER, &key(3).public_key());
    assert_eq!(check_chain(&[read(&alone.sign(&key(3)))]), Ok(()));
    let forged = read(&alone.sign(&key(4)));
    assert_eq!(check_chain(&[forged]), Err(CertificateError::Signature { place: 0 }));
    assert_eq!(check_chain(&[]), Err(CertificateError::Count { count: 0 }));
    let many = vec![chain[2].clone(); CHAIN_MAX + 1];
    assert_eq!(check_chain(&many), Err(CertificateError::Count { count: CHAIN_MAX + 1 }));
}

#[test]
fn who_may_not_issue_is_refused() {
    let [seller, middle, root] = chain();
    let found = |chain: &[&Certificate]| {
        check_chain(&chain.iter().map(|c| (*c).clone()).collect::<Vec<_>>()).unwrap_err()
    };
    assert_eq!(found(&[&seller, &root]), CertificateError::OtherIssuer { place: 0 });
    let impostor = read(&self::middle().sign(&key(9)));
    assert_eq!(found(&[&seller, &impostor, &root]), CertificateError::Signature { place: 1 });
    let mut other_key = self::middle();
    other_key.spki = key(8).public_key().to_spki_der();
    let other_key = read(&other_key.sign(&key(1)));
    assert_eq!(found(&[&seller, &other_key, &root]), CertificateError::Signature { place: 0 });
    // A seller's certificate issues nothing, whatever it signs.
    let buyer = Draft::new(MIDDLE, SELLER, &key(5).public_key()).sign(&key(3));
    let not_ca = CertificateError::NotCa { place: 1 };
    assert_eq!(found(&[&read(&buyer), &seller, &middle]), not_ca);
    // Neither does a CA whose key is not for certificates.
    let no_usage = read(&self::middle().usage(0x80).sign(&key(1)));
    assert_eq!(found(&[&seller, &no_usage]), not_ca);
    // The CA in the middle may have none below it.
    let third = Draft::new(ROOT, MIDDLE, &key(6).public_key()).ca(None);
    let below = read(&Draft::new(SELLER, ROOT, &key(3).public_key()).sign(&key(6)));
    let too_long = [&below, &read(&third.sign(&key(2))), &middle];
    assert_eq!(found(&too_long), CertificateError::NotCa { place: 2 });
    let mut other = self::seller();
    other.algorithm = oid::ECDSA_WITH_SHA256;
    let oid = "1.2.840.10045.4.3.2".into();
    let found = found(&[&read(&other.sign(&key(2))), &middle]);
    assert_eq!(found, CertificateError::Algorithm { place: 0, oid });
}

#[test]
fn keys_for_encryption_are_refused() {
    let refused = |draft: Draft| Certificate::from_der(&draft.sign(&key(2))).unwrap_err();
    // keyEncipherment, dataEncipherment, keyAgreement.
    assert_eq!(refused(seller().usage(0x38)), CertificateError::Usage);
    assert!(read(&seller().usage(0x40).sign(&key(2))).may_sign());
    let mut unknown = seller();
    unknown.extensions.push((oid::NAME_CONSTRAINTS, true, tlv(0x30, &[])));
    assert_eq!(refused(unknown.clone()), CertificateError::Extension { oid: "2.5.29.30".into() });
    unknown.extensions[1].1 = false;
    read(&unknown.sign(&key(2)));
    let mut twice = seller();
    twice.extensions.push(twice.extensions[0].clone());
    assert_eq!(refused(twice), CertificateError::Form);
    let mut off_curve = seller();
    *off_curve.spki.last_mut().unwrap() ^= 1;
    assert_eq!(refused(off_curve), CertificateError::NotSm2);
}

#[test]
fn no_bit_can_be_altered() {
    let good = seller().sign(&key(2));
    let issuer = read(&middle().sign(&key(1)));
    for bit in 0..8 * good.len() {
        let mut altered = good.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        let holds = Certificate::from_der(&altered)
            .is_ok_and(|altered| check_chain(&[altered, issuer.clone()]).is_ok());
        assert!(!holds, "bit {bit}");
    }
}

#[test]
fn cut_and_huge_input_is_refused() {
    let good = seller().sign(&key(2));
    for length in 0..good.len() {
        assert!(Certificate::from_der(&good[..length]).is_err(), "{length} bytes");
        assert!(Certificate::read(&good[..length]).is_err(), "{length} bytes");
    }
    let longer = [&good[..], &[0]].concat();
    assert_eq!(Certificate::from_der(&longer), Err(CertificateError::Form));
    let length = CERTIFICATE_MAX + 1;
    let huge = Certificate::from_der(&vec![0x30; length]);
    assert_eq!(huge, Err(CertificateError::TooLong { length, limit: CERTIFICATE_MAX }));
    let huge = Certificate::read(&vec![b'-'; 16 << 20]);
    assert!(matches!(huge, Err(CertificateError::TooLong { .. })));
}

#[test]
fn files_in_pem_hold_chains() {
    let ders = chain().map(|certificate| certificate.as_der().to_vec());
    let text: String =
        ders.iter().map(|der| format!("about\n{}", pem("CERTIFICATE", der))).collect();
    assert_eq!(Certificate::read(text.as_bytes()).unwrap(), chain());
    assert_eq!(Certificate::read(&ders[0]).unwrap(), chain()[..1]);
    let many = pem("CERTIFICATE", &ders[2]).repeat(CHAIN_MAX + 1);
    let count = CHAIN_MAX + 1;
    assert_eq!(Certificate::read(many.as_bytes()), Err(CertificateError::Count { count }));
    let secret = key(1).to_pkcs8_pem();
    for other in [secret.as_str(), "", "-----BEGIN -----END -----", "-----BEGIN CERTIFICATE-----"] {
        assert_eq!(Certificate::read(other.as_bytes()), Err(CertificateError::Form), "{other}");
    }
}

/// Runs `openssl` in `folder`; whether it succeeded.
fn openssl(folder: &Path, arguments: &str) -> bool {
    Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// A folder with the certificates of a CA, and of a seller, a P-256 key and an RSA key signed by
/// it; nothing where OpenSSL cannot make them.
fn folder_of_openssl() -> Option<tempfile::TempDir> {
    const ID: &str = "distid:1234567812345678";
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let run = |arguments: &str| openssl(folder.path(), arguments);
    let request = "req -utf8 -config openssl.cnf -nodes";
    std::fs::write(folder.path().join("openssl.cnf"), "[req]\ndistinguished_name=dn\n[dn]\n")
        .unwrap();
    std::fs::write(folder.path().join("leaf.cnf"), "keyUsage=critical,digitalSignature\n").unwrap();
    let made = run("genpkey -algorithm SM2 -out ca.key")
        && run(&format!(
            "{request} -x509 -new -key ca.key -sm3 -sigopt {ID} -subj /C=CN/CN=CA -days 30 -out \
             ca.pem -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
        ));
    if !made {
        eprintln!("SKIPPED: no openssl command that can make an SM2 certificate");
        return None;
    }
    for (name, kind) in [
        ("seller", "-algorithm SM2"),
        ("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        ("rsa", "-algorithm RSA"),
    ] {
        // A request signed with SM2 wants the id again; the others do not know it.
        let id = if name == "seller" { format!("-sm3 -sigopt {ID}") } else { "-sha256".into() };
        let vfy = if name == "seller" { format!("-vfyopt {ID}") } else { String::new() };
        assert!(run(&format!("genpkey {kind} -out {name}.key")));
        assert!(run(&format!(
            "{request} -new -key {name}.key {id} -subj \
             /C=CN/O=示例/organizationIdentifier=91440300708461136T/CN={name} -out {name}.csr"
        )));
        let sign = format!(
            "x509 -req -in {name}.csr {vfy} -CA ca.pem -CAkey ca.key -sm3 -sigopt {ID} -days 30 \
             -set_serial 5 -extfile leaf.cnf -out {name}.pem"
        );
        assert!(run(&sign.replace("  ", " ")), "{name}");
    }
    assert!(run("x509 -in seller.pem -outform DER -out seller.der"));
    Some(folder)
}

#[test]
fn certificates_of_openssl_are_read() {
    let Some(folder) = folder_of_openssl() else { return };
    let load = |name: &str| Certificate::read(&std::fs::read(folder.path().join(name)).unwrap());
    let (seller, ca) = (load("seller.pem").unwrap(), load("ca.pem").unwrap());
    assert_eq!(load("seller.der").unwrap(), seller);
    let subject = seller[0].subject();
    assert_eq!(subject.organization().as_deref(), Some("示例"));
    assert_eq!(subject.organization_identifier().as_deref(), Some("91440300708461136T"));
    let secret = std::fs::read(folder.path().join("seller.key")).unwrap();
    assert_eq!(seller[0].key(), &SecretKey::from_pkcs8(&secret).unwrap().public_key());
    assert_eq!(check_chain(&[seller[0].clone(), ca[0].clone()]), Ok(()));
    assert_eq!(load("p256.pem"), Err(CertificateError::NotSm2));
    assert_eq!(load("rsa.pem"), Err(CertificateError::NotSm2));
    let [_, _, ours] = chain();
    let wrong = check_chain(&[seller[0].clone(), ours]);
    assert_eq!(wrong, Err(CertificateError::OtherIssuer { place: 0 }));
}

#[test]
fn openssl_accepts_the_chains_of_these_tests() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    if !openssl(folder.path(), "genpkey -algorithm SM2 -out probe.key") {
        return eprintln!("SKIPPED: no openssl command that can generate an SM2 key");
    }
    for (name, certificate) in ["seller.pem", "middle.pem", "root.pem"].iter().zip(chain()) {
        let text = pem("CERTIFICATE", certificate.as_der());
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    // OpenSSL gives the id to the first signature of a chain only, so one link at a time.
    let link = |issuer: &str, subject: &str| {
        let id = "-vfyopt distid:1234567812345678 -attime 1800000000 -partial_chain";
        openssl(folder.path(), &format!("verify {id} -CAfile {issuer}.pem {subject}.pem"))
    };
    assert!(link("middle", "seller") && link("root", "middle") && link("root", "root"));
    assert!(!link("root", "seller"));
}
