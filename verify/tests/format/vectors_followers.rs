//! Vectors of followers at rest: good ones that go on over the links beside them, and bad ones.

use super::super::hexed;
use crate::common::chain::Chain;
use crate::common::epochs::{Epochs, TIP};
use piaogen_crypto::Digest;
use piaogen_verify::encoding::{put_bytes, put_vint};
use piaogen_verify::epoch::{Change, EpochProof};
use piaogen_verify::follow::{Follower, Link};
use piaogen_verify::header::Header;
use piaogen_verify::merkle;
use piaogen_verify::refusal::Step;
use serde_json::{Value, json};

/// The parts of a follower at rest.
#[derive(Clone)]
struct Rest {
    height: u64,
    subtrees: Vec<Digest>,
    link: Link,
    changes: Vec<Change>,
}

impl Rest {
    /// Who followed to a height, made the long way.
    fn at(epochs: &Epochs, height: usize) -> Rest {
        let leaves: Vec<Digest> = epochs.headers[..height].iter().map(Header::leaf).collect();
        let (mut subtrees, mut end) = (Vec::new(), height);
        for width in (0..8).map(|level| 1 << level).filter(|width| height & width != 0) {
            subtrees.push(merkle::root_of_leaves(&leaves[end - width..end]));
            end -= width;
        }
        let link = epochs.link(height);
        let changes = match link.header.epoch {
            0 => Vec::new(),
            1 | 2 => vec![epochs.change(0)],
            _ => epochs.proof().changes,
        };
        Rest { height: height as u64, subtrees, link, changes }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = b"PF\x01".to_vec();
        put_vint(&mut out, self.height);
        out.extend(self.subtrees.concat());
        put_bytes(&mut out, &self.link.encode());
        // An epoch proof is its magic, and changes behind their count.
        out.extend_from_slice(&EpochProof { changes: self.changes.clone() }.encode()[3..]);
        out
    }
}

/// Where a follower may rest: in each epoch, and where one ends.
const HEIGHTS: [usize; 7] = [1, 2, 8, 10, 20, 30, 32];

/// Followers at rest over these links.
pub(super) fn followers(chain: &Chain, epochs: &Epochs, links: &[Link]) -> Value {
    let mut cases = Vec::new();
    for height in HEIGHTS {
        let mut follower = Follower::new(&chain.trust).unwrap();
        links[..=height].iter().for_each(|link| follower.take(link).unwrap());
        let rest = Rest::at(epochs, height).encode();
        assert_eq!(follower.rest().as_ref(), Some(&rest), "{height}");
        let mut again = Follower::resume(&chain.trust, &rest).unwrap();
        links[height + 1..].iter().for_each(|link| again.take(link).unwrap());
        let last = again.newest_final().unwrap();
        assert_eq!(last.root, epochs.root(last.size as usize));
        assert_eq!(last.size as usize, TIP, "33 has no certificate");
        cases.push(json!({
            "name": format!("at_{height}"), "follower": hexed(rest), "step": null,
            "height": height, "final": {"size": last.size, "root": hexed(last.root)},
        }));
    }
    for (name, step, bytes) in bad(epochs) {
        let refused = Follower::resume(&chain.trust, &bytes).unwrap_err();
        assert_eq!(refused.step, step, "{name}: {refused}");
        cases.push(json!({"name": name, "follower": hexed(bytes), "step": step.name()}));
    }
    Value::Array(cases)
}

type Spoil = fn(&Epochs, &mut Rest);

fn bad(epochs: &Epochs) -> Vec<(&'static str, Step, Vec<u8>)> {
    let whole = Rest::at(epochs, 32).encode();
    let mut out = vec![
        ("rest_empty", Step::Decode, Vec::new()),
        ("rest_magic", Step::Decode, [b"PX", &whole[2..]].concat()),
        ("rest_short", Step::Decode, whole[..whole.len() - 1].to_vec()),
        ("rest_trailing", Step::Decode, [&whole[..], &[0]].concat()),
    ];
    for (name, height, step, spoil) in spoils() {
        let mut rest = Rest::at(epochs, height);
        spoil(epochs, &mut rest);
        out.push((name, step, rest.encode()));
    }
    out
}

fn spoils() -> Vec<(&'static str, usize, Step, Spoil)> {
    vec![
        ("rest_without_certificate", 32, Step::Decode, |_, r| r.link.certificate.clear()),
        ("rest_of_another_chain", 32, Step::Chain, |_, r| r.link.header.chain[0] ^= 1),
        ("rest_change_of_another_chain", 32, Step::Chain, |_, r| {
            r.changes[0].header.chain[0] ^= 1;
        }),
        ("rest_of_another_height", 32, Step::History, |e, r| {
            *r = Rest { link: e.link(31), changes: r.changes.clone(), ..Rest::at(e, 32) };
        }),
        // As many subtrees, and the header is of another height than they say.
        ("rest_height", 20, Step::History, |_, r| r.height = 24),
        ("rest_subtree", 31, Step::History, |_, r| r.subtrees[2][0] ^= 1),
        ("rest_subtrees_turned", 20, Step::History, |_, r| r.subtrees.reverse()),
        ("rest_of_a_fork", 32, Step::History, |e, r| r.link = e.forked(31).link(32)),
        ("rest_change_names_another_set", 32, Step::Epoch, |e, r| r.changes[0].next = e.set(3)),
        ("rest_change_twice", 32, Step::Epoch, |e, r| r.changes.insert(0, e.change(0))),
        ("rest_without_changes", 32, Step::Validators, |_, r| r.changes.clear()),
        ("rest_change_left_out", 32, Step::Validators, |_, r| drop(r.changes.pop())),
        ("rest_of_too_few", 32, Step::Quorum, |e, r| {
            r.link.certificate = e.certify(&r.link.header, 64, 2).encode();
        }),
        ("rest_signature", 32, Step::Signature, |_, r| {
            *r.link.certificate.last_mut().unwrap() ^= 1;
        }),
        ("rest_signature_of_a_change", 32, Step::Signature, |_, r| {
            *r.changes[1].certificate.last_mut().unwrap() ^= 1;
        }),
        ("rest_next_set_is_missing", 10, Step::Epoch, |_, r| r.link.next = None),
        ("rest_another_next_set", 30, Step::Epoch, |e, r| r.link.next = Some(e.set(0))),
        ("rest_set_within_the_epoch", 32, Step::Epoch, |e, r| r.link.next = Some(e.set(3))),
    ]
}
