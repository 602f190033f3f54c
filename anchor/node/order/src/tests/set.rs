//! Sets of four over sockets of this machine, with their votes on disk: what is promised with one
//! down, two down, one away; and what strangers, liars and listeners achieve.

mod listening;
mod rates;

use super::{Chain, GENESIS, NAMESPACE, bodies, check, secret};
use crate::engine::fetching;
use crate::exchange::Order;
use crate::network::{Connected, In, Out, RATES, addresses, connect, seen};
use crate::wire::Want;
use crate::{Finalized, Handle, NetworkConfig, OrderConfig, Peer, start};
use commonware_p2p::{Recipients, Sender as _};
use commonware_resolver::{Outcome, Resolution, Resolver as _};
use commonware_runtime::{
    Clock as _, Metrics as _, Runner as _, Supervisor as _, tokio as runtime,
};
use commonware_utils::channel::mpsc;
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A set of four; the validators in the order of certificates.
struct Four {
    root: TempDir,
    secrets: Vec<SecretKey>,
    addresses: Vec<String>,
    chains: Vec<Arc<Chain>>,
    handles: Vec<Option<Handle>>,
}

/// Addresses of this machine that nobody uses.
pub(super) fn free(count: usize) -> Vec<String> {
    crate::ports::free(count).unwrap().iter().map(ToString::to_string).collect()
}

impl Four {
    fn new() -> Self {
        let mut secrets: Vec<SecretKey> = (1..=4).map(secret).collect();
        secrets.sort_by_key(|secret| secret.public_key().to_compressed());
        Self {
            root: tempfile::tempdir().unwrap(),
            secrets,
            addresses: free(4),
            chains: (0..4).map(|_| Arc::default()).collect(),
            handles: (0..4).map(|_| None).collect(),
        }
    }

    /// The same set, of which nobody runs.
    fn shape(&self) -> Self {
        let (secrets, addresses) = (self.secrets.clone(), self.addresses.clone());
        Self { secrets, addresses, ..Self::new() }
    }

    fn keys(&self) -> Vec<PublicKey> {
        self.secrets.iter().map(SecretKey::public_key).collect()
    }

    fn config(&self, index: usize) -> OrderConfig {
        let directory = self.root.path().join(index.to_string());
        let finals = self.chains[index].finals(0);
        OrderConfig {
            finalized: finals.last().map(|block| block.finalization.clone()),
            leader_timeout: Duration::from_millis(500),
            certification_timeout: Duration::from_millis(750),
            network: Some(NetworkConfig {
                listen: self.addresses[index].parse().unwrap(),
                peers: self.keys().into_iter().zip(self.addresses.clone()).collect(),
                any_source: false,
                blocked_for: Duration::from_secs(2),
                body_bytes_max: 1_000,
            }),
            ..OrderConfig::new(NAMESPACE, self.keys(), directory, GENESIS)
        }
    }

    fn start(&mut self, index: usize) {
        let (config, chain) = (self.config(index), self.chains[index].clone());
        self.handles[index] = Some(start(config, &self.secrets[index], chain).unwrap());
    }

    fn start_all(mut self) -> Self {
        (0..4).for_each(|index| self.start(index));
        self
    }

    fn stop(&mut self, index: usize) {
        self.handles[index].take().unwrap().stop().unwrap();
    }

    fn peers(&self, index: usize) -> Vec<Peer> {
        self.handles[index].as_ref().unwrap().peers()
    }

    /// Waits until these have `more` blocks than they have together now at most.
    fn grow(&self, who: &[usize], more: usize) {
        let height = who.iter().map(|index| self.chains[*index].height()).max().unwrap();
        for index in who {
            self.chains[*index].finals(height + more);
        }
    }

    /// Ends those that run; fails unless all chains are one.
    fn finish(mut self) {
        for handle in self.handles.iter_mut().filter_map(Option::take) {
            assert_eq!(handle.failed(), None);
            handle.stop().unwrap();
        }
        let all: Vec<_> = self.chains.iter().map(|chain| chain.finals(0)).collect();
        let longest = bodies(all.iter().max_by_key(|blocks| blocks.len()).unwrap());
        for blocks in &all {
            check(blocks, &self.keys());
            assert_eq!(longest[..blocks.len()], bodies(blocks), "one chain");
        }
    }
}

/// Longer than anything takes that has not failed, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(300);

fn wait(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn four_agree_each_block_has_its_certificate_and_all_see_each_other() {
    let four = Four::new().start_all();
    four.grow(&[0, 1, 2, 3], 20);
    for index in 0..4 {
        wait("all are connected", || {
            four.peers(index).iter().all(|peer| peer.me || (peer.connected && !peer.blocked))
        });
        let peers = four.peers(index);
        assert_eq!(peers.iter().position(|peer| peer.me), Some(index));
        wait("votes of all are counted", || {
            four.peers(index).iter().all(|peer| peer.votes > 0 && peer.view > 0)
        });
        assert!(four.handles[index].as_ref().unwrap().view() >= 20);
    }
    four.finish();
}

#[test]
fn with_one_down_it_goes_on_with_two_down_it_halts_and_resumes() {
    let mut four = Four::new().start_all();
    four.grow(&[0, 1, 2, 3], 5);
    four.stop(3);
    four.grow(&[0, 1, 2], 8);
    wait("it is seen to be gone", || !four.peers(0)[3].connected);
    four.stop(2);
    // What was under way becomes final, and then nothing does.
    std::thread::sleep(Duration::from_millis(500));
    let before: Vec<usize> = four.chains.iter().map(|chain| chain.height()).collect();
    std::thread::sleep(Duration::from_secs(2));
    let after: Vec<usize> = four.chains.iter().map(|chain| chain.height()).collect();
    assert_eq!(before[..2], after[..2]);
    four.start(2);
    four.grow(&[0, 1, 2], 5);
    four.start(3);
    four.grow(&[0, 1, 2, 3], 5);
    four.finish();
}

#[test]
fn one_that_was_away_for_fifty_blocks_catches_up_and_votes_again() {
    let mut four = Four::new().start_all();
    four.grow(&[0, 1, 2, 3], 3);
    four.stop(1);
    four.grow(&[0, 2, 3], 50);
    let away = four.chains[1].height();
    four.start(1);
    let present = four.chains[0].height();
    assert!(present >= away + 50);
    four.chains[1].finals(present);
    let voted = |four: &Four| {
        let blocks = four.chains[0].finals(present);
        let by_it = |block: &&crate::FinalBlock| {
            let read = Finalized::decode(&block.finalization).unwrap();
            read.signatures.iter().any(|(index, _)| *index == 1)
        };
        blocks[present..].iter().filter(by_it).count()
    };
    wait("its votes count again", || voted(&four) > 3);
    four.finish();
}

#[test]
fn one_with_an_empty_application_is_given_everything_again() {
    let mut four = Four::new().start_all();
    four.grow(&[0, 1, 2, 3], 10);
    four.stop(0);
    four.chains[0] = Arc::default();
    four.start(0);
    let present = four.chains[1].height();
    four.chains[0].finals(present);
    four.finish();
}

#[test]
fn wrong_roots_are_not_voted_for() {
    let four = Four::new();
    four.chains[2].set(|state| state.liar = true);
    let four = four.start_all();
    four.grow(&[0, 1, 3], 12);
    let verdicts = |index: usize| four.chains[index].state.lock().unwrap().verdicts;
    wait("the others have seen its proposals", || [0, 1, 3].iter().all(|i| verdicts(*i).1 > 0));
    // `finish` checks all roots.
    four.finish();
}

/// Runs a network with a key, and nothing behind it, against a set; `set` has the keys that it
/// believes in.
fn intrude<T: Send + 'static>(
    four: &Four,
    secret: &SecretKey,
    listen: &str,
    rates: [NonZeroU32; 5],
    work: impl AsyncFnOnce(runtime::Context, Connected) -> T + Send + 'static,
) -> T {
    let mut config = four.config(0);
    let network = config.network.as_mut().unwrap();
    network.listen = listen.parse().unwrap();
    if !config.validators.contains(&secret.public_key()) {
        config.validators.push(secret.public_key());
    }
    networked(four, config, secret, rates, work)
}

/// Runs a network, and nothing behind it.
fn networked<T: Send + 'static>(
    four: &Four,
    config: OrderConfig,
    secret: &SecretKey,
    rates: [NonZeroU32; 5],
    work: impl AsyncFnOnce(runtime::Context, Connected) -> T + Send + 'static,
) -> T {
    let network = config.network.clone().unwrap();
    let me = secret.public_key().into();
    let peers = addresses(&config, &network, &me).unwrap();
    let folder = four.root.path().join("intruder");
    let settings = runtime::Config::new().with_storage_directory(folder).with_worker_threads(1);
    let secret = secret.clone();
    runtime::Runner::new(settings).start(|context| async move {
        let links = connect(&context, &config, &network, peers, secret.into(), rates);
        work(context, links).await
    })
}

#[test]
fn a_stranger_is_turned_away() {
    let four = Four::new().start_all();
    four.grow(&[0, 1, 2, 3], 3);
    let stranger = secret(9);
    let listen = &free(1)[0];
    let connected = intrude(&four, &stranger, listen, RATES, async |context, mut links| {
        for _ in 0..20 {
            links.votes.0.send(Recipients::All, b"let me in".to_vec(), true);
            context.sleep(Duration::from_millis(100)).await;
        }
        seen(&context).connected
    });
    assert!(connected.is_empty(), "{connected:?}");
    four.grow(&[0, 1, 2, 3], 3);
    assert!(four.peers(0).iter().all(|peer| !peer.blocked));
    four.finish();
}

/// Both ends of a channel.
fn of(links: &mut Connected, channel: usize) -> &mut (Out, In) {
    match channel {
        0 => &mut links.votes,
        1 => &mut links.certificates,
        2 => &mut links.views,
        3 => &mut links.bodies,
        _ => &mut links.requests,
    }
}

/// Sends `bytes` as validator 3 on a channel, until `enough`.
fn garbage(four: &Four, channel: usize, bytes: &'static [u8], enough: impl Fn() -> bool) -> bool {
    let (rogue, listen) = (&four.secrets[3], &four.addresses[3]);
    std::thread::scope(|scope| {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            intrude(four, rogue, listen, RATES, async move |context, mut links| {
                let (sender, _) = of(&mut links, channel);
                while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    sender.send(Recipients::All, bytes.to_vec(), true);
                    context.sleep(Duration::from_millis(20)).await;
                }
            });
        });
        let until = Instant::now() + PATIENCE;
        while !enough() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let done = enough();
        drop(end);
        done
    })
}

#[test]
fn garbage_on_any_channel_stops_nobody_and_blocks_its_sender_where_it_could_do_harm() {
    let mut four = Four::new();
    (0..3).for_each(|index| four.start(index));
    four.grow(&[0, 1, 2], 2);
    // Of this epoch, where the engine's messages name one; and of none that could be read.
    let (named, unnamed): (&[u8], &[u8]) = (&[0, 0xff, 0xff, 0xff], &[0xff; 100]);
    for (channel, bytes) in [(0, named), (1, named), (3, named)].into_iter().chain([
        (0, unnamed),
        (1, unnamed),
        (2, unnamed),
    ]) {
        // Each for a while, and not all at one moment.
        let seen = [const { Cell::new(false) }; 3];
        let blocked = || {
            let look = |(index, seen): (usize, &Cell<bool>)| {
                seen.set(seen.get() || four.peers(index)[3].blocked);
                seen.get()
            };
            seen.iter().enumerate().filter(|one| look(*one)).count() == 3
        };
        wait("an earlier block is over", || (0..3).all(|index| !four.peers(index)[3].blocked));
        let sent = garbage(&four, channel, bytes, blocked);
        assert!(sent, "channel {channel}, {bytes:?}: {:?}", four.peers(0)[3]);
        four.grow(&[0, 1, 2], 2);
    }
    wait("the last block is over", || (0..3).all(|index| !four.peers(index)[3].blocked));
    for channel in [2, 4] {
        let goal = four.chains[0].height() + 20;
        let connected = || four.peers(0)[3].connected && four.chains[0].height() >= goal;
        assert!(
            garbage(&four, channel, named, connected),
            "channel {channel}: {:?}",
            four.peers(0)[3]
        );
        four.grow(&[0, 1, 2], 2);
    }
    four.finish();
}

#[test]
fn who_is_not_there_is_not_asked() {
    const BLOCKS: u64 = 8;
    let mut four = Four::new();
    (0..3).for_each(|index| four.start(index));
    four.grow(&[0, 1, 2], BLOCKS as usize);
    let mut config = four.config(3);
    // Keys of before, or to come.
    let absent = (20..25).map(|seed| secret(seed).public_key()).zip(free(5));
    config.network.as_mut().unwrap().peers.extend(absent);
    let me = four.secrets[3].public_key().into();
    let chain: Arc<Chain> = Arc::default();
    let asked = networked(&four, config, &four.secrets[3], RATES, async move |context, links| {
        let (mailbox, mut orders) = mpsc::unbounded_channel();
        let parts = context.child("parts");
        let peers = (links.peers, links.blocker, links.requests);
        let mut fetch = fetching(parts, me, mailbox, chain, peers);
        for round in 0..4 * BLOCKS {
            let want = Want::Finals(1 + round % BLOCKS);
            fetch.fetch(want);
            let Some(Order::Answer { want: answered, response, .. }) = orders.recv().await else {
                panic!("an answer")
            };
            assert_eq!(want, answered);
            response.send(Outcome::Resolved(Resolution::Complete)).unwrap();
        }
        let text = context.encode();
        let sent = text.lines().find(|line| {
            line.contains("requests_sent") && line.contains("Success") && !line.starts_with('#')
        });
        sent.unwrap_or_else(|| panic!("{text}")).rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    });
    assert_eq!(asked, 4 * BLOCKS, "an answer to each request");
    four.finish();
}
