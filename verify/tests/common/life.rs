//! What happens on the small chain after its first records: an invoice is booked, booked again,
//! pledged, pledged again to another bank; its neighbour stays untouched.
//!
//! Block 4 has the banks and the neighbour, block 5 the events, block 6 the roots after them. The
//! rules of events are not in this crate: outcomes and statuses are written here as the protocol
//! has them.

use super::chain::{BEGIN_MS, Chain, Item, PARTITIONS, blue, sign, text};
use super::key_of;
use piaogen_crypto::Digest;
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::document::{Document, Fields};
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::fields::{DOCUMENT, Tag, tag};
use piaogen_verify::genesis::{ROLE_BANK, ROLE_IMPORTER};
use piaogen_verify::header::{Cut, Header, ShardEntry, shards_root};
use piaogen_verify::merkle;
use piaogen_verify::opening;
use piaogen_verify::receipt::{OpenedField, Receipt};
use piaogen_verify::record::{self, Class, Draft, RecordKind, partition};
use piaogen_verify::status::{
    Booking, BookingMark, Consent, DEPTH, FACTS_SHOWN, Facts, Financing, FinancingState, Form,
    History, HistoryRecord, Origin, SCOPES, Status, StatusProof, StatusReceipt, ZERO, interior,
};
use piaogen_verify::value;
use std::collections::BTreeMap;

/// The buyer of the blue invoice.
const BUYER: &str = "91310000MA1EXAMP27";
/// Time of the block before the events.
const NOW_MS: i64 = BEGIN_MS + 8_000;
/// Until when the seller lets the banks finance.
const UNTIL_MS: i64 = BEGIN_MS + 30 * 86_400_000;

/// The chain after its second and third cut.
pub(crate) struct Life {
    /// The records of both cuts.
    pub(crate) items: Vec<Item>,
    pub(crate) leaves: Vec<Vec<Digest>>,
    pub(crate) shards: Vec<ShardEntry>,
    /// Blocks 0 to 7.
    pub(crate) headers: Vec<Header>,
    /// By shard and issue index.
    pub(crate) statuses: BTreeMap<(u32, u64), Status>,
    /// The status of the blue invoice after each event that changed it.
    pub(crate) steps: Vec<Status>,
}

/// The blue invoice's neighbour: same shard, next issue index, untouched.
pub(crate) fn neighbour() -> Document {
    numbered("26442000000000000005", *b"example secret 4")
}

/// An invoice of another system.
pub(crate) fn imported() -> Document {
    numbered("26442000000000000008", *b"example secret 5")
}

fn numbered(number: &str, secret: [u8; 16]) -> Document {
    let mut document = blue();
    document.secret = secret;
    text(&mut document.fields, DOCUMENT, "number", number);
    document.seal();
    document
}

fn registered(chain: &Digest, party: &str, name: &str, role: u64, key: u8) -> Vec<u8> {
    let fields = [
        (tag::PARTY, party.as_bytes().to_vec()),
        (tag::PARTY_NAME, name.as_bytes().to_vec()),
        (tag::ROLES, value::uint(role)),
        (tag::PUBLIC_KEY, key_of(key).public_key().to_compressed().to_vec()),
    ];
    let (kind, signed_at) = (RecordKind::Register, BEGIN_MS + 6_500);
    Draft { kind, signed_at, secret: [0; 16], fields: &fields }.sign(chain, &key_of(11))
}

/// An event on the invoice of a document, signed with a key.
pub(crate) fn event(
    chain: &Digest,
    kind: RecordKind,
    of: &Document,
    fields: &[(Tag, Vec<u8>)],
    (key, secret): (u8, u8),
) -> Vec<u8> {
    let mut all: Fields = fields.iter().cloned().collect();
    for tag in [tag::SCHEME, tag::NUMBER] {
        all.set(tag, of.fields.get(tag).unwrap().to_vec());
    }
    let draft =
        Draft { kind, signed_at: BEGIN_MS + 8_500, secret: [secret; 16], fields: all.pairs() };
    draft.sign(chain, &key_of(key))
}

/// The opening that a first event brings: what a status repeats, all else hidden.
pub(crate) fn opening_of(document: &Document) -> Vec<u8> {
    let shown = |tag: Tag| FACTS_SHOWN.contains(&tag);
    opening::encode(&opening::open(document.secret, &document.fields, shown))
}

fn booking(secret: u8, chain: &Digest) -> Vec<u8> {
    let fields = [
        (tag::AMOUNT, value::amount(13_420)),
        (tag::REFERENCE, b"V-2026-0117".to_vec()),
        (tag::MARK, b"02".to_vec()),
        (tag::OPENING, opening_of(&blue())),
    ];
    event(chain, RecordKind::Book, &blue(), &fields, (13, secret))
}

fn consent(bank: &str, secret: u8, chain: &Digest) -> Vec<u8> {
    let fields = [
        (tag::ACTOR, bank.as_bytes().to_vec()),
        (tag::EXPIRES, value::time(UNTIL_MS)),
        (tag::SCOPE, value::uint(SCOPES)),
    ];
    event(chain, RecordKind::ConsentGrant, &blue(), &fields, (12, secret))
}

fn pledge(key: u8, secret: u8, chain: &Digest) -> Vec<u8> {
    let fields = [
        (tag::CURRENCY, value::currency(*b"CNY", 2)),
        (tag::AMOUNT, value::amount(10_000)),
        (tag::FORM, b"pledge".to_vec()),
        (tag::ADVANCED, value::amount(8_000)),
    ];
    event(chain, RecordKind::FinanceOpen, &blue(), &fields, (key, secret))
}

/// What an event does to the status; nothing where it is refused or only asks.
enum Does {
    Nothing,
    Issues(Document),
    Changes(fn(&mut Status, u64)),
}

type Step = (&'static str, Vec<u8>, Outcome, Does);

fn second_cut(chain: &Digest) -> Vec<Step> {
    let party = |party, name, role, key| registered(chain, party, name, role, key);
    let accepted = |name, bytes| (name, bytes, Outcome::Accepted, Does::Nothing);
    let neighbour = neighbour();
    vec![
        accepted("register_bank_a", party("BANK-A", "Example Bank A", ROLE_BANK, 14)),
        accepted("register_bank_b", party("BANK-B", "Example Bank B", ROLE_BANK, 15)),
        accepted("register_importer", party("IMPORTER", "Example Importer", ROLE_IMPORTER, 16)),
        (
            "neighbour",
            sign(chain, RecordKind::Issue, &neighbour, 12),
            Outcome::Accepted,
            Does::Issues(neighbour),
        ),
    ]
}

/// The events. The log index of the first record is 4: blue, refused, replay, neighbour are before.
fn third_cut(chain: &Digest) -> Vec<Step> {
    let refused = |conflict, detail| Outcome::conflict_with(conflict, detail);
    let imported = imported();
    let query = event(chain, RecordKind::Query, &blue(), &[], (14, 37));
    let pledged = pledge(14, 34, chain);
    let file = [(tag::DIGEST, vec![8; 32])];
    let unopened = event(chain, RecordKind::AddFile, &neighbour(), &file, (12, 38));
    let again = refused(Conflict::AlreadyBooked, Detail::Index(4));
    let encumbered = refused(Conflict::Encumbered, Detail::Number(1));
    let needs_opening = refused(Conflict::NeedsOpening, Detail::Number(tag::TOTAL_GROSS.into()));
    let accepted = Outcome::Accepted;
    vec![
        ("booked", booking(31, chain), accepted, Does::Changes(book)),
        ("booked_again", booking(32, chain), again, Does::Nothing),
        ("consent", consent("BANK-A", 33, chain), accepted, Does::Changes(consent_a)),
        ("pledged", pledged.clone(), accepted, Does::Changes(open)),
        ("consent_b", consent("BANK-B", 35, chain), accepted, Does::Changes(consent_b)),
        ("pledged_again", pledge(15, 36, chain), encumbered, Does::Nothing),
        ("query", query, accepted, Does::Nothing),
        ("pledged_replay", pledged, Outcome::Replay { first: 7 }, Does::Nothing),
        ("unopened", unopened, needs_opening, Does::Nothing),
        (
            "imported",
            sign(chain, RecordKind::Import, &imported, 16),
            accepted,
            Does::Issues(imported),
        ),
    ]
}

fn book(status: &mut Status, index: u64) {
    status.bookings.push(Booking {
        index,
        at: NOW_MS,
        unit: BUYER.into(),
        amount: 13_420,
        reference: Some("V-2026-0117".into()),
        digest: None,
        mark: BookingMark::Deductible,
        archive: None,
    });
}

fn consent_a(status: &mut Status, index: u64) {
    let (bank, expires) = ("BANK-A".into(), UNTIL_MS);
    status.consents.push(Consent { index, bank, amount: None, expires, scope: SCOPES });
}

fn consent_b(status: &mut Status, index: u64) {
    let (bank, expires) = ("BANK-B".into(), UNTIL_MS);
    status.consents.push(Consent { index, bank, amount: None, expires, scope: SCOPES });
}

fn open(status: &mut Status, index: u64) {
    status.financings.push(Financing {
        index,
        state: FinancingState::Open,
        holder: "BANK-A".into(),
        assigned: 10_000,
        id: 1,
        form: Some(Form::Pledge),
        advanced: Some(8_000),
        expires: None,
        divisible: false,
        noticed: None,
        acknowledged: None,
        account: None,
        offered_to: None,
        red_consent: None,
        repaid: None,
        external: Vec::new(),
    });
}

impl Life {
    /// Goes on from the chain; every call gives the same bytes.
    pub(crate) fn build(chain: &Chain) -> Life {
        let mut life = Life {
            items: Vec::new(),
            leaves: chain.leaves.clone(),
            shards: chain.shards.clone(),
            headers: chain.headers.clone(),
            statuses: BTreeMap::new(),
            steps: Vec::new(),
        };
        let before = life.shards.clone();
        life.run(chain, second_cut(&chain.genesis.chain));
        life.block(&before);
        let before = life.shards.clone();
        life.run(chain, third_cut(&chain.genesis.chain));
        life.block(&before);
        let after = life.shards.clone();
        life.block(&after);
        life.block(&after);
        life
    }

    /// Executes records in stream order.
    fn run(&mut self, chain: &Chain, steps: Vec<Step>) {
        for (name, bytes, outcome, does) in steps {
            let record = record::decode(&bytes).unwrap();
            let subject = record.subject(&chain.genesis.file.schemes).unwrap();
            let shard = match record.kind.class() {
                Class::Registry => PARTITIONS,
                _ => partition(&subject, PARTITIONS),
            };
            let log_index = self.leaves[shard as usize].len() as u64;
            let found = self.issue_of(chain, &subject);
            let key = (shard, found.unwrap_or(0));
            let (mut issue, mut document) = (None, None);
            match does {
                Does::Issues(of) => {
                    issue = Some(self.shards[shard as usize].invoices);
                    self.shards[shard as usize].invoices += 1;
                    document = Some(of);
                }
                Does::Changes(change) => {
                    let status = self.statuses.entry(key).or_insert_with(untouched);
                    change(status, log_index);
                    status.seal(log_index, &record.commitment(), &record.secret);
                    self.steps.push(status.clone());
                    issue = found;
                }
                Does::Nothing if outcome == Outcome::Accepted => issue = found,
                Does::Nothing => {}
            }
            let touched = self.statuses.get(&key).filter(|_| found.is_some());
            let entry = Entry {
                kind: Some(record.kind),
                offset: log_index,
                subject,
                outcome,
                commitment: record.commitment(),
                signer: record.signer,
                issue,
                status: touched.map_or(ZERO, Status::digest),
            };
            self.leaves[shard as usize].push(entry.leaf());
            self.items.push(Item { name, bytes, document, entry, shard, log_index });
        }
        for (shard, leaves) in (0u32..).zip(&self.leaves) {
            let root = self.status_root(shard);
            let entry = &mut self.shards[shard as usize];
            entry.next_offset = leaves.len() as u64;
            entry.log_size = leaves.len() as u64;
            entry.log_root = merkle::root_of_leaves(leaves);
            entry.status_root = root;
        }
    }

    fn issue_of(&self, chain: &Chain, subject: &[u8]) -> Option<u64> {
        let all = chain.items.iter().chain(&self.items);
        let mut created = all.filter(|item| item.entry.kind.is_some_and(RecordKind::is_invoice));
        created
            .find(|item| item.entry.subject == subject && item.entry.issue.is_some())?
            .entry
            .issue
    }

    /// One more block, with the cut as it is now and the roots of these shards.
    fn block(&mut self, shards: &[ShardEntry]) {
        let last = self.headers[self.headers.len() - 1];
        let history: Vec<Digest> = self.headers.iter().map(Header::leaf).collect();
        let height = last.height + 1;
        self.headers.push(Header {
            height,
            time_ms: BEGIN_MS + 2_000 * height as i64,
            parent: last.digest(),
            cut: Cut(self.shards.iter().map(|shard| shard.next_offset).collect()).digest(),
            history_root: merkle::root_of_leaves(&history),
            shards_root: shards_root(shards),
            records: shards.iter().map(|shard| shard.log_size).sum(),
            ..last
        });
    }

    /// The node over `2^level` issue indices from `number << level` on.
    fn node(&self, shard: u32, level: u8, number: u64) -> Digest {
        let (first, end) = (number << level, (number + 1) << level);
        if self.statuses.range((shard, first)..(shard, end)).next().is_none() {
            return ZERO;
        }
        match level {
            0 => self.statuses[&(shard, number)].digest(),
            _ => interior(
                &self.node(shard, level - 1, number * 2),
                &self.node(shard, level - 1, number * 2 + 1),
            ),
        }
    }

    fn status_root(&self, shard: u32) -> Digest {
        self.node(shard, DEPTH, 0)
    }

    /// The record with this name, of the chain's first cut or of a later one.
    pub(crate) fn item<'a>(&'a self, chain: &'a Chain, name: &str) -> &'a Item {
        let found = self.items.iter().find(|item| item.name == name);
        found.unwrap_or_else(|| chain.item(name))
    }

    /// The receipt of a record from block 6, certified by itself or by block 7.
    pub(crate) fn receipt(&self, chain: &Chain, name: &str, through_history: bool) -> Receipt {
        let item = self.item(chain, name);
        let shard = self.shards[item.shard as usize];
        let shard_leaves: Vec<Digest> = self.shards.iter().map(ShardEntry::leaf).collect();
        let leaves: Vec<Digest> = self.headers[..7].iter().map(Header::leaf).collect();
        let history = || (self.headers[7], merkle::prove_inclusion(&leaves[..], 6, 7).unwrap());
        let last = &self.headers[6 + usize::from(through_history)];
        Receipt {
            fields: item.document.as_ref().map_or(Vec::new(), OpenedField::all_hidden),
            entry: item.entry.clone(),
            log_index: item.log_index,
            inclusion: self.inclusion(item),
            shard,
            shard_proof: merkle::prove_inclusion(
                &shard_leaves[..],
                item.shard.into(),
                self.shards.len() as u64,
            )
            .unwrap(),
            header: self.headers[6],
            history: through_history.then(history),
            certificate: chain.certify(last, &[0, 1, 3]).encode(),
            changes: Vec::new(),
            cosigned: None,
        }
    }

    fn inclusion(&self, item: &Item) -> Vec<Digest> {
        let leaves = &self.leaves[item.shard as usize];
        merkle::prove_inclusion(&leaves[..], item.log_index, leaves.len() as u64).unwrap()
    }

    /// The proof of an invoice's status from block 6 that shows these parts.
    pub(crate) fn status_receipt(
        &self,
        chain: &Chain,
        invoice: &str,
        tags: &[Tag],
    ) -> StatusReceipt {
        let item = self.item(chain, invoice);
        let issue = item.entry.issue.unwrap();
        let siblings =
            core::array::from_fn(|level| self.node(item.shard, level as u8, issue >> level ^ 1));
        let mut receipt = self.receipt(chain, invoice, false);
        receipt.fields.clear();
        let status = self.statuses.get(&(item.shard, issue));
        StatusReceipt::new(receipt, StatusProof { siblings }, status, tags)
    }

    /// The history of an invoice from block 6.
    pub(crate) fn history(&self, chain: &Chain, invoice: &str) -> History {
        let status = self.status_receipt(chain, invoice, &[tag::FACE, tag::HISTORY]);
        let own = |item: &&Item| {
            item.entry.subject == status.receipt.entry.subject
                && item.entry.issue.is_some()
                && item.entry.kind.is_some_and(|kind| kind.class() == Class::Event)
                && item.entry.kind != Some(RecordKind::Query)
        };
        let records = self.items.iter().filter(own).map(|item| HistoryRecord {
            log_index: item.log_index,
            entry: item.entry.clone(),
            inclusion: self.inclusion(item),
        });
        let records = records.collect();
        History { status, records }
    }
}

/// The status that the first event on the blue invoice begins with.
fn untouched() -> Status {
    let document = blue();
    let fields = opening::decode(&opening_of(&document)).unwrap();
    Status::new(Facts::of_opening(&fields).unwrap(), Origin::Blue, document.commitment())
}
