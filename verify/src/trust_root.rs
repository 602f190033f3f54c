//! The trust root: what a verifier holds beforehand (`FORMAT.md` section 10).
//!
//! It is small enough to be printed, and whoever holds the genesis file can make it himself.
//!
//! Invariants
//! - Validators are valid keys, none twice.

use crate::genesis::Genesis;
use crate::header::{VALIDATORS_MAX, ValidatorSet};
use crate::json::{JSON_MAX, Json, JsonError, Result, object, parse, wrong};
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
    /// The validators whose quorum makes a block final.
    pub validators: ValidatorSet,
}

impl TrustRoot {
    /// The trust root of a chain whose genesis file is at hand.
    pub fn of_genesis(genesis: &Genesis) -> TrustRoot {
        TrustRoot {
            chain_id: genesis.file.chain_id.clone(),
            chain: genesis.chain,
            validators: genesis.validators.clone(),
        }
    }

    /// The file.
    pub fn to_json(&self) -> String {
        let keys: Vec<_> = self.validators.keys().iter().map(PublicKey::to_compressed).collect();
        object([
            ("format", Json::of(FORMAT)),
            ("chain_id", Json::of(self.chain_id.as_str())),
            ("chain", Json::hex(&self.chain)),
            ("validators", Json::hexes(&keys)),
        ])
        .pretty()
    }

    /// Reads the file.
    pub fn from_json(text: &str) -> core::result::Result<TrustRoot, JsonError> {
        let json = parse(text, JSON_MAX)?;
        let o = json.object(&["format", "chain_id", "chain", "validators"])?;
        o.expect_format(FORMAT)?;
        let validators = o.need("validators", |json| {
            let keys = json.list(VALIDATORS_MAX, key_from_json)?;
            match ValidatorSet::new(keys) {
                Some(set) => Ok(set),
                None => wrong("must be 1 to 1024 different keys"),
            }
        })?;
        let chain_id = o.need("chain_id", |json| match json.text()? {
            name if crate::genesis::is_chain_id(name) => Ok(name.to_string()),
            _ => wrong("must be 1 to 32 of a-z, 0-9, hyphen"),
        })?;
        Ok(TrustRoot { chain_id, chain: o.need("chain", Json::array)?, validators })
    }
}

fn key_from_json(json: &Json) -> Result<PublicKey> {
    PublicKey::from_compressed(&json.array()?).or_else(|_| wrong("is no public key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::validators;

    #[test]
    fn it_round_trips_and_bad_ones_are_refused() {
        let root =
            TrustRoot { chain_id: "cn-test-1".into(), chain: [7; 32], validators: validators(4).1 };
        let text = root.to_json();
        assert_eq!(TrustRoot::from_json(&text), Ok(root.clone()));
        let first = hex::encode(root.validators.keys()[0].to_compressed());
        let second = hex::encode(root.validators.keys()[1].to_compressed());
        assert!(TrustRoot::from_json(&text.replace(&first, &second)).is_err());
        assert!(TrustRoot::from_json(&text.replace(&first, &first.to_uppercase())).is_err());
        assert!(TrustRoot::from_json(&text.replace(&first[2..], &"f".repeat(64))).is_err());
        assert!(TrustRoot::from_json(&text.replace("cn-test-1", "CN")).is_err());
    }
}
