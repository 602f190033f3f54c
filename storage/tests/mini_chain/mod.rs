//! A small chain made from a seed: records of every kind, their entries, blocks and certificates.
//!
//! It is the input of the archive's tests, in this crate and in the one that queries, and of its
//! measurements. It executes nothing: outcomes are drawn, and logs and headers follow from them by
//! the definitions of `FORMAT.md`, without the code that is tested.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses its part; a failure ends it"
)]

use piaogen_crypto::sm2::{SecretKey, Signature};
use piaogen_crypto::{Digest, sm3};
use piaogen_verify::certificate::Certificate;
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::document::Fields;
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::{EPOCH_BLOCKS, FORMAT, Founder, Genesis, GenesisFile};
use piaogen_verify::header::{Cut, Header, ShardEntry, shards_root};
use piaogen_verify::merkle;
use piaogen_verify::record::{self, Draft, RecordKind};
use piaogen_verify::status::interior;
use piaogen_verify::value::{self, Cause};
use std::collections::BTreeMap;

/// 23:59:50 UTC, so that a chain of some blocks spans two days.
pub const FIRST_TIME: i64 = 1_795_305_590_000;

/// What to make.
#[derive(Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub partitions: u32,
    pub blocks: u64,
    /// Rows of each partition in each block.
    pub rows: u64,
    /// Sign records; otherwise signatures are random bytes and every row is of kind issue.
    pub signed: bool,
}

pub struct MiniRow {
    pub log_index: u64,
    pub height: u64,
    pub time_ms: i64,
    pub entry: Vec<u8>,
    pub record: Vec<u8>,
}

impl MiniRow {
    pub fn view(&self) -> piaogen_storage::RowRef<'_> {
        piaogen_storage::RowRef {
            log_index: self.log_index,
            height: self.height,
            time_ms: self.time_ms,
            entry: &self.entry,
            record: &self.record,
        }
    }
}

pub struct MiniBlock {
    pub header: Header,
    pub cut: Cut,
    pub certificate: Vec<u8>,
}

pub struct MiniChain {
    pub genesis_bytes: Vec<u8>,
    pub genesis: Genesis,
    pub shards: Vec<Vec<MiniRow>>,
    pub blocks: Vec<MiniBlock>,
    rng: Rng,
    keys: Vec<SecretKey>,
    validator: SecretKey,
    next_offsets: Vec<u64>,
    invoices: Vec<u64>,
    /// Status records that are not zero.
    statuses: Vec<BTreeMap<u64, Digest>>,
    leaves: Vec<Vec<Digest>>,
    plan: Plan,
}

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

fn genesis(partitions: u32, keys: &[SecretKey], validator: &SecretKey) -> Vec<u8> {
    let hex = |key: &SecretKey| hex::encode(key.public_key().to_compressed());
    let file = GenesisFile {
        format: FORMAT.into(),
        chain_id: "mini".into(),
        time_ms: FIRST_TIME,
        partitions,
        validators: vec![hex(validator)],
        participants: vec![Founder {
            party: "AUTHORITY".into(),
            name: "Authority".into(),
            roles: vec!["authority".into()],
            public_key: hex(&keys[0]),
        }],
        schemes: Vec::new(),
        clock_skew_ms: 60_000,
        epoch_blocks: EPOCH_BLOCKS,
        authority_quorum: None,
    };
    serde_json::to_vec(&file).unwrap()
}

impl MiniChain {
    pub fn make(plan: Plan) -> MiniChain {
        let keys: Vec<SecretKey> =
            (1..=8).map(|i| SecretKey::from_bytes(&[i; 32]).unwrap()).collect();
        let validator = SecretKey::from_bytes(&[77; 32]).unwrap();
        let genesis_bytes = genesis(plan.partitions, &keys, &validator);
        let genesis = Genesis::parse(&genesis_bytes).unwrap();
        let count = plan.partitions as usize + 1;
        let mut chain = MiniChain {
            genesis_bytes,
            genesis,
            shards: (0..count).map(|_| Vec::new()).collect(),
            blocks: Vec::new(),
            rng: Rng(plan.seed),
            keys,
            validator,
            next_offsets: vec![0; count],
            invoices: vec![0; count],
            statuses: vec![BTreeMap::new(); count],
            leaves: vec![Vec::new(); count],
            plan,
        };
        let header = chain.genesis.header();
        let cut = Cut(vec![0; count]);
        chain.blocks.push(MiniBlock { header, cut, certificate: Vec::new() });
        for height in 1..=plan.blocks {
            chain.block(height);
        }
        chain
    }

    pub fn rows(&self) -> usize {
        self.shards.iter().map(Vec::len).sum()
    }

    fn block(&mut self, height: u64) {
        let time_ms = FIRST_TIME + height as i64 * 1_000;
        let states: Vec<ShardEntry> = (0..self.shards.len()).map(|at| self.state(at)).collect();
        for shard in 0..self.plan.partitions as usize {
            // Some blocks bring nothing to a shard.
            let rows = if height % 3 == 2 && shard == 0 { 0 } else { self.plan.rows };
            for _ in 0..rows {
                self.row(shard, height, time_ms);
            }
        }
        if height <= self.keys.len() as u64 {
            self.register(height, time_ms);
        }
        let parent = self.blocks.last().unwrap().header;
        let history: Vec<Digest> = self.blocks.iter().map(|block| block.header.leaf()).collect();
        let cut = Cut(self.next_offsets.clone());
        let header = Header {
            height,
            time_ms,
            parent: parent.digest(),
            cut: cut.digest(),
            shards_root: shards_root(&states),
            history_root: merkle::root_of_leaves(&history),
            records: states.iter().map(|state| state.log_size).sum(),
            ..parent
        };
        let certificate = self.certify(&header);
        self.blocks.push(MiniBlock { header, cut, certificate });
    }

    fn state(&self, at: usize) -> ShardEntry {
        ShardEntry {
            shard: at as u32,
            next_offset: self.next_offsets[at],
            log_size: self.leaves[at].len() as u64,
            log_root: merkle::root_of_leaves(&self.leaves[at]),
            invoices: self.invoices[at],
            status_root: status_root(&self.statuses[at]),
        }
    }

    fn certify(&self, header: &Header) -> Vec<u8> {
        let mut certificate = Certificate {
            epoch: 0,
            view: header.height,
            parent: header.height - 1,
            payload: header.digest(),
            validators: 1,
            signers: vec![0],
            signatures: Vec::new(),
        };
        let message = certificate.signed(&header.chain);
        certificate.signatures.push(self.validator.sign(&message));
        certificate.encode()
    }

    fn push(&mut self, shard: usize, height: u64, time_ms: i64, entry: &Entry, record: Vec<u8>) {
        let encoded = entry.encode();
        self.leaves[shard].push(merkle::leaf(&encoded));
        let log_index = self.shards[shard].len() as u64;
        self.shards[shard].push(MiniRow { log_index, height, time_ms, entry: encoded, record });
    }

    fn register(&mut self, height: u64, time_ms: i64) {
        let shard = self.shards.len() - 1;
        let key = self.keys[height as usize - 1].public_key();
        let party = format!("PARTY-{height}");
        let mut fields = Fields::new();
        fields.set_text(tag::PARTY, &party);
        fields.set_text(tag::PARTY_NAME, "某某有限公司");
        fields.set(tag::ROLES, value::uint(2));
        fields.set(tag::PUBLIC_KEY, key.to_compressed().to_vec());
        let draft = Draft {
            kind: RecordKind::Register,
            signed_at: time_ms,
            secret: [0; 16],
            fields: fields.pairs(),
        };
        let record = draft.sign(&self.genesis.chain, &self.keys[0]);
        let entry = Entry {
            kind: Some(RecordKind::Register),
            offset: self.next_offsets[shard],
            subject: record::subject(b"REGISTRY", None, party.as_bytes()),
            outcome: Outcome::Accepted,
            commitment: draft.commitment(),
            signer: self.keys[0].public_key().key_id(),
            issue: None,
            status: [0; 32],
        };
        self.next_offsets[shard] += 1;
        self.push(shard, height, time_ms, &entry, record);
    }

    fn row(&mut self, shard: usize, height: u64, time_ms: i64) {
        let case = if self.plan.signed { self.rng.below(30) } else { 23 };
        if case >= 24 && self.invoices[shard] > 0 {
            return self.event(case, shard, height, time_ms);
        }
        // Streams may have holes between offsets.
        let offset = self.next_offsets[shard] + u64::from(case == 5);
        self.next_offsets[shard] = offset + 1;
        if case == 0 {
            return self.unreadable(shard, height, time_ms, offset);
        }
        let red = case == 1 || case == 2;
        let kind = if red { RecordKind::IssueRed } else { RecordKind::Issue };
        let fields = invoice(&mut self.rng, red, case == 2, case == 3);
        let draft = Draft {
            kind,
            signed_at: time_ms - 1_000 - self.rng.below(60_000) as i64,
            secret: self.rng.bytes(),
            fields: fields.pairs(),
        };
        let key = &self.keys[self.rng.below(8) as usize];
        let record = if !self.plan.signed || case == 4 {
            let signer = sm3::hash(&self.rng.below(5_000).to_be_bytes());
            let signer = if case == 4 { key.public_key().key_id() } else { signer };
            draft.encode(&signer, &Signature(self.rng.bytes()))
        } else {
            draft.sign(&self.genesis.chain, key)
        };
        let decoded = record::decode(&record).unwrap();
        let outcome = match case {
            4 => Outcome::BadSignature,
            6 => Outcome::Replay { first: self.rng.below(1_000) },
            7 => Outcome::DupDifferent { first: 3, commitment: self.rng.bytes() },
            8 => Outcome::Totals { rule: 1, difference: -7 },
            9 => Outcome::WrongActor,
            10 => Outcome::ClockSkew { tag: 0 },
            _ => Outcome::Accepted,
        };
        let accepted = outcome == Outcome::Accepted;
        let (scheme, number) = (fields.get(tag::SCHEME), fields.get(tag::NUMBER));
        // Numbers of case 11 are unique within a seller.
        let seller = fields.get(tag::SELLER_PARTY).filter(|_| case == 11);
        let subject = match (scheme, number) {
            // A subject that follows from nothing must be kept as well.
            _ if case == 12 => b"\x01x\x01y".to_vec(),
            (Some(scheme), Some(number)) => record::subject(scheme, seller, number),
            _ => Vec::new(),
        };
        let entry = Entry {
            kind: Some(kind),
            offset,
            subject,
            outcome,
            commitment: decoded.commitment(),
            signer: decoded.signer,
            issue: accepted.then_some(self.invoices[shard]),
            status: [0; 32],
        };
        self.invoices[shard] += u64::from(accepted);
        self.push(shard, height, time_ms, &entry, record);
    }

    /// Something that happens to an invoice, a query, or one that is refused.
    fn event(&mut self, case: u64, shard: usize, height: u64, time_ms: i64) {
        let kinds = [RecordKind::Book, RecordKind::FinanceHold, RecordKind::RedApply];
        let kind = if case == 24 { RecordKind::Query } else { kinds[case as usize % 3] };
        let fields = event(&mut self.rng, kind);
        let secret = self.rng.bytes();
        let draft = Draft { kind, signed_at: time_ms, secret, fields: fields.pairs() };
        let key = &self.keys[self.rng.below(8) as usize];
        let record = draft.sign(&self.genesis.chain, key);
        let issue = self.rng.below(self.invoices[shard]);
        let stands = self.statuses[shard].get(&issue).copied().unwrap_or_default();
        let (outcome, status) = match case {
            24 => (Outcome::Accepted, stands),
            25 => {
                let booked = Detail::Index(self.rng.below(1_000));
                (Outcome::conflict_with(Conflict::AlreadyBooked, booked), stands)
            }
            26 => (Outcome::conflict(Conflict::NoRight), stands),
            _ => (Outcome::Accepted, self.rng.bytes()),
        };
        let accepted = outcome == Outcome::Accepted;
        if accepted && kind != RecordKind::Query {
            self.statuses[shard].insert(issue, status);
        }
        let offset = self.next_offsets[shard];
        self.next_offsets[shard] += 1;
        let entry = Entry {
            kind: Some(kind),
            offset,
            subject: record::subject(b"CN-EINV", None, fields.text(tag::NUMBER).as_bytes()),
            outcome,
            commitment: draft.commitment(),
            signer: key.public_key().key_id(),
            issue: accepted.then_some(issue),
            status,
        };
        self.push(shard, height, time_ms, &entry, record);
    }

    fn unreadable(&mut self, shard: usize, height: u64, time_ms: i64, offset: u64) {
        let length = self.rng.below(200) as usize;
        let record: Vec<u8> = (0..length).map(|_| self.rng.next() as u8).collect();
        let entry = Entry {
            kind: None,
            offset,
            subject: Vec::new(),
            outcome: Outcome::Malformed { tag: 0, cause: Cause::Encoding },
            commitment: record::unreadable_commitment(&record),
            signer: [0; 32],
            issue: None,
            status: [0; 32],
        };
        self.push(shard, height, time_ms, &entry, record);
    }
}

/// The root of a status tree, by its definition.
fn status_root(records: &BTreeMap<u64, Digest>) -> Digest {
    let mut level: BTreeMap<u64, Digest> = records.clone();
    for _ in 0..40 {
        let node = |at: u64| level.get(&at).copied().unwrap_or_default();
        let above = |at: &u64| (at / 2, interior(&node(at & !1), &node(at | 1)));
        level = level.keys().map(above).collect();
    }
    level.get(&0).copied().unwrap_or_default()
}

/// The fields of an event: sometimes nearly none, sometimes all that have columns of their own.
fn event(rng: &mut Rng, kind: RecordKind) -> Fields {
    let mut fields = Fields::new();
    fields.set_text(tag::NUMBER, &format!("26{:018}", rng.below(1_000_000)));
    fields.set_text(tag::SCHEME, "CN-EINV");
    fields.set_amount(tag::AMOUNT, i128::from(rng.below(1 << 40)) + 1);
    if kind == RecordKind::Query || rng.below(3) == 0 {
        return fields;
    }
    fields.set(tag::CURRENCY, value::currency(*b"CNY", 2));
    fields.set_amount(tag::TAX_AMOUNT, rng.below(100).into());
    fields.set_amount(tag::ADVANCED, rng.below(100).into());
    for (tag, text) in [
        (tag::ACTOR, "BANK-1"),
        (tag::REFERENCE, "R-1"),
        (tag::REASON_CODE, "02"),
        (tag::FORM, "pledge"),
        (tag::MARK, "deduct"),
        (tag::TEXT, "电话号码"),
        (tag::FACT, "red"),
        (tag::RED_NUMBER, "26442000000000000009"),
        (tag::SYSTEM, "ZHONGDENG"),
        (tag::ON_BEHALF, "PARTY-2"),
    ] {
        fields.set_text(tag, text);
    }
    fields.set(tag::DIGEST, rng.bytes::<32>().to_vec());
    fields.set(tag::ACCOUNT, rng.bytes::<32>().to_vec());
    fields.set(tag::FINANCING, value::uint(rng.next()));
    fields.set(tag::PERIOD, value::uint(202_611));
    fields.set(tag::SCOPE, value::uint(7));
    fields.set(tag::FIELD, value::uint(42));
    fields.set(tag::EXPECTED_VERSION, value::uint(rng.below(9)));
    fields.set(tag::EXPIRES, value::time(FIRST_TIME + rng.below(1 << 30) as i64));
    fields.set(tag::DIVISIBLE, vec![1]);
    fields.set(tag::DUE, value::date(2027, 2, 28));
    fields
}

const CITIES: [&str; 6] = ["深圳市", "上海市", "北京市", "杭州市", "成都市", "广州市"];
const GOODS: [&str; 6] = ["科技", "贸易", "电子", "餐饮", "建筑", "物流"];

fn company(n: u64) -> String {
    let (city, goods) = (CITIES[n as usize % 6], GOODS[n as usize / 6 % 6]);
    format!("{city}第{n}{goods}有限公司")
}

fn party(n: u64) -> String {
    format!("91{:06}MA{:08}", 110_000 + n % 9_000, n * 7_919 % 100_000_000)
}

/// The fields of an invoice, about 490 bytes as a record.
pub fn invoice(rng: &mut Rng, red: bool, unknown: bool, sparse: bool) -> Fields {
    let (seller, buyer) = (rng.below(5_000), rng.below(50_000));
    let sign = if red { -1 } else { 1 };
    let size = rng.below(32);
    let net = i128::from(rng.below(1 << size) + 1) * sign;
    let vat = (net * 13 + 50) / 100;
    let mut fields = Fields::new();
    fields.set_text(
        tag::NUMBER,
        &format!("26{:04}{:014}", seller % 10_000, rng.below(10_000_000_000)),
    );
    fields.set_text(tag::SCHEME, "CN-EINV");
    fields.set(tag::ISSUE_DATE, value::date(2026, 11, 1 + rng.below(21) as u32));
    fields.set_text(tag::SELLER_PARTY, &party(seller));
    if sparse {
        return fields;
    }
    fields.set_text(tag::TYPE_CODE, if red { "381" } else { "380" });
    fields.set(tag::CURRENCY, value::currency(*b"CNY", 2));
    fields.set(9, value::date(2027, 1, 1 + rng.below(28) as u32));
    fields.set_text(tag::SELLER_NAME, &company(seller));
    fields.set_text(31, &party(seller));
    fields.set_text(35, &format!("{}科技园{}号", CITIES[seller as usize % 6], seller % 300));
    fields.set_text(40, "CN");
    fields.set_text(tag::BUYER_NAME, &company(buyer));
    fields.set_text(48, &party(buyer));
    fields.set_text(50, &format!("{}人民路{}号", CITIES[buyer as usize % 6], buyer % 900));
    fields.set_text(55, "CN");
    fields.set_text(2007, &party(buyer));
    fields.set_amount(tag::TOTAL_NET, net);
    fields.set_amount(tag::TOTAL_VAT, vat);
    fields.set_amount(tag::TOTAL_GROSS, net + vat);
    fields.set_amount(tag::AMOUNT_DUE, net + vat);
    fields.set_text(2023, ["王芳", "李娜", "张伟"][rng.below(3) as usize]);
    let breakdown = vec![
        (tag::TAXABLE, value::amount(net)),
        (tag::TAX, value::amount(vat)),
        (118, b"S".to_vec()),
        (tag::VAT_RATE, value::decimal(13, 0)),
    ];
    fields.set(tag::VAT_BREAKDOWN, value::list(&[breakdown]));
    let mut lines = (1 + rng.below(100) as u32).to_be_bytes().to_vec();
    lines.extend_from_slice(&rng.bytes::<32>());
    fields.set(tag::LINES, lines);
    if unknown {
        fields.set(tag::ORIGINAL_UNKNOWN, vec![1]);
    } else if red {
        let number = format!("26{:018}", rng.below(1_000_000));
        let first = vec![(25, number.into_bytes()), (26, value::date(2026, 10, 31))];
        fields.set(tag::PRECEDING, value::list(&[first, vec![(2005, b"SLIP-1".to_vec())]]));
    }
    fields
}
