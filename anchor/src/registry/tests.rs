use super::*;
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::document::Fields;
use piaogen_verify::record::{Draft, decode};

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    for (n, party, roles) in [(1, "T", ROLE_AUTHORITY), (2, "S", 2)] {
        let participant = Participant { name: party.into(), roles };
        registry.participants.insert(party.into(), participant);
        registry.add_key(party, key(n).public_key());
    }
    registry
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
    let draft = Draft { kind, signed_at: 0, secret: [0; 16], fields: fields.pairs() };
    let bytes = draft.sign(&[0; 32], &key(signer));
    registry.execute(&decode(&bytes).unwrap())
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
