//! A schedule while it is played: the world and the model side by side.
//!
//! Every record goes to both. After each block every outcome has the name that the model said, and
//! every status that was touched is what the model makes of it.

use super::coverage::Coverage;
use super::table::kinds;
use crate::alert::{AlertKind, Recipient};
use crate::events::tests::model::{Act, Invoice, Opens, Rules, Setting, Warning, summary_of};
use crate::events::tests::world::{Event, START, World, document};
use piaogen_verify::document::Fields;
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::tag;
use piaogen_verify::opening;
use piaogen_verify::policy::Policy;
use piaogen_verify::record::{RecordKind, subject_parts};
use piaogen_verify::scheme::{Scheme, usual};
use piaogen_verify::status::{Day, Status, ZERO};
use piaogen_verify::value;
use std::collections::HashMap;

/// A scheme of which invoices can be voided.
const CN_VAT: &str = "CN-VAT";
const DAY_MS: i64 = 86_400_000;

/// What kind of invoice is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Usual,
    NoBuyer,
    StrangeBuyer,
    Red,
    Import,
    NoSlips,
    Voidable,
    Nothing,
    NotDeductible,
    TwoRates,
    NoDue,
}

impl Sort {
    pub(crate) const ALL: &'static [Sort] = &[
        Sort::Usual,
        Sort::NoBuyer,
        Sort::StrangeBuyer,
        Sort::Red,
        Sort::Import,
        Sort::NoSlips,
        Sort::Voidable,
        Sort::Nothing,
        Sort::NotDeductible,
        Sort::TwoRates,
        Sort::NoDue,
    ];
}

/// An invoice of the schedule.
pub(crate) struct Known {
    scheme: &'static str,
    number: String,
    document: Fields,
    pub(crate) model: Invoice,
    /// The status digest that the last leaf about it said.
    digest: [u8; 32],
}

/// One block, as it can be executed again.
pub(crate) struct Played {
    pub(crate) now: i64,
    pub(crate) policy: Policy,
    pub(crate) records: Vec<Vec<u8>>,
}

/// The world and the model.
pub(crate) struct Play {
    pub(crate) world: World,
    pub(crate) setting: Setting,
    pub(crate) invoices: Vec<Known>,
    /// Accepted events, to be sent again.
    pub(crate) accepted: Vec<(usize, Act)>,
    /// What the schedule has met so far.
    pub(crate) coverage: Coverage,
    /// All blocks.
    pub(crate) played: Vec<Played>,
    records: HashMap<u64, Vec<u8>>,
    ids: u64,
}

/// A world with the schemes and delegations of schedules.
pub(crate) fn new_world() -> World {
    let mut world = World::new();
    let voidable = Scheme { code: CN_VAT.into(), voidable: true, ..usual::cn_einv() };
    world.schemes.push(voidable);
    for (principal, delegate, until) in DELEGATIONS {
        world.delegate(principal, delegate, all_events(), START + until);
    }
    world
}

/// The one kind that nobody lets another do.
pub(crate) const NOT_DELEGATED: RecordKind = RecordKind::Archive;
/// Who lets whom do everything else, until when after the first block.
pub(crate) const DELEGATIONS: &[(&str, &str, i64)] =
    &[("S", "W", 40 * DAY_MS), ("B", "U", 5 * DAY_MS), ("K", "L", 40 * DAY_MS), ("T", "G", 1)];

fn all_events() -> u64 {
    kinds().filter(|kind| *kind != NOT_DELEGATED).fold(0, |bits, kind| bits | 1 << kind as u8)
}

impl Play {
    pub(crate) fn new() -> Play {
        let given = DELEGATIONS.iter();
        let delegations = given.map(|(from, to, until)| (*from, *to, START + until)).collect();
        Play {
            world: new_world(),
            setting: Setting {
                now: START,
                policy: Policy::default(),
                delegations,
                not_delegated: NOT_DELEGATED,
            },
            invoices: Vec::new(),
            accepted: Vec::new(),
            coverage: Coverage::default(),
            played: Vec::new(),
            records: HashMap::new(),
            ids: 0,
        }
    }

    /// A number that no event has yet.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Issues an invoice, due on this day counted from now.
    pub(crate) fn issue(&mut self, sort: Sort, gross: i128, due: i64) -> usize {
        let number = format!("{:020}", self.invoices.len() + 1);
        let gross = if sort == Sort::Nothing { 0 } else { gross };
        let gross = if sort == Sort::Red { -gross } else { gross };
        let mut fields = document(&number, gross);
        let mut model = Invoice::new(gross);
        model.due = Some(self.setting.now / DAY_MS + due);
        let kind = vary(sort, &mut model, &mut fields);
        match model.due {
            Some(day) => fields.set(tag::DUE_DATE, date(day)),
            None => drop(fields.remove(tag::DUE_DATE)),
        }
        let scheme = match sort {
            Sort::NoSlips => usual::UK_RETAIL,
            Sort::Voidable => CN_VAT,
            _ => usual::CN_EINV,
        };
        fields.set_text(tag::SCHEME, scheme);
        let record = self.world.prepare(kind, "T", fields.clone());
        self.log(vec![record.clone()]);
        let (warned, before) = (self.warned(), self.world.alerts.len());
        assert_eq!(self.world.block(&[record]), [Outcome::Accepted]);
        self.compare_warnings(warned, before);
        let known = Known { scheme, number, document: fields, model, digest: ZERO };
        self.invoices.push(known);
        self.invoices.len() - 1
    }

    fn log(&mut self, records: Vec<Vec<u8>>) {
        let (now, policy) = (self.setting.now, self.setting.policy);
        (self.world.now, self.world.policy) = (now, policy);
        self.played.push(Played { now, policy, records });
    }

    /// What the model would answer.
    pub(crate) fn predict(&self, at: usize, act: &Act) -> &'static str {
        let Some(known) = self.invoices.get(at) else { return "NOT_FOUND" };
        name(known.model.clone().apply(act, &self.setting))
    }

    /// Plays one block. An event on an invoice beyond the last is on none.
    pub(crate) fn block(&mut self, acts: &[(usize, Act)]) {
        let records: Vec<Vec<u8>> = acts.iter().map(|(at, act)| self.record(*at, act)).collect();
        self.log(records.clone());
        let (mut warned, told_before) = (self.warned(), self.world.alerts.len());
        let outcomes = self.world.block(&records);
        let first = self.world.entries.len() - records.len();
        for (i, ((at, act), outcome)) in acts.iter().zip(outcomes).enumerate() {
            let Some(known) = self.invoices.get_mut(*at) else {
                assert_eq!(outcome, Outcome::NotFound);
                self.coverage.note(act.kind, "NOT_FOUND");
                continue;
            };
            let before = known.model.clone();
            let said = name(known.model.apply(act, &self.setting));
            let (now, policy) = (self.setting.now, self.setting.policy);
            let about = || format!("{act:?}\nat {now} {policy:?}\n{before:?}");
            let answer = outcome.name();
            let kind = act.kind.name();
            assert!(answer == said, "{kind}: {answer}, not {said}: {}", about());
            let entry = &self.world.entries[first + i];
            let makes = outcome == Outcome::Accepted && act.kind != RecordKind::Query;
            assert_eq!(entry.status != known.digest, makes, "{}", about());
            assert_eq!(entry.issue.is_some(), outcome == Outcome::Accepted);
            known.digest = entry.status;
            if said == "ACCEPTED" && act.kind == RecordKind::SlipOpen {
                // Opened so late that it is told of at once.
                warned.extend(known.model.warned(&self.setting).map(|told| (*at, told)));
            }
            check_amounts(act, said, &before, &known.model, &self.setting);
            self.coverage.note(act.kind, said);
            self.coverage.note_end(act, said, &before, now);
            self.coverage.note_changes(&before, &known.model);
            if said == "ACCEPTED" {
                self.accepted.push((*at, act.clone()));
            }
        }
        self.compare_warnings(warned, told_before);
        let mut touched: Vec<usize> = acts.iter().map(|(at, _)| *at).collect();
        touched.sort_unstable();
        touched.dedup();
        for at in touched {
            let last = acts.iter().rev().find(|(about, _)| *about == at);
            self.compare(at, last.map(|(_, act)| act));
        }
    }

    /// Of which slips who is warned before the records of a block, and with which alert.
    fn warned(&mut self) -> Vec<(usize, Warning)> {
        let (setting, invoices) = (&self.setting, self.invoices.iter_mut().enumerate());
        invoices.filter_map(|(at, known)| Some((at, known.model.warned(setting)?))).collect()
    }

    /// The block told those of the slips, and nobody else.
    fn compare_warnings(&self, warned: Vec<(usize, Warning)>, before: usize) {
        let mut said: Vec<String> = Vec::new();
        for (at, (kind, parties)) in warned {
            let number = &self.invoices[at].number;
            said.extend(parties.iter().map(|party| format!("{kind} {number} {party}")));
        }
        let kinds = [AlertKind::SlipLapsing, AlertKind::SlipLapsed];
        let told = self.world.alerts[before..].iter().filter(|told| kinds.contains(&told.kind));
        let mut told: Vec<String> = told
            .map(|told| {
                let Recipient::Party(party) = &told.to else { panic!("{told:?}") };
                let (_, number) = subject_parts(&told.subject).unwrap();
                format!("{} {number} {party}", told.kind.name())
            })
            .collect();
        said.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, said, "at {}", self.setting.now);
    }

    fn compare(&self, at: usize, last: Option<&Act>) {
        let Some(known) = self.invoices.get(at) else { return };
        let status = self.world.status_in(known.scheme, &known.number);
        let Some(status) = status else {
            assert_eq!(known.model.version, 0);
            return;
        };
        let (is, said) = (summary_of(&status), known.model.summary());
        let kind = last.map_or("", |act| act.kind.name());
        let parts: Vec<_> = is.iter().filter(|line| !said.contains(line)).collect();
        let model: Vec<_> = said.iter().filter(|line| !is.contains(line)).collect();
        assert!(is == said, "{kind} makes {parts:#?}, not {model:#?}\n{last:?}");
        assert_eq!(status.digest(), known.digest);
        check_status(&status);
    }

    /// The record of an event; the same one where it is sent again.
    fn record(&mut self, at: usize, act: &Act) -> Vec<u8> {
        if let Some(record) = self.records.get(&act.id) {
            return record.clone();
        }
        let event = self.event(at, act);
        let record = self.world.event_record(act.signer, &event);
        self.records.insert(act.id, record.clone());
        record
    }

    fn event(&self, at: usize, act: &Act) -> Event {
        let known = self.invoices.get(at);
        let (scheme, number) =
            known.map_or((usual::CN_EINV, "26449999999999999999"), |k| (k.scheme, &k.number));
        let mut event = Event::of(act.kind).text(tag::SCHEME, scheme).number(number);
        event.opens = false;
        if let Some(known) = known {
            let opened = match act.opens {
                Opens::Not => None,
                Opens::Right => Some(opening::open([9; 16], &known.document, |_| true)),
                Opens::Hidden => {
                    let shown = |tag| tag != tag::TOTAL_GROSS;
                    Some(opening::open([9; 16], &known.document, shown))
                }
                Opens::Other => Some(opening::open([8; 16], &known.document, |_| true)),
            };
            if let Some(opened) = opened {
                event = event.set(tag::OPENING, opening::encode(&opened));
            }
        }
        fill(event, act)
    }
}

fn name(answer: Result<(), &'static str>) -> &'static str {
    answer.map_or_else(|name| name, |()| "ACCEPTED")
}

fn date(day: i64) -> Vec<u8> {
    let (year, month, day) = value::day_of_days(day);
    Day(year * 10_000 + month * 100 + day).0.to_be_bytes().to_vec()
}

/// Changes document and model to what the sort of invoice says.
fn vary(sort: Sort, model: &mut Invoice, fields: &mut Fields) -> RecordKind {
    match sort {
        Sort::Usual | Sort::Nothing => {}
        Sort::NoBuyer => {
            model.buyer = None;
            fields.remove(tag::BUYER_PARTY);
        }
        Sort::StrangeBuyer => {
            model.buyer = Some("stranger");
            fields.set_text(tag::BUYER_PARTY, "stranger");
        }
        Sort::Red => {
            model.origin = "red";
            return RecordKind::IssueRed;
        }
        Sort::Import => {
            model.origin = "import";
            model.vat = None;
            fields.remove(tag::TOTAL_VAT);
            return RecordKind::Import;
        }
        Sort::NoSlips => {
            model.rules = Rules { slips: false, voidable: false, deductible: None };
        }
        Sort::Voidable => model.rules.voidable = true,
        Sort::NotDeductible => {
            model.vat_type = Some("02");
            fields.set_text(tag::VAT_TYPE, "02");
        }
        Sort::TwoRates => {
            let (taxable, tax) = (model.rates[0].1, model.rates[0].2);
            let rates = [(6, taxable / 2, tax / 2), (13, taxable - taxable / 2, tax - tax / 2)];
            model.rates = rates.to_vec();
            fields.set(tag::VAT_BREAKDOWN, rates_of(&rates));
        }
        Sort::NoDue => model.due = None,
    }
    RecordKind::Issue
}

fn rates_of(rates: &[(i128, i128, i128)]) -> Vec<u8> {
    let entry = |(percent, taxable, tax): &(i128, i128, i128)| {
        vec![
            (tag::TAXABLE, value::amount(*taxable)),
            (tag::TAX, value::amount(*tax)),
            (tag::VAT_RATE, value::decimal(*percent, 0)),
        ]
    };
    value::list(&rates.iter().map(entry).collect::<Vec<_>>())
}

fn lines_of(lines: &[(u64, i128, i128)]) -> Vec<u8> {
    let entry = |(number, of, credited): &(u64, i128, i128)| {
        vec![
            (tag::LINE_NUMBER, value::uint(*number)),
            (tag::LINE_OF, value::amount(*of)),
            (tag::LINE_RED, value::amount(*credited)),
        ]
    };
    value::list(&lines.iter().map(entry).collect::<Vec<_>>())
}

/// The fields of an act.
fn fill(event: Event, act: &Act) -> Event {
    let texts = [
        (tag::ON_BEHALF, act.on_behalf),
        (tag::ACTOR, act.party),
        (tag::FORM, act.form),
        (tag::MARK, act.mark),
        (tag::FACT, act.fact),
        (tag::SYSTEM, act.system),
        (tag::REASON_CODE, act.reason),
        (tag::REFERENCE, act.reference.as_deref()),
        (tag::RED_NUMBER, act.red_number.as_deref()),
        (tag::TEXT, act.field.map(|_| "so it should read")),
    ];
    let amounts =
        [(tag::AMOUNT, act.amount), (tag::TAX_AMOUNT, act.tax), (tag::ADVANCED, act.advanced)];
    let numbers = [
        (tag::EXPECTED_VERSION, act.expected_version),
        (tag::FINANCING, act.financing),
        (tag::SCOPE, act.scope),
        (tag::PERIOD, act.period),
        (tag::FIELD, act.field),
    ];
    let digests = [(tag::DIGEST, act.digest), (tag::ACCOUNT, act.account)];
    let flags = [(tag::DIVISIBLE, act.divisible), (tag::NO_SET_OFF, act.no_set_off)];
    let mut all: Vec<(u16, Vec<u8>)> = Vec::new();
    all.extend(texts.into_iter().filter_map(|(tag, v)| Some((tag, value::text(v?)))));
    all.extend(amounts.into_iter().filter_map(|(tag, v)| Some((tag, value::amount(v?)))));
    all.extend(numbers.into_iter().filter_map(|(tag, v)| Some((tag, value::uint(v?)))));
    all.extend(digests.into_iter().filter_map(|(tag, v)| Some((tag, vec![v?; 32]))));
    all.extend(flags.into_iter().filter(|(_, set)| *set).map(|(tag, _)| (tag, vec![1])));
    all.extend(act.expires.map(|at| (tag::EXPIRES, value::time(at))));
    all.extend(act.due.map(|day| (tag::DUE, date(day))));
    if let Some(currency) = act.currency {
        let code: [u8; 3] = currency.as_bytes().try_into().unwrap();
        all.push((tag::CURRENCY, value::currency(code, 2)));
    }
    if !act.lines.is_empty() {
        all.push((tag::LINES_RED, lines_of(&act.lines)));
    }
    if !act.rates.is_empty() {
        all.push((tag::VAT_BREAKDOWN, rates_of(&act.rates)));
    }
    all.into_iter().fold(event, |event, (tag, bytes)| event.set(tag, bytes))
}

/// What section 8 says of an event that was accepted.
fn check_amounts(act: &Act, said: &str, before: &Invoice, after: &Invoice, setting: &Setting) {
    if said != "ACCEPTED" {
        return;
    }
    match act.kind {
        RecordKind::FinanceHold | RecordKind::FinanceOpen => {
            assert!(after.capacity() >= 0, "{act:?} {before:?}");
        }
        RecordKind::Book => {
            let tolerance = i128::from(setting.policy.tolerance);
            assert!(after.booked() <= after.remainder() + tolerance);
        }
        _ => {}
    }
}

/// The invariants of section 8, from the status document alone.
fn check_status(status: &Status) {
    let gross = status.facts.gross.max(0);
    assert!((0..=gross).contains(&status.red.amount));
    assert!((0..=status.facts.vat.unwrap_or(0).max(0)).contains(&status.red.tax));
    for line in &status.red_lines {
        assert!((0..=line.of).contains(&line.credited));
    }
    for rate in &status.red_rates {
        let of = status.facts.rates.iter().find(|of| of.rate == rate.rate).unwrap();
        assert!(rate.taxable.unwrap_or(0) <= of.taxable.unwrap_or(0));
        assert!(rate.tax.unwrap_or(0) <= of.tax.unwrap_or(0));
    }
    let remainder = if status.void { 0 } else { gross - status.red.amount };
    assert_eq!(status.remainder(), remainder);
    let assigned: i128 = status.liens().map(|lien| lien.assigned).sum();
    let disputed = status.confirmation.as_ref().and_then(|c| c.disputed).unwrap_or(0);
    let mut base = remainder - status.paid() - disputed;
    if let Some(confirmed) = status.confirmation.as_ref().and_then(|c| c.amount) {
        base = base.min(confirmed - status.paid());
    }
    assert_eq!(status.capacity(), base - assigned);
    let repaid: i128 = status.liens().map(|lien| lien.repaid.unwrap_or(0)).sum();
    assert_eq!(status.face().over_financed, base.max(0) < assigned - repaid);
    assert!(status.liens().all(|lien| (0..=lien.assigned).contains(&lien.repaid.unwrap_or(0))));
    assert!(repaid <= status.paid());
    assert_eq!(status.face().liens, status.liens().count() as u64);
    let numbers: Vec<u64> = status.financings.iter().map(|f| f.id).collect();
    assert!(numbers.into_iter().eq(1..=status.financings.len() as u64));
    assert!(status.bookings.iter().enumerate().all(|(i, booking)| {
        status.bookings[..i].iter().all(|other| other.unit != booking.unit)
    }));
    assert!(status.claims.len() <= 1);
}
