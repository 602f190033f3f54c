//! Plays a season: honest trade, and every fraud that is known, with the truth known beforehand.
//!
//! Sellers, buyers and banks act in stories; each record of a story knows what it must be answered,
//! by the rules of `anchor/PROTOCOL.md` and by the order in which it is sent, not by the code that
//! executes it. What the chain answers is taken from receipts that verify offline, and what it
//! tells from signed alerts.
//!
//! Invariants
//! - A fraud counts as caught only where its refusal is proved, or its alert is signed.
//! - A record that is honest and refused is a false refusal, whatever the reason.

mod cast;
mod deal;
mod forgery;
mod fraud;
mod honest;
mod invoice;
mod load;
mod play;
mod race;
mod report;
mod season;
mod story;
mod tally;

pub use cast::Counts;
pub use load::{EVENTS_MAX, Load, LoadConfig};
pub use play::{AlertFile, AlertSource, Play, Stage, play};
pub use race::{RaceConfig, RaceReport, race};
pub use season::{Act, Season, SeasonConfig};
pub use story::Pattern;
pub use tally::{Near, Row, Tally};
