//! Says what a status proof or a history proves, for people and as JSON.
//!
//! Invariants
//! - Only what is proved is said: where the face is hidden, what the absence of parts proves.
//! - The block as of which it holds is always said, and that it says nothing of later ones.

use piaogen_verify::fields::{STATUS, Tag, by_tag};
use piaogen_verify::record::subject_parts;
use piaogen_verify::status::{BuyerState, Face, Risk, StatusReceipt, VerifiedStatus};
use piaogen_verify::trust_root::TrustRoot;
use serde_json::{Value, json};

/// What is proved; with how many records where it is a history.
pub(super) fn of_status(
    proof: &StatusReceipt,
    proved: &VerifiedStatus,
    records: Option<usize>,
    trust: &TrustRoot,
) -> (Value, String) {
    let (scheme, number) = subject_parts(&proof.receipt.entry.subject).unwrap_or_default();
    let block = &proved.block;
    let (shown, hidden): (Vec<Tag>, Vec<Tag>) =
        proved.parts.iter().copied().partition(|part| proved.shown.contains(part));
    let mut json = json!({
        "verified": true, "kind": kind(proved, records), "scheme": scheme, "number": number,
        "height": block.height, "time_ms": block.time_ms,
        "certified_height": block.certified_height, "signers": block.signers,
        "epoch": block.epoch, "witnesses": block.witnesses,
        "untouched": proved.untouched(), "no_lien": proved.no_lien(),
        "no_booking": proved.no_booking(), "shown": names(&shown), "hidden": names(&hidden),
    });
    if let Some(face) = &proved.face {
        json["face"] = face_json(face);
    }
    if let Some(records) = records {
        json["records"] = records.into();
    }
    let text = format!(
        "VERIFIED: {scheme} {number}: {}\nin chain {}, {}, signed by {} validator(s) of epoch {}, \
         cosigned by {} known witness(es)\nthis is what stood at block {}; it says nothing of \
         later blocks\n",
        said(proved, records).join("; "),
        trust.chain_id,
        proved.as_of(),
        block.signers,
        block.epoch,
        block.witnesses,
        block.height,
    );
    (json, text)
}

fn kind(proved: &VerifiedStatus, records: Option<usize>) -> &'static str {
    match (records, proved.untouched()) {
        (Some(_), _) => "history",
        (None, true) => "untouched",
        (None, false) => "status",
    }
}

fn names(parts: &[Tag]) -> Vec<String> {
    let name = |part: &Tag| match by_tag(STATUS, *part) {
        Some(field) => field.name.to_owned(),
        None => format!("tag_{part}"),
    };
    parts.iter().map(name).collect()
}

fn face_json(face: &Face) -> Value {
    json!({
        "version": face.version, "lifecycle": face.lifecycle.name(), "risk": face.risk.name(),
        "frozen": face.frozen, "red_pending": face.red_pending, "used": face.used,
        "booked": face.booked, "claimed": face.claimed, "liens": face.liens,
        "buyer": face.buyer.name(), "over_financed": face.over_financed,
    })
}

/// What is proved, in sentences.
fn said(proved: &VerifiedStatus, records: Option<usize>) -> Vec<String> {
    let mut said = match (&proved.face, proved.untouched()) {
        (_, true) => vec!["nothing ever happened to it: no booking, no lien, no credit".into()],
        (Some(face), false) => of_face(face),
        (None, false) => of_absence(proved),
    };
    if let Some(records) = records {
        said.push(format!("{records} records made its status, these and no others"));
    }
    said
}

fn of_face(face: &Face) -> Vec<String> {
    let liens = match face.liens {
        0 => "no lien stands against it".into(),
        1 => "one lien stands against it".into(),
        liens => format!("{liens} liens stand against it"),
    };
    let booked = if face.booked { "it is booked" } else { "nobody has booked it" };
    let mut said = vec![format!("it is {}", face.lifecycle.name()), liens, booked.into()];
    if face.risk != Risk::Normal {
        said.push(format!("the authority marks it {}", face.risk.name()));
    }
    if face.buyer != BuyerState::None {
        said.push(format!("the buyer's word is {}", face.buyer.name()));
    }
    let marks = [
        (face.frozen, "an order freezes it"),
        (face.red_pending, "a red letter is under way"),
        (face.used, "its input tax is used"),
        (face.claimed, "it is claimed"),
        (face.over_financed, "more is financed on it than there is"),
    ];
    said.extend(marks.iter().filter(|(is, _)| *is).map(|(_, words)| (*words).to_owned()));
    said
}

/// What is proved without the face: that parts are not there.
fn of_absence(proved: &VerifiedStatus) -> Vec<String> {
    let mut said = vec!["something happened to it, its face is hidden".to_owned()];
    let absent = [
        (proved.no_lien(), "no lien was ever taken on it"),
        (proved.no_booking(), "nobody has booked it"),
    ];
    said.extend(absent.iter().filter(|(is, _)| *is).map(|(_, words)| (*words).to_owned()));
    said
}
