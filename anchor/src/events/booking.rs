//! Reimbursement and booking, by unit.
//!
//! A unit claims or books once, and all units together no more than remains. Who comes second is
//! told of his own record where it stands, and of another's only when.

use super::{Answer, Case, refuse, refuse_with};
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::ROLE_COMPANY;
use piaogen_verify::status::{Booking, BookingMark, Claim};

pub(super) fn claim_open(case: &mut Case<'_>) -> Answer {
    must_be_unit(case)?;
    let own = case.status.claims.iter().find(|claim| claim.unit == case.actor);
    if let Some(own) = own {
        return refuse_with(Conflict::AlreadyClaimed, Detail::Index(own.index));
    }
    not_claimed_elsewhere(case)?;
    not_booked(case)?;
    // The least that can be booked must remain; a tolerance makes no room for a claim.
    must_remain(case, 1, 0)?;
    let expires = case.needed(tag::EXPIRES, case.time(tag::EXPIRES))?;
    if expires <= case.now() {
        return case.out_of_range(tag::EXPIRES);
    }
    let (value, limit) = (expires.abs_diff(case.now()), case.policy().claim_max_ms);
    if value > limit {
        return Err(Outcome::Limit { tag: tag::EXPIRES, value, limit });
    }
    let (index, at, unit) = (case.index, case.now(), case.actor.to_owned());
    let reference = case.text(tag::REFERENCE);
    case.status.claims.push(Claim { index, at, unit, reference, expires });
    Ok(())
}

pub(super) fn claim_close(case: &mut Case<'_>) -> Answer {
    match case.status.claims.iter().position(|claim| claim.unit == case.actor) {
        Some(at) => {
            case.status.claims.remove(at);
            Ok(())
        }
        None => refuse(Conflict::NoClaim),
    }
}

pub(super) fn book(case: &mut Case<'_>) -> Answer {
    must_be_unit(case)?;
    not_booked(case)?;
    not_claimed_elsewhere(case)?;
    let Some(mark) = mark(case) else { return case.out_of_range(tag::MARK) };
    let amount = case.needed(tag::AMOUNT, case.amount(tag::AMOUNT))?;
    must_remain(case, amount, i128::from(case.policy().tolerance))?;
    case.must_fit(case.status.bookings.len())?;
    let booking = Booking {
        index: case.index,
        at: case.now(),
        unit: case.actor.to_owned(),
        amount,
        reference: case.text(tag::REFERENCE),
        digest: case.digest(tag::DIGEST),
        mark,
        archive: None,
    };
    case.status.claims.retain(|claim| claim.unit != booking.unit);
    case.status.bookings.push(booking);
    Ok(())
}

pub(super) fn unbook(case: &mut Case<'_>) -> Answer {
    let at = own_booking(case)?;
    case.status.bookings.remove(at);
    Ok(())
}

pub(super) fn archive(case: &mut Case<'_>) -> Answer {
    let at = own_booking(case)?;
    let digest = case.needed(tag::DIGEST, case.digest(tag::DIGEST))?;
    let booking = &mut case.status.bookings[at];
    if booking.archive.is_some() {
        return refuse_with(Conflict::AlreadyDone, Detail::Index(booking.index));
    }
    booking.archive = Some(digest);
    Ok(())
}

/// The mark of a booking, deductible where it has none; `None` where it is unknown.
fn mark(case: &Case<'_>) -> Option<BookingMark> {
    match case.flag(tag::MARK) {
        true => BookingMark::from_name(case.record.text(tag::MARK)),
        false => Some(BookingMark::Deductible),
    }
}

/// The unit rule: where the buyer is a participant, only he; of a personal title, any company.
fn must_be_unit(case: &Case<'_>) -> Answer {
    let registry = case.context.registry;
    let buyer = case.status.facts.buyer.as_deref();
    if buyer.is_some_and(|buyer| registry.participant(buyer).is_some()) {
        return case.must_be_buyer();
    }
    if case.roles & ROLE_COMPANY != 0 { Ok(()) } else { Err(Outcome::WrongRole) }
}

fn not_claimed_elsewhere(case: &Case<'_>) -> Answer {
    match case.status.claims.iter().find(|claim| claim.unit != case.actor) {
        Some(claim) => refuse_with(Conflict::ClaimedElsewhere, Detail::Time(claim.at)),
        None => Ok(()),
    }
}

fn not_booked(case: &Case<'_>) -> Answer {
    match case.status.bookings.iter().find(|booking| booking.unit == case.actor) {
        Some(booking) => refuse_with(Conflict::AlreadyBooked, Detail::Index(booking.index)),
        None => Ok(()),
    }
}

/// Where the actor's booking is in the list.
fn own_booking(case: &Case<'_>) -> Result<usize, Outcome> {
    let own = case.status.bookings.iter().position(|booking| booking.unit == case.actor);
    own.map_or_else(|| refuse(Conflict::NotBooked), Ok)
}

/// Refuses what does not fit beside all bookings of others; the actor has none of his own.
fn must_remain(case: &Case<'_>, amount: i128, tolerance: i128) -> Answer {
    let remains = case.status.remainder() - case.status.booked();
    if amount <= remains + tolerance {
        return Ok(());
    }
    match case.status.bookings.iter().map(|booking| booking.at).max() {
        Some(last) => refuse_with(Conflict::BookedElsewhere, Detail::Time(last)),
        None => refuse_with(Conflict::AmountExceeded, Detail::Amount(remains)),
    }
}
