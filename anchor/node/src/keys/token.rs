//! Signs with a key of a PKCS#11 token, or opens a key that a token's key has closed.
//!
//! *Native*: the token has the SM2 key and an SM2 mechanism (a vendor's; the standard has none). It
//! is given e = SM3(Z ‖ M), 32 bytes, and returns r and s. Before anything else it must make a
//! signature that verifies: a token that knows the curve and signs ECDSA on it is told apart there.
//!
//! *Wrapped*: tokens without SM2 keep an AES key that never leaves them, and that opens a file with
//! the SM2 key (AES-256-GCM). The key is then in this process's memory, the file alone is worth
//! nothing, and taking the token away keeps the next start from happening. The file, as text:
//!
//! ```text
//! piaogen-wrapped-key 1
//! public <66 hex digits: the compressed key>
//! nonce <24 hex digits>
//! sealed <96 hex digits: the secret number, encrypted, then the tag>
//! ```
//!
//! The first two lines, each with its line feed, are authenticated with it.
//!
//! Invariants
//! - A module is loaded once in a process.
//! - A PIN that was refused is not tried a second time: tokens lock.
//! - Every signature of a token is verified before it is used.

use super::{Kept, TokenUri};
use anyhow::{Context, Result, anyhow, bail, ensure};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::vendor_defined::VendorDefinedMechanism;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use piaogen_crypto::Zeroizing;
use piaogen_crypto::sm2::{PublicKey, SecretKey, SignError, Signature, Signer, verify};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// First line of a wrapped key.
pub const WRAPPED: &str = "piaogen-wrapped-key 1\n";
/// Most bytes of such a file.
const WRAPPED_MAX: usize = 1_024;
/// The object id of curve sm2p256v1, in DER: what CKA_EC_PARAMS holds.
const SM2_CURVE: [u8; 10] = [0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d];
const NONCE_LENGTH: usize = 12;
const TAG_LENGTH: usize = 16;

/// A token that is open.
struct Opened {
    session: Session,
    key: ObjectHandle,
}

/// Opens the key that a URI names.
pub(super) fn open(uri: &TokenUri) -> Result<Arc<dyn Signer>> {
    match &uri.wrapped {
        Some(path) => Ok(Arc::new(Kept::new(unwrap(uri, path)?))),
        None => Ok(Arc::new(Native::open(uri)?)),
    }
}

fn module(path: &Path) -> Result<Pkcs11> {
    static LOADED: Mutex<Option<HashMap<PathBuf, Pkcs11>>> = Mutex::new(None);
    // A map of what was loaded is never half changed.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default();
    if let Some(module) = loaded.get(path) {
        return Ok(module.clone());
    }
    let place = path.display();
    let module = Pkcs11::new(path).map_err(|error| anyhow!("{error}")).with_context(|| {
        format!("module {place} cannot be loaded; install it, or correct module-path")
    })?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => bail!("module {place} does not start: {error}; see its own configuration"),
    }
    loaded.insert(path.into(), module.clone());
    Ok(module)
}

/// The one slot that the URI names.
fn slot(module: &Pkcs11, uri: &TokenUri) -> Result<Slot> {
    let (mut found, mut labels) = (Vec::new(), Vec::new());
    for slot in module.get_slots_with_initialized_token()? {
        let info = module.get_token_info(slot)?;
        let fits = |wanted: &Option<String>, is: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == is.trim_end())
        };
        labels.push(info.label().trim_end().to_owned());
        if fits(&uri.token, info.label())
            && fits(&uri.manufacturer, info.manufacturer_id())
            && fits(&uri.model, info.model())
            && fits(&uri.serial, info.serial_number())
            && uri.slot.is_none_or(|id| id == slot.id())
        {
            found.push(slot);
        }
    }
    match found[..] {
        [slot] => Ok(slot),
        [] => bail!(
            "the token is not there; the module sees {labels:?}: insert it, or correct token="
        ),
        _ => bail!("{} tokens are meant; add serial= or slot-id=", found.len()),
    }
}

/// The PIN, as a string that is overwritten.
fn pin(uri: &TokenUri) -> Result<AuthPin> {
    let pin = uri.pin.read("PIN")?;
    let text = std::str::from_utf8(&pin).context("the PIN is not UTF-8")?;
    Ok(AuthPin::from(text.to_owned()))
}

fn login(module: &Pkcs11, uri: &TokenUri, pin: &AuthPin, write: bool) -> Result<Session> {
    let slot = slot(module, uri)?;
    let session =
        if write { module.open_rw_session(slot)? } else { module.open_ro_session(slot)? };
    match session.login(UserType::User, Some(pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(Error::Pkcs11(RvError::PinLocked, _)) => {
            bail!("the PIN of the token is locked; unlock it with the security officer's PIN")
        }
        Err(Error::Pkcs11(
            RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
            _,
        )) => {
            let last = module.get_token_info(slot).is_ok_and(|info| info.user_pin_final_try());
            let warning = if last { " (one more wrong one locks the token)" } else { "" };
            bail!("the PIN is wrong{warning}; correct pin-source")
        }
        Err(error) => bail!("the token takes no login: {error}"),
    }
}

fn find(session: &Session, uri: &TokenUri, class: ObjectClass) -> Result<Vec<ObjectHandle>> {
    let mut template = vec![Attribute::Class(class)];
    template.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
    template.extend(uri.id.clone().map(Attribute::Id));
    Ok(session.find_objects(&template)?)
}

fn kind(class: ObjectClass) -> &'static str {
    match class {
        ObjectClass::PRIVATE_KEY => "private key",
        ObjectClass::PUBLIC_KEY => "public key",
        _ => "AES key",
    }
}

/// The one key that the URI names.
fn the_one(session: &Session, uri: &TokenUri, class: ObjectClass) -> Result<ObjectHandle> {
    match find(session, uri, class)?[..] {
        [key] => Ok(key),
        [] => bail!("the token has no {} {}; correct object= or id=", kind(class), uri.key()),
        ref many => bail!("the token has {} keys {}; add id=", many.len(), uri.key()),
    }
}

/// A key that the token signs with.
struct Native {
    uri: TokenUri,
    public: PublicKey,
    state: Mutex<State>,
}

struct State {
    opened: Option<Opened>,
    /// Gone for good after a refusal.
    pin: Option<AuthPin>,
}

impl Native {
    fn open(uri: &TokenUri) -> Result<Native> {
        let pin = pin(uri)?;
        let opened = Self::connect(uri, &pin)?;
        let public = public_key(&opened.session, uri)?;
        // A trial of its own kind of bytes, which no record, vote or note begins with.
        let signature = sign(&opened, uri, &public, b"piaogen key trial");
        signature.context(
            "the token does not sign SM2: a trial signature of e = SM3(Z, M) is no SM2 signature \
             (tokens without SM2 sign ECDSA); name the vendor's mechanism= if it has one, or keep \
             the key in a file that the token opens (piaogen keygen --wrap)",
        )?;
        let state = Mutex::new(State { opened: Some(opened), pin: Some(pin) });
        Ok(Native { uri: uri.clone(), public, state })
    }

    fn connect(uri: &TokenUri, pin: &AuthPin) -> Result<Opened> {
        let module = module(&uri.module)?;
        let session = login(&module, uri, pin, false)?;
        let key = the_one(&session, uri, ObjectClass::PRIVATE_KEY)?;
        let params = session.get_attributes(key, &[AttributeType::EcParams])?;
        ensure!(
            matches!(&params[..], [Attribute::EcParams(curve)] if *curve == SM2_CURVE),
            "the key is not on curve sm2p256v1 (1.2.156.10197.1.301); make one that is"
        );
        Ok(Opened { session, key })
    }

    /// Signs, in a new session where the last one is lost.
    fn try_twice(&self, message: &[u8]) -> Result<Signature> {
        // After a panic in between the session is opened anew.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = state.opened.take()
            && let Ok(signature) = sign(&opened, &self.uri, &self.public, message)
        {
            state.opened = Some(opened);
            return Ok(signature);
        }
        let pin = state.pin.take().context("the token has refused the PIN; restart")?;
        let opened = Self::connect(&self.uri, &pin)?;
        state.pin = Some(pin);
        let signature = sign(&opened, &self.uri, &self.public, message)?;
        state.opened = Some(opened);
        Ok(signature)
    }
}

impl Signer for Native {
    fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    fn try_sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        self.try_twice(message)
            .map_err(|error| SignError { reason: format!("{}: {error:#}", self.uri) })
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Native({})", self.uri)
    }
}

fn public_key(session: &Session, uri: &TokenUri) -> Result<PublicKey> {
    let key = the_one(session, uri, ObjectClass::PUBLIC_KEY)?;
    let point = session.get_attributes(key, &[AttributeType::EcPoint])?;
    let [Attribute::EcPoint(point)] = &point[..] else {
        bail!("the token does not tell the public key; make its public object readable")
    };
    // In an OCTET STRING, as the standard says, or bare, as some do.
    let bare = point.strip_prefix(&[0x04, 0x41]).filter(|point| point.len() == 65);
    Ok(PublicKey::from_sec1(bare.unwrap_or(point))?)
}

fn sign(opened: &Opened, uri: &TokenUri, public: &PublicKey, message: &[u8]) -> Result<Signature> {
    let mechanism = match uri.mechanism {
        None => Mechanism::Ecdsa,
        Some(number) => {
            let kind = MechanismType::new_vendor_defined(number).map_err(|_| {
                anyhow!("mechanism={number:#x} is no vendor's; those begin at 0x80000000")
            })?;
            Mechanism::VendorDefined(VendorDefinedMechanism::new::<()>(kind, None))
        }
    };
    let e = public.message_digest(message);
    let bytes = opened.session.sign(&mechanism, opened.key, &e)?;
    let signature = signature_of(&bytes)?;
    ensure!(verify(public, message, &signature), "what the token returned is no SM2 signature");
    Ok(signature)
}

/// r and s, as they are or in DER.
fn signature_of(bytes: &[u8]) -> Result<Signature> {
    match <[u8; 64]>::try_from(bytes) {
        Ok(bytes) => Ok(Signature(bytes)),
        Err(_) => Ok(Signature::from_der(bytes)?),
    }
}

/// Closes a key with the token's AES key, which is made where there is none; returns the text of the
/// file, and whether the AES key is new.
pub fn wrap(uri: &TokenUri, key: &SecretKey) -> Result<(String, bool)> {
    let pin = pin(uri)?;
    let session = login(&module(&uri.module)?, uri, &pin, true)?;
    let made = find(&session, uri, ObjectClass::SECRET_KEY)?.is_empty();
    let aes = if made {
        make_aes(&session, uri)?
    } else {
        the_one(&session, uri, ObjectClass::SECRET_KEY)?
    };
    let leaves = session.get_attributes(aes, &[AttributeType::Extractable])?;
    ensure!(
        matches!(leaves[..], [Attribute::Extractable(false)]),
        "the token gives its key {} out (CKA_EXTRACTABLE); make one that it keeps",
        uri.key()
    );
    let mut nonce = [0; NONCE_LENGTH];
    getrandom::fill(&mut nonce).map_err(|error| anyhow!("no randomness: {error}"))?;
    let head = head(&key.public_key());
    let shown = hex::encode(nonce);
    let params = GcmParams::new(&mut nonce, head.as_bytes(), (8 * TAG_LENGTH as u64).into())?;
    let sealed = session.encrypt(&Mechanism::AesGcm(params), aes, &*key.to_bytes())?;
    ensure!(
        sealed.len() == 32 + TAG_LENGTH && hex::encode(nonce) == shown,
        "the token encrypts in another way than asked (AES-GCM); it cannot wrap keys"
    );
    let text = format!("{head}nonce {shown}\nsealed {}\n", hex::encode(sealed));
    // What cannot be opened again is found out now.
    open_wrapped(&session, aes, &text)?;
    Ok((text, made))
}

fn make_aes(session: &Session, uri: &TokenUri) -> Result<ObjectHandle> {
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
    ];
    template.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
    template.extend(uri.id.clone().map(Attribute::Id));
    session.generate_key(&Mechanism::AesKeyGen, &template).context("making an AES key in the token")
}

fn head(key: &PublicKey) -> String {
    format!("{WRAPPED}public {}\n", hex::encode(key.to_compressed()))
}

fn unwrap(uri: &TokenUri, path: &Path) -> Result<SecretKey> {
    let place = path.display();
    let text = std::fs::read(path).with_context(|| format!("reading {place}"))?;
    ensure!(text.len() <= WRAPPED_MAX, "{place} has more than {WRAPPED_MAX} bytes");
    let text =
        String::from_utf8(text).map_err(|_| not_wrapped()).with_context(|| place.to_string())?;
    let pin = pin(uri)?;
    let session = login(&module(&uri.module)?, uri, &pin, false)?;
    let aes = the_one(&session, uri, ObjectClass::SECRET_KEY)?;
    open_wrapped(&session, aes, &text).with_context(|| place.to_string())
}

fn not_wrapped() -> anyhow::Error {
    anyhow!("this is no wrapped key; make one with piaogen keygen --wrap")
}

/// What a file says: its head, public key, nonce and what is sealed.
fn read_wrapped(text: &str) -> Option<(String, PublicKey, [u8; NONCE_LENGTH], Vec<u8>)> {
    let mut lines = text.strip_prefix(WRAPPED)?.strip_suffix('\n')?.split('\n');
    let mut field = |name: &str| hex::decode(lines.next()?.strip_prefix(name)?).ok();
    let public: [u8; 33] = field("public ")?.try_into().ok()?;
    let nonce = field("nonce ")?.try_into().ok()?;
    let sealed = field("sealed ").filter(|sealed| sealed.len() == 32 + TAG_LENGTH)?;
    let public = PublicKey::from_compressed(&public).ok()?;
    let head = head(&public);
    (lines.next().is_none() && text.starts_with(&head)).then_some((head, public, nonce, sealed))
}

fn open_wrapped(session: &Session, aes: ObjectHandle, text: &str) -> Result<SecretKey> {
    let (head, public, mut nonce, sealed) = read_wrapped(text).ok_or_else(not_wrapped)?;
    let params = GcmParams::new(&mut nonce, head.as_bytes(), (8 * TAG_LENGTH as u64).into())?;
    let opened = session.decrypt(&Mechanism::AesGcm(params), aes, &sealed).map(Zeroizing::new);
    let opened = opened.map_err(|error| {
        anyhow!("the token's key does not open it ({error}); it is another's, or was altered")
    })?;
    let d = opened.as_slice().try_into().map_err(|_| not_wrapped())?;
    let key = SecretKey::from_bytes(d)?;
    ensure!(key.public_key() == public, "it holds another key than it says; it was altered");
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_come_bare_or_in_der() {
        let signature = SecretKey::from_bytes(&[7; 32]).unwrap().sign(b"m");
        assert_eq!(signature_of(&signature.0).unwrap(), signature);
        assert_eq!(signature_of(&signature.to_der()).unwrap(), signature);
        for length in [0, 32, 63, 65] {
            assert!(signature_of(&vec![0x30; length]).is_err());
        }
    }

    #[test]
    fn wrapped_files_have_one_form() {
        let public = SecretKey::from_bytes(&[7; 32]).unwrap().public_key();
        let text =
            format!("{}nonce {}\nsealed {}\n", head(&public), "0a".repeat(12), "ff".repeat(48));
        let (_, read, nonce, sealed) = read_wrapped(&text).unwrap();
        assert_eq!((read, nonce, sealed), (public, [10; 12], vec![0xff; 48]));
        for at in 0..text.len() {
            assert!(read_wrapped(&text[..at]).is_none(), "cut at {at}");
            let mut bent = text.clone().into_bytes();
            bent[at] ^= 0x80;
            let bent = String::from_utf8_lossy(&bent).into_owned();
            assert!(read_wrapped(&bent).is_none(), "byte {at}");
        }
        assert!(read_wrapped(&text.replace("0a0a", "0A0A")).is_some(), "hex of either case");
        assert!(read_wrapped(&format!("{text}\n")).is_none());
        assert!(read_wrapped(&text.replace('\n', "\r\n")).is_none());
    }
}
