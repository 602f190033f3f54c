//! The bank's one question: may I lend so much on this invoice, and what do you know of it?
//! (`FORMAT.md` section 16)
//!
//! Everything that execution would ask of a hold is asked here beforehand, and everything that a
//! loan officer would want to know is said in words: does it exist, is this document the one that was
//! issued, does it stand, does the buyer stand to it, is there room. The answer is an opinion on a
//! state that is proved beside it; the chain decides when the hold comes.
//!
//! Invariants
//! - Nobody is named but the asker; a figure of what is left is told only with the right to it.
//! - A finding that would refuse the hold makes the verdict `stop`.

use crate::conflict::Conflict;
use crate::document::Document;
use crate::fields::tag;
use crate::json::{Json, object};
use crate::policy::Policy;
use crate::receipt::{Difference, Receipt};
use crate::record::RecordKind;
use crate::status::{
    BuyerState, Consent, Day, Face, Financing, Lifecycle, Origin, Risk, SCOPE_FINANCE, SCOPE_HOLD,
    SCOPE_QUERY, Status,
};
use crate::value;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What the asker wants to know.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The participant who asks, once it is known that it is he; decides what he is told.
    pub asker: Option<&'a str>,
    /// The amount to lend on, in minor units.
    pub amount: Option<i128>,
    /// The document that he was shown.
    pub document: Option<&'a Document>,
}

/// What is known of the invoice as of one block.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The receipt of the record that created the invoice.
    pub receipt: &'a Receipt,
    /// Its status; `None`: untouched.
    pub status: Option<&'a Status>,
    /// The policy that holds.
    pub policy: &'a Policy,
    /// The time of the block, milliseconds since 1970.
    pub time_ms: i64,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Good to know.
    Note,
    /// To be cleared up before money is paid.
    Caution,
    /// A hold would be refused, or should be.
    Stop,
}

impl Weight {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Weight::Note => "note",
            Weight::Caution => "caution",
            Weight::Stop => "stop",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it weighs.
    pub weight: Weight,
    /// What, as a word: that of the conflict with which a hold would be refused, where there is one.
    pub code: &'static str,
    /// What, for people.
    pub words: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `stop` where anything stops; `caution` where anything wants clearing up; else `clear`.
    pub verdict: Verdict,
    /// What was found, the heaviest first.
    pub findings: Vec<Finding>,
    /// Where the asker's document differs from what was issued; `None` where he showed none.
    pub differences: Option<Vec<Difference>>,
    /// What everybody may know of the status.
    pub face: Option<Face>,
    /// Whether the amount fits, where an amount was asked for and the total is known.
    pub fits: Option<bool>,
    /// What may still be financed, in minor units; only with the right to know.
    pub capacity: Option<i128>,
    /// The asker's own holds and financings.
    pub own: Vec<Financing>,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing speaks against it.
    Clear,
    /// Something is to be cleared up first.
    Caution,
    /// Do not lend.
    Stop,
}

impl Verdict {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Clear => "clear",
            Verdict::Caution => "caution",
            Verdict::Stop => "stop",
        }
    }
}

/// Collects findings.
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, weight: Weight, code: &'static str, words: impl Into<String>) {
        self.0.push(Finding { weight, code, words: words.into() });
    }

    fn stop(&mut self, conflict: Conflict, words: impl Into<String>) {
        self.add(Weight::Stop, conflict.name(), words);
    }
}

/// The answer where no such invoice is on the chain.
pub fn not_found() -> Answer {
    let mut findings = Findings(Vec::new());
    let words = "no such invoice was ever issued on this chain";
    findings.add(Weight::Stop, "NOT_FOUND", words);
    answer(findings)
}

/// Answers the question, as of the block of the standing.
pub fn check(standing: &Standing<'_>, question: &Question<'_>) -> Answer {
    let mut findings = Findings(Vec::new());
    let differences = question.document.map(|document| standing.receipt.compare(document));
    if let Some(differences) = differences.as_ref().filter(|found| !found.is_empty()) {
        let names: Vec<&str> = differences.iter().map(|found| found.name.as_str()).collect();
        let words = alloc::format!("the document was altered: {} differ", names.join(", "));
        findings.stop(Conflict::OpeningDiffers, words);
    }
    match standing.status {
        None => untouched(standing, &mut findings),
        Some(status) => touched(standing, status, question, &mut findings),
    }
    let gross = gross_of(standing, question, &differences);
    let capacity = match standing.status {
        Some(status) => Some(status_at(status, standing.time_ms).capacity()),
        None => gross,
    };
    let fits = question.amount.zip(capacity).map(|(amount, capacity)| amount <= capacity);
    if fits == Some(false) {
        findings.stop(Conflict::Capacity, "there is not enough left for this amount");
    }
    if fits.is_none() && question.amount.is_some() {
        let words = "the total is not known here: show the document";
        findings.add(Weight::Caution, "TOTAL_UNKNOWN", words);
    }
    let mut answer = answer(findings);
    answer.face = standing.status.map(Status::face);
    answer.differences = differences;
    answer.fits = fits;
    answer.capacity = capacity.filter(|_| may_know_capacity(standing, question));
    let own = |f: &&Financing| question.asker == Some(f.holder.as_str());
    let all = standing.status.map_or(&[][..], |status| &status.financings);
    answer.own = all.iter().filter(own).cloned().collect();
    answer
}

fn answer(findings: Findings) -> Answer {
    let mut findings = findings.0;
    findings.sort_by_key(|finding| core::cmp::Reverse(finding.weight));
    let verdict = match findings.first().map(|finding| finding.weight) {
        Some(Weight::Stop) => Verdict::Stop,
        Some(Weight::Caution) => Verdict::Caution,
        Some(Weight::Note) | None => Verdict::Clear,
    };
    Answer {
        verdict,
        findings,
        differences: None,
        face: None,
        fits: None,
        capacity: None,
        own: Vec::new(),
    }
}

/// The status with what has ended by itself taken out.
fn status_at(status: &Status, time_ms: i64) -> Status {
    let mut status = status.clone();
    status.financings.retain(|f| f.expires.is_none_or(|at| at > time_ms));
    status
}

/// What the invoice is over: from its status, or from a document that is the one that was issued.
fn gross_of(
    standing: &Standing<'_>,
    question: &Question<'_>,
    differences: &Option<Vec<Difference>>,
) -> Option<i128> {
    let shown = crate::opening::shown(&standing.receipt.fields, tag::TOTAL_GROSS);
    let same = question.document.filter(|_| differences.as_ref().is_some_and(Vec::is_empty));
    standing
        .status
        .map(|status| status.facts.gross)
        .or_else(|| value::amount_of(shown?).ok())
        .or_else(|| Some(same?.fields.amount(tag::TOTAL_GROSS)))
}

fn untouched(standing: &Standing<'_>, findings: &mut Findings) {
    match standing.receipt.entry.kind {
        Some(RecordKind::IssueRed) => {
            findings.stop(Conflict::RedInvoice, "this is a red (credit) invoice");
        }
        Some(RecordKind::Import) if standing.policy.imported_financeable == 0 => {
            findings.stop(Conflict::NotFinanceable, "imported invoices are not financed here");
        }
        _ => {}
    }
    let words =
        "nothing was ever recorded on it: no booking, no lien, no confirmation by the buyer";
    findings.add(Weight::Note, "UNTOUCHED", words);
    unconfirmed(standing, findings, "the buyer has not confirmed the debt");
    findings.add(Weight::Caution, Conflict::NoConsent.name(), "the seller has not consented yet");
}

fn unconfirmed(standing: &Standing<'_>, findings: &mut Findings, words: &str) {
    match standing.policy.confirmation_required {
        0 => findings.add(Weight::Caution, Conflict::NotConfirmed.name(), words),
        _ => findings.stop(Conflict::NotConfirmed, words),
    }
}

fn touched(
    standing: &Standing<'_>,
    status: &Status,
    question: &Question<'_>,
    findings: &mut Findings,
) {
    stands(standing, status, findings);
    buyer(standing, status, findings);
    let now = status_at(status, standing.time_ms);
    let others = now.liens().filter(|lien| question.asker != Some(lien.holder.as_str()));
    let (count, shared) = others.fold((0, true), |(n, all), f| (n + 1, all && f.divisible));
    if count > 0 {
        let words = alloc::format!("{count} holds or financings of others stand against it");
        match shared {
            true => findings.add(Weight::Caution, Conflict::Encumbered.name(), words),
            false => findings.stop(Conflict::Encumbered, words),
        }
    }
    if now.face().over_financed {
        findings.add(Weight::Stop, "OVER_FINANCED", "more is financed on it than there is");
    }
    if let Some(asker) = question.asker {
        let granted = status.consents.iter().find(|consent| consent.bank == asker);
        consent(standing, granted, findings);
        let own = now.liens().filter(|lien| lien.holder == asker).map(|lien| lien.assigned);
        let limit = granted.and_then(|consent| consent.amount);
        let wanted = question.amount.map(|amount| amount + own.sum::<i128>());
        if wanted.zip(limit).is_some_and(|(wanted, limit)| wanted > limit) {
            let words = "the seller has not consented to so much, with what you have already";
            findings.add(Weight::Caution, Conflict::AmountExceeded.name(), words);
        }
    }
    if !status.bookings.is_empty() {
        findings.add(Weight::Note, "BOOKED", "it is booked");
    }
}

fn consent(standing: &Standing<'_>, granted: Option<&Consent>, findings: &mut Findings) {
    let lends = SCOPE_HOLD | SCOPE_FINANCE;
    match granted {
        Some(consent) if consent.expires > standing.time_ms && consent.scope & lends == lends => {}
        Some(consent) if consent.expires <= standing.time_ms => {
            let words = "the seller's consent has ended";
            findings.add(Weight::Caution, Conflict::Expired.name(), words);
        }
        _ => {
            let words = "the seller has not consented that you hold and finance";
            findings.add(Weight::Caution, Conflict::NoConsent.name(), words);
        }
    }
}

/// Whether the invoice stands at all.
fn stands(standing: &Standing<'_>, status: &Status, findings: &mut Findings) {
    if status.origin == Origin::Red {
        findings.stop(Conflict::RedInvoice, "this is a red (credit) invoice");
    }
    if status.origin == Origin::Import && standing.policy.imported_financeable == 0 {
        findings.stop(Conflict::NotFinanceable, "imported invoices are not financed here");
    }
    match status.lifecycle() {
        Lifecycle::Void => findings.stop(Conflict::AlreadyVoid, "it is void"),
        Lifecycle::FullRed => findings.stop(Conflict::FullyRed, "it is fully credited"),
        Lifecycle::PartRed => findings.add(Weight::Caution, "PART_RED", "a part was credited"),
        Lifecycle::Active => {}
    }
    if !status.freezes.is_empty() {
        findings.stop(Conflict::Frozen, "an order freezes it");
    }
    match status.risk {
        Risk::Normal => {}
        Risk::Doubtful => {
            findings.stop(Conflict::Abnormal, "the tax authority marks it doubtful");
        }
        Risk::Abnormal => {
            findings.stop(Conflict::Abnormal, "the tax authority marks it abnormal");
        }
    }
    let pending =
        status.live_slip().filter(|slip| slip.deadline.is_none_or(|at| at > standing.time_ms));
    if pending.is_some() {
        findings.stop(Conflict::SlipLive, "a red invoice for it is asked for");
    }
}

/// Whether the buyer stands to it, and when it is due.
fn buyer(standing: &Standing<'_>, status: &Status, findings: &mut Findings) {
    let confirmation = status.confirmation.as_ref();
    match status.buyer_state() {
        BuyerState::Confirmed => {
            findings.add(Weight::Note, "CONFIRMED", "the buyer has confirmed the debt");
        }
        BuyerState::Disputed => {
            findings.add(Weight::Caution, "DISPUTED", "the buyer disputes a part of it");
        }
        BuyerState::Refused => {
            findings.stop(Conflict::NotConfirmed, "the buyer has refused to confirm it");
        }
        BuyerState::None | BuyerState::Requested => {
            unconfirmed(standing, findings, "the buyer has not confirmed the debt");
        }
    }
    let due = confirmation.and_then(|c| c.due).or(status.facts.due_date);
    if due.is_some_and(|due| due.end_ms() <= standing.time_ms) {
        findings.stop(Conflict::Matured, "the debt is past its due date");
    }
}

impl Day {
    /// The first millisecond after the day, in UTC.
    pub fn end_ms(self) -> i64 {
        self.start_ms() + 86_400_000
    }
}

/// The seller, the buyer, and a bank that the seller lets query where policy discloses.
fn may_know_capacity(standing: &Standing<'_>, question: &Question<'_>) -> bool {
    let (Some(status), Some(asker)) = (standing.status, question.asker) else { return false };
    let side = status.facts.seller == asker || status.facts.buyer.as_deref() == Some(asker);
    let consented = status.consents.iter().any(|consent| {
        consent.bank == asker
            && consent.scope & SCOPE_QUERY != 0
            && consent.expires > standing.time_ms
    });
    side || consented && standing.policy.disclose_capacity == 1
}

impl Answer {
    /// The answer as JSON; amounts in minor units.
    pub fn to_tree(&self) -> Json {
        let finding = |finding: &Finding| {
            object([
                ("weight", Json::of(finding.weight.name())),
                ("code", Json::of(finding.code)),
                ("words", Json::of(finding.words.as_str())),
            ])
        };
        let mut members = alloc::vec![
            ("verdict", Json::of(self.verdict.name())),
            ("findings", Json::List(self.findings.iter().map(finding).collect())),
        ];
        if let Some(differences) = &self.differences {
            let names = differences.iter().map(|found| Json::of(found.name.as_str()));
            members.push(("fields_that_differ", Json::List(names.collect())));
        }
        if let Some(fits) = self.fits {
            members.push(("fits", Json::Flag(fits)));
        }
        if let Some(capacity) = self.capacity {
            members.push(("capacity", Json::of(capacity.to_string())));
        }
        let own = |f: &Financing| {
            object([
                ("financing", Json::Int(f.id.into())),
                ("state", Json::of(f.state.name())),
                ("amount", Json::of(f.assigned.to_string())),
            ])
        };
        members.push(("own", Json::List(self.own.iter().map(own).collect())));
        Json::Object(members.into_iter().map(|(key, json)| (key.to_string(), json)).collect())
    }
}
