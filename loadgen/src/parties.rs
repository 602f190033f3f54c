//! Derives sellers from a seed: their ids, names and keys, and the records that register them.
//!
//! Beside the sellers there are two for bad records: one whose key is registered and then revoked,
//! and a stranger whose key nobody registers.
//!
//! Invariants
//! - The same seed and count give the same keys; they are for trying out and protect nothing.
//! - No two parties have the same id, whatever the seed.

use crate::names;
use crate::rng::{Purpose, Rng};
use piaogen_crypto::sm2::SecretKey;
use piaogen_crypto::{Digest, sm3};
use piaogen_verify::document::Fields;
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::ROLE_ISSUER;
use piaogen_verify::record::{Draft, RecordKind};
use piaogen_verify::value;
use rayon::prelude::*;

/// Which name and id sellers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Chinese companies with unified social credit codes, half of them named in Latin letters.
    China,
    /// The sellers of the Online Retail replay.
    Retail,
}

/// A seller, or one of the two that are not good sellers.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its id in the registry.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its address and telephone number.
    pub address: String,
    /// Whether it writes Chinese.
    pub chinese: bool,
    /// Its key.
    pub key: SecretKey,
    /// The id of its key.
    pub key_id: Digest,
}

/// All parties of a seed.
#[derive(Clone, Debug)]
pub struct Parties {
    all: Vec<Party>,
    sellers: usize,
}

/// The key with this label and index, from a seed.
pub fn key(seed: u64, label: &str, index: u64) -> SecretKey {
    let mut attempt = 0u64;
    loop {
        let parts: [&[u8]; 5] = [
            b"piaogen load key\n",
            label.as_bytes(),
            &seed.to_be_bytes(),
            &index.to_be_bytes(),
            &attempt.to_be_bytes(),
        ];
        if let Ok(key) = SecretKey::from_bytes(&sm3::hash_parts(&parts)) {
            return key;
        }
        attempt += 1;
    }
}

impl Parties {
    /// The parties of a seed: so many sellers (at least one), the revoked one, the stranger.
    pub fn new(seed: u64, sellers: u32, style: Style) -> Parties {
        let sellers = sellers.max(1) as usize;
        let all = (0..sellers as u64 + 2).into_par_iter().map(|i| party(seed, i, style)).collect();
        Parties { all, sellers }
    }

    /// How many sellers there are.
    pub fn sellers(&self) -> usize {
        self.sellers
    }

    /// A seller, or what follows the sellers.
    pub fn get(&self, index: usize) -> &Party {
        &self.all[index]
    }

    /// Place of the party whose key is revoked.
    pub fn revoked(&self) -> usize {
        self.sellers
    }

    /// Place of the party that nobody registers.
    pub fn stranger(&self) -> usize {
        self.sellers + 1
    }

    /// The records that register all sellers and then revoke one key, signed by an authority; they
    /// go to the topic `registry` in this order.
    pub fn registrations(&self, chain: &Digest, authority: &SecretKey, at_ms: i64) -> Vec<Vec<u8>> {
        let mut records: Vec<Vec<u8>> = self.all[..=self.sellers]
            .par_iter()
            .map(|party| register(party, ROLE_ISSUER, at_ms).sign(chain, authority))
            .collect();
        let mut fields = Fields::new();
        fields.set(tag::REVOKED_KEY, self.all[self.sellers].key_id.to_vec());
        fields.set_text(tag::REASON, "key lost");
        let fields: Vec<_> = fields.pairs().to_vec();
        let revoke = RegistryDraft { kind: RecordKind::Revoke, at_ms, fields };
        records.push(revoke.sign(chain, authority));
        records
    }
}

/// A registry record before it is signed.
#[derive(Debug)]
pub(crate) struct RegistryDraft {
    pub(crate) kind: RecordKind,
    pub(crate) at_ms: i64,
    pub(crate) fields: Vec<(u16, Vec<u8>)>,
}

impl RegistryDraft {
    pub(crate) fn sign(&self, chain: &Digest, key: &SecretKey) -> Vec<u8> {
        let draft =
            Draft { kind: self.kind, signed_at: self.at_ms, secret: [0; 16], fields: &self.fields };
        draft.sign(chain, key)
    }
}

/// The registration of a party with these roles.
pub(crate) fn register(party: &Party, roles: u64, at_ms: i64) -> RegistryDraft {
    let mut fields = Fields::new();
    fields.set_text(tag::PARTY, &party.id);
    fields.set_text(tag::PARTY_NAME, &party.name);
    fields.set(tag::ROLES, value::uint(roles));
    fields.set(tag::PUBLIC_KEY, party.key.public_key().to_compressed().to_vec());
    RegistryDraft { kind: RecordKind::Register, at_ms, fields: fields.pairs().to_vec() }
}

/// A company that is no seller; its id is unlike that of any seller.
pub(crate) fn company(seed: u64, label: &str, index: u64) -> Party {
    let mut rng = Rng::new(seed, Purpose::Party, FIRST_COMPANY + index);
    let chinese = index.is_multiple_of(2);
    let (name, city) = names::company(&mut rng, chinese);
    let address = names::address(&mut rng, chinese, city);
    let id = format!("CN-USCC:{}", seller_code(&mut rng, city.2, COMPANY_CODES + index));
    named(id, name, address, chinese, key(seed, label, index))
}

/// Somebody whose id and name are given.
pub(crate) fn somebody(seed: u64, label: &str, index: u64, id: String, name: String) -> Party {
    named(id, name, String::new(), true, key(seed, label, index))
}

fn named(id: String, name: String, address: String, chinese: bool, key: SecretKey) -> Party {
    let key_id = key.public_key().key_id();
    Party { id, name, address, chinese, key, key_id }
}

/// Companies have names of their own, far from those of sellers and of unregistered buyers.
const FIRST_COMPANY: u64 = 1 << 41;
/// The number within the credit code of the first company; sellers are below.
const COMPANY_CODES: u64 = 5_000_000;

fn party(seed: u64, index: u64, style: Style) -> Party {
    let mut rng = Rng::new(seed, Purpose::Party, index);
    let chinese = style == Style::China && index.is_multiple_of(2);
    let (name, city) = names::company(&mut rng, chinese);
    let address = names::address(&mut rng, chinese, city);
    let (id, name) = match style {
        Style::China => (format!("CN-USCC:{}", seller_code(&mut rng, city.2, index)), name),
        Style::Retail => (format!("RETAIL:{index:02}"), format!("Retail Seller {index:02} Ltd")),
    };
    named(id, name, address, chinese, key(seed, "seller", index))
}

/// A credit code in which the index stands, so that no two sellers have the same.
fn seller_code(rng: &mut Rng, division: &str, index: u64) -> String {
    let random = names::credit_code(rng, division);
    names::with_check(&format!("{}{index:07}", &random[..10]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_verify::record::decode;
    use piaogen_verify::scheme::credit_code_holds;

    #[test]
    fn registrations_are_signed_by_the_authority_and_repeatable() {
        let parties = Parties::new(5, 9, Style::China);
        let authority = key(5, "authority", 0);
        let records = parties.registrations(&[1; 32], &authority, 77);
        assert_eq!(
            records,
            Parties::new(5, 9, Style::China).registrations(&[1; 32], &authority, 77)
        );
        assert_eq!(records.len(), 11);
        let mut ids = std::collections::BTreeSet::new();
        for bytes in &records {
            let record = decode(bytes).unwrap();
            let message = record.signed(&[1; 32], &record.commitment());
            let public = authority.public_key();
            assert!(piaogen_crypto::sm2::verify(&public, &message, &record.signature));
            assert!(ids.insert(record.subject(&[]).unwrap()));
            if record.kind == RecordKind::Register {
                let code = record.text(tag::PARTY).strip_prefix("CN-USCC:").unwrap();
                assert!(credit_code_holds(code), "{code}");
            }
        }
    }
}
