//! Makes the folders of a chain with several nodes: one for each, with its key, its configuration
//! and how it reaches the others.
//!
//! ```text
//! <dir>/genesis.json  trust-root.json  authority.pem
//!       stream/                            the embedded log, where there is no Kafka
//!       validator-1/genesis.json  trust-root.json  node.toml  validator.pem
//!       validator-2/…                      in the order of certificates
//!       observer-1/genesis.json  trust-root.json  node.toml  observer.pem
//! ```
//!
//! All have one table of peers, observers in it: a node talks to nobody else.
//!
//! Invariants
//! - Nothing that exists is overwritten; a secret key is written into one folder only.

use crate::config::Role;
use crate::setup::{BASE_TOML, write_new};
use anyhow::{Context, Result, ensure};
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::trust_root::TrustRoot;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// First port of this machine for peers, and for HTTP, where nothing else is said.
const PEER_PORT: u16 = 9_500;
const HTTP_PORT: u16 = 9_464;

/// A node to be.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it is there for.
    pub role: Role,
    /// Its key.
    pub key: PublicKey,
    /// Its secret key; nothing where it holds that itself.
    pub secret: Option<SecretKey>,
    /// Where the others reach it, `host:port`.
    pub address: String,
    /// Where it serves HTTP; empty: nowhere.
    pub http: String,
}

/// A port of this machine, so many above a first one.
fn port(first: u16, index: usize) -> Result<u16> {
    let port = u16::try_from(index).ok().and_then(|index| first.checked_add(index));
    port.with_context(|| format!("port {first} and {index} more is above 65535"))
}

impl Member {
    /// The validators with these keys on this machine, or at these addresses, in the order of
    /// certificates.
    pub fn all(
        mut keys: Vec<(PublicKey, Option<SecretKey>)>,
        addresses: &[String],
    ) -> Result<Vec<Member>> {
        if addresses.is_empty() {
            keys.sort_by_key(|(key, _)| key.to_compressed());
        }
        let mut members = Member::of_role(Role::Validator, keys, addresses, 0)?;
        members.sort_by_key(|member| member.key.to_compressed());
        Ok(members)
    }

    /// The observers with these keys on this machine, or at these addresses, in this order; on this
    /// machine their ports follow those of so many other nodes.
    pub fn observers(
        keys: Vec<(PublicKey, Option<SecretKey>)>,
        addresses: &[String],
        others: usize,
    ) -> Result<Vec<Member>> {
        Member::of_role(Role::Observer, keys, addresses, others)
    }

    fn of_role(
        role: Role,
        keys: Vec<(PublicKey, Option<SecretKey>)>,
        addresses: &[String],
        others: usize,
    ) -> Result<Vec<Member>> {
        ensure!(
            addresses.is_empty() || addresses.len() == keys.len(),
            "{} addresses for {} {}s: name one for each, or none",
            addresses.len(),
            keys.len(),
            role.name()
        );
        let member = |(index, (key, secret)): (usize, (PublicKey, Option<SecretKey>))| {
            let (address, http) = match addresses.get(index) {
                Some(address) => (address.clone(), format!("127.0.0.1:{HTTP_PORT}")),
                None => (
                    format!("127.0.0.1:{}", port(PEER_PORT, others + index)?),
                    format!("127.0.0.1:{}", port(HTTP_PORT, others + index)?),
                ),
            };
            Ok(Member { role, key, secret, address, http })
        };
        keys.into_iter().enumerate().map(member).collect()
    }

    /// Name of its file with the secret key.
    fn key_file(&self) -> String {
        format!("{}.pem", self.role.name())
    }
}

/// The folder of a validator, counted from 0.
pub fn folder(dir: &Path, index: usize) -> PathBuf {
    numbered(dir, Role::Validator, index)
}

fn numbered(dir: &Path, role: Role, index: usize) -> PathBuf {
    dir.join(format!("{}-{}", role.name(), index + 1))
}

/// The folders of these members; validators and observers are counted each for themselves.
pub fn folders(dir: &Path, members: &[Member]) -> Vec<PathBuf> {
    let before = |at: usize, role| members[..at].iter().filter(|one| one.role == role).count();
    let folder =
        |(at, member): (usize, &Member)| numbered(dir, member.role, before(at, member.role));
    members.iter().enumerate().map(folder).collect()
}

/// Writes the files of these nodes into an empty folder. `more` is what each configuration says
/// besides.
pub fn write(
    dir: &Path,
    bytes: &[u8],
    members: &[Member],
    authority: &SecretKey,
    more: &str,
) -> Result<Genesis> {
    let genesis = Genesis::parse(bytes)?;
    let trust = TrustRoot::of_genesis(&genesis).to_json();
    write_new(&dir.join("authority.pem"), authority.to_pkcs8_pem().as_bytes(), true)?;
    let mut folders = folders(dir, members);
    for (member, folder) in members.iter().zip(&folders) {
        std::fs::create_dir(folder).with_context(|| format!("creating {}", folder.display()))?;
        let toml = node_toml(member, members, more)?;
        write_new(&folder.join("node.toml"), toml.as_bytes(), false)?;
        if let Some(secret) = &member.secret {
            let path = folder.join(member.key_file());
            write_new(&path, secret.to_pkcs8_pem().as_bytes(), true)?;
        }
    }
    folders.push(dir.into());
    for folder in folders {
        write_new(&folder.join("genesis.json"), bytes, false)?;
        write_new(&folder.join("trust-root.json"), trust.as_bytes(), false)?;
    }
    Ok(genesis)
}

fn node_toml(member: &Member, members: &[Member], more: &str) -> Result<String> {
    let address = &member.address;
    let (host, port) =
        address.rsplit_once(':').with_context(|| format!("{address:?} is not host:port"))?;
    // Where it is reached may be another machine's business; what is this machine's alone stays so.
    let local = address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback());
    let listen = if local { host } else { "0.0.0.0" };
    // Keys of the file's top come before its first table.
    let mut toml = format!("listen = {:?}\n", member.http);
    match member.role {
        Role::Validator => toml.push_str(BASE_TOML),
        Role::Observer => {
            toml.push_str("role = \"observer\"\n");
            toml.push_str(&BASE_TOML.replace("validator.pem", &member.key_file()));
        }
    }
    toml.push_str(&format!("\n[peers]\nlisten = \"{listen}:{port}\"\n\n[peers.addresses]\n"));
    for other in members {
        let key = hex::encode(other.key.to_compressed());
        toml.push_str(&format!("{key} = {:?}\n", other.address));
    }
    toml.push_str(more);
    Ok(toml)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use piaogen_loadgen::genesis::demo_chain;

    #[test]
    fn each_member_gets_a_folder_that_starts_and_its_own_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let chain = demo_chain(1, 2, 4, 1_790_000_000_000);
        let mut keys: Vec<_> =
            chain.validators.iter().map(|key| (key.public_key(), Some(key.clone()))).collect();
        keys.reverse();
        keys[0].1 = None;
        let members = Member::all(keys, &[]).unwrap();
        let more = "\n[stream]\nembedded_dir = \"../stream\"\n";
        write(dir.path(), &chain.bytes, &members, &chain.authority, more).unwrap();
        for index in 0..4 {
            let folder = folder(dir.path(), index);
            let config = Config::load(&folder.join("node.toml")).unwrap();
            let peers = config.peers().unwrap().unwrap();
            assert_eq!(peers.peers.len(), 4);
            assert_eq!(peers.listen.port(), PEER_PORT + index as u16);
            assert!(config.embedded_dir().ends_with("../stream"));
            // The last in order was the first of the reversed list, and holds its key itself.
            assert_eq!(folder.join("validator.pem").exists(), index != 3);
            if index != 3 {
                let parts = crate::setup::node_parts(&config).unwrap();
                assert_eq!(parts.key.public_key(), chain.genesis.validators.keys()[index]);
                assert_eq!(parts.peers.unwrap().network.peers.len(), 4);
            }
        }
        // Observers are known to all and have a key of their own.
        let key = piaogen_crypto::sm2::SecretKey::from_bytes(&[9; 32]).unwrap();
        let watching = vec![(key.public_key(), Some(key.clone()))];
        let dir = tempfile::tempdir().unwrap();
        let mut all = members.clone();
        all.extend(Member::observers(watching, &[], 4).unwrap());
        write(dir.path(), &chain.bytes, &all, &chain.authority, more).unwrap();
        let folders = folders(dir.path(), &all);
        assert!(folders[4].ends_with("observer-1") && folders[0] == folder(dir.path(), 0));
        for (folder, role) in
            folders.iter().zip([Role::Validator; 4].iter().chain(&[Role::Observer]))
        {
            let config = Config::load(&folder.join("node.toml")).unwrap();
            assert_eq!((config.role, config.peers().unwrap().unwrap().peers.len()), (*role, 5));
        }
        let config = Config::load(&folders[4].join("node.toml")).unwrap();
        assert_eq!(config.address().unwrap().unwrap().port(), HTTP_PORT + 4);
        let parts = crate::setup::node_parts(&config).unwrap();
        assert_eq!(parts.key.public_key(), key.public_key());
        let named = ["a.example:1", "b.example:2"].map(String::from);
        let two: Vec<_> =
            chain.validators[..2].iter().map(|key| (key.public_key(), None)).collect();
        let members = Member::all(two.clone(), &named).unwrap();
        let toml = node_toml(&members[0], &members, "").unwrap();
        assert!(toml.contains("listen = \"0.0.0.0:1\"") && toml.contains("b.example:2"), "{toml}");
        assert!(Member::all(two, &named[..1]).is_err());
    }
}
