//! Participants and their keys, and the records that change them (PROTOCOL section 3).
//!
//! Small and kept whole in memory; rebuilt from the registry log at start. Other shards read it as
//! it was after the block before, so it is changed by nothing but its own shard.
//!
//! Invariants
//! - A key is one participant's for ever; revoked, it stays known.
//! - Nobody but an authority changes what is not his own.
//! - No authority alone says who is an authority, or who finalizes blocks, where there are more.

mod governance;

pub use self::governance::{APPROVAL_EPOCHS, Governance, PROPOSALS_MAX, SetChange};

use ahash::RandomState;
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::PublicKey;
use piaogen_verify::conflict::Conflict;
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::genesis::{EPOCH_BLOCKS_MAX, Genesis, ROLE_AUTHORITY, ROLE_GOVERNOR, ROLES};
use piaogen_verify::header::ValidatorSet;
use piaogen_verify::policy::Policy;
use piaogen_verify::record::{Class, Record, RecordKind};
use piaogen_verify::scheme::credit_code_holds;
use piaogen_verify::value::{self, Cause};
use std::collections::HashMap;

/// Ids under this prefix are unified social credit codes, and their check character must hold.
pub const CREDIT_CODE_PREFIX: &str = "CN-USCC:";

/// A key of a participant.
#[derive(Clone, Debug)]
pub struct Key {
    /// Whose.
    pub party: String,
    /// The key.
    pub public_key: PublicKey,
    /// Whether it is valid no longer.
    pub revoked: bool,
}

/// A participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Its name.
    pub name: String,
    /// Its roles, as bits.
    pub roles: u64,
}

/// All participants and keys.
#[derive(Clone, Debug)]
pub struct Registry {
    // Asked for every record; the hash is keyed, because ids and keys come from outside.
    participants: HashMap<String, Participant, RandomState>,
    keys: HashMap<Digest, Key, RandomState>,
    delegations: HashMap<(String, String), Delegation>,
    /// From which height on each holds; heights ascend.
    policies: Vec<(u64, Policy)>,
    governance: Governance,
}

/// What a participant lets another do for him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// Kinds of records, bit k for kind k.
    pub kinds: u64,
    /// Until when, milliseconds since 1970.
    pub until: i64,
}

impl Registry {
    /// The registry before the first block.
    pub fn genesis(genesis: &Genesis) -> Registry {
        let mut registry = Registry {
            participants: HashMap::default(),
            keys: HashMap::default(),
            delegations: HashMap::new(),
            policies: Vec::new(),
            governance: Governance::genesis(genesis),
        };
        for (party, name, roles, public_key) in &genesis.participants {
            let participant = Participant { name: name.clone(), roles: *roles };
            registry.participants.insert(party.clone(), participant);
            registry.add_key(party, public_key.clone());
        }
        registry
    }

    fn add_key(&mut self, party: &str, public_key: PublicKey) {
        let key = Key { party: party.into(), public_key, revoked: false };
        self.keys.insert(key.public_key.key_id(), key);
    }

    /// The key with this id.
    pub fn key(&self, id: &Digest) -> Option<&Key> {
        self.keys.get(id)
    }

    /// A participant.
    pub fn participant(&self, party: &str) -> Option<&Participant> {
        self.participants.get(party)
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.values()
    }

    /// How many participants there are.
    pub fn len(&self) -> usize {
        self.participants.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.participants.is_empty()
    }

    /// The valid key with this id and the roles of its holder; or why it may not sign.
    pub fn signer(&self, id: &Digest) -> Result<(&Key, u64), Outcome> {
        let key = self.keys.get(id).ok_or(Outcome::NotRegistered)?;
        if key.revoked {
            return Err(Outcome::KeyRevoked);
        }
        let roles = self.participants.get(&key.party).map_or(0, |participant| participant.roles);
        Ok((key, roles))
    }

    /// For whom a record acts, and his roles: the signer, or the participant that it names and that
    /// lets the signer act for him at this time.
    pub fn actor(&self, record: &Record<'_>, time_ms: i64) -> Result<(String, u64), Outcome> {
        let (key, roles) = self.signer(&record.signer)?;
        if record.get(tag::ON_BEHALF).is_none() {
            return Ok((key.party.clone(), roles));
        }
        let principal = record.text(tag::ON_BEHALF);
        let given = self.delegations.get(&(principal.to_owned(), key.party.clone()));
        match given {
            Some(given) if given.until > time_ms && given.kinds >> record.kind as u8 & 1 == 1 => {
                let roles = self.participants.get(principal).map_or(0, |holder| holder.roles);
                Ok((principal.to_owned(), roles))
            }
            _ => Err(Outcome::conflict(Conflict::NotDelegated)),
        }
    }

    /// The policy that holds in the block of this height.
    pub fn policy_at(&self, height: u64) -> Policy {
        let held = self.policies.iter().rev().find(|(from, _)| *from <= height);
        held.map_or_else(Policy::default, |(_, policy)| *policy)
    }

    /// Who finalizes blocks, and when that changes.
    pub fn governance(&self) -> &Governance {
        &self.governance
    }

    /// Executes a registry record of the block of this height, whose signature holds. Changes
    /// nothing where it is refused.
    pub fn execute(&mut self, record: &Record<'_>, height: u64) -> Result<(), Outcome> {
        let (signer, roles) = self.signer(&record.signer)?;
        let authority = roles & ROLE_AUTHORITY != 0;
        let party = signer.party.clone();
        self.governance.roll(height);
        match record.kind {
            RecordKind::Register if !authority => Err(Outcome::WrongRole),
            RecordKind::Register => self.register(record, &party),
            RecordKind::Rotate => self.rotate(record, &party, authority),
            RecordKind::Revoke => self.revoke(record, &party, authority),
            RecordKind::Delegate => self.delegate(record, party),
            RecordKind::DelegateEnd => self.delegate_end(record, party),
            RecordKind::Policy if !authority && roles & ROLE_GOVERNOR == 0 => {
                Err(Outcome::WrongRole)
            }
            RecordKind::Policy => self.policy(record, height),
            RecordKind::Validators if !authority => Err(Outcome::WrongRole),
            RecordKind::Validators => self.validators(record, &party),
            _ => Err(Outcome::Malformed { tag: 0, cause: Cause::NotAllowed }),
        }
    }

    /// Counts the signature of an authority under what the record proposes; whether enough have
    /// signed it now.
    fn approve(&mut self, record: &Record<'_>, party: &str) -> Result<bool, Outcome> {
        let (keys, participants) = (&self.keys, &self.participants);
        let valid = |id: &Digest| keys.get(id).is_some_and(|key| !key.revoked);
        let authority = |key: &&Key| {
            let holder = participants.get(&key.party);
            !key.revoked && holder.is_some_and(|holder| holder.roles & ROLE_AUTHORITY != 0)
        };
        // A participant has one valid key, if any.
        let authorities = keys.values().filter(authority).count();
        let signer = (party, record.signer);
        self.governance.approve(record.commitment(), signer, valid, authorities)
    }

    /// Whether a change by `signer` of what this participant is needs a quorum of authorities.
    fn governed(&self, party: &str, signer: &str) -> bool {
        let authority = |holder: &Participant| holder.roles & ROLE_AUTHORITY != 0;
        party != signer && self.participants.get(party).is_some_and(authority)
    }

    fn validators(&mut self, record: &Record<'_>, signer: &str) -> Result<(), Outcome> {
        allow(record, &[tag::VALIDATORS, tag::BASE, tag::EPOCH_BLOCKS, tag::REASON])?;
        let range = |tag| Outcome::Malformed { tag, cause: Cause::Range };
        let keys = value::keys_of(required(record, tag::VALIDATORS)?)
            .map_err(|flaw| Outcome::of_flaw(tag::VALIDATORS, flaw))?;
        let set = ValidatorSet::of_compressed(&keys).ok_or(range(tag::VALIDATORS))?;
        let base = required(record, tag::BASE)?;
        let blocks = record.get(tag::EPOCH_BLOCKS).map(|bytes| value::uint_of(bytes).unwrap_or(0));
        if blocks.is_some_and(|blocks| !(1..=EPOCH_BLOCKS_MAX).contains(&blocks)) {
            return Err(range(tag::EPOCH_BLOCKS));
        }
        let stands = self.governance.planned().digest();
        if base != stands {
            return Err(Outcome::StaleSet { set: stands });
        }
        if self.approve(record, signer)? {
            self.governance.plan(set, blocks);
        }
        Ok(())
    }

    fn register(&mut self, record: &Record<'_>, signer: &str) -> Result<(), Outcome> {
        allow(record, &[tag::PARTY, tag::PARTY_NAME, tag::ROLES, tag::PUBLIC_KEY])?;
        let party = record.text(tag::PARTY);
        required(record, tag::PARTY_NAME)?;
        let roles = value::uint_of(required(record, tag::ROLES)?).unwrap_or(0);
        let known = ROLES.iter().fold(0, |all, (role, _)| all | role);
        if roles == 0 || roles & !known != 0 {
            return Err(Outcome::Malformed { tag: tag::ROLES, cause: Cause::Range });
        }
        if let Some(code) = party.strip_prefix(CREDIT_CODE_PREFIX)
            && !credit_code_holds(code)
        {
            return Err(Outcome::Malformed { tag: tag::PARTY, cause: Cause::CheckDigit });
        }
        let key = self.new_key(record)?;
        if self.participants.contains_key(party) {
            return Err(Outcome::PartyExists);
        }
        if roles & ROLE_AUTHORITY != 0 && !self.approve(record, signer)? {
            return Ok(());
        }
        let name = record.text(tag::PARTY_NAME).into();
        self.participants.insert(party.into(), Participant { name, roles });
        self.add_key(party, key);
        Ok(())
    }

    fn rotate(
        &mut self,
        record: &Record<'_>,
        signer: &str,
        authority: bool,
    ) -> Result<(), Outcome> {
        allow(record, &[tag::PARTY, tag::PUBLIC_KEY])?;
        let party = record.text(tag::PARTY);
        if party != signer && !authority {
            return Err(Outcome::WrongActor);
        }
        if !self.participants.contains_key(party) {
            return Err(Outcome::NotFound);
        }
        let key = self.new_key(record)?;
        if self.governed(party, signer) && !self.approve(record, signer)? {
            return Ok(());
        }
        for old in self.keys.values_mut().filter(|key| key.party == party) {
            old.revoked = true;
        }
        self.add_key(party, key);
        Ok(())
    }

    fn revoke(
        &mut self,
        record: &Record<'_>,
        signer: &str,
        authority: bool,
    ) -> Result<(), Outcome> {
        allow(record, &[tag::REVOKED_KEY, tag::REASON])?;
        let id: Digest = required(record, tag::REVOKED_KEY)?
            .try_into()
            .map_err(|_| Outcome::Malformed { tag: tag::REVOKED_KEY, cause: Cause::Encoding })?;
        let key = self.keys.get(&id).ok_or(Outcome::NotFound)?;
        if key.party != signer && !authority {
            return Err(Outcome::WrongActor);
        }
        if key.revoked {
            return Err(Outcome::KeyRevoked);
        }
        if self.governed(&key.party, signer) && !self.approve(record, signer)? {
            return Ok(());
        }
        if let Some(key) = self.keys.get_mut(&id) {
            key.revoked = true;
        }
        Ok(())
    }

    /// The party of the record is who may act for the signer.
    fn delegate(&mut self, record: &Record<'_>, principal: String) -> Result<(), Outcome> {
        allow(record, &[tag::PARTY, tag::KINDS, tag::UNTIL])?;
        let delegate = record.text(tag::PARTY);
        let kinds = value::uint_of(required(record, tag::KINDS)?).unwrap_or(0);
        let until = value::time_of(required(record, tag::UNTIL)?).unwrap_or(0);
        let events = |kind: &RecordKind| kind.class() == Class::Event;
        let known = RecordKind::ALL.iter().copied().filter(events);
        let known = known.fold(0u64, |bits, kind| bits | 1 << kind as u8);
        if kinds == 0 || kinds & !known != 0 {
            return Err(Outcome::Malformed { tag: tag::KINDS, cause: Cause::Range });
        }
        if delegate == principal {
            return Err(Outcome::WrongActor);
        }
        if !self.participants.contains_key(delegate) {
            return Err(Outcome::NotFound);
        }
        self.delegations.insert((principal, delegate.into()), Delegation { kinds, until });
        Ok(())
    }

    fn delegate_end(&mut self, record: &Record<'_>, principal: String) -> Result<(), Outcome> {
        allow(record, &[tag::PARTY, tag::REASON])?;
        let ended = self.delegations.remove(&(principal, record.text(tag::PARTY).into()));
        ended.map(|_| ()).ok_or(Outcome::NotFound)
    }

    fn policy(&mut self, record: &Record<'_>, height: u64) -> Result<(), Outcome> {
        if let Some((tag, _)) = record
            .fields
            .iter()
            .find(|(tag, _)| *tag != tag::EFFECTIVE_HEIGHT && !Policy::TAGS.contains(tag))
        {
            return Err(Outcome::Malformed { tag: *tag, cause: Cause::NotAllowed });
        }
        let policy =
            Policy::of_record(record).map_err(|(tag, cause)| Outcome::Malformed { tag, cause })?;
        let from = value::uint_of(required(record, tag::EFFECTIVE_HEIGHT)?).unwrap_or(0);
        if from <= height {
            return Err(Outcome::Malformed { tag: tag::EFFECTIVE_HEIGHT, cause: Cause::Range });
        }
        // What was set for later heights by an older record no longer holds.
        self.policies.retain(|(other, _)| *other < from);
        self.policies.push((from, policy));
        Ok(())
    }

    fn new_key(&self, record: &Record<'_>) -> Result<PublicKey, Outcome> {
        let off_curve = Outcome::Malformed { tag: tag::PUBLIC_KEY, cause: Cause::Range };
        let bytes = required(record, tag::PUBLIC_KEY)?;
        let key = bytes
            .try_into()
            .ok()
            .and_then(|bytes| PublicKey::from_compressed(bytes).ok())
            .ok_or(off_curve)?;
        match self.keys.contains_key(&key.key_id()) {
            true => Err(Outcome::KeyInUse),
            false => Ok(key),
        }
    }
}

fn required<'a>(record: &Record<'a>, tag: Tag) -> Result<&'a [u8], Outcome> {
    record.get(tag).ok_or(Outcome::Malformed { tag, cause: Cause::Missing })
}

fn allow(record: &Record<'_>, tags: &[Tag]) -> Result<(), Outcome> {
    match record.fields.iter().find(|(tag, _)| !tags.contains(tag)) {
        Some((tag, _)) => Err(Outcome::Malformed { tag: *tag, cause: Cause::NotAllowed }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
