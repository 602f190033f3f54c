//! `piaogen identity`: reads certificates, and says which participant they would register.
//!
//! A certificate says who somebody is, in the words of a CA; a registry record says it in the words
//! of the chain. [`Identity`] is the way from one to the other, for `identity show` and for `submit
//! register --certificate`.
//!
//! Invariants
//! - The chain of certificates ends where the user says: without `--issuer` nothing is believed,
//!   and the answer says so.
//! - Texts of a certificate are shown with whatever could deceive a terminal written out.

use super::{No, Output, read_file};
use crate::run::chain::clock_ms;
use crate::setup::write_new;
use anyhow::{Context, Result, ensure};
use piaogen_anchor::registry::CREDIT_CODE_PREFIX;
use piaogen_crypto::certificate::{CERTIFICATE_MAX, CHAIN_MAX, Certificate, check_chain};
use piaogen_verify::scheme::credit_code_holds;
use std::path::{Path, PathBuf};

/// Most bytes of a file of certificates.
const FILE_MAX: u64 = (CHAIN_MAX * CERTIFICATE_MAX * 2) as u64;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show whom certificates name, with which key, and check who issued them.
    Show {
        /// Certificates in PEM or DER; a PEM file may hold the chain up to its CA.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Certificates of the CA that you trust, and of those between, in PEM or DER. The last one
        /// is believed.
        #[arg(long, value_name = "FILE")]
        issuer: Vec<PathBuf>,
        /// Also write the key of the one certificate given, SPKI PEM, for `submit`.
        #[arg(long, value_name = "FILE")]
        public: Option<PathBuf>,
    },
}

/// Who a certificate says somebody is.
pub(super) struct Identity {
    certificate: Certificate,
    /// Why the issuer did not issue it, if issuers are given; nothing if he did.
    pub(super) chain: Option<Result<(), String>>,
    /// Whether its dates, and those of its issuers, include now.
    pub(super) in_time: bool,
    /// The id that it would have in the registry, if it names a unified social credit code.
    pub(super) party: Option<String>,
    /// The name that it would have.
    pub(super) name: Option<String>,
}

impl Identity {
    /// Reads a certificate with the chain behind it, and the certificates of issuers.
    pub(super) fn read(file: &Path, issuers: &[PathBuf]) -> Result<Self> {
        let mut chain = load(file)?;
        let mut given = Vec::new();
        for issuer in issuers {
            given.extend(load(issuer)?);
        }
        // The file may hold the whole chain; from the issuers given on, theirs counts.
        if let Some(at) = chain.iter().position(|certificate| given.first() == Some(certificate)) {
            chain.truncate(at);
        }
        chain.extend(given);
        let now = (clock_ms() / 1000).max(0) as u64;
        let in_time = chain.iter().all(|certificate| {
            let (from, until) = certificate.validity();
            (from..=until).contains(&now)
        });
        let checked = check_chain(&chain).map_err(|error| error.to_string());
        let certificate = chain.swap_remove(0);
        let subject = certificate.subject();
        Ok(Self {
            chain: (!issuers.is_empty() || checked.is_err()).then_some(checked),
            in_time,
            party: [subject.organization_identifier(), subject.serial_number()]
                .into_iter()
                .flatten()
                .find_map(|text| credit_code(&text)),
            name: subject.organization().or_else(|| subject.common_name()),
            certificate,
        })
    }

    /// The key, in the form of registry records.
    pub(super) fn public_key(&self) -> Vec<u8> {
        self.certificate.key().to_compressed().to_vec()
    }

    /// Why it should not be registered, if so.
    pub(super) fn objection(&self) -> Option<String> {
        match &self.chain {
            Some(Err(error)) => return Some(error.clone()),
            None => return Some("no --issuer is given: nobody vouches for it".into()),
            Some(Ok(())) => {}
        }
        if !self.certificate.may_sign() {
            return Some("its keyUsage allows certificates only, no records".into());
        }
        if !self.in_time {
            return Some("it, or an issuer's certificate, is not valid at this time".into());
        }
        None
    }

    fn json(&self) -> serde_json::Value {
        let (from, until) = self.certificate.validity_text();
        let issued = match &self.chain {
            None => serde_json::Value::Null,
            Some(checked) => checked.is_ok().into(),
        };
        serde_json::json!({
            "party": self.party,
            "name": self.name,
            "public_key": hex::encode(self.public_key()),
            "key_id": hex::encode(self.certificate.key().key_id()),
            "subject": self.certificate.subject().text(),
            "issuer": self.certificate.issuer().text(),
            "number": self.certificate.number(),
            "not_before": from,
            "not_after": until,
            "valid_now": self.in_time,
            "may_sign": self.certificate.may_sign(),
            "issued_by_issuer": issued,
            "objection": self.objection(),
        })
    }

    fn text(&self) -> String {
        let (from, until) = self.certificate.validity_text();
        let none = || "(none in the certificate)".to_string();
        let lines = [
            ("party", self.party.clone().unwrap_or_else(none)),
            ("name", self.name.clone().unwrap_or_else(none)),
            ("public_key", hex::encode(self.public_key())),
            ("key_id", hex::encode(self.certificate.key().key_id())),
            ("subject", self.certificate.subject().text()),
            ("issuer", self.certificate.issuer().text()),
            ("number", self.certificate.number()),
            ("valid", format!("{from} to {until}")),
            ("verdict", self.objection().unwrap_or_else(|| "issued by the issuer given".into())),
        ];
        lines.iter().map(|(what, text)| format!("{what:10} {}\n", visible(text))).collect()
    }
}

fn load(file: &Path) -> Result<Vec<Certificate>> {
    Certificate::read(&read_file(file, FILE_MAX)?)
        .with_context(|| format!("certificate {}", file.display()))
}

/// The registry's id for a unified social credit code, written alone or with the prefix of EN 319
/// 412-1, as in `NTRCN-91440300708461136T`; nothing if it is none.
fn credit_code(text: &str) -> Option<String> {
    let code = match text.split_once("CN-") {
        Some((kind, code)) if kind.len() == 3 => code,
        _ => text,
    };
    credit_code_holds(code).then(|| format!("{CREDIT_CODE_PREFIX}{code}"))
}

/// Another's text with control characters, and those that turn the direction of writing, written
/// as escapes.
fn visible(text: &str) -> String {
    let deceives = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let escape = |c: char| if deceives(c) { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let What::Show { files, issuer, public } = &arguments.what;
    ensure!(public.is_none() || files.len() == 1, "--public wants exactly one certificate");
    let mut identities = Vec::new();
    for file in files {
        identities.push(Identity::read(file, issuer)?);
    }
    let json = identities.iter().map(Identity::json).collect::<Vec<_>>().into();
    output.print(&json, || identities.iter().map(Identity::text).collect::<Vec<_>>().join("\n"))?;
    // Without an issuer the question was only what they say.
    let wrong = |identity: &&Identity| identity.chain.is_some() && identity.objection().is_some();
    if let Some(identity) = identities.iter().find(wrong) {
        let why = visible(&identity.objection().unwrap_or_default());
        return Err(No(format!("not to be registered: {why}")).into());
    }
    if let Some(path) = public {
        let key = identities[0].certificate.key();
        write_new(path, key.to_spki_pem().as_bytes(), false)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_codes_become_parties() {
        let party = Some("CN-USCC:91440300708461136T".to_string());
        for text in ["91440300708461136T", "NTRCN-91440300708461136T", "VATCN-91440300708461136T"] {
            assert_eq!(credit_code(text), party, "{text}");
        }
        for text in ["91440300708461136X", "", "CN-", "NTRDE-91440300708461136T", "7"] {
            assert_eq!(credit_code(text), None, "{text}");
        }
    }

    #[test]
    fn what_deceives_is_written_out() {
        assert_eq!(visible("示例 a\u{202e}b\u{1b}[0m\n"), "示例 a\\u{202e}b\\u{1b}[0m\\u{a}");
    }
}
