//! Participants and their keys, and the records that change them (PROTOCOL section 3).
//!
//! Small and kept whole in memory; rebuilt from the registry log at start. Other shards read it as
//! it was after the block before, so it is changed by nothing but its own shard.
//!
//! Invariants
//! - A key is one participant's for ever; revoked, it stays known.
//! - Nobody but an authority changes what is not his own.

use piaogen_crypto::Digest;
use piaogen_crypto::sm2::PublicKey;
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::genesis::{Genesis, ROLE_AUTHORITY, ROLES};
use piaogen_verify::record::{Record, RecordKind};
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
#[derive(Clone, Debug, Default)]
pub struct Registry {
    participants: HashMap<String, Participant>,
    keys: HashMap<Digest, Key>,
}

impl Registry {
    /// The registry before the first block.
    pub fn genesis(genesis: &Genesis) -> Registry {
        let mut registry = Registry::default();
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

    /// Executes a registry record whose signature holds. Changes nothing where it is refused.
    pub fn execute(&mut self, record: &Record<'_>) -> Result<(), Outcome> {
        let (signer, roles) = self.signer(&record.signer)?;
        let authority = roles & ROLE_AUTHORITY != 0;
        let party = signer.party.clone();
        match record.kind {
            RecordKind::Register if !authority => Err(Outcome::WrongRole),
            RecordKind::Register => self.register(record),
            RecordKind::Rotate => self.rotate(record, &party, authority),
            RecordKind::Revoke => self.revoke(record, &party, authority),
            RecordKind::Issue | RecordKind::IssueRed => {
                Err(Outcome::Malformed { tag: 0, cause: Cause::NotAllowed })
            }
        }
    }

    fn register(&mut self, record: &Record<'_>) -> Result<(), Outcome> {
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
        let key = self.keys.get_mut(&id).ok_or(Outcome::NotFound)?;
        if key.party != signer && !authority {
            return Err(Outcome::WrongActor);
        }
        if key.revoked {
            return Err(Outcome::KeyRevoked);
        }
        key.revoked = true;
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
