//! A naive model of one invoice, written from the text of PROTOCOL sections 7 and 8 alone.
//!
//! It is the oracle for random schedules, so it is as plain as it can be: words are strings,
//! amounts are computed anew whenever they are asked for, every event works on a copy. It knows the
//! names of answers, not their details, and shares nothing with the rules but the names of kinds
//! and the parameters of policy.

mod invoice;
mod money;
mod summary;

pub(crate) use summary::summary_of;

use super::world::ACTORS;
use piaogen_verify::policy::Policy;
use piaogen_verify::record::RecordKind;

/// The name of the answer where an event is refused.
pub(crate) type Answer = Result<(), &'static str>;

/// Most entries of a list.
pub(crate) const LIST: usize = 64;
/// Most records that make a status.
pub(crate) const HISTORY: usize = 256;
const DAY_MS: i64 = 86_400_000;

/// How an event opens the fields of the invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opens {
    /// As it should.
    Right,
    /// Not at all.
    Not,
    /// With the gross amount hidden.
    Hidden,
    /// With the fields of another invoice.
    Other,
}

/// An event, in plain words; what a kind does not have is absent.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) kind: RecordKind,
    pub(crate) signer: &'static str,
    pub(crate) on_behalf: Option<&'static str>,
    pub(crate) opens: Opens,
    /// The same number: the same event again.
    pub(crate) id: u64,
    pub(crate) currency: Option<&'static str>,
    pub(crate) expected_version: Option<u64>,
    pub(crate) amount: Option<i128>,
    pub(crate) tax: Option<i128>,
    pub(crate) reference: Option<String>,
    pub(crate) digest: Option<u8>,
    pub(crate) party: Option<&'static str>,
    pub(crate) financing: Option<u64>,
    /// Milliseconds since 1970.
    pub(crate) expires: Option<i64>,
    pub(crate) scope: Option<u64>,
    pub(crate) advanced: Option<i128>,
    pub(crate) form: Option<&'static str>,
    pub(crate) divisible: bool,
    pub(crate) account: Option<u8>,
    /// Days since 1970.
    pub(crate) due: Option<i64>,
    pub(crate) no_set_off: bool,
    pub(crate) mark: Option<&'static str>,
    pub(crate) period: Option<u64>,
    pub(crate) field: Option<u64>,
    pub(crate) fact: Option<&'static str>,
    pub(crate) red_number: Option<String>,
    pub(crate) system: Option<&'static str>,
    pub(crate) reason: Option<&'static str>,
    /// Number, net amount and credited amount.
    pub(crate) lines: Vec<(u64, i128, i128)>,
    /// Per cent, taxable amount and tax.
    pub(crate) rates: Vec<(i128, i128, i128)>,
}

impl Act {
    pub(crate) fn new(kind: RecordKind, signer: &'static str, id: u64) -> Act {
        Act {
            kind,
            signer,
            on_behalf: None,
            opens: Opens::Right,
            id,
            currency: None,
            expected_version: None,
            amount: None,
            tax: None,
            reference: None,
            digest: None,
            party: None,
            financing: None,
            expires: None,
            scope: None,
            advanced: None,
            form: None,
            divisible: false,
            account: None,
            due: None,
            no_set_off: false,
            mark: None,
            period: None,
            field: None,
            fact: None,
            red_number: None,
            system: None,
            reason: None,
            lines: Vec::new(),
            rates: Vec::new(),
        }
    }

    fn amount(&self) -> i128 {
        self.amount.unwrap_or(0)
    }

    fn tax(&self) -> i128 {
        self.tax.unwrap_or(0)
    }

    fn expires(&self) -> i64 {
        self.expires.unwrap_or(0)
    }
}

/// An alert and whom it is for.
pub(crate) type Warning = (&'static str, Vec<String>);

/// What holds for all events of a block.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) now: i64,
    pub(crate) policy: Policy,
    /// Who lets whom act for him, until when; in all kinds but one.
    pub(crate) delegations: Vec<(&'static str, &'static str, i64)>,
    pub(crate) not_delegated: RecordKind,
}

/// What the rules of its scheme say of an invoice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) slips: bool,
    pub(crate) voidable: bool,
    /// None: all.
    pub(crate) deductible: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub(crate) struct Slip {
    pub(crate) state: &'static str,
    pub(crate) by: String,
    pub(crate) amount: i128,
    pub(crate) tax: i128,
    pub(crate) deadline: Option<i64>,
    pub(crate) reason: &'static str,
    /// When its parties are to be warned; none where they were, or need not be.
    pub(crate) warn_at: Option<i64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Booking {
    pub(crate) unit: String,
    pub(crate) amount: i128,
    pub(crate) mark: &'static str,
    pub(crate) at: i64,
    pub(crate) archive: Option<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) unit: String,
    pub(crate) at: i64,
    pub(crate) expires: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) state: &'static str,
    pub(crate) amount: Option<i128>,
    pub(crate) account: Option<u8>,
    pub(crate) due: Option<i64>,
    pub(crate) no_set_off: bool,
    pub(crate) disputed: Option<i128>,
}

#[derive(Clone, Debug)]
pub(crate) struct Consent {
    pub(crate) bank: &'static str,
    pub(crate) amount: Option<i128>,
    pub(crate) expires: i64,
    pub(crate) scope: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Financing {
    pub(crate) state: &'static str,
    pub(crate) holder: String,
    pub(crate) assigned: i128,
    pub(crate) id: u64,
    pub(crate) form: Option<&'static str>,
    pub(crate) advanced: Option<i128>,
    pub(crate) expires: Option<i64>,
    pub(crate) divisible: bool,
    /// The version of the status that the notice made.
    pub(crate) noticed: Option<usize>,
    pub(crate) acknowledged: bool,
    pub(crate) account: Option<u8>,
    pub(crate) offered_to: Option<&'static str>,
    pub(crate) red_consent: Option<i128>,
    /// What was paid to its account and not released since.
    pub(crate) repaid: i128,
    pub(crate) external: Vec<(&'static str, String)>,
}

impl Financing {
    fn live(&self) -> bool {
        ["hold", "open", "defaulted"].contains(&self.state)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) by: String,
    pub(crate) amount: i128,
    pub(crate) reference: String,
    pub(crate) acknowledged: bool,
    pub(crate) wrong_payee: bool,
}

/// What the authority said.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) fact: &'static str,
    pub(crate) reference: String,
    pub(crate) amount: Option<i128>,
    pub(crate) tax: Option<i128>,
    pub(crate) breach: bool,
}

/// One invoice: what it says, and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Invoice {
    pub(crate) rules: Rules,
    pub(crate) origin: &'static str,
    pub(crate) gross: i128,
    pub(crate) vat: Option<i128>,
    /// Per cent, taxable amount and tax.
    pub(crate) rates: Vec<(i128, i128, i128)>,
    pub(crate) seller: &'static str,
    pub(crate) buyer: Option<&'static str>,
    /// Days since 1970.
    pub(crate) due: Option<i64>,
    pub(crate) vat_type: Option<&'static str>,

    pub(crate) version: usize,
    pub(crate) seen: Vec<u64>,
    pub(crate) void: bool,
    pub(crate) risk: &'static str,
    pub(crate) credited: i128,
    pub(crate) credited_tax: i128,
    pub(crate) red_invoices: Vec<(String, i128, i128)>,
    /// Number, net amount and credited amount, in the order in which they came.
    pub(crate) red_lines: Vec<(u64, i128, i128)>,
    /// Per cent, taxable amount and tax credited.
    pub(crate) red_rates: Vec<(i128, i128, i128)>,
    pub(crate) slip: Option<Slip>,
    pub(crate) deduction: &'static str,
    pub(crate) deducted: i128,
    pub(crate) transferred: i128,
    pub(crate) period: Option<u64>,
    pub(crate) bookings: Vec<Booking>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) word: Word,
    pub(crate) consents: Vec<Consent>,
    pub(crate) financings: Vec<Financing>,
    pub(crate) payments: Vec<Payment>,
    pub(crate) freezes: Vec<(String, String)>,
    pub(crate) files: Vec<u8>,
    pub(crate) corrections: Vec<u64>,
    pub(crate) facts: Vec<Said>,
}

impl Invoice {
    /// An invoice that nothing has happened to: of S to B in yuan, all of it at 13 %.
    pub(crate) fn new(gross: i128) -> Invoice {
        let tax = gross - gross * 100 / 113;
        Invoice {
            rules: Rules { slips: true, voidable: false, deductible: Some("01") },
            origin: "blue",
            gross,
            vat: Some(tax),
            rates: vec![(13, gross - tax, tax)],
            seller: "S",
            buyer: Some("B"),
            due: None,
            vat_type: Some("01"),
            version: 0,
            seen: Vec::new(),
            void: false,
            risk: "normal",
            credited: 0,
            credited_tax: 0,
            red_invoices: Vec::new(),
            red_lines: Vec::new(),
            red_rates: Vec::new(),
            slip: None,
            deduction: "unselected",
            deducted: 0,
            transferred: 0,
            period: None,
            bookings: Vec::new(),
            claims: Vec::new(),
            word: Word {
                state: "none",
                amount: None,
                account: None,
                due: None,
                no_set_off: false,
                disputed: None,
            },
            consents: Vec::new(),
            financings: Vec::new(),
            payments: Vec::new(),
            freezes: Vec::new(),
            files: Vec::new(),
            corrections: Vec::new(),
            facts: Vec::new(),
        }
    }

    /// Section 7.1, then the event's own rule. A refusal changes nothing.
    pub(crate) fn apply(&mut self, act: &Act, setting: &Setting) -> Answer {
        let actor = match act.on_behalf {
            None => act.signer,
            Some(principal) => {
                let given = setting.delegations.iter().any(|(from, to, until)| {
                    *from == principal && *to == act.signer && *until > setting.now
                }) && act.kind != setting.not_delegated;
                if !given {
                    return Err("NOT_DELEGATED");
                }
                principal
            }
        };
        if self.version == 0 {
            match act.opens {
                Opens::Right => {}
                Opens::Not | Opens::Hidden => return Err("NEEDS_OPENING"),
                Opens::Other => return Err("OPENING_DIFFERS"),
            }
        }
        if act.kind == RecordKind::Query {
            return self.query(actor, setting);
        }
        self.admit(actor, act)?;
        let mut next = self.clone();
        let lapsed = next.end_what_ended(setting.now);
        Step { invoice: &mut next, actor, act, setting, lapsed }.run()?;
        next.version += 1;
        next.seen.push(act.id);
        *self = next;
        Ok(())
    }

    fn admit(&self, actor: &str, act: &Act) -> Answer {
        if self.seen.contains(&act.id) {
            return Err("REPLAY");
        }
        if !role_allows(role_of(actor), act.kind) {
            return Err("WRONG_ROLE");
        }
        if act.currency.is_some_and(|currency| currency != "CNY") {
            return Err("CURRENCY");
        }
        if act.expected_version.is_some_and(|version| version != self.version as u64) {
            return Err("STALE_VERSION");
        }
        if self.version >= HISTORY {
            return Err("HISTORY_FULL");
        }
        if OF_AUTHORITIES.contains(&act.kind) {
            return Ok(());
        }
        if !self.freezes.is_empty() {
            return Err("FROZEN");
        }
        let on_red = [RecordKind::AddFile, RecordKind::Correct];
        if self.origin == "red" && !on_red.contains(&act.kind) {
            return Err("RED_INVOICE");
        }
        match self.lifecycle() {
            _ if WINDS_DOWN.contains(&act.kind) => Ok(()),
            "void" => Err("ALREADY_VOID"),
            "full_red" => Err("FULLY_RED"),
            _ => Ok(()),
        }
    }

    /// Ends holds and claims whose time is over; the numbers of those holds.
    fn end_what_ended(&mut self, now: i64) -> Vec<u64> {
        let mut lapsed = Vec::new();
        for financing in &mut self.financings {
            if financing.state == "hold" && financing.expires.is_some_and(|at| at <= now) {
                financing.state = "released";
                lapsed.push(financing.id);
            }
        }
        self.claims.retain(|claim| claim.expires > now);
        lapsed
    }

    pub(crate) fn lifecycle(&self) -> &'static str {
        if self.void {
            "void"
        } else if self.credited == 0 {
            "active"
        } else if self.credited == self.gross {
            "full_red"
        } else {
            "part_red"
        }
    }

    /// Section 8: gross less credited; nothing of a void invoice or of one that is not positive.
    pub(crate) fn remainder(&self) -> i128 {
        if self.void || self.gross <= 0 { 0 } else { self.gross - self.credited }
    }

    pub(crate) fn tax_remainder(&self) -> i128 {
        self.vat.unwrap_or(0) - self.credited_tax
    }

    pub(crate) fn paid(&self) -> i128 {
        self.payments.iter().map(|payment| payment.amount).sum()
    }

    pub(crate) fn booked(&self) -> i128 {
        self.bookings.iter().map(|booking| booking.amount).sum()
    }

    pub(crate) fn assigned(&self) -> i128 {
        self.financings.iter().filter(|f| f.live()).map(|f| f.assigned).sum()
    }

    /// Section 8.
    pub(crate) fn capacity(&self) -> i128 {
        let disputed = self.word.disputed.unwrap_or(0);
        let open = self.remainder() - self.paid() - disputed;
        let base = match self.word.amount {
            Some(confirmed) => open.min(confirmed - self.paid()),
            None => open,
        };
        base - self.assigned()
    }

    /// Section 8: what live financings must still have.
    pub(crate) fn to_cover(&self) -> i128 {
        self.financings.iter().filter(|f| f.live()).map(|f| f.assigned - f.repaid).sum()
    }

    pub(crate) fn over_financed(&self) -> bool {
        let undisputed = self.remainder() - self.word.disputed.unwrap_or(0);
        let debt = self.word.amount.map_or(undisputed, |confirmed| undisputed.min(confirmed));
        (debt - self.paid()).max(0) < self.to_cover()
    }

    /// Section 9: whom the end of a slip's wait is told now, and how; once.
    pub(crate) fn warned(&mut self, setting: &Setting) -> Option<Warning> {
        let over = ["void", "full_red"].contains(&self.lifecycle());
        let now = setting.now;
        let slip = self.slip.as_mut()?;
        if slip.warn_at.is_none_or(|at| at > now) {
            return None;
        }
        slip.warn_at = None;
        if slip.state != "pending" || over {
            return None;
        }
        let in_time = slip.deadline.is_some_and(|deadline| now < deadline);
        let kind = if in_time { "slip_lapsing" } else { "slip_lapsed" };
        let live = |f: &&Financing| f.live() && f.expires.is_none_or(|at| at > now);
        let mut parties: Vec<String> =
            self.financings.iter().filter(live).map(|f| f.holder.clone()).collect();
        parties.push(self.seller.into());
        parties.extend(self.buyer.map(String::from));
        parties.sort();
        parties.dedup();
        Some((kind, parties))
    }

    fn slip_is_live(&self, now: i64) -> bool {
        self.slip.as_ref().is_some_and(|slip| match slip.state {
            "confirmed" => true,
            "pending" => slip.deadline.is_some_and(|at| at > now),
            _ => false,
        })
    }

    fn used(&self) -> bool {
        !["unselected", "non_deductible"].contains(&self.deduction)
    }

    /// The last day of grace: the buyer's, else the invoice's.
    fn due_day(&self) -> Option<i64> {
        self.word.due.or(self.due)
    }

    fn past_due(&self, now: i64) -> bool {
        self.due_day().is_some_and(|day| now >= (day + 1) * DAY_MS)
    }
}

const OF_AUTHORITIES: &[RecordKind] =
    &[RecordKind::AuthorityFact, RecordKind::RiskMark, RecordKind::Freeze, RecordKind::Unfreeze];

const WINDS_DOWN: &[RecordKind] = &[
    RecordKind::Unselect,
    RecordKind::TransferOut,
    RecordKind::ClaimClose,
    RecordKind::Unbook,
    RecordKind::HoldCancel,
    RecordKind::HoldExpire,
    RecordKind::ConsentRevoke,
    RecordKind::Release,
    RecordKind::Settle,
    RecordKind::Default,
    RecordKind::Cure,
    RecordKind::PaymentAck,
];

/// The role of a participant; empty where there is none of this name.
pub(crate) fn role_of(party: &str) -> &'static str {
    ACTORS.iter().find(|(name, _)| *name == party).map_or("", |(_, role)| role)
}

/// Whether a role may send this kind at all; where a party's own answer follows, any may.
fn role_allows(role: &str, kind: RecordKind) -> bool {
    match kind {
        RecordKind::Correct
        | RecordKind::Void
        | RecordKind::AuthorityFact
        | RecordKind::RiskMark
        | RecordKind::ConfirmDeduction
        | RecordKind::ExportRebate
        | RecordKind::ExportRollback => role == "authority",
        RecordKind::Freeze | RecordKind::Unfreeze => role == "authority" || role == "court",
        RecordKind::FinanceHold
        | RecordKind::HoldCancel
        | RecordKind::FinanceOpen
        | RecordKind::RegistryRef
        | RecordKind::ConsentRed
        | RecordKind::TransferAccept => role == "bank",
        _ => true,
    }
}

/// One event while its own rule runs.
pub(crate) struct Step<'a> {
    invoice: &'a mut Invoice,
    actor: &'a str,
    act: &'a Act,
    setting: &'a Setting,
    /// Numbers of the holds that ended since the event before.
    lapsed: Vec<u64>,
}

impl Step<'_> {
    fn run(&mut self) -> Answer {
        match self.act.kind as u8 {
            4..=29 => self.run_invoice(),
            _ => self.run_money(),
        }
    }

    fn is_authority(&self) -> bool {
        role_of(self.actor) == "authority"
    }

    fn is_seller(&self) -> bool {
        self.actor == self.invoice.seller
    }

    fn is_buyer(&self) -> bool {
        self.invoice.buyer == Some(self.actor)
    }
}

/// The condition holds, or this is the answer.
fn ask(holds: bool, answer: &'static str) -> Answer {
    if holds { Ok(()) } else { Err(answer) }
}
