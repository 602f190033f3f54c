//! `piaogen genesis`: makes a new chain in a folder.

use super::Output;
use crate::config::Config;
use crate::run::chain::clock_ms;
use crate::setup::{self, random_key, write_new};
use anyhow::{Context, Result, ensure};
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::genesis::{EPOCH_BLOCKS, FORMAT, Founder, GenesisFile};
use piaogen_verify::scheme::usual;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The folder; must be new or empty. It gets genesis.json, trust-root.json, the two secret keys
    /// validator.pem and authority.pem, and node.toml.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Name of the chain: a-z, 0-9, hyphen.
    #[arg(long)]
    chain_id: String,
    /// Partitions of the topic of records: at least as many as there will be lanes.
    #[arg(long, default_value_t = 16)]
    partitions: u32,
    /// Party id of the first authority.
    #[arg(long, default_value = "AUTHORITY")]
    authority: String,
    /// Kafka brokers; without them the embedded log carries the stream.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Create the topics in Kafka with so many copies.
    #[arg(long, value_name = "COPIES", requires = "kafka")]
    topics: Option<u32>,
    /// Prefix of the topics' names.
    #[arg(long, default_value = "")]
    topic_prefix: String,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let dir = &arguments.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let occupied = std::fs::read_dir(dir)?.next().is_some();
    ensure!(!occupied, "{} is not empty; a chain is made in a new folder", dir.display());
    let (validator, authority) = (random_key()?, random_key()?);
    let bytes = genesis_file(arguments, &validator, &authority)?;
    let genesis = setup::write_chain(dir, &bytes, &validator, &authority)?;
    let toml = node_toml(arguments);
    write_new(&dir.join("node.toml"), toml.as_bytes(), false)?;
    if let Some(copies) = arguments.topics {
        setup::create_topics(&Config::load(&dir.join("node.toml"))?, &genesis, copies)?;
    }
    let chain = hex::encode(genesis.chain);
    let json = serde_json::json!({ "chain_id": genesis.file.chain_id, "chain": chain, "dir": dir });
    output.print(&json, || {
        format!(
            "chain {} in {}\ndigest {chain}\nnext: piaogen node --dir {}",
            genesis.file.chain_id,
            dir.display(),
            dir.display()
        )
    })
}

fn genesis_file(
    arguments: &Arguments,
    validator: &SecretKey,
    authority: &SecretKey,
) -> Result<Vec<u8>> {
    let public = |key: &SecretKey| hex::encode(key.public_key().to_compressed());
    let file = GenesisFile {
        format: FORMAT.into(),
        chain_id: arguments.chain_id.clone(),
        time_ms: clock_ms(),
        partitions: arguments.partitions,
        validators: vec![public(validator)],
        participants: vec![Founder {
            party: arguments.authority.clone(),
            name: arguments.authority.clone(),
            roles: vec!["authority".into()],
            public_key: public(authority),
        }],
        schemes: usual::all(),
        clock_skew_ms: 600_000,
        epoch_blocks: EPOCH_BLOCKS,
        authority_quorum: None,
    };
    let mut bytes = serde_json::to_vec_pretty(&file)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn node_toml(arguments: &Arguments) -> String {
    let mut toml = setup::BASE_TOML.to_string();
    if let Some(brokers) = &arguments.kafka {
        let prefix = &arguments.topic_prefix;
        toml.push_str(&format!(
            "\n[stream]\ncarrier = \"kafka\"\nbrokers = {brokers:?}\nrecords_topic = \
             \"{prefix}records\"\nregistry_topic = \"{prefix}registry\"\n"
        ));
    } else {
        toml.push_str("\n[stream]\ncarrier = \"embedded\"\nembedded_dir = \"stream\"\n");
    }
    toml
}
