//! Measures how fast records are made, one thread and all: `cargo run --release -p piaogen-loadgen
//! --example speed [RECORDS]`.

use piaogen_crypto::Lanes;
use piaogen_loadgen::generator::{Generator, GeneratorConfig};
use piaogen_loadgen::genesis::demo_chain;
use piaogen_loadgen::source::Signatures;
use std::time::Instant;

fn main() {
    let records = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let chain = demo_chain(1, 8, 1, 1_795_000_000_000);
    for signatures in [Signatures::Dummy, Signatures::Real] {
        let mut config = GeneratorConfig::new(1, &chain.genesis);
        config.signatures = signatures;
        let begin = Instant::now();
        let generator = Generator::new(config);
        let keys = begin.elapsed();
        let begin = Instant::now();
        let made = generator.generate_batch(0..records, Lanes::detect());
        let seconds = begin.elapsed().as_secs_f64();
        let bytes: usize = made.iter().map(|generated| generated.record.len()).sum();
        let blue: Vec<_> =
            made.iter().filter(|g| g.kind.is_good()).map(|g| g.record.len()).collect();
        println!(
            "{signatures:?}: {:.0} records/s, {:.0} B/record, {} B/good record; \
             keys of {} sellers in {keys:.1?}",
            records as f64 / seconds,
            bytes as f64 / records as f64,
            blue.iter().sum::<usize>() / blue.len(),
            generator.parties().sellers(),
        );
    }
}
