//! `piaogen inspect`: shows what lies in a data folder or a file.

use super::receipt::{Folder, reveal};
use super::verify::read_receipt;
use super::{Output, Place, keygen, read_file};
use crate::keys::KeySource;
use crate::run::parse_block;
use crate::setup;
use anyhow::{Context, Result};
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::PublicKey;
use piaogen_order::Finalized;
use piaogen_verify::checkpoint::Checkpoint;
use piaogen_verify::entry::Entry;
use piaogen_verify::header::{Header, ValidatorSet};
use piaogen_verify::json::record_to_json;
use piaogen_verify::merkle::{self, Hashes};
use piaogen_verify::record;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folder of a chain; not needed to look at files.
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    /// Configuration file of a node, in place of --dir.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The chain: heights, shards, participants' log, sizes.
    Chain,
    /// The epoch, its validators, those planned for the next, and what waits for more authorities.
    Validators,
    /// A block: header, cut, certificate.
    Block {
        /// Its height.
        height: u64,
    },
    /// A leaf of a record log, and the record behind it.
    Leaf {
        /// The shard; the registry is the one after the last partition.
        shard: u32,
        /// The log index.
        index: u64,
    },
    /// The newest checkpoint over all headers, signed by this validator.
    Checkpoint,
    /// A key: what it is called in `[peers.addresses]` and trust roots, and its id.
    Key {
        /// A public key in a file (SPKI), or where a secret key is, as in `submit`.
        #[arg(value_name = "FILE|KEY")]
        key: KeySource,
    },
    /// A record in a file, compact.
    Record {
        /// The file.
        file: PathBuf,
    },
    /// A receipt in either form, as JSON; with a document, showing fields of it.
    Receipt {
        /// The file.
        file: PathBuf,
        /// The holder's document.
        #[arg(long, value_name = "FILE")]
        document: Option<PathBuf>,
        /// Fields to show from it.
        #[arg(long, value_delimiter = ',', requires = "document")]
        show: Vec<String>,
    },
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    match &arguments.what {
        What::Record { file } => {
            let bytes = read_file(file, 1 << 20)?;
            let record = record::decode(&bytes).map_err(|unreadable| {
                let outcome =
                    piaogen_verify::entry::Outcome::of_flaw(unreadable.tag, unreadable.flaw);
                anyhow::anyhow!("{}: {}", file.display(), outcome.explain())
            })?;
            println!("{}", record_to_json(&record));
            Ok(())
        }
        What::Key { key } => keygen::say(&public(key)?, "", output),
        What::Receipt { file, document: None, .. } => {
            println!("{}", read_receipt(file)??.to_json());
            Ok(())
        }
        What::Receipt { file, document: Some(document), show } => {
            println!("{}", reveal(file, document, show)?.to_json());
            Ok(())
        }
        _ => in_folder(arguments, output),
    }
}

fn in_folder(arguments: &Arguments, output: Output) -> Result<()> {
    let place = Place { dir: arguments.dir.clone(), config: arguments.config.clone() };
    anyhow::ensure!(
        place.dir.is_some() || place.config.is_some(),
        "--dir DIR or --config FILE is needed"
    );
    let config = place.config()?;
    let folder = Folder::open(&config)?;
    match &arguments.what {
        What::Chain => chain(&folder, output),
        What::Validators => validators(&folder, output),
        What::Block { height } => block(&folder, *height, output),
        What::Leaf { shard, index } => leaf(&folder, *shard, *index, output),
        What::Checkpoint => {
            let key = config.key.open()?;
            let size = folder.reader.history_size();
            let root = merkle::root(&History(&folder), size)?;
            let mut checkpoint = Checkpoint::new(&folder.genesis.file.chain_id, size, root);
            checkpoint.sign_by(&*key)?;
            print!("{}", checkpoint.to_note());
            Ok(())
        }
        What::Record { .. } | What::Receipt { .. } | What::Key { .. } => Ok(()),
    }
}

/// The public key that a file is, or that belongs to a secret one.
fn public(key: &KeySource) -> Result<PublicKey> {
    match key {
        KeySource::File { path, .. } => setup::public_key(path).or_else(|_| key.public_key()),
        _ => key.public_key(),
    }
}

struct History<'a>(&'a Folder);

impl Hashes for History<'_> {
    type Error = anyhow::Error;

    fn get(&self, level: u8, index: u64) -> Result<Digest> {
        let hash = self.0.reader.history_hash(level, index)?;
        hash.with_context(|| format!("history: hash {index} of level {level} is missing"))
    }
}

fn chain(folder: &Folder, output: Output) -> Result<()> {
    let point = folder.reader.flushed();
    let shards: Vec<serde_json::Value> = crate::run::shard_entries(&point.shards)
        .iter()
        .map(|shard| {
            serde_json::json!({
                "shard": shard.shard, "next_offset": shard.next_offset, "log_size": shard.log_size,
                "log_root": hex::encode(shard.log_root), "invoices": shard.invoices,
                "status_root": hex::encode(shard.status_root),
            })
        })
        .collect();
    let json = serde_json::json!({
        "chain_id": folder.genesis.file.chain_id, "chain": hex::encode(folder.genesis.chain),
        "flushed_height": point.height, "tip": folder.reader.tip(), "shards": shards,
    });
    output.print(&json, || {
        let mut text = format!(
            "chain {} {}\nflushed height {}, last final block {}\n{:>6} {:>12} {:>12} {:>12}  log \
             root\n",
            folder.genesis.file.chain_id,
            hex::encode(folder.genesis.chain),
            point.height,
            folder.reader.tip().unwrap_or(0),
            "shard",
            "next offset",
            "log size",
            "invoices"
        );
        for (shard, state) in point.shards.iter().enumerate() {
            let name =
                if shard + 1 == point.shards.len() { "reg".into() } else { shard.to_string() };
            text.push_str(&format!(
                "{name:>6} {:>12} {:>12} {:>12}  {}\n",
                state.next_offset,
                state.log_size,
                state.invoices,
                hex::encode(state.log_root)
            ));
        }
        text
    })
}

/// The present epoch, the set that is planned for the next, and what waits for more authorities.
fn validators(folder: &Folder, output: Output) -> Result<()> {
    let height = folder.reader.flushed().height;
    let registry = folder.registry()?;
    let governance = registry.governance();
    let header = match folder.reader.block(height)? {
        Some(block) => parse_block(&block)?.0,
        None => folder.genesis.header(),
    };
    let (epoch, digest) = header.next_epoch();
    let set = governance.set(&digest).context("the present set is unknown to the registry")?;
    let keys = |set: &ValidatorSet| -> Vec<String> {
        set.keys().iter().map(|key| hex::encode(key.to_compressed())).collect()
    };
    let planned = governance.planned();
    let proposals: Vec<_> = governance
        .proposals()
        .map(|(digest, by)| serde_json::json!({ "digest": hex::encode(digest), "signed_by": by }))
        .collect();
    let json = serde_json::json!({
        "height": height, "epoch": epoch, "epoch_end_height": governance.epoch_end(height),
        "set": hex::encode(digest), "keys": keys(set),
        "planned_set": hex::encode(planned.digest()), "planned_keys": keys(planned),
        "proposals": proposals,
    });
    output.print(&json, || format!("{json:#}"))
}

fn block(folder: &Folder, height: u64, output: Output) -> Result<()> {
    let block =
        folder.reader.block(height)?.with_context(|| format!("there is no block {height}"))?;
    let (header, cut) = parse_block(&block)?;
    let certificate = match block.finalization.is_empty() {
        true => None,
        false => Some(Finalized::decode(&block.finalization).context("the certificate")?),
    };
    let json = serde_json::json!({
        "digest": hex::encode(header.digest()), "height": header.height, "epoch": header.epoch,
        "time_ms": header.time_ms, "parent": hex::encode(header.parent), "cut": cut.0,
        "shards_root": hex::encode(header.shards_root),
        "history_root": hex::encode(header.history_root),
        "validators": hex::encode(header.validators),
        "next_validators": hex::encode(header.next_validators), "shards": header.shards,
        "records": header.records, "certificate": hex::encode(&block.finalization),
    });
    output.print(&json, || {
        let certificate = certificate.map_or("none".into(), |certificate| certificate.to_string());
        format!(
            "block {height} {}\nepoch {} of validators {}{}\ntime {} ms, parent {}\n{} records in \
             {} shards before it\nshards root  {}\nhistory root {}\ncut {:?}\ncertificate \
             {certificate}",
            hex::encode(header.digest()),
            header.epoch,
            hex::encode(header.validators),
            next_of(&header),
            header.time_ms,
            hex::encode(header.parent),
            header.records,
            header.shards,
            hex::encode(header.shards_root),
            hex::encode(header.history_root),
            cut.0
        )
    })
}

/// The set of the next epoch, where the header names it.
fn next_of(header: &Header) -> String {
    match header.closes_epoch() {
        true => format!("\nthe last of it, then {}", hex::encode(header.next_validators)),
        false => String::new(),
    }
}

fn leaf(folder: &Folder, shard: u32, index: u64, output: Output) -> Result<()> {
    let prover = folder.prover()?;
    let row =
        prover.row(shard, index)?.with_context(|| format!("no leaf {index} in shard {shard}"))?;
    let entry = Entry::decode(&row.entry).context("the stored entry")?;
    let record = record::decode(&row.record).ok().map(|record| record_to_json(&record));
    let record = record.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let (scheme, number) = record::subject_parts(&entry.subject).unwrap_or(("", ""));
    let json = serde_json::json!({
        "leaf": hex::encode(entry.leaf()), "height": row.height, "offset": entry.offset,
        "kind": entry.kind.map(|kind| kind.name()), "scheme": scheme, "number": number,
        "outcome": entry.outcome.name(), "explanation": entry.outcome.explain(),
        "commitment": hex::encode(entry.commitment), "signer": hex::encode(entry.signer),
        "issue": entry.issue, "status": hex::encode(entry.status),
        "record": record.unwrap_or(serde_json::Value::Null),
    });
    output.print(&json, || format!("{json:#}"))
}
