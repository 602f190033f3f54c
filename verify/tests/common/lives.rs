//! Random records, entries and statuses of what happens to invoices.

use super::{
    Random, opened_of, receipt_of, signed_of, some_of, status_proof_of, text_of, value_of,
};
use piaogen_crypto::sm2::Signature;
use piaogen_verify::conflict::{Conflict, Detail, Form};
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::fields::{DOCUMENT, EVENT, Kind, REGISTRY, STATUS};
use piaogen_verify::record::{Class, Draft, RecordKind};
use piaogen_verify::status::{
    AuthorityFact, Booking, BookingMark, BuyerState, Claim, Confirmation, Consent, Correction, Day,
    Deduction, DeductionState, External, Fact, Facts, File, Financing, FinancingState,
    Form as Lien, Freeze, History, HistoryRecord, Origin, Payment, Rate, Red, RedInvoice, RedLine,
    Risk, Slip, SlipState, Status, StatusReceipt,
};

fn kind_of(random: &mut Random) -> RecordKind {
    RecordKind::ALL[random.below(RecordKind::ALL.len() as u64) as usize]
}

/// A random record of any kind; its signature is random too.
pub(crate) fn record_of_any_kind(random: &mut Random) -> Vec<u8> {
    let kind = match random.below(4) {
        0 => kind_of(random),
        _ => RecordKind::from_code(4 + random.below(50) as u8).unwrap(),
    };
    let fields = match kind.class() {
        Class::Invoice => some_of(random, DOCUMENT, 8),
        Class::Event => some_of(random, EVENT, 12),
        Class::Registry => some_of(random, REGISTRY, 12),
    };
    let signed_at = random.wide() as i64;
    let draft = Draft { kind, signed_at, secret: random.array(), fields: &fields };
    draft.encode(&random.array(), &Signature(random.array()))
}

/// A random entry of an event, accepted or refused with a conflict.
pub(crate) fn entry_of_event(random: &mut Random) -> Entry {
    let conflict = Conflict::ALL[random.below(Conflict::ALL.len() as u64) as usize];
    let detail = match conflict.form() {
        Form::None => Detail::None,
        Form::Index => Detail::Index(random.wide()),
        Form::Time => Detail::Time(random.wide() as i64),
        Form::Amount => Detail::Amount(signed_of(random)),
        Form::Number => Detail::Number(random.wide()),
        Form::Digest => Detail::Digest(random.array()),
    };
    let outcome = match random.below(4) {
        0 => Outcome::Accepted,
        _ => Outcome::conflict_with(conflict, detail),
    };
    Entry { kind: Some(kind_of(random)), outcome, ..super::entry_of(random) }
}

fn maybe<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    (random.below(2) == 0).then(|| make(random))
}

fn some<T>(random: &mut Random, make: impl Fn(&mut Random) -> T) -> Vec<T> {
    (0..random.below(4).saturating_sub(1)).map(|_| make(random)).collect()
}

fn one<T: Copy>(random: &mut Random, all: &[T]) -> T {
    all[random.below(all.len() as u64) as usize]
}

fn ascii(random: &mut Random, limit: u16) -> String {
    String::from_utf8(value_of(random, Kind::Ascii(limit))).unwrap()
}

fn words(random: &mut Random) -> String {
    String::from_utf8(text_of(random, 300)).unwrap()
}

fn day(random: &mut Random) -> Day {
    let (year, month) = (1900 + random.below(300), 1 + random.below(12));
    Day((year * 10_000 + month * 100 + 1 + random.below(28)) as u32)
}

fn positive(random: &mut Random) -> i128 {
    signed_of(random).abs() + 1
}

fn rate(random: &mut Random) -> Rate {
    Rate {
        taxable: Some(signed_of(random)),
        tax: maybe(random, signed_of),
        category: maybe(random, |r| ascii(r, 8)),
        rate: maybe(random, |r| (r.below(9) as i128 + 1, 1)),
        exemption_reason: maybe(random, words),
        exemption_code: maybe(random, |r| ascii(r, 32)),
    }
}

fn facts(random: &mut Random) -> Facts {
    Facts {
        type_code: ascii(random, 8),
        currency: (*b"CNY", random.below(5) as u8),
        due_date: maybe(random, day),
        vat: maybe(random, signed_of),
        gross: signed_of(random),
        rates: some(random, rate),
        seller: ascii(random, 64),
        buyer: maybe(random, |r| ascii(r, 64)),
        vat_type: maybe(random, |r| ascii(r, 8)),
    }
}

fn financing(random: &mut Random) -> Financing {
    Financing {
        index: random.wide(),
        state: one(random, FinancingState::ALL),
        holder: ascii(random, 64),
        assigned: positive(random),
        id: random.wide(),
        form: maybe(random, |r| one(r, Lien::ALL)),
        advanced: maybe(random, positive),
        expires: maybe(random, |r| r.wide() as i64),
        divisible: random.below(2) == 0,
        noticed: maybe(random, Random::wide),
        acknowledged: maybe(random, Random::wide),
        account: maybe(random, Random::array),
        offered_to: maybe(random, |r| ascii(r, 64)),
        red_consent: maybe(random, positive),
        repaid: maybe(random, positive),
        external: some(random, |r| External {
            index: r.wide(),
            at: r.wide() as i64,
            number: ascii(r, 64),
            digest: maybe(r, Random::array),
            system: ascii(r, 32),
        }),
    }
}

/// A random status: any parts, whether or not they could come about.
pub(crate) fn status_of(random: &mut Random) -> Status {
    let origin = one(random, Origin::ALL);
    let mut status = Status::new(facts(random), origin, random.array());
    status.void = random.below(4) == 0;
    status.risk = one(random, Risk::ALL);
    if random.below(2) == 0 {
        status.red = Red { amount: positive(random), tax: positive(random) };
    }
    reds(random, &mut status);
    uses(random, &mut status);
    status.confirmation = maybe(random, |r| Confirmation {
        index: r.wide(),
        state: one(r, BuyerState::ALL),
        amount: maybe(r, positive),
        account: maybe(r, Random::array),
        due: maybe(r, day),
        no_set_off: r.below(2) == 0,
        disputed: maybe(r, positive),
    });
    status.financings = some(random, financing);
    status.corrections =
        some(random, |r| Correction { index: r.wide(), field: r.wide(), text: words(r) });
    let mut index = 0;
    for _ in 0..=random.below(4) {
        index += 1 + (random.wide() >> 8);
        status.seal(index, &random.array(), &random.array());
    }
    status
}

fn reds(random: &mut Random, status: &mut Status) {
    status.red_invoices = some(random, |r| RedInvoice {
        index: r.wide(),
        amount: positive(r),
        tax: positive(r),
        digest: maybe(r, Random::array),
        number: ascii(r, 64),
    });
    status.red_lines =
        some(random, |r| RedLine { line: r.wide(), of: signed_of(r), credited: positive(r) });
    status.red_rates = some(random, rate);
    status.slip = maybe(random, |r| Slip {
        index: r.wide(),
        state: one(r, SlipState::ALL),
        by: ascii(r, 64),
        amount: positive(r),
        tax: positive(r),
        reference: maybe(r, |r| ascii(r, 64)),
        deadline: maybe(r, |r| r.wide() as i64),
        reason: ascii(r, 8),
    });
    status.authority_facts = some(random, |r| AuthorityFact {
        index: r.wide(),
        amount: maybe(r, positive),
        tax: maybe(r, positive),
        reference: ascii(r, 64),
        fact: one(r, Fact::ALL),
        breach: r.below(2) == 0,
    });
}

fn uses(random: &mut Random, status: &mut Status) {
    status.deduction = maybe(random, |r| Deduction {
        index: r.wide(),
        state: one(r, DeductionState::ALL),
        transferred: positive(r),
        tax: positive(r),
        period: maybe(r, Random::wide),
    });
    status.bookings = some(random, |r| Booking {
        index: r.wide(),
        at: r.wide() as i64,
        unit: ascii(r, 64),
        amount: positive(r),
        reference: maybe(r, |r| ascii(r, 64)),
        digest: maybe(r, Random::array),
        mark: one(r, BookingMark::ALL),
        archive: maybe(r, Random::array),
    });
    status.claims = some(random, |r| Claim {
        index: r.wide(),
        at: r.wide() as i64,
        unit: ascii(r, 64),
        reference: maybe(r, |r| ascii(r, 64)),
        expires: r.wide() as i64,
    });
    status.consents = some(random, |r| Consent {
        index: r.wide(),
        bank: ascii(r, 64),
        amount: maybe(r, positive),
        expires: r.wide() as i64,
        scope: r.below(8),
    });
    status.payments = some(random, |r| Payment {
        index: r.wide(),
        by: ascii(r, 64),
        amount: positive(r),
        reference: ascii(r, 64),
        acknowledged: maybe(r, Random::wide),
        wrong_payee: r.below(2) == 0,
    });
    status.freezes = some(random, |r| Freeze {
        index: r.wide(),
        by: ascii(r, 64),
        order: ascii(r, 64),
        digest: maybe(r, Random::array),
    });
    status.files = some(random, |r| File { index: r.wide(), digest: r.array() });
}

/// A random status proof, canonical but proving nothing.
pub(crate) fn status_receipt_of(random: &mut Random) -> StatusReceipt {
    let fields = match random.below(4) {
        0 => Vec::new(),
        1 => opened_of(random, STATUS, 12),
        _ => {
            let (status, shown) = (status_of(random), random.next());
            status.open(|tag| shown >> (tag % 64) & 1 == 1)
        }
    };
    StatusReceipt { receipt: receipt_of(random), path: status_proof_of(random), fields }
}

/// A random history, canonical but proving nothing.
pub(crate) fn history_of(random: &mut Random) -> History {
    let records = (0..random.below(5)).map(|_| HistoryRecord {
        log_index: random.wide(),
        entry: entry_of_event(random),
        inclusion: random.digests(40),
    });
    let records = records.collect();
    History { status: status_receipt_of(random), records }
}
