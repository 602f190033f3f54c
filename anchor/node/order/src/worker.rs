//! Runs the application beside the engine: proposing, checking and recording on threads of their
//! own.
//!
//! The engine is asynchronous and must never wait; the application waits for work, for the disk and
//! for hashes. Each of its three duties has one thread and a queue, so calls of one duty never
//! overlap, and a wait for the next block does not hold up the recording of the last.
//!
//! Invariants
//! - Finalizations reach the application in order of views.
//! - A proposal is not begun while more than `LAG_MAX` finalizations wait to be recorded: the
//!   engine forgets old ones, so the application must not fall far behind.
//! - A panic in the application ends ordering, with its message.

use crate::digest::Digest;
use crate::error::Fatal;
use crate::{Application, Status};
use commonware_utils::channel::oneshot;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

/// Most finalizations that wait for the application; the engine must keep more views than that.
pub(crate) const LAG_MAX: usize = 16;
/// Pause before the application is asked again when it had nothing to propose.
const IDLE: Duration = Duration::from_millis(5);
/// How often a waiting thread looks whether it should end.
const GLANCE: Duration = Duration::from_millis(100);

/// A request to make a block.
pub(crate) struct Propose {
    pub(crate) view: u64,
    pub(crate) parent: Digest,
    pub(crate) response: oneshot::Sender<Digest>,
}

/// A request to check a block.
pub(crate) struct Check {
    pub(crate) view: u64,
    pub(crate) parent: Digest,
    pub(crate) block: Digest,
    pub(crate) response: oneshot::Sender<bool>,
}

/// A finalization to record.
pub(crate) struct Record {
    pub(crate) block: Digest,
    pub(crate) finalization: Vec<u8>,
}

/// The queues; the threads end when the last copy is gone.
#[derive(Clone)]
pub(crate) struct Workers {
    propose: Sender<Propose>,
    check: Sender<Check>,
    record: Sender<Record>,
    lag: Arc<Lag>,
}

/// How many finalizations wait.
#[derive(Default)]
struct Lag {
    waiting: Mutex<usize>,
    fell: Condvar,
}

impl Lag {
    fn rise(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    fn fall(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = waiting.saturating_sub(1);
        self.fell.notify_all();
    }

    fn wait(&self, status: &Status) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
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
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let lag = Arc::new(Lag::default());
        let (app, state, behind) = (application.clone(), status.clone(), lag.clone());
        let (propose, first) = spawn("order-propose", status, move |request: Propose| {
            behind.wait(&state);
            answer_proposal(app.as_ref(), &state, request);
        })?;
        let app = application.clone();
        let (check, second) = spawn("order-check", status, move |request: Check| {
            if !request.response.is_closed() {
                let good = app.verify(request.view, request.parent.0, request.block.0);
                let _ = request.response.send(good);
            }
        })?;
        let (app, behind) = (application.clone(), lag.clone());
        let (record, third) = spawn("order-record", status, move |request: Record| {
            app.finalized(request.block.0, &request.finalization);
            behind.fall();
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

    /// Queues a finalization.
    pub(crate) fn record(&self, request: Record) {
        self.lag.rise();
        let _ = self.record.send(request);
    }
}

/// Asks until there is a block, or the engine has moved on and dropped its end.
fn answer_proposal(app: &dyn Application, status: &Status, request: Propose) {
    while !request.response.is_closed() && !status.ending() {
        if let Some(block) = app.propose(request.view, request.parent.0) {
            let _ = request.response.send(Digest(block));
            return;
        }
        sleep(IDLE);
    }
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    status: &Arc<Status>,
    mut work: impl FnMut(T) + Send + 'static,
) -> std::io::Result<(Sender<T>, JoinHandle<()>)> {
    let (sender, receiver) = channel::<T>();
    let status = status.clone();
    let thread = Builder::new().name(name.to_owned()).spawn(move || {
        for request in receiver {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(request))) {
                let reason = last_words(panic.as_ref());
                status.fail(Fatal::Died { what: "the application", reason });
                return;
            }
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
