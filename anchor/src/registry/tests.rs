use super::*;
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::document::Fields;
use piaogen_verify::genesis::{FORMAT, Founder, GenesisFile};
use piaogen_verify::record::{Draft, decode};

mod governed;

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

fn registry() -> Registry {
    chain(&[(1, "T", "authority"), (2, "S", "issuer")], None)
}

/// The registry of a chain with these founders, two validators and epochs of ten blocks.
fn chain(founders: &[(u8, &str, &str)], authority_quorum: Option<u32>) -> Registry {
    let public = |n: u8| -> String {
        let bytes = key(n).public_key().to_compressed();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let founder = |(n, party, role): &(u8, &str, &str)| Founder {
        party: (*party).into(),
        name: (*party).into(),
        roles: vec![(*role).into()],
        public_key: public(*n),
    };
    let file = GenesisFile {
        format: FORMAT.into(),
        chain_id: "test-1".into(),
        time_ms: 0,
        partitions: 1,
        validators: vec![public(101), public(102)],
        participants: founders.iter().map(founder).collect(),
        schemes: Vec::new(),
        clock_skew_ms: 0,
        epoch_blocks: 10,
        authority_quorum,
    };
    Registry::genesis(&Genesis::parse(&serde_json::to_vec(&file).unwrap()).unwrap())
}

fn fields(party: &str, new: Option<u8>) -> Fields {
    let mut fields = Fields::new();
    fields.set_text(tag::PARTY, party);
    if let Some(n) = new {
        fields.set(tag::PUBLIC_KEY, key(n).public_key().to_compressed().to_vec());
    }
    fields
}

fn newcomer(party: &str, n: u8) -> Fields {
    let mut fields = fields(party, Some(n));
    fields.set_text(tag::PARTY_NAME, "名称");
    fields.set(tag::ROLES, value::uint(2));
    fields
}

fn run(
    registry: &mut Registry,
    kind: RecordKind,
    signer: u8,
    fields: &Fields,
) -> Result<(), Outcome> {
    run_at(registry, 7, kind, signer, fields)
}

/// As a shard does it: what cannot be read is refused before.
fn run_at(
    registry: &mut Registry,
    height: u64,
    kind: RecordKind,
    signer: u8,
    fields: &Fields,
) -> Result<(), Outcome> {
    let draft = Draft { kind, signed_at: 0, secret: [0; 16], fields: fields.pairs() };
    let bytes = draft.sign(&[0; 32], &key(signer));
    let record = decode(&bytes).map_err(|bad| Outcome::of_flaw(bad.tag, bad.flaw))?;
    registry.execute(&record, height)
}

fn revocation(n: u8) -> Fields {
    let mut fields = Fields::new();
    fields.set(tag::REVOKED_KEY, key(n).public_key().key_id().to_vec());
    fields
}

#[test]
fn a_key_lives_from_registration_to_revocation_and_stays_known() {
    let mut registry = registry();
    let id = key(5).public_key().key_id();
    assert_eq!(registry.signer(&id).map(|_| ()), Err(Outcome::NotRegistered));
    assert_eq!(run(&mut registry, RecordKind::Register, 1, &newcomer("N", 5)), Ok(()));
    assert_eq!(registry.signer(&id).map(|(_, roles)| roles), Ok(2));
    assert_eq!(run(&mut registry, RecordKind::Rotate, 5, &fields("N", Some(6))), Ok(()));
    assert_eq!(registry.signer(&id).map(|_| ()), Err(Outcome::KeyRevoked));
    assert_eq!(run(&mut registry, RecordKind::Revoke, 6, &revocation(6)), Ok(()));
    assert_eq!(
        run(&mut registry, RecordKind::Rotate, 6, &fields("N", Some(7))),
        Err(Outcome::KeyRevoked)
    );
    assert_eq!(run(&mut registry, RecordKind::Rotate, 1, &fields("N", Some(7))), Ok(()));
    assert_eq!(
        run(&mut registry, RecordKind::Register, 1, &newcomer("M", 5)),
        Err(Outcome::KeyInUse)
    );
}

#[test]
fn each_refusal_is_typed_and_changes_nothing() {
    let malformed = |tag, cause| Outcome::Malformed { tag, cause };
    let mut bad_code = newcomer("CN-USCC:91440300708461136X", 9);
    let mut no_roles = newcomer("N", 9);
    no_roles.set(tag::ROLES, value::uint(0));
    let mut off_curve = newcomer("N", 9);
    off_curve.set(tag::PUBLIC_KEY, vec![2; 33]);
    let mut extra = fields("S", Some(9));
    extra.set_text(tag::PARTY_NAME, "X");
    let cases = [
        (RecordKind::Register, 2, newcomer("N", 9), Outcome::WrongRole),
        (RecordKind::Register, 9, newcomer("N", 9), Outcome::NotRegistered),
        (RecordKind::Register, 1, newcomer("S", 9), Outcome::PartyExists),
        (RecordKind::Register, 1, newcomer("N", 2), Outcome::KeyInUse),
        (RecordKind::Register, 1, bad_code.clone(), malformed(tag::PARTY, Cause::CheckDigit)),
        (RecordKind::Register, 1, no_roles, malformed(tag::ROLES, Cause::Range)),
        (RecordKind::Register, 1, off_curve, malformed(tag::PUBLIC_KEY, Cause::Range)),
        (RecordKind::Register, 1, fields("N", Some(9)), malformed(tag::PARTY_NAME, Cause::Missing)),
        (RecordKind::Rotate, 2, fields("T", Some(9)), Outcome::WrongActor),
        (RecordKind::Rotate, 1, fields("N", Some(9)), Outcome::NotFound),
        (RecordKind::Rotate, 2, extra, malformed(tag::PARTY_NAME, Cause::NotAllowed)),
        (RecordKind::Rotate, 2, fields("S", Some(2)), Outcome::KeyInUse),
        (RecordKind::Revoke, 2, revocation(1), Outcome::WrongActor),
        (RecordKind::Revoke, 1, revocation(9), Outcome::NotFound),
    ];
    for (i, (kind, signer, fields, outcome)) in cases.into_iter().enumerate() {
        let mut registry = registry();
        assert_eq!(run(&mut registry, kind, signer, &fields), Err(outcome), "case {i}");
        assert_eq!((registry.len(), registry.keys().count()), (2, 2), "case {i}");
        assert!(registry.keys().all(|key| !key.revoked), "case {i}");
    }
    bad_code.set_text(tag::PARTY, "CN-USCC:91440300708461136T");
    assert_eq!(run(&mut registry(), RecordKind::Register, 1, &bad_code), Ok(()));
}

fn delegation(party: &str, kinds: u64, until: i64) -> Fields {
    let mut fields = fields(party, None);
    fields.set(tag::KINDS, value::uint(kinds));
    fields.set(tag::UNTIL, value::time(until));
    fields
}

/// Whether the holder of key 1 may do this for S at this time.
fn acts_for_s(registry: &Registry, kind: RecordKind, time_ms: i64) -> Result<(), Outcome> {
    let mut fields = Fields::new();
    fields.set_text(tag::ON_BEHALF, "S");
    let draft = Draft { kind, signed_at: 0, secret: [0; 16], fields: fields.pairs() };
    let bytes = draft.sign(&[0; 32], &key(1));
    let actor = registry.actor(&decode(&bytes).unwrap(), time_ms)?;
    assert_eq!(actor, ("S".to_owned(), 2));
    Ok(())
}

#[test]
fn a_delegation_is_of_events_to_another_participant() {
    let malformed = |tag, cause| Outcome::Malformed { tag, cause };
    let book = 1 << RecordKind::Book as u8;
    let mut extra = delegation("T", book, 9);
    extra.set_text(tag::REASON, "X");
    let mut endless = fields("T", None);
    endless.set(tag::KINDS, value::uint(book));
    let mut of_nothing = fields("T", None);
    of_nothing.set(tag::UNTIL, value::time(9));
    let (range, missing) = (Cause::Range, Cause::Missing);
    let issue = 1 << RecordKind::Issue as u8;
    let cases = [
        (RecordKind::Delegate, delegation("T", 0, 9), malformed(tag::KINDS, range)),
        (RecordKind::Delegate, delegation("T", book | issue, 9), malformed(tag::KINDS, range)),
        (RecordKind::Delegate, delegation("T", u64::MAX, 9), malformed(tag::KINDS, range)),
        (RecordKind::Delegate, endless, malformed(tag::UNTIL, missing)),
        (RecordKind::Delegate, of_nothing, malformed(tag::KINDS, missing)),
        (RecordKind::Delegate, extra, malformed(tag::REASON, Cause::NotAllowed)),
        (RecordKind::Delegate, delegation("S", book, 9), Outcome::WrongActor),
        (RecordKind::Delegate, delegation("N", book, 9), Outcome::NotFound),
        (RecordKind::DelegateEnd, fields("T", None), Outcome::NotFound),
        (RecordKind::DelegateEnd, fields("T", Some(9)), {
            malformed(tag::PUBLIC_KEY, Cause::NotAllowed)
        }),
    ];
    for (i, (kind, fields, outcome)) in cases.into_iter().enumerate() {
        let mut registry = registry();
        assert_eq!(run(&mut registry, kind, 2, &fields), Err(outcome), "case {i}");
        assert!(registry.delegations.is_empty(), "case {i}");
    }
}

#[test]
fn a_delegate_acts_until_the_time_or_the_end_and_only_for_who_said_so() {
    let book = RecordKind::Book;
    let refused = Err(Outcome::conflict(Conflict::NotDelegated));
    let mut registry = registry();
    assert_eq!(acts_for_s(&registry, book, 5), refused);
    let given = delegation("T", 1 << book as u8, 9);
    assert_eq!(run(&mut registry, RecordKind::Delegate, 2, &given), Ok(()));
    assert_eq!(acts_for_s(&registry, book, 8), Ok(()));
    assert_eq!(acts_for_s(&registry, book, 9), refused);
    assert_eq!(acts_for_s(&registry, RecordKind::Unbook, 8), refused);
    // Another's word ends nothing, nor gives anything.
    let outcome = run(&mut registry, RecordKind::DelegateEnd, 1, &fields("T", None));
    assert_eq!(outcome, Err(Outcome::NotFound));
    assert_eq!(acts_for_s(&registry, book, 8), Ok(()));
    let longer = delegation("T", 1 << book as u8, 20);
    assert_eq!(run(&mut registry, RecordKind::Delegate, 2, &longer), Ok(()));
    assert_eq!(acts_for_s(&registry, book, 19), Ok(()));
    assert_eq!(run(&mut registry, RecordKind::DelegateEnd, 2, &fields("T", None)), Ok(()));
    assert_eq!(acts_for_s(&registry, book, 8), refused);
}

fn policy(from: u64, policy: Policy) -> Fields {
    let mut fields = Fields::new();
    for (tag, value) in policy.values() {
        fields.set(tag, value::uint(value));
    }
    fields.set(tag::EFFECTIVE_HEIGHT, value::uint(from));
    fields
}

#[test]
fn a_policy_holds_from_its_height_and_a_later_record_replaces_what_was_to_come() {
    let of = |tolerance| Policy { tolerance, ..Policy::default() };
    let mut registry = registry();
    for (from, tolerance) in [(8, 1), (20, 2), (15, 3)] {
        let fields = policy(from, of(tolerance));
        assert_eq!(run(&mut registry, RecordKind::Policy, 1, &fields), Ok(()));
    }
    let rows = [(0, 0), (7, 0), (8, 1), (14, 1), (15, 3), (20, 3), (u64::MAX, 3)];
    for (height, tolerance) in rows {
        assert_eq!(registry.policy_at(height), of(tolerance), "height {height}");
    }
}

#[test]
fn a_policy_is_refused_in_part_for_the_past_and_from_others() {
    let malformed = |tag, cause| Outcome::Malformed { tag, cause };
    let whole = policy(8, Policy::default());
    let mut extra = whole.clone();
    extra.set_text(tag::REASON, "X");
    let without = |left: Tag| -> Fields {
        whole.iter().filter(|(tag, _)| *tag != left).map(|(tag, v)| (tag, v.to_vec())).collect()
    };
    let height = tag::EFFECTIVE_HEIGHT;
    let first = Policy::TAGS[0];
    let cases = [
        (2, whole.clone(), Outcome::WrongRole),
        (1, policy(7, Policy::default()), malformed(height, Cause::Range)),
        (1, without(height), malformed(height, Cause::Missing)),
        (1, without(first), malformed(first, Cause::Missing)),
        (1, policy(8, Policy { lien_blocks: 2, ..Policy::default() }), {
            malformed(first, Cause::Range)
        }),
        (1, extra, malformed(tag::REASON, Cause::NotAllowed)),
    ];
    for (i, (signer, fields, outcome)) in cases.into_iter().enumerate() {
        let mut registry = registry();
        assert_eq!(run(&mut registry, RecordKind::Policy, signer, &fields), Err(outcome), "{i}");
        assert_eq!(registry.policy_at(u64::MAX), Policy::default(), "case {i}");
    }
    let mut registry = registry();
    registry
        .participants
        .insert("S".into(), Participant { name: "S".into(), roles: ROLE_GOVERNOR });
    assert_eq!(run(&mut registry, RecordKind::Policy, 2, &whole), Ok(()));
}
