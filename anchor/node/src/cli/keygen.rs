//! `piaogen keygen`: makes a secret key from the system's randomness.

use super::Output;
use crate::setup::{random_key, write_new};
use anyhow::Result;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the secret key goes, PKCS#8 PEM, readable by its owner only; must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Also write the public key, SPKI PEM.
    #[arg(long, value_name = "FILE")]
    public: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let key = random_key()?;
    let public = key.public_key();
    write_new(&arguments.out, key.to_pkcs8_pem().as_bytes(), true)?;
    if let Some(path) = &arguments.public {
        write_new(path, public.to_spki_pem().as_bytes(), false)?;
    }
    let (compressed, id) = (hex::encode(public.to_compressed()), hex::encode(public.key_id()));
    let json = serde_json::json!({ "public_key": compressed, "key_id": id });
    output.print(&json, || format!("public_key {compressed}\nkey_id     {id}"))
}
