//! Connects a validator with the others: authenticated by their SM2 keys, encrypted, limited.
//!
//! Built on `commonware-p2p` with a fixed set of peers: those of the set, and those whom the
//! configuration names besides, because they were of an earlier set or will be of a later one. What authenticates and encrypts a
//! connection is chosen in one place, [`transport`]; another upgrade of a raw connection (TLCP)
//! would be made there and nowhere else.
//!
//! Invariants
//! - Only the keys that the configuration names are peers; another is refused in the handshake,
//!   before anything else that it sends is read.
//! - Nobody is asked anything who is not connected (`reach`).
//! - What the engine of another epoch sends reaches this one's not; who names no epoch is blocked.
//! - The longest message follows from the bodies, so all nodes of a chain have the same limit.

use crate::digest::Digest;
use crate::error::Refused;
use crate::finalization::FINALIZATION_BYTES_MAX;
use crate::key::{Key, Signature};
use crate::own::Own;
use crate::reach::{Reached, Sight};
use crate::scheme::{Scheme, VALIDATORS_MAX};
use crate::signed::{Gate, Noted};
use crate::wire::{BATCH_BYTES, Want};
use crate::{NetworkConfig, OrderConfig};
use commonware_consensus::simplex::max_payload_size;
use commonware_cryptography::{ChaCha20Poly1305, Signer};
use commonware_math::algebra::Random;
use commonware_p2p::authenticated::lookup;
use commonware_p2p::utils::mux::{self, MuxHandle, Muxer, SubReceiver, SubSender};
use commonware_p2p::{Address, AddressableManager as _, Blocker, Ingress, Message, Provider};
use commonware_p2p::{Receiver, Sender};
use commonware_runtime::{Metrics as _, Quota, Spawner, Supervisor as _, tokio as runtime};
use commonware_stream::sake::{self, Sake};
use commonware_stream::{SakeCups, cups};
use commonware_utils::ordered::Map;
use commonware_utils::{Hostname, NZU32, NZUsize};
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use rand::CryptoRng;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// Votes, certificates, certificates of earlier views, bodies, requests: the most messages a second
/// from each peer. Documented in PROTOCOL section 5.2.
pub(crate) const RATES: [NonZeroU32; 5] =
    [NZU32!(256), NZU32!(128), NZU32!(128), NZU32!(32), NZU32!(64)];
/// How far clocks may be apart for a handshake, and how old its messages may be.
const CLOCKS: Duration = Duration::from_secs(5);
const HANDSHAKE_AGE: Duration = Duration::from_secs(10);

/// The channels to the other validators, however they are made.
pub(crate) struct Links<V, W, S, R, B, P> {
    pub(crate) votes: (V, W),
    pub(crate) certificates: (V, W),
    pub(crate) views: (V, W),
    pub(crate) bodies: (S, R),
    pub(crate) requests: (S, R),
    pub(crate) blocker: B,
    pub(crate) peers: P,
}

/// Messages that go out on a channel of this network.
pub(crate) type Out = Reached<lookup::Sender<Key, runtime::Context>>;
/// Messages that come in on one.
pub(crate) type In = lookup::Receiver<Key>;
/// Links over this network, as they are.
pub(crate) type Connected = Links<Out, In, Out, In, lookup::Oracle<Key>, lookup::Oracle<Key>>;
/// Links of which the engine's belong to one epoch.
pub(crate) type OfEpoch<V, S, R, B, P> = Links<SubSender<V>, SubReceiver<Key>, S, R, B, P>;

/// The bounds that the engine and the exchange have on links, in one name.
pub(crate) trait Channel: Sender<PublicKey = Key> {}
impl<S: Sender<PublicKey = Key>> Channel for S {}
/// See [`Channel`].
pub(crate) trait Source: Receiver<PublicKey = Key> {}
impl<R: Receiver<PublicKey = Key>> Source for R {}
/// See [`Channel`].
pub(crate) trait Block: Blocker<PublicKey = Key> {}
impl<B: Blocker<PublicKey = Key>> Block for B {}
/// See [`Channel`].
pub(crate) trait Peers: Provider<PublicKey = Key> {}
impl<P: Provider<PublicKey = Key>> Peers for P {}

/// A validator's key, as the handshake sees it.
#[derive(Clone)]
pub(crate) struct Identity {
    own: Own,
    key: Key,
}

impl Identity {
    pub(crate) fn new(own: Own) -> Self {
        Self { key: own.public_key().into(), own }
    }
}

impl Random for Identity {
    fn random(mut rng: impl CryptoRng) -> Self {
        loop {
            let mut bytes = [0; 32];
            rng.fill_bytes(&mut bytes);
            // All but one in 2^32 candidates are keys.
            if let Ok(secret) = SecretKey::from_bytes(&bytes) {
                return Self::new(secret.into());
            }
        }
    }
}

impl Signer for Identity {
    type Signature = Signature;
    type PublicKey = Key;

    fn public_key(&self) -> Key {
        self.key.clone()
    }

    fn sign(&self, namespace: &[u8], message: &[u8]) -> Signature {
        // After a failure the process ends; until then a handshake with this is turned away.
        self.own.sign(namespace, message).unwrap_or(Signature([0; 64]))
    }
}

/// What authenticates and encrypts a connection.
type Transport = SakeCups<Identity, ChaCha20Poly1305>;

/// The one place that knows how connections are protected.
fn transport(own: Own) -> Transport {
    let handshake = Sake {
        signer: Identity::new(own),
        synchrony_bound: CLOCKS,
        max_handshake_age: HANDSHAKE_AGE,
        version: sake::Version::V1,
    };
    cups::Cups::new(handshake, cups::Version::V1)
}

/// Longest message between nodes of a chain with such bodies.
pub(crate) fn message_bytes_max(body_bytes_max: usize) -> u32 {
    let batch = BATCH_BYTES.max(body_bytes_max + FINALIZATION_BYTES_MAX + 8);
    let answer = batch.max(Want::BYTES_MAX) + commonware_resolver::p2p::MAX_RESPONSE_OVERHEAD;
    let votes = mux::prefixed(max_payload_size::<Scheme, Digest>(VALIDATORS_MAX));
    commonware_p2p::max_message_size(&[votes, body_bytes_max, answer])
}

/// Where all peers are, by key: the others of the set, and whoever is named besides.
pub(crate) fn addresses(
    config: &OrderConfig,
    network: &NetworkConfig,
    me: &Key,
) -> Result<Vec<(Key, Address)>, Refused> {
    let name = |key: &PublicKey| hex::encode(key.to_compressed());
    let mut known = Vec::new();
    for (key, address) in &network.peers {
        if Key::from(key.clone()) != *me {
            let wrong = || Refused::Address { key: name(key), address: address.clone() };
            known.push((Key::from(key.clone()), parse(address).ok_or_else(wrong)?));
        }
    }
    let has: HashSet<&Key> = known.iter().map(|(key, _)| key).collect();
    let mut others = config.validators.iter().filter(|key| Key::from((*key).clone()) != *me);
    match others.find(|key| !has.contains(&Key::from((*key).clone()))) {
        Some(missing) => Err(Refused::NoAddress { key: name(missing) }),
        None => Ok(known),
    }
}

fn parse(address: &str) -> Option<Address> {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return Some(Address::Symmetric(address));
    }
    let (host, port) = address.rsplit_once(':')?;
    let (host, port) = (Hostname::new(host).ok()?, port.parse().ok()?);
    // Where it comes from is not known; with names, sources are not looked at.
    let egress = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    Some(Address::Asymmetric { ingress: Ingress::Dns { host, port }, egress })
}

/// Starts to listen and to dial; a node does so with `RATES`.
pub(crate) fn connect(
    context: &runtime::Context,
    config: &OrderConfig,
    network: &NetworkConfig,
    peers: Vec<(Key, Address)>,
    own: Own,
    rates: [NonZeroU32; 5],
) -> Connected {
    let named = peers.iter().any(|(_, address)| matches!(address, Address::Asymmetric { .. }));
    let (mut network, mut oracle) = lookup::Network::new(
        context.child("network"),
        lookup::Config {
            bypass_ip_check: network.any_source || named,
            block_duration: network.blocked_for,
            peer_connection_cooldown: Duration::from_secs(1),
            allowed_handshake_rate_per_ip: Quota::per_second(NZU32!(16)),
            allowed_handshake_rate_per_subnet: Quota::per_second(NZU32!(128)),
            dial_frequency: Duration::from_millis(100),
            ping_frequency: Duration::from_secs(5),
            allow_private_ips: true,
            tracked_peer_sets: NZUsize!(1),
            ..lookup::Config::recommended(
                transport(own),
                &config.namespace,
                network.listen,
                NonZeroUsize::MIN.saturating_add(peers.len()),
                message_bytes_max(network.body_bytes_max),
                NZUsize!(1024),
            )
        },
    );
    let peers: Map<Key, Address> = Map::from_iter_dedup(peers);
    oracle.track(config.epoch, peers);
    let mut channel = |number: u64, rate| network.register(number, Quota::per_second(rate));
    let [votes, certificates, views, bodies, requests] = rates;
    let views = channel(2, views);
    // Certificates of earlier views are rarely asked for, so their channel is asked who is there.
    let sight = Sight::new(views.0.clone());
    let to_all = |(sender, receiver)| (Reached::new(sender, None), receiver);
    let to_one = |(sender, receiver)| (Reached::new(sender, Some(sight.clone())), receiver);
    let links = Links {
        votes: to_all(channel(0, votes)),
        certificates: to_all(channel(1, certificates)),
        views: to_one(views),
        bodies: to_all(channel(3, bodies)),
        requests: to_one(channel(4, requests)),
        blocker: oracle.clone(),
        peers: oracle,
    };
    network.start();
    links
}

impl<V, W, S, R, B, P> Links<V, W, S, R, B, P> {
    /// The same links, on which votes leave through a gate.
    pub(crate) fn gated(self, gate: Option<Gate>) -> Links<Noted<V>, W, S, R, B, P> {
        let Links { votes, certificates, views, bodies, requests, blocker, peers } = self;
        let open = |(sender, receiver)| (Noted::new(sender, None), receiver);
        Links {
            votes: (Noted::new(votes.0, gate), votes.1),
            certificates: open(certificates),
            views: open(views),
            bodies,
            requests,
            blocker,
            peers,
        }
    }

    /// The same links for a set of one: its votes go where `quiet` takes them, to nobody, and what
    /// others send as votes is read by nobody.
    pub(crate) fn without_votes<V2, W2, S2, R2, B2, P2>(
        self,
        quiet: Links<V2, W2, S2, R2, B2, P2>,
    ) -> Links<V2, W2, S, R, B, P> {
        let Links { bodies, requests, blocker, peers, .. } = self;
        let Links { votes, certificates, views, .. } = quiet;
        Links { votes, certificates, views, bodies, requests, blocker, peers }
    }
}

impl<V: Channel, W: Source, S, R, B: Block, P> Links<V, W, S, R, B, P> {
    /// The same links, of which votes, certificates and views are those of one epoch.
    pub(crate) async fn of_epoch<E: Spawner>(
        self,
        context: &E,
        epoch: u64,
    ) -> Result<OfEpoch<V, S, R, B, P>, mux::Error> {
        let Links { votes, certificates, views, bodies, requests, blocker, peers } = self;
        let part = async |name: &'static str, (sender, receiver): (V, W)| {
            let receiver = OfSomeEpoch { inner: receiver, blocker: blocker.clone() };
            let (muxer, mut handle): (_, MuxHandle<V>) =
                Muxer::new(context.child(name), sender, receiver);
            muxer.start();
            handle.register(epoch).await
        };
        Ok(Links {
            votes: part("votes", votes).await?,
            certificates: part("certificates", certificates).await?,
            views: part("views", views).await?,
            bodies,
            requests,
            blocker,
            peers,
        })
    }
}

/// Receives messages that begin with the number of an epoch, and blocks who sends another.
struct OfSomeEpoch<R, B> {
    inner: R,
    blocker: B,
}

impl<R: fmt::Debug, B> fmt::Debug for OfSomeEpoch<R, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<R: Source, B: Block> Receiver for OfSomeEpoch<R, B> {
    type Error = R::Error;
    type PublicKey = Key;

    async fn recv(&mut self) -> Result<Message<Key>, R::Error> {
        loop {
            let (from, bytes) = self.inner.recv().await?;
            if mux::parse(bytes.clone()).is_ok() {
                return Ok((from, bytes));
            }
            tracing::warn!(peer = %from, "a peer sent a message without the number of an epoch");
            self.blocker.block(from);
        }
    }

    fn capacity(&self) -> NonZeroUsize {
        self.inner.capacity()
    }
}

/// Which peers are connected, which are not listened to, and how many messages of them had to wait
/// on each channel; keys in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) connected: BTreeSet<String>,
    pub(crate) blocked: BTreeSet<String>,
    pub(crate) limited: BTreeMap<String, [u64; 5]>,
}

/// The value of a label of a series in the text of metrics.
fn label<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    Some(line.split_once(&format!("{name}=\""))?.1.split_once('"')?.0)
}

/// Reads from the network's own series who is connected; it has no other answer to that.
pub(crate) fn seen(context: &runtime::Context) -> Seen {
    seen_in(&context.encode())
}

fn seen_in(text: &str) -> Seen {
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let of = |series: &'static str| {
        lines().filter(move |line| {
            line.split(['{', ' ']).next().is_some_and(|name| name.ends_with(series))
        })
    };
    let peers = |series| of(series).filter_map(|line| label(line, "peer").map(str::to_owned));
    let mut limited: BTreeMap<String, [u64; 5]> = BTreeMap::new();
    for line in of("_messages_rate_limited_total") {
        let channel = label(line, "message").and_then(|name| name.strip_prefix("data_"));
        let channel = channel.and_then(|channel| channel.parse::<usize>().ok());
        let count = line.rsplit(' ').next().and_then(|count| count.parse().ok());
        if let (Some(peer), Some(channel @ 0..5), Some(count)) =
            (label(line, "peer"), channel, count)
        {
            limited.entry(peer.to_owned()).or_default()[channel] = count;
        }
    }
    Seen {
        connected: peers("_directory_connected").collect(),
        blocked: peers("_directory_blocked").collect(),
        limited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_connected_blocked_and_limited_is_read_from_the_series() {
        let text = "# HELP a_directory_connected ...\n\
            a_directory_connected{peer=\"aa\"} 1\n\
            a_directory_connected{peer=\"bb\"} 1\n\
            a_directory_blocked{peer=\"cc\"} 1795000000\n\
            a_messages_rate_limited_total{peer=\"aa\",message=\"data_3\"} 5\n\
            a_messages_rate_limited_total{message=\"data_0\",peer=\"aa\"} 7\n\
            a_messages_rate_limited_total{peer=\"bb\",message=\"ping\"} 9\n\
            a_messages_rate_limited_total{peer=\"bb\",message=\"data_5\"} 9\n\
            a_messages_received_total{peer=\"bb\",message=\"data_1\"} 9\n";
        let seen = seen_in(text);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!((seen.connected, seen.blocked), (names(&["aa", "bb"]), names(&["cc"])));
        assert_eq!(seen.limited, BTreeMap::from([("aa".to_owned(), [7, 0, 0, 5, 0])]));
        assert_eq!(seen_in(""), Seen::default());
    }
}
