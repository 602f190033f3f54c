//! Leads who holds a trust root to the set whose member lied.
//!
//! Who catches two votes knows neither where a verifier begins nor how the set came to be. Who follows
//! the headers does, and adds it here, so that nodes and simulations make the same file.

use super::Evidence;
use crate::epoch::{Change, newest};

impl Evidence {
    /// The same, with what leads to the set of its epoch: of `all` changes since the genesis those of
    /// earlier epochs, the last ones where they are more than a proof has. Headers have theirs.
    pub fn led_by(mut self, all: &[Change]) -> Evidence {
        if let Evidence::DoubleVote { changes, epoch, .. } = &mut self {
            let before = all.partition_point(|change| change.header.epoch < *epoch);
            *changes = newest(&all[..before]).to_vec();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Certificate;
    use crate::epoch::{CHANGES_MAX, EpochProof, headers};
    use crate::evidence::{Said, Signer, Vote};
    use crate::follow::{Follower, Link};
    use crate::header::{Header, ValidatorSet};
    use crate::merkle;
    use crate::refusal::Step;
    use crate::trust_root::TrustRoot;
    use alloc::vec::Vec;
    use piaogen_crypto::sm2::SecretKey;

    /// Epochs of one block, each with another validator that is alone.
    struct Epochs {
        genesis: Header,
        changes: Vec<Change>,
    }

    fn key(epoch: u64) -> SecretKey {
        SecretKey::from_bytes(&[1 + epoch as u8; 32]).unwrap()
    }

    fn set(epoch: u64) -> ValidatorSet {
        ValidatorSet::new(alloc::vec![key(epoch).public_key()]).unwrap()
    }

    impl Epochs {
        fn new(count: u64) -> Epochs {
            let genesis = Header::genesis([7; 32], 0, 1, &set(0));
            let mut epochs = Epochs { genesis, changes: Vec::new() };
            while epochs.changes.len() < count as usize {
                epochs.changes.push(epochs.next(1));
            }
            epochs
        }

        /// A block that ends the next epoch, so many milliseconds after the one before.
        fn next(&self, after_ms: i64) -> Change {
            let headers = || core::iter::once(&self.genesis).chain(headers(&self.changes));
            let leaves: Vec<_> = headers().map(Header::leaf).collect();
            let (epoch, last) = (self.changes.len() as u64, headers().last().unwrap());
            let header = Header {
                height: 1 + epoch,
                epoch,
                time_ms: last.time_ms + after_ms,
                parent: last.digest(),
                history_root: merkle::root_of_leaves(&leaves),
                validators: set(epoch).digest(),
                next_validators: set(epoch + 1).digest(),
                ..self.genesis
            };
            let mut certificate = Certificate {
                epoch,
                view: 2,
                parent: 1,
                payload: header.digest(),
                validators: 1,
                signers: alloc::vec![0],
                signatures: Vec::new(),
            };
            let signature = key(epoch).sign(&certificate.signed(&header.chain));
            certificate.signatures.push(signature);
            Change { header, certificate: certificate.encode(), next: set(epoch + 1) }
        }

        fn trust(&self) -> TrustRoot {
            TrustRoot::of_set("cn-test-1", self.genesis.chain, set(0))
        }

        /// Two votes of the validator of an epoch, as ordering catches them.
        fn caught(&self, epoch: u64) -> Evidence {
            let vote = |byte: u8| {
                let said = Said::Finalize { parent: 3, payload: [byte; 32] };
                let message = said.message(&self.genesis.chain, epoch, 4);
                Vote { said, signature: key(epoch).sign(&message) }
            };
            Evidence::DoubleVote {
                changes: Vec::new(),
                key: key(epoch).public_key(),
                epoch,
                view: 4,
                first: vote(1),
                second: vote(2),
            }
        }
    }

    #[test]
    fn a_liar_of_any_epoch_is_named_to_who_trusts_the_genesis() {
        let epochs = Epochs::new(9);
        for epoch in 0..9 {
            // Epochs that ended since lead to other sets.
            let evidence = epochs.caught(epoch).led_by(&epochs.changes);
            let read = Evidence::decode(&evidence.encode()).unwrap();
            assert_eq!(Evidence::from_json(&evidence.to_json()).as_ref(), Ok(&read));
            let liar = [Signer::Validator(key(epoch).public_key().to_compressed())];
            for root in 0..=epoch {
                let proof = EpochProof { changes: epochs.changes[..root as usize].to_vec() };
                let trust = proof.advance(&epochs.trust()).unwrap();
                assert_eq!(read.verify(&trust).unwrap().liars, liar);
                let bare = epochs.caught(epoch).verify(&trust).map_err(|refusal| refusal.step);
                let expected = if root == epoch { Ok(()) } else { Err(Step::Validators) };
                assert_eq!(bare.map(|_| ()), expected, "{epoch} from {root}");
            }
            let later = EpochProof { changes: epochs.changes[..=epoch as usize].to_vec() };
            let later = later.advance(&epochs.trust()).unwrap();
            assert_eq!(read.verify(&later).unwrap_err().step, Step::Epoch);
        }
    }

    #[test]
    fn of_more_changes_than_a_proof_has_the_last_ones_lead_on() {
        let epochs = Epochs::new(CHANGES_MAX + 6);
        let evidence = epochs.caught(CHANGES_MAX + 6).led_by(&epochs.changes);
        let read = Evidence::decode(&evidence.encode()).unwrap();
        assert_eq!(read.verify(&epochs.trust()).unwrap_err().step, Step::Validators);
        for (led, proved) in [(5, false), (6, true), (60, true), (CHANGES_MAX + 6, true)] {
            let mut trust = epochs.trust();
            for part in epochs.changes[..led as usize].chunks(CHANGES_MAX as usize) {
                trust = EpochProof { changes: part.to_vec() }.advance(&trust).unwrap();
            }
            assert_eq!(read.verify(&trust).is_ok(), proved, "led to epoch {led}");
        }
    }

    /// Who follows headers has the changes that evidence has no room for, which lead its reader to where
    /// it begins.
    #[test]
    fn who_followed_more_changes_than_a_proof_has_makes_evidence_that_is_read() {
        let epochs = Epochs::new(CHANGES_MAX + 6);
        let link = |change: Change| Link {
            header: change.header,
            certificate: change.certificate,
            next: Some(change.next),
        };
        let mut follower = Follower::new(&epochs.trust()).unwrap();
        let first = Link { header: epochs.genesis, certificate: Vec::new(), next: None };
        follower.take(&first).unwrap();
        assert_eq!(follower.led_to(&epochs.trust(), 1), epochs.trust());
        epochs.changes.iter().for_each(|change| follower.take(&link(change.clone())).unwrap());
        for epoch in 0..CHANGES_MAX + 6 {
            let height = 1 + epoch;
            let led = follower.led_to(&epochs.trust(), height);
            assert_eq!((led.epoch, &led.validators), (epoch, &set(epoch)));
            let left_out = epoch.saturating_sub(CHANGES_MAX) as usize;
            assert_eq!(follower.left_out(height), &epochs.changes[..left_out]);
        }
        let left_out = EpochProof { changes: follower.left_out(follower.size()).to_vec() };
        let trust = left_out.advance(&epochs.trust()).unwrap();
        assert_eq!((trust.epoch, &trust.validators), (6, &set(6)));
        let side = |after_ms: i64| {
            let (mut follower, link) = (follower.clone(), link(epochs.next(after_ms)));
            follower.take(&link).unwrap();
            follower.certified(&link)
        };
        let evidence = Evidence::Fork { first: side(1), second: side(2) };
        let read = Evidence::decode(&evidence.encode()).unwrap();
        assert_eq!(read.verify(&trust).unwrap().liars_min, 1);
        assert_eq!(read.verify(&epochs.trust()).unwrap_err().step, Step::Validators);
    }
}
