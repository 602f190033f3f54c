//! Opens what a configuration names: genesis, key, streams, store, archive; makes new chains.
//!
//! Invariants
//! - Nothing that exists is overwritten.

use crate::config::{Carrier, Config, Role, ms};
use crate::disk;
use crate::run::archiver::ArchivePolicy;
use crate::run::chain::BlockPolicy;
use crate::run::intake::IntakeLimits;
use crate::run::{NodeParts, PeersPolicy};
use anyhow::{Context, Result, ensure};
use piaogen_anchor::body::Body;
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use piaogen_ingest::stream::kafka::{KafkaOptions, KafkaStream};
use piaogen_ingest::stream::log::{EmbeddedLog, LogOptions};
use piaogen_ingest::stream::{Stream, StreamError};
use piaogen_order::NetworkConfig;
use piaogen_storage::StoreConfig;
use piaogen_storage::archive::{Archive, ArchiveConfig};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::trust_root::TrustRoot;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Reads a genesis file.
pub fn genesis(path: &Path) -> Result<Genesis> {
    let bytes =
        std::fs::read(path).with_context(|| format!("reading genesis {}", path.display()))?;
    Genesis::parse(&bytes).with_context(|| path.display().to_string())
}

/// Reads a public key in SPKI, PEM or DER.
pub fn public_key(path: &Path) -> Result<PublicKey> {
    let document =
        std::fs::read(path).with_context(|| format!("reading public key {}", path.display()))?;
    PublicKey::from_spki(&document).with_context(|| format!("public key {}", path.display()))
}

/// Writes a new file, readable by its owner only if it is `secret`; refuses to overwrite.
pub fn write_new(path: &Path, bytes: &[u8], secret: bool) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mode = if secret { 0o600 } else { 0o644 };
    let mut file =
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .with_context(|| format!("creating {} (nothing is overwritten)", path.display()))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| path.display().to_string())
}

/// Replaces a file: whoever reads it sees the old bytes or the new ones, and the new ones are
/// durable when this returns.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let replaced = disk::replace(&disk::Plain, path, bytes);
    replaced.with_context(|| format!("writing {}", path.display()))
}

/// Makes a folder where there is none, durable when this returns.
pub fn make_folder(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(path).with_context(|| path.display().to_string())?;
    let above = path.parent().context("the folder lies in no other")?;
    std::fs::File::open(above)
        .and_then(|above| above.sync_all())
        .with_context(|| above.display().to_string())
}

/// A key from the system's randomness.
pub fn random_key() -> Result<SecretKey> {
    loop {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        // All but one in 2^32 candidates are keys.
        if let Ok(key) = SecretKey::from_bytes(&bytes) {
            return Ok(key);
        }
    }
}

/// How to reach Kafka.
pub fn kafka_options(config: &Config) -> KafkaOptions {
    KafkaOptions {
        brokers: config.stream.brokers.clone(),
        properties: config.stream.kafka.clone(),
        fetch_bytes: config.limits.fetch_mib << 20,
        ..KafkaOptions::default()
    }
}

/// The two topics: records and registry. Those of the embedded log are created where they are
/// missing; Kafka's must exist (`piaogen genesis --topics` or the broker's own tools).
pub fn streams(config: &Config, genesis: &Genesis) -> Result<(Arc<dyn Stream>, Arc<dyn Stream>)> {
    let names = [&config.stream.records_topic, &config.stream.registry_topic];
    match config.stream.carrier {
        Carrier::Kafka => {
            let options = kafka_options(config);
            let open = |topic: &str| {
                KafkaStream::open(&options, topic)
                    .map(|stream| Arc::new(stream) as Arc<dyn Stream>)
                    .with_context(|| format!("Kafka topic {topic}"))
            };
            Ok((open(names[0])?, open(names[1])?))
        }
        Carrier::Embedded => {
            let dir = config.embedded_dir();
            let open = |topic: &str, partitions: u32| {
                EmbeddedLog::create(&dir.join(topic), topic, partitions, LogOptions::default())
                    .map(|stream| Arc::new(stream) as Arc<dyn Stream>)
            };
            Ok((open(names[0], genesis.file.partitions)?, open(names[1], 1)?))
        }
    }
}

/// Creates the topics in Kafka.
pub fn create_topics(config: &Config, genesis: &Genesis, copies: u32) -> Result<(), StreamError> {
    let options = kafka_options(config);
    use piaogen_ingest::stream::kafka::ensure_topic;
    ensure_topic(&options, &config.stream.records_topic, genesis.file.partitions, copies)?;
    ensure_topic(&options, &config.stream.registry_topic, 1, copies)?;
    match config.stream.alerts_topic.as_str() {
        "" => Ok(()),
        topic => ensure_topic(&options, topic, 1, copies),
    }
}

/// Where alerts are carried to: a topic of Kafka, or nowhere. Those of an observer are nobody's.
fn alerts(config: &Config) -> Result<Option<Arc<dyn Stream>>> {
    let topic = &config.stream.alerts_topic;
    let carries = config.stream.carrier == Carrier::Kafka && config.role == Role::Validator;
    if !carries || topic.is_empty() {
        return Ok(None);
    }
    let stream = KafkaStream::open(&kafka_options(config), topic)
        .with_context(|| format!("Kafka topic {topic}: make it, or set stream.alerts_topic"))?;
    Ok(Some(Arc::new(stream)))
}

/// The configuration of the archive.
pub fn archive_config(config: &Config) -> ArchiveConfig {
    ArchiveConfig {
        options: config.archive.options.clone(),
        scratch: Some(config.dir.join("sealing")),
        segment_rows: config.archive.segment_rows.max(1 << 20),
        ..ArchiveConfig::new(config.archive_location())
    }
}

/// The archive for writing, with the genesis in it.
pub fn archive(config: &Config, chain: Digest) -> Result<Archive> {
    let archive = Archive::open(archive_config(config), chain).context("opening the archive")?;
    let bytes = std::fs::read(&config.genesis)?;
    archive.put_genesis(&bytes)?;
    Ok(archive)
}

/// The archive for reading.
pub fn archive_at_rest(config: &Config, chain: Option<Digest>) -> Result<Archive> {
    Archive::open_read_only(archive_config(config), chain).context("opening the archive")
}

/// How storage is opened.
pub fn store_config(config: &Config, genesis: &Genesis) -> StoreConfig {
    StoreConfig {
        cache_bytes: config.store.cache_mib << 20,
        flush_rows: config.store.flush_rows,
        flush_bytes: config.store.flush_mib << 20,
        ..StoreConfig::new(genesis.chain, genesis.file.partitions)
    }
}

/// How this node reaches the others, where there are any, now or in a later epoch.
fn peers_policy(config: &Config, genesis: &Genesis) -> Result<Option<PeersPolicy>> {
    let count = genesis.validators.keys().len();
    let Some(peers) = config.peers()? else {
        ensure!(
            count == 1,
            "{} has {count} validators: say in [peers] where this one listens and where the others \
             are",
            config.genesis.display()
        );
        return Ok(None);
    };
    let network = NetworkConfig {
        listen: peers.listen,
        peers: peers.peers,
        any_source: config.peers.any_source,
        blocked_for: Duration::from_secs(config.peers.blocked_s),
        body_bytes_max: Body::bytes_max(genesis.file.partitions as usize + 1),
    };
    Ok(Some(PeersPolicy { network, leader_timeout: ms(config.peers.leader_timeout_ms) }))
}

/// When blocks are made. In a set, a leader that has nothing to say must say so in time.
fn block_policy(config: &Config, genesis: &Genesis, peers: Option<&PeersPolicy>) -> BlockPolicy {
    let in_time = peers.map_or(Duration::MAX, |peers| peers.leader_timeout / 2);
    BlockPolicy {
        interval: ms(config.blocks.interval_ms).min(in_time),
        idle_interval: ms(config.blocks.idle_interval_ms).min(in_time),
        shard_records: config.limits.block_shard_records,
        clock_skew_ms: genesis.file.clock_skew_ms,
    }
}

/// Everything that a node of this configuration needs.
pub fn node_parts(config: &Config) -> Result<NodeParts> {
    let genesis = genesis(&config.genesis)?;
    let key = config.key.open()?;
    let next_key = config.next_key.as_ref().map(|next| next.open()).transpose()?;
    if let (Some(source), Some(next)) = (&config.next_key, &next_key) {
        let same = next.public_key() == key.public_key();
        ensure!(!same, "next_key = \"{source}\" is the same key as `key`; name another, or none");
    }
    std::fs::create_dir_all(&config.dir)
        .with_context(|| format!("creating {}", config.dir.display()))?;
    let (records, registry) = streams(config, &genesis)?;
    let archive = archive(config, genesis.chain)?;
    let peers = peers_policy(config, &genesis)?;
    Ok(NodeParts {
        dir: config.dir.clone(),
        signed: config.signed_dir(),
        key,
        next_key,
        role: config.role,
        records,
        registry,
        lanes: config.backend()?,
        key_table_bytes: config.limits.key_tables_mib << 20,
        near_duplicate_bytes: config.limits.near_duplicates_mib << 20,
        alerts: alerts(config)?,
        intake: IntakeLimits {
            workers: config.lanes(),
            pinned: config.pin_lanes,
            batch_records: config.limits.batch_records,
            batch_bytes: config.limits.batch_mib << 20,
            queue_bytes: config.limits.queue_mib << 20,
        },
        blocks: block_policy(config, &genesis, peers.as_ref()),
        peers,
        store: store_config(config, &genesis),
        flush_interval: ms(config.store.flush_interval_ms),
        archive,
        archive_policy: ArchivePolicy {
            segment_rows: config.archive.segment_rows,
            segment_age: ms(config.archive.segment_age_ms),
            threads: config.seal_threads(),
        },
        signatures: true,
        genesis,
    })
}

/// The part of node.toml that every chain in a folder of its own has; the key is a validator's.
pub const BASE_TOML: &str = "# All keys with their defaults: piaogen config\ndir = \"data\"\n\
     genesis = \"genesis.json\"\nkey = \"validator.pem\"\n\n[archive]\nlocation = \"archive\"\n";

/// Writes the files of a chain into an empty folder.
pub fn write_chain(
    dir: &Path,
    bytes: &[u8],
    validator: &SecretKey,
    authority: &SecretKey,
) -> Result<Genesis> {
    let genesis = Genesis::parse(bytes)?;
    write_new(&dir.join("genesis.json"), bytes, false)?;
    write_new(&dir.join("validator.pem"), validator.to_pkcs8_pem().as_bytes(), true)?;
    write_new(&dir.join("authority.pem"), authority.to_pkcs8_pem().as_bytes(), true)?;
    let trust = TrustRoot::of_genesis(&genesis).to_json();
    write_new(&dir.join("trust-root.json"), trust.as_bytes(), false)?;
    Ok(genesis)
}
