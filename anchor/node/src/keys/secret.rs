//! Says where a passphrase or a PIN comes from, and gets it.
//!
//! Written `file:PATH` (or a path), `env:NAME` or `prompt`. Where nothing is said, it is the variable
//! `PIAOGEN_PASSPHRASE` if there is one, else the terminal is asked.

use super::read_secret;
use anyhow::{Context, Result, bail, ensure};
use piaogen_crypto::Zeroizing;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a secret comes from if nothing else is said.
const USUAL: &str = "PIAOGEN_PASSPHRASE";
/// Most bytes of a passphrase or PIN.
const SECRET_MAX: usize = 1_024;

/// Where a passphrase or a PIN comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum SecretSource {
    /// The usual variable, else the terminal.
    #[default]
    Usual,
    /// The first line of a file.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
    /// The terminal.
    Prompt,
}

impl FromStr for SecretSource {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (source, named) = match text.split_once(':') {
            _ if text == "prompt" => return Ok(SecretSource::Prompt),
            Some(("env", name)) => (SecretSource::Env(name.into()), name),
            Some(("file", path)) => (SecretSource::File(path.into()), path),
            _ => (SecretSource::File(text.into()), text),
        };
        ensure!(
            !named.is_empty() && !named.starts_with('|'),
            "{text:?} says not where a secret is; write file:PATH, env:NAME or prompt"
        );
        Ok(source)
    }
}

impl SecretSource {
    /// The same, with a relative file taken as relative to a folder.
    pub(super) fn beside(self, base: &Path) -> SecretSource {
        match self {
            SecretSource::File(path) => SecretSource::File(base.join(path)),
            other => other,
        }
    }

    /// Gets it; `what` it is, for messages.
    pub fn read(&self, what: &str) -> Result<Zeroizing<Vec<u8>>> {
        self.read_asking(what, false)
    }

    /// As [`SecretSource::read`], for a new one: a person is asked twice.
    pub fn read_new(&self, what: &str) -> Result<Zeroizing<Vec<u8>>> {
        self.read_asking(what, true)
    }

    fn read_asking(&self, what: &str, twice: bool) -> Result<Zeroizing<Vec<u8>>> {
        let secret = match self {
            SecretSource::Usual if std::env::var_os(USUAL).is_some() => variable(USUAL)?,
            SecretSource::Usual | SecretSource::Prompt => ask(what, twice)?,
            SecretSource::Env(name) => variable(name)?,
            SecretSource::File(path) => {
                let mut bytes = read_secret(path).with_context(|| format!("the {what}"))?;
                // An editor ends a file with a line feed that nobody typed.
                if let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                    bytes.truncate(end);
                }
                bytes
            }
        };
        let length = secret.len();
        ensure!(length > 0, "the {what} is empty; give one");
        ensure!(length <= SECRET_MAX, "the {what} has {length} bytes, at most {SECRET_MAX}");
        Ok(secret)
    }
}

fn variable(name: &str) -> Result<Zeroizing<Vec<u8>>> {
    match std::env::var(name) {
        Ok(text) => Ok(Zeroizing::new(text.into_bytes())),
        Err(_) => bail!("the variable {name} is not set, or no text; set it"),
    }
}

fn ask(what: &str, twice: bool) -> Result<Zeroizing<Vec<u8>>> {
    ensure!(
        std::io::stdin().is_terminal(),
        "a {what} is needed and there is no terminal to ask; set {USUAL}, or say where it is"
    );
    let once = |prompt: String| -> Result<Zeroizing<Vec<u8>>> {
        Ok(Zeroizing::new(rpassword::prompt_password(prompt)?.into_bytes()))
    };
    let secret = once(format!("{what}: "))?;
    if twice {
        ensure!(secret == once(format!("{what} again: "))?, "the two are not the same; try again");
    }
    Ok(secret)
}
