//! A peer that sends well-formed messages faster than PROTOCOL section 5.2 lets it: it waits, and
//! nobody else does.

use super::*;
use crate::digest::Digest;
use crate::finalization::{self, sorted};
use crate::network::RATES;
use crate::scheme::Scheme;
use crate::simulation::plausible_message;
use commonware_codec::{Encode as _, varint::UInt};
use commonware_consensus::simplex::types::Certificate;
use commonware_runtime::IoBuf;
use commonware_utils::NZU32;
use std::process::Command;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// What nobody may.
const ANY: [NonZeroU32; 5] = [NZU32!(1_000_000); 5];
/// Says to the test that it is the process of its own in which memory is measured.
const ALONE: &str = "PIAOGEN_RATES_ALONE";
/// How much more memory a flood may take.
const GROWTH_MAX: usize = 96 << 20;

/// Different messages of a channel.
const DIFFERENT: u64 = 64;

/// What a validator might say on each channel, over and over.
struct Chatter {
    messages: Vec<Vec<IoBuf>>,
    said: usize,
}

impl Chatter {
    /// Of validator 3, who knows the certificate of a block.
    fn new(four: &Four, finalization: &[u8]) -> Self {
        let set = sorted(&four.keys()).unwrap();
        let known = finalization::decode(finalization).unwrap();
        let certificate: Certificate<Scheme, Digest> = Certificate::Finalization(known);
        let certificate: IoBuf = [&UInt(0u64).encode()[..], &certificate.encode()].concat().into();
        let scheme = Scheme::signer(NAMESPACE, set, four.secrets[3].clone()).unwrap();
        // Far above what is final, so that bodies are not passed over.
        let chain = Chain::default();
        chain.set(|state| state.last.height = 1_000_000);
        let message = |channel: usize, count: u64| {
            let said = plausible_message(channel, count, &scheme, &chain, &GENESIS);
            said.unwrap_or_else(|| certificate.clone())
        };
        let all = |channel| (0..DIFFERENT).map(|count| message(channel, count)).collect();
        Self { messages: (0..RATES.len()).map(all).collect(), said: 0 }
    }

    fn say(&mut self, channel: usize) -> IoBuf {
        self.said += 1;
        let messages = &self.messages[channel];
        messages[self.said % messages.len()].clone()
    }
}

/// Resident memory of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// Sends on all channels, far more than may be, until `ended`.
async fn flood(
    context: &runtime::Context,
    links: &mut Connected,
    mut chatter: Chatter,
    ended: Receiver<()>,
) {
    while ended.try_recv() == Err(TryRecvError::Empty) {
        for number in 0..RATES.len() {
            for _ in 0..20 {
                let message = chatter.say(number);
                of(links, number).0.send(Recipients::All, message, false);
            }
        }
        context.sleep(Duration::from_millis(2)).await;
    }
}

#[test]
#[ignore = "wants the machine: `cargo test --release -p piaogen-order -- --ignored a_flood`"]
fn a_flood_of_what_is_well_formed_stops_nobody_and_takes_no_memory() {
    if std::env::var_os(ALONE).is_none() {
        // Other tests would be measured too.
        let name = std::thread::current().name().unwrap().to_owned();
        let mut own = Command::new(std::env::current_exe().unwrap());
        let run = own.args(["--ignored", "--exact", &name]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let mut four = Four::new();
    (0..3).for_each(|index| four.start(index));
    four.grow(&[0, 1, 2], 5);
    let finalization = four.chains[0].finals(1)[0].finalization.clone();
    let before = resident();
    let (end, ended) = channel::<()>();
    let four = std::thread::scope(|scope| {
        let (rogue, listen) = (four.secrets[3].clone(), four.addresses[3].clone());
        let quiet = four.shape();
        let chatter = Chatter::new(&four, &finalization);
        scope.spawn(move || {
            intrude(&quiet, &rogue, &listen, ANY, async move |context, mut links| {
                flood(&context, &mut links, chatter, ended).await;
            });
        });
        wait("the flood has begun", || four.peers(0)[3].connected);
        four.grow(&[0, 1, 2], 10);
        // Who has lost everything is served by the two that are flooded, or there is no quorum.
        four.stop(2);
        four.chains[2] = Arc::default();
        four.start(2);
        let present = four.chains[0].height();
        four.chains[2].finals(present + 10);
        four.grow(&[0, 1, 2], 10);
        drop(end);
        four
    });
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{} MiB more", grown >> 20);
    four.finish();
}
