//! Makes a chain to try things on: schemes, keys and genesis file, all from a seed.
//!
//! Invariants
//! - The same arguments give the same bytes, hence the same chain.
//! - Whoever knows the seed has every key: never for a chain that means anything.

use crate::parties::key;
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::genesis::{
    EPOCH_BLOCKS, EPOCH_BLOCKS_MAX, FORMAT, Founder, Genesis, GenesisFile,
};
use piaogen_verify::header::VALIDATORS_MAX;
use piaogen_verify::scheme::usual;

/// Id of the authority of a demo chain.
pub const AUTHORITY: &str = "CN-TAX";

/// A chain with all its keys.
#[derive(Clone, Debug)]
pub struct DemoChain {
    /// The exact bytes of the genesis file.
    pub bytes: Vec<u8>,
    /// The same, checked.
    pub genesis: Genesis,
    /// The key of the one authority.
    pub authority: SecretKey,
    /// The keys of the validators, in the order of the validator set.
    pub validators: Vec<SecretKey>,
}

/// A chain of a seed. `time_ms` is the time of block 0.
pub fn demo_chain(seed: u64, partitions: u32, validators: u32, time_ms: i64) -> DemoChain {
    let authority = key(seed, "authority", 0);
    let mut keys: Vec<SecretKey> = (0..u64::from(validators.clamp(1, VALIDATORS_MAX as u32)))
        .map(|i| key(seed, "validator", i))
        .collect();
    keys.sort_by_key(|key| key.public_key().to_compressed());
    let file = GenesisFile {
        format: FORMAT.into(),
        chain_id: format!("demo-{seed}"),
        time_ms,
        partitions: partitions.clamp(1, piaogen_verify::genesis::PARTITIONS_MAX),
        validators: keys.iter().map(public_hex).collect(),
        participants: vec![Founder {
            party: AUTHORITY.into(),
            name: "国家税务总局 (demo)".into(),
            roles: vec!["authority".into()],
            public_key: public_hex(&authority),
        }],
        schemes: usual::all(),
        clock_skew_ms: 60_000,
        epoch_blocks: EPOCH_BLOCKS,
        authority_quorum: None,
    };
    finish(&file, authority, keys)
}

fn finish(file: &GenesisFile, authority: SecretKey, validators: Vec<SecretKey>) -> DemoChain {
    let mut bytes = serde_json::to_vec_pretty(file).expect("strings and numbers become JSON");
    bytes.push(b'\n');
    let genesis = Genesis::parse(&bytes).expect("every part was made within its limits");
    DemoChain { bytes, genesis, authority, validators }
}

impl DemoChain {
    /// The same with epochs of so many blocks, at least one; it is another chain.
    pub fn with_epochs_of(self, blocks: u64) -> DemoChain {
        let epoch_blocks = blocks.clamp(1, EPOCH_BLOCKS_MAX);
        let file = GenesisFile { epoch_blocks, ..self.genesis.file };
        finish(&file, self.authority, self.validators)
    }
}

fn public_hex(key: &SecretKey) -> String {
    hex::encode(key.public_key().to_compressed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_repeatable_and_its_keys_are_in_order() {
        let chain = demo_chain(1, 4, 4, 1_795_000_000_000);
        assert_eq!(chain.bytes, demo_chain(1, 4, 4, 1_795_000_000_000).bytes);
        let keys: Vec<_> = chain.validators.iter().map(SecretKey::public_key).collect();
        assert_eq!(keys, chain.genesis.validators.keys());
        assert_ne!(chain.genesis.chain, demo_chain(2, 4, 4, 1_795_000_000_000).genesis.chain);
        demo_chain(u64::MAX, 0, 0, 0);
        let short = chain.clone().with_epochs_of(0);
        assert_eq!(short.genesis.file.epoch_blocks, 1);
        assert_ne!(short.genesis.chain, chain.genesis.chain);
        assert_eq!(short.genesis.validators, chain.genesis.validators);
    }
}
