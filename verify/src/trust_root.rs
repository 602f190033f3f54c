//! The trust root: what a verifier holds beforehand (`FORMAT.md` section 10).
//!
//! It is small enough to be printed, and whoever holds the genesis file can make it himself. One of
//! a later epoch comes of an epoch proof (section 7.1).
//!
//! Invariants
//! - Validators and witnesses are valid keys, none twice.
//! - No more witnesses are demanded than are known.

use crate::epoch::set_to_json;
use crate::genesis::Genesis;
use crate::header::{VALIDATORS_MAX, ValidatorSet};
use crate::json::{JSON_MAX, Json, JsonError, Result, object, parse, wrong};
use crate::witness::{WITNESSES_MAX, Witness, name_from_json};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::PublicKey;

/// The key `format` of a trust root.
pub const FORMAT: &str = "piaogen/trust-root/1";

/// What receipts of one chain are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustRoot {
    /// The name of the chain.
    pub chain_id: String,
    /// The digest of its genesis file.
    pub chain: Digest,
    /// The epoch from which on the validators are trusted.
    pub epoch: u64,
    /// The validators whose quorum makes a block of that epoch final.
    pub validators: ValidatorSet,
    /// The witnesses that the verifier knows.
    pub witnesses: Vec<Witness>,
    /// How many of them must have cosigned.
    pub witness_quorum: u32,
}

impl TrustRoot {
    /// A trust root of the first epoch, without witnesses.
    pub fn of_set(chain_id: &str, chain: Digest, validators: ValidatorSet) -> TrustRoot {
        let chain_id = chain_id.to_string();
        let (epoch, witnesses, witness_quorum) = (0, Vec::new(), 0);
        TrustRoot { chain_id, chain, epoch, validators, witnesses, witness_quorum }
    }

    /// The trust root of a chain whose genesis file is at hand.
    pub fn of_genesis(genesis: &Genesis) -> TrustRoot {
        TrustRoot::of_set(&genesis.file.chain_id, genesis.chain, genesis.validators.clone())
    }

    /// The file.
    pub fn to_json(&self) -> String {
        let mut members = alloc::vec![
            ("format", Json::of(FORMAT)),
            ("chain_id", Json::of(self.chain_id.as_str())),
            ("chain", Json::hex(&self.chain)),
            ("epoch", Json::Int(self.epoch.into())),
            ("validators", set_to_json(&self.validators)),
        ];
        if !self.witnesses.is_empty() {
            let witness = |witness: &Witness| {
                let key = Json::hex(&witness.key.to_compressed());
                object([("name", Json::of(witness.name.as_str())), ("public_key", key)])
            };
            members.push(("witnesses", Json::List(self.witnesses.iter().map(witness).collect())));
            members.push(("witness_quorum", Json::Int(self.witness_quorum.into())));
        }
        Json::Object(members.into_iter().map(|(key, json)| (key.to_string(), json)).collect())
            .pretty()
    }

    /// Reads the file.
    pub fn from_json(text: &str) -> core::result::Result<TrustRoot, JsonError> {
        let json = parse(text, JSON_MAX)?;
        let known =
            ["format", "chain_id", "chain", "epoch", "validators", "witnesses", "witness_quorum"];
        let o = json.object(&known)?;
        o.expect_format(FORMAT)?;
        let validators = o.need("validators", |json| {
            let keys = json.list(VALIDATORS_MAX, key_from_json)?;
            match ValidatorSet::new(keys) {
                Some(set) => Ok(set),
                None => wrong(alloc::format!("must be 1 to {VALIDATORS_MAX} different keys")),
            }
        })?;
        let chain_id = o.need("chain_id", |json| match json.text()? {
            name if crate::genesis::is_chain_id(name) => Ok(name.to_string()),
            _ => wrong("must be 1 to 32 of a-z, 0-9, hyphen"),
        })?;
        let witnesses = o.maybe("witnesses", witnesses_from_json)?.unwrap_or_default();
        let witness_quorum = match (witnesses.len() as u32, o.has("witness_quorum")) {
            (0, false) => 0,
            (0, true) => return wrong("has a witness_quorum and no witnesses"),
            (known, _) => o.need("witness_quorum", |json| match json.int::<u32>()? {
                wanted if wanted <= known => Ok(wanted),
                wanted => wrong(alloc::format!("is {wanted}, and {known} witnesses are known")),
            })?,
        };
        Ok(TrustRoot {
            chain_id,
            chain: o.need("chain", Json::array)?,
            epoch: o.need("epoch", Json::int)?,
            validators,
            witnesses,
            witness_quorum,
        })
    }
}

fn key_from_json(json: &Json) -> Result<PublicKey> {
    PublicKey::from_compressed(&json.array()?).or_else(|_| wrong("is no public key"))
}

fn witnesses_from_json(json: &Json) -> Result<Vec<Witness>> {
    let witnesses = json.list(WITNESSES_MAX, |json| {
        let o = json.object(&["name", "public_key"])?;
        let key = o.need("public_key", key_from_json)?;
        Ok(Witness { name: o.need("name", name_from_json)?, key })
    })?;
    let repeated = |(i, one): (usize, &Witness)| {
        witnesses[..i].iter().any(|other| other.name == one.name || other.key == one.key)
    };
    if witnesses.is_empty() || witnesses.iter().enumerate().any(repeated) {
        return wrong("must be 1 to 32 witnesses of different names and keys, or be left out");
    }
    Ok(witnesses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::validators;

    #[test]
    fn it_round_trips_and_bad_ones_are_refused() {
        let root = TrustRoot::of_set("cn-test-1", [7; 32], validators(4).1);
        let text = root.to_json();
        assert_eq!(TrustRoot::from_json(&text), Ok(root.clone()));
        let first = hex::encode(root.validators.keys()[0].to_compressed());
        let second = hex::encode(root.validators.keys()[1].to_compressed());
        assert!(TrustRoot::from_json(&text.replace(&first, &second)).is_err());
        assert!(TrustRoot::from_json(&text.replace(&first, &first.to_uppercase())).is_err());
        assert!(TrustRoot::from_json(&text.replace(&first[2..], &"f".repeat(64))).is_err());
        assert!(TrustRoot::from_json(&text.replace("cn-test-1", "CN")).is_err());
        assert!(TrustRoot::from_json(&text.replace("\"epoch\": 0,", "")).is_err());
    }

    #[test]
    fn witnesses_have_different_names_and_keys_and_no_more_are_demanded_than_known() {
        let (keys, set) = validators(3);
        let mut root = TrustRoot { epoch: 9, ..TrustRoot::of_set("cn-test-1", [7; 32], set) };
        root.witnesses = ["a.example", "b.example"]
            .into_iter()
            .zip(&keys)
            .map(|(name, key)| Witness { name: name.into(), key: key.public_key() })
            .collect();
        root.witness_quorum = 2;
        let text = root.to_json();
        assert_eq!(TrustRoot::from_json(&text), Ok(root.clone()));
        let second = hex::encode(keys[1].public_key().to_compressed());
        let first = hex::encode(keys[0].public_key().to_compressed());
        let (list, witnesses) = text.split_once("\"witnesses\"").unwrap();
        let twice = alloc::format!("{list}\"witnesses\"{}", witnesses.replace(&second, &first));
        assert!(TrustRoot::from_json(&twice).is_err());
        for (good, bad) in [
            ("b.example", "a.example"),
            ("b.example", "b example"),
            ("\"witness_quorum\": 2", "\"witness_quorum\": 3"),
            (",\n  \"witness_quorum\": 2", ""),
        ] {
            let changed = text.replace(good, bad);
            assert_ne!(changed, text);
            assert!(TrustRoot::from_json(&changed).is_err(), "{bad}");
        }
        root.witnesses.clear();
        root.witness_quorum = 0;
        let plain = root.to_json();
        assert!(TrustRoot::from_json(&plain.replace("9,", "9, \"witness_quorum\": 0,")).is_err());
        assert!(TrustRoot::from_json(&plain.replace("9,", "9, \"witnesses\": [],")).is_err());
    }
}
