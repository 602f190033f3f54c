//! Votes and certificates of the engine, signed with SM2.
//!
//! Shaped like the engine's own scheme for Ed25519: every voter signs for itself, a certificate is
//! the bitmap of those who signed and their signatures in the order of validators. Certificates
//! name their signers, so conflicting votes are evidence against the one who cast them.
//!
//! Invariants
//! - A validator's index is its position among the keys sorted by their 33 compressed bytes.
//! - A certificate counts only with a quorum: n - (n - 1) / 3 of n validators.
//! - The same subject always gets the same signature (the engine compares encoded votes).

use crate::key::{Key, Signature};
use crate::own::Own;
use bytes::BufMut;
use commonware_codec::types::lazy::Lazy;
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, Read, ReadRangeExt, Write};
use commonware_consensus::simplex::scheme::Namespace;
use commonware_consensus::simplex::types::Subject;
use commonware_cryptography::Digest;
use commonware_cryptography::certificate::{
    AssemblyError, Attestation, Membership, Namespace as _, Scheme as SchemeTrait, Signers,
    Subject as _, Verification, Verifier, verify_then_assemble,
};
use commonware_parallel::Strategy;
use commonware_utils::iter::NonEmpty;
use commonware_utils::ordered::{Quorum as _, Set};
use commonware_utils::{N3f1, Participant, union_unique};
use piaogen_crypto::Lanes;
use piaogen_crypto::sm2::{self, Job, KeyTable, PublicKey};
use rand::CryptoRng;
use std::fmt;
use std::sync::Arc;

/// Most validators that a set may have: what the genesis allows. What is read is bounded by it.
pub const VALIDATORS_MAX: u32 = piaogen_verify::header::VALIDATORS_MAX as u32;

/// Signs and checks votes of one validator set.
#[derive(Clone)]
pub struct Scheme {
    validators: Set<Key>,
    /// Of all keys, in their order: votes are checked several times faster with them.
    tables: Arc<[KeyTable]>,
    namespace: Namespace,
    signer: Option<(Participant, Own)>,
    lanes: Lanes,
}

impl Scheme {
    /// A scheme that checks and cannot sign.
    pub fn verifier(namespace: &[u8], validators: Set<Key>) -> Self {
        let keys: Vec<&PublicKey> = validators.iter().map(Key::point).collect();
        let (namespace, lanes) = (Namespace::derive(namespace), Lanes::detect());
        let tables = lanes.sm2_tables(&keys).into();
        Self { validators, tables, namespace, signer: None, lanes }
    }

    /// A scheme that also signs; `None` when the key is not of the set.
    pub fn signer(namespace: &[u8], validators: Set<Key>, own: impl Into<Own>) -> Option<Self> {
        let own = own.into();
        let index = validators.index(&Key::from(own.public_key()))?;
        let mut scheme = Self::verifier(namespace, validators);
        scheme.signer = Some((index, own));
        Some(scheme)
    }

    /// Remembers a vote of this validator that was cast before, so that it is cast again the same.
    pub(crate) fn remember<D: Digest>(&self, subject: Subject<'_, D>, cast: &Attestation<Self>) {
        if let (Some((index, own)), Some(signature)) = (&self.signer, cast.signature.get())
            && *index == cast.signer
        {
            own.remember(subject.namespace(&self.namespace), &subject.message(), *signature);
        }
    }

    /// How many votes make a certificate.
    pub fn quorum(&self) -> u32 {
        self.validators.quorum::<N3f1>()
    }

    /// Whether each of these signed the subject. All in one call: lanes take eight at the price of
    /// one.
    fn verdicts<'a, D: Digest>(
        &self,
        subject: &Subject<'_, D>,
        votes: impl Iterator<Item = (Participant, &'a Lazy<Signature>)>,
    ) -> Vec<bool> {
        let message = union_unique(subject.namespace(&self.namespace), &subject.message());
        let readable: Vec<Option<(&KeyTable, sm2::Signature)>> = votes
            .map(|(who, vote)| {
                Some((self.tables.get(usize::from(who))?, sm2::Signature(vote.get()?.0)))
            })
            .collect();
        let (jobs, tables): (Vec<Job<'_>>, Vec<_>) = readable
            .iter()
            .flatten()
            .map(|(table, signature)| {
                (Job { key: table.key(), message: &message, signature }, Some(*table))
            })
            .unzip();
        let mut verdicts = vec![false; jobs.len()];
        self.lanes.sm2_verify_known(&jobs, &tables, &mut verdicts);
        let mut verdicts = verdicts.into_iter();
        readable.iter().map(|vote| vote.is_some() && verdicts.next() == Some(true)).collect()
    }
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret key stays out of logs.
        let index = self.signer.as_ref().map(|(index, _)| *index);
        f.debug_struct("Scheme")
            .field("validators", &self.validators)
            .field("signer", &index)
            .finish()
    }
}

impl Verifier for Scheme {
    type Subject<'a, D: Digest> = Subject<'a, D>;
    type Faults = N3f1;
    type PublicKey = Key;
    type Certificate = Certificate;

    fn verify_certificate<R: CryptoRng, D: Digest>(
        &self,
        _: &mut R,
        subject: Subject<'_, D>,
        certificate: &Certificate,
        _: &impl Strategy,
    ) -> bool {
        let Certificate { signers, signatures } = certificate;
        // The bitmap's length is only bounded when it is read; here it must be the set's.
        signers.len() == self.validators.len()
            && signers.count() == signatures.len()
            && signers.count() >= self.quorum() as usize
            && self
                .verdicts(&subject, signers.iter().zip(signatures))
                .into_iter()
                .all(|holds| holds)
    }

    /// Each vote is checked as it comes, not with others when they may be a quorum: else who says two
    /// things is seen less often, since votes behind a quorum are never looked at.
    fn is_batchable() -> bool {
        false
    }

    fn max_certificate_size(participants: u32) -> usize {
        let n = participants as usize;
        u64::SIZE + n.div_ceil(8) + 5 + n * Signature::SIZE
    }

    fn certificate_codec_config(&self) -> usize {
        self.validators.len()
    }

    fn certificate_codec_config_unbounded() -> usize {
        VALIDATORS_MAX as usize
    }
}

impl SchemeTrait for Scheme {
    type Signature = Signature;

    fn me(&self) -> Option<Membership> {
        self.signer.as_ref().map(|(index, _)| Membership::Signer(*index))
    }

    fn participants(&self) -> &Set<Key> {
        &self.validators
    }

    fn sign<D: Digest>(&self, subject: Subject<'_, D>) -> Option<Attestation<Self>> {
        let (index, own) = self.signer.as_ref()?;
        let signature = own.vote(subject.namespace(&self.namespace), &subject.message())?;
        Some(Attestation { signer: *index, signature: signature.into() })
    }

    fn verify_attestation<R: CryptoRng, D: Digest>(
        &self,
        _: &mut R,
        subject: Subject<'_, D>,
        attestation: &Attestation<Self>,
        _: &impl Strategy,
    ) -> bool {
        let vote = (attestation.signer, &attestation.signature);
        self.verdicts(&subject, std::iter::once(vote)) == [true]
    }

    fn verify_attestations<R, D, I>(
        &self,
        _: &mut R,
        subject: Subject<'_, D>,
        attestations: I,
        _: &impl Strategy,
    ) -> Verification<Self>
    where
        R: CryptoRng,
        D: Digest,
        I: IntoIterator<Item = Attestation<Self>>,
        I::IntoIter: Send,
    {
        let votes: Vec<Attestation<Self>> = attestations.into_iter().collect();
        let pairs = votes.iter().map(|vote| (vote.signer, &vote.signature));
        let verdicts = self.verdicts(&subject, pairs);
        let (mut verified, mut invalid) = (Vec::new(), Vec::new());
        for (vote, holds) in votes.into_iter().zip(verdicts) {
            match holds {
                true => verified.push(vote),
                false => invalid.push(vote.signer),
            }
        }
        Verification::new(verified, invalid)
    }

    fn optimistic_assemble<'a, R, D, I, J>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        pending: I,
        verified: J,
        strategy: &impl Strategy,
    ) -> Result<Certificate, Verification<Self>>
    where
        R: CryptoRng,
        D: Digest,
        I: IntoIterator<Item = Attestation<Self>>,
        I::IntoIter: ExactSizeIterator + Send,
        J: IntoIterator<Item = &'a Attestation<Self>>,
        J::IntoIter: Send,
    {
        // A certificate check costs the same as its signatures, so nothing is gained by guessing.
        verify_then_assemble::<_, _, D, _, _>(self, rng, subject, pending, verified, strategy)
    }

    fn assemble<I>(
        &self,
        attestations: NonEmpty<I>,
        _: &impl Strategy,
    ) -> Result<Certificate, AssemblyError>
    where
        I: Iterator<Item = Attestation<Self>> + Send,
    {
        let mut votes = Vec::new();
        for Attestation { signer, signature } in attestations {
            self.validators.key(signer).ok_or(AssemblyError::UnknownSigner(signer))?;
            let signature = *signature.get().ok_or(AssemblyError::MalformedSignature(signer))?;
            votes.push((signer, signature));
        }
        votes.sort_by_key(|(signer, _)| *signer);
        let (who, signatures): (Vec<Participant>, Vec<Signature>) = votes.into_iter().unzip();
        let signers = Signers::try_from((&self.validators, who))?;
        let found = u32::try_from(signers.count()).unwrap_or(u32::MAX);
        if found < self.quorum() {
            return Err(AssemblyError::InsufficientAttestations(self.quorum(), found));
        }
        Ok(Certificate { signers, signatures: signatures.into_iter().map(Lazy::from).collect() })
    }

    fn is_attributable() -> bool {
        true
    }
}

/// Who signed, and their signatures in the order of validators.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// One bit a validator.
    pub signers: Signers,
    /// One signature a set bit.
    pub signatures: Vec<Lazy<Signature>>,
}

impl Write for Certificate {
    fn write(&self, buf: &mut impl BufMut) {
        self.signers.write(buf);
        self.signatures.write(buf);
    }
}

impl EncodeSize for Certificate {
    fn encode_size(&self) -> usize {
        self.signers.encode_size() + self.signatures.encode_size()
    }
}

impl Read for Certificate {
    /// Most validators that a certificate may speak of.
    type Cfg = usize;

    fn read_cfg(buf: &mut impl Buf, validators: &usize) -> Result<Self, Error> {
        let signers = Signers::read_cfg(buf, validators)?;
        if signers.count() == 0 {
            return Err(Error::Invalid("certificate", "nobody signed"));
        }
        let signatures = Vec::<Lazy<Signature>>::read_range(buf, ..=*validators)?;
        if signers.count() != signatures.len() {
            return Err(Error::Invalid("certificate", "as many signatures as signers expected"));
        }
        Ok(Self { signers, signatures })
    }
}
