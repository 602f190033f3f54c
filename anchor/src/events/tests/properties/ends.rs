//! Steps to the very end of something: to its millisecond, the one before or the one after, and
//! there an event that hangs on it. Chance alone would hardly ever send one then.

use super::dice::Dice;
use super::draft;
use super::play::Play;
use crate::events::tests::model::{Act, Invoice};
use piaogen_verify::record::RecordKind as R;

const SLIP: &[R] = &[R::SlipConfirm, R::SlipConfirm, R::SlipRefuse, R::SlipExpire, R::SlipWithdraw];
const AFTER_SLIP: &[R] = &[R::FinanceHold, R::RedRequest, R::SlipOpen];
const HOLD: &[R] = &[R::HoldExpire, R::HoldExpire, R::HoldCancel, R::FinanceOpen, R::ConsentRed];
const CLAIM: &[R] = &[R::ClaimOpen, R::Book, R::ClaimClose];
const CONSENT: &[R] = &[R::FinanceHold, R::FinanceOpen, R::Query, R::ConfirmRequest];
const DUE: &[R] = &[R::FinanceHold, R::FinanceOpen, R::Default];

/// The ends of what is open on an invoice, and the kinds whose answer turns there.
fn ends(model: &Invoice) -> Vec<(i64, &'static [R])> {
    let mut all: Vec<(i64, &'static [R])> = Vec::new();
    let pending = model.slip.as_ref().filter(|slip| slip.state == "pending");
    if let Some(deadline) = pending.and_then(|slip| slip.deadline) {
        all.extend([(deadline, SLIP), (deadline, SLIP), (deadline, AFTER_SLIP)]);
    }
    let holds = model.financings.iter().filter(|financing| financing.state == "hold");
    all.extend(holds.filter_map(|hold| Some((hold.expires?, HOLD))));
    all.extend(model.claims.iter().map(|claim| (claim.expires, CLAIM)));
    all.extend(model.consents.iter().map(|consent| (consent.expires, CONSENT)));
    all.extend(model.word.due.or(model.due).map(|day| ((day + 1) * 86_400_000, DUE)));
    all
}

/// Time goes to an end, or one millisecond beside it, and somebody acts. Mostly on a slip or a hold,
/// of which there are few.
pub(crate) fn to_an_end(dice: &mut Dice, play: &mut Play) {
    let soonest = play.setting.now + 2;
    let of = |(at, known): (usize, &super::play::Known)| {
        let ahead = ends(&known.model).into_iter().filter(|(end, _)| *end >= soonest);
        ahead.map(|(end, kinds)| (at, end, kinds)).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = play.invoices.iter().enumerate().flat_map(of).collect();
    let wanted = dice.pick(&[SLIP, SLIP, HOLD]);
    if all.iter().any(|(.., kinds)| *kinds == wanted) && dice.chance(80) {
        all.retain(|(.., kinds)| *kinds == wanted);
    }
    if all.is_empty() {
        return;
    }
    let (at, end, kinds) = dice.pick(&all);
    play.setting.now = end + dice.below(3) as i64 - 1;
    for _ in 0..2 {
        let kind = dice.pick(kinds);
        let act = draft::of_kind(dice, play, at, kind);
        let act = Act { id: play.next_id(), ..act };
        play.block(&[(at, act)]);
    }
}
