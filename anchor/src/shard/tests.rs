use super::*;
use crate::registry::Registry;
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::genesis::{EPOCH_BLOCKS, FORMAT, Founder, Genesis, GenesisFile};
use piaogen_verify::merkle;
use piaogen_verify::record::Draft;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;

fn registry() -> Registry {
    let founder = |n: u8, party: &str, role: &str| Founder {
        party: party.into(),
        name: party.into(),
        roles: vec![role.into()],
        public_key: hex(&SecretKey::from_bytes(&[n; 32]).unwrap().public_key().to_compressed()),
    };
    let file = GenesisFile {
        format: FORMAT.into(),
        chain_id: "t".into(),
        time_ms: 0,
        partitions: 1,
        validators: vec![founder(1, "", "").public_key],
        participants: vec![founder(1, "T", "authority"), founder(2, "S", "issuer")],
        schemes: Vec::new(),
        clock_skew_ms: 10,
        epoch_blocks: EPOCH_BLOCKS,
        authority_quorum: None,
    };
    Registry::genesis(&Genesis::parse(&serde_json::to_vec(&file).unwrap()).unwrap())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Default)]
struct Map(RefCell<BTreeMap<Vec<u8>, Place>>);

impl Index for Map {
    type Error = std::convert::Infallible;

    fn find(&self, subjects: &[&[u8]]) -> Result<Vec<Option<Place>>, Self::Error> {
        assert!(subjects.is_sorted());
        Ok(subjects.iter().map(|subject| self.0.borrow().get(*subject).copied()).collect())
    }

    fn statuses(&self, issues: &[u64]) -> Result<Vec<Option<Status>>, Self::Error> {
        Ok(vec![None; issues.len()])
    }

    fn status_nodes(&self, places: &[(u8, u64)]) -> Result<Vec<Digest>, Self::Error> {
        Ok(vec![status::ZERO; places.len()])
    }

    fn waits(&self, _: i64) -> Result<Vec<Wait>, Self::Error> {
        Ok(Vec::new())
    }
}

/// The subjects of all numbers, each four bytes long.
fn subjects() -> Vec<u8> {
    (0..=255).flat_map(|number| [1, b'X', 1, number]).collect()
}

/// A record of signer `n` about a number, with some content.
fn checked(offset: u64, n: u8, number: u8, content: u8) -> Checked {
    Checked {
        offset,
        kind: Some(RecordKind::Issue),
        signer: SecretKey::from_bytes(&[n; 32]).unwrap().public_key().key_id(),
        commitment: [content; 32],
        opened: None,
        signed_at: 0,
        issued_ms: 0,
        subject: u32::from(number) * 4..u32::from(number) * 4 + 4,
        bytes: 0..0,
        seller: 0..1,
        fingerprints: [0; 3],
        early: None,
        signature: SignatureCheck::Valid,
        content: None,
    }
}

fn run(shard: &mut Shard, index: &Map, records: Vec<Checked>, cut: u64) -> Effects {
    let registry = registry();
    let context = Context {
        chain: &[0; 32],
        registry: &registry,
        height: 1,
        policy: Policy::default(),
        schemes: &[],
        time_ms: 100,
        clock_skew_ms: 10,
        lanes: Lanes::portable(),
        signatures: true,
    };
    let batch = CheckedBatch { arena: b"S".to_vec(), subjects: subjects(), records };
    let Ok(effects) = shard.execute(&context, index, &batch, cut);
    index.0.borrow_mut().extend(effects.ids.iter().cloned());
    effects
}

fn outcomes(effects: &Effects) -> Vec<Outcome> {
    effects.iter().map(|bytes| Entry::decode(bytes).unwrap().outcome).collect()
}

fn new_shard() -> Shard {
    Shard::new(&ShardEntry::empty(0), Log::default())
}

#[test]
fn the_first_check_that_fails_is_the_outcome() {
    let base = || checked(0, 2, 1, 1);
    let totals = Outcome::Totals { rule: 1, difference: 1 };
    let early = Outcome::WrongPartition { expected: 3 };
    let cases: Vec<(Checked, Outcome)> = vec![
        (Checked { fingerprints: [0; 3], early: Some(early), signer: [0; 32], ..base() }, early),
        (Checked { signer: [0; 32], content: Some(totals), ..base() }, Outcome::NotRegistered),
        (
            Checked { signature: SignatureCheck::Invalid, content: Some(totals), ..base() },
            Outcome::BadSignature,
        ),
        (Checked { content: Some(totals), seller: 0..0, ..base() }, totals),
        (Checked { content: Some(totals), signed_at: 111, ..base() }, totals),
        (Checked { signed_at: 111, ..base() }, Outcome::ClockSkew { tag: 0 }),
        (
            Checked { issued_ms: 111 + FIRST_ZONE_MS, ..base() },
            Outcome::ClockSkew { tag: tag::ISSUE_DATE },
        ),
        (Checked { signed_at: 110, issued_ms: 110 + FIRST_ZONE_MS, ..base() }, Outcome::Accepted),
        // An authority issues for any seller, an issuer for itself only.
        (checked(0, 1, 2, 1), Outcome::Accepted),
    ];
    for (i, (record, outcome)) in cases.into_iter().enumerate() {
        let effects = run(&mut new_shard(), &Map::default(), vec![record], 1);
        assert_eq!(outcomes(&effects), [outcome], "case {i}");
    }
    let mut shard = new_shard();
    let registry = registry();
    let context = Context {
        chain: &[0; 32],
        registry: &registry,
        height: 1,
        policy: Policy::default(),
        schemes: &[],
        time_ms: 100,
        clock_skew_ms: 10,
        lanes: Lanes::portable(),
        signatures: true,
    };
    let batch =
        CheckedBatch { arena: b"Other".to_vec(), subjects: subjects(), records: vec![base()] };
    let Ok(effects) = shard.execute(&context, &Map::default(), &batch, 1);
    assert_eq!(outcomes(&effects), [Outcome::WrongActor]);
}

#[test]
fn signatures_of_keys_that_were_on_their_way_are_decided_in_execution() {
    let key = SecretKey::from_bytes(&[2; 32]).unwrap();
    let fields = [(tag::NUMBER, b"1".to_vec())];
    let draft = Draft { kind: RecordKind::Issue, signed_at: 0, secret: [9; 16], fields: &fields };
    let good = draft.sign(&[0; 32], &key);
    let mut bad = good.clone();
    bad[good.len() - 1] ^= 1;
    let end = 1 + good.len() as u32;
    let record = |number: u8, bytes| Checked {
        commitment: draft.commitment(),
        opened: None,
        signature: SignatureCheck::Unknown,
        bytes,
        ..checked(number.into(), 2, number, 1)
    };
    let records = vec![record(0, 1..end), record(1, end..2 * end - 1)];
    let registry = registry();
    let context = |signatures| Context {
        chain: &[0; 32],
        registry: &registry,
        height: 1,
        policy: Policy::default(),
        schemes: &[],
        time_ms: 100,
        clock_skew_ms: 10,
        lanes: Lanes::portable(),
        signatures,
    };
    let arena = [&b"S"[..], &good, &bad].concat();
    let batch = CheckedBatch { arena, subjects: subjects(), records };
    for (checking, second) in [(true, Outcome::BadSignature), (false, Outcome::Accepted)] {
        let Ok(effects) = new_shard().execute(&context(checking), &Map::default(), &batch, 2);
        assert_eq!(outcomes(&effects), [Outcome::Accepted, second]);
    }
}

proptest! {
    /// Any records in any blocks: the same leaves, and outcomes as a plain map would give them.
    #[test]
    fn blocks_do_not_matter_and_the_first_of_a_number_wins(
        records in prop::collection::vec((0u8..6, 0u8..3, 0u8..4), 1..60),
        blocks in prop::collection::vec(1usize..9, 1..60),
    ) {
        let all: Vec<Checked> = (0u64..)
            .zip(&records)
            .map(|(i, (number, content, refused))| Checked {
                content: (*refused == 0).then_some(Outcome::TypeNotAccepted),
                ..checked(i * 2, 2, *number, *content)
            })
            .collect();
        let mut naive: BTreeMap<u8, (u64, u8)> = BTreeMap::new();
        let expected: Vec<Outcome> = (0u64..)
            .zip(&records)
            .map(|(i, (number, content, refused))| match naive.get(number) {
                _ if *refused == 0 => Outcome::TypeNotAccepted,
                Some((first, same)) if same == content => Outcome::Replay { first: *first },
                Some((first, other)) => {
                    Outcome::DupDifferent { first: *first, commitment: [*other; 32] }
                }
                None => {
                    naive.insert(*number, (i, *content));
                    Outcome::Accepted
                }
            })
            .collect();
        let (mut shard, index) = (new_shard(), Map::default());
        let (mut said, mut leaves) = (Vec::new(), Vec::new());
        let (mut rest, mut sizes) = (all.as_slice(), blocks.iter().cycle());
        while !rest.is_empty() {
            let (block, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            let cut = block.last().unwrap().offset + 1;
            let effects = run(&mut shard, &index, block.to_vec(), cut);
            said.extend(outcomes(&effects));
            leaves.extend(effects.iter().map(merkle::leaf));
            prop_assert_eq!(shard.entry().next_offset, cut);
            rest = after;
        }
        prop_assert_eq!(said, expected);
        prop_assert_eq!(shard.entry().log_root, merkle::root_of_leaves(&leaves));
        prop_assert_eq!(shard.entry().invoices, naive.len() as u64);
        let mut issued: Vec<u64> =
            index.0.borrow().values().map(|place| place.issue_index).collect();
        issued.sort_unstable();
        prop_assert_eq!(issued, (0..naive.len() as u64).collect::<Vec<_>>());
    }
}
