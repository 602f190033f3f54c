//! Finds secret keys where the operator keeps them, and makes signers of them.
//!
//! One value says where a key is, in the configuration (`key`) and on the command line (`--key`):
//!
//! ```text
//! validator.pem                                     a file, PKCS#8, PEM or DER, encrypted or not
//! file:validator.pem?passphrase-source=file:/run/pass
//! env:PIAOGEN_KEY?passphrase-source=env:PIAOGEN_PASS    PEM in a variable of the environment
//! pkcs11:token=piaogen;object=validator?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=…
//! ```
//!
//! Invariants
//! - Nothing that is secret is in a value that says where it is, nor in an error.
//! - Whatever is read of a file or a token is bounded; what was secret in memory is overwritten.

mod secret;
mod token;
mod uri;

pub use self::secret::SecretSource;
pub use self::token::{WRAPPED, wrap};
pub use self::uri::TokenUri;

use anyhow::{Context, Result, bail, ensure};
use piaogen_crypto::Zeroizing;
use piaogen_crypto::sm2::encrypted::is_encrypted;
use piaogen_crypto::sm2::{DOCUMENT_MAX, PublicKey, SecretKey, SignError, Signature, Signer};
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// Most bytes of a value that says where a key is.
const SOURCE_MAX: usize = 4_096;

/// Where a secret key is.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum KeySource {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// What opens it, if it is encrypted.
        passphrase: SecretSource,
    },
    /// In a variable of the environment.
    Env {
        /// The variable.
        name: String,
        /// What opens it, if it is encrypted.
        passphrase: SecretSource,
    },
    /// In a token, or in a file that a token opens.
    Token(Box<TokenUri>),
}

impl From<PathBuf> for KeySource {
    fn from(path: PathBuf) -> Self {
        KeySource::File { path, passphrase: SecretSource::Usual }
    }
}

impl TryFrom<String> for KeySource {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for KeySource {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let length = text.len();
        ensure!(!text.is_empty(), "key is empty; name a file, env:NAME or pkcs11:…");
        ensure!(length <= SOURCE_MAX, "key of {length} bytes is above {SOURCE_MAX}; shorten it");
        ensure!(!text.contains('\0'), "key has a zero byte; remove it");
        if let Some(rest) = text.strip_prefix("pkcs11:") {
            return Ok(KeySource::Token(Box::new(TokenUri::parse(rest)?)));
        }
        if let Some(rest) = text.strip_prefix("env:") {
            let (name, passphrase) = with_passphrase(rest)?;
            let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
            ensure!(
                !name.is_empty() && name.chars().all(good),
                "env:{name} names no variable; use letters, digits and _ (the key itself never \
                 stands here)"
            );
            return Ok(KeySource::Env { name: name.into(), passphrase });
        }
        if let Some(rest) = text.strip_prefix("file:") {
            let (path, passphrase) = with_passphrase(rest)?;
            ensure!(!path.is_empty(), "file: names no file; write file:validator.pem");
            return Ok(KeySource::File { path: path.into(), passphrase });
        }
        ensure!(
            !text.starts_with("-----BEGIN"),
            "key is a key and should say where it is; put it into a file, or name its variable as \
             env:NAME"
        );
        Ok(PathBuf::from(text).into())
    }
}

fn with_passphrase(text: &str) -> Result<(&str, SecretSource)> {
    let Some((place, query)) = text.split_once('?') else {
        return Ok((text, SecretSource::Usual));
    };
    let Some(source) = query.strip_prefix("passphrase-source=") else {
        bail!("of a key's value, after ? only passphrase-source=… is known; correct it");
    };
    Ok((place, source.parse()?))
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::File { path, .. } => write!(f, "{}", path.display()),
            KeySource::Env { name, .. } => write!(f, "env:{name}"),
            KeySource::Token(uri) => write!(f, "{uri}"),
        }
    }
}

impl KeySource {
    /// The same, with relative files taken as relative to a folder.
    pub fn beside(self, base: &Path) -> KeySource {
        match self {
            KeySource::File { path, passphrase } => {
                KeySource::File { path: base.join(path), passphrase: passphrase.beside(base) }
            }
            KeySource::Env { name, passphrase } => {
                KeySource::Env { name, passphrase: passphrase.beside(base) }
            }
            KeySource::Token(uri) => KeySource::Token(Box::new(uri.beside(base))),
        }
    }

    /// Opens the key. A token may have to be asked for a trial signature, a person for a passphrase.
    pub fn open(&self) -> Result<Arc<dyn Signer>> {
        match self {
            KeySource::Token(uri) => token::open(uri),
            _ => self.secret().map(|key| Arc::new(Kept::new(key)) as Arc<dyn Signer>),
        }
        .with_context(|| format!("secret key {self}"))
    }

    /// The public half; a token is asked for it.
    pub fn public_key(&self) -> Result<PublicKey> {
        Ok(self.open()?.public_key())
    }

    fn secret(&self) -> Result<SecretKey> {
        match self {
            KeySource::File { path, passphrase } => {
                let document = read_secret(path)?;
                let encrypted = is_encrypted(&document);
                check_mode(path, encrypted)?;
                decode(&document, encrypted, passphrase)
            }
            KeySource::Env { name, passphrase } => {
                let text = std::env::var(name).map(Zeroizing::new).map_err(|_| {
                    anyhow::anyhow!("the variable {name} is not set, or no text; set it")
                })?;
                decode(text.as_bytes(), is_encrypted(text.as_bytes()), passphrase)
            }
            KeySource::Token(_) => bail!("a token gives no secret key out"),
        }
    }
}

fn decode(document: &[u8], encrypted: bool, passphrase: &SecretSource) -> Result<SecretKey> {
    if !encrypted {
        return Ok(SecretKey::from_pkcs8(document)?);
    }
    let passphrase = passphrase.read("passphrase")?;
    Ok(SecretKey::from_pkcs8_encrypted(document, &passphrase)?)
}

/// Reads a short file whose bytes are overwritten when they are dropped.
fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    use std::io::Read;
    let read = || -> std::io::Result<Zeroizing<Vec<u8>>> {
        // Of its final size at once: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(DOCUMENT_MAX + 1));
        std::fs::File::open(path)?.take(DOCUMENT_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().with_context(|| format!("reading {}", path.display()))?;
    ensure!(bytes.len() <= DOCUMENT_MAX, "{} has more than {DOCUMENT_MAX} bytes", path.display());
    Ok(bytes)
}

/// A plain key that strangers may read is no secret.
fn check_mode(path: &Path, encrypted: bool) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
    let place = path.display();
    ensure!(
        encrypted || mode & 0o027 == 0,
        "{place} has mode {mode:04o}: others than its owner may read it, or its group may change \
         it; chmod 600 it, and change the key if strangers were on this machine"
    );
    if mode & 0o077 != 0 {
        tracing::warn!(%place, mode = format!("{mode:04o}"), "key may be read by others; chmod 600");
    }
    Ok(())
}

/// A secret key in memory that is not swapped out, where the system allows that.
struct Kept {
    /// On the heap, so that it stays where it was locked.
    key: Box<SecretKey>,
    _lock: Option<region::LockGuard>,
}

impl Kept {
    fn new(key: SecretKey) -> Kept {
        let key = Box::new(key);
        let lock = region::lock(&raw const *key, size_of::<SecretKey>());
        if let Err(error) = &lock {
            tracing::warn!(%error, "the key's memory is not locked and may be swapped out");
        }
        Kept { key, _lock: lock.ok() }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept(..)")
    }
}

impl Signer for Kept {
    fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    fn try_sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        self.key.try_sign(message)
    }

    fn in_memory(&self) -> Option<&SecretKey> {
        Some(&self.key)
    }
}

#[cfg(test)]
mod tests;
