//! The small chain of the examples and vectors: two partitions, four validators, a handful of
//! records, four blocks.

use super::key_of;
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::certificate::Certificate;
use piaogen_verify::document::{Document, Fields};
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::fields::{DOCUMENT, Field, LINE, by_name, tag};
use piaogen_verify::genesis::{FORMAT, Founder, Genesis, GenesisFile};
use piaogen_verify::header::{Cut, Header, ShardEntry, shards_root};
use piaogen_verify::receipt::{OpenedField, Receipt};
use piaogen_verify::record::{self, Draft, RecordKind, partition};
use piaogen_verify::scheme::{RedSign, Scheme, check_invoice};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::{merkle, value};

/// Time of the genesis.
pub(crate) const BEGIN_MS: i64 = 1_795_219_200_000;
/// Partitions of the chain; the registry is the shard after them.
pub(crate) const PARTITIONS: u32 = 2;

/// One record of the chain and what became of it.
pub(crate) struct Item {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) document: Option<Document>,
    pub(crate) entry: Entry,
    pub(crate) shard: u32,
    pub(crate) log_index: u64,
}

/// The chain.
pub(crate) struct Chain {
    pub(crate) genesis_file: Vec<u8>,
    pub(crate) genesis: Genesis,
    pub(crate) trust: TrustRoot,
    /// The validators' keys, in the order of their set.
    pub(crate) keys: Vec<SecretKey>,
    pub(crate) items: Vec<Item>,
    pub(crate) leaves: Vec<Vec<Digest>>,
    pub(crate) shards: Vec<ShardEntry>,
    pub(crate) cut: Cut,
    pub(crate) headers: Vec<Header>,
}

fn hex_key(key: &SecretKey) -> String {
    hex::encode(key.public_key().to_compressed())
}

/// The genesis file, as indented JSON.
pub(crate) fn genesis_file() -> Vec<u8> {
    let scheme = |code: &str, per_seller, types: &[&str], red: &[&str], red_sign| Scheme {
        code: code.into(),
        per_seller,
        blue_types: types.iter().map(|t| (*t).into()).collect(),
        red_types: red.iter().map(|t| (*t).into()).collect(),
        red_sign,
        tolerance_totals: 0,
        tolerance_tax: 2,
        slips: false,
        voidable: false,
        deductible_vat_types: Vec::new(),
    };
    let founder = |party: &str, name: &str, role: &str, key: u8| Founder {
        party: party.into(),
        name: name.into(),
        roles: vec![role.into()],
        public_key: hex_key(&key_of(key)),
    };
    let file = GenesisFile {
        format: FORMAT.into(),
        chain_id: "example-1".into(),
        time_ms: BEGIN_MS,
        partitions: PARTITIONS,
        validators: (1..=4).map(|i| hex_key(&key_of(i))).collect(),
        participants: vec![
            founder("AUTHORITY", "Example Tax Authority", "authority", 11),
            founder("91440300MA5EXAMP1F", "示例纸业有限公司", "issuer", 12),
        ],
        schemes: vec![
            scheme("CN-EINV", false, &["81", "82"], &["81", "82"], RedSign::Negative),
            scheme("EN16931", true, &["380"], &["381"], RedSign::Positive),
        ],
        clock_skew_ms: 60_000,
        epoch_blocks: 10,
        authority_quorum: None,
    };
    let mut text = serde_json::to_vec_pretty(&file).unwrap();
    text.push(b'\n');
    text
}

pub(crate) fn text(fields: &mut Fields, table: &'static [Field], name: &str, value: &str) {
    fields.set_text(by_name(table, name).unwrap().tag, value);
}

/// The blue invoice of the examples.
pub(crate) fn blue() -> Document {
    let mut fields = Fields::new();
    for (name, value) in [
        ("scheme", "CN-EINV"),
        ("number", "26442000000000000001"),
        ("type_code", "81"),
        ("seller_name", "示例纸业有限公司"),
        ("seller_party", "91440300MA5EXAMP1F"),
        ("buyer_name", "示例贸易有限公司"),
        ("buyer_party", "91310000MA1EXAMP27"),
        ("drawer", "王芳"),
        ("remark", "合同 2026-118"),
    ] {
        text(&mut fields, DOCUMENT, name, value);
    }
    fields.set(tag::ISSUE_DATE, value::date(2026, 11, 21));
    fields.set(tag::CURRENCY, value::currency(*b"CNY", 2));
    for (tag, minor) in [
        (tag::LINES_NET, 12_000),
        (tag::TOTAL_NET, 12_000),
        (tag::TOTAL_VAT, 1_420),
        (tag::TOTAL_GROSS, 13_420),
    ] {
        fields.set_amount(tag, minor);
    }
    let entry = |taxable, tax, rate| {
        vec![
            (tag::TAXABLE, value::amount(taxable)),
            (tag::TAX, value::amount(tax)),
            (tag::VAT_RATE, value::decimal(rate, 0)),
        ]
    };
    fields.set(tag::VAT_BREAKDOWN, value::list(&[entry(10_000, 1_300, 13), entry(2_000, 120, 6)]));
    let line = |item: &str, quantity: (i128, u8), price: (i128, u8), net, rate, tax| {
        let mut line = Fields::new();
        text(&mut line, LINE, "item", item);
        line.set(129, value::decimal(quantity.0, quantity.1));
        line.set(146, value::decimal(price.0, price.1));
        line.set_amount(tag::LINE_NET, net);
        line.set(152, value::decimal(rate, 0));
        line.set_amount(2131, tax);
        line
    };
    let lines = vec![
        line("*纸制品*复印纸", (8, 0), (125, 1), 10_000, 13, 1_300),
        line("*物流辅助服务*配送", (25, 1), (8, 0), 2_000, 6, 120),
    ];
    let mut document = Document { secret: *b"example secret 1", fields, lines };
    document.seal();
    document
}

/// The red invoice that takes the blue one back.
pub(crate) fn red() -> Document {
    let mut document = blue();
    document.secret = *b"example secret 2";
    document.lines.clear();
    document.seal();
    text(&mut document.fields, DOCUMENT, "number", "26442000000000000002");
    document.fields.remove(tag::VAT_BREAKDOWN);
    for tag in [tag::LINES_NET, tag::TOTAL_NET, tag::TOTAL_VAT, tag::TOTAL_GROSS] {
        let minor = document.fields.amount(tag);
        document.fields.set_amount(tag, -minor);
    }
    let preceding = vec![
        (25, b"26442000000000000001".to_vec()),
        (26, value::date(2026, 11, 21)),
        (2004, b"CN-EINV".to_vec()),
    ];
    document.fields.set(tag::PRECEDING, value::list(&[preceding]));
    document
}

/// An invoice whose totals do not add up.
pub(crate) fn wrong_totals() -> Document {
    let mut document = blue();
    document.secret = *b"example secret 3";
    document.seal();
    text(&mut document.fields, DOCUMENT, "number", "26442000000000000003");
    document.fields.set_amount(tag::TOTAL_GROSS, 13_421);
    document
}

/// Signs a document.
pub(crate) fn sign(chain: &Digest, kind: RecordKind, document: &Document, key: u8) -> Vec<u8> {
    let draft = Draft {
        kind,
        signed_at: BEGIN_MS + 1_000,
        secret: document.secret,
        fields: document.fields.pairs(),
    };
    draft.sign(chain, &key_of(key))
}

/// A registry record: one more issuer.
pub(crate) fn register(chain: &Digest) -> Vec<u8> {
    let fields = [
        (tag::PARTY, b"91310000MA1EXAMP27".to_vec()),
        (tag::PARTY_NAME, "示例贸易有限公司".as_bytes().to_vec()),
        (tag::ROLES, value::uint(2)),
        (tag::PUBLIC_KEY, key_of(13).public_key().to_compressed().to_vec()),
    ];
    let kind = RecordKind::Register;
    let draft = Draft { kind, signed_at: BEGIN_MS + 500, secret: [0; 16], fields: &fields };
    draft.sign(chain, &key_of(11))
}

/// The entry of a record whose signature holds, with the outcome that the rules alone give.
fn entry_of_record(bytes: &[u8], genesis: &Genesis, offset: u64) -> Entry {
    let schemes = &genesis.file.schemes;
    let blank = Entry {
        kind: None,
        offset,
        subject: Vec::new(),
        outcome: Outcome::Accepted,
        commitment: record::unreadable_commitment(bytes),
        signer: [0; 32],
        issue: None,
        status: [0; 32],
    };
    match record::decode(bytes) {
        Err(unreadable) => Entry {
            kind: unreadable.kind,
            outcome: Outcome::of_flaw(unreadable.tag, unreadable.flaw),
            signer: unreadable.signer,
            ..blank
        },
        Ok(record) => Entry {
            kind: Some(record.kind),
            subject: record.subject(schemes).unwrap(),
            outcome: match record.kind.is_invoice() {
                true => check_invoice(&record, schemes).err().unwrap_or(Outcome::Accepted),
                false => Outcome::Accepted,
            },
            commitment: record.commitment(),
            signer: record.signer,
            ..blank
        },
    }
}

impl Chain {
    /// Builds the chain; every call gives the same bytes.
    pub(crate) fn build() -> Chain {
        let genesis_file = genesis_file();
        let genesis = Genesis::parse(&genesis_file).unwrap();
        let trust = TrustRoot::of_genesis(&genesis);
        let mut keys: Vec<SecretKey> = (1..=4).map(key_of).collect();
        keys.sort_by_key(|key| key.public_key().to_compressed());
        let (items, leaves) = run(&genesis);
        let mut shards: Vec<ShardEntry> = (0..=PARTITIONS).map(ShardEntry::empty).collect();
        for (shard, leaves) in shards.iter_mut().zip(&leaves) {
            shard.next_offset = leaves.len() as u64;
            shard.log_size = leaves.len() as u64;
            shard.log_root = merkle::root_of_leaves(leaves);
            let own = items.iter().filter(|item| item.shard == shard.shard);
            shard.invoices = own.filter(|item| item.entry.issue.is_some()).count() as u64;
        }
        let cut = Cut(shards.iter().map(|shard| shard.next_offset).collect());
        let headers = headers(&genesis, &cut, &shards);
        Chain { genesis_file, genesis, trust, keys, items, leaves, shards, cut, headers }
    }

    /// The item with this name.
    pub(crate) fn item(&self, name: &str) -> &Item {
        self.items.iter().find(|item| item.name == name).unwrap()
    }

    /// A certificate of a header by these validators.
    pub(crate) fn certify(&self, header: &Header, signers: &[u32]) -> Certificate {
        let mut certificate = Certificate {
            epoch: header.epoch,
            view: 2 * header.height + 1,
            parent: 2 * header.height - 1,
            payload: header.digest(),
            validators: self.keys.len() as u64,
            signers: signers.to_vec(),
            signatures: Vec::new(),
        };
        let message = certificate.signed(&header.chain);
        certificate.signatures =
            signers.iter().map(|i| self.keys[*i as usize].sign(&message)).collect();
        certificate
    }

    /// The receipt of an item, certified by block 2 itself or, with its history, by block 3.
    pub(crate) fn receipt(&self, name: &str, through_history: bool) -> Receipt {
        let item = self.item(name);
        let shard = self.shards[item.shard as usize];
        let leaves = &self.leaves[item.shard as usize];
        let shard_leaves: Vec<Digest> = self.shards.iter().map(ShardEntry::leaf).collect();
        let history = through_history.then(|| (self.headers[3], self.history_proof(2, 3)));
        let last = if through_history { &self.headers[3] } else { &self.headers[2] };
        Receipt {
            fields: item.document.as_ref().map_or(Vec::new(), OpenedField::all_hidden),
            entry: item.entry.clone(),
            log_index: item.log_index,
            inclusion: merkle::prove_inclusion(&leaves[..], item.log_index, shard.log_size)
                .unwrap(),
            shard,
            shard_proof: merkle::prove_inclusion(
                &shard_leaves[..],
                item.shard.into(),
                self.shards.len() as u64,
            )
            .unwrap(),
            header: self.headers[2],
            history,
            certificate: self.certify(last, &[0, 1, 3]).encode(),
            changes: Vec::new(),
            cosigned: None,
        }
    }

    /// The proof of a header in the history of a later one.
    pub(crate) fn history_proof(&self, older: usize, newer: usize) -> Vec<Digest> {
        let leaves: Vec<Digest> = self.headers[..newer].iter().map(Header::leaf).collect();
        merkle::prove_inclusion(&leaves[..], older as u64, newer as u64).unwrap()
    }
}

/// The records of the chain in stream order, and the leaves of each shard.
fn run(genesis: &Genesis) -> (Vec<Item>, Vec<Vec<Digest>>) {
    let chain = &genesis.chain;
    let (blue, red, wrong) = (blue(), red(), wrong_totals());
    let first = sign(chain, RecordKind::Issue, &blue, 12);
    let mut cut_short = first.clone();
    cut_short.truncate(200);
    let stream = [
        ("register", register(chain), None),
        ("blue", first.clone(), Some(blue.clone())),
        ("red", sign(chain, RecordKind::IssueRed, &red, 12), Some(red)),
        ("refused", sign(chain, RecordKind::Issue, &wrong, 12), Some(wrong)),
        ("replay", first, Some(blue)),
        ("unreadable", cut_short, None),
    ];
    let mut leaves = vec![Vec::new(); PARTITIONS as usize + 1];
    let mut items: Vec<Item> = Vec::new();
    let mut invoices = [0; PARTITIONS as usize];
    for (name, bytes, document) in stream {
        let mut entry = entry_of_record(&bytes, genesis, 0);
        let shard = match name {
            "register" => PARTITIONS,
            "unreadable" => 0,
            _ => partition(&entry.subject, PARTITIONS),
        };
        let log: &mut Vec<Digest> = &mut leaves[shard as usize];
        let log_index = log.len() as u64;
        entry.offset = log_index;
        if name == "replay" {
            let first = items.iter().find(|item| item.name == "blue").unwrap().log_index;
            entry.outcome = Outcome::Replay { first };
        }
        if entry.outcome == Outcome::Accepted && shard < PARTITIONS {
            entry.issue = Some(invoices[shard as usize]);
            invoices[shard as usize] += 1;
        }
        log.push(entry.leaf());
        items.push(Item { name, bytes, document, entry, shard, log_index });
    }
    (items, leaves)
}

/// Blocks 0 to 3: block 1 agrees on the cut, block 2 has the roots after it.
fn headers(genesis: &Genesis, cut: &Cut, shards: &[ShardEntry]) -> Vec<Header> {
    let mut headers = vec![genesis.header()];
    for height in 1..=3u64 {
        let last = headers[headers.len() - 1];
        let history: Vec<Digest> = headers.iter().map(Header::leaf).collect();
        let mut next = Header {
            height,
            time_ms: BEGIN_MS + 2_000 * height as i64,
            parent: last.digest(),
            cut: cut.digest(),
            history_root: merkle::root_of_leaves(&history),
            ..last
        };
        if height > 1 {
            next.shards_root = shards_root(shards);
            next.records = shards.iter().map(|shard| shard.log_size).sum();
        }
        headers.push(next);
    }
    headers
}
