//! Makes record `i` of a seed: realistic invoices, and a chosen share of each kind of bad record.
//!
//! Nothing is remembered between records. What record `i` is follows from the seed and `i`; a red
//! invoice or a duplicate chooses an earlier good invoice and makes it again where it needs it. So
//! a stream of any length takes no memory, and any part of it can be made again to check it.
//!
//! Invariants
//! - The same configuration gives the same bytes, whatever the range, the batch or the threads.
//! - Every record has exactly one outcome on a chain where all sellers are registered before the
//!   first record, and records are sent in order of their indices from 0.
//!
//! ```
//! use piaogen_loadgen::generator::{Generator, GeneratorConfig};
//! use piaogen_loadgen::genesis::demo_chain;
//!
//! let chain = demo_chain(7, 4, 1, 1_795_000_000_000);
//! let generator = Generator::new(GeneratorConfig::new(7, &chain.genesis));
//! let record = generator.generate(12);
//! assert_eq!(record.record, generator.generate(12).record);
//! ```

pub(crate) mod content;
mod spoil;

use crate::parties::{Parties, Style, register};
use crate::rng::{Purpose, Rng};
use crate::source::{
    Damage, Expected, Generated, Kind, Prepared, Signatures, Source, SourceError, sign_range,
};
use content::{Content, Head};
use piaogen_crypto::sm2::SecretKey;
use piaogen_crypto::{Digest, Lanes};
use piaogen_verify::document::Document;
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::{Genesis, ROLE_ISSUER};
use piaogen_verify::record::{self, RecordKind, partition, subject};
use piaogen_verify::scheme::usual::CN_EINV;
use piaogen_verify::value;
use std::ops::Range;

/// How many records of 100,000 are of each kind; the rest are good blue invoices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares(Vec<(Kind, u32)>);

impl Shares {
    /// Good invoices alone: 3 % red, nothing bad.
    pub fn good() -> Shares {
        Shares(vec![(Kind::Red, 3_000)])
    }

    /// 3 % red, and so many of 100,000 bad, spread evenly over all bad kinds.
    pub fn with_bad(bad: u32) -> Shares {
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| !kind.is_good()).collect();
        let mut shares = Shares::good();
        let (each, rest) = (bad / kinds.len() as u32, bad as usize % kinds.len());
        for (at, kind) in kinds.into_iter().enumerate() {
            shares.set(kind, each + u32::from(at < rest));
        }
        shares
    }

    /// Sets the share of one kind. What all kinds but `Blue` leave of 100,000 is blue.
    pub fn set(&mut self, kind: Kind, of_100_000: u32) {
        self.0.retain(|(held, _)| *held != kind && *held != Kind::Blue);
        if kind != Kind::Blue {
            self.0.push((kind, of_100_000));
        }
    }

    fn kind(&self, mut roll: u32) -> Kind {
        for (kind, share) in &self.0 {
            match roll.checked_sub(*share) {
                None => return *kind,
                Some(rest) => roll = rest,
            }
        }
        Kind::Blue
    }
}

impl Default for Shares {
    /// 3 % red, 2 % bad.
    fn default() -> Shares {
        Shares::with_bad(2_000)
    }
}

/// What a generator makes.
#[derive(Clone, Debug)]
pub struct GeneratorConfig {
    /// Everything follows from it.
    pub seed: u64,
    /// How many sellers issue.
    pub sellers: u32,
    /// Partitions of the topic `records`.
    pub partitions: u32,
    /// Digest of the genesis.
    pub chain: Digest,
    /// Records are dated within the day before this moment, which must not lie after the time of
    /// the block before the first record (the time of the genesis is always good).
    pub base_time_ms: i64,
    /// The share of each kind.
    pub shares: Shares,
    /// Whether records are really signed.
    pub signatures: Signatures,
    /// How many records there are; `None` for no end.
    pub records: Option<u64>,
}

impl GeneratorConfig {
    /// The usual: 1,000 sellers, 3 % red, 2 % bad, no end.
    pub fn new(seed: u64, genesis: &Genesis) -> GeneratorConfig {
        GeneratorConfig {
            seed,
            sellers: 1_000,
            partitions: genesis.file.partitions,
            chain: genesis.chain,
            base_time_ms: genesis.file.time_ms,
            shares: Shares::default(),
            signatures: Signatures::Real,
            records: None,
        }
    }
}

/// Makes records.
#[derive(Clone, Debug)]
pub struct Generator {
    config: GeneratorConfig,
    parties: Parties,
}

/// What a record is to be.
struct Plan {
    kind: Kind,
    target: Option<u64>,
}

/// How often an earlier good invoice is looked for before a record becomes a blue invoice.
const TRIES: u64 = 64;
/// Nothing is dated closer to the base time, so that re-signing a second later is no clock skew.
const MARGIN_MS: i64 = 10_000;
const DAY_MS: i64 = 86_400_000;
/// Provinces and cities that issue, as the number has them.
const PROVINCES: &[u32] = &[11, 12, 31, 32, 33, 34, 35, 37, 42, 44, 51, 61, 95];

impl Generator {
    /// A generator with the keys of its sellers.
    pub fn new(config: GeneratorConfig) -> Generator {
        let parties = Parties::new(config.seed, config.sellers, Style::China);
        Generator { config, parties }
    }

    /// What it makes.
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// The sellers.
    pub fn parties(&self) -> &Parties {
        &self.parties
    }

    /// Records for the topic `registry` that must be in a block before the first record is.
    pub fn registrations(&self, authority: &SecretKey) -> Vec<Vec<u8>> {
        let at = self.config.base_time_ms - MARGIN_MS;
        self.parties.registrations(&self.config.chain, authority, at)
    }

    /// Record `index`.
    pub fn generate(&self, index: u64) -> Generated {
        let mut one = self.generate_batch(index..index + 1, Lanes::portable());
        one.pop().expect("a range of one gives one record")
    }

    /// Records of a range, signed on all threads, in order.
    pub fn generate_batch(&self, range: Range<u64>, lanes: Lanes) -> Vec<Generated> {
        let config = &self.config;
        sign_range(range, &config.chain, lanes, config.signatures, |i| self.prepare(i))
    }

    fn rolled(&self, index: u64) -> Kind {
        let roll = Rng::new(self.config.seed, Purpose::Plan, index).below(100_000) as u32;
        match self.config.shares.kind(roll) {
            Kind::BadSignature if self.config.signatures == Signatures::Dummy => Kind::Blue,
            kind => kind,
        }
    }

    fn plan(&self, index: u64) -> Plan {
        let kind = self.rolled(index);
        let mut rng = Rng::new(self.config.seed, Purpose::Plan, index ^ (1 << 63));
        let target = match kind {
            // One red invoice of twenty does not know its original.
            Kind::Red if rng.chance(50) => None,
            Kind::Red | Kind::Replay | Kind::DupDifferent => (0..index.min(TRIES))
                .map(|_| rng.below(index))
                .find(|earlier| self.rolled(*earlier) == Kind::Blue),
            _ => None,
        };
        let possible = match kind {
            Kind::Replay | Kind::DupDifferent => target.is_some(),
            Kind::WrongActor => self.parties.sellers() > 1,
            Kind::WrongPartition => self.config.partitions > 1,
            _ => true,
        };
        Plan { kind: if possible { kind } else { Kind::Blue }, target }
    }

    pub(crate) fn prepare(&self, index: u64) -> Prepared<'_> {
        let plan = self.plan(index);
        match (plan.kind, plan.target) {
            (Kind::Blue, _) => self.blue(index),
            (Kind::Red, target) => self.red(index, target),
            (Kind::Replay, Some(of)) => self.replay(index, of),
            (Kind::DupDifferent, Some(of)) => self.dup_different(index, of),
            (Kind::WrongRole, _) => self.wrong_role(index),
            (kind, _) => self.bad(index, kind),
        }
    }

    fn head(&self, index: u64) -> Head {
        let mut rng = Rng::new(self.config.seed, Purpose::Head, index);
        let back = MARGIN_MS + rng.below(DAY_MS as u64) as i64;
        let signed_at = self.config.base_time_ms - back;
        let date = value::day_of_days(signed_at.div_euclid(DAY_MS));
        let (province, channel) = (rng.pick(PROVINCES), if rng.chance(500) { 2 } else { 7 });
        let seed = self.config.seed % 1_000;
        let number = format!(
            "{:02}{province}{channel}{seed:03}{:012}",
            date.0 % 100,
            index % 1_000_000_000_000
        );
        Head { number, date, signed_at, secret: rng.bytes() }
    }

    fn invoice(&self, index: u64, head: &Head, content: &Content, sign: i128) -> Prepared<'_> {
        let full = self.config.signatures == Signatures::Real;
        let document = content.document(self.config.seed, CN_EINV, head, sign, &self.parties, full);
        let subject = subject(CN_EINV.as_bytes(), None, head.number.as_bytes());
        Prepared {
            index,
            kind: if sign < 0 { Kind::Red } else { Kind::Blue },
            expected: Expected::Exactly(Outcome::Accepted),
            record_kind: if sign < 0 { RecordKind::IssueRed } else { RecordKind::Issue },
            signed_at: head.signed_at,
            secret: head.secret,
            fields: document.fields.pairs().to_vec(),
            document: Some(document),
            readable: true,
            signer: self.parties.get(content.seller),
            partition: partition(&subject, self.config.partitions),
            subject,
            damage: Damage::None,
        }
    }

    fn content(&self, index: u64) -> Content {
        Content::new(self.config.seed, index, self.parties.sellers())
    }

    fn blue(&self, index: u64) -> Prepared<'_> {
        self.invoice(index, &self.head(index), &self.content(index), 1)
    }

    fn red(&self, index: u64, target: Option<u64>) -> Prepared<'_> {
        let mut content = self.content(target.unwrap_or(index));
        let mut rng = Rng::new(self.config.seed, Purpose::Spoil, index);
        if rng.chance(500) {
            content.keep(rng.below(content.line_count() as u64) as usize);
        }
        let mut prepared = self.invoice(index, &self.head(index), &content, -1);
        let (tag, bytes) = match target {
            Some(original) => {
                let head = self.head(original);
                let date = value::date(head.date.0, head.date.1, head.date.2);
                let slip = format!("{}{:012}", &head.number[..8], index % 1_000_000_000_000);
                let entry = vec![
                    (25, head.number.into_bytes()),
                    (26, date),
                    (2004, CN_EINV.into()),
                    (2005, slip.into_bytes()),
                ];
                (tag::PRECEDING, value::list(&[entry]))
            }
            None => (tag::ORIGINAL_UNKNOWN, vec![1]),
        };
        if let Some(document) = &mut prepared.document {
            document.fields.set(tag, bytes);
            prepared.fields = document.fields.pairs().to_vec();
        }
        prepared
    }

    fn replay(&self, index: u64, of: u64) -> Prepared<'_> {
        let mut prepared = self.blue(of);
        let mut rng = Rng::new(self.config.seed, Purpose::Spoil, index);
        // Some send the same bytes, some sign the same document again.
        prepared.signed_at += if rng.chance(300) { 1_000 } else { 0 };
        let expected = Expected::Replay { of };
        Prepared { index, kind: Kind::Replay, expected, ..prepared }
    }

    fn dup_different(&self, index: u64, of: u64) -> Prepared<'_> {
        let first = self.head(of);
        let head = Head { number: first.number, date: first.date, ..self.head(index) };
        let commitment = self.blue(of).draft().commitment();
        let expected = Expected::DupDifferent { of, commitment };
        let prepared = self.invoice(index, &head, &self.content(index), 1);
        Prepared { kind: Kind::DupDifferent, expected, ..prepared }
    }

    fn wrong_role(&self, index: u64) -> Prepared<'_> {
        let head = self.head(index);
        let stranger = self.parties.get(self.parties.stranger());
        let draft = register(stranger, ROLE_ISSUER, head.signed_at);
        Prepared {
            index,
            kind: Kind::WrongRole,
            expected: Expected::Exactly(Outcome::WrongRole),
            document: None,
            record_kind: draft.kind,
            signed_at: head.signed_at,
            secret: [0; 16],
            fields: draft.fields,
            readable: true,
            signer: self.parties.get(index as usize % self.parties.sellers()),
            partition: self.config.partitions,
            subject: subject(record::REGISTRY_SCHEME.as_bytes(), None, stranger.id.as_bytes()),
            damage: Damage::None,
        }
    }

    fn bad(&self, index: u64, kind: Kind) -> Prepared<'_> {
        let mut rng = Rng::new(self.config.seed, Purpose::Spoil, index);
        let content = self.content(index);
        let mut prepared = self.invoice(index, &self.head(index), &content, 1);
        prepared.kind = kind;
        let sellers = self.parties.sellers();
        let exactly = |outcome| Expected::Exactly(outcome);
        match kind {
            Kind::BadSignature => {
                prepared.expected = exactly(Outcome::BadSignature);
                prepared.damage = match rng.chance(250) {
                    true => Damage::OtherChain,
                    false => Damage::SignatureBit(rng.below(512) as usize),
                };
            }
            Kind::UnknownSigner => {
                prepared.expected = exactly(Outcome::NotRegistered);
                prepared.signer = self.parties.get(self.parties.stranger());
            }
            Kind::RevokedKey => {
                prepared.expected = exactly(Outcome::KeyRevoked);
                prepared.signer = self.parties.get(self.parties.revoked());
            }
            Kind::WrongActor => {
                prepared.expected = exactly(Outcome::WrongActor);
                prepared.signer = self.parties.get((content.seller + 1) % sellers);
            }
            Kind::TypeNotAccepted => {
                prepared.expected = exactly(Outcome::TypeNotAccepted);
                set_text(&mut prepared, tag::TYPE_CODE, "999");
            }
            Kind::UnknownScheme => {
                prepared.expected = exactly(Outcome::UnknownScheme);
                set_text(&mut prepared, tag::SCHEME, "XX-NONE");
            }
            Kind::WrongPartition => {
                let expected = prepared.partition;
                prepared.expected = exactly(Outcome::WrongPartition { expected });
                let step = 1 + rng.below(u64::from(self.config.partitions) - 1) as u32;
                prepared.partition = (expected + step) % self.config.partitions;
            }
            Kind::Malformed => spoil::spoil(&mut prepared, &mut rng, spoil::MALFORMED),
            Kind::Limit if rng.chance(60) => {
                prepared.expected = exactly(spoil::too_large(&mut prepared));
            }
            Kind::Limit => spoil::spoil(&mut prepared, &mut rng, spoil::LIMIT),
            Kind::Totals => spoil::spoil(&mut prepared, &mut rng, spoil::TOTALS),
            Kind::ClockSkew => spoil::spoil(&mut prepared, &mut rng, spoil::CLOCK_SKEW),
            _ => {
                prepared.expected = exactly(spoil::undecodable(&mut prepared, &mut rng));
            }
        }
        self.settle(prepared)
    }

    /// Fits subject, partition and document to fields that were changed.
    fn settle<'a>(&self, mut prepared: Prepared<'a>) -> Prepared<'a> {
        let document = prepared.document.take();
        if !prepared.readable || !matches!(prepared.damage, Damage::None) {
            return prepared;
        }
        prepared.document = document.map(|document| Document {
            fields: prepared.fields.iter().cloned().collect(),
            ..document
        });
        if prepared.kind == Kind::UnknownScheme {
            let fields = |wanted| prepared.document.as_ref().and_then(|d| d.fields.get(wanted));
            if let (Some(scheme), Some(number)) = (fields(tag::SCHEME), fields(tag::NUMBER)) {
                prepared.subject = subject(scheme, None, number);
                prepared.partition = partition(&prepared.subject, self.config.partitions);
            }
        }
        prepared
    }
}

fn set_text(prepared: &mut Prepared<'_>, tag: u16, text: &str) {
    if let Some((_, bytes)) = prepared.fields.iter_mut().find(|(held, _)| *held == tag) {
        *bytes = text.as_bytes().to_vec();
    }
}

impl Source for Generator {
    fn len(&self) -> Option<u64> {
        self.config.records
    }

    fn batch(&self, range: Range<u64>, lanes: Lanes) -> Result<Vec<Generated>, SourceError> {
        Ok(self.generate_batch(range, lanes))
    }

    fn document(&self, index: u64) -> Option<Document> {
        self.prepare(index).document
    }
}
