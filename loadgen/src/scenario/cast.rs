//! Who plays: sellers, buyers, banks, a court, an auditor, an importer and the authority.
//!
//! Sellers and buyers are different companies, each with one role, so that every refusal for a
//! missing right has one cause. A stranger has a key that nobody registers.
//!
//! Invariants
//! - The same seed and counts give the same keys and ids.

use crate::genesis::AUTHORITY;
use crate::parties::{Parties, Party, Style, company, register, somebody};
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::genesis::{ROLE_AUDITOR, ROLE_BANK, ROLE_COMPANY, ROLE_COURT, ROLE_IMPORTER};
use rayon::prelude::*;

/// Somebody who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Actor {
    /// The tax authority.
    Authority,
    /// A seller.
    Seller(usize),
    /// A buyer.
    Buyer(usize),
    /// A bank.
    Bank(usize),
    /// The court.
    Court,
    /// The auditor.
    Auditor,
    /// Who imports invoices of other systems.
    Importer,
    /// Somebody whom nobody registered.
    Stranger,
}

/// How many of each there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Sellers.
    pub sellers: u32,
    /// Buyers.
    pub buyers: u32,
    /// Banks, at least three.
    pub banks: u32,
}

/// Everybody.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    sellers: Parties,
    buyers: Vec<Party>,
    banks: Vec<Party>,
    court: Party,
    auditor: Party,
    importer: Party,
    authority: Party,
}

impl Cast {
    pub(crate) fn new(seed: u64, counts: Counts, authority: &SecretKey) -> Cast {
        let buyers = (0..u64::from(counts.buyers.max(2))).into_par_iter();
        let banks = (0..u64::from(counts.banks.max(3))).into_par_iter();
        let one = |label: &str, name: &str| {
            somebody(seed, label, 0, label.to_ascii_uppercase(), name.into())
        };
        let authority = Party {
            key: authority.clone(),
            key_id: authority.public_key().key_id(),
            ..somebody(seed, "nobody", 0, AUTHORITY.into(), AUTHORITY.into())
        };
        Cast {
            sellers: Parties::new(seed, counts.sellers.max(2), Style::China),
            buyers: buyers.map(|i| company(seed, "buyer", i)).collect(),
            banks: banks
                .map(|i| {
                    let (id, name) = (format!("BANK:{i:03}"), format!("第{i}商业银行"));
                    somebody(seed, "bank", i, id, name)
                })
                .collect(),
            court: one("court", "人民法院"),
            auditor: one("auditor", "审计机关"),
            importer: one("importer", "Import Gateway"),
            authority,
        }
    }

    pub(crate) fn get(&self, actor: Actor) -> &Party {
        match actor {
            Actor::Authority => &self.authority,
            Actor::Seller(at) => self.sellers.get(at),
            Actor::Buyer(at) => &self.buyers[at],
            Actor::Bank(at) => &self.banks[at],
            Actor::Court => &self.court,
            Actor::Auditor => &self.auditor,
            Actor::Importer => &self.importer,
            Actor::Stranger => self.sellers.get(self.sellers.stranger()),
        }
    }

    /// The sellers, as the content of invoices wants them.
    pub(crate) fn parties(&self) -> &Parties {
        &self.sellers
    }

    pub(crate) fn sellers(&self) -> usize {
        self.sellers.sellers()
    }

    pub(crate) fn buyers(&self) -> usize {
        self.buyers.len()
    }

    pub(crate) fn banks(&self) -> usize {
        self.banks.len()
    }

    /// The records that register everybody, signed by the authority; they go to the topic
    /// `registry` in this order.
    pub(crate) fn registrations(&self, chain: &Digest, at_ms: i64) -> Vec<Vec<u8>> {
        let mut records = self.sellers.registrations(chain, &self.authority.key, at_ms);
        let with = |role: u64| move |party| (role, party);
        let alone = [
            (ROLE_COURT, &self.court),
            (ROLE_AUDITOR, &self.auditor),
            (ROLE_IMPORTER, &self.importer),
        ];
        let others: Vec<(u64, &Party)> = (self.buyers.iter().map(with(ROLE_COMPANY)))
            .chain(self.banks.iter().map(with(ROLE_BANK)))
            .chain(alone)
            .collect();
        let signed: Vec<Vec<u8>> = others
            .into_par_iter()
            .map(|(role, party)| register(party, role, at_ms).sign(chain, &self.authority.key))
            .collect();
        records.extend(signed);
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parties::key;
    use piaogen_verify::fields::tag;
    use piaogen_verify::record::{RecordKind, decode};
    use piaogen_verify::scheme::credit_code_holds;
    use std::collections::BTreeSet;

    #[test]
    fn nobody_is_registered_twice_and_codes_hold() {
        let counts = Counts { sellers: 300, buyers: 300, banks: 5 };
        let cast = Cast::new(3, counts, &key(3, "authority", 0));
        let mut ids = BTreeSet::new();
        let records = cast.registrations(&[1; 32], 77);
        for bytes in &records {
            let record = decode(bytes).unwrap();
            if record.kind != RecordKind::Register {
                continue;
            }
            assert!(ids.insert(record.text(tag::PARTY).to_owned()));
            assert!(ids.insert(hex::encode(record.get(tag::PUBLIC_KEY).unwrap())));
            if let Some(code) = record.text(tag::PARTY).strip_prefix("CN-USCC:") {
                assert!(credit_code_holds(code), "{code}");
            }
        }
        // Two for each: sellers and the one whose key is revoked, buyers, banks, three alone.
        assert_eq!(ids.len(), 2 * (301 + 300 + 5 + 3));
        assert_eq!(records.len(), 301 + 1 + 300 + 5 + 3);
    }
}
