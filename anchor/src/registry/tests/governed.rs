//! What needs a quorum of authorities: validator sets, and who is an authority.

use super::*;
use piaogen_verify::header::NO_SET;

/// The set of these keys.
fn set(keys: &[u8]) -> ValidatorSet {
    ValidatorSet::new(keys.iter().map(|n| key(*n).public_key()).collect()).unwrap()
}

const GENESIS: &[u8] = &[101, 102];

/// A proposal of these keys in place of those.
fn proposal(keys: &[u8], base: &[u8]) -> Fields {
    let mut compressed: Vec<[u8; 33]> =
        keys.iter().map(|n| key(*n).public_key().to_compressed()).collect();
    compressed.sort_unstable();
    of_bytes(&compressed, base)
}

fn of_bytes(keys: &[[u8; 33]], base: &[u8]) -> Fields {
    let mut fields = Fields::new();
    fields.set(tag::VALIDATORS, value::keys(keys));
    fields.set(tag::BASE, set(base).digest().to_vec());
    fields
}

/// Three authorities, of whom two are a quorum, and an issuer.
fn three() -> Registry {
    let founders =
        [(1, "T", "authority"), (2, "S", "issuer"), (3, "U", "authority"), (4, "V", "authority")];
    chain(&founders, None)
}

/// The set that each of the first headers names, by its keys; none where it names none.
fn named(registry: &Registry, sets: &[&[u8]]) -> Vec<(u64, usize)> {
    (1..=45)
        .filter_map(|height| {
            let next = registry.governance().next_set(height)?;
            let at = sets.iter().position(|keys| set(keys) == next).expect("a known set");
            Some((height, at))
        })
        .collect()
}

const KIND: RecordKind = RecordKind::Validators;

#[test]
fn the_signature_that_completes_the_quorum_takes_effect_at_the_next_boundary() {
    let mut registry = three();
    let change = proposal(&[101, 103, 104], GENESIS);
    let sets: [&[u8]; 2] = [GENESIS, &[101, 103, 104]];
    assert_eq!(run_at(&mut registry, 3, KIND, 1, &change), Ok(()));
    assert_eq!(named(&registry, &sets), [(10, 0), (20, 0), (30, 0), (40, 0)]);
    assert_eq!(registry.governance.proposals().len(), 1);
    assert_eq!(run_at(&mut registry, 9, KIND, 4, &change), Ok(()));
    assert_eq!(registry.governance.proposals().len(), 0);
    assert_eq!(named(&registry, &sets), [(10, 1), (20, 1), (30, 1), (40, 1)]);
    let found = registry.governance().sets(10);
    assert_eq!(found.len(), 2);
    assert_eq!((found[1].epoch, found[1].named_at, &found[1].set), (1, 10, &set(sets[1])));
    // Who signs now would propose what stands already, against a set that does not.
    let stale = Outcome::StaleSet { set: set(sets[1]).digest() };
    assert_eq!(run_at(&mut registry, 9, KIND, 3, &change), Err(stale));
}

#[test]
fn what_the_last_block_of_an_epoch_completes_waits_for_the_one_after() {
    let mut registry = three();
    let change = proposal(&[103], GENESIS);
    let sets: [&[u8]; 3] = [GENESIS, &[103], &[104]];
    assert_eq!(run_at(&mut registry, 10, KIND, 1, &change), Ok(()));
    assert_eq!(run_at(&mut registry, 10, KIND, 3, &change), Ok(()));
    // The header of block 10 was made before its records were executed.
    assert_eq!(registry.governance().sets(10), registry.governance().sets(19));
    assert_eq!(named(&registry, &sets)[..2], [(20, 1), (30, 1)]);
    // The next change stands on it, in the same block too.
    let next = proposal(&[104], &[103]);
    assert_eq!(run_at(&mut registry, 10, KIND, 1, &next), Ok(()));
    assert_eq!(run_at(&mut registry, 19, KIND, 4, &next), Ok(()));
    assert_eq!(named(&registry, &sets)[..2], [(20, 2), (30, 2)]);
    let found: Vec<u64> =
        registry.governance().sets(45).iter().map(|change| change.named_at).collect();
    assert_eq!(found, [0, 20]);
}

#[test]
fn each_refusal_is_typed_and_plans_nothing() {
    let malformed = |tag, cause| Err(Outcome::Malformed { tag, cause });
    let good = proposal(&[103], GENESIS);
    let edited = |edit: fn(&mut Fields)| {
        let mut fields = good.clone();
        edit(&mut fields);
        fields
    };
    let blocks = |n: u64| {
        let mut fields = good.clone();
        fields.set(tag::EPOCH_BLOCKS, value::uint(n));
        fields
    };
    let descending = {
        let mut keys =
            [key(103).public_key().to_compressed(), key(104).public_key().to_compressed()];
        keys.sort_unstable();
        keys.reverse();
        of_bytes(&keys, GENESIS)
    };
    let twice = of_bytes(&[key(103).public_key().to_compressed(); 2], GENESIS);
    let stale = Err(Outcome::StaleSet { set: set(GENESIS).digest() });
    let many = of_bytes(&[[2; 33]; 101], GENESIS);
    let (validators, range) = (tag::VALIDATORS, Cause::Range);
    let cases = [
        (2, good.clone(), Err(Outcome::WrongRole)),
        (9, good.clone(), Err(Outcome::NotRegistered)),
        (1, proposal(&[103], &[101]), stale),
        (1, of_bytes(&[], GENESIS), malformed(validators, range)),
        (1, many, Err(Outcome::Limit { tag: validators, value: 101, limit: 100 })),
        (1, of_bytes(&[[2; 33]], GENESIS), malformed(validators, range)),
        (1, descending, malformed(validators, Cause::Order)),
        (1, twice, malformed(validators, Cause::Order)),
        (1, blocks(0), malformed(tag::EPOCH_BLOCKS, range)),
        (1, blocks((1 << 32) + 1), malformed(tag::EPOCH_BLOCKS, range)),
        (1, edited(|f| drop(f.remove(tag::BASE))), malformed(tag::BASE, Cause::Missing)),
        (1, edited(|f| drop(f.remove(tag::VALIDATORS))), malformed(validators, Cause::Missing)),
        (1, edited(|f| f.set_text(tag::PARTY, "T")), malformed(tag::PARTY, Cause::NotAllowed)),
    ];
    for (i, (signer, fields, outcome)) in cases.into_iter().enumerate() {
        let mut registry = three();
        assert_eq!(run_at(&mut registry, 3, KIND, signer, &fields), outcome, "case {i}");
        assert_eq!(registry.governance.proposals().len(), 0, "case {i}");
        assert_eq!(registry.governance().next_set(10), Some(set(GENESIS)), "case {i}");
        assert_eq!(registry.governance().next_set(9), None, "case {i}");
    }
    let most: Vec<u8> = (101..=200).collect();
    let mut registry = three();
    assert_eq!(run_at(&mut registry, 3, KIND, 1, &proposal(&most, GENESIS)), Ok(()));
}

#[test]
fn an_authority_counts_once_and_only_while_its_key_is_valid() {
    let mut registry = three();
    let change = proposal(&[103], GENESIS);
    let again = Err(Outcome::AlreadySigned);
    assert_eq!(run_at(&mut registry, 3, KIND, 1, &change), Ok(()));
    assert_eq!(run_at(&mut registry, 4, KIND, 1, &change), again);
    assert_eq!(registry.governance.proposals().len(), 1);
    // T's key was stolen, and T takes a new one: what the old one signed counts no longer.
    assert_eq!(run_at(&mut registry, 5, RecordKind::Rotate, 1, &fields("T", Some(5))), Ok(()));
    assert_eq!(run_at(&mut registry, 5, KIND, 1, &change), Err(Outcome::KeyRevoked));
    assert_eq!(run_at(&mut registry, 6, KIND, 3, &change), Ok(()));
    assert_eq!(registry.governance().next_set(10), Some(set(GENESIS)), "one of three");
    assert_eq!(run_at(&mut registry, 7, KIND, 5, &change), Ok(()));
    assert_eq!(registry.governance().next_set(10), Some(set(&[103])));
}

#[test]
fn of_two_proposals_the_first_complete_one_holds_and_the_other_is_stale() {
    let mut registry = three();
    let (one, two) = (proposal(&[103], GENESIS), proposal(&[104], GENESIS));
    assert_eq!(run_at(&mut registry, 3, KIND, 1, &one), Ok(()));
    assert_eq!(run_at(&mut registry, 3, KIND, 3, &two), Ok(()));
    assert_eq!(registry.governance.proposals().len(), 2);
    assert_eq!(run_at(&mut registry, 4, KIND, 4, &two), Ok(()));
    let stale = Outcome::StaleSet { set: set(&[104]).digest() };
    assert_eq!(run_at(&mut registry, 4, KIND, 4, &one), Err(stale));
    assert_eq!(run_at(&mut registry, 25, KIND, 3, &one), Err(stale));
    assert_eq!(registry.governance().next_set(30), Some(set(&[104])));
    // Another reason is another proposal, and does not complete the first.
    let mut registry = three();
    let mut because = one.clone();
    because.set_text(tag::REASON, "moved");
    assert_eq!(run_at(&mut registry, 3, KIND, 1, &one), Ok(()));
    assert_eq!(run_at(&mut registry, 3, KIND, 3, &because), Ok(()));
    assert_eq!(registry.governance().next_set(10), Some(set(GENESIS)));
    assert_eq!(run_at(&mut registry, 3, KIND, 1, &because), Ok(()));
    assert_eq!(registry.governance().next_set(10), Some(set(&[103])));
}

#[test]
fn approvals_lapse_and_open_proposals_are_bounded() {
    let change = proposal(&[103], GENESIS);
    let last = 10 * APPROVAL_EPOCHS;
    for (height, effect) in [(last - 1, true), (last, false)] {
        let mut registry = three();
        assert_eq!(run_at(&mut registry, 1, KIND, 1, &change), Ok(()));
        assert_eq!(run_at(&mut registry, height, KIND, 3, &change), Ok(()));
        let next = registry.governance().next_set(last + 10).unwrap();
        assert_eq!(next == set(&[103]), effect, "height {height}");
        assert_eq!(registry.governance.proposals().len(), usize::from(!effect), "height {height}");
    }
    let mut registry = three();
    let numbered = |n: usize| {
        let mut fields = change.clone();
        fields.set_text(tag::REASON, &format!("{n}"));
        fields
    };
    for n in 0..PROPOSALS_MAX {
        assert_eq!(run_at(&mut registry, 1, KIND, 1, &numbered(n)), Ok(()));
    }
    let full = Conflict::TooMany;
    let full = Err(Outcome::conflict_with(full, piaogen_verify::conflict::Detail::Number(64)));
    assert_eq!(run_at(&mut registry, 1, KIND, 1, &numbered(64)), full);
    assert_eq!(run_at(&mut registry, 1, KIND, 3, &change), full);
    // One that is open can still be completed, and those that lapsed make room.
    let mut later = registry.clone();
    assert_eq!(run_at(&mut registry, 2, KIND, 3, &numbered(5)), Ok(()));
    assert_eq!(registry.governance().next_set(10), Some(set(&[103])));
    assert_eq!(run_at(&mut later, last, KIND, 3, &change), Ok(()));
    assert_eq!(later.governance.proposals().len(), 1);
}

#[test]
fn the_length_of_epochs_changes_with_the_epoch() {
    let mut registry = three();
    let mut shorter = proposal(GENESIS, GENESIS);
    shorter.set(tag::EPOCH_BLOCKS, value::uint(4));
    assert_eq!(run_at(&mut registry, 3, KIND, 1, &shorter), Ok(()));
    assert_eq!(run_at(&mut registry, 3, KIND, 3, &shorter), Ok(()));
    let heights: Vec<u64> =
        named(&registry, &[GENESIS]).into_iter().map(|(height, _)| height).collect();
    assert_eq!(heights[..4], [10, 14, 18, 22]);
    assert_eq!(registry.governance().sets(45).len(), 1, "the set is the same");
    assert_ne!(set(GENESIS).digest(), NO_SET);
}

#[test]
fn no_authority_alone_makes_or_unmakes_another() {
    let mut newcomer = newcomer("W", 9);
    newcomer.set(tag::ROLES, value::uint(ROLE_AUTHORITY));
    let there = |registry: &Registry| registry.participant("W").is_some();
    let mut registry = three();
    assert_eq!(run(&mut registry, RecordKind::Register, 1, &newcomer), Ok(()));
    assert!(!there(&registry));
    let unknown = key(9).public_key().key_id();
    assert_eq!(registry.signer(&unknown).err(), Some(Outcome::NotRegistered));
    assert_eq!(run(&mut registry, RecordKind::Register, 4, &newcomer), Ok(()));
    assert!(there(&registry));
    assert_eq!(run(&mut registry, RecordKind::Register, 3, &newcomer), Err(Outcome::KeyInUse));
    // Four authorities now: three are more than half.
    let revoke = revocation(9);
    for (signer, revoked) in [(1, false), (3, false), (4, true)] {
        assert_eq!(run(&mut registry, RecordKind::Revoke, signer, &revoke), Ok(()));
        assert_eq!(registry.key(&unknown).unwrap().revoked, revoked);
    }
    let rotate = fields("T", Some(10));
    assert_eq!(run(&mut registry, RecordKind::Rotate, 3, &rotate), Ok(()));
    assert!(!registry.key(&key(1).public_key().key_id()).unwrap().revoked);
    assert_eq!(run(&mut registry, RecordKind::Rotate, 4, &rotate), Ok(()));
    assert!(registry.key(&key(1).public_key().key_id()).unwrap().revoked);
    // What is no authority's is done by one.
    assert_eq!(run(&mut registry, RecordKind::Revoke, 3, &revocation(2)), Ok(()));
    assert!(registry.key(&key(2).public_key().key_id()).unwrap().revoked);
}

#[test]
fn a_quorum_of_the_genesis_holds_whatever_the_number_of_authorities() {
    let founders = [(1, "T", "authority"), (3, "U", "authority"), (4, "V", "authority")];
    let mut registry = chain(&founders, Some(3));
    let change = proposal(&[103], GENESIS);
    for (signer, effect) in [(1, false), (3, false), (4, true)] {
        assert_eq!(run(&mut registry, KIND, signer, &change), Ok(()));
        assert_eq!(registry.governance().next_set(10) == Some(set(&[103])), effect);
    }
    let mut alone = chain(&[(1, "T", "authority")], None);
    assert_eq!(run(&mut alone, KIND, 1, &change), Ok(()));
    assert_eq!(alone.governance().next_set(10), Some(set(&[103])));
}

#[test]
fn replaying_the_accepted_records_gives_the_same_sets_and_proposals() {
    let script = [
        (1, 1, proposal(&[103], GENESIS)),
        (1, 2, proposal(&[103], GENESIS)),
        (4, 3, proposal(&[105], GENESIS)),
        (4, 3, proposal(&[105], GENESIS)),
        (10, 3, proposal(&[103], GENESIS)),
        (12, 4, proposal(&[104], &[103])),
        (310, 1, proposal(&[104], &[103])),
        (312, 3, proposal(&[104], &[103])),
        (333, 4, proposal(&[101, 102], &[104])),
    ];
    let (mut whole, mut replayed) = (three(), three());
    let mut accepted = 0;
    for (height, signer, fields) in &script {
        if run_at(&mut whole, *height, KIND, *signer, fields).is_ok() {
            accepted += 1;
            assert_eq!(run_at(&mut replayed, *height, KIND, *signer, fields), Ok(()));
        }
    }
    assert_eq!(accepted, 7);
    whole.governance.roll(400);
    replayed.governance.roll(400);
    assert_eq!(whole.governance, replayed.governance);
    assert_eq!(whole.governance().sets(400).len(), 3);
}

/// Records of an authority that were right once, and have bytes changed before they are signed.
#[test]
fn whatever_authorities_sign_is_answered_and_the_sets_stay_sets() {
    let kinds = [
        (KIND, proposal(&[101, 103, 104], GENESIS)),
        (KIND, {
            let mut fields = proposal(&[103], GENESIS);
            fields.set(tag::EPOCH_BLOCKS, value::uint(7));
            fields
        }),
        (RecordKind::Register, newcomer("W", 9)),
        (RecordKind::Rotate, fields("U", Some(8))),
        (RecordKind::Revoke, revocation(4)),
        (RecordKind::Policy, fields("W", None)),
        (RecordKind::Delegate, fields("S", None)),
        (RecordKind::DelegateEnd, fields("S", None)),
    ];
    // SplitMix64: the same number, the same choices.
    let mut state = 1u64;
    let mut below = |n: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 31)) % n as u64) as usize
    };
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..60 {
        let mut registry = three();
        for height in 1..60u64 {
            let (kind, good) = &kinds[below(kinds.len())];
            let mut spoiled: Vec<(u16, Vec<u8>)> = good.pairs().to_vec();
            for _ in 0..below(3) {
                let at = below(spoiled.len());
                let bytes = &mut spoiled[at].1;
                match below(4) {
                    0 => bytes.push(below(256) as u8),
                    1 => drop(bytes.pop()),
                    2 if !bytes.is_empty() => {
                        let at = below(bytes.len());
                        bytes[at] ^= 1 << below(8);
                    }
                    _ => spoiled[at].0 = [tag::PARTY, tag::ROLES, tag::BASE][below(3)],
                }
            }
            spoiled.sort_by_key(|(tag, _)| *tag);
            let draft = Draft { kind: *kind, signed_at: 0, secret: [0; 16], fields: &spoiled };
            let signer = [1, 3, 4, 2][below(4)];
            let bytes = draft.sign(&[0; 32], &key(signer));
            let before = (registry.len(), registry.governance.proposals().len());
            let done = match decode(&bytes) {
                Ok(record) => registry.execute(&record, height).is_ok(),
                Err(_) => false,
            };
            if done {
                accepted += 1
            } else {
                refused += 1
            }
            // What is refused adds nothing; a proposal may have become too old meanwhile.
            let after = (registry.len(), registry.governance.proposals().len());
            assert!(done || (after.0 == before.0 && after.1 <= before.1));
            let next = registry.governance().next_set(10 * (height / 10 + 1));
            assert!(next.is_none_or(|set| (1..=100).contains(&set.keys().len())));
        }
    }
    assert!(accepted > 100 && refused > 100, "{accepted} {refused}");
}
