//! Runs a chain: joins streams, execution, ordering, storage and archive into the `piaogen` binary.
//!
//! Good starting points: [`run`] is the node; [`config`] is what an operator sets; [`cli`] has one
//! file for each subcommand.

#![forbid(unsafe_code)]

pub mod check;
pub mod cli;
pub mod config;
pub mod disk;
pub mod evidence;
pub mod gather;
pub mod history;
pub mod keys;
pub mod members;
pub mod mirror;
pub mod run;
pub mod serve;
pub mod setup;
pub mod sinks;
pub mod site;
pub mod snapshot;
pub mod stage;
pub mod witness;
