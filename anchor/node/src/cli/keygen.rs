//! `piaogen keygen`: makes a secret key from the system's randomness.

use super::Output;
use crate::keys::{KeySource, SecretSource, wrap};
use crate::setup::{random_key, write_new};
use anyhow::{Result, anyhow, bail};
use piaogen_crypto::Zeroizing;
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the secret key goes, PKCS#8 PEM, readable by its owner only; must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Also write the public key, SPKI PEM.
    #[arg(long, value_name = "FILE")]
    public: Option<PathBuf>,
    /// Encrypt it with a passphrase: PKCS#8 `ENCRYPTED PRIVATE KEY`, as OpenSSL reads it.
    #[arg(long)]
    encrypt: bool,
    /// Where the passphrase comes from: file:PATH, env:NAME or prompt; else PIAOGEN_PASSPHRASE, or
    /// the terminal.
    #[arg(long, value_name = "SOURCE", requires = "encrypt")]
    passphrase_source: Option<SecretSource>,
    /// Encrypt it with an AES key of a token, which is made there if it is not there: a pkcs11: URI.
    #[arg(long, value_name = "URI", conflicts_with = "encrypt")]
    wrap: Option<KeySource>,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let key = random_key()?;
    let public = key.public_key();
    let (document, note) = document(arguments, &key)?;
    write_new(&arguments.out, document.as_bytes(), true)?;
    if let Some(path) = &arguments.public {
        write_new(path, public.to_spki_pem().as_bytes(), false)?;
    }
    say(&public, note, output)
}

/// Says what a public key is called in configurations and trust roots, and by which id records name
/// it.
pub(super) fn say(public: &PublicKey, note: &str, output: Output) -> Result<()> {
    let (compressed, id) = (hex::encode(public.to_compressed()), hex::encode(public.key_id()));
    let json = serde_json::json!({ "public_key": compressed, "key_id": id });
    output.print(&json, || format!("public_key {compressed}\nkey_id     {id}{note}"))
}

/// What is written, and what else there is to say.
fn document(arguments: &Arguments, key: &SecretKey) -> Result<(Zeroizing<String>, &'static str)> {
    match &arguments.wrap {
        Some(KeySource::Token(uri)) => {
            let (text, made) = wrap(uri, key)?;
            let note = if made { "\nmade an AES key in the token: back the token up" } else { "" };
            Ok((Zeroizing::new(text), note))
        }
        Some(_) => bail!("--wrap takes a pkcs11: URI of the token's AES key"),
        None if arguments.encrypt => {
            let source = arguments.passphrase_source.clone().unwrap_or_default();
            let passphrase = source.read_new("passphrase")?;
            let mut random = [0; 32];
            getrandom::fill(&mut random).map_err(|error| anyhow!("no randomness: {error}"))?;
            Ok((Zeroizing::new(key.to_pkcs8_encrypted(&passphrase, &random)), ""))
        }
        None => Ok((key.to_pkcs8_pem(), "")),
    }
}
