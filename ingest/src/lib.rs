//! Takes records from Kafka or the embedded log and prepares them for execution.
//!
//! Good starting points: [`stream`] is the seam behind which Kafka and the embedded log look alike;
//! [`check`] is what lanes do with each record before it is executed.

pub mod check;
pub mod stream;
