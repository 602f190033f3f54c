//! Holds SM3, HMAC-SM3 and SM2 keys to vectors that others published.
//!
//! The vectors are read where `PIAOGEN_DATA` says, or in the data folder beside the workspace;
//! where there is none, each test says so and passes.

use piaogen_crypto::{sm2, sm3};
use std::path::PathBuf;

fn read(path: &str) -> Option<String> {
    let beside = std::env::current_dir().expect("a folder to be in").join("../../shared/data");
    let file = std::env::var_os("PIAOGEN_DATA").map_or(beside, PathBuf::from).join(path);
    match std::fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) => {
            eprintln!("SKIPPED: {}: {error}; set PIAOGEN_DATA", file.display());
            None
        }
    }
}

/// The vectors of one of OpenSSL's `evp` files: the values after `name =` in blocks.
fn evp_blocks(text: &str) -> Vec<Vec<(&str, &str)>> {
    text.split("\n\n")
        .map(|block| {
            block
                .lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.split_once(" = "))
                .collect()
        })
        .collect()
}

fn field<'a>(block: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    block.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
}

/// A value in quotes is text, any other is hex.
fn value(text: &str) -> Vec<u8> {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(text) => text.as_bytes().to_vec(),
        None => hex::decode(text).expect("an unquoted value is hex"),
    }
}

#[test]
fn sm3_of_tongsuo() {
    let Some(text) = read("sm-vectors/tongsuo/evpmd_sm3.txt") else { return };
    let mut count = 0;
    for block in evp_blocks(&text) {
        let Some("SM3") = field(&block, "Digest") else { continue };
        let input = value(field(&block, "Input").unwrap());
        let expected = value(field(&block, "Output").unwrap());
        let repeats = field(&block, "Count").map_or(1, |count| count.parse().unwrap());
        assert_eq!(sm3::hash(&input.repeat(repeats))[..], expected[..], "{block:?}");
        count += 1;
    }
    assert!(count >= 8, "{count} vectors");
}

#[test]
fn hmac_of_tongsuo() {
    let Some(text) = read("sm-vectors/tongsuo/evpmac_sm3.txt") else { return };
    let mut count = 0;
    for block in evp_blocks(&text) {
        let Some("SM3") = field(&block, "Algorithm") else { continue };
        let [key, input, output] =
            ["Key", "Input", "Output"].map(|n| value(field(&block, n).unwrap()));
        assert_eq!(sm3::hmac(&key, &input)[..], output[..], "{block:?}");
        count += 1;
    }
    assert_eq!(count, 4);
}

#[test]
fn hmac_of_wycheproof() {
    let Some(text) = read("wycheproof-sm/testvectors_v1/hmac_sm3_test.json") else { return };
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut count = 0;
    for group in json["testGroups"].as_array().unwrap() {
        let tag_bytes = group["tagSize"].as_u64().unwrap() as usize / 8;
        for test in group["tests"].as_array().unwrap() {
            let [key, msg, tag] = ["key", "msg", "tag"]
                .map(|name| hex::decode(test[name].as_str().unwrap()).unwrap());
            let equal = sm3::hmac(&key, &msg)[..tag_bytes] == tag[..];
            assert_eq!(equal, test["result"] == "valid", "tcId {}", test["tcId"]);
            count += 1;
        }
    }
    assert_eq!(json["numberOfTests"], count);
}

#[test]
fn spki_of_rustcrypto() {
    let Some(pem) = read("sm-vectors/rustcrypto-sm2/pkcs8-public-key.pem") else { return };
    let key = sm2::PublicKey::from_spki_pem(&pem).unwrap();
    assert_eq!(
        hex::encode(key.to_uncompressed()),
        "0408d77ae04c01cc4c1104360dd8af6b6f7df334283d7c1a6afd5652407b87bee5\
         014e2a57c36c150d16324dc664e31e6432359609c4e79847a5b161c8c7364c8a"
    );
    assert_eq!(key.to_spki_pem(), pem);
}
