//! The documented bytes against the engine's own encoder, and what is refused.

use super::{Chain, GENESIS, NAMESPACE, identity, root, secret};
use crate::digest::Digest;
use crate::exchange::checked_batch;
use crate::finalization::{FINALIZATION_BYTES_MAX, Finalization, sorted};
use crate::scheme::Scheme;
use crate::wire::write_batch;
use crate::{Application, FinalBlock, Finalized, Refused, VALIDATORS_MAX, sort_validators};
use commonware_codec::Encode;
use commonware_consensus::simplex::types::{Finalize, Notarize, Proposal};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::certificate::{AssemblyError, Verifier as _};
use commonware_parallel::Sequential;
use commonware_utils::iter::NonEmpty;
use piaogen_crypto::sm2::{self, PublicKey, SecretKey};

/// Four keys, sorted as certificates count them.
fn committee() -> (Vec<SecretKey>, Vec<PublicKey>) {
    let mut secrets: Vec<SecretKey> = (1..=4).map(secret).collect();
    secrets.sort_by_key(|secret| secret.public_key().to_compressed());
    let keys = secrets.iter().map(SecretKey::public_key).collect();
    (secrets, keys)
}

fn scheme(secret: &SecretKey, keys: &[PublicKey]) -> Scheme {
    Scheme::signer(NAMESPACE, sorted(keys).unwrap(), secret.clone()).unwrap()
}

fn proposal() -> Proposal<Digest> {
    Proposal::new(Round::new(Epoch::new(0), View::new(300)), View::new(299), Digest([0x11; 32]))
}

fn finalization(who: &[usize]) -> Result<Finalization, AssemblyError> {
    let (secrets, keys) = committee();
    let votes: Vec<_> = who
        .iter()
        .map(|i| Finalize::sign(&scheme(&secrets[*i], &keys), proposal()).unwrap())
        .collect();
    let votes = NonEmpty::try_new(votes.into_iter()).unwrap();
    Finalization::from_owned_finalizes(&scheme(&secrets[0], &keys), votes, &Sequential)
}

/// The documented layout, written out by hand.
fn by_hand() -> (Vec<u8>, Vec<u8>) {
    let (secrets, _) = committee();
    let proposal = [&[0x00, 0xac, 0x02, 0xab, 0x02][..], &[0x11; 32]].concat();
    let name = [NAMESPACE, b"_FINALIZE"].concat();
    let signed = [&[u8::try_from(name.len()).unwrap()][..], &name, &proposal].concat();
    let mut bytes = proposal;
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 4, 0b1101, 3]);
    for i in [0, 2, 3] {
        bytes.extend(secrets[i].sign(&signed).0);
    }
    (bytes, signed)
}

#[test]
fn finalization_has_the_documented_bytes() {
    let (expected, signed) = by_hand();
    let encoded = finalization(&[3, 0, 2]).unwrap().encode().to_vec();
    let (_, keys) = committee();
    for (i, key) in keys.iter().enumerate() {
        println!("key {i} {}", hex::encode(key.to_compressed()));
    }
    println!("signed {}\nfinalization {}", hex::encode(&signed), hex::encode(&encoded));
    assert_eq!(encoded, expected);

    let mut shuffled = keys.clone();
    shuffled.reverse();
    assert_eq!(sort_validators(&shuffled).unwrap(), keys);
    let read = Finalized::check(&encoded, NAMESPACE, 0, &shuffled).unwrap();
    assert_eq!(read.signed_bytes(NAMESPACE), signed);
    assert_eq!((read.view, read.parent_view, read.validators), (300, 299, 4));
    for (i, signature) in &read.signatures {
        assert!(sm2::verify(&keys[*i as usize], &signed, &sm2::Signature(*signature)));
    }
    let text = read.to_string();
    assert!(text.contains("view        300 on view 299") && text.contains("3 of 4"), "{text}");
}

#[test]
fn a_set_of_one_has_the_documented_bytes() {
    let key = secret(1).public_key();
    let scheme = scheme(&secret(1), std::slice::from_ref(&key));
    let round = Round::new(Epoch::new(0), View::new(1));
    let proposal = Proposal::new(round, View::zero(), Digest(GENESIS));
    let votes = NonEmpty::new(Finalize::sign(&scheme, proposal).unwrap(), [].into_iter());
    let made = Finalization::from_owned_finalizes(&scheme, votes, &Sequential).unwrap();
    let encoded = made.encode().to_vec();
    println!("key {}\nfinalization {}", hex::encode(key.to_compressed()), hex::encode(&encoded));
    let head = [&[0, 1, 0][..], &GENESIS, &[0, 0, 0, 0, 0, 0, 0, 1, 1, 1]].concat();
    assert_eq!(&encoded[..head.len()], &head[..]);
    assert_eq!(encoded.len(), head.len() + 64);
    Finalized::check(&encoded, NAMESPACE, 0, &[key]).unwrap();
}

#[test]
fn a_quorum_is_needed() {
    assert!(matches!(finalization(&[0, 2]), Err(AssemblyError::InsufficientAttestations(3, 2))));
    assert!(matches!(finalization(&[0, 2, 2]), Err(AssemblyError::DuplicateSigner(_))));
    // Two of four, well-formed.
    let mut bytes = by_hand().0;
    bytes.truncate(bytes.len() - 64);
    (bytes[45], bytes[46]) = (0b0101, 2);
    assert!(Finalized::decode(&bytes).is_ok());
    let (_, keys) = committee();
    let refusal = Finalized::check(&bytes, NAMESPACE, 0, &keys).unwrap_err();
    assert_eq!(refusal, Refused::NotSigned { view: 300, quorum: 3, validators: 4 });
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = by_hand().0;
    let (_, keys) = committee();
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 1 << (at % 8);
        assert!(Finalized::check(&bent, NAMESPACE, 0, &keys).is_err(), "byte {at}");
    }
    for cut in 0..bytes.len() {
        assert!(Finalized::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(Finalized::decode(&[&bytes[..], &[0]].concat()).is_err());
    assert!(Finalized::check(&bytes, b"another chain", 0, &keys).is_err());
    let refusal = Finalized::check(&bytes, NAMESPACE, 1, &keys).unwrap_err();
    assert_eq!(refusal, Refused::Epoch { found: 0, expected: 1 });
    // The same signatures, said to be of a larger set.
    assert!(
        Finalized::check(&bytes, NAMESPACE, 0, &[&keys[..], &[secret(5).public_key()]].concat())
            .is_err()
    );
}

#[test]
fn lengths_are_bounded_before_they_are_believed() {
    let head = [&[0x00, 0xac, 0x02, 0xab, 0x02][..], &[0x11; 32]].concat();
    let huge = [&head[..], &u64::MAX.to_be_bytes()].concat();
    assert!(matches!(Finalized::decode(&huge), Err(Refused::Malformed { .. })));
    let above = u64::from(VALIDATORS_MAX) + 1;
    let bitmap = vec![0xff; VALIDATORS_MAX as usize / 8 + 1];
    let wide = [&head[..], &above.to_be_bytes(), &bitmap].concat();
    assert!(matches!(Finalized::decode(&wide), Err(Refused::Malformed { .. })));
    let size = Scheme::max_certificate_size(4);
    assert!(finalization(&[0, 1, 2, 3]).unwrap().certificate.encode().len() <= size);
}

#[test]
fn the_limits_are_those_of_who_verifies() {
    assert_eq!(u64::from(VALIDATORS_MAX), piaogen_verify::header::VALIDATORS_MAX);
    let longest = FINALIZATION_BYTES_MAX as u64;
    assert!(longest <= piaogen_verify::certificate::CERTIFICATE_MAX, "{longest}");
    // The largest set, everybody signed, with the highest numbers that there are.
    let secrets: Vec<SecretKey> = (1..=VALIDATORS_MAX as u8).map(secret).collect();
    let keys: Vec<PublicKey> = secrets.iter().map(SecretKey::public_key).collect();
    let top = Round::new(Epoch::new(u64::MAX), View::new(u64::MAX));
    let proposal = Proposal::new(top, View::new(u64::MAX - 1), Digest([0x11; 32]));
    let vote = |one: &SecretKey| Finalize::sign(&scheme(one, &keys), proposal.clone()).unwrap();
    let votes = NonEmpty::try_new(secrets.iter().map(vote)).unwrap();
    let scheme = scheme(&secrets[0], &keys);
    let made = Finalization::from_owned_finalizes(&scheme, votes, &Sequential).unwrap().encode();
    assert!(made.len() <= FINALIZATION_BYTES_MAX && made.len() + 4 >= FINALIZATION_BYTES_MAX);
    assert_eq!(Finalized::decode(&made).unwrap().signatures.len(), VALIDATORS_MAX as usize);
    assert!(piaogen_verify::certificate::Certificate::decode(&made).is_ok());
    let one_more: Vec<PublicKey> =
        (0..=VALIDATORS_MAX as u8).map(|i| secret(i + 1).public_key()).collect();
    assert!(matches!(sort_validators(&one_more), Err(Refused::Validators { .. })));
}

#[test]
fn a_notarize_vote_is_no_finalize_vote() {
    let (secrets, keys) = committee();
    let votes = [0, 1, 2].map(|i| {
        let vote = Notarize::sign(&scheme(&secrets[i], &keys), proposal()).unwrap();
        Finalize { proposal: vote.proposal, attestation: vote.attestation }
    });
    let votes = NonEmpty::try_new(votes.into_iter()).unwrap();
    let made = Finalization::from_owned_finalizes(&scheme(&secrets[0], &keys), votes, &Sequential);
    let bytes = made.unwrap().encode();
    assert!(Finalized::decode(&bytes).is_ok());
    assert!(Finalized::check(&bytes, NAMESPACE, 0, &keys).is_err());
}

/// A block of height `height` on `parent`, final in view `height`.
fn final_block(parent: piaogen_crypto::Digest, height: u64) -> FinalBlock {
    made_final(parent, height, height, 0)
}

/// Such a block of an epoch that says that it was proposed in view `said`.
fn made_final(parent: piaogen_crypto::Digest, height: u64, said: u64, epoch: u64) -> FinalBlock {
    let (secrets, keys) = committee();
    let numbers = [height, said].map(u64::to_be_bytes).concat();
    let body = [&parent[..], &numbers, &root(&parent)].concat();
    let round = Round::new(Epoch::new(epoch), View::new(height));
    let block = Digest(identity(&body).unwrap().block);
    let proposal = Proposal::new(round, View::new(height - 1), block);
    let vote = |i: usize| Finalize::sign(&scheme(&secrets[i], &keys), proposal.clone()).unwrap();
    let votes = NonEmpty::try_new([0, 1, 3].into_iter().map(vote)).unwrap();
    let scheme = scheme(&secrets[0], &keys);
    let made = Finalization::from_owned_finalizes(&scheme, votes, &Sequential).unwrap();
    FinalBlock { body, finalization: made.encode().to_vec() }
}

#[test]
fn a_batch_is_believed_up_to_the_end_of_the_epoch() {
    let (_, keys) = committee();
    let scheme = Scheme::verifier(NAMESPACE, sorted(&keys).unwrap());
    let chain = Chain::default();
    let block = |one: &FinalBlock| identity(&one.body).unwrap().block;
    let first = final_block(GENESIS, 1);
    let taken = |last: &FinalBlock, epoch: u64| {
        let next = made_final(block(last), 3, 3, epoch);
        let batch = write_batch(&[first.clone(), last.clone(), next]);
        checked_batch(&chain, &scheme, 0, chain.last(), &batch).map(|blocks| blocks.len())
    };
    let closing = made_final(block(&first), 2, u64::MAX, 0);
    assert_eq!(taken(&closing, 1), Some(2));
    assert_eq!(taken(&closing, 0), Some(2));
    // Nothing of another epoch stands on a block that is not the last.
    let other = final_block(block(&first), 2);
    assert_eq!((taken(&other, 0), taken(&other, 1)), (Some(3), None));
}

#[test]
fn a_batch_is_taken_whole_or_not_at_all() {
    let (_, keys) = committee();
    let scheme = Scheme::verifier(NAMESPACE, sorted(&keys).unwrap());
    let chain = Chain::default();
    let mut blocks = Vec::new();
    let mut parent = GENESIS;
    for height in 1..=3 {
        blocks.push(final_block(parent, height));
        parent = identity(&blocks[blocks.len() - 1].body).unwrap().block;
    }
    let taken = |blocks: &[FinalBlock], epoch| {
        checked_batch(&chain, &scheme, epoch, chain.last(), &write_batch(blocks))
    };
    let all = taken(&blocks, 0).unwrap();
    assert_eq!(all.iter().map(|(one, _)| one.height).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(taken(&blocks[..1], 0).unwrap().len(), 1);
    // Of another epoch, beginning too late, with a gap, or with a block twice.
    assert!(taken(&blocks, 1).is_none());
    assert!(taken(&blocks[1..], 0).is_none());
    assert!(taken(&[blocks[0].clone(), blocks[2].clone()], 0).is_none());
    assert!(taken(&[blocks[0].clone(), blocks[0].clone()], 0).is_none());
    // The certificate of another block, none, or one with a bent signature; a bent body.
    for change in 0..4 {
        let mut bent = blocks.clone();
        match change {
            0 => bent[1].finalization = blocks[0].finalization.clone(),
            1 => bent[1].finalization = Vec::new(),
            2 => *bent[1].finalization.last_mut().unwrap() ^= 1,
            _ => bent[1].body[70] ^= 1,
        }
        assert!(taken(&bent, 0).is_none(), "change {change}");
    }
}
