//! Writes the examples of `FORMAT.md`, all of them from the small chain.

use crate::common::chain::{Chain, Item, PARTITIONS, blue};
use crate::common::epochs::Epochs;
use crate::common::life::Life;
use crate::vectors::{cosigned_checkpoint, votes};
use piaogen_crypto::sm3;
use piaogen_verify::certificate::Certificate;
use piaogen_verify::checkpoint::Checkpoint;
use piaogen_verify::document::{LINE_SALTS, SECRET_LEN, Salts};
use piaogen_verify::epoch::EpochProof;
use piaogen_verify::evidence::Said;
use piaogen_verify::fields::{name_of, tag};
use piaogen_verify::header::Header;
use piaogen_verify::record::{self, partition};
use piaogen_verify::{json, merkle};

/// The document with one example replaced.
pub(crate) fn replace(text: &str, name: &str, block: &str) -> String {
    let begin = format!("```example {name}\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no example {name}"));
    let after = match rest.strip_prefix("```") {
        Some(after) => after,
        None => rest.split_once("\n```").expect("the end of the example").1,
    };
    format!("{before}{begin}{}\n```{after}", block.trim_end())
}

/// Names and contents of all examples.
pub(crate) fn all(chain: &Chain, life: &Life) -> Vec<(&'static str, String)> {
    let mut receipt = chain.receipt("blue", false);
    receipt.show(&blue(), &[tag::NUMBER, tag::TOTAL_GROSS]).unwrap();
    let item = chain.item("blue");
    let epochs = Epochs::build(life);
    let replaced = EpochProof { changes: vec![epochs.change(0)] };
    let voted = |payload| Said::Finalize { parent: 40, payload };
    let json = json::record_to_json(&record::decode(&item.bytes).unwrap());
    vec![
        ("document.json", json::document_to_json(&blue())),
        ("salts", salts()),
        ("commitment", commitment()),
        ("subject", subject(&item.entry.subject)),
        ("record", record_dump(&item.bytes)),
        ("record.json", json),
        ("leaf", leaf(chain)),
        ("header", header(&chain.headers[2])),
        ("certificate", certificate(&chain.certify(&chain.headers[2], &[0, 1, 3]))),
        ("receipt.json", receipt.to_json()),
        ("trust-root.json", chain.trust.to_json()),
        ("checkpoint", checkpoint(chain).to_note()),
        ("event", event_dump(&life.item(chain, "pledged").bytes)),
        ("event.json", event_json(&life.item(chain, "booked").bytes)),
        ("refusal", refusal(life.item(chain, "pledged_again"))),
        ("secrets", secrets(chain, life)),
        ("status.json", json::status_to_json(&life.steps[0])),
        ("status-proof.json", life.status_receipt(chain, "blue", &[tag::FACE]).to_json()),
        ("untouched.json", life.status_receipt(chain, "neighbour", &[]).to_json()),
        ("history.json", events_only(&life.history(chain, "blue").to_json())),
        ("epochs.json", replaced.to_json()),
        ("cosigned-checkpoint", cosigned_checkpoint(&epochs).to_note()),
        ("evidence.json", votes(&epochs, 0, voted([0x11; 32]), voted([0x22; 32])).to_json()),
    ]
}

/// The part of a history that is no status proof, which has an example of its own.
fn events_only(json: &str) -> String {
    let (before, rest) = json.split_once("  \"status\": {").expect("the status proof");
    let (_, records) = rest.split_once("\n  \"records\"").expect("the records");
    format!("{before}  \"status\": {{ … }},\n  \"records\"{records}")
}

fn event_json(bytes: &[u8]) -> String {
    json::record_to_json(&record::decode(bytes).unwrap())
}

/// The checkpoint of block 3, signed by two validators.
pub(crate) fn checkpoint(chain: &Chain) -> Checkpoint {
    let leaves: Vec<_> = chain.headers.iter().map(Header::leaf).collect();
    let root = merkle::root_of_leaves(&leaves);
    let mut checkpoint = Checkpoint::new("example-1", leaves.len() as u64, root);
    checkpoint.sign(&chain.keys[0]);
    checkpoint.sign(&chain.keys[2]);
    checkpoint
}

fn salts() -> String {
    let document = blue();
    let mut salts = Salts::new(document.secret);
    let mut out = format!("secret       {}\n", hex::encode(document.secret));
    let block = sm3::hash_parts(&[&[2], &document.secret, &1u32.to_be_bytes()]);
    out += &format!("block(1)     {}\n", hex::encode(block));
    for (index, what) in
        [(2, "issue_date"), (3, "type_code"), (LINE_SALTS, "line 0"), (LINE_SALTS + 1, "line 1")]
    {
        out += &format!("salt({index:<5})  {}  {what}\n", hex::encode(salts.get(index)));
    }
    out
}

fn commitment() -> String {
    let document = blue();
    let mut out = String::from(" tag  field digest, and the value that it is of\n");
    for ((tag, bytes), (_, digest)) in document.fields.iter().zip(document.digests()) {
        let (name, digest) = (name_of(tag), hex::encode(digest));
        out += &format!("{tag:>4}  {digest}  {name}\n      {}\n", hex::encode(bytes));
    }
    out + &format!("commitment  {}\n", hex::encode(document.commitment()))
}

fn subject(subject: &[u8]) -> String {
    let digest = sm3::hash_parts(&[&[8], subject]);
    format!(
        "subject              {}\nSM3(08 ‖ subject)    {}\npartition of {PARTITIONS}       {}\n",
        hex::encode(subject),
        hex::encode(digest),
        partition(subject, PARTITIONS)
    )
}

/// Bytes under names, with their places.
struct Dump<'a> {
    bytes: &'a [u8],
    at: usize,
    out: String,
}

impl<'a> Dump<'a> {
    fn new(bytes: &'a [u8]) -> Dump<'a> {
        Dump { bytes, at: 0, out: String::new() }
    }

    fn put(&mut self, length: usize, what: &str) {
        let bytes = &self.bytes[self.at..self.at + length];
        for (i, row) in bytes.chunks(32).enumerate() {
            let what = if i == 0 { what } else { "" };
            let place = self.at + i * 32;
            self.out += format!("{place:>4}  {:<64}  {what}", hex::encode(row)).trim_end();
            self.out.push('\n');
        }
        self.at += length;
    }

    fn end(self) -> String {
        assert_eq!(self.at, self.bytes.len());
        self.out
    }
}

/// The length of a `vint` at this place, and its value, for short ones.
fn vint(bytes: &[u8]) -> (usize, usize) {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let value = (0..length).fold(0, |n, i| n | usize::from(bytes[i] & 0x7f) << (7 * i));
    (length, value)
}

fn event_dump(bytes: &[u8]) -> String {
    let commitment = record::decode(bytes).unwrap().commitment();
    record_dump(bytes) + &format!("commitment  {}\n", hex::encode(commitment))
}

/// The entry of a refused event.
fn refusal(item: &Item) -> String {
    let entry = &item.entry;
    let bytes = entry.encode();
    let mut dump = Dump::new(&bytes);
    dump.put(1, "version");
    dump.put(1, "kind: finance_open");
    dump.put(8, "offset");
    dump.put(1 + entry.subject.len(), "subject");
    dump.put(1, "outcome: ENCUMBERED");
    dump.put(2, "detail: number 1");
    dump.put(32, "commitment");
    dump.put(32, "signer");
    dump.put(1, "issue: none, it changed nothing");
    dump.put(32, "status digest that it met");
    dump.end() + &format!("leaf  {}\n", hex::encode(entry.leaf()))
}

/// How the secret of the status comes from those of the events.
fn secrets(chain: &Chain, life: &Life) -> String {
    let mut out = format!("before any event     {}\n", hex::encode([0; SECRET_LEN]));
    let names = ["booked", "consent", "pledged", "consent_b"];
    for (name, status) in names.into_iter().zip(&life.steps) {
        let item = life.item(chain, name);
        let own = record::decode(&item.bytes).unwrap().secret;
        out += &format!("secret of event {:<4} {}\n", item.log_index, hex::encode(own));
        out += &format!("secret after it      {}\n", hex::encode(status.secret));
    }
    out
}

fn record_dump(bytes: &[u8]) -> String {
    let record = record::decode(bytes).unwrap();
    let mut dump = Dump::new(bytes);
    dump.put(3, "magic, version");
    dump.put(1, &format!("kind: {}", record.kind.name()));
    dump.put(32, "signer");
    dump.put(8, "signed_at");
    dump.put(SECRET_LEN, "secret");
    dump.put(1, "fields");
    for (tag, value) in &record.fields {
        let (tag_length, _) = vint(&bytes[dump.at..]);
        let (length, _) = vint(&bytes[dump.at + tag_length..]);
        dump.put(tag_length + length + value.len(), &name_of(*tag));
    }
    dump.put(64, "signature");
    dump.end()
}

fn leaf(chain: &Chain) -> String {
    let entry = &chain.item("refused").entry;
    let bytes = entry.encode();
    let mut dump = Dump::new(&bytes);
    dump.put(1, "version");
    dump.put(1, "kind: issue");
    dump.put(8, "offset");
    dump.put(1 + entry.subject.len(), "subject");
    dump.put(1, "outcome: TOTALS");
    dump.put(3, "detail: rule 1, difference 1");
    dump.put(32, "commitment");
    dump.put(32, "signer");
    dump.put(1, "issue: none");
    dump.put(32, "status");
    dump.end() + &format!("leaf  {}\n", hex::encode(entry.leaf()))
}

fn header(header: &Header) -> String {
    let bytes = header.encode();
    let mut dump = Dump::new(&bytes);
    dump.put(4, "magic, version");
    dump.put(32, "chain");
    dump.put(8, "height");
    dump.put(8, "epoch");
    dump.put(8, "time");
    let digests = ["parent", "cut", "shards_root", "history_root", "validators", "next_validators"];
    for what in digests {
        dump.put(32, what);
    }
    dump.put(4, "shards");
    dump.put(8, "records");
    dump.end() + &format!("digest  {}\n", hex::encode(header.digest()))
}

fn certificate(certificate: &Certificate) -> String {
    let bytes = certificate.encode();
    let mut dump = Dump::new(&bytes);
    dump.put(1, "epoch");
    dump.put(1, "view");
    dump.put(1, "parent view");
    dump.put(32, "payload: the header digest above");
    dump.put(8, "bits");
    dump.put(1, "signers: 0, 1, 3");
    dump.put(1, "count");
    for signer in &certificate.signers {
        dump.put(64, &format!("signature of validator {signer}"));
    }
    dump.end()
}
