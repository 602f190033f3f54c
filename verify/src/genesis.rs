//! The genesis file: what everybody on a chain agrees on before the first block.
//!
//! Its exact bytes are the identity of the chain: their digest is in every signature and header, so
//! a record of one chain is no record of another.
//!
//! Invariants
//! - The digest is over the bytes of the file, never over a re-encoding.

use crate::header::{Header, VALIDATORS_MAX, ValidatorSet};
use crate::scheme::Scheme;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use piaogen_crypto::sm2::PublicKey;
use piaogen_crypto::{Digest, sm3};

/// The first line of every genesis file.
pub const FORMAT: &str = "piaogen/genesis/1";
/// Most partitions.
pub const PARTITIONS_MAX: u32 = 4_096;

/// May register, rotate and revoke others, and issue invoices of any seller.
pub const ROLE_AUTHORITY: u64 = 1;
/// May issue invoices of which it is the seller.
pub const ROLE_ISSUER: u64 = 2;
/// May hold and finance, and say that it paid.
pub const ROLE_BANK: u64 = 4;
/// May freeze and unfreeze.
pub const ROLE_COURT: u64 = 8;
/// May bring invoices of other systems.
pub const ROLE_IMPORTER: u64 = 16;
/// May be seller and buyer, and act as such.
pub const ROLE_COMPANY: u64 = 32;
/// May ask, and have that on record.
pub const ROLE_AUDITOR: u64 = 64;
/// May set policies; has no say in what happens to invoices.
pub const ROLE_GOVERNOR: u64 = 128;
/// All roles that exist.
pub const ROLES: &[(u64, &str)] = &[
    (ROLE_AUTHORITY, "authority"),
    (ROLE_ISSUER, "issuer"),
    (ROLE_BANK, "bank"),
    (ROLE_COURT, "court"),
    (ROLE_IMPORTER, "importer"),
    (ROLE_COMPANY, "company"),
    (ROLE_AUDITOR, "auditor"),
    (ROLE_GOVERNOR, "governor"),
];

/// A participant that is there from the beginning.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founder {
    /// Its id.
    pub party: String,
    /// Its name.
    pub name: String,
    /// Names of its roles.
    pub roles: Vec<String>,
    /// Its compressed public key in hex.
    pub public_key: String,
}

/// The content of a genesis file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisFile {
    /// [`FORMAT`].
    pub format: String,
    /// Name of the chain: 1–32 characters of a–z, 0–9 and hyphen.
    pub chain_id: String,
    /// When it was made, milliseconds since 1970: the time of block 0.
    pub time_ms: i64,
    /// Partitions of the topic `records`.
    pub partitions: u32,
    /// Compressed public keys of the validators, in hex.
    pub validators: Vec<String>,
    /// The first authorities.
    pub participants: Vec<Founder>,
    /// The schemes that the chain accepts.
    pub schemes: Vec<Scheme>,
    /// How far a record's time may lie after the time of the last block.
    pub clock_skew_ms: i64,
    /// Blocks in an epoch, until a governance record says otherwise: after so many the validator
    /// set may be another. Block 0 is not counted.
    #[serde(default = "epoch_blocks")]
    pub epoch_blocks: u64,
    /// How many authorities must sign what changes validators or authorities; where it is left out,
    /// more than half of those that there are at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_quorum: Option<u32>,
}

/// Blocks in an epoch where the genesis file does not say: a day at one block a second.
pub const EPOCH_BLOCKS: u64 = 86_400;
/// Most blocks in an epoch.
pub const EPOCH_BLOCKS_MAX: u64 = 1 << 32;

fn epoch_blocks() -> u64 {
    EPOCH_BLOCKS
}

/// A checked genesis.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// The digest of the file.
    pub chain: Digest,
    /// What the file says.
    pub file: GenesisFile,
    /// Its validators.
    pub validators: ValidatorSet,
    /// Its participants: id, name, roles, key.
    pub participants: Vec<(String, String, u64, PublicKey)>,
}

/// Why a genesis file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the genesis file is refused: {0}; correct the file, or make one with `piaogen genesis`")]
pub struct GenesisError(String);

impl Genesis {
    /// Reads and checks the bytes of a genesis file.
    pub fn parse(bytes: &[u8]) -> Result<Genesis, GenesisError> {
        let fail = |what: String| GenesisError(what);
        let file: GenesisFile =
            serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
        if file.format != FORMAT {
            return Err(fail(alloc::format!("format is {:?}, not {FORMAT:?}", file.format)));
        }
        if !is_chain_id(&file.chain_id) {
            return Err(fail("chain_id must be 1 to 32 of a-z, 0-9, hyphen".into()));
        }
        if !(1..=PARTITIONS_MAX).contains(&file.partitions) {
            let (n, limit) = (file.partitions, PARTITIONS_MAX);
            return Err(fail(alloc::format!("partitions = {n} is not within 1 to {limit}")));
        }
        if !(0..=86_400_000).contains(&file.clock_skew_ms) {
            return Err(fail("clock_skew_ms must be within 0 and a day".into()));
        }
        if !(1..=EPOCH_BLOCKS_MAX).contains(&file.epoch_blocks) {
            return Err(fail("epoch_blocks must be within 1 and 2^32".into()));
        }
        let keys = file.validators.iter().map(|text| key(text)).collect::<Result<Vec<_>, _>>()?;
        let validators = ValidatorSet::new(keys).ok_or_else(|| {
            fail(alloc::format!("validators must be 1 to {VALIDATORS_MAX} different keys"))
        })?;
        let participants =
            file.participants.iter().map(founder).collect::<Result<Vec<_>, GenesisError>>()?;
        if !participants.iter().any(|(_, _, roles, _)| roles & ROLE_AUTHORITY != 0) {
            return Err(fail("no participant has the role authority".into()));
        }
        let authorities =
            participants.iter().filter(|(_, _, roles, _)| roles & ROLE_AUTHORITY != 0);
        let count = authorities.count() as u32;
        if file.authority_quorum.is_some_and(|quorum| quorum == 0 || quorum > count) {
            return Err(fail(alloc::format!("authority_quorum must be within 1 and {count}")));
        }
        let repeated = |i: usize| {
            let (party, _, _, key) = &participants[i];
            participants[..i].iter().any(|(p, _, _, k)| p == party || k == key)
        };
        if let Some(i) = (0..participants.len()).find(|i| repeated(*i)) {
            return Err(fail(alloc::format!("participant {:?} is repeated", participants[i].0)));
        }
        let chain = sm3::hash_parts(&[&[9], bytes]);
        Ok(Genesis { chain, file, validators, participants })
    }

    /// The header of height 0.
    pub fn header(&self) -> Header {
        Header::genesis(self.chain, self.file.time_ms, self.file.partitions, &self.validators)
    }
}

/// Whether this may be the name of a chain.
pub(crate) fn is_chain_id(name: &str) -> bool {
    let plain = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=32).contains(&name.len()) && name.bytes().all(plain)
}

fn key(text: &str) -> Result<PublicKey, GenesisError> {
    let fail = || GenesisError(alloc::format!("{text:?} is no compressed public key in hex"));
    let bytes: [u8; 33] = hex::decode(text).map_err(|_| fail())?.try_into().map_err(|_| fail())?;
    PublicKey::from_compressed(&bytes).map_err(|_| fail())
}

fn founder(founder: &Founder) -> Result<(String, String, u64, PublicKey), GenesisError> {
    let mut roles = 0;
    for name in &founder.roles {
        let found = ROLES.iter().find(|(_, known)| known == name);
        let Some((role, _)) = found else {
            return Err(GenesisError(alloc::format!("there is no role {name:?}")));
        };
        roles |= role;
    }
    Ok((founder.party.clone(), founder.name.clone(), roles, key(&founder.public_key)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_crypto::sm2::SecretKey;

    fn file() -> GenesisFile {
        let key = SecretKey::from_bytes(&[7; 32]).unwrap().public_key();
        let public_key = hex::encode(key.to_compressed());
        GenesisFile {
            format: FORMAT.into(),
            chain_id: "test-1".into(),
            time_ms: 1_795_000_000_000,
            partitions: 4,
            validators: alloc::vec![public_key.clone()],
            participants: alloc::vec![Founder {
                party: "AUTHORITY".into(),
                name: "Authority".into(),
                roles: alloc::vec!["authority".into()],
                public_key,
            }],
            schemes: Vec::new(),
            clock_skew_ms: 60_000,
            epoch_blocks: EPOCH_BLOCKS,
            authority_quorum: None,
        }
    }

    fn parse(file: &GenesisFile) -> Result<Genesis, GenesisError> {
        Genesis::parse(&serde_json::to_vec(file).unwrap())
    }

    #[test]
    fn a_good_file_is_read_and_every_byte_counts() {
        let a = parse(&file()).unwrap();
        let mut other = file();
        other.time_ms += 1;
        assert_ne!(a.chain, parse(&other).unwrap().chain);
        assert_eq!(a.header().shards, 5);
        // What a file leaves out has its default, and the digest stays that of the file.
        let text = alloc::string::String::from_utf8(serde_json::to_vec(&file()).unwrap()).unwrap();
        let short = text.replace(",\"epoch_blocks\":86400", "");
        assert_ne!(short, text);
        let short = Genesis::parse(short.as_bytes()).unwrap();
        assert_eq!((short.file.clone(), short.chain == a.chain), (a.file, false));
    }

    #[test]
    fn a_hundred_validators_are_the_most() {
        let key = |seed: u8| SecretKey::from_bytes(&[seed; 32]).unwrap().public_key();
        let of = |count: u8| GenesisFile {
            validators: (1..=count).map(|seed| hex::encode(key(seed).to_compressed())).collect(),
            ..file()
        };
        assert_eq!(parse(&of(100)).unwrap().validators.keys().len(), 100);
        let refused = parse(&of(101)).unwrap_err().0;
        assert!(refused.contains("validators must be 1 to 100 different keys"), "{refused}");
    }

    #[test]
    fn bad_files_are_refused() {
        let spoil: [fn(&mut GenesisFile); 12] = [
            |f| f.format.clear(),
            |f| f.chain_id = "A B".into(),
            |f| f.partitions = 0,
            |f| f.clock_skew_ms = -1,
            |f| f.validators.clear(),
            |f| f.validators[0].push('0'),
            |f| f.epoch_blocks = 0,
            |f| f.epoch_blocks = EPOCH_BLOCKS_MAX + 1,
            |f| f.authority_quorum = Some(0),
            |f| f.authority_quorum = Some(2),
            |f| f.participants.clear(),
            |f| f.participants.push(f.participants[0].clone()),
        ];
        for (i, spoil) in spoil.iter().enumerate() {
            let mut file = file();
            spoil(&mut file);
            assert!(parse(&file).is_err(), "case {i}");
        }
        assert!(Genesis::parse(b"{}").is_err());
    }
}
