#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod cli;
pub mod drive;
pub mod generator;
pub mod genesis;
pub mod kafka;
mod names;
pub mod outcomes;
pub mod pace;
pub mod pack;
pub mod parties;
pub mod replay;
pub mod retail;
mod rng;
pub mod scenario;
pub mod send;
pub mod source;
