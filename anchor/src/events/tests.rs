//! Events on one shard, as the protocol's table has them: every row, every answer, every race.

mod authority;
mod booking;
mod buyer;
mod deadline;
mod deduction;
mod delegation;
mod financing;
mod given;
mod lending;
mod model;
mod payment;
mod properties;
mod query;
mod races;
mod red;
mod world;

use self::world::{Event, World};
use piaogen_verify::entry::Outcome;
use piaogen_verify::record::RecordKind;

#[test]
fn an_event_on_nothing_or_by_nobody_is_refused() {
    let mut world = World::new();
    let event = Event::of(RecordKind::AddFile).digest(1);
    assert_eq!(world.run("S", &event), Outcome::NotFound);
    world.issue(11_300);
    assert_eq!(world.run("nobody", &event), Outcome::NotRegistered);
}
