//! What a validator of a simulation has in place of a channel: it can leave recipients out, lose
//! what a liar withholds, send things twice or late, and tell the other selves of liars apart.
//!
//! An honest validator's wire passes everything on as it is, apart from the noise of the plan.
//!
//! Invariants
//! - What is random comes from the plan's seed, the validator and the channel.
//! - The network's own limits hold for whatever goes over it.

use super::records::Records;
use super::{Context, Noise, Side};
use crate::held;
use crate::key::Key;
use commonware_actor::{Feedback, Unreliable};
use commonware_p2p::simulated::{self, Control};
use commonware_p2p::{BlockedSubscription, Blocker, CheckedSender, LimitedSender, Message};
use commonware_p2p::{Receiver, Recipients};
use commonware_runtime::{Clock as _, IoBuf, IoBufs, Spawner as _};
use commonware_utils::NZUsize;
use commonware_utils::channel::{mpsc, ring};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// Messages of certificates, bodies and requests.
const CERTIFICATES: usize = 1;
const BODIES: usize = 3;
const REQUESTS: usize = 4;
/// Where the kind of a message on channel 4 stands, behind its number, and which is a request.
const KIND: usize = 8;
const REQUEST: u8 = 0;
/// Most messages that a liar remembers.
const KEPT_MAX: usize = 512;

pub(super) type Out = simulated::Sender<Key, Context>;
pub(super) type In = simulated::Receiver<Key>;
type Queue = mpsc::UnboundedSender<Message<Key>>;

/// Messages that a liar has sent (`true`) or heard, with their channels.
pub(super) type Kept = Arc<Mutex<VecDeque<(usize, bool, IoBuf)>>>;

/// What each liar remembers, whatever epoch it is in.
#[derive(Clone, Default)]
pub(super) struct Memories(Arc<Mutex<HashMap<usize, Kept>>>);

impl Memories {
    pub(super) fn of(&self, validator: usize) -> Kept {
        held(&self.0).entry(validator).or_default().clone()
    }
}

fn keep(kept: &Kept, channel: usize, own: bool, message: &IoBuf) {
    let mut kept = held(kept);
    if kept.len() == KEPT_MAX {
        kept.pop_front();
    }
    kept.push_back((channel, own, message.clone()));
}

/// Where one self listens: validator, self and channel.
type Place = (usize, usize, usize);

/// Where the selves of all liars listen.
#[derive(Clone, Default)]
pub(super) struct Selves(Arc<Mutex<HashMap<Place, Queue>>>);

impl Selves {
    /// Makes the place where one self listens on one channel.
    pub(super) fn listen(&self, place: Place) -> (Queue, Ear) {
        let (queue, ear) = mpsc::unbounded_channel();
        held(&self.0).insert(place, queue.clone());
        (queue, Ear { from: Way::Queue(ear), kept: None })
    }

    fn tell(&self, place: Place, message: Message<Key>) {
        if let Some(queue) = held(&self.0).get(&place) {
            // Who has stopped hears nothing.
            let _ = queue.send(message);
        }
    }
}

/// What a wire is like; the same for all copies of it.
pub(super) struct Shape {
    pub(super) validator: usize,
    pub(super) channel: usize,
    /// All validators, in the order of the plan.
    pub(super) names: Arc<[Key]>,
    /// Who is told anything.
    pub(super) told: Side,
    /// Which self this is, and which of those told are liars with two: their same self is told.
    pub(super) which: usize,
    pub(super) allies: Side,
    pub(super) selves: Selves,
    pub(super) withholds: bool,
    pub(super) honest: bool,
    /// As it is now.
    pub(super) noise: Arc<Mutex<Noise>>,
    /// How many messages left on this channel.
    pub(super) sent: AtomicU64,
    pub(super) late: mpsc::UnboundedSender<Late>,
    pub(super) kept: Option<Kept>,
    pub(super) records: Arc<Records>,
}

/// Sends on one channel.
#[derive(Clone)]
pub(super) struct Wire {
    inner: Out,
    shape: Arc<Shape>,
    random: Arc<Mutex<StdRng>>,
}

impl Wire {
    pub(super) fn new(inner: Out, seed: u64, shape: Shape) -> Self {
        let place = (shape.validator * 64 + shape.which * 8 + shape.channel) as u64;
        let random = StdRng::seed_from_u64(seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { inner, shape: Arc::new(shape), random: Arc::new(Mutex::new(random)) }
    }

    fn chance(&self, percent: u8) -> bool {
        percent > 0 && held(&self.random).random_range(0..100) < percent
    }

    /// Those of the recipients whom this self talks to, in the order of the plan.
    fn recipients(&self, wanted: &Recipients<Key>) -> Vec<usize> {
        let shape = &self.shape;
        let names = shape.names.iter().enumerate();
        let is_wanted = |name: &Key| match wanted {
            Recipients::All => true,
            Recipients::Some(some) => some.contains(name),
            Recipients::One(one) => one == name,
        };
        let others = names
            .filter(|(i, name)| *i != shape.validator && shape.told.has(*i) && is_wanted(name));
        let all: Vec<usize> = others.map(|(i, _)| i).collect();
        if shape.withholds { self.withheld(all) } else { all }
    }

    /// Of recipients those who get a vote, or a body: each vote goes to half of them, a body to
    /// nobody, one or all. Certificates go to nobody.
    fn withheld(&self, all: Vec<usize>) -> Vec<usize> {
        let mut random = held(&self.random);
        match self.shape.channel {
            CERTIFICATES => Vec::new(),
            REQUESTS => all,
            BODIES => match random.random_range(0..3) {
                0 => Vec::new(),
                1 if !all.is_empty() => vec![all[random.random_range(0..all.len())]],
                _ => all,
            },
            _ => all.into_iter().filter(|_| random.random_bool(0.5)).collect(),
        }
    }
}

impl LimitedSender for Wire {
    type PublicKey = Key;
    type Checked<'a> = CheckedWire<'a>;

    fn check(&mut self, recipients: Recipients<Key>) -> Result<CheckedWire<'_>, SystemTime> {
        let all = self.recipients(&recipients);
        let wire = self.clone();
        let (allies, others): (Vec<usize>, Vec<usize>) =
            all.into_iter().partition(|i| self.shape.allies.has(*i));
        let others = others.into_iter().map(|i| self.shape.names[i].clone()).collect();
        let net = self.inner.check(Recipients::Some(others))?;
        Ok(CheckedWire { net, allies, wire })
    }
}

/// A wire, and who is told.
pub(super) struct CheckedWire<'a> {
    net: <Out as LimitedSender>::Checked<'a>,
    allies: Vec<usize>,
    wire: Wire,
}

impl CheckedSender for CheckedWire<'_> {
    type PublicKey = Key;

    fn recipients(&self) -> Vec<Key> {
        let allies = self.allies.iter().map(|i| self.wire.shape.names[*i].clone());
        self.net.recipients().into_iter().chain(allies).collect()
    }

    fn send(self, message: impl Into<IoBufs> + Send, priority: bool) -> Unreliable<Feedback> {
        let message = message.into().coalesce();
        let (wire, shape) = (&self.wire, &self.wire.shape);
        let answers = shape.channel == REQUESTS && message.as_ref().get(KIND) != Some(&REQUEST);
        if shape.withholds && answers {
            return Unreliable::new(Feedback::Ok);
        }
        let recipients = self.net.recipients();
        shape.records.sent(shape.validator, shape.channel, message.len(), recipients.len());
        if shape.honest {
            shape.records.said(shape.validator, shape.channel, &message);
        }
        if let Some(kept) = &shape.kept {
            keep(kept, shape.channel, true, &message);
        }
        let me = &shape.names[shape.validator];
        for ally in &self.allies {
            let place = (*ally, shape.which, shape.channel);
            shape.selves.tell(place, (me.clone(), message.clone()));
        }
        let noise = *held(&shape.noise);
        let late = |message: IoBuf, again: bool| {
            let most = noise.delay.max(Duration::from_millis(1));
            let share = held(&wire.random).random_range(0..=1_000);
            let (after, shape) = (most * share / 1_000, shape.clone());
            let before = shape.sent.load(Ordering::Relaxed);
            let recipients = recipients.clone();
            let late = Late { after, again, before, recipients, message, priority, shape };
            // Who has stopped sends nothing more.
            let _ = wire.shape.late.send(late);
        };
        if wire.chance(noise.repeated_percent) {
            late(message.clone(), true);
        }
        if wire.chance(noise.delayed_percent) {
            late(message, false);
            return Unreliable::new(Feedback::Ok);
        }
        shape.sent.fetch_add(1, Ordering::Relaxed);
        self.net.send(message, priority)
    }
}

/// A message that is sent after others.
pub(super) struct Late {
    after: Duration,
    /// Whether it was sent in its time too.
    again: bool,
    /// How many messages had left before it.
    before: u64,
    recipients: Vec<Key>,
    message: IoBuf,
    priority: bool,
    shape: Arc<Shape>,
}

impl Late {
    fn send(self, senders: &mut [Out]) {
        let Late { again, before, recipients, message, priority, shape, .. } = self;
        let Ok(checked) = senders[shape.channel].check(Recipients::Some(recipients)) else {
            return;
        };
        let recipients = checked.recipients().len();
        if again {
            shape.records.repeated(recipients);
        } else if shape.sent.load(Ordering::Relaxed) > before {
            shape.records.overtaken(recipients);
        }
        let _ = checked.send(message, priority);
    }
}

/// Sends messages when their time has come.
pub(super) fn send_late(context: Context, senders: Vec<Out>) -> mpsc::UnboundedSender<Late> {
    let (queue, mut arriving) = mpsc::unbounded_channel::<Late>();
    context.spawn(move |context| async move {
        let mut senders = senders;
        let mut waiting: BTreeMap<(SystemTime, u64), Late> = BTreeMap::new();
        let mut count = 0;
        loop {
            let far = Duration::from_secs(3_600);
            let next = waiting.keys().next().map_or(context.current() + far, |(due, _)| *due);
            tokio::select! {
                biased;
                late = arriving.recv() => {
                    let Some(late) = late else { return };
                    count += 1;
                    waiting.insert((context.current() + late.after, count), late);
                }
                () = context.sleep_until(next) => {
                    while let Some(entry) = waiting.first_entry()
                        && entry.key().0 <= context.current()
                    {
                        entry.remove().send(&mut senders);
                    }
                }
            }
        }
    });
    queue
}

#[derive(Debug)]
enum Way {
    Network(In),
    Queue(mpsc::UnboundedReceiver<Message<Key>>),
}

/// Hears on one channel.
pub(super) struct Ear {
    from: Way,
    kept: Option<(usize, Kept)>,
}

impl std::fmt::Debug for Ear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.from.fmt(f)
    }
}

impl Ear {
    pub(super) fn new(receiver: In, kept: Option<(usize, Kept)>) -> Self {
        Self { from: Way::Network(receiver), kept }
    }
}

/// The network is gone.
#[derive(Debug, thiserror::Error)]
#[error("the simulated network is closed")]
pub(super) struct Closed;

impl Receiver for Ear {
    type Error = Closed;
    type PublicKey = Key;

    async fn recv(&mut self) -> Result<Message<Key>, Closed> {
        let (from, message) = match &mut self.from {
            Way::Network(receiver) => receiver.recv().await.map_err(|_| Closed)?,
            Way::Queue(queue) => queue.recv().await.ok_or(Closed)?,
        };
        if let Some((channel, kept)) = &self.kept {
            keep(kept, *channel, false, &message);
        }
        Ok((from, message))
    }

    fn capacity(&self) -> NonZeroUsize {
        match &self.from {
            Way::Network(receiver) => receiver.capacity(),
            Way::Queue(_) => NZUsize!(4_096),
        }
    }
}

/// Passes what arrives on to the selves that talk to its sender.
pub(super) fn divide(
    context: Context,
    mut receiver: In,
    names: Arc<[Key]>,
    selves: [(Side, Queue); 2],
) {
    context.spawn(move |_| async move {
        while let Ok((from, message)) = receiver.recv().await {
            let Some(sender) = names.iter().position(|name| *name == from) else { continue };
            for (side, queue) in &selves {
                if side.has(sender) {
                    let _ = queue.send((from.clone(), message.clone()));
                }
            }
        }
    });
}

/// Blocks as the engine says; the engine of a liar blocks nobody.
#[derive(Clone)]
pub(super) enum Doorman {
    Honest(Box<Control<Key, Context>>),
    Liar,
}

impl Blocker for Doorman {
    type PublicKey = Key;

    fn block(&mut self, peer: Key) -> Feedback {
        match self {
            Self::Honest(control) => control.block(peer),
            Self::Liar => Feedback::Ok,
        }
    }

    fn blocked(&mut self) -> BlockedSubscription<Key> {
        match self {
            Self::Honest(control) => control.blocked(),
            Self::Liar => ring::channel(NZUsize!(1)).1,
        }
    }
}
