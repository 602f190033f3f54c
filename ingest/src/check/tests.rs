use super::*;
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::document::Fields;
use piaogen_verify::fields::Tag;
use piaogen_verify::opening;
use piaogen_verify::record::{Draft, RecordKind};
use piaogen_verify::scheme::RedSign;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

const CHAIN: Digest = [5; 32];

fn scheme() -> Scheme {
    Scheme {
        code: "T".into(),
        per_seller: false,
        blue_types: vec!["380".into()],
        red_types: vec!["381".into()],
        red_sign: RedSign::Negative,
        tolerance_totals: 0,
        tolerance_tax: 0,
        slips: false,
        voidable: false,
        deductible_vat_types: Vec::new(),
    }
}

fn key() -> SecretKey {
    SecretKey::from_bytes(&[3; 32]).unwrap()
}

fn fields(number: &str) -> Fields {
    let mut fields = Fields::new();
    fields.set_text(tag::NUMBER, number);
    fields.set_text(tag::SCHEME, "T");
    fields.set_text(tag::TYPE_CODE, "380");
    fields.set_text(tag::SELLER_NAME, "卖方");
    fields.set_text(tag::SELLER_PARTY, "S1");
    fields.set(tag::ISSUE_DATE, value::date(2026, 11, 21));
    fields.set(tag::CURRENCY, value::currency(*b"CNY", 2));
    fields.set_amount(tag::TOTAL_NET, 100);
    fields.set_amount(tag::TOTAL_VAT, 13);
    fields.set_amount(tag::TOTAL_GROSS, 113);
    fields
}

fn record(fields: &Fields) -> Vec<u8> {
    let kind = RecordKind::Issue;
    Draft { kind, signed_at: 9, secret: [1; 16], fields: fields.pairs() }.sign(&CHAIN, &key())
}

fn check(shard: u32, records: &[Vec<u8>], known: bool) -> CheckedBatch {
    check_with(Arc::new(Signatures::new(Lanes::portable(), 1 << 20)), shard, records, known)
}

fn check_with(
    signatures: Arc<dyn Verifier>,
    shard: u32,
    records: &[Vec<u8>],
    known: bool,
) -> CheckedBatch {
    let context = CheckContext {
        chain: CHAIN,
        schemes: Arc::new(vec![scheme()]),
        partitions: 1,
        signatures: true,
        fingerprints: false,
    };
    let directory = KeyDirectory::default();
    if known {
        directory.add([key().public_key()]);
    }
    let mut arena = Vec::new();
    let mut places = Vec::new();
    for (offset, record) in (10..).zip(records) {
        let begin = arena.len() as u32;
        arena.extend_from_slice(record);
        places.push((offset, begin..arena.len() as u32));
    }
    Checker::new(context, Lanes::portable(), signatures).check(
        shard,
        arena,
        &places,
        &directory.current(),
    )
}

#[test]
fn each_record_gets_its_own_verdict() {
    let good = record(&fields("1"));
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut off = fields("2");
    off.set_amount(tag::TOTAL_GROSS, 114);
    let mut nameless = fields("3");
    nameless.remove(tag::NUMBER);
    let records = [good.clone(), forged, b"junk".to_vec(), record(&off), record(&nameless), good];
    let batch = check(0, &records, true);
    let said: Vec<_> = batch.records.iter().map(|r| (r.early, r.signature, r.content)).collect();
    use SignatureCheck::{Invalid, Unknown, Valid};
    let malformed = |tag, cause| Some(Outcome::Malformed { tag, cause });
    assert_eq!(said[0], (None, Valid, None));
    assert_eq!(said[1], (None, Invalid, None));
    assert_eq!(said[2], (malformed(0, Cause::Encoding), Unknown, None));
    assert_eq!(said[3], (None, Valid, Some(Outcome::Totals { rule: 1, difference: 1 })));
    assert_eq!(said[4], (malformed(tag::NUMBER, Cause::Missing), Unknown, None));
    assert_eq!(said[5], said[0]);
    assert_eq!(batch.seller(&batch.records[0]), b"S1");
    assert_eq!(batch.bytes(&batch.records[5]), records[5]);
    assert_eq!(batch.records[5].offset, 15);
    assert_eq!(batch.records[0].commitment, record::decode(&records[0]).unwrap().commitment());
}

#[test]
fn a_key_that_is_not_at_hand_is_left_to_execution() {
    let batch = check(0, &[record(&fields("1"))], false);
    assert_eq!(batch.records[0].signature, SignatureCheck::Unknown);
}

/// A booking of the invoice, opened by its fields.
fn booking(amount: i128, opening: Option<Vec<u8>>) -> Vec<u8> {
    let mut event = Fields::new();
    event.set_text(tag::NUMBER, "1");
    event.set_text(tag::SCHEME, "T");
    event.set_amount(tag::AMOUNT, amount);
    if let Some(opening) = opening {
        event.set(tag::OPENING, opening);
    }
    let kind = RecordKind::Book;
    Draft { kind, signed_at: 9, secret: [2; 16], fields: event.pairs() }.sign(&CHAIN, &key())
}

#[test]
fn events_are_committed_and_opened_beside_invoices() {
    let opened = opening::open([1; 16], &fields("1"), |tag| tag == tag::TOTAL_GROSS);
    let records = [
        booking(113, Some(opening::encode(&opened))),
        record(&fields("1")),
        booking(7, None),
        booking(0, None),
    ];
    let batch = check(0, &records, true);
    for (checked, bytes) in batch.records.iter().zip(&records) {
        assert_eq!(checked.commitment, record::decode(bytes).unwrap().commitment());
        assert_eq!(checked.signature, SignatureCheck::Valid);
        assert_eq!(checked.early, None);
    }
    let invoice = batch.records[1].commitment;
    let opened: Vec<_> = batch.records.iter().map(|checked| checked.opened).collect();
    assert_eq!(opened, [Some(invoice), None, None, None]);
    let sign = Outcome::Malformed { tag: tag::AMOUNT, cause: Cause::Sign };
    assert_eq!(
        batch.records.iter().map(|c| c.content).collect::<Vec<_>>(),
        [None, None, None, Some(sign)]
    );
    assert_eq!(batch.subject(&batch.records[0]), batch.subject(&batch.records[1]));
}

#[test]
fn each_class_has_its_topic() {
    let policy = Draft {
        kind: RecordKind::Policy,
        signed_at: 9,
        secret: [0; 16],
        fields: &[] as &[(Tag, Vec<u8>)],
    }
    .sign(&CHAIN, &key());
    let records = [record(&fields("1")), booking(1, None), policy];
    let refused = Some(Outcome::Malformed { tag: 0, cause: Cause::NotAllowed });
    let early =
        |shard| check(shard, &records, true).records.iter().map(|c| c.early).collect::<Vec<_>>();
    assert_eq!(early(0), [None, None, refused]);
    assert_eq!(early(1), [refused, refused, None]);
}

/// What one call brings to a device, in memory of its own, and where its verdicts go.
type Load = (Vec<(PublicKey, Vec<u8>, piaogen_crypto::sm2::Signature)>, Sender<Vec<bool>>);

/// As a card would be driven: calls leave their jobs in a queue and wait; a thread takes what
/// several of them left as one batch, and hands the verdicts back.
#[derive(Debug)]
struct Card(Mutex<Sender<Load>>);

impl Card {
    /// One that waits for `calls` calls each time; and how many jobs it had at once.
    fn start(calls: usize) -> (Arc<Card>, Receiver<usize>) {
        let (loads, queue) = channel::<Load>();
        let (sizes, had) = channel();
        std::thread::spawn(move || {
            loop {
                let loads: Vec<Load> = queue.iter().take(calls).collect();
                if loads.len() < calls {
                    return;
                }
                let jobs: Vec<Job<'_>> = loads
                    .iter()
                    .flat_map(|(jobs, _)| jobs)
                    .map(|(key, message, signature)| Job { key, message, signature })
                    .collect();
                let mut verdicts = vec![false; jobs.len()];
                Lanes::detect().sm2_verify(&jobs, &mut verdicts);
                sizes.send(jobs.len()).unwrap();
                let mut rest = &verdicts[..];
                for (jobs, answer) in &loads {
                    let (own, others) = rest.split_at(jobs.len());
                    answer.send(own.to_vec()).unwrap();
                    rest = others;
                }
            }
        });
        (Arc::new(Card(Mutex::new(loads))), had)
    }
}

impl Verifier for Card {
    fn verify(&self, jobs: &[Job<'_>], out: &mut [bool]) {
        let (answer, verdicts) = channel();
        let jobs = jobs.iter().map(|job| (job.key.clone(), job.message.to_vec(), *job.signature));
        self.0.lock().unwrap().send((jobs.collect(), answer)).unwrap();
        out.copy_from_slice(&verdicts.recv().unwrap());
    }
}

#[test]
fn a_device_takes_the_batches_of_several_workers_at_once() {
    let batches: Vec<Vec<Vec<u8>>> = (0..3)
        .map(|worker| {
            let mut records: Vec<Vec<u8>> =
                (0..5).map(|i| record(&fields(&format!("{worker}-{i}")))).collect();
            // The last byte is of the signature.
            *records[worker].last_mut().unwrap() ^= 1;
            records
        })
        .collect();
    let (card, had) = Card::start(batches.len());
    let found: Vec<CheckedBatch> = std::thread::scope(|scope| {
        let workers: Vec<_> = batches
            .iter()
            .map(|records| scope.spawn(|| check_with(card.clone(), 0, records, true)))
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(had.recv().unwrap(), 15, "one batch for all workers");
    for (worker, (found, records)) in found.iter().zip(&batches).enumerate() {
        let lanes = check(0, records, true);
        for (i, (found, lanes)) in found.records.iter().zip(&lanes.records).enumerate() {
            assert_eq!(found.signature, lanes.signature, "worker {worker}, record {i}");
            let expected =
                if i == worker { SignatureCheck::Invalid } else { SignatureCheck::Valid };
            assert_eq!(found.signature, expected, "worker {worker}, record {i}");
        }
    }
}
