//! A follower that rests and goes on: the same as one that never rested, and nothing believed.

#![allow(clippy::unwrap_used)]

mod common;

use common::chain::Chain;
use common::epochs::{Epochs, TIP};
use common::life::Life;
use piaogen_verify::follow::Follower;

#[test]
fn whoever_goes_on_later_goes_on_the_same() {
    let chain = Chain::build();
    let epochs = Epochs::build(&Life::build(&chain));
    let mut follower = Follower::new(&chain.trust).unwrap();
    assert_eq!(follower.rest(), None);
    for height in 0..=TIP {
        let link = epochs.link(height);
        follower.take(&link).unwrap();
        let Some(rest) = follower.rest() else {
            assert!(link.certificate.is_empty());
            continue;
        };
        let mut again = Follower::resume(&chain.trust, &rest).unwrap();
        assert_eq!(again.rest().as_ref(), Some(&rest));
        assert_eq!(again.certified(&link), follower.certified(&link));
        for height in height + 1..=TIP {
            again.take(&epochs.link(height)).unwrap();
        }
        let last = again.newest_final().unwrap();
        assert_eq!((last.size, last.root), (TIP as u64, epochs.root(TIP)));
        // Of another trust root nothing is gone on with.
        let mut other = chain.trust.clone();
        other.chain[0] ^= 1;
        assert!(Follower::resume(&other, &rest).is_err());
    }
}

/// Two changes of the set lie before it, so that every part is there.
#[test]
fn what_was_changed_at_rest_is_refused() {
    let chain = Chain::build();
    let epochs = Epochs::build(&Life::build(&chain));
    let mut follower = Follower::new(&chain.trust).unwrap();
    (0..TIP).for_each(|height| follower.take(&epochs.link(height)).unwrap());
    let rest = follower.rest().unwrap();
    for at in 0..rest.len() {
        let mut changed = rest.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(Follower::resume(&chain.trust, &changed).is_err(), "byte {at}");
        if at % 16 == 0 {
            assert!(Follower::resume(&chain.trust, &rest[..at]).is_err(), "cut at {at}");
        }
    }
    assert!(Follower::resume(&chain.trust, &[&rest[..], &[0]].concat()).is_err());
    // Changes that lead to its set are needed, and a fork's last header is another's.
    let mut fork = Follower::new(&chain.trust).unwrap();
    let other = epochs.forked(25);
    (0..TIP).for_each(|height| fork.take(&other.link(height)).unwrap());
    assert_ne!(fork.rest(), Some(rest));
}
