//! Signs with this validator's own key, the same words always with the same bytes.
//!
//! The engine compares encoded votes: who sends the same vote with another signature is taken for
//! a forger, and not listened to for a while. A [`Signer`] in memory derives its nonces and repeats
//! itself; a device draws them. So what was signed last is kept here, and at a start it is filled
//! from the journal, in which every vote stands that may have left.
//!
//! Invariants
//! - After a signature failed, nothing is signed any more: the engine counts a vote as cast before
//!   it is signed, and does not write it down when it is cast again. The process ends, and a restart
//!   begins from what was written.

use crate::held;
use crate::key::Signature;
use commonware_utils::union_unique;
use piaogen_crypto::sm2::{PublicKey, SecretKey, SignError, Signer};
use piaogen_crypto::{Digest, sm3};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

/// Signatures that are kept: those of the last views, of which each has three at most.
const KEPT: usize = 64;

type OnFailure = Box<dyn Fn(&SignError) + Send + Sync>;

/// This validator's key.
#[derive(Clone)]
pub struct Own(Arc<Inner>);

struct Inner {
    signer: Arc<dyn Signer>,
    state: Mutex<State>,
    on_failure: OnceLock<OnFailure>,
}

#[derive(Default)]
struct State {
    said: VecDeque<(Digest, Signature)>,
    failed: bool,
}

impl Own {
    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.0.signer.public_key()
    }

    /// Says what to do when a signature fails; only the first caller is heard.
    pub(crate) fn on_failure(&self, react: impl Fn(&SignError) + Send + Sync + 'static) {
        let _ = self.0.on_failure.set(Box::new(react));
    }

    /// The signature of a vote; none after a failure.
    pub(crate) fn vote(&self, namespace: &[u8], message: &[u8]) -> Option<Signature> {
        let signed = union_unique(namespace, message);
        let name = sm3::hash(&signed);
        let mut state = held(&self.0.state);
        if let Some((_, signature)) = state.said.iter().find(|(known, _)| *known == name) {
            return Some(*signature);
        }
        let signature = self.fresh(&mut state, &signed)?;
        keep(&mut state, name, signature);
        Some(signature)
    }

    /// Remembers the signature of a vote that was cast before this process began.
    pub(crate) fn remember(&self, namespace: &[u8], message: &[u8], signature: Signature) {
        let name = sm3::hash(&union_unique(namespace, message));
        keep(&mut held(&self.0.state), name, signature);
    }

    /// The signature of something that is never repeated; none after a failure.
    pub(crate) fn sign(&self, namespace: &[u8], message: &[u8]) -> Option<Signature> {
        self.fresh(&mut held(&self.0.state), &union_unique(namespace, message))
    }

    fn fresh(&self, state: &mut State, signed: &[u8]) -> Option<Signature> {
        if state.failed {
            return None;
        }
        match self.0.signer.try_sign(signed) {
            Ok(signature) => Some(Signature(signature.0)),
            Err(error) => {
                state.failed = true;
                if let Some(react) = self.0.on_failure.get() {
                    react(&error);
                }
                None
            }
        }
    }
}

fn keep(state: &mut State, name: Digest, signature: Signature) {
    if state.said.len() == KEPT {
        state.said.pop_front();
    }
    state.said.push_back((name, signature));
}

impl From<Arc<dyn Signer>> for Own {
    fn from(signer: Arc<dyn Signer>) -> Self {
        Self(Arc::new(Inner { signer, state: Mutex::default(), on_failure: OnceLock::new() }))
    }
}

impl From<SecretKey> for Own {
    fn from(key: SecretKey) -> Self {
        Self::from(Arc::new(key) as Arc<dyn Signer>)
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Own({:?})", self.public_key())
    }
}
