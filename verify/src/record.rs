//! Records: one signed message of the stream (`FORMAT.md` section 4).
//!
//! Decoding borrows from the message and checks every value against its type, so that what follows
//! only has to ask what the values mean. Whatever fails here is malformed and becomes a leaf that
//! says which field and why.
//!
//! Invariants
//! - The signature covers the commitment, never the encoding.
//! - Decoding a record that was encoded here gives the same record; no other bytes decode to it.

use crate::document::{SECRET_LEN, Secret, commitment, field_digest, find};
use crate::encoding::{Reader, put_bytes, put_vint};
use crate::fields::{DOCUMENT, EVENT, Field, REGISTRY, Tag, by_tag, tag};
use crate::scheme::Scheme;
use crate::value::{self, Cause, Flaw};
use alloc::vec::Vec;
use piaogen_crypto::sm2::{SecretKey, SignError, Signature, Signer};
use piaogen_crypto::{Digest, sm3};

/// Most bytes of a record.
pub const RECORD_MAX: usize = 65_536;
/// Most fields of a document.
pub const FIELDS_MAX: u64 = 128;
/// The subject of a policy under the scheme of registry records.
pub const POLICY_SUBJECT: &[u8] = b"POLICY";
/// The subject of a validator set there.
pub const VALIDATORS_SUBJECT: &[u8] = b"VALIDATORS";
/// The scheme under which registry records have their subjects.
pub const REGISTRY_SCHEME: &str = "REGISTRY";
const MAGIC: [u8; 3] = *b"PR\x01";
const HEAD: usize = 44;
const SIGNATURE: usize = 64;
const DOMAIN: &[u8; 14] = b"piaogen/rec/1\n";
/// Length of what is signed.
pub const SIGNED_LEN: usize = 87;

/// What the body of a record is, and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A document: the record creates an invoice.
    Invoice,
    /// What happens to an invoice that is there.
    Event,
    /// A change of the registry.
    Registry,
}

macro_rules! record_kinds {
    ($($class:ident {
        $($(#[doc = $doc:literal])+ $kind:ident = $code:literal $name:literal,)+
    })+) => {
        /// What a record is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum RecordKind {
            $($($(#[doc = $doc])+ $kind = $code,)+)+
        }

        impl RecordKind {
            /// All kinds, in the order of their numbers.
            pub const ALL: &'static [RecordKind] = &[$($(RecordKind::$kind,)+)+];

            /// The name in JSON and in the archive.
            pub fn name(self) -> &'static str {
                match self {
                    $($(RecordKind::$kind => $name,)+)+
                }
            }

            /// What its body is.
            pub fn class(self) -> Class {
                match self {
                    $($(RecordKind::$kind)|+ => Class::$class,)+
                }
            }
        }
    };
}

record_kinds! {
    Invoice {
        /// A blue (ordinary) invoice.
        Issue = 1 "issue",
        /// A red (credit) invoice.
        IssueRed = 2 "issue_red",
        /// An invoice of another system, brought here by an accredited importer.
        Import = 3 "import",
    }
    Event {
        /// One more file in which the invoice exists.
        AddFile = 4 "add_file",
        /// A correction that changes neither value, nor party, nor date.
        Correct = 5 "correct",
        /// The invoice is void.
        Void = 6 "void",
        /// The seller announces a red invoice for one that is neither used nor booked.
        RedRequest = 7 "red_request",
        /// Seller or buyer opens a red-letter slip.
        SlipOpen = 8 "slip_open",
        /// The other side confirms the slip.
        SlipConfirm = 9 "slip_confirm",
        /// The other side refuses the slip.
        SlipRefuse = 10 "slip_refuse",
        /// Who opened the slip withdraws it.
        SlipWithdraw = 11 "slip_withdraw",
        /// The slip's deadline has passed.
        SlipExpire = 12 "slip_expire",
        /// A red invoice takes its effect on its original.
        RedApply = 13 "red_apply",
        /// What the authority says has happened elsewhere.
        AuthorityFact = 14 "authority_fact",
        /// The authority's risk level.
        RiskMark = 15 "risk_mark",
        /// An order that freezes the invoice.
        Freeze = 16 "freeze",
        /// The end of such an order.
        Unfreeze = 17 "unfreeze",
        /// The buyer selects the invoice for deduction.
        Select = 18 "select",
        /// The buyer takes that back.
        Unselect = 19 "unselect",
        /// The authority confirms the deduction.
        ConfirmDeduction = 20 "confirm_deduction",
        /// Deducted tax is transferred out.
        TransferOut = 21 "transfer_out",
        /// The buyer marks the invoice as not deductible.
        NonDeductible = 22 "non_deductible",
        /// The invoice is used for an export rebate.
        ExportRebate = 23 "export_rebate",
        /// The export rebate is rolled back.
        ExportRollback = 24 "export_rollback",
        /// A reimbursement is claimed.
        ClaimOpen = 25 "claim_open",
        /// A claim is rejected or withdrawn.
        ClaimClose = 26 "claim_close",
        /// A unit books the invoice.
        Book = 27 "book",
        /// A booking is revoked.
        Unbook = 28 "unbook",
        /// The archive file of a booking.
        Archive = 29 "archive",
        /// The buyer is asked to confirm the debt.
        ConfirmRequest = 30 "confirm_request",
        /// The buyer confirms the debt.
        BuyerConfirm = 31 "buyer_confirm",
        /// The buyer disputes an amount.
        BuyerDispute = 32 "buyer_dispute",
        /// The buyer refuses to confirm.
        BuyerRefuse = 33 "buyer_refuse",
        /// A dispute ends.
        DisputeResolve = 34 "dispute_resolve",
        /// The seller lets a bank ask, hold or finance.
        ConsentGrant = 35 "consent_grant",
        /// The seller takes that back.
        ConsentRevoke = 36 "consent_revoke",
        /// A bank reserves capacity.
        FinanceHold = 37 "finance_hold",
        /// The holder gives the reservation up.
        HoldCancel = 38 "hold_cancel",
        /// The reservation's time is over.
        HoldExpire = 39 "hold_expire",
        /// A bank finances the invoice.
        FinanceOpen = 40 "finance_open",
        /// The buyer is told of the assignment.
        Notice = 41 "notice",
        /// The buyer has taken note.
        NoticeAck = 42 "notice_ack",
        /// The financing's number in an external registry.
        RegistryRef = 43 "registry_ref",
        /// The holder consents to a red invoice.
        ConsentRed = 44 "consent_red",
        /// The holder releases a part or all.
        Release = 45 "release",
        /// The financing is settled.
        Settle = 46 "settle",
        /// The holder offers the financing to another bank.
        FinanceTransfer = 47 "finance_transfer",
        /// That bank takes it over.
        TransferAccept = 48 "transfer_accept",
        /// The financing is in default.
        Default = 49 "default",
        /// The default is cured.
        Cure = 50 "cure",
        /// A payment on the invoice.
        Payment = 51 "payment",
        /// The payee has received it.
        PaymentAck = 52 "payment_ack",
        /// Somebody asked, and wants that on record.
        Query = 53 "query",
    }
    Registry {
        /// A participant and its first key, or one more key.
        Register = 64 "register",
        /// A new key in place of the signing one.
        Rotate = 65 "rotate",
        /// A key that is valid no longer.
        Revoke = 66 "revoke",
        /// A participant may act for another.
        Delegate = 67 "delegate",
        /// The end of that.
        DelegateEnd = 68 "delegate_end",
        /// Parameters that execution follows, from a height on.
        Policy = 69 "policy",
        /// Who finalizes blocks from the next epoch on.
        Validators = 70 "validators",
    }
}

impl RecordKind {
    /// The kind with this number.
    pub fn from_code(code: u8) -> Option<RecordKind> {
        let at = RecordKind::ALL.binary_search_by_key(&code, |kind| *kind as u8).ok()?;
        Some(RecordKind::ALL[at])
    }

    /// Whether the body is a document.
    pub fn is_invoice(self) -> bool {
        self.class() == Class::Invoice
    }

    /// Whether it belongs to the registry.
    pub fn is_registry(self) -> bool {
        self.class() == Class::Registry
    }

    /// The fields that its body may have.
    pub fn table(self) -> &'static [Field] {
        match self.class() {
            Class::Invoice => DOCUMENT,
            Class::Event => EVENT,
            Class::Registry => REGISTRY,
        }
    }
}

/// A decoded record, borrowed from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// Key id of the signer, as named.
    pub signer: Digest,
    /// When it was signed, by the signer's clock, in milliseconds since 1970.
    pub signed_at: i64,
    /// The secret of the document or event; zeros for a registry record.
    pub secret: Secret,
    /// Tags ascending, values canonical.
    pub fields: Vec<(Tag, &'a [u8])>,
    /// The signature, not checked.
    pub signature: Signature,
    /// The encoded body, without the secret.
    body: &'a [u8],
}

/// Why a record cannot be read, and what could be read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its kind, where known.
    pub kind: Option<RecordKind>,
    /// The key id that it names; zeros where that could not be read.
    pub signer: Digest,
    /// The field at fault; 0 for the envelope.
    pub tag: Tag,
    /// What is wrong.
    pub flaw: Flaw,
}

/// Reads a record in compact encoding.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, Unreadable> {
    let mut unreadable =
        Unreadable { kind: None, signer: [0; 32], tag: 0, flaw: Cause::Encoding.into() };
    if bytes.len() > RECORD_MAX {
        let (value, limit) = (bytes.len() as u64, RECORD_MAX as u64);
        unreadable.flaw = Flaw::Limit { value, limit };
        return Err(unreadable);
    }
    if bytes.len() < HEAD + SIGNATURE || bytes[..3] != MAGIC {
        return Err(unreadable);
    }
    let mut head = Reader::new(&bytes[4..HEAD]);
    let (Ok(signer), Ok(signed_at)) = (head.array(), head.i64()) else { return Err(unreadable) };
    unreadable.signer = signer;
    let Some(kind) = RecordKind::from_code(bytes[3]) else {
        unreadable.flaw = Cause::UnknownKind.into();
        return Err(unreadable);
    };
    unreadable.kind = Some(kind);
    let (body, signature) = bytes[HEAD..].split_at(bytes.len() - HEAD - SIGNATURE);
    let signature = Signature(signature.try_into().map_err(|_| unreadable)?);
    let (secret, body) = match kind.is_registry() {
        false => body.split_first_chunk::<SECRET_LEN>().ok_or(unreadable)?,
        true => (&[0; SECRET_LEN], body),
    };
    let fields = decode_fields(body, kind.table()).map_err(|(tag, flaw)| Unreadable {
        tag,
        flaw,
        ..unreadable
    })?;
    Ok(Record { kind, signer, signed_at, secret: *secret, fields, signature, body })
}

type FieldFlaw = (Tag, Flaw);

fn decode_fields<'a>(
    body: &'a [u8],
    table: &'static [Field],
) -> Result<Vec<(Tag, &'a [u8])>, FieldFlaw> {
    let mut reader = Reader::new(body);
    let envelope = |error: crate::encoding::DecodeError| (0, Flaw::from(error));
    let count = reader.count("fields", FIELDS_MAX).map_err(envelope)?;
    let mut fields: Vec<(Tag, &'a [u8])> = Vec::with_capacity(count);
    // Both the fields and the table ascend, so one walk along the table finds all.
    let mut ahead = table;
    for _ in 0..count {
        let wide = reader.vint().map_err(envelope)?;
        let tag = Tag::try_from(wide).map_err(|_| (0, Flaw::from(Cause::UnknownTag)))?;
        while let [field, rest @ ..] = ahead
            && field.tag < tag
        {
            ahead = rest;
        }
        let field = match ahead.first() {
            Some(field) if field.tag == tag => field,
            // Out of order, or unknown.
            _ => by_tag(table, tag).ok_or((tag, Flaw::from(Cause::UnknownTag)))?,
        };
        if fields.last().is_some_and(|(last, _)| *last >= tag) {
            return Err((tag, Cause::Order.into()));
        }
        let bytes =
            reader.bytes("value", RECORD_MAX as u64).map_err(|error| (tag, error.into()))?;
        value::check(field.kind, bytes).map_err(|flaw| (tag, flaw))?;
        fields.push((tag, bytes));
    }
    reader.end().map_err(envelope)?;
    Ok(fields)
}

impl<'a> Record<'a> {
    /// The canonical bytes of a field.
    #[inline]
    pub fn get(&self, tag: Tag) -> Option<&'a [u8]> {
        let at = self.fields.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?;
        Some(self.fields[at].1)
    }

    /// The commitment, computed alone; batches use [`crate::document::Committer`].
    pub fn commitment(&self) -> Digest {
        body_commitment(self.kind, &self.secret, &self.fields, || self.body.to_vec())
    }

    /// The encoded body, without the secret.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// What the signer signed, given the commitment.
    pub fn signed(&self, chain: &Digest, commitment: &Digest) -> [u8; SIGNED_LEN] {
        signed(chain, self.kind, self.signed_at, commitment)
    }

    /// The subject, or the field that is missing for it.
    pub fn subject(&self, schemes: &[Scheme]) -> Result<Vec<u8>, Tag> {
        let mut out = Vec::new();
        self.put_subject(schemes, &mut out)?;
        Ok(out)
    }

    /// Appends the subject, or says which field is missing for it.
    pub fn put_subject(&self, schemes: &[Scheme], out: &mut Vec<u8>) -> Result<(), Tag> {
        match self.kind.class() {
            Class::Invoice | Class::Event => {
                let scheme = self.get(tag::SCHEME).ok_or(tag::SCHEME)?;
                let number = self.get(tag::NUMBER).ok_or(tag::NUMBER)?;
                let per_seller =
                    Scheme::find(schemes, scheme).is_some_and(|scheme| scheme.per_seller);
                let seller = match per_seller {
                    true => Some(self.get(tag::SELLER_PARTY).ok_or(tag::SELLER_PARTY)?),
                    false => None,
                };
                put_subject(out, scheme, seller, number);
            }
            Class::Registry if self.kind == RecordKind::Revoke => {
                let key = self.get(tag::REVOKED_KEY).ok_or(tag::REVOKED_KEY)?;
                put_subject(out, REGISTRY_SCHEME.as_bytes(), None, hex::encode(key).as_bytes());
            }
            Class::Registry => {
                let party = match self.kind {
                    RecordKind::Policy => POLICY_SUBJECT,
                    RecordKind::Validators => VALIDATORS_SUBJECT,
                    _ => self.get(tag::PARTY).ok_or(tag::PARTY)?,
                };
                put_subject(out, REGISTRY_SCHEME.as_bytes(), None, party);
            }
        }
        Ok(())
    }
}

/// The subject of a scheme and number; with a seller where the scheme numbers per seller.
pub fn subject(scheme: &[u8], seller: Option<&[u8]>, number: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + scheme.len() + number.len());
    put_subject(&mut out, scheme, seller, number);
    out
}

fn put_subject(out: &mut Vec<u8>, scheme: &[u8], seller: Option<&[u8]>, number: &[u8]) {
    put_bytes(out, scheme);
    match seller {
        None => put_bytes(out, number),
        Some(seller) => {
            put_vint(out, (seller.len() + 1 + number.len()) as u64);
            out.extend_from_slice(seller);
            out.push(b':');
            out.extend_from_slice(number);
        }
    }
}

/// Scheme and number of a subject, for people. `None` where it is empty or not a subject.
pub fn subject_parts(subject: &[u8]) -> Option<(&str, &str)> {
    let mut reader = Reader::new(subject);
    let scheme = reader.bytes("scheme", 64).ok()?;
    let number = reader.bytes("number", 256).ok()?;
    reader.end().ok()?;
    Some((core::str::from_utf8(scheme).ok()?, core::str::from_utf8(number).ok()?))
}

/// Prefix of the hash that places a subject.
pub const PARTITION_PREFIX: u8 = 8;

/// The partition of a subject among `partitions` (section 3).
pub fn partition(subject: &[u8], partitions: u32) -> u32 {
    partition_of(&sm3::hash_parts(&[&[PARTITION_PREFIX], subject]), partitions)
}

/// The partition that follows from the hash of [`PARTITION_PREFIX`] and a subject.
pub fn partition_of(digest: &Digest, partitions: u32) -> u32 {
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    (u64::from_be_bytes(first) % u64::from(partitions.max(1))) as u32
}

/// What is signed for a record.
pub fn signed(
    chain: &Digest,
    kind: RecordKind,
    signed_at: i64,
    commitment: &Digest,
) -> [u8; SIGNED_LEN] {
    let mut message = [0; SIGNED_LEN];
    message[..14].copy_from_slice(DOMAIN);
    message[14..46].copy_from_slice(chain);
    message[46] = kind as u8;
    message[47..55].copy_from_slice(&signed_at.to_be_bytes());
    message[55..].copy_from_slice(commitment);
    message
}

/// Prefix of the commitment of an event: it is the hash of this, the secret and the body.
pub const EVENT_PREFIX: u8 = 14;

fn body_commitment<V: AsRef<[u8]>>(
    kind: RecordKind,
    secret: &Secret,
    fields: &[(Tag, V)],
    body: impl FnOnce() -> Vec<u8>,
) -> Digest {
    match kind.class() {
        Class::Registry => sm3::hash_parts(&[&[13], &body()]),
        Class::Event => sm3::hash_parts(&[&[EVENT_PREFIX], secret, &body()]),
        Class::Invoice => {
            let mut salts = crate::document::Salts::new(*secret);
            let digest = |(tag, bytes): &(Tag, V)| {
                (*tag, field_digest(*tag, &salts.get(u32::from(*tag)), bytes.as_ref()))
            };
            commitment(&fields.iter().map(digest).collect::<Vec<_>>())
        }
    }
}

/// The commitment of a record that cannot be read.
pub fn unreadable_commitment(bytes: &[u8]) -> Digest {
    sm3::hash_parts(&[&[7], bytes])
}

/// A record before it is signed.
#[derive(Clone, Debug)]
pub struct Draft<'a, V> {
    /// What it is.
    pub kind: RecordKind,
    /// Milliseconds since 1970.
    pub signed_at: i64,
    /// The secret of the document or event; not used for a registry record.
    pub secret: Secret,
    /// Tags ascending, values canonical.
    pub fields: &'a [(Tag, V)],
}

impl<V: AsRef<[u8]>> Draft<'_, V> {
    /// The commitment of the record.
    pub fn commitment(&self) -> Digest {
        body_commitment(self.kind, &self.secret, self.fields, || {
            let mut body = Vec::new();
            self.put_fields(&mut body);
            body
        })
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        put_vint(out, self.fields.len() as u64);
        for (tag, bytes) in self.fields {
            put_vint(out, u64::from(*tag));
            put_bytes(out, bytes.as_ref());
        }
    }

    /// The compact encoding under a signature over [`signed`].
    pub fn encode(&self, signer: &Digest, signature: &Signature) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&MAGIC);
        out.push(self.kind as u8);
        out.extend_from_slice(signer);
        out.extend_from_slice(&self.signed_at.to_be_bytes());
        if !self.kind.is_registry() {
            out.extend_from_slice(&self.secret);
        }
        self.put_fields(&mut out);
        out.extend_from_slice(&signature.0);
        out
    }

    /// Signs and encodes.
    pub fn sign(&self, chain: &Digest, key: &SecretKey) -> Vec<u8> {
        let message = signed(chain, self.kind, self.signed_at, &self.commitment());
        self.encode(&key.public_key().key_id(), &key.sign(&message))
    }

    /// As [`Draft::sign`], with a key that may be out of reach.
    ///
    /// # Errors
    /// What the key's device said.
    pub fn sign_by(&self, chain: &Digest, key: &dyn Signer) -> Result<Vec<u8>, SignError> {
        let message = signed(chain, self.kind, self.signed_at, &self.commitment());
        Ok(self.encode(&key.public_key().key_id(), &key.try_sign(&message)?))
    }
}

impl<'a> Record<'a> {
    /// The record as a draft, to encode it again.
    pub fn draft(&self) -> Draft<'_, &'a [u8]> {
        Draft {
            kind: self.kind,
            signed_at: self.signed_at,
            secret: self.secret,
            fields: &self.fields,
        }
    }

    /// The value of a text field; empty where it is absent.
    pub fn text(&self, tag: Tag) -> &'a str {
        self.get(tag).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }

    /// The amount of a field; zero where it is absent.
    pub fn amount(&self, tag: Tag) -> i128 {
        find(&self.fields, tag).and_then(|bytes| value::amount_of(bytes).ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Fields;

    fn key() -> SecretKey {
        SecretKey::from_bytes(&[7; 32]).unwrap()
    }

    fn fields() -> Fields {
        let mut fields = Fields::new();
        fields.set_text(tag::NUMBER, "A-1");
        fields.set_text(tag::SCHEME, "CN-EINV");
        fields.set_amount(tag::TOTAL_GROSS, 11_300);
        fields
    }

    fn encoded() -> Vec<u8> {
        let fields = fields();
        let draft = Draft {
            kind: RecordKind::Issue,
            signed_at: 5,
            secret: [9; 16],
            fields: fields.pairs(),
        };
        draft.sign(&[1; 32], &key())
    }

    #[test]
    fn a_record_decodes_to_itself_and_its_signature_holds() {
        let bytes = encoded();
        let record = decode(&bytes).unwrap();
        assert_eq!(record.draft().encode(&record.signer, &record.signature), bytes);
        let message = record.signed(&[1; 32], &record.commitment());
        assert!(piaogen_crypto::sm2::verify(&key().public_key(), &message, &record.signature));
        let other = record.signed(&[2; 32], &record.commitment());
        assert!(!piaogen_crypto::sm2::verify(&key().public_key(), &other, &record.signature));
    }

    #[test]
    fn cut_or_changed_anywhere_it_never_panics_and_never_decodes_to_the_same() {
        let bytes = encoded();
        let original = decode(&bytes).unwrap();
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err() || end > HEAD + SIGNATURE);
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(decode(&changed).as_ref(), Ok(&original), "byte {at}");
        }
    }

    #[test]
    fn each_malformed_record_is_named() {
        let bytes = encoded();
        let first_tag = HEAD + SECRET_LEN + 1;
        let with = |at: usize, value: u8| {
            let mut changed = bytes.clone();
            changed[at] = value;
            decode(&changed).map(|_| ()).map_err(|u| (u.tag, u.flaw))
        };
        assert_eq!(with(0, 0), Err((0, Cause::Encoding.into())));
        assert_eq!(with(2, 2), Err((0, Cause::Encoding.into())));
        assert_eq!(with(3, 63), Err((0, Cause::UnknownKind.into())));
        assert_eq!(with(first_tag, 4), Err((4, Cause::UnknownTag.into())));
        assert_eq!(with(first_tag + 2, b' '), Err((1, Cause::Characters.into())));
        assert_eq!(with(first_tag + 5, 1), Err((1, Cause::Order.into())));
        let long = alloc::vec![0; RECORD_MAX + 1];
        assert!(matches!(decode(&long), Err(Unreadable { flaw: Flaw::Limit { .. }, .. })));
    }

    #[test]
    fn partitions_are_stable() {
        let subject = subject(b"CN-EINV", None, b"25442000000000000001");
        assert_eq!(subject_parts(&subject), Some(("CN-EINV", "25442000000000000001")));
        assert!(partition(&subject, 96) < 96);
        assert_eq!(partition(&subject, 1), 0);
    }
}
