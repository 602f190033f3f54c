//! The configuration of a node: one TOML file, strict, every default in one place.
//!
//! The commented file that `piaogen config` prints is this module's constant; a test checks that it
//! is what the defaults are, so that the manual cannot drift from the code.
//!
//! Invariants
//! - Unknown keys are refused; units are in the names; limits are checked before anything starts.

use crate::keys::KeySource;
use anyhow::{Context, Result, ensure};
use piaogen_crypto::Lanes;
use piaogen_crypto::sm2::PublicKey;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `piaogen config` prints: every key with its default.
pub const COMMENTED: &str = include_str!("config.toml");

/// Threads that seal where the file does not say: each holds a row group, some 50 MB.
const SEAL_THREADS: usize = 8;

/// The whole file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The data folder.
    pub dir: PathBuf,
    /// The genesis file.
    pub genesis: PathBuf,
    /// Where the node's secret key is: a validator's vote, an observer's name among its peers.
    pub key: KeySource,
    /// Where the key is that votes in its place from the first epoch on whose set has it.
    #[serde(default, deserialize_with = "key_or_none")]
    pub next_key: Option<KeySource>,
    /// Whether it votes.
    #[serde(default)]
    pub role: Role,
    /// Where it is kept how far each key has voted; empty: `signed` in the data folder.
    #[serde(default)]
    pub signed: String,
    /// Where `/metrics`, `/health` and `/v1` are served; empty: nowhere.
    #[serde(default = "default::listen")]
    pub listen: String,
    /// Workers that read, check, execute and hash; 0: one for each core.
    #[serde(default)]
    pub lanes: usize,
    /// Whether each worker stays on one core; for machines that do nothing else.
    #[serde(default)]
    pub pin_lanes: bool,
    /// What the lanes compute with: `auto`, or the name of a backend, for tests and comparisons.
    #[serde(default = "default::backend")]
    pub backend: String,
    /// Where records come from.
    #[serde(default)]
    pub stream: StreamConfig,
    /// What bounds memory.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// When blocks are made.
    #[serde(default)]
    pub blocks: BlocksConfig,
    /// The other validators.
    #[serde(default)]
    pub peers: PeersConfig,
    /// The state on disk.
    #[serde(default)]
    pub store: StorageConfig,
    /// The archive.
    #[serde(default)]
    pub archive: ArchiveConfig,
}

/// What a node is there for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Votes where its key is of the set, and follows where it is not.
    #[default]
    Validator,
    /// Never votes: follows, and answers.
    Observer,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 2] = [Role::Validator, Role::Observer];

    /// Its name, as in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Role::Validator => "validator",
            Role::Observer => "observer",
        }
    }
}

/// Where records come from.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct StreamConfig {
    /// `embedded` or `kafka`.
    pub carrier: Carrier,
    /// Folder of the embedded log; empty: `stream` in the data folder.
    pub embedded_dir: String,
    /// Kafka brokers, `host:port`, comma-separated.
    pub brokers: String,
    /// The topic of records.
    pub records_topic: String,
    /// The topic of the registry.
    pub registry_topic: String,
    /// The topic into which alerts are carried, over Kafka; empty: they stay in the outbox.
    pub alerts_topic: String,
    /// Further properties of the client: `security.protocol`, `ssl.ca.location`, `sasl.mechanism` …
    pub kafka: BTreeMap<String, String>,
}

/// What carries the stream.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// Files of this machine.
    Embedded,
    /// Apache Kafka.
    Kafka,
}

/// What bounds memory.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Most records of a batch that a lane takes at once.
    pub batch_records: usize,
    /// Most bytes of such a batch.
    pub batch_mib: usize,
    /// Checked records that wait for their block, all shards together.
    pub queue_mib: usize,
    /// Most records of one shard in a block.
    pub block_shard_records: usize,
    /// Fetched bytes that wait in each Kafka reader.
    pub fetch_mib: usize,
    /// Tables of keys that sign often, which make verifying cheaper.
    pub key_tables_mib: usize,
    /// Fingerprints of the last invoices, to find near-duplicates.
    pub near_duplicates_mib: usize,
    /// Requests for proofs, headers and tiles that are answered at the same time.
    pub http_requests: usize,
}

/// When blocks are made.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct BlocksConfig {
    /// Between blocks while there are records.
    pub interval_ms: u64,
    /// Between blocks otherwise.
    pub idle_interval_ms: u64,
}

/// The other validators of the set.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct PeersConfig {
    /// Where this validator listens for the others; empty where it is alone.
    pub listen: String,
    /// By public key, compressed, in hexadecimal: where each is reached, `host:port`.
    pub addresses: BTreeMap<String, String>,
    /// Whether a peer may come from another address than that.
    pub any_source: bool,
    /// How long a leader may take to propose before it is skipped.
    pub leader_timeout_ms: u64,
    /// How long a peer that sent something invalid is not listened to.
    pub blocked_s: u64,
}

/// The state on disk.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// Cache of the index.
    pub cache_mib: usize,
    /// Longest time between flush points.
    pub flush_interval_ms: u64,
    /// Rows after which a flush is due.
    pub flush_rows: u64,
    /// Bytes in memory after which a flush is due.
    pub flush_mib: u64,
    /// Folder of a snapshot that is offered under `/v1/snapshot`; empty: none.
    pub snapshot: String,
    /// Checkpoint whose cosignatures are handed out with receipts; empty: none.
    pub cosigned: String,
}

/// The archive.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// A folder, or `s3://bucket/prefix`; empty: `archive` in the data folder.
    pub location: String,
    /// Options of the object store: `aws_region`, `aws_endpoint` …
    pub options: BTreeMap<String, String>,
    /// Rows of one shard that make a segment.
    pub segment_rows: u64,
    /// The longest that a row waits for its segment.
    pub segment_age_ms: u64,
    /// Shards that are sealed at the same time; 0: as many as lanes, at most 8.
    pub threads: usize,
}

/// Where a validator listens, and where the others are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Keys and addresses.
    pub peers: Vec<(PublicKey, String)>,
}

mod default {
    pub(super) fn listen() -> String {
        "127.0.0.1:9464".into()
    }

    pub(super) fn backend() -> String {
        "auto".into()
    }
}

impl Default for StreamConfig {
    fn default() -> Self {
        StreamConfig {
            carrier: Carrier::Embedded,
            embedded_dir: String::new(),
            brokers: "127.0.0.1:9092".into(),
            records_topic: "records".into(),
            registry_topic: "registry".into(),
            alerts_topic: "alerts".into(),
            kafka: BTreeMap::new(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            batch_records: 2_048,
            batch_mib: 4,
            queue_mib: 256,
            block_shard_records: 50_000,
            fetch_mib: 16,
            key_tables_mib: 512,
            near_duplicates_mib: 64,
            http_requests: 64,
        }
    }
}

impl Default for BlocksConfig {
    fn default() -> Self {
        BlocksConfig { interval_ms: 250, idle_interval_ms: 10_000 }
    }
}

impl Default for PeersConfig {
    fn default() -> Self {
        PeersConfig {
            listen: String::new(),
            addresses: BTreeMap::new(),
            any_source: false,
            leader_timeout_ms: 2_000,
            blocked_s: 3_600,
        }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        StorageConfig {
            cache_mib: 256,
            flush_interval_ms: 5_000,
            flush_rows: 1_000_000,
            flush_mib: 512,
            snapshot: String::new(),
            cosigned: String::new(),
        }
    }
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        ArchiveConfig {
            location: String::new(),
            options: BTreeMap::new(),
            segment_rows: 250_000,
            segment_age_ms: 60_000,
            threads: 0,
        }
    }
}

/// What stands in a file as an empty text where there is none.
fn key_or_none<'de, D: Deserializer<'de>>(file: D) -> Result<Option<KeySource>, D::Error> {
    let text = String::deserialize(file)?;
    let named = Some(text).filter(|text| !text.is_empty());
    named.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

impl Config {
    /// A configuration for a folder with the files that `piaogen genesis` makes, all else default.
    pub fn of_dir(dir: &Path) -> Config {
        Config {
            dir: dir.join("data"),
            genesis: dir.join("genesis.json"),
            key: dir.join("validator.pem").into(),
            next_key: None,
            role: Role::Validator,
            signed: String::new(),
            listen: String::new(),
            lanes: 0,
            pin_lanes: false,
            backend: default::backend(),
            stream: StreamConfig {
                embedded_dir: dir.join("stream").display().to_string(),
                ..StreamConfig::default()
            },
            limits: LimitsConfig::default(),
            blocks: BlocksConfig::default(),
            peers: PeersConfig::default(),
            store: StorageConfig::default(),
            archive: ArchiveConfig {
                location: dir.join("archive").display().to_string(),
                ..ArchiveConfig::default()
            },
        }
    }

    /// Reads and checks a file. Relative paths in it are relative to the file.
    pub fn load(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading configuration {}", path.display()))?;
        let mut config =
            Config::parse(&text).with_context(|| format!("configuration {}", path.display()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        for path in [&mut config.dir, &mut config.genesis] {
            *path = base.join(&*path);
        }
        config.key = config.key.beside(base);
        config.next_key = config.next_key.map(|key| key.beside(base));
        if !config.signed.is_empty() {
            config.signed = base.join(&config.signed).display().to_string();
        }
        let (stream, archive) = (&mut config.stream.embedded_dir, &mut config.archive.location);
        let (snapshot, cosigned) = (&mut config.store.snapshot, &mut config.store.cosigned);
        for path in [stream, archive, snapshot, cosigned] {
            if !path.is_empty() && !path.contains("://") {
                *path = base.join(&*path).display().to_string();
            }
        }
        Ok(config)
    }

    /// Reads and checks the text of a file.
    pub fn parse(text: &str) -> Result<Config> {
        let config: Config = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let within = |name: &str, value: u64, least: u64, most: u64| {
            ensure!(
                (least..=most).contains(&value),
                "{name} = {value} is not within {least} to {most}; correct it"
            );
            Ok(())
        };
        within("lanes", self.lanes as u64, 0, 1_024)?;
        within("limits.batch_records", self.limits.batch_records as u64, 1, 65_536)?;
        within("limits.batch_mib", self.limits.batch_mib as u64, 1, 256)?;
        within("limits.queue_mib", self.limits.queue_mib as u64, 8, 65_536)?;
        within("limits.fetch_mib", self.limits.fetch_mib as u64, 4, 1_024)?;
        within("limits.key_tables_mib", self.limits.key_tables_mib as u64, 0, 1 << 20)?;
        within("limits.near_duplicates_mib", self.limits.near_duplicates_mib as u64, 0, 1 << 17)?;
        within("limits.http_requests", self.limits.http_requests as u64, 1, 4_096)?;
        let records = self.limits.block_shard_records as u64;
        within("limits.block_shard_records", records, 1, 1_000_000)?;
        within("blocks.interval_ms", self.blocks.interval_ms, 1, 60_000)?;
        within("blocks.idle_interval_ms", self.blocks.idle_interval_ms, 10, 3_600_000)?;
        within("peers.leader_timeout_ms", self.peers.leader_timeout_ms, 100, 600_000)?;
        within("peers.blocked_s", self.peers.blocked_s, 1, 604_800)?;
        within("store.cache_mib", self.store.cache_mib as u64, 8, 1 << 20)?;
        within("store.flush_interval_ms", self.store.flush_interval_ms, 50, 600_000)?;
        within("store.flush_rows", self.store.flush_rows, 1_000, 1 << 30)?;
        within("store.flush_mib", self.store.flush_mib, 8, 1 << 20)?;
        within("archive.segment_rows", self.archive.segment_rows, 1, 10_000_000)?;
        within("archive.segment_age_ms", self.archive.segment_age_ms, 100, 86_400_000)?;
        within("archive.threads", self.archive.threads as u64, 0, 256)?;
        self.address()?;
        self.backend()?;
        let peers = self.peers()?;
        ensure!(
            self.role == Role::Validator || self.next_key.is_none(),
            "role = \"observer\" never votes, so it has no next_key; remove it"
        );
        ensure!(
            self.role == Role::Validator || peers.is_some_and(|peers| !peers.peers.is_empty()),
            "role = \"observer\" follows its peers, and there are none: say in [peers] where this \
             node listens and where the validators are"
        );
        Ok(())
    }

    /// Where this validator listens for the others and where they are, if it is not alone.
    pub fn peers(&self) -> Result<Option<Peers>> {
        let PeersConfig { listen, addresses, .. } = &self.peers;
        if listen.is_empty() {
            ensure!(
                addresses.is_empty(),
                "peers.addresses has {} validators and peers.listen is empty; name an address",
                addresses.len()
            );
            return Ok(None);
        }
        let parse = || format!("peers.listen = {listen:?} is no address like 0.0.0.0:9465");
        let listen = listen.parse().with_context(parse)?;
        let peer = |(key, address): (&String, &String)| {
            let wrong = || format!("peers.addresses: {key:?} is no compressed public key in hex");
            let bytes: [u8; 33] = hex::decode(key)
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .with_context(wrong)?;
            let key = PublicKey::from_compressed(&bytes).ok().with_context(wrong)?;
            Ok((key, address.clone()))
        };
        let peers = addresses.iter().map(peer).collect::<Result<_>>()?;
        Ok(Some(Peers { listen, peers }))
    }

    /// What the lanes compute with.
    pub fn backend(&self) -> Result<Lanes> {
        if self.backend == "auto" {
            return Ok(Lanes::detect());
        }
        let names: Vec<&str> = Lanes::all().into_iter().map(Lanes::name).collect();
        Lanes::named(&self.backend).with_context(|| {
            format!(
                "backend = {:?} is not auto or one that this processor has: {}; correct it",
                self.backend,
                names.join(", ")
            )
        })
    }

    /// Where to listen, if anywhere.
    pub fn address(&self) -> Result<Option<SocketAddr>> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        let parse = || format!("listen = {:?} is no address like 127.0.0.1:9464", self.listen);
        Ok(Some(self.listen.parse().with_context(parse)?))
    }

    /// How many lanes.
    pub fn lanes(&self) -> usize {
        match self.lanes {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            lanes => lanes,
        }
    }

    /// How many shards are sealed at the same time.
    pub fn seal_threads(&self) -> usize {
        match self.archive.threads {
            0 => self.lanes().min(SEAL_THREADS),
            threads => threads,
        }
    }

    /// The folder that says how far each key has voted.
    pub fn signed_dir(&self) -> PathBuf {
        match self.signed.as_str() {
            "" => self.dir.join("signed"),
            dir => dir.into(),
        }
    }

    /// The folder of the embedded log.
    pub fn embedded_dir(&self) -> PathBuf {
        match self.stream.embedded_dir.as_str() {
            "" => self.dir.join("stream"),
            dir => dir.into(),
        }
    }

    /// The snapshot that is offered, if one is.
    pub fn snapshot_dir(&self) -> Option<PathBuf> {
        Some(&self.store.snapshot).filter(|dir| !dir.is_empty()).map(PathBuf::from)
    }

    /// The checkpoint whose cosignatures are handed out, if there is one.
    pub fn cosigned_file(&self) -> Option<PathBuf> {
        Some(&self.store.cosigned).filter(|file| !file.is_empty()).map(PathBuf::from)
    }

    /// Where the archive lies.
    pub fn archive_location(&self) -> String {
        match self.archive.location.as_str() {
            "" => self.dir.join("archive").display().to_string(),
            location => location.into(),
        }
    }
}

/// Milliseconds of the file as a duration.
pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commented_file_has_every_key_with_its_default() {
        let commented = Config::parse(COMMENTED).unwrap();
        let shortest = "dir = \"data\"\ngenesis = \"genesis.json\"\nkey = \"validator.pem\"\n";
        assert_eq!(commented, Config::parse(shortest).unwrap());
    }

    #[test]
    fn unknown_keys_and_values_out_of_range_are_refused_by_name() {
        let with = |line: &str| {
            let text = format!("dir = \"d\"\ngenesis = \"g\"\nkey = \"k\"\n{line}\n");
            format!("{:#}", Config::parse(&text).unwrap_err())
        };
        assert!(with("lane = 3").contains("lane"));
        assert!(with("[blocks]\ninterval_ms = 0").contains("blocks.interval_ms = 0"));
        assert!(with("[limits]\nqueue_mib = 1").contains("8 to 65536"));
        assert!(with("backend = \"abacus\"").contains("portable"));
        assert!(with("listen = \"here\"").contains("127.0.0.1:9464"));
        assert!(with("[stream]\ncarrier = \"pigeon\"").contains("pigeon"));
        assert!(with("[peers]\nlisten = \"there\"").contains("0.0.0.0:9465"));
        assert!(with("[peers.addresses]\n02ab = \"a:1\"").contains("peers.listen is empty"));
        let named = "[peers]\nlisten = \"0.0.0.0:1\"\n[peers.addresses]\n02ab = \"a:1\"";
        assert!(with(named).contains("02ab"));
        assert!(with("[peers]\nleader_timeout_ms = 1").contains("100 to 600000"));
        assert!(with("role = \"observer\"").contains("follows its peers"));
        assert!(with("role = \"observer\"\nnext_key = \"n\"").contains("has no next_key"));
        assert!(with("next_key = \"env:\"").contains("names no variable"));
        assert!(with("role = \"voter\"").contains("voter"));
    }
}
