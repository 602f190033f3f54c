//! What chance would take too long to meet: every list of a status up to its limit, a history, and
//! what any kind of event is refused for before its own rule.

use super::dice::Dice;
use super::draft;
use super::play::{Play, Sort};
use super::table::kinds;
use crate::events::tests::model::{Act, HISTORY, LIST, Opens};
use piaogen_verify::record::RecordKind as R;

const BLOCK: usize = 32;
const GROSS: i128 = 11_300;

/// Plays events on one invoice until a list is full, and one more.
fn fill(play: &mut Play, at: usize, count: usize, act: impl Fn(usize) -> Act) {
    let mut acts: Vec<(usize, Act)> = Vec::new();
    for i in 0..count {
        acts.push((at, Act { id: play.next_id(), ..act(i) }));
    }
    acts.chunks(BLOCK).for_each(|acts| play.block(acts));
}

fn grant(play: &mut Play, at: usize) {
    let expires = Some(play.setting.now + 1_000_000);
    let grant = Act::new(R::ConsentGrant, "S", 0);
    let grant = Act { party: Some("K"), scope: Some(7), expires, ..grant };
    fill(play, at, 1, |_| grant.clone());
}

/// Fills lists and histories; all answers are the model's.
pub(crate) fn play_limits() -> Play {
    let mut play = Play::new();
    lists(&mut play);
    red(&mut play);
    financings(&mut play);
    history(&mut play);
    gate(&mut play);
    rare(&mut play);
    play
}

fn lists(play: &mut Play) {
    let new = |play: &mut Play| play.issue(Sort::Usual, GROSS, 9);
    let named = |kind, signer, i: usize| Act {
        reference: Some(format!("n{i}")),
        ..Act::new(kind, signer, 0)
    };
    let at = new(play);
    let file = |i| Act { digest: Some(i as u8), ..Act::new(R::AddFile, "S", 0) };
    fill(play, at, LIST + 1, file);
    fill(play, at, LIST + 1, |_| Act { field: Some(10), ..Act::new(R::Correct, "T", 0) });
    fill(play, at, LIST + 1, |i| named(R::Freeze, "J", i));
    let at = new(play);
    let fact = |i| Act { fact: Some("red"), amount: Some(1), ..named(R::AuthorityFact, "T", i) };
    fill(play, at, LIST + 1, fact);
    fill(play, at, LIST + 1, |i| Act { amount: Some(1), ..named(R::Payment, "B", i) });
}

fn red(play: &mut Play) {
    let at = play.issue(Sort::NoSlips, GROSS, 9);
    let red = |i| Act {
        amount: Some(1),
        tax: Some(0),
        red_number: Some(format!("r{i}")),
        ..Act::new(R::RedApply, "S", 0)
    };
    fill(play, at, LIST + 1, red);
    let at = play.issue(Sort::NoSlips, GROSS, 9);
    let list = LIST as u64;
    fill(play, at, 3, |i| {
        let line = |number| (number, 10, 1);
        // All lines, the first of them again, one more.
        let of = [1..=list, 1..=1, list + 1..=list + 1];
        Act { lines: of[i].clone().map(line).collect(), ..red(i) }
    });
}

fn financings(play: &mut Play) {
    let at = play.issue(Sort::Usual, GROSS, 9);
    grant(play, at);
    let expires = Some(play.setting.now + 1_000);
    let hold = Act { amount: Some(1), expires, ..Act::new(R::FinanceHold, "K", 0) };
    fill(play, at, 2 * LIST + 1, |i| match i % 2 {
        0 => hold.clone(),
        _ => Act { financing: Some(i as u64 / 2 + 1), ..Act::new(R::HoldCancel, "K", 0) },
    });
    let open = Act {
        amount: Some(1),
        advanced: Some(1),
        form: Some("pledge"),
        ..Act::new(R::FinanceOpen, "K", 0)
    };
    fill(play, at, 1, |_| open.clone());
    let at = play.issue(Sort::Usual, GROSS, 9);
    grant(play, at);
    fill(play, at, 1, |_| open.clone());
    fill(play, at, LIST + 1, |i| Act {
        financing: Some(1),
        system: Some("zhongdeng"),
        reference: Some(format!("z{i}")),
        ..Act::new(R::RegistryRef, "K", 0)
    });
}

/// As many records as a status may be made of, and then one of each kind.
fn history(play: &mut Play) {
    let at = play.issue(Sort::Usual, GROSS, 9);
    fill(play, at, HISTORY, |_| Act { mark: Some("normal"), ..Act::new(R::RiskMark, "T", 0) });
    each_kind(play, at, |act| act);
}

/// Sends one event of each kind, by one whose role allows it, after this change.
fn each_kind(play: &mut Play, at: usize, change: impl Fn(Act) -> Act) {
    let mut dice = Dice::new(1);
    let model = play.invoices[at.min(play.invoices.len() - 1)].model.clone();
    let setting = play.setting.clone();
    // Frozen, the invoice would answer nothing else.
    let last = [R::Freeze];
    let each: Vec<Act> = kinds()
        .filter(|kind| !last.contains(kind))
        .chain(last)
        .map(|kind| {
            let signer = match kind {
                R::FinanceHold | R::HoldCancel | R::FinanceOpen | R::RegistryRef => "K",
                R::ConsentRed | R::TransferAccept => "K",
                _ => "T",
            };
            change(draft::needed(&mut dice, Act::new(kind, signer, 0), &model, &setting))
        })
        .collect();
    fill(play, at, each.len(), |i| each[i].clone());
}

/// What stands before the rule of any event, for each kind.
fn gate(play: &mut Play) {
    let new = |play: &mut Play| play.issue(Sort::Usual, GROSS, 9);
    let untouched = new(play);
    each_kind(play, usize::MAX, |act| act);
    each_kind(play, untouched, |act| Act { on_behalf: Some("A"), ..act });
    each_kind(play, untouched, |act| Act { opens: Opens::Not, ..act });
    each_kind(play, untouched, |act| Act { opens: Opens::Hidden, ..act });
    each_kind(play, untouched, |act| Act { opens: Opens::Other, ..act });
    each_kind(play, untouched, |act| Act { currency: Some("USD"), ..act });
    each_kind(play, untouched, |act| Act { expected_version: Some(9_999), ..act });
    each_kind(play, untouched, |act| Act { signer: "A", ..act });
    let fact = |fact, amount| Act {
        fact: Some(fact),
        amount,
        reference: Some("f".into()),
        ..Act::new(R::AuthorityFact, "T", 0)
    };
    let order = |by| Act { reference: Some("order".into()), ..Act::new(R::Freeze, by, 0) };
    for ends in [fact("void", None), fact("red", Some(GROSS)), order("J")] {
        let at = new(play);
        fill(play, at, 1, |_| ends.clone());
        each_kind(play, at, |act| act);
    }
    let at = play.issue(Sort::Red, GROSS, 9);
    each_kind(play, at, |act| act);
}

/// Answers that need several things at once.
fn rare(play: &mut Play) {
    let hold = |play: &Play, amount| {
        let expires = Some(play.setting.now + 1_000);
        Act { amount: Some(amount), expires, ..Act::new(R::FinanceHold, "K", 0) }
    };
    let new = |play: &mut Play, sort| {
        let at = play.issue(sort, GROSS, 9);
        grant(play, at);
        at
    };
    // A lien against a void, and no capacity where nothing is disclosed.
    let at = new(play, Sort::Voidable);
    let first = hold(play, GROSS);
    fill(play, at, 1, |_| first.clone());
    fill(play, at, 1, |_| Act::new(R::Void, "T", 0));
    play.setting.policy.disclose_capacity = 0;
    let terms = Act { advanced: Some(1), form: Some("pledge"), ..Act::new(R::FinanceOpen, "K", 0) };
    fill(play, at, 1, |_| Act { amount: Some(1), ..terms.clone() });
    // Only the whole is financed, and what that is may not be known.
    play.setting.policy.partial_financing = 0;
    let part = hold(play, 1);
    let parts = [part, Act { amount: Some(1), ..terms }];
    fill(play, at, 2, |i| parts[i].clone());
    play.setting.policy.partial_financing = 1;
    // A slip that was opened as it should; then less remains, or the holder consents to less.
    let slip = Act { tax: Some(0), reason: Some("02"), ..Act::new(R::SlipOpen, "S", 0) };
    for lien in [false, true] {
        let at = new(play, Sort::Usual);
        let consent = |amount| Act {
            amount: Some(amount),
            financing: Some(1),
            ..Act::new(R::ConsentRed, "K", 0)
        };
        let fact = Act {
            fact: Some("red"),
            amount: Some(1),
            reference: Some("f".into()),
            ..Act::new(R::AuthorityFact, "T", 0)
        };
        let first = hold(play, 1);
        let before: &[Act] = if lien { &[first, consent(GROSS)] } else { &[] };
        let then = if lien { consent(1) } else { fact };
        let mut acts = vec![Act::new(R::Select, "B", 0)];
        acts.extend_from_slice(before);
        acts.push(Act { amount: Some(GROSS), ..slip.clone() });
        acts.extend([then, Act::new(R::SlipConfirm, "B", 0)]);
        fill(play, at, acts.len(), |i| acts[i].clone());
    }
}
