//! `piaogen genesis`: makes a new chain in a folder.

use super::Output;
use crate::config::Config;
use crate::members::{self, Member};
use crate::run::chain::clock_ms;
use crate::setup::{self, random_key, write_new};
use anyhow::{Context, Result, ensure};
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use piaogen_verify::genesis::{EPOCH_BLOCKS, FORMAT, Founder, GenesisFile};
use piaogen_verify::header::VALIDATORS_MAX;
use piaogen_verify::scheme::usual;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The folder; must be new or empty. It gets genesis.json, trust-root.json, the two secret keys
    /// validator.pem and authority.pem, and node.toml. Of several nodes, each gets a folder of its
    /// own in it: validator-1, validator-2, observer-1 and so on.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Name of the chain: a-z, 0-9, hyphen.
    #[arg(long)]
    chain_id: String,
    /// Partitions of the topic of records: at least as many as there will be lanes.
    #[arg(long, default_value_t = 16)]
    partitions: u32,
    /// How many validators; four are the fewest of which one may fail.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=VALIDATORS_MAX as i64))]
    validators: u32,
    /// Public key of a validator that holds its secret key itself, SPKI PEM; once for each, in place
    /// of --validators.
    #[arg(long, value_name = "FILE", conflicts_with = "validators")]
    validator: Vec<PathBuf>,
    /// Where the other validators reach one, in the order of --validator; without any, all are on
    /// this machine.
    #[arg(long, value_name = "HOST:PORT")]
    address: Vec<String>,
    /// How many observers: nodes that never vote, but follow, execute and answer. All others know
    /// them.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1024))]
    observers: u32,
    /// Where the other nodes reach an observer, once for each; without any, all are on this machine.
    #[arg(long, value_name = "HOST:PORT")]
    observer_address: Vec<String>,
    /// Party id of the first authority.
    #[arg(long, default_value = "AUTHORITY")]
    authority: String,
    /// Another authority and its public key, SPKI PEM; once for each.
    #[arg(long, value_name = "PARTY=FILE", value_parser = party_and_file)]
    co_authority: Vec<(String, PathBuf)>,
    /// How many authorities must sign who validates and who is an authority; more than half without
    /// it. For ever.
    #[arg(long, value_name = "COUNT")]
    authority_quorum: Option<u32>,
    /// Blocks of an epoch: how often the set may become another.
    #[arg(long, value_name = "BLOCKS", default_value_t = EPOCH_BLOCKS)]
    epoch_blocks: u64,
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
    let authority = random_key()?;
    let keys = keys(arguments)?;
    let public: Vec<PublicKey> = keys.iter().map(|(key, _)| key.clone()).collect();
    let bytes = genesis_file(arguments, &public, &authority)?;
    let named = [&arguments.address, &arguments.observer_address];
    let alone = arguments.observers == 0 && named.iter().all(|addresses| addresses.is_empty());
    let flat = alone && matches!(&keys[..], [(_, Some(_))]);
    let stream = stream_toml(arguments, flat);
    let (genesis, first) = match &keys[..] {
        [(_, Some(validator))] if flat => {
            let genesis = setup::write_chain(dir, &bytes, validator, &authority)?;
            let toml = format!("{}{stream}", setup::BASE_TOML);
            write_new(&dir.join("node.toml"), toml.as_bytes(), false)?;
            (genesis, dir.clone())
        }
        _ => {
            let mut members = Member::all(keys, &arguments.address)?;
            let watching = made(arguments.observers)?;
            let addresses = &arguments.observer_address;
            members.extend(Member::observers(watching, addresses, members.len())?);
            let genesis = members::write(dir, &bytes, &members, &authority, &stream)?;
            (genesis, members::folder(dir, 0))
        }
    };
    if let Some(copies) = arguments.topics {
        setup::create_topics(&Config::load(&first.join("node.toml"))?, &genesis, copies)?;
    }
    let chain = hex::encode(genesis.chain);
    let validators = genesis.validators.keys().len();
    let json = serde_json::json!({
        "chain_id": genesis.file.chain_id, "chain": chain, "dir": dir, "validators": validators,
        "observers": arguments.observers,
    });
    output.print(&json, || {
        let others = if flat { "" } else { ", and so on for each folder" };
        format!(
            "chain {} in {}\ndigest {chain}\nnext: piaogen node --dir {}{others}",
            genesis.file.chain_id,
            dir.display(),
            first.display()
        )
    })
}

/// The keys of the validators: given, or made here.
fn keys(arguments: &Arguments) -> Result<Vec<(PublicKey, Option<SecretKey>)>> {
    if !arguments.validator.is_empty() {
        let given = |path: &PathBuf| Ok((setup::public_key(path)?, None));
        return arguments.validator.iter().map(given).collect();
    }
    made(arguments.validators)
}

/// So many new keys.
fn made(count: u32) -> Result<Vec<(PublicKey, Option<SecretKey>)>> {
    let made = |_| random_key().map(|key| (key.public_key(), Some(key)));
    (0..count).map(made).collect()
}

fn party_and_file(text: &str) -> Result<(String, PathBuf), &'static str> {
    let (party, file) = text.split_once('=').ok_or("write PARTY=FILE")?;
    Ok((party.into(), file.into()))
}

/// The authorities of the beginning.
fn authorities(arguments: &Arguments, first: &SecretKey) -> Result<Vec<Founder>> {
    let founder = |party: &str, key: PublicKey| Founder {
        party: party.into(),
        name: party.into(),
        roles: vec!["authority".into()],
        public_key: hex::encode(key.to_compressed()),
    };
    let mut all = vec![founder(&arguments.authority, first.public_key())];
    for (party, path) in &arguments.co_authority {
        all.push(founder(party, setup::public_key(path)?));
    }
    Ok(all)
}

fn genesis_file(
    arguments: &Arguments,
    validators: &[PublicKey],
    authority: &SecretKey,
) -> Result<Vec<u8>> {
    let public = |key: &PublicKey| hex::encode(key.to_compressed());
    let file = GenesisFile {
        format: FORMAT.into(),
        chain_id: arguments.chain_id.clone(),
        time_ms: clock_ms(),
        partitions: arguments.partitions,
        validators: validators.iter().map(public).collect(),
        participants: authorities(arguments, authority)?,
        schemes: usual::all(),
        clock_skew_ms: 600_000,
        epoch_blocks: arguments.epoch_blocks,
        authority_quorum: arguments.authority_quorum,
    };
    let mut bytes = serde_json::to_vec_pretty(&file)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn stream_toml(arguments: &Arguments, flat: bool) -> String {
    if let Some(brokers) = &arguments.kafka {
        let prefix = &arguments.topic_prefix;
        return format!(
            "\n[stream]\ncarrier = \"kafka\"\nbrokers = {brokers:?}\nrecords_topic = \
             \"{prefix}records\"\nregistry_topic = \"{prefix}registry\"\n"
        );
    }
    // The folders of several nodes lie beside the stream that they share.
    let folder = if flat { "stream" } else { "../stream" };
    format!("\n[stream]\ncarrier = \"embedded\"\nembedded_dir = \"{folder}\"\n")
}
