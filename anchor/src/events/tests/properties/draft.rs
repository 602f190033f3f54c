//! Drafts an event by chance: mostly what the actors would do as the invoice stands, often one step
//! beside it.

use super::dice::Dice;
use super::play::Play;
use super::table::kinds;
use crate::events::tests::model::{Act, Invoice, Opens, Setting};
use crate::events::tests::world::ACTORS;
use piaogen_verify::record::RecordKind as R;

const HOUR: i64 = 3_600_000;

/// The invoice that an event is about, and the event; its id is yet to be given.
pub(crate) fn draft(dice: &mut Dice, play: &Play) -> (usize, Act) {
    if !play.accepted.is_empty() && dice.chance(3) {
        return play.accepted[dice.below(play.accepted.len() as u64) as usize].clone();
    }
    let last = play.invoices.len() as u64;
    // Older invoices are often at their end.
    let from = if dice.chance(80) { last.saturating_sub(4) } else { 0 };
    let at = (from + dice.below(last - from)) as usize;
    let events: Vec<R> = kinds().collect();
    let leads = leads(&play.invoices[at].model, play.setting.now);
    let from = if dice.chance(40) { leads } else { events };
    let kind = dice.pick(&from);
    if dice.chance(1) {
        let strange = Act { signer: dice.pick(ACTORS).0, ..Act::new(kind, "S", 0) };
        return (usize::MAX, needed(dice, strange, &play.invoices[at].model, &play.setting));
    }
    let mut act = of_kind(dice, play, at, kind);
    common(dice, &mut act, &play.invoices[at].model);
    (at, act)
}

/// An event of this kind on an invoice, by who would mostly send it; its id is yet to be given.
pub(crate) fn of_kind(dice: &mut Dice, play: &Play, at: usize, kind: R) -> Act {
    let invoice = &play.invoices[at].model;
    let mut act = needed(dice, Act::new(kind, "S", 0), invoice, &play.setting);
    act.signer = signer(dice, &act, invoice);
    act
}

/// Kinds that lead on, as the invoice stands.
fn leads(invoice: &Invoice, now: i64) -> Vec<R> {
    let mut kinds = vec![R::Book, R::Select, R::BuyerConfirm, R::Query];
    let live = |bank: &str| invoice.consents.iter().any(|c| c.bank == bank && c.expires > now);
    match live("K") && live("L") {
        true => kinds.extend([R::FinanceHold, R::FinanceHold, R::FinanceOpen, R::FinanceOpen]),
        false => kinds.extend([R::ConsentGrant; 4]),
    }
    if let Some(last) = invoice.financings.last() {
        kinds.extend([R::Notice, R::NoticeAck, R::ConsentRed, R::RegistryRef, R::FinanceTransfer]);
        kinds.extend([R::TransferAccept, R::Release, R::Default, R::Payment, R::PaymentAck]);
        if last.state == "hold" {
            kinds.extend([R::FinanceOpen, R::HoldExpire, R::HoldCancel, R::RedRequest, R::Void]);
        }
        if last.expires.is_some_and(|at| at <= now) && last.state == "hold" {
            kinds.extend([R::HoldExpire; 9]);
        }
        if last.state == "open" {
            kinds.extend([R::Notice, R::NoticeAck, R::NoticeAck, R::FinanceTransfer, R::Default]);
        }
        if last.offered_to.is_some() {
            kinds.extend([R::TransferAccept; 3]);
        }
        if last.state == "defaulted" {
            kinds.extend([R::Cure, R::Settle, R::Release, R::FinanceHold, R::Default]);
        }
    }
    match invoice.slip.as_ref().map(|slip| slip.state) {
        Some("pending") => kinds.extend([R::SlipConfirm, R::SlipRefuse, R::SlipExpire]),
        Some("confirmed") => kinds.extend([R::RedApply, R::RedApply, R::FinanceHold, R::Void]),
        _ => kinds.extend([R::SlipOpen, R::RedRequest]),
    }
    if !invoice.rules.slips {
        kinds.extend([R::RedApply; 3]);
    }
    kinds
}

/// What any event may have.
fn common(dice: &mut Dice, act: &mut Act, invoice: &Invoice) {
    act.opens = match dice.below(20) {
        0 => Opens::Not,
        1 => Opens::Hidden,
        2 => Opens::Other,
        _ => Opens::Right,
    };
    if dice.chance(3) {
        act.currency = Some(if dice.chance(50) { "CNY" } else { "USD" });
    }
    if dice.chance(4) {
        act.expected_version = Some(dice.below(3) + (invoice.version as u64).saturating_sub(1));
    }
    if dice.chance(6) {
        let principal = act.signer;
        let delegate = ["W", "U", "L", "G"][["S", "B", "K", "T"]
            .iter()
            .position(|of| *of == principal)
            .unwrap_or(dice.below(4) as usize)];
        act.signer = if dice.chance(80) { delegate } else { dice.pick(ACTORS).0 };
        act.on_behalf = Some(principal);
    }
}

/// Who would send this, mostly.
fn signer(dice: &mut Dice, act: &Act, invoice: &Invoice) -> &'static str {
    if dice.chance(15) {
        return dice.pick(ACTORS).0;
    }
    let holder = |id: Option<u64>| {
        let found = invoice.financings.iter().find(|f| Some(f.id) == id);
        let holder = found.map_or("K", |f| f.holder.as_str());
        if holder == "L" { "L" } else { "K" }
    };
    let other = |bank: &str| if bank == "K" { "L" } else { "K" };
    match act.kind {
        R::Correct | R::Void | R::AuthorityFact | R::RiskMark | R::ConfirmDeduction => "T",
        R::ExportRebate | R::ExportRollback => "T",
        R::AddFile | R::RedRequest => dice.pick(&["S", "S", "T"]),
        R::Freeze | R::Unfreeze => dice.pick(&["T", "J"]),
        R::SlipOpen | R::SlipConfirm | R::SlipRefuse | R::SlipWithdraw => dice.pick(&["S", "B"]),
        R::RedApply => dice.pick(&["T", "S"]),
        R::Select | R::Unselect | R::TransferOut | R::NonDeductible => dice.pick(&["B", "B", "T"]),
        R::ClaimOpen | R::ClaimClose | R::Book | R::Unbook | R::Archive => match invoice.buyer {
            Some("B") => dice.pick(&["B", "B", "B", "U"]),
            _ => dice.pick(&["B", "U", "W"]),
        },
        R::BuyerConfirm | R::BuyerDispute | R::BuyerRefuse | R::DisputeResolve => "B",
        R::NoticeAck => "B",
        R::ConfirmRequest | R::PaymentAck => dice.pick(&["S", "K", "L"]),
        R::ConsentGrant | R::ConsentRevoke => "S",
        R::FinanceHold => dice.pick(&["K", "L"]),
        R::FinanceOpen if act.financing.is_none() => dice.pick(&["K", "L"]),
        R::Payment => dice.pick(&["B", "K", "L"]),
        R::Query => dice.pick(ACTORS).0,
        R::TransferAccept => other(holder(act.financing)),
        R::Notice if dice.chance(50) => "S",
        _ if dice.chance(15) => other(holder(act.financing)),
        _ => holder(act.financing),
    }
}

/// The fields that its kind needs, and some of those that it may have.
pub(crate) fn needed(dice: &mut Dice, mut act: Act, invoice: &Invoice, setting: &Setting) -> Act {
    let now = setting.now;
    match act.kind {
        R::AddFile | R::Archive => act.digest = Some(1 + dice.below(20) as u8),
        R::Correct => {
            let fields: Vec<u64> = Invoice::correctable().map(|(tag, _)| tag).collect();
            act.field = Some(dice.pick(&fields));
        }
        R::AuthorityFact => fact(dice, &mut act, invoice),
        R::RiskMark => {
            let marks = ["normal", "normal", "normal", "doubtful", "abnormal", "strange"];
            act.mark = Some(dice.pick(&marks));
        }
        R::Freeze | R::Unfreeze => act.reference = Some(format!("o{}", dice.below(2))),
        R::RedRequest | R::SlipOpen => slip(dice, &mut act, invoice),
        R::RedApply => red(dice, &mut act, invoice),
        R::ConfirmDeduction => {
            act.period = Some(dice.pick(&[202_611, 202_612, 202_701, 202_600, 202_613, 202_610]));
            let vat = invoice.vat.unwrap_or(0);
            act.tax = dice.chance(60).then(|| near(dice, vat).max(0));
        }
        R::TransferOut => {
            act.amount = Some(near(dice, invoice.deducted - invoice.transferred).max(1));
        }
        R::ClaimOpen => act.expires = Some(deadline(dice, now, setting.policy.claim_max_ms)),
        R::Book => {
            let tolerance = i128::from(dice.below(2) * setting.policy.tolerance);
            let room = invoice.remainder() - invoice.booked() + tolerance;
            act.amount = Some(near(dice, room).max(1));
            act.mark = dice.pick(&[None, Some("02"), Some("03"), Some("02"), Some("04")]);
        }
        R::BuyerConfirm => {
            let least = invoice.paid() + invoice.to_cover();
            let around = if dice.chance(70) { invoice.remainder() } else { least };
            act.amount = Some(near(dice, around).max(1));
            let today = now / 86_400_000;
            act.due = dice.chance(40).then(|| today + dice.below(12) as i64 - 2);
            act.account = dice.chance(50).then(|| 1 + dice.below(2) as u8);
            act.no_set_off = dice.chance(20);
        }
        R::BuyerDispute => {
            act.amount = Some(near(dice, invoice.remainder()).max(1));
            act.reason = Some("01");
        }
        R::Payment | R::PaymentAck => {
            act.reference = Some(format!("p{}", dice.below(12)));
            if act.kind == R::Payment {
                let owed = invoice.remainder() - invoice.paid();
                let part = if dice.chance(60) { owed / 8 } else { owed };
                act.amount = Some(near(dice, part).max(1));
                let told = invoice.financings.iter().rfind(|f| f.noticed.is_some());
                let bound = told.and_then(|f| f.account).filter(|_| dice.chance(60));
                let some = dice.chance(60).then(|| 1 + dice.below(2) as u8);
                act.account = bound.or(some);
            }
        }
        _ => financing(dice, &mut act, invoice, setting),
    }
    act
}

fn fact(dice: &mut Dice, act: &mut Act, invoice: &Invoice) {
    act.reference = Some(format!("f{}", dice.below(6)));
    let facts = ["red", "red", "red", "red", "red", "void", "strange"];
    act.fact = Some(dice.pick(&facts));
    if dice.chance(20) {
        act.red_number = Some(format!("red{}", dice.below(6)));
    }
    if act.fact == Some("void") {
        act.tax = dice.chance(10).then_some(0);
        act.red_number = act.red_number.take().filter(|_| dice.chance(30));
    } else if dice.chance(90) {
        let part = if dice.chance(80) { 20 } else { 1 };
        act.amount = Some(near(dice, invoice.remainder() / part).max(1));
        act.tax = dice.chance(50).then(|| near(dice, invoice.tax_remainder() / part).max(0));
    }
    if let Some(known) = invoice.facts.first()
        && dice.chance(25)
    {
        act.fact = Some(known.fact);
        act.reference = Some(known.reference.clone());
        (act.amount, act.tax) = (known.amount, known.tax);
        if dice.chance(50) {
            act.amount = act.amount.map(|amount| amount + 1);
        }
    }
}

fn slip(dice: &mut Dice, act: &mut Act, invoice: &Invoice) {
    act.reason = Some(dice.pick(&["01", "02", "03", "04", "02", "05"]));
    let part = if dice.chance(70) { 10 } else { 1 };
    act.amount = Some(match act.reason {
        Some("01") if dice.chance(70) => invoice.gross.max(1),
        _ => near(dice, invoice.remainder() / part).max(1),
    });
    act.tax = Some(near(dice, invoice.tax_remainder() / part).max(0));
}

fn red(dice: &mut Dice, act: &mut Act, invoice: &Invoice) {
    let slip = invoice.slip.as_ref().filter(|_| dice.chance(80));
    let (amount, tax) = match slip {
        Some(slip) => (slip.amount, slip.tax),
        None => (invoice.remainder() / 10, invoice.tax_remainder() / 10),
    };
    act.amount = Some(near(dice, amount).max(1));
    act.tax = Some(near(dice, tax).max(0));
    act.red_number = Some(format!("red{}", dice.below(6)));
    if dice.chance(40) {
        let number = 1 + dice.below(3);
        let known = invoice.red_lines.iter().find(|line| line.0 == number);
        let of = known.map_or(100 * i128::from(number), |line| line.1);
        let left = known.map_or(of, |line| line.1 - line.2);
        let of = if dice.chance(90) { of } else { of + 1 };
        let credited = if dice.chance(70) { near(dice, left / 4).max(0) } else { left + 1 };
        act.lines.push((number, of, credited));
        if dice.chance(30) {
            act.lines.push((number + 1 + dice.below(2), 100, 10));
        }
    }
    if dice.chance(40) {
        let (rate, taxable, tax) = dice.pick(&[(13, 50, 5), (6, 20, 1), (13, 9_999_999, 0)]);
        act.rates.push((rate, taxable, tax));
    }
}

fn financing(dice: &mut Dice, act: &mut Act, invoice: &Invoice, setting: &Setting) {
    let now = setting.now;
    let takes_number = matches!(act.kind as u8, 38 | 39 | 41..=50);
    let last = invoice.financings.len() as u64;
    if takes_number || (act.kind == R::FinanceOpen && dice.chance(60)) {
        act.financing = Some(match dice.below(20) {
            0 => last + 1,
            1..=6 => 1 + dice.below(last.max(1)),
            _ => last.max(1),
        });
    }
    let named = invoice.financings.iter().find(|f| Some(f.id) == act.financing);
    let assigned = named.map_or(100, |f| f.assigned);
    match act.kind {
        R::ConsentGrant | R::ConsentRevoke | R::FinanceTransfer => {
            act.party = Some(dice.pick(&["K", "L", "K", "L", "K", "L", "W", "nobody"]));
            if act.kind == R::ConsentGrant {
                act.scope = Some(dice.pick(&[7, 7, 7, 7, 6, 3, 1, 2, 4, 0, 8]));
                act.expires = Some(deadline(dice, now, 20 * 24 * HOUR as u64));
                act.amount = dice.chance(40).then(|| near(dice, invoice.remainder()).max(1));
            }
        }
        R::FinanceHold => {
            let capacity = invoice.capacity();
            let part = if dice.chance(60) { 4 } else { 1 };
            act.amount = Some(near(dice, capacity / part).max(1));
            act.expires = Some(deadline(dice, now, setting.policy.hold_max_ms));
            act.divisible = dice.chance(60);
        }
        R::FinanceOpen => {
            let around = match named {
                Some(_) => assigned,
                None => invoice.capacity() / if dice.chance(60) { 4 } else { 1 },
            };
            let amount = near(dice, around).max(1);
            act.amount = Some(amount);
            act.advanced = Some(if dice.chance(90) { amount * 8 / 10 } else { amount + 1 });
            act.form = Some(dice.pick(&["pledge", "assignment", "discount", "gift"]));
            act.divisible = dice.chance(60);
            act.account = dice.chance(50).then(|| 1 + dice.below(2) as u8);
        }
        R::Notice => act.account = dice.chance(50).then(|| 1 + dice.below(2) as u8),
        R::RegistryRef => {
            act.system = Some(dice.pick(&["zhongdeng", "other"]));
            act.reference = Some(format!("x{}", dice.below(4)));
        }
        R::ConsentRed => act.amount = Some(near(dice, invoice.remainder()).max(1)),
        R::Release => act.amount = dice.chance(70).then(|| near(dice, assigned).max(1)),
        _ => {}
    }
}

/// An amount at this border, or below it, or just beyond.
fn near(dice: &mut Dice, border: i128) -> i128 {
    match dice.below(10) {
        0 => border + 1,
        1 | 2 => border,
        3 => border - 1,
        4 => 1,
        _ => border / 2 + border * dice.below(50) as i128 / 100,
    }
}

/// An end of something: around now, around the longest that is allowed, mostly between.
fn deadline(dice: &mut Dice, now: i64, longest: u64) -> i64 {
    let longest = longest as i64;
    match dice.below(12) {
        0 => now,
        1 => now - 1,
        2 => now + longest,
        3 => now + longest + 1,
        4..=6 => now + longest / 16,
        _ => now + longest / 2,
    }
}
