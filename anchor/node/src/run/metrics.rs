//! What the node counts, for Prometheus and for the progress display.
//!
//! Invariants
//! - Every series exists from the start, so that "none yet" and "not measured" differ.

use super::lock;
use crate::config::Role;
use piaogen_anchor::alert::AlertKind;
use piaogen_anchor::registry::Registry as Participants;
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::CacheStats;
use piaogen_order::Peer;
use piaogen_verify::entry::Outcome;
use piaogen_verify::fingerprint::Fingerprint;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// All series of a node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    checked: IntCounter,
    checked_bytes: IntCounter,
    executed: IntCounter,
    archived: IntCounter,
    outcomes: IntCounterVec,
    height: IntGauge,
    flushed: IntGauge,
    lag: IntGaugeVec,
    interval: Histogram,
    finality: Histogram,
    execution: Histogram,
    flush: Histogram,
    store: IntGaugeVec,
    participants: IntGauge,
    key_tables: IntGauge,
    key_table_bytes: IntGauge,
    key_tables_built: IntCounter,
    key_tables_evicted: IntCounter,
    signatures: IntCounterVec,
    alerts: IntCounterVec,
    fingerprints: IntGauge,
    fingerprints_since: IntGauge,
    set: SetSeries,
    role: IntGaugeVec,
}

/// Series about agreement with other validators, and about each of them.
#[derive(Debug)]
struct SetSeries {
    disagreements: IntCounter,
    evidence: IntCounter,
    evidence_files: IntGauge,
    evidence_unsaved: IntGauge,
    executed_height: IntGauge,
    executed_root: IntGauge,
    epoch: IntGauge,
    epoch_end: IntGauge,
    proposals: IntGauge,
    unreachable: IntGauge,
    votes: IntGauge,
    view: IntGauge,
    peer_connected: IntGaugeVec,
    peer_blocked: IntGaugeVec,
    peer_votes: IntCounterVec,
    peer_view: IntGaugeVec,
    peer_limited: IntGaugeVec,
    /// Who has a series, and the votes that were counted of it in this epoch.
    counted: Mutex<BTreeMap<String, u64>>,
}

impl SetSeries {
    fn new(r: &Registry) -> prometheus::Result<SetSeries> {
        let gauge = |name: &str, help: &str| registered(r, IntGauge::new(name, help));
        let of_peer = |name: &str, help: &str| {
            registered(r, IntGaugeVec::new(Opts::new(name, help), &["peer"]))
        };
        let disagreements = IntCounter::new(
            "piaogen_disagreements_total",
            "Blocks whose roots are not those that this node computed",
        );
        let evidence = IntCounter::new(
            "piaogen_evidence_total",
            "Validators that this node saw vote twice, once an epoch each",
        );
        let votes = Opts::new("piaogen_peer_votes_total", "Votes of the validator");
        Ok(SetSeries {
            disagreements: registered(r, disagreements)?,
            evidence: registered(r, evidence)?,
            evidence_files: gauge(
                "piaogen_evidence_files",
                "Files of evidence in the data folder",
            )?,
            evidence_unsaved: gauge(
                "piaogen_evidence_unsaved",
                "Evidence that was caught and is not on disk yet",
            )?,
            executed_height: gauge("piaogen_executed_height", "Height of the last executed block")?,
            executed_root: gauge(
                "piaogen_executed_root",
                "First 48 bits of shards_root after that block: the same on all validators",
            )?,
            epoch: gauge("piaogen_epoch", "The epoch whose blocks this node takes part in")?,
            epoch_end: gauge("piaogen_epoch_end_height", "Height of the last block of the epoch")?,
            proposals: gauge("piaogen_proposals", "Changes that wait for more authorities")?,
            unreachable: gauge(
                "piaogen_planned_unreachable",
                "Planned validators of whom this node has no address",
            )?,
            votes: gauge("piaogen_votes", "1: this node votes in this epoch; 0: it follows")?,
            view: gauge("piaogen_view", "The highest view that this validator has seen")?,
            peer_connected: of_peer("piaogen_peer_connected", "1: there is a connection")?,
            peer_blocked: of_peer(
                "piaogen_peer_blocked",
                "1: not listened to, because it sent something invalid",
            )?,
            peer_votes: registered(r, IntCounterVec::new(votes, &["peer"]))?,
            peer_view: of_peer("piaogen_peer_view", "The highest view it voted in")?,
            peer_limited: of_peer(
                "piaogen_peer_limited",
                "Messages of it in this epoch that had to wait: it sends more than it may",
            )?,
            counted: Mutex::default(),
        })
    }

    /// Ends the series of a peer.
    fn forget(&self, peer: &str) {
        // An error says that there was none.
        for series in
            [&self.peer_connected, &self.peer_blocked, &self.peer_view, &self.peer_limited]
        {
            let _ = series.remove_label_values(&[peer]);
        }
        let _ = self.peer_votes.remove_label_values(&[peer]);
    }
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> prometheus::Result<C> {
    let collector = made?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn seconds(name: &str, help: &str, buckets: Vec<f64>) -> prometheus::Result<Histogram> {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
}

impl Metrics {
    /// The series at zero.
    pub fn new() -> prometheus::Result<Metrics> {
        let r = Registry::new();
        let counter = |name: &str, help: &str| registered(&r, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| registered(&r, IntGauge::new(name, help));
        let gauges = |name: &str, help: &str, label: &str| {
            registered(&r, IntGaugeVec::new(Opts::new(name, help), &[label]))
        };
        let fine = prometheus::exponential_buckets(0.001, 2.0, 15)?;
        // A promise is made of its percentiles, so they must be readable from the buckets.
        let finest = prometheus::exponential_buckets(0.008, 1.25, 33)?;
        let outcomes = IntCounterVec::new(
            Opts::new("piaogen_outcomes_total", "Executed records by outcome"),
            &["outcome"],
        );
        let signatures = IntCounterVec::new(
            Opts::new("piaogen_signatures_total", "Signatures checked, by what their key had"),
            &["key"],
        );
        let alerts = IntCounterVec::new(
            Opts::new("piaogen_alerts_total", "Facts that a party must know, by kind"),
            &["kind"],
        );
        let metrics = Metrics {
            checked: counter("piaogen_checked_records_total", "Records read and checked")?,
            checked_bytes: counter("piaogen_checked_bytes_total", "Bytes of records checked")?,
            executed: counter("piaogen_executed_records_total", "Records executed in blocks")?,
            archived: counter("piaogen_archived_records_total", "Records sealed in the archive")?,
            outcomes: registered(&r, outcomes)?,
            height: gauge("piaogen_block_height", "Height of the last final block")?,
            flushed: gauge("piaogen_flushed_height", "Height for which all state is on disk")?,
            lag: gauges("piaogen_lag_records", "Records in the stream, not in a block", "shard")?,
            interval: registered(
                &r,
                seconds("piaogen_block_interval_seconds", "Between final blocks", fine.clone()),
            )?,
            finality: registered(
                &r,
                seconds(
                    "piaogen_finality_seconds",
                    "From the stream's time of a record to the finality of its block",
                    finest,
                ),
            )?,
            execution: registered(
                &r,
                seconds("piaogen_execution_seconds", "Executing a block", fine.clone()),
            )?,
            flush: registered(&r, seconds("piaogen_flush_seconds", "Flushing state", fine))?,
            store: gauges("piaogen_store_bytes", "Bytes on disk", "store")?,
            participants: gauge("piaogen_participants", "Registered participants")?,
            key_tables: gauge("piaogen_key_tables", "Keys that have a table")?,
            key_table_bytes: gauge("piaogen_key_table_bytes", "Memory of the tables of keys")?,
            key_tables_built: counter("piaogen_key_tables_built_total", "Tables built")?,
            key_tables_evicted: counter("piaogen_key_tables_evicted_total", "Tables dropped")?,
            signatures: registered(&r, signatures)?,
            alerts: registered(&r, alerts)?,
            fingerprints: gauge(
                "piaogen_fingerprints",
                "Fingerprints remembered to find near-duplicates: what is older is missed",
            )?,
            fingerprints_since: gauge(
                "piaogen_fingerprints_since_height",
                "Fingerprints of blocks below this height were lost; 0: none was",
            )?,
            set: SetSeries::new(&r)?,
            role: gauges("piaogen_role", "1: what this node is there for", "role")?,
            registry: r,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// Makes every series of every label.
    fn begin(&self) {
        for name in Outcome::names() {
            self.outcomes.with_label_values(&[name]);
        }
        for kind in AlertKind::ALL {
            self.alerts.with_label_values(&[kind.name()]);
        }
        for fingerprint in Fingerprint::ALL {
            self.alerts.with_label_values(&[fingerprint.alert()]);
        }
        for key in ["table", "no_table"] {
            self.signatures.with_label_values(&[key]);
        }
        for role in Role::ALL {
            self.role.with_label_values(&[role.name()]);
        }
    }

    /// What this node is there for.
    pub fn role(&self, role: Role) {
        self.role.with_label_values(&[role.name()]).set(1);
    }

    /// A block has other roots than this node computed.
    pub fn disagreed(&self) {
        self.set.disagreements.inc();
    }

    /// A validator voted twice.
    pub fn caught(&self) {
        self.set.evidence.inc();
    }

    /// So many files of evidence are there.
    pub fn evidence_files(&self, files: usize) {
        self.set.evidence_files.set(files as i64);
    }

    /// So many pieces of evidence are not on disk.
    pub fn evidence_unsaved(&self, pieces: usize) {
        self.set.evidence_unsaved.set(pieces as i64);
    }

    /// A block was executed, and this is the root over all shards after it.
    pub fn stands(&self, height: u64, shards_root: &Digest) {
        let prefix = shards_root[..6].iter().fold(0, |bits, byte| bits << 8 | i64::from(*byte));
        self.set.executed_root.set(prefix);
        self.set.executed_height.set(height as i64);
    }

    /// An epoch begins, in which this node votes or follows.
    pub fn epoch(&self, epoch: u64, votes: bool) {
        self.set.epoch.set(epoch as i64);
        self.set.votes.set(i64::from(votes));
    }

    /// Of so many validators of the planned set this node has no address.
    pub fn unreachable(&self, count: usize) {
        self.set.unreachable.set(count as i64);
    }

    /// The validators of the set, as this one sees them; whoever is not of it any longer has no
    /// series, lest a watcher thinks that it is away.
    pub fn peers(&self, view: u64, peers: &[Peer]) {
        self.set.view.set(view as i64);
        let mut counted = lock(&self.set.counted);
        let before = std::mem::take(&mut *counted);
        for peer in peers {
            let name = hex::encode(peer.key.to_compressed());
            let set = |series: &IntGaugeVec, value: u64| {
                series.with_label_values(&[&name]).set(value as i64);
            };
            set(&self.set.peer_connected, u64::from(peer.connected || peer.me));
            set(&self.set.peer_blocked, u64::from(peer.blocked));
            set(&self.set.peer_view, peer.view);
            set(&self.set.peer_limited, peer.limited.iter().sum());
            // Each epoch counts from nothing.
            let last = before.get(&name).copied().filter(|last| *last <= peer.votes);
            let votes = self.set.peer_votes.with_label_values(&[&name]);
            votes.inc_by(peer.votes - last.unwrap_or(0));
            counted.insert(name, peer.votes);
        }
        for gone in before.keys().filter(|name| !counted.contains_key(*name)) {
            self.set.forget(gone);
        }
    }

    /// Records were checked.
    pub fn checked(&self, records: usize, bytes: usize) {
        self.checked.inc_by(records as u64);
        self.checked_bytes.inc_by(bytes as u64);
    }

    /// What the tables of keys were good for since the start; one thread says it.
    pub fn key_tables(&self, stats: &CacheStats) {
        self.key_tables.set(stats.tables as i64);
        self.key_table_bytes.set(stats.bytes as i64);
        let reach = |counter: &IntCounter, total: u64| {
            counter.inc_by(total.saturating_sub(counter.get()));
        };
        reach(&self.key_tables_built, stats.built);
        reach(&self.key_tables_evicted, stats.evicted);
        reach(&self.signatures.with_label_values(&["table"]), stats.hits);
        reach(&self.signatures.with_label_values(&["no_table"]), stats.misses);
    }

    /// Records were executed with these outcomes, by name.
    pub fn executed(&self, outcome: &str, records: u64) {
        self.executed.inc_by(records);
        self.outcomes.with_label_values(&[outcome]).inc_by(records);
    }

    /// Execution found a fact that a party must know.
    pub fn alert(&self, kind: &str) {
        self.alerts.with_label_values(&[kind]).inc();
    }

    /// How many fingerprints are remembered.
    pub fn fingerprints(&self, remembered: usize) {
        self.fingerprints.set(remembered as i64);
    }

    /// From which height on no fingerprint was lost; 0: none ever was.
    pub fn fingerprints_since(&self, height: u64) {
        self.fingerprints_since.set(height as i64);
    }

    /// How many alerts of this kind there were since the start.
    pub fn alerts(&self, kind: &str) -> u64 {
        self.alerts.with_label_values(&[kind]).get()
    }

    /// Records were sealed.
    pub fn archived(&self, records: u64) {
        self.archived.inc_by(records);
    }

    /// The chain goes on after this block.
    pub fn resumed(&self, height: u64) {
        self.height.set(height as i64);
    }

    /// A block became final, so many seconds after the one before.
    pub fn finalized(&self, height: u64, since_last: f64) {
        self.height.set(height as i64);
        self.interval.observe(since_last);
    }

    /// A block was executed in so many seconds.
    pub fn execution(&self, took: f64) {
        self.execution.observe(took);
    }

    /// State was flushed up to a height in so many seconds.
    pub fn flushed(&self, height: u64, took: f64) {
        self.flushed.set(height as i64);
        self.flush.observe(took);
    }

    /// A record became final so many seconds after the stream had it.
    pub fn finality(&self, seconds: f64) {
        self.finality.observe(seconds);
    }

    /// Records of a shard that are in the stream and not in a block.
    pub fn lag(&self, shard: usize, records: u64) {
        self.lag.with_label_values(&[&shard.to_string()]).set(records as i64);
    }

    /// Bytes of a store.
    pub fn store(&self, name: &str, bytes: u64) {
        self.store.with_label_values(&[name]).set(bytes as i64);
    }

    /// What the registry says after the block of this height.
    pub fn registry(&self, registry: &Participants, height: u64) {
        self.participants.set(registry.len() as i64);
        let governance = registry.governance();
        self.set.epoch_end.set(governance.epoch_end(height) as i64);
        self.set.proposals.set(governance.proposals().len() as i64);
    }

    /// How many records were checked, executed and archived since the start.
    pub fn progress(&self) -> (u64, u64, u64) {
        (self.checked.get(), self.executed.get(), self.archived.get())
    }

    /// Median and 99th percentile of the time from stream to finality in seconds, as upper bounds of
    /// the histogram's buckets.
    pub fn finality_quantiles(&self) -> (f64, f64) {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == "piaogen_finality_seconds");
        let Some(metric) = family.and_then(|family| family.get_metric().first()) else {
            return (0.0, 0.0);
        };
        let histogram = metric.get_histogram();
        let quantile = |q: f64| {
            let wanted = (histogram.get_sample_count() as f64 * q).ceil() as u64;
            let mut buckets = histogram.get_bucket().iter();
            let bucket = buckets.find(|bucket| bucket.cumulative_count() >= wanted);
            bucket.map_or(f64::INFINITY, prometheus::proto::Bucket::upper_bound)
        };
        (quantile(0.5), quantile(0.99))
    }

    /// How many records had this outcome since the start.
    pub fn outcome(&self, name: &str) -> u64 {
        self.outcomes.with_label_values(&[name]).get()
    }

    /// All series in the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            Ok(()) => String::from_utf8_lossy(&out).into_owned(),
            Err(error) => format!("# {error}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_crypto::sm2::SecretKey;

    #[test]
    fn votes_are_counted_through_epochs_and_who_left_has_no_series() {
        let metrics = Metrics::new().unwrap();
        let peer = |seed: u8, votes| Peer {
            key: SecretKey::from_bytes(&[seed; 32]).unwrap().public_key(),
            me: false,
            connected: true,
            blocked: false,
            votes,
            view: votes,
            limited: [1, 0, votes, 0, 0],
        };
        let name = |seed: u8| hex::encode(peer(seed, 0).key.to_compressed());
        let votes = |seed| metrics.set.peer_votes.with_label_values(&[&name(seed)]).get();
        metrics.peers(7, &[peer(1, 5), peer(2, 9)]);
        metrics.peers(8, &[peer(1, 6), peer(2, 9)]);
        assert_eq!((votes(1), votes(2)), (6, 9));
        assert!(
            metrics.text().contains(&format!("piaogen_peer_limited{{peer=\"{}\"}} 7", name(1)))
        );
        // Another epoch: its engine begins to count, and the second is not of its set.
        metrics.peers(1, &[peer(1, 2)]);
        assert_eq!(votes(1), 8);
        let text = metrics.text();
        assert!(text.contains(&name(1)) && !text.contains(&name(2)), "{text}");
        metrics.peers(2, &[peer(1, 2), peer(2, 1)]);
        assert_eq!((votes(1), votes(2)), (8, 1));
    }
}
