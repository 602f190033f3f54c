//! Runs the application beside the engine: proposing, checking and recording on threads of their
//! own.
//!
//! The engine is asynchronous and must never wait; the application waits for work, for the disk and
//! for hashes. Each of its three duties has one thread and a queue, so calls of one duty never
//! overlap, and a wait for the next block does not hold up the recording of the last. Checks that
//! wait for something take turns, so that one does not hold up another.
//!
//! Invariants
//! - Final blocks reach the application in order of height.
//! - A proposal is not begun while more than `LAG_MAX` final blocks wait to be recorded: the
//!   engine forgets old ones, so the application must not fall far behind.
//! - A panic in the application ends ordering, with its message.

use crate::digest::Digest;
use crate::error::Fatal;
use crate::{Application, Status, Verdict, held};
use commonware_utils::channel::oneshot;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

/// Most final blocks that wait for the application; the engine must keep more views than that.
pub(crate) const LAG_MAX: usize = 16;
/// Pause before the application is asked again when it had no answer.
const IDLE: Duration = Duration::from_millis(5);
/// How often a waiting thread looks whether it should end.
const GLANCE: Duration = Duration::from_millis(100);
/// How many blocks are remembered as good.
const GOOD_MAX: usize = 256;

/// A request to make a block.
pub(crate) struct Propose {
    pub(crate) view: u64,
    pub(crate) parent: Digest,
    pub(crate) response: oneshot::Sender<Digest>,
}

/// A request to check a block.
pub(crate) struct Check {
    pub(crate) view: u64,
    pub(crate) block: Digest,
    pub(crate) body: Vec<u8>,
    /// Whether a quorum has voted for the block already. Then "no" is not said, but nothing: what
    /// the others found good is not called bad, it just gets no vote from here.
    pub(crate) certify: bool,
    pub(crate) response: oneshot::Sender<bool>,
}

/// A final block to record.
pub(crate) struct Record {
    pub(crate) block: Digest,
    pub(crate) body: Vec<u8>,
    pub(crate) finalization: Vec<u8>,
}

/// The blocks that this validator made or found good last.
#[derive(Clone, Default)]
pub(crate) struct Good(Arc<Mutex<VecDeque<Digest>>>);

impl Good {
    pub(crate) fn add(&self, block: Digest) {
        let mut blocks = held(&self.0);
        if !blocks.contains(&block) {
            blocks.push_back(block);
        }
        if blocks.len() > GOOD_MAX {
            blocks.pop_front();
        }
    }

    pub(crate) fn has(&self, block: &Digest) -> bool {
        held(&self.0).contains(block)
    }
}

/// Checks that have no answer yet.
#[derive(Default)]
pub(crate) struct Open {
    waiting: VecDeque<Check>,
    /// Never answered; dropped when the engine no longer asks.
    mute: Vec<Check>,
}

impl Open {
    pub(crate) fn add(&mut self, check: Check) {
        self.waiting.push_back(check);
    }

    /// Asks about the one that has waited longest; whether that gave an answer.
    pub(crate) fn turn(&mut self, app: &dyn Application, good: &Good) -> bool {
        self.mute.retain(|check| !check.response.is_closed());
        let Some(check) = self.waiting.pop_front() else { return false };
        if check.response.is_closed() {
            return true;
        }
        match app.check(check.view, &check.body, check.certify) {
            Verdict::Good => {
                good.add(check.block);
                let _ = check.response.send(true);
            }
            Verdict::Bad if check.certify => self.mute.push(check),
            Verdict::Bad => {
                let _ = check.response.send(false);
            }
            Verdict::NotYet => {
                self.waiting.push_back(check);
                return false;
            }
        }
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// The queues; the threads end when the last copy is gone.
#[derive(Clone)]
pub(crate) struct Workers {
    propose: Sender<Propose>,
    check: Sender<Check>,
    record: Sender<Record>,
    lag: Arc<Lag>,
}

/// How many final blocks wait.
#[derive(Default)]
struct Lag {
    waiting: Mutex<usize>,
    fell: Condvar,
}

impl Lag {
    fn rise(&self) {
        *held(&self.waiting) += 1;
    }

    fn fall(&self) {
        let mut waiting = held(&self.waiting);
        *waiting = waiting.saturating_sub(1);
        self.fell.notify_all();
    }

    fn wait(&self, status: &Status) {
        let mut waiting = held(&self.waiting);
        while *waiting > LAG_MAX && !status.ending() {
            let woken = self.fell.wait_timeout(waiting, GLANCE);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Workers {
    /// Starts the three threads.
    pub(crate) fn start(
        application: &Arc<dyn Application>,
        status: &Arc<Status>,
        good: &Good,
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let lag = Arc::new(Lag::default());
        let (app, state, behind, own) =
            (application.clone(), status.clone(), lag.clone(), good.clone());
        let (propose, first) = spawn("order-propose", status, move |requests| {
            for request in requests {
                behind.wait(&state);
                answer_proposal(app.as_ref(), &state, &own, request);
            }
        })?;
        let (app, state, good) = (application.clone(), status.clone(), good.clone());
        let (check, second) = spawn("order-check", status, move |requests| {
            answer_checks(app.as_ref(), &state, &good, &requests);
        })?;
        let (app, behind) = (application.clone(), lag.clone());
        let (record, third) = spawn("order-record", status, move |requests| {
            for Record { block, body, finalization } in requests {
                app.finalized(block.0, &body, &finalization);
                behind.fall();
            }
        })?;
        Ok((Self { propose, check, record, lag }, vec![first, second, third]))
    }

    /// Asks for a block; nothing is answered when ordering ends.
    pub(crate) fn propose(&self, request: Propose) {
        let _ = self.propose.send(request);
    }

    /// Asks for a verdict.
    pub(crate) fn check(&self, request: Check) {
        let _ = self.check.send(request);
    }

    /// Queues a final block.
    pub(crate) fn record(&self, request: Record) {
        self.lag.rise();
        let _ = self.record.send(request);
    }

    /// Whether the application has fallen behind with recording.
    pub(crate) fn behind(&self) -> bool {
        *held(&self.lag.waiting) > LAG_MAX
    }
}

/// Asks until there is a block, or the engine has moved on and dropped its end.
fn answer_proposal(app: &dyn Application, status: &Status, good: &Good, request: Propose) {
    while !request.response.is_closed() && !status.ending() {
        if let Some(block) = app.propose(request.view, request.parent.0) {
            good.add(Digest(block));
            let _ = request.response.send(Digest(block));
            return;
        }
        sleep(IDLE);
    }
}

/// Answers checks as they can be answered.
fn answer_checks(app: &dyn Application, status: &Status, good: &Good, requests: &Receiver<Check>) {
    let mut open = Open::default();
    while !status.ending() {
        if open.len() == 0 {
            match requests.recv() {
                Ok(check) => open.add(check),
                Err(_) => return,
            }
        }
        loop {
            match requests.try_recv() {
                Ok(check) => open.add(check),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        if !open.turn(app, good) {
            sleep(IDLE);
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    status: &Arc<Status>,
    work: impl FnOnce(Receiver<T>) + Send + 'static,
) -> std::io::Result<(Sender<T>, JoinHandle<()>)> {
    let (sender, receiver) = channel::<T>();
    let status = status.clone();
    let thread = Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(receiver))) {
            let reason = last_words(panic.as_ref());
            status.fail(Fatal::Died { what: "the application", reason });
        }
    })?;
    Ok((sender, thread))
}

/// The message of a panic.
pub(crate) fn last_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked without a message".to_owned())
}
