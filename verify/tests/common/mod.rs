//! What the tests of this folder share: a source of pseudo-random values and a small chain.
//!
//! Everything comes from fixed seeds, so that a failure is found again and vectors do not change.

// Each test uses its own part.
#![allow(dead_code)]

pub(crate) mod chain;
pub(crate) mod epochs;
pub(crate) mod life;
pub(crate) mod lives;

use piaogen_crypto::sm2::{PublicKey, SecretKey, Signature};
use piaogen_verify::certificate::Certificate;
use piaogen_verify::checkpoint::{Checkpoint, SignatureLine};
use piaogen_verify::consistency::Consistency;
use piaogen_verify::document::{Document, Fields};
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::epoch::Change;
use piaogen_verify::evidence::{
    Certified, Difference, Evidence, LogAt, RewrittenLog, Said, Subtree, Vote,
};
use piaogen_verify::fields::{DOCUMENT, Field, Kind, LINE, REGISTRY, Tag, tag};
use piaogen_verify::follow::Link;
use piaogen_verify::header::{Cut, Header, ShardEntry, ValidatorSet};
use piaogen_verify::opening;
use piaogen_verify::receipt::{Content, OpenedField, Receipt};
use piaogen_verify::record::{self, Draft, RecordKind};
use piaogen_verify::status::StatusProof;
use piaogen_verify::tiles::Head;
use piaogen_verify::value::{self, Cause};
use piaogen_verify::witness::{Cosignature, Cosigned};
use std::sync::LazyLock;

/// SplitMix64: small, known, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A number of any magnitude, small ones as likely as large.
    pub(crate) fn wide(&mut self) -> u64 {
        let shift = self.below(64);
        self.next() >> shift
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.next() as u8)
    }

    pub(crate) fn digests(&mut self, most: u64) -> Vec<[u8; 32]> {
        (0..self.below(most + 1)).map(|_| self.array()).collect()
    }
}

/// The canonical bytes of a random value.
pub(crate) fn value_of(random: &mut Random, kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Text(limit) => text_of(random, limit),
        Kind::Ascii(limit) => {
            let length = 1 + random.below(u64::from(limit));
            (0..length).map(|_| 0x21 + random.below(94) as u8).collect()
        }
        Kind::Date => {
            let (year, month) = (1900 + random.below(300), 1 + random.below(12));
            value::date(year as u32, month as u32, 1 + random.below(28) as u32)
        }
        Kind::Time => value::time(random.wide() as i64),
        Kind::Amount => value::amount(signed_of(random)),
        Kind::Decimal => value::decimal(signed_of(random), random.below(19) as u8),
        Kind::Uint => value::uint(random.wide()),
        Kind::Currency => {
            let letter = |random: &mut Random| b'A' + random.below(26) as u8;
            let code = [letter(random), letter(random), letter(random)];
            value::currency(code, random.below(5) as u8)
        }
        Kind::Digest => random.array::<32>().to_vec(),
        Kind::Key => random.array::<33>().to_vec(),
        Kind::Keys => {
            let mut keys: Vec<[u8; 33]> = (0..=random.below(4)).map(|_| random.array()).collect();
            keys.sort_unstable();
            value::keys(&keys)
        }
        Kind::Flag => vec![1],
        Kind::Lines => {
            let mut bytes = (1 + random.below(10_000) as u32).to_be_bytes().to_vec();
            bytes.extend(random.array::<32>());
            bytes
        }
        Kind::List(members) => {
            let count = 1 + random.below(3);
            let entries: Vec<_> = (0..count).map(|_| some_of(random, members, 3)).collect();
            value::list(&entries)
        }
        Kind::Opening => opening::encode(&opened_of(random, DOCUMENT, 3)),
        Kind::History => {
            let mut index = 0;
            let records: Vec<_> = (0..=random.below(4))
                .map(|_| {
                    index += 1 + (random.wide() >> 8);
                    (index, random.array())
                })
                .collect();
            value::history(&records)
        }
    }
}

pub(crate) fn signed_of(random: &mut Random) -> i128 {
    let wide = i128::from(random.wide() >> 1) * i128::from(random.wide() >> 1);
    let n = wide % (value::AMOUNT_LIMIT / 1_000_000);
    if random.below(2) == 0 { n } else { -n }
}

pub(crate) fn text_of(random: &mut Random, limit: u16) -> Vec<u8> {
    const SOME: [char; 12] = ['票', '根', ' ', 'é', 'ß', 'A', '7', '"', '\\', '\n', '😀', '/'];
    let mut text = String::new();
    let length = 1 + random.below(u64::from(limit)) as usize;
    while text.len() < length {
        text.push(SOME[random.below(12) as usize]);
    }
    while text.len() > usize::from(limit) {
        text.pop();
    }
    if text.is_empty() { "x".into() } else { text.into_bytes() }
}

/// At least one and at most `most` random members of a table, tags ascending.
pub(crate) fn some_of(
    random: &mut Random,
    table: &'static [Field],
    most: u64,
) -> Vec<(Tag, Vec<u8>)> {
    let mut fields = Fields::new();
    for _ in 0..=random.below(most) {
        let field = &table[random.below(table.len() as u64) as usize];
        fields.set(field.tag, value_of(random, field.kind));
    }
    fields.pairs().to_vec()
}

/// A random document whose field `lines` fits its lines.
pub(crate) fn document_of(random: &mut Random) -> Document {
    let fields = some_of(random, DOCUMENT, 16).into_iter().collect();
    let lines = (0..random.below(4)).map(|_| {
        let line: Fields = some_of(random, LINE, 4).into_iter().collect();
        line
    });
    let lines: Vec<Fields> = lines.collect();
    let mut document = Document { secret: random.array(), fields, lines };
    if !document.lines.is_empty() || document.fields.get(tag::LINES).is_none() {
        document.seal();
    }
    document
}

/// Random fields of a table, some shown and some hidden.
pub(crate) fn opened_of(
    random: &mut Random,
    table: &'static [Field],
    most: u64,
) -> Vec<OpenedField> {
    let fields = some_of(random, table, most).into_iter().map(|(tag, value)| {
        let content = match random.below(2) {
            0 => Content::Hidden(random.array()),
            _ => Content::Shown { salt: random.array(), value },
        };
        OpenedField { tag, content }
    });
    fields.collect()
}

/// A random record of an invoice or of a participant; its signature is random too.
pub(crate) fn record_of(random: &mut Random) -> Vec<u8> {
    use RecordKind::{Issue, IssueRed, Register, Revoke, Rotate};
    let kind = [Issue, IssueRed, Register, Rotate, Revoke][random.below(5) as usize];
    let fields = match kind.is_invoice() {
        true => some_of(random, DOCUMENT, 16),
        false => some_of(random, &REGISTRY[..6], 5),
    };
    let signed_at = random.wide() as i64;
    let draft = Draft { kind, signed_at, secret: random.array(), fields: &fields };
    draft.encode(&random.array(), &Signature(random.array()))
}

/// A random outcome.
pub(crate) fn outcome_of(random: &mut Random) -> Outcome {
    let tag = random.wide() as u16;
    match random.below(9) {
        0 => Outcome::Accepted,
        1 => Outcome::Replay { first: random.wide() },
        2 => Outcome::DupDifferent { first: random.wide(), commitment: random.array() },
        3 => Outcome::Malformed { tag, cause: Cause::ALL[random.below(11) as usize] },
        4 => Outcome::Limit { tag, value: random.wide(), limit: random.wide() },
        5 => Outcome::Totals { rule: random.next() as u8, difference: signed_of(random) },
        6 => Outcome::ClockSkew { tag },
        7 => Outcome::WrongPartition { expected: random.wide() as u32 },
        _ => Outcome::KeyRevoked,
    }
}

/// A random entry.
pub(crate) fn entry_of(random: &mut Random) -> Entry {
    let subject = match random.below(4) {
        0 => Vec::new(),
        1 => (0..random.below(256)).map(|_| random.next() as u8).collect(),
        _ => {
            let seller = value_of(random, Kind::Ascii(64));
            let number = value_of(random, Kind::Ascii(64));
            let seller = (random.below(2) == 0).then_some(&seller[..]);
            record::subject(&value_of(random, Kind::Ascii(16)), seller, &number)
        }
    };
    Entry {
        kind: RecordKind::from_code(random.below(4) as u8).filter(|kind| *kind as u8 != 3),
        offset: random.wide(),
        subject,
        outcome: outcome_of(random),
        commitment: random.array(),
        signer: random.array(),
        issue: (random.below(2) == 0).then(|| random.wide() >> 1),
        status: random.array(),
    }
}

/// A random shard entry.
pub(crate) fn shard_of(random: &mut Random) -> ShardEntry {
    ShardEntry {
        shard: random.wide() as u32,
        next_offset: random.wide(),
        log_size: random.wide(),
        log_root: random.array(),
        invoices: random.wide(),
        status_root: random.array(),
    }
}

/// A random header.
pub(crate) fn header_of(random: &mut Random) -> Header {
    Header {
        chain: random.array(),
        height: random.wide(),
        epoch: random.wide(),
        time_ms: random.wide() as i64,
        parent: random.array(),
        cut: random.array(),
        shards_root: random.array(),
        history_root: random.array(),
        validators: random.array(),
        next_validators: if random.below(4) == 0 { random.array() } else { [0; 32] },
        shards: random.wide() as u32,
        records: random.wide(),
    }
}

/// A random certificate, signatures included.
pub(crate) fn certificate_of(random: &mut Random) -> Certificate {
    let validators = 1 + random.below(20);
    let mut signers: Vec<u32> = (0..validators as u32).filter(|_| random.below(3) > 0).collect();
    if signers.is_empty() {
        signers.push(0);
    }
    Certificate {
        epoch: random.wide(),
        view: random.wide(),
        parent: random.wide(),
        payload: random.array(),
        validators,
        signatures: signers.iter().map(|_| Signature(random.array())).collect(),
        signers,
    }
}

/// A random receipt, canonical but proving nothing.
pub(crate) fn receipt_of(random: &mut Random) -> Receipt {
    Receipt {
        fields: opened_of(random, DOCUMENT, 12),
        entry: entry_of(random),
        log_index: random.wide(),
        inclusion: random.digests(64),
        shard: shard_of(random),
        shard_proof: random.digests(12),
        header: header_of(random),
        history: (random.below(2) == 0).then(|| (header_of(random), random.digests(20))),
        certificate: certificate_of(random).encode(),
        changes: changes_of(random),
        cosigned: (random.below(3) == 0).then(|| cosigned_of(random)),
    }
}

/// A random consistency proof.
pub(crate) fn consistency_of(random: &mut Random) -> Consistency {
    Consistency {
        older: header_of(random),
        newer: header_of(random),
        proof: random.digests(64),
        certificate: certificate_of(random).encode(),
        changes: changes_of(random),
    }
}

/// Some real keys, to make sets of: making one costs a multiplication.
static KEYS: LazyLock<Vec<PublicKey>> =
    LazyLock::new(|| (101..125).map(|i| key_of(i).public_key()).collect());

/// A random set of real keys.
pub(crate) fn set_of(random: &mut Random) -> ValidatorSet {
    let first = random.below(20) as usize;
    let count = 1 + random.below(4) as usize;
    ValidatorSet::new(KEYS[first..first + count].to_vec()).unwrap()
}

/// Random changes of the validator set, mostly none.
pub(crate) fn changes_of(random: &mut Random) -> Vec<Change> {
    let count = random.below(5).saturating_sub(2);
    let change = |random: &mut Random| Change {
        header: header_of(random),
        certificate: certificate_of(random).encode(),
        next: set_of(random),
    };
    (0..count).map(|_| change(random)).collect()
}

/// A random head.
pub(crate) fn head_of(random: &mut Random) -> Head {
    Head {
        header: header_of(random),
        certificate: certificate_of(random).encode(),
        changes: changes_of(random),
        shards: (0..random.below(4)).map(|_| shard_of(random)).collect(),
    }
}

/// A random link.
pub(crate) fn link_of(random: &mut Random) -> Link {
    let certificate = match random.below(3) {
        0 => Vec::new(),
        _ => certificate_of(random).encode(),
    };
    let next = (random.below(3) == 0).then(|| set_of(random));
    Link { header: header_of(random), certificate, next }
}

/// A random cosignature.
pub(crate) fn cosignature_of(random: &mut Random) -> Cosignature {
    Cosignature {
        name: format!("w{}.example/票根", random.below(100)),
        hint: random.array(),
        time: random.wide(),
        signature: Signature(random.array()),
    }
}

/// A random part of a receipt that witnesses signed.
pub(crate) fn cosigned_of(random: &mut Random) -> Cosigned {
    Cosigned {
        size: random.wide(),
        root: random.array(),
        proof: random.digests(30),
        cosignatures: (0..random.below(4)).map(|_| cosignature_of(random)).collect(),
    }
}

/// A random certified header.
fn certified_of(random: &mut Random) -> Certified {
    Certified {
        header: header_of(random),
        certificate: certificate_of(random).encode(),
        changes: changes_of(random),
    }
}

fn vote_of(random: &mut Random) -> Vote {
    let (parent, payload) = (random.wide(), random.array());
    let said = match random.below(3) {
        0 => Said::Notarize { parent, payload },
        1 => Said::Finalize { parent, payload },
        _ => Said::Timeout,
    };
    Vote { said, signature: Signature(random.array()) }
}

/// Random evidence, well formed but proving nothing.
pub(crate) fn evidence_of(random: &mut Random) -> Evidence {
    match random.below(5) {
        0 => Evidence::DoubleVote {
            changes: changes_of(random),
            key: KEYS[random.below(24) as usize].clone(),
            epoch: random.wide(),
            view: random.wide(),
            first: vote_of(random),
            second: vote_of(random),
        },
        1 => Evidence::Fork { first: certified_of(random), second: certified_of(random) },
        2 => Evidence::Rewrite {
            older: certified_of(random),
            newer: certified_of(random),
            other: random.array(),
            proof: random.digests(30),
        },
        3 => Evidence::Cosigned {
            first: checkpoint_of(random),
            second: checkpoint_of(random),
            prefix: (random.below(2) == 0).then(|| (random.array(), random.digests(30))),
        },
        _ => Evidence::RewrittenLog(Box::new(RewrittenLog {
            older: log_at_of(random),
            newer: log_at_of(random),
            history: random.digests(30),
            difference: (random.below(4) > 0).then(|| Difference {
                level: random.below(64) as u8,
                index: random.wide(),
                older: subtree_of(random),
                newer: subtree_of(random),
            }),
        })),
    }
}

fn log_at_of(random: &mut Random) -> LogAt {
    LogAt { block: certified_of(random), shard: shard_of(random), shard_proof: random.digests(12) }
}

fn subtree_of(random: &mut Random) -> Subtree {
    Subtree { hash: random.array(), proof: random.digests(30) }
}

/// A random checkpoint.
pub(crate) fn checkpoint_of(random: &mut Random) -> Checkpoint {
    let mut checkpoint = Checkpoint::new(
        &format!("chain-{}", random.below(1000)),
        1 + random.wide() / 2,
        random.array(),
    );
    for i in 0..random.below(4) {
        let bytes = (0..5 + random.below(80)).map(|_| random.next() as u8).collect();
        checkpoint.signatures.push(SignatureLine { name: format!("name-{i}"), bytes });
    }
    checkpoint
}

/// A random status proof.
pub(crate) fn status_proof_of(random: &mut Random) -> StatusProof {
    let siblings = core::array::from_fn(|_| match random.below(3) {
        0 => random.array(),
        _ => [0; 32],
    });
    StatusProof { siblings }
}

/// A random cut.
pub(crate) fn cut_of(random: &mut Random) -> Cut {
    Cut((0..random.below(100)).map(|_| random.wide()).collect())
}

/// A secret key from one byte.
pub(crate) fn key_of(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&[byte; 32]).unwrap()
}
