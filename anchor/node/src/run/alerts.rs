//! Tells parties what they must know: signs what execution found, keeps it, and sends it on.
//!
//! Alerts first go into an outbox, a topic of the embedded log in the data folder; what is in it is
//! read with `piaogen alerts`, and over Kafka a thread carries it into the topic of alerts. Execution
//! starts again from a flush point after a crash and finds the same alerts, so the outbox must hold
//! those of a block before a flush point covers it, and may hold them twice.
//!
//! Invariants
//! - An alert of a flushed block is in the outbox; what is in the outbox is sent at least once, in
//!   order.
//! - Each shard's alerts of a block are in the order in which execution found them.
//! - What is remembered to find near-duplicates is the same after a restart, or after a restore from
//!   a snapshot, as without one.

pub(crate) mod again;
mod kept;
pub mod window;

use super::lock;
use super::metrics::Metrics;
use super::receipts::Reads;
use again::Rows;
use anyhow::{Context, Result};
use kept::Kept;
use piaogen_anchor::Effects;
use piaogen_anchor::alert::{Alert as Told, Recipient};
use piaogen_crypto::sm2::{SecretKey, Signature, Signer};
use piaogen_crypto::{Digest, Lanes};
use piaogen_ingest::stream::log::{EmbeddedLog, LogOptions};
use piaogen_ingest::stream::{Batch, NO_ACK, Stream, StreamError, Writer};
use piaogen_verify::alert::{Alert, Place, SignedAlert};
use piaogen_verify::checked::{Checked, CheckedBatch};
use piaogen_verify::entry::{Outcome, outcome_code};
use piaogen_verify::fingerprint::{FINGERPRINTS_MAX, Fingerprint};
use piaogen_verify::header::Header;
use piaogen_verify::record::subject_parts;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use window::Window;

/// The name of the outbox, and of its folder in the data folder.
pub const OUTBOX: &str = "alerts";
/// How long execution waits for room in the outbox before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Signs alerts and keeps them.
pub struct Alerts {
    chain: Digest,
    key: Arc<dyn Signer>,
    lanes: Lanes,
    outbox: Mutex<Box<dyn Writer>>,
    near: Mutex<Near>,
    metrics: Arc<Metrics>,
}

/// What finds near-duplicates.
struct Near {
    window: Window,
    /// The same on disk; nothing where nothing is remembered.
    kept: Option<Kept>,
    /// What the block at hand brought.
    fresh: Vec<kept::Entry>,
}

/// What a block did to one shard that somebody may have to know.
#[derive(Debug, Default)]
pub struct Found {
    /// The shard.
    pub shard: u32,
    /// Log index of its first record in the block.
    first: u64,
    /// What execution found.
    alerts: Vec<Told>,
    /// Numbers of accepted records that have fingerprints.
    accepted: Vec<u32>,
}

impl Found {
    /// What these effects of a batch on a shard hold; `first` is where its log stood before.
    pub fn of(shard: u32, first: u64, batch: &CheckedBatch, effects: &mut Effects) -> Found {
        let accepted = |(number, (checked, entry)): (u32, (&Checked, &[u8]))| {
            let told = checked.fingerprints != [0; FINGERPRINTS_MAX]
                && outcome_code(entry) == Some(Outcome::Accepted.code());
            told.then_some(number)
        };
        let records = (0..).zip(batch.records.iter().zip(effects.iter()));
        let accepted = records.filter_map(accepted).collect();
        Found { shard, first, alerts: std::mem::take(&mut effects.alerts), accepted }
    }
}

impl Alerts {
    /// Opens the outbox in a data folder; remembers fingerprints in so many bytes, those of blocks up
    /// to this height from before, or from their rows.
    pub(crate) fn open<R: Reads>(
        (dir, height): (&Path, u64),
        chain: Digest,
        key: Arc<dyn Signer>,
        window_bytes: usize,
        rows: &Rows<'_, R>,
        metrics: Arc<Metrics>,
    ) -> Result<Alerts> {
        let outbox = outbox(dir)?;
        let near = Near::open(&dir.join(OUTBOX).join("window"), height, window_bytes, rows)?;
        metrics.fingerprints(near.window.remembered());
        metrics.fingerprints_since(near.kept.as_ref().map_or(0, Kept::since));
        Ok(Alerts {
            chain,
            key,
            lanes: rows.lanes,
            outbox: Mutex::new(outbox.writer().context("opening the outbox of alerts")?),
            near: Mutex::new(near),
            metrics,
        })
    }

    /// Puts the alerts of a block into the outbox, and what is remembered of it on disk, durably:
    /// what was found on each shard, shards ascending, and its records. State is on disk up to the
    /// height `flushed`.
    pub fn block<'a>(
        &self,
        header: &Header,
        flushed: u64,
        found: impl IntoIterator<Item = (Found, &'a CheckedBatch)>,
    ) -> Result<(), StreamError> {
        let mut alerts = Vec::new();
        for (one, batch) in found {
            for told in &one.alerts {
                let to = match &told.to {
                    Recipient::Authorities => None,
                    Recipient::Party(party) => Some(party.clone()),
                };
                let at = Place { shard: one.shard, log_index: told.log_index };
                alerts.push(self.alert(header, told.kind.name(), to, &told.subject, at, None));
            }
            self.near(header, &one, batch, &mut alerts);
        }
        lock(&self.near).keep(header.height, flushed)?;
        self.send(alerts)
    }

    fn alert(
        &self,
        header: &Header,
        kind: &str,
        to: Option<String>,
        subject: &[u8],
        at: Place,
        other: Option<Place>,
    ) -> Alert {
        self.metrics.alert(kind);
        let (scheme, number) = subject_parts(subject).unwrap_or_default();
        Alert {
            chain: self.chain,
            kind: kind.into(),
            to,
            scheme: scheme.into(),
            number: number.into(),
            at,
            height: header.height,
            time_ms: header.time_ms,
            other,
        }
    }

    /// Compares what a block accepted with what is remembered.
    fn near(&self, header: &Header, one: &Found, batch: &CheckedBatch, alerts: &mut Vec<Alert>) {
        let mut near = lock(&self.near);
        for number in &one.accepted {
            let checked = &batch.records[*number as usize];
            let kinds = checked.kind.map_or(&[][..], Fingerprint::of_kind);
            let at = Place { shard: one.shard, log_index: one.first + u64::from(*number) };
            for (fingerprint, bits) in kinds.iter().zip(checked.fingerprints) {
                if bits != 0
                    && let Some(other) = near.put(bits, at)
                {
                    let (kind, subject) = (fingerprint.alert(), batch.subject(checked));
                    alerts.push(self.alert(header, kind, None, subject, at, Some(other)));
                }
            }
        }
        self.metrics.fingerprints(near.window.remembered());
    }

    fn send(&self, alerts: Vec<Alert>) -> Result<(), StreamError> {
        if alerts.is_empty() {
            return Ok(());
        }
        let messages: Vec<Vec<u8>> = alerts.iter().map(Alert::signed).collect();
        let signatures = self.sign(&messages)?;
        let signer = self.key.public_key().key_id();
        let mut outbox = lock(&self.outbox);
        for (alert, signature) in alerts.into_iter().zip(signatures) {
            let line = SignedAlert { alert, signer, signature }.to_json();
            outbox.send_waiting(0, line.as_bytes(), NO_ACK, PATIENCE)?;
        }
        outbox.flush()
    }
}

impl Alerts {
    /// In lanes where the key is in memory, else one by one.
    fn sign(&self, messages: &[Vec<u8>]) -> Result<Vec<Signature>, StreamError> {
        let Some(key) = self.key.in_memory() else {
            let sign = |message: &Vec<u8>| {
                self.key.try_sign(message).map_err(|error| StreamError::Fatal(error.to_string()))
            };
            return messages.iter().map(sign).collect();
        };
        let jobs: Vec<(&SecretKey, &[u8])> =
            messages.iter().map(|message| (key, message.as_slice())).collect();
        let mut signatures = vec![Signature([0; 64]); jobs.len()];
        self.lanes.sm2_sign(&jobs, &mut signatures);
        Ok(signatures)
    }
}

impl Near {
    fn open<R: Reads>(
        dir: &Path,
        height: u64,
        window_bytes: usize,
        rows: &Rows<'_, R>,
    ) -> Result<Near> {
        let mut window = Window::new(window_bytes);
        let fresh = Vec::new();
        let capacity = window.capacity();
        if capacity == 0 {
            return Ok(Near { window, kept: None, fresh });
        }
        let mut kept = Kept::open(dir, height, capacity, |(fingerprint, at)| {
            window.put(fingerprint, at);
        })?;
        if kept.since() > 0 {
            match rows.last(capacity) {
                Ok(blocks) => {
                    window = Window::new(window_bytes);
                    for (fingerprint, at) in blocks.iter().flat_map(|(_, entries)| entries) {
                        window.put(*fingerprint, *at);
                    }
                    drop(kept);
                    kept = Kept::anew(dir, height, capacity, &blocks)?;
                    let (blocks, remembered) = (blocks.len(), window.remembered());
                    tracing::info!(height, blocks, remembered, "fingerprints found again in rows");
                }
                Err(error) => tracing::warn!(
                    folder = %dir.display(), height, error = format!("{error:#}"),
                    "fingerprints of some blocks up to this height are missing or torn, and their \
                     rows cannot be read: near-duplicates of their invoices are not found"
                ),
            }
        }
        Ok(Near { window, kept: Some(kept), fresh })
    }

    fn put(&mut self, fingerprint: u64, at: Place) -> Option<Place> {
        self.fresh.push((fingerprint, at));
        self.window.put(fingerprint, at)
    }

    /// Keeps what the block at hand brought.
    fn keep(&mut self, height: u64, flushed: u64) -> Result<(), StreamError> {
        let fresh = std::mem::take(&mut self.fresh);
        let Some(kept) = &mut self.kept else { return Ok(()) };
        kept.block(height, &fresh, flushed)
            .map_err(|error| StreamError::Fatal(format!("{error:#}")))
    }
}

/// The outbox of a data folder.
pub fn outbox(dir: &Path) -> Result<EmbeddedLog> {
    EmbeddedLog::create(&dir.join(OUTBOX), OUTBOX, 1, LogOptions::default())
        .context("opening the outbox of alerts")
}

/// Carries the outbox into a topic, until told to stop.
pub struct Courier {
    /// The data folder.
    pub dir: std::path::PathBuf,
    /// Where the alerts go.
    pub topic: Arc<dyn Stream>,
    /// Tells it to stop.
    pub stopping: Arc<AtomicBool>,
}

impl Courier {
    /// Sends what is in the outbox and was not sent yet; then what comes. Ends with an error only
    /// where the outbox or the topic is not what it must be.
    pub fn run(&self) -> Result<()> {
        let mark = self.dir.join(OUTBOX).join("sent");
        let outbox = outbox(&self.dir)?;
        let from = read_mark(&mark)?.clamp(outbox.start_offset(0)?, outbox.end_offset(0)?);
        let mut reader = outbox.reader(0, from)?;
        let mut writer = self.topic.writer()?;
        let mut batch = Batch::new(1_000, 1 << 20);
        while !self.stopping.load(Ordering::SeqCst) {
            batch.clear();
            reader.poll(&mut batch, Duration::from_millis(200))?;
            if batch.is_empty() {
                continue;
            }
            for entry in batch.iter() {
                writer.send_waiting(0, entry.payload, NO_ACK, PATIENCE)?;
            }
            while let Err(error) = writer.flush() {
                if !error.is_busy() || self.stopping.load(Ordering::SeqCst) {
                    return Err(error.into());
                }
            }
            crate::setup::replace(&mark, reader.next_offset().to_string().as_bytes())?;
        }
        Ok(())
    }
}

/// The first offset that was not sent yet.
fn read_mark(path: &Path) -> Result<u64> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse().with_context(|| {
            format!("{} holds no offset; delete it to send all again", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}
