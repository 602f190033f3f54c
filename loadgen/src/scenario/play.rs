//! Plays a season on a chain, act by act, and waits for what must be waited for.
//!
//! Time is the chain's: it is read from the header of a receipt, so that a deadline has passed when
//! the chain says so.
//!
//! Invariants
//! - An act begins when every record of the one before was answered, or was given up.
//! - A policy that was set is in force before the act that needs it begins.

use super::season::Season;
use super::story::{ACTS, AFTER, FIRST, STRICT};
use super::tally::Tally;
use crate::drive::{Answers, Plan, Watch, drive};
use crate::outcomes::{Checker, Mismatch, ReceiptSource, Report, Sent};
use crate::send::Sink;
use crate::source::Registrations;
use anyhow::{Context, Result, bail, ensure};
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::alert::SignedAlert;
use piaogen_verify::document::Fields;
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::Header;
use piaogen_verify::policy::Policy;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::record::{Draft, RecordKind};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::value;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where alerts come from.
pub trait AlertSource {
    /// The alerts that came since the last call.
    fn alerts(&mut self) -> Result<Vec<SignedAlert>>;
}

/// Alerts that a node appends to a file, one line of JSON each.
#[derive(Debug)]
pub struct AlertFile {
    path: PathBuf,
    read: u64,
}

impl AlertFile {
    /// From the beginning of a file, which need not exist yet.
    pub fn new(path: PathBuf) -> AlertFile {
        AlertFile { path, read: 0 }
    }
}

impl AlertSource for AlertFile {
    fn alerts(&mut self) -> Result<Vec<SignedAlert>> {
        let Ok(mut file) = std::fs::File::open(&self.path) else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(self.read))?;
        let mut reader = BufReader::new(file);
        let (mut alerts, mut line) = (Vec::new(), String::new());
        // The last line may be half written.
        while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
            self.read += line.len() as u64;
            let alert = SignedAlert::from_json(line.trim_end()).map_err(|error| {
                anyhow::anyhow!("{}: an alert does not read: {error}", self.path.display())
            })?;
            alerts.push(alert);
            line.clear();
        }
        Ok(alerts)
    }
}

/// A chain on which a season is played.
pub struct Stage {
    /// Its genesis.
    pub genesis: Genesis,
    /// The key of an authority.
    pub authority: SecretKey,
    /// Producers into its streams; the first one is used, a race uses all.
    pub sinks: Vec<Box<dyn Sink + Send>>,
    /// Where receipts are.
    pub receipts: Box<dyn ReceiptSource>,
    /// Where alerts are.
    pub alerts: Option<Box<dyn AlertSource>>,
    /// How long to wait for receipts, alerts and deadlines.
    pub patience: Duration,
}

/// What came of a season.
pub struct Play {
    /// What was answered and told, against what is true.
    pub tally: Tally,
    /// What was sent and answered in each act.
    pub acts: Vec<Report>,
}

impl Play {
    /// Whether nothing exact was missed, nothing honest refused, and every record answered.
    pub fn is_good(&self) -> bool {
        let answered = |report: &Report| report.unanswered == 0 && report.acked == report.sent;
        self.tally.is_good() && self.acts.iter().all(answered)
    }
}

/// Remembers a record that was answered, and what was wrong.
#[derive(Default)]
struct Remember {
    place: Option<(u32, u64)>,
    mismatch: Option<Mismatch>,
}

impl Watch for Remember {
    fn answered(&mut self, sent: &Sent, answer: &Result<Receipt, Mismatch>) {
        self.place = Some((sent.what.partition, sent.offset));
        if let Err(mismatch) = answer {
            self.mismatch = Some(mismatch.clone());
        }
    }
}

impl Stage {
    fn checker(&self) -> Checker {
        Checker::new(TrustRoot::of_genesis(&self.genesis))
    }

    /// Sends registry records and waits for their answers; a place whose receipt tells the time.
    pub(crate) fn register(&mut self, records: Vec<Vec<u8>>) -> Result<(u32, u64)> {
        let mut remember = Remember::default();
        self.send_registry(records, &mut remember)?;
        if let Some(mismatch) = remember.mismatch {
            bail!("not everybody could be registered: {mismatch}");
        }
        remember.place.context("there is nobody to register")
    }

    fn send_registry(&mut self, records: Vec<Vec<u8>>, watch: &mut dyn Watch) -> Result<()> {
        let source = Registrations { records, partitions: self.genesis.file.partitions };
        let checker = self.checker();
        let plan = Plan { patience: self.patience, ..Plan::new(source.records.len() as u64) };
        let answers =
            Answers { source: self.receipts.as_mut(), checker: &checker, watch: Some(watch) };
        let sink = self.sinks.first_mut().context("a stage without a producer")?;
        let report = drive(&source, &plan, sink.as_mut(), Some(answers), &mut |_, _| {})?;
        ensure!(report.unanswered == 0, "{} registry records have no receipt", report.unanswered);
        Ok(())
    }

    /// The newest header that a receipt of this record can be had for.
    pub(crate) fn look(&mut self, (partition, offset): (u32, u64)) -> Result<Header> {
        let begun = Instant::now();
        let trust = TrustRoot::of_genesis(&self.genesis);
        loop {
            if let Some(bytes) = self.receipts.receipt(partition, offset) {
                let receipt = Receipt::decode(&bytes).context("a receipt does not decode")?;
                receipt.verify(&trust).context("a receipt does not verify")?;
                return Ok(receipt.header);
            }
            ensure!(begun.elapsed() < self.patience, "a receipt that was there is gone");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the chain's newest header is like this.
    fn wait(&mut self, place: (u32, u64), until: impl Fn(&Header) -> bool) -> Result<Header> {
        let begun = Instant::now();
        loop {
            let header = self.look(place)?;
            if until(&header) {
                return Ok(header);
            }
            ensure!(
                begun.elapsed() < self.patience,
                "the chain stays at height {}, time {} ms; is it running? Give more --patience-s",
                header.height,
                header.time_ms
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Sets a policy, and waits until it is in force.
    fn set_policy(&mut self, place: (u32, u64), policy: &Policy) -> Result<()> {
        for ahead in [3, 6, 12, 24, 48] {
            let header = self.look(place)?;
            let from = header.height + ahead;
            let mut fields: Fields = (policy.values().into_iter())
                .map(|(tag, parameter)| (tag, value::uint(parameter)))
                .collect();
            fields.set(tag::EFFECTIVE_HEIGHT, value::uint(from));
            let signed_at = header.time_ms;
            let (kind, secret) = (RecordKind::Policy, [0; 16]);
            let draft = Draft { kind, signed_at, secret, fields: fields.pairs() };
            let record = draft.sign(&self.genesis.chain, &self.authority);
            let mut remember = Remember::default();
            self.send_registry(vec![record], &mut remember)?;
            match remember.mismatch {
                None => return self.wait(place, |header| header.height + 1 >= from).map(|_| ()),
                // It was executed after the height from which it was to hold.
                Some(mismatch) if mismatch.outcome.is_some() => {}
                Some(mismatch) => bail!("the policy could not be set: {mismatch}"),
            }
        }
        bail!("blocks come faster than a policy can be set; lengthen blocks.interval_ms")
    }

    fn take_alerts(&mut self, tally: &mut Tally) -> Result<()> {
        let Some(source) = &mut self.alerts else { return Ok(()) };
        let alerts = source.alerts()?;
        let (chain, keys) = (self.genesis.chain, self.genesis.validators.keys());
        tally.tell(&alerts, |signed| {
            signed.alert.chain == chain && keys.iter().any(|key| signed.holds(key))
        });
        Ok(())
    }
}

/// What is different in the strict act.
fn strict() -> Policy {
    Policy { slip_ms: 8_000, confirmation_required: 1, ..Policy::default() }
}

/// Plays a season; `progress` is told how many records were answered.
pub fn play(stage: &mut Stage, mut season: Season, progress: &mut dyn FnMut(u64)) -> Result<Play> {
    let registrations = season.registrations(stage.genesis.file.time_ms - 10_000);
    let mut place = stage.register(registrations)?;
    let mut tally = Tally::new(stage.alerts.is_some());
    let mut acts = Vec::new();
    let mut done = 0;
    for act in FIRST..ACTS {
        match act {
            STRICT => stage.set_policy(place, &strict())?,
            AFTER => {
                let ended = stage.look(place)?.time_ms + strict().slip_ms as i64;
                let ended = ended.max(season.clock[STRICT] + season.config().short_ms);
                stage.set_policy(place, &Policy::default())?;
                stage.wait(place, |header| header.time_ms > ended)?;
            }
            _ => {}
        }
        season.clock[act] = stage.look(place)?.time_ms;
        let report = play_act(stage, &season, act, &mut tally, &mut place, &mut |checked| {
            progress(done + checked);
        })?;
        done += report.sent;
        acts.push(report);
        stage.take_alerts(&mut tally)?;
    }
    let begun = Instant::now();
    while tally.observed() && !tally.is_told(&season) && begun.elapsed() < ALERTS_LATE {
        std::thread::sleep(Duration::from_millis(200));
        stage.take_alerts(&mut tally)?;
    }
    tally.close(&season);
    Ok(Play { tally, acts })
}

/// How much later than the last receipt an alert may come.
const ALERTS_LATE: Duration = Duration::from_secs(60);

fn play_act(
    stage: &mut Stage,
    season: &Season,
    act: usize,
    tally: &mut Tally,
    place: &mut (u32, u64),
    progress: &mut dyn FnMut(u64),
) -> Result<Report> {
    let source = season.act(act);
    let checker = stage.checker();
    let records = crate::source::Source::len(&source).unwrap_or(0);
    let plan = Plan { patience: stage.patience, ..Plan::new(records) };
    let mut watch = tally.watch(&source);
    let answers =
        Answers { source: stage.receipts.as_mut(), checker: &checker, watch: Some(&mut watch) };
    let sink = stage.sinks.first_mut().context("a stage without a producer")?;
    let report = drive(&source, &plan, sink.as_mut(), Some(answers), &mut |_, checked| {
        progress(checked);
    })?;
    *place = watch.last.unwrap_or(*place);
    Ok(report)
}
