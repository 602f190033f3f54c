//! Starts validators of a simulation, honest or not, like a node starts.
//!
//! Invariants
//! - All tasks of a validator are below one, with which they end.
//! - What is honest has the blocker of the network, and its links as they are but for the noise.

use super::records::{Records, Timed};
use super::roles::{self, Flood, Role};
use super::wire::{self, Doorman, Ear, In, Kept, Late, Out, Shape, Wire};
use super::{Course, Shared, Side, partition};
use crate::engine::{Member, Resume, resume, start_member};
use crate::exchange::Calls;
use crate::finalization::{self, sorted};
use crate::journal;
use crate::network::Links;
use crate::scheme::Scheme;
use crate::worker::{Good, Open};
use crate::{Application, OrderConfig, OrderError, Refused, Status};
use commonware_consensus::{Epochable as _, Viewable as _};
use commonware_cryptography::certificate::Scheme as _;
use commonware_runtime::deterministic::Context;
use commonware_runtime::{Clock as _, Handle, Spawner as _, Supervisor as _};
use commonware_utils::channel::mpsc;
use piaogen_crypto::sm2::SecretKey;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

impl Shared {
    /// The selves of a validator, with their applications and whom they talk to.
    fn selves(one: usize, course: &Course) -> Vec<Own> {
        let (plan, all) = (&course.plan, &course.applications);
        let first = all[one].clone();
        let Some(Role::Equivocates { first: told, second }) = plan.role(one) else {
            return vec![Own { which: 0, number: one, application: first, told: Side::ALL }];
        };
        let two = |role: &Role| matches!(role, Role::Equivocates { .. });
        let before = plan.roles.iter().filter(|(_, role)| two(role));
        let place = before.take_while(|(who, _)| *who != one).count();
        let number = course.secrets.len() + place;
        let application = all[number].clone();
        vec![
            Own { which: 0, number: one, application: first, told },
            Own { which: 1, number, application, told: second },
        ]
    }

    /// A self like a node starts it: it recalls its votes and hands over what the application
    /// missed.
    async fn member(
        &self,
        context: &Context,
        one: usize,
        own: Own,
        course: &Course,
    ) -> Result<Ready, OrderError> {
        let Own { which, number, application, told } = own;
        let (config, secret) = (self.config(one, number, course), &course.secrets[one]);
        let application: Arc<dyn Application> = Arc::new(Timed {
            inner: application,
            clock: context.child("clock"),
            records: course.records.clone(),
            honest: course.plan.role(one).is_none().then_some(one),
        });
        let scheme = scheme(&config, secret)?;
        // The simulated disk is one for all.
        let partition = partition(&config, one, which);
        // The newest certificate that the application has, as a node would have it from its store.
        let newest = application.finals(application.last().height, 1, usize::MAX).pop();
        let known = newest.map(|block| finalization::decode(&block.finalization)).transpose()?;
        let known = known.filter(|known| known.epoch().get() == config.epoch);
        let settled = known.as_ref().map_or(0, |finalization| finalization.view().get());
        let resume = if scheme.me().is_some() {
            let (recall, directory) = (context.child("recall"), &config.directory);
            let mut memory =
                journal::recall(recall, &partition, &scheme, directory, settled).await?;
            // In place of the record of a node outside its votes.
            memory.missing &= course.records.has_voted(one, config.epoch);
            resume(&config, &scheme, known.as_ref(), memory, application.as_ref())?
        } else {
            Resume::following(known)
        };
        let keys = finalization::sort_validators(&config.validators)?;
        let status = Arc::new(Status::new(keys, secret.public_key()));
        let (calls, good) = (Calls::Inline(Open::default(), Vec::new()), Good::default());
        let me = self.names[one].clone();
        let member = Member { application, calls, good, scheme, me, status, partition };
        Ok(Ready { which, told, config, resume, member })
    }

    /// Starts a validator, honest or not. The task that is returned takes all others of the
    /// validator with it.
    pub(super) async fn start(
        &self,
        context: &Context,
        one: usize,
        course: &Course,
    ) -> Result<Handle<()>, OrderError> {
        let plan = &course.plan;
        let context = context.child("validator").with_attribute("validator", one);
        let mut start = Start {
            one,
            role: plan.role(one),
            seed: plan.seed,
            begun: course.begun.unwrap_or_else(|| context.current()),
            records: course.records.clone(),
            world: self.clone(),
            equivocate: Side::of(plan.roles.iter().filter_map(|(who, role)| {
                matches!(role, Role::Equivocates { .. }).then_some(*who)
            })),
            selves: Vec::new(),
            links: Vec::new(),
        };
        if start.role == Some(Role::Floods) {
            let config = self.config(one, one, course);
            let flood = Flood {
                seed: plan.seed,
                scheme: scheme(&config, &course.secrets[one])?,
                application: course.applications[one].clone(),
                genesis: plan.genesis,
                body_bytes_max: plan.body_bytes_max,
                links: self.register(one, plan).await?,
            };
            return Ok(context.child("tasks").spawn(move |context| async move {
                roles::flood(context.child("flood"), flood);
                std::future::pending().await
            }));
        }
        for own in Self::selves(one, course) {
            start.selves.push(self.member(&context, one, own, course).await?);
        }
        start.links = self.register(one, plan).await?;
        Ok(context.child("tasks").spawn(move |context| start.run(context)))
    }
}

/// Votes where the key is of the set, and checks certificates in any case.
fn scheme(config: &OrderConfig, secret: &SecretKey) -> Result<Scheme, Refused> {
    let set = sorted(&config.validators)?;
    let signer = Scheme::signer(&config.namespace, set.clone(), secret.clone());
    Ok(signer.unwrap_or_else(|| Scheme::verifier(&config.namespace, set)))
}

/// One self of a validator.
struct Own {
    which: usize,
    /// The number of its application.
    number: usize,
    application: Arc<dyn Application>,
    told: Side,
}

/// A self that can start.
struct Ready {
    which: usize,
    told: Side,
    config: OrderConfig,
    resume: Resume,
    member: Member,
}

/// A validator that starts.
struct Start {
    one: usize,
    role: Option<Role>,
    seed: u64,
    /// When the run began.
    begun: SystemTime,
    records: Arc<Records>,
    world: Shared,
    /// All who have two selves.
    equivocate: Side,
    selves: Vec<Ready>,
    links: Vec<(Out, In)>,
}

impl Start {
    async fn run(mut self, context: Context) {
        let (senders, receivers): (Vec<Out>, Vec<In>) =
            std::mem::take(&mut self.links).into_iter().unzip();
        let late = wire::send_late(context.child("late"), senders.clone());
        let kept = (self.role == Some(Role::Replays)).then(|| self.world.memories.of(self.one));
        let mut ears = self.ears(&context, receivers, kept.as_ref());
        if let Some(kept) = &kept {
            let seed = self.seed ^ self.one as u64;
            let (context, kept) = (context.child("replay"), kept.clone());
            roles::replay(context, seed, self.begun, kept, senders.clone());
        }
        let mut tasks = Vec::new();
        for ready in std::mem::take(&mut self.selves) {
            let Ready { which, told, config, resume, member } = ready;
            let mut ends = senders.iter().zip(ears.remove(0)).enumerate();
            let mut end = || {
                let (channel, (sender, ear)) = ends.next()?;
                let shape = self.shape(channel, which, told, &late, kept.as_ref());
                Some((Wire::new(sender.clone(), self.seed, shape), ear))
            };
            let (Some(votes), Some(certificates), Some(views), Some(bodies), Some(requests)) =
                (end(), end(), end(), end(), end())
            else {
                return;
            };
            let control = self.world.oracle.control(self.world.names[self.one].clone());
            let blocker = match self.role {
                None => Doorman::Honest(Box::new(control)),
                Some(_) => Doorman::Liar,
            };
            let peers = self.world.oracle.manager();
            let links = Links { votes, certificates, views, bodies, requests, blocker, peers };
            let context = context.child("set").with_attribute("self", which);
            let Ok(links) = links.of_epoch(&context, config.epoch).await else { return };
            tasks.push(start_member(context, &config, resume, member, links));
        }
        for (engine, exchange) in tasks {
            if let Some(engine) = engine {
                let _ = engine.await;
            }
            let _ = exchange.await;
        }
    }

    /// Where each self hears, by channel.
    fn ears(&self, context: &Context, receivers: Vec<In>, kept: Option<&Kept>) -> Vec<Vec<Ear>> {
        let [first, second] = &self.selves[..] else {
            let ear =
                |(channel, receiver)| Ear::new(receiver, kept.map(|kept| (channel, kept.clone())));
            return vec![receivers.into_iter().enumerate().map(ear).collect()];
        };
        let mut ears = vec![Vec::new(), Vec::new()];
        for (channel, receiver) in receivers.into_iter().enumerate() {
            let selves = [first, second].map(|own| {
                let (queue, ear) = self.world.selves.listen((self.one, own.which, channel));
                ears[own.which].push(ear);
                (own.told, queue)
            });
            wire::divide(context.child("divide"), receiver, self.world.names.clone(), selves);
        }
        ears
    }

    fn shape(
        &self,
        channel: usize,
        which: usize,
        told: Side,
        late: &mpsc::UnboundedSender<Late>,
        kept: Option<&Kept>,
    ) -> Shape {
        let two = self.equivocate.has(self.one);
        Shape {
            validator: self.one,
            channel,
            names: self.world.names.clone(),
            told,
            which,
            allies: if two { self.equivocate } else { Side::default() },
            selves: self.world.selves.clone(),
            withholds: self.role == Some(Role::Withholds),
            honest: self.role.is_none(),
            noise: self.world.noise.clone(),
            sent: AtomicU64::new(0),
            late: late.clone(),
            kept: kept.cloned(),
            records: self.records.clone(),
        }
    }
}
