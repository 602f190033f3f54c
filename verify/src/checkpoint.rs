//! Checkpoints: the log of headers as a signed note, for witnesses and mirrors (`FORMAT.md`
//! section 12).
//!
//! The text form is that of C2SP tlog-checkpoint, so that existing witnesses carry it. Lines signed
//! by somebody who is no validator are kept and passed on, but prove nothing.
//!
//! Invariants
//! - A checkpoint has one text; reading and writing it gives the same bytes.

use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use crate::witness::Cosignature;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use base64ct::{Base64, Encoding};
use piaogen_crypto::sm2::{PublicKey, SecretKey, SignError, Signature, Signer};
use piaogen_crypto::{Digest, sm2};

const DOMAIN: &[u8; 15] = b"piaogen/ckpt/1\n";
const ORIGIN: &str = "piaogen/";
const DASH: &str = "\u{2014} ";
/// Most bytes of a checkpoint.
pub const CHECKPOINT_MAX: usize = 1 << 18;
const LINE_MAX: usize = 1_024;

/// A signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    /// The name of the signer.
    pub name: String,
    /// Hint and signature.
    pub bytes: Vec<u8>,
}

/// The size and root of the log of headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the chain.
    pub chain_id: String,
    /// Number of headers: height + 1.
    pub size: u64,
    /// The root over their digests.
    pub root: Digest,
    /// Who signed it.
    pub signatures: Vec<SignatureLine>,
}

/// The name of a validator in a signature line.
pub fn name_of(key: &PublicKey) -> String {
    hex::encode(&key.to_compressed()[..8])
}

impl Checkpoint {
    /// A checkpoint that nobody signed yet.
    pub fn new(chain_id: &str, size: u64, root: Digest) -> Checkpoint {
        Checkpoint { chain_id: chain_id.to_string(), size, root, signatures: Vec::new() }
    }

    /// The text that is signed: three lines, each with its line feed.
    pub fn text(&self) -> String {
        let root = Base64::encode_string(&self.root);
        alloc::format!("{ORIGIN}{}\n{}\n{root}\n", self.chain_id, self.size)
    }

    fn signed(&self) -> Vec<u8> {
        [&DOMAIN[..], self.text().as_bytes()].concat()
    }

    /// Adds the signature of a validator.
    pub fn sign(&mut self, key: &SecretKey) {
        let public = key.public_key();
        let mut bytes = public.key_id()[..4].to_vec();
        bytes.extend_from_slice(&key.sign(&self.signed()).0);
        self.signatures.push(SignatureLine { name: name_of(&public), bytes });
    }

    /// As [`Checkpoint::sign`], with a key that may be out of reach.
    ///
    /// # Errors
    /// What the key's device said.
    pub fn sign_by(&mut self, key: &dyn Signer) -> Result<(), SignError> {
        let public = key.public_key();
        let mut bytes = public.key_id()[..4].to_vec();
        bytes.extend_from_slice(&key.try_sign(&self.signed())?.0);
        self.signatures.push(SignatureLine { name: name_of(&public), bytes });
        Ok(())
    }

    /// The signed note.
    pub fn to_note(&self) -> String {
        let mut note = self.text();
        note.push('\n');
        for line in &self.signatures {
            let bytes = Base64::encode_string(&line.bytes);
            note.push_str(&alloc::format!("{DASH}{} {bytes}\n", line.name));
        }
        note
    }

    /// Reads a signed note.
    pub fn parse(note: &str) -> Result<Checkpoint, Refusal> {
        let refuse = |what: &str| Refusal::new(Step::Decode, alloc::format!("checkpoint: {what}"));
        if note.len() > CHECKPOINT_MAX {
            return Err(refuse("too long"));
        }
        let (text, lines) =
            note.split_once("\n\n").ok_or_else(|| refuse("there is no blank line"))?;
        let parts: Vec<&str> = text.split('\n').collect();
        let [origin, size, root] = parts[..] else {
            return Err(refuse("the text is not origin, size and root"));
        };
        let chain_id = origin
            .strip_prefix(ORIGIN)
            .filter(|name| crate::genesis::is_chain_id(name))
            .ok_or_else(|| refuse("the origin is no chain"))?;
        let size: u64 = size
            .parse()
            .ok()
            .filter(|n: &u64| *n > 0 && n.to_string() == size)
            .ok_or_else(|| refuse("the size is no positive number"))?;
        let root = base64(root)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| refuse("the root is no digest in base64"))?;
        let mut checkpoint = Checkpoint::new(chain_id, size, root);
        if !lines.is_empty() && !lines.ends_with('\n') {
            return Err(refuse("the last line has no end"));
        }
        for line in lines.split_terminator('\n') {
            let line = parse_line(line).ok_or_else(|| refuse("a signature line is malformed"))?;
            checkpoint.signatures.push(line);
        }
        Ok(checkpoint)
    }

    /// Adds the lines of a note over the same text; of each signer the line that is there stays.
    /// Whether it is the same text: else nothing is added.
    pub fn join(&mut self, other: &Checkpoint) -> bool {
        let text = |note: &Checkpoint| (note.chain_id.clone(), note.size, note.root);
        if text(self) != text(other) {
            return false;
        }
        for line in &other.signatures {
            let same = |known: &SignatureLine| {
                known.name == line.name && known.bytes.get(..4) == line.bytes.get(..4)
            };
            if !self.signatures.iter().any(same) {
                self.signatures.push(line.clone());
            }
        }
        true
    }

    /// The cosignatures among the lines.
    pub fn cosignatures(&self) -> Vec<Cosignature> {
        self.signatures.iter().filter_map(Cosignature::of_line).collect()
    }

    /// The validators whose signature holds, as places in the trust root's set, ascending. Refused
    /// where the chain is another, a validator's signature does not hold, or none signed.
    pub fn verify(&self, trust: &TrustRoot) -> Result<Vec<u32>, Refusal> {
        if self.chain_id != trust.chain_id {
            let detail = alloc::format!("the checkpoint is not of {}", trust.chain_id);
            return Err(Refusal::new(Step::Chain, detail));
        }
        let signers = self.signers(trust)?;
        if signers.is_empty() {
            return Err(Refusal::new(Step::Quorum, "no validator signed the checkpoint"));
        }
        Ok(signers)
    }

    /// The validators who signed, none or more; the chain is not looked at.
    pub(crate) fn signers(&self, trust: &TrustRoot) -> Result<Vec<u32>, Refusal> {
        let message = self.signed();
        let mut signers = Vec::new();
        for (i, key) in (0u32..).zip(trust.validators.keys()) {
            let (name, hint) = (name_of(key), &key.key_id()[..4]);
            let own = |line: &&SignatureLine| line.name == name && line.bytes.starts_with(hint);
            for line in self.signatures.iter().filter(own) {
                let holds = <[u8; 64]>::try_from(&line.bytes[4..])
                    .is_ok_and(|bytes| sm2::verify(key, &message, &Signature(bytes)));
                if !holds {
                    let detail = alloc::format!("the signature of {name} does not hold");
                    return Err(Refusal::new(Step::Signature, detail));
                }
                if signers.last() != Some(&i) {
                    signers.push(i);
                }
            }
        }
        Ok(signers)
    }
}

/// Whether this may name a signer in a line.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    !name.is_empty() && name.chars().all(plain)
}

fn parse_line(line: &str) -> Option<SignatureLine> {
    let (name, bytes) = line.strip_prefix(DASH)?.split_once(' ')?;
    let bytes = base64(bytes).filter(|bytes| bytes.len() > 4 && bytes.len() <= LINE_MAX)?;
    is_name(name).then(|| SignatureLine { name: name.to_string(), bytes })
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let bytes = Base64::decode_vec(text).ok()?;
    (Base64::encode_string(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::validators;

    #[test]
    fn notes_round_trip_and_signatures_count() {
        let (keys, set) = validators(4);
        let trust = TrustRoot::of_set("test-1", [1; 32], set);
        let mut checkpoint = Checkpoint::new("test-1", 3, [9; 32]);
        assert_eq!(checkpoint.verify(&trust).map_err(|r| r.step), Err(Step::Quorum));
        checkpoint.sign(&keys[2]);
        checkpoint.sign(&keys[0]);
        checkpoint
            .signatures
            .push(SignatureLine { name: "witness.example/w1".into(), bytes: alloc::vec![5; 76] });
        let note = checkpoint.to_note();
        assert_eq!(Checkpoint::parse(&note), Ok(checkpoint.clone()));
        assert_eq!(checkpoint.verify(&trust), Ok(alloc::vec![0, 2]));
        assert_eq!(checkpoint.cosignatures().len(), 1, "a stranger's, of that length");
        let cosignature = Cosignature::sign("w1.example", &keys[1], &checkpoint, 7);
        checkpoint.signatures.push(cosignature.to_line());
        assert_eq!(Checkpoint::parse(&checkpoint.to_note()), Ok(checkpoint.clone()));
        assert_eq!(checkpoint.cosignatures().last(), Some(&cosignature));
        assert_eq!(checkpoint.verify(&trust), Ok(alloc::vec![0, 2]), "no validator's line");
        checkpoint.size = 4;
        assert_eq!(checkpoint.verify(&trust).map_err(|r| r.step), Err(Step::Signature));
        checkpoint.chain_id = "test-2".into();
        assert_eq!(checkpoint.verify(&trust).map_err(|r| r.step), Err(Step::Chain));
    }

    #[test]
    fn notes_over_one_text_are_joined_and_each_signer_stays_once() {
        let (keys, _) = validators(3);
        let bare = Checkpoint::new("test-1", 8, [9; 32]);
        let by = |name: &str, key: usize, time| {
            let mut note = bare.clone();
            note.signatures.push(Cosignature::sign(name, &keys[key], &bare, time).to_line());
            note
        };
        let mut joined = by("w0.example", 0, 5);
        assert!(joined.join(&by("w1.example", 1, 6)));
        assert!(joined.join(&by("w0.example", 0, 7)), "again, later");
        // Another key under a name that is known is another signer.
        assert!(joined.join(&by("w0.example", 2, 8)));
        let times: Vec<u64> = joined.cosignatures().iter().map(|one| one.time).collect();
        assert_eq!(times, [5, 6, 8]);
        let before = joined.clone();
        for other in [
            Checkpoint::new("test-2", 8, [9; 32]),
            Checkpoint::new("test-1", 16, [9; 32]),
            Checkpoint::new("test-1", 8, [8; 32]),
        ] {
            let signatures = by("w1.example", 1, 9).signatures;
            assert!(!joined.join(&Checkpoint { signatures, ..other }));
        }
        assert_eq!(joined, before);
    }

    #[test]
    fn malformed_notes_are_refused() {
        let (keys, _) = validators(1);
        let mut checkpoint = Checkpoint::new("test-1", 30, [9; 32]);
        checkpoint.sign(&keys[0]);
        let note = checkpoint.to_note();
        for (good, bad) in [
            ("piaogen/", "other/"),
            ("\n30\n", "\n030\n"),
            ("\n30\n", "\n0\n"),
            ("\n30\n", "\n30\nextension\n"),
            ("=\n\n", "\n\n"),
            ("\u{2014}", "-"),
            ("\n\n", "\n"),
            ("test-1", "TEST"),
        ] {
            let changed = note.replacen(good, bad, 1);
            assert_ne!(changed, note);
            assert!(Checkpoint::parse(&changed).is_err(), "{changed}");
        }
        assert!(Checkpoint::parse(note.trim_end()).is_err());
    }
}
