//! Cosignatures: what a witness says of a checkpoint, and how a receipt shows it (`FORMAT.md`
//! section 12.1).
//!
//! A witness has followed the headers of a chain and found them to be one history; it signs the
//! size and root of the log of headers, and the time. So a quorum of lying validators that shows
//! two histories must show both to witnesses, and whoever demands cosignatures sees it.
//!
//! Invariants
//! - A cosignature of a known witness that does not hold is refused, never passed over.
//! - A witness counts once, however often it signed.
//! - A size that a witness no longer keeps is none that it keeps later.

use crate::checkpoint::{Checkpoint, SignatureLine, is_name};
use crate::encoding::{DecodeError, Reader, put_bytes, put_digests, put_vint};
use crate::header::Header;
use crate::json::chain::digests;
use crate::json::{Json, Result as JsonResult, object, wrong};
use crate::merkle::{PROOF_MAX, root_from_inclusion};
use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use piaogen_crypto::sm2::{PublicKey, SecretKey, SignError, Signature, Signer};
use piaogen_crypto::{Digest, sm2};

const DOMAIN: &[u8; 16] = b"piaogen/cosig/1\n";
/// Most witnesses of a trust root, and most cosignatures of a receipt.
pub const WITNESSES_MAX: u64 = 32;
/// Most bytes of a witness's name.
pub const WITNESS_NAME_MAX: u64 = 64;
/// Every witness signs at the multiples of so many headers, besides the newest size that it has.
pub const SHARED_EVERY: u64 = 8;
/// How many sizes of each power of two a witness keeps.
const SHARED_KEPT: u64 = 64;
/// Bytes of a cosignature in a line: hint, time, signature.
const LINE_LEN: usize = 4 + 8 + 64;

/// Whether a witness that has signed `newest` headers hands out a cosignature over the first
/// `size`.
pub fn is_shared(size: u64, newest: u64) -> bool {
    // The largest power of two that divides the size.
    let power = size & size.wrapping_neg();
    size <= newest && power >= SHARED_EVERY && (newest - size) / power < SHARED_KEPT
}

/// The sizes of which [`is_shared`] is true, the largest first: at most 1,823.
pub fn shared_sizes(newest: u64) -> impl Iterator<Item = u64> {
    let (mut size, mut step) = (newest - newest % SHARED_EVERY, SHARED_EVERY);
    core::iter::from_fn(move || {
        let found = (size > 0).then_some(size)?;
        size -= step;
        // From here down only multiples of the next power are kept.
        if (newest - size) / step >= SHARED_KEPT {
            step *= 2;
            size -= size % step;
        }
        Some(found)
    })
}

/// A witness that a verifier knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its name, best a host of its own without a scheme.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
}

impl Witness {
    /// The beginning of the key id, by which lines are told apart.
    pub fn hint(&self) -> [u8; 4] {
        hint_of(&self.key)
    }
}

fn hint_of(key: &PublicKey) -> [u8; 4] {
    let id = key.key_id();
    [id[0], id[1], id[2], id[3]]
}

/// One witness's signature over a checkpoint and a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// The name of the witness.
    pub name: String,
    /// The beginning of its key id.
    pub hint: [u8; 4],
    /// When it signed, by its own clock, seconds since 1970.
    pub time: u64,
    /// The signature.
    pub signature: Signature,
}

/// What a witness signs: the time, and the text of the checkpoint.
fn message(text: &str, time: u64) -> Vec<u8> {
    [&DOMAIN[..], alloc::format!("time {time}\n").as_bytes(), text.as_bytes()].concat()
}

/// Whether this may be the name of a witness.
pub fn is_witness_name(name: &str) -> bool {
    is_name(name) && name.len() as u64 <= WITNESS_NAME_MAX
}

impl Cosignature {
    /// Signs a checkpoint. Whoever calls this has seen that its history extends all that the key
    /// signed before.
    pub fn sign(name: &str, key: &SecretKey, checkpoint: &Checkpoint, time: u64) -> Cosignature {
        let signature = key.sign(&message(&checkpoint.text(), time));
        Cosignature { name: name.to_string(), hint: hint_of(&key.public_key()), time, signature }
    }

    /// As [`Cosignature::sign`], with a key that may be out of reach.
    ///
    /// # Errors
    /// What the key's device said.
    pub fn sign_by(
        name: &str,
        key: &dyn Signer,
        checkpoint: &Checkpoint,
        time: u64,
    ) -> Result<Cosignature, SignError> {
        let signature = key.try_sign(&message(&checkpoint.text(), time))?;
        let (name, hint) = (name.to_string(), hint_of(&key.public_key()));
        Ok(Cosignature { name, hint, time, signature })
    }

    /// The line of a signed note.
    pub fn to_line(&self) -> SignatureLine {
        let bytes = [&self.hint[..], &self.time.to_be_bytes(), &self.signature.0].concat();
        SignatureLine { name: self.name.clone(), bytes }
    }

    /// The cosignature in a line, if it is one.
    pub fn of_line(line: &SignatureLine) -> Option<Cosignature> {
        if line.bytes.len() != LINE_LEN || !is_witness_name(&line.name) {
            return None;
        }
        let mut r = Reader::new(&line.bytes);
        let (hint, time) = (r.array().ok()?, r.u64().ok()?);
        let signature = Signature(r.array().ok()?);
        Some(Cosignature { name: line.name.clone(), hint, time, signature })
    }

    /// Whether it claims to be of this witness.
    pub fn is_of(&self, witness: &Witness) -> bool {
        self.name == witness.name && self.hint == witness.hint()
    }

    /// Whether the signature holds over this checkpoint.
    pub fn holds(&self, key: &PublicKey, checkpoint: &Checkpoint) -> bool {
        sm2::verify(key, &message(&checkpoint.text(), self.time), &self.signature)
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.name.as_bytes());
        out.extend_from_slice(&self.hint);
        out.extend_from_slice(&self.time.to_be_bytes());
        out.extend_from_slice(&self.signature.0);
    }

    fn take(r: &mut Reader<'_>) -> Result<Cosignature, DecodeError> {
        let name = core::str::from_utf8(r.bytes("name of a witness", WITNESS_NAME_MAX)?);
        let name = name.ok().filter(|name| is_witness_name(name));
        let name = name.ok_or(DecodeError::Fixed { what: "name of a witness" })?.to_string();
        let (hint, time) = (r.array()?, r.u64()?);
        Ok(Cosignature { name, hint, time, signature: Signature(r.array()?) })
    }

    fn to_json(&self) -> Json {
        object([
            ("name", Json::of(self.name.as_str())),
            ("hint", Json::hex(&self.hint)),
            ("time", Json::Int(self.time.into())),
            ("signature", Json::hex(&self.signature.0)),
        ])
    }

    fn from_json(json: &Json) -> JsonResult<Cosignature> {
        let o = json.object(&["name", "hint", "time", "signature"])?;
        Ok(Cosignature {
            name: o.need("name", name_from_json)?,
            hint: o.need("hint", Json::array)?,
            time: o.need("time", Json::int)?,
            signature: Signature(o.need("signature", Json::array)?),
        })
    }
}

/// Reads the name of a witness.
pub(crate) fn name_from_json(json: &Json) -> JsonResult<String> {
    match json.text()? {
        name if is_witness_name(name) => Ok(name.to_string()),
        _ => wrong("must be 1 to 64 bytes without white space, control characters and +"),
    }
}

impl TrustRoot {
    /// The witnesses whose cosignature holds, as places in the trust root, ascending. Refused at
    /// step `witness` where one that is known does not hold.
    pub fn witnesses_of(
        &self,
        checkpoint: &Checkpoint,
        cosignatures: &[Cosignature],
    ) -> Result<Vec<u32>, Refusal> {
        let mut found = Vec::new();
        for (i, witness) in (0u32..).zip(&self.witnesses) {
            let mut own = cosignatures.iter().filter(|one| one.is_of(witness)).peekable();
            if own.peek().is_some() {
                found.push(i);
            }
            if !own.all(|one| one.holds(&witness.key, checkpoint)) {
                let detail = alloc::format!("the cosignature of {} does not hold", witness.name);
                return Err(Refusal::new(Step::Witness, detail));
            }
        }
        Ok(found)
    }
}

/// The part of a receipt that witnesses signed: a checkpoint whose log holds the certified header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// Number of headers in the log.
    pub size: u64,
    /// Its root.
    pub root: Digest,
    /// The way from the certified header to the root.
    pub proof: Vec<Digest>,
    /// Who signed it.
    pub cosignatures: Vec<Cosignature>,
}

impl Cosigned {
    /// Appends the encoding.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_vint(out, self.size);
        out.extend_from_slice(&self.root);
        put_digests(out, &self.proof);
        put_vint(out, self.cosignatures.len() as u64);
        self.cosignatures.iter().for_each(|one| one.put(out));
    }

    /// Takes the part.
    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Cosigned, DecodeError> {
        let (size, root) = (r.vint()?, r.array()?);
        let proof = r.digests("proof of the certified header", PROOF_MAX)?;
        let count = r.count("cosignatures", WITNESSES_MAX)?;
        let cosignatures = (0..count).map(|_| Cosignature::take(r)).collect::<Result<_, _>>()?;
        Ok(Cosigned { size, root, proof, cosignatures })
    }

    /// The part as JSON.
    pub(crate) fn to_json(&self) -> Json {
        object([
            ("size", Json::Int(self.size.into())),
            ("root", Json::hex(&self.root)),
            ("proof", Json::hexes(&self.proof)),
            ("cosignatures", {
                Json::List(self.cosignatures.iter().map(Cosignature::to_json).collect())
            }),
        ])
    }

    /// Reads JSON.
    pub(crate) fn from_json(json: &Json) -> JsonResult<Cosigned> {
        let o = json.object(&["size", "root", "proof", "cosignatures"])?;
        Ok(Cosigned {
            size: o.need("size", Json::int)?,
            root: o.need("root", Json::array)?,
            proof: o.need("proof", |json| digests(json, PROOF_MAX))?,
            cosignatures: o
                .need("cosignatures", |json| json.list(WITNESSES_MAX, Cosignature::from_json))?,
        })
    }
}

/// Step `witness`: how many known witnesses signed a log that holds the certified header, which
/// must be as many as the trust root demands.
pub(crate) fn check_witnesses(
    trust: &TrustRoot,
    certified: &Header,
    cosigned: Option<&Cosigned>,
) -> Result<u32, Refusal> {
    let mut found = 0;
    if let Some(cosigned) = cosigned {
        let (index, size) = (certified.height, cosigned.size);
        let root = root_from_inclusion(&certified.leaf(), index, size, &cosigned.proof);
        if root != Some(cosigned.root) {
            let detail = alloc::format!("the cosigned log of {size} does not hold block {index}");
            return Err(Refusal::new(Step::Witness, detail));
        }
        let checkpoint = Checkpoint::new(&trust.chain_id, size, cosigned.root);
        found = trust.witnesses_of(&checkpoint, &cosigned.cosignatures)?.len() as u32;
    }
    if found < trust.witness_quorum {
        let (known, wanted) = (trust.witnesses.len(), trust.witness_quorum);
        let detail = alloc::format!("{found} of {known} known witnesses cosigned, {wanted} must");
        return Err(Refusal::new(Step::Witness, detail));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::validators;

    /// A trust root of four validators that knows three witnesses and demands two.
    fn trust() -> (Vec<SecretKey>, TrustRoot) {
        let keys: Vec<SecretKey> =
            (21..24).map(|i| SecretKey::from_bytes(&[i; 32]).unwrap()).collect();
        let witnesses = keys.iter().enumerate().map(|(i, key)| Witness {
            name: alloc::format!("w{i}.example"),
            key: key.public_key(),
        });
        let trust = TrustRoot {
            chain_id: "test-1".into(),
            chain: [1; 32],
            epoch: 0,
            validators: validators(4).1,
            witnesses: witnesses.collect(),
            witness_quorum: 2,
        };
        (keys, trust)
    }

    #[test]
    fn shared_sizes_are_those_of_the_rule() {
        for newest in (0..2_100).chain([65_535, 65_536, 100_001]) {
            let all = (1..=newest).rev().filter(|size| is_shared(*size, newest));
            assert!(all.eq(shared_sizes(newest)), "{newest}");
        }
        let of = |newest| shared_sizes(newest).collect::<Vec<_>>();
        assert!(of(7).is_empty());
        assert_eq!(of(25), [24, 16, 8]);
        assert_eq!(of(1_000)[62..66], [504, 496, 480, 464]);
        assert_eq!((of(1_000_000_000).len(), of(u64::MAX).len()), (731, 1_823));
    }

    #[test]
    fn two_witnesses_meet_close_below_the_one_that_is_behind() {
        for ahead in (8..6_000).step_by(7) {
            for behind in (8..=ahead).step_by(13) {
                let met = shared_sizes(behind).find(|size| is_shared(*size, ahead)).unwrap_or(0);
                let below = behind - met;
                assert!(below < 8 || 31 * below < ahead - behind, "{behind} {ahead} {met}");
                // What is shared of the larger and not above the smaller is shared of it too.
                let kept = shared_sizes(ahead).filter(|size| *size <= behind);
                assert!(kept.into_iter().all(|size| is_shared(size, behind)));
            }
        }
    }

    #[test]
    fn lines_round_trip_and_only_lines_of_that_length_are_cosignatures() {
        let (keys, _) = trust();
        let checkpoint = Checkpoint::new("test-1", 3, [9; 32]);
        let cosignature = Cosignature::sign("w0.example", &keys[0], &checkpoint, 1_795_000_000);
        let line = cosignature.to_line();
        assert_eq!(Cosignature::of_line(&line), Some(cosignature));
        let short = SignatureLine { bytes: line.bytes[..75].to_vec(), ..line.clone() };
        assert_eq!(Cosignature::of_line(&short), None);
        let long = SignatureLine { name: "w".repeat(65), ..line };
        assert_eq!(Cosignature::of_line(&long), None);
    }

    #[test]
    fn known_witnesses_count_once_and_strangers_not_at_all() {
        let (keys, trust) = trust();
        let checkpoint = Checkpoint::new("test-1", 3, [9; 32]);
        let sign =
            |i: usize, name: &str, time| Cosignature::sign(name, &keys[i], &checkpoint, time);
        let of = |cosignatures: &[Cosignature]| trust.witnesses_of(&checkpoint, cosignatures);
        let (first, third) = (sign(0, "w0.example", 5), sign(2, "w2.example", 6));
        assert_eq!(of(&[]), Ok(Vec::new()));
        assert_eq!(of(&[third.clone(), first.clone()]), Ok(alloc::vec![0, 2]));
        assert_eq!(of(&[first.clone(), sign(0, "w0.example", 7)]), Ok(alloc::vec![0]));
        assert_eq!(of(&[sign(0, "w1.example", 5)]), Ok(Vec::new()), "another's name");
        let spoils: [fn(&mut Cosignature); 2] = [|c| c.time += 1, |c| c.signature.0[3] ^= 1];
        for spoil in spoils {
            let mut bad = first.clone();
            spoil(&mut bad);
            let step = of(&[third.clone(), first.clone(), bad]).map_err(|refusal| refusal.step);
            assert_eq!(step, Err(Step::Witness));
        }
    }
}
