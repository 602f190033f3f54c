//! Turns two votes of one validator that exclude each other into evidence that anybody can check
//! offline (FORMAT section 12.2).
//!
//! The engine reports such a pair before it has looked at the signatures, so both are checked here:
//! what is kept names nobody who did not sign.

use crate::digest::Digest;
use crate::scheme::Scheme;
use commonware_codec::{Encode, ReadExt};
use commonware_consensus::simplex::types::{Activity, Finalize, Notarize, Nullify};
use commonware_consensus::types::{Participant, Round};
use commonware_cryptography::certificate::{Attestation, Scheme as _};
use commonware_parallel::Sequential;
use commonware_utils::ordered::Quorum as _;
use piaogen_crypto::sm2;
use piaogen_verify::evidence::{Evidence, Said, Vote};

type Report = Activity<Scheme, Digest>;

/// A vote, its round and who cast it.
type Cast = (Vote, Round, Participant);

fn cast(said: Said, round: Round, attestation: &Attestation<Scheme>) -> Option<Cast> {
    let signature = sm2::Signature(attestation.signature.get()?.0);
    Some((Vote { said, signature }, round, attestation.signer))
}

fn notarize(vote: &Notarize<Scheme, Digest>) -> Option<Cast> {
    let (parent, payload) = (vote.proposal.parent.get(), vote.proposal.payload.0);
    cast(Said::Notarize { parent, payload }, vote.proposal.round, &vote.attestation)
}

fn finalize(vote: &Finalize<Scheme, Digest>) -> Option<Cast> {
    let (parent, payload) = (vote.proposal.parent.get(), vote.proposal.payload.0);
    cast(Said::Finalize { parent, payload }, vote.proposal.round, &vote.attestation)
}

fn timeout(vote: &Nullify<Scheme>) -> Option<Cast> {
    cast(Said::Timeout, vote.round, &vote.attestation)
}

/// The evidence in a report of the engine, if there is any and its signatures hold.
pub(crate) fn of(report: &Report, scheme: &Scheme) -> Option<Evidence> {
    // Signatures are checked one by one, so the randomness for batches is never drawn.
    let mut rng = rand::rng();
    let (first, second) = match report {
        Activity::ConflictingNotarize(pair) if pair.verify(&mut rng, scheme, &Sequential) => {
            let mut bytes = pair.encode();
            (notarize(&ReadExt::read(&mut bytes).ok()?), notarize(&ReadExt::read(&mut bytes).ok()?))
        }
        Activity::ConflictingFinalize(pair) if pair.verify(&mut rng, scheme, &Sequential) => {
            let mut bytes = pair.encode();
            (finalize(&ReadExt::read(&mut bytes).ok()?), finalize(&ReadExt::read(&mut bytes).ok()?))
        }
        Activity::NullifyFinalize(pair) if pair.verify(&mut rng, scheme, &Sequential) => {
            let mut bytes = pair.encode();
            (timeout(&ReadExt::read(&mut bytes).ok()?), finalize(&ReadExt::read(&mut bytes).ok()?))
        }
        _ => return None,
    };
    let ((first, round, who), (second, ..)) = (first?, second?);
    Some(Evidence::DoubleVote {
        // The application follows the headers, and knows how a verifier comes to the set.
        changes: Vec::new(),
        key: scheme.participants().key(who)?.point().clone(),
        epoch: round.epoch().get(),
        view: round.view().get(),
        first,
        second,
    })
}
