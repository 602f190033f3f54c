//! Checks generated records against the rules of execution, written out once more here.
//!
//! The executor below follows the table of `anchor/PROTOCOL.md` section 2 and shares nothing with
//! the generator but the formats. Every record must have exactly the outcome that was foretold.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as its test does")]

use piaogen_crypto::sm2::PublicKey;
use piaogen_crypto::{Digest, Lanes, sm2};
use piaogen_loadgen::generator::{Generator, GeneratorConfig, Shares};
use piaogen_loadgen::genesis::{DemoChain, demo_chain};
use piaogen_loadgen::source::{Expected, Generated, Kind, Signatures, Source};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::{ROLE_AUTHORITY, ROLE_ISSUER};
use piaogen_verify::record::{self, Record, RecordKind};
use piaogen_verify::scheme::check_invoice;
use piaogen_verify::scheme::usual;
use piaogen_verify::value::{self, Cause};
use std::collections::{BTreeMap, HashMap};

const TIME_MS: i64 = 1_795_000_000_000;
const PARTITIONS: u32 = 5;

struct Holder {
    party: String,
    roles: u64,
    key: PublicKey,
    valid: bool,
}

struct Executor {
    chain: Digest,
    holders: HashMap<Digest, Holder>,
    numbers: HashMap<Vec<u8>, (u64, Digest)>,
    signatures: bool,
}

impl Executor {
    fn new(chain: &DemoChain) -> Executor {
        let mut holders = HashMap::new();
        for (party, _, roles, key) in &chain.genesis.participants {
            let holder =
                Holder { party: party.clone(), roles: *roles, key: key.clone(), valid: true };
            holders.insert(key.key_id(), holder);
        }
        let chain = chain.genesis.chain;
        Executor { chain, holders, numbers: HashMap::new(), signatures: true }
    }

    fn register(&mut self, bytes: &[u8]) {
        let record = record::decode(bytes).unwrap();
        let commitment = record.commitment();
        assert_eq!(self.signer(&record, &commitment).map(|h| h.roles), Ok(ROLE_AUTHORITY));
        if record.kind == RecordKind::Revoke {
            let key: Digest = record.get(tag::REVOKED_KEY).unwrap().try_into().unwrap();
            self.holders.get_mut(&key).unwrap().valid = false;
            return;
        }
        let key = PublicKey::from_sec1(record.get(tag::PUBLIC_KEY).unwrap()).unwrap();
        let roles = value::uint_of(record.get(tag::ROLES).unwrap()).unwrap();
        let party = record.text(tag::PARTY).to_string();
        let holder = Holder { party, roles, key: key.clone(), valid: true };
        assert!(self.holders.insert(key.key_id(), holder).is_none());
    }

    fn signer(&self, record: &Record<'_>, commitment: &Digest) -> Result<&Holder, Outcome> {
        let holder = self.holders.get(&record.signer).ok_or(Outcome::NotRegistered)?;
        if !holder.valid {
            return Err(Outcome::KeyRevoked);
        }
        let message = record.signed(&self.chain, commitment);
        if self.signatures && !sm2::verify(&holder.key, &message, &record.signature) {
            return Err(Outcome::BadSignature);
        }
        Ok(holder)
    }

    fn execute(&mut self, generated: &Generated) -> Result<(), Outcome> {
        let record = record::decode(&generated.record)
            .map_err(|unreadable| Outcome::of_flaw(unreadable.tag, unreadable.flaw))?;
        let registry = generated.partition == PARTITIONS;
        if record.kind.is_invoice() == registry {
            return Err(Outcome::Malformed { tag: 0, cause: Cause::NotAllowed });
        }
        let subject = record
            .subject(&usual::all())
            .map_err(|tag| Outcome::Malformed { tag, cause: Cause::Missing })?;
        assert_eq!(subject, generated.subject);
        let right = record::partition(&subject, PARTITIONS);
        if !registry && right != generated.partition {
            return Err(Outcome::WrongPartition { expected: right });
        }
        let commitment = record.commitment();
        assert_eq!(commitment, generated.commitment);
        let holder = self.signer(&record, &commitment)?;
        if registry && holder.roles & ROLE_AUTHORITY == 0 {
            return Err(Outcome::WrongRole);
        }
        assert!(holder.roles & ROLE_ISSUER != 0);
        if holder.party != record.text(tag::SELLER_PARTY) {
            return Err(Outcome::WrongActor);
        }
        check_invoice(&record, &usual::all())?;
        let (y, m, d) = value::date_of(record.get(tag::ISSUE_DATE).unwrap()).unwrap();
        if record.signed_at > TIME_MS {
            return Err(Outcome::ClockSkew { tag: 0 });
        }
        if value::days_since_1970(y, m, d) * 86_400_000 > TIME_MS {
            return Err(Outcome::ClockSkew { tag: tag::ISSUE_DATE });
        }
        match self.numbers.get(&subject) {
            Some((first, same)) if *same == commitment => Err(Outcome::Replay { first: *first }),
            Some((first, commitment)) => {
                Err(Outcome::DupDifferent { first: *first, commitment: *commitment })
            }
            None => {
                self.numbers.insert(subject, (generated.index, commitment));
                Ok(())
            }
        }
    }
}

fn generator(chain: &DemoChain, change: impl Fn(&mut GeneratorConfig)) -> Generator {
    let mut config = GeneratorConfig::new(9, &chain.genesis);
    config.sellers = 20;
    change(&mut config);
    Generator::new(config)
}

fn check_all(chain: &DemoChain, generator: &Generator, count: u64) -> BTreeMap<Kind, u64> {
    let mut executor = Executor::new(chain);
    executor.signatures = generator.config().signatures == Signatures::Real;
    for bytes in generator.registrations(&chain.authority) {
        executor.register(&bytes);
    }
    let mut kinds = BTreeMap::new();
    for generated in generator.generate_batch(0..count, Lanes::detect()) {
        let outcome = executor.execute(&generated).err().unwrap_or(Outcome::Accepted);
        let (index, kind) = (generated.index, generated.kind);
        assert!(
            generated.expected.matches(&outcome),
            "record {index} is {kind:?}: {outcome:?} in place of {:?}",
            generated.expected
        );
        if let (Outcome::Replay { first }, Expected::Replay { of }) = (outcome, generated.expected)
        {
            assert_eq!(first, of, "record {index}");
        }
        if let Some(document) = &generated.document
            && generator.config().signatures == Signatures::Real
        {
            assert_eq!(document.check(), Ok(()), "record {index} {kind:?}");
            assert_eq!(document.commitment(), generated.commitment);
        }
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

#[test]
fn every_record_has_its_foretold_outcome() {
    let chain = demo_chain(9, PARTITIONS, 1, TIME_MS);
    let generator = generator(&chain, |config| config.shares = Shares::with_bad(60_000));
    let kinds = check_all(&chain, &generator, 6_000);
    // Events are of the scenario, not of the generator.
    let others = [Kind::Registry, Kind::Event];
    for kind in Kind::ALL.into_iter().filter(|kind| !others.contains(kind)) {
        assert!(kinds.get(&kind).is_some_and(|n| *n > 100), "{kind:?} of {kinds:?}");
    }
}

#[test]
fn unsigned_records_have_their_outcomes_too() {
    let chain = demo_chain(9, PARTITIONS, 1, TIME_MS);
    let generator = generator(&chain, |config| {
        config.signatures = Signatures::Dummy;
        config.shares = Shares::with_bad(50_000);
    });
    let kinds = check_all(&chain, &generator, 5_000);
    assert!(!kinds.contains_key(&Kind::BadSignature));
    assert!(kinds[&Kind::Totals] > 100);
}

#[test]
fn shares_are_kept_and_records_are_of_the_usual_size() {
    let chain = demo_chain(9, PARTITIONS, 1, TIME_MS);
    let generator = generator(&chain, |config| config.signatures = Signatures::Dummy);
    let made = generator.generate_batch(0..20_000, Lanes::detect());
    let bad = made.iter().filter(|generated| !generated.kind.is_good()).count();
    let red = made.iter().filter(|generated| generated.kind == Kind::Red).count();
    assert!((300..=500).contains(&bad), "{bad} bad of 20,000");
    assert!((500..=700).contains(&red), "{red} red of 20,000");
    let good: Vec<usize> =
        made.iter().filter(|g| g.kind == Kind::Blue).map(|g| g.record.len()).collect();
    let mean = good.iter().sum::<usize>() / good.len();
    assert!((570..=630).contains(&mean), "mean {mean} bytes");
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_any_batch() {
    let chain = demo_chain(9, PARTITIONS, 1, TIME_MS);
    let make = || generator(&chain, |config| config.shares = Shares::with_bad(30_000));
    let (a, b) = (make(), make());
    let whole = a.generate_batch(0..400, Lanes::detect());
    for range in [0..1, 130..140, 255..399] {
        for generated in b.batch(range, Lanes::portable()).unwrap() {
            let same = &whole[generated.index as usize];
            assert_eq!(
                (generated.record, generated.partition),
                (same.record.clone(), same.partition)
            );
            assert_eq!(b.document(generated.index), same.document);
        }
    }
    let mut config = a.config().clone();
    config.seed = 10;
    assert_ne!(Generator::new(config).generate(3).record, whole[3].record);
}

#[test]
fn the_bytes_of_a_seed_do_not_change_between_versions() {
    let chain = demo_chain(9, PARTITIONS, 1, TIME_MS);
    let made = generator(&chain, |_| {}).generate_batch(0..200, Lanes::detect());
    let all: Vec<u8> = made.iter().flat_map(|generated| generated.record.clone()).collect();
    let digest = piaogen_crypto::sm3::hash(&all);
    assert_eq!(hex::encode(digest), FROZEN, "a changed digest makes old recordings incomparable");
}

/// The signatures are for the demo chain, whose genesis lists the usual schemes, with slips and
/// deductible types of CN-EINV, and whose header has room for the next epoch's validators: another
/// genesis is another chain, and another digest here.
const FROZEN: &str = "8e4dd15cf8a0bdc0b9523e17bea79cc64b8a24364f246012600213dc00b4b4a3";
