//! Reads PKCS#11 URIs (RFC 7512), strictly: an attribute that is not known is refused, so that a
//! mistyped one does not choose another key.
//!
//! Of the path: `token`, `manufacturer`, `model`, `serial`, `slot-id`, `object`, `id`, `type`. Of the
//! query: `module-path`, `pin-source`, and two of ours: `wrapped-key`, a file that the token's key
//! opens, and `mechanism`, the number of a vendor's SM2 mechanism. A PIN itself (`pin-value`) is
//! refused: what is written here is in a configuration, or in a list of processes.

use super::SecretSource;
use anyhow::{Context, Result, bail, ensure};
use percent_encoding::percent_decode_str;
use std::fmt;
use std::path::{Path, PathBuf};

/// Most bytes of a label; those of tokens have 32 at most.
const LABEL_MAX: usize = 256;

/// Which key of which token, and how to reach it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TokenUri {
    /// The token's label.
    pub token: Option<String>,
    /// Its manufacturer.
    pub manufacturer: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// The slot that it is in.
    pub slot: Option<u64>,
    /// The key's label.
    pub object: Option<String>,
    /// The key's id.
    pub id: Option<Vec<u8>>,
    /// The module, a library that is loaded.
    pub module: PathBuf,
    /// Where the PIN comes from.
    pub pin: SecretSource,
    /// The mechanism that signs; `CKM_ECDSA` where none is given.
    pub mechanism: Option<u64>,
    /// The file that the key opens; without one the key signs itself.
    pub wrapped: Option<PathBuf>,
}

impl TokenUri {
    /// Reads what follows `pkcs11:`.
    pub fn parse(text: &str) -> Result<TokenUri> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let mut uri = TokenUri::default();
        let mut seen = Vec::new();
        for (part, separator) in [(path, ';'), (query, '&')] {
            for attribute in part.split(separator).filter(|attribute| !attribute.is_empty()) {
                let (name, value) = attribute.split_once('=').with_context(|| {
                    format!("pkcs11: attribute {:?} has no =", short(attribute))
                })?;
                ensure!(!seen.contains(&name), "pkcs11: {} is there twice", short(name));
                seen.push(name);
                uri.set(name, value, separator == '&')?;
            }
        }
        ensure!(
            !uri.module.as_os_str().is_empty(),
            "pkcs11: module-path is missing; name the token's library, as in \
             ?module-path=/usr/lib/softhsm/libsofthsm2.so"
        );
        ensure!(
            uri.object.is_some() || uri.id.is_some(),
            "pkcs11: object or id is missing; name the key"
        );
        ensure!(
            uri.wrapped.is_none() || uri.mechanism.is_none(),
            "pkcs11: mechanism is for a key that signs itself; leave it out beside wrapped-key"
        );
        Ok(uri)
    }

    fn set(&mut self, name: &str, value: &str, query: bool) -> Result<()> {
        let bytes: Vec<u8> = percent_decode_str(value).collect();
        ensure!(!bytes.contains(&0), "pkcs11: {} has a zero byte", short(name));
        let text = || {
            let text = String::from_utf8(bytes.clone()).ok();
            text.filter(|text| !text.is_empty())
                .with_context(|| format!("pkcs11: {name} is empty or not UTF-8"))
        };
        let label = || {
            let text = text()?;
            ensure!(text.len() <= LABEL_MAX, "pkcs11: {name} is longer than {LABEL_MAX} bytes");
            Ok(Some(text))
        };
        match (query, name) {
            (false, "token") => self.token = label()?,
            (false, "manufacturer") => self.manufacturer = label()?,
            (false, "model") => self.model = label()?,
            (false, "serial") => self.serial = label()?,
            (false, "object") => self.object = label()?,
            (false, "slot-id") => self.slot = Some(number(name, &text()?)?),
            (false, "id") => {
                ensure!(
                    (1..=LABEL_MAX).contains(&bytes.len()),
                    "pkcs11: id is not of 1 to {LABEL_MAX} bytes"
                );
                self.id = Some(bytes);
            }
            // It says what is found anyway.
            (false, "type") => ensure!(
                matches!(value, "private" | "secret-key"),
                "pkcs11: type is private, or secret-key with wrapped-key"
            ),
            (true, "module-path") => self.module = text()?.into(),
            (true, "pin-source") => self.pin = text()?.parse()?,
            (true, "mechanism") => self.mechanism = Some(number(name, &text()?)?),
            (true, "wrapped-key") => self.wrapped = Some(text()?.into()),
            (true, "pin-value") => {
                bail!("pkcs11: pin-value puts the PIN where others read it; give pin-source")
            }
            _ => bail!(
                "pkcs11: {:?} is not known {}; see deploy/OPERATING.md",
                short(name),
                if query { "after the ?" } else { "before the ?" }
            ),
        }
        Ok(())
    }

    /// The same, with relative files taken as relative to a folder. A module that is only a name is
    /// looked for by the system.
    pub(super) fn beside(mut self, base: &Path) -> TokenUri {
        if self.module.components().count() > 1 {
            self.module = base.join(self.module);
        }
        self.wrapped = self.wrapped.map(|path| base.join(path));
        self.pin = self.pin.beside(base);
        self
    }

    /// The key's label or id, for messages.
    pub(super) fn key(&self) -> String {
        match (&self.object, &self.id) {
            (Some(object), _) => object.clone(),
            (None, id) => format!("id {}", hex::encode(id.as_deref().unwrap_or_default())),
        }
    }
}

fn number(name: &str, text: &str) -> Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.with_context(|| format!("pkcs11: {name} is no number; write 17 or 0x80000001"))
}

/// The beginning of what somebody wrote: enough to find it, too little for a secret.
fn short(text: &str) -> String {
    text.split('=').next().unwrap_or_default().chars().take(24).collect()
}

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_deref().or(self.serial.as_deref()).unwrap_or("(any token)");
        write!(f, "{} of {token}", self.key())?;
        match &self.wrapped {
            Some(path) => write!(f, " with {}", path.display()),
            None => Ok(()),
        }
    }
}
