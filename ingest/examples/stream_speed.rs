//! Measures how fast records go into a stream and come out of it again.
//!
//! ```text
//! cargo run --release -p piaogen-ingest --example stream_speed -- log DIR
//! cargo run --release -p piaogen-ingest --example stream_speed -- kafka HOST:PORT
//! ```
//!
//! Two numbers may follow: how many records, and how many bytes each.
//!
//! One partition, one thread that writes and then one that reads. The payloads repeat words, so
//! that compression has about as much to do as with real records.
//! The topics that it makes in Kafka stay; `deploy/kafka wipe` deletes them with everything else.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use piaogen_ingest::stream::kafka::{KafkaOptions, KafkaStream, ensure_topic};
use piaogen_ingest::stream::log::{EmbeddedLog, LogOptions};
use piaogen_ingest::stream::{Batch, NO_ACK, Stream};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |i: usize, default: u64| arguments.get(i).map_or(Ok(default), |text| text.parse::<u64>());
    let (records, bytes) = (number(2, 2_000_000)?, number(3, 600)? as usize);
    match arguments.first().zip(arguments.get(1)) {
        Some((kind, folder)) if kind == "log" => {
            let folder = Path::new(folder).join(format!("speed-{}", std::process::id()));
            let log = EmbeddedLog::create(&folder, "speed", 1, LogOptions::default())?;
            measure("embedded log", &log, records, bytes)?;
            std::fs::remove_dir_all(&folder)?;
        }
        Some((kind, brokers)) if kind == "kafka" => {
            for compression in ["none", "lz4", "zstd"] {
                let options = KafkaOptions {
                    brokers: brokers.clone(),
                    compression: compression.to_string(),
                    ..KafkaOptions::default()
                };
                let topic = format!("piaogen-speed-{}-{compression}", std::process::id());
                ensure_topic(&options, &topic, 1, 1)?;
                let stream = KafkaStream::open(&options, &topic)?;
                measure(&format!("Kafka, {compression}"), &stream, records, bytes)?;
            }
        }
        _ => return Err("usage: stream_speed log DIR | kafka HOST:PORT [RECORDS [BYTES]]".into()),
    }
    Ok(())
}

/// A few payloads of words and digits; real ones differ from each other in the same places.
fn payloads(bytes: usize) -> Vec<Vec<u8>> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let one = |random: &mut dyn FnMut() -> u64| {
        let mut out = Vec::with_capacity(bytes + 40);
        while out.len() < bytes {
            out.extend_from_slice(b"\"amount\":");
            out.extend_from_slice((random() % 1_000_000).to_string().as_bytes());
            out.extend_from_slice(&random().to_le_bytes());
        }
        out.truncate(bytes);
        out
    };
    (0..1024).map(|_| one(&mut random)).collect()
}

fn measure(
    what: &str,
    stream: &dyn Stream,
    records: u64,
    bytes: usize,
) -> Result<(), Box<dyn Error>> {
    let payloads = payloads(bytes);
    let begun = Instant::now();
    let mut writer = stream.writer()?;
    for i in 0..records {
        let payload = &payloads[(i % 1024) as usize];
        writer.send_waiting(0, payload, NO_ACK, Duration::from_secs(60))?;
    }
    writer.flush()?;
    report(what, "write", records, bytes, begun.elapsed());

    let mut reader = stream.reader(0, 0)?;
    let mut batch = Batch::new(16_384, 16 << 20);
    let begun = Instant::now();
    let (mut count, mut polls) = (0, 0);
    while count < records {
        batch.clear();
        reader.poll(&mut batch, Duration::from_secs(60))?;
        count += batch.len() as u64;
        polls += 1;
    }
    report(what, "read", records, bytes, begun.elapsed());
    println!("{what}: {} records a poll", records / polls);

    let begun = Instant::now();
    drop(stream.reader(0, records / 2)?);
    println!(
        "{what}: a reader in the middle opens in {:.1} ms",
        begun.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}

fn report(what: &str, way: &str, records: u64, bytes: usize, took: Duration) {
    let rate = records as f64 / took.as_secs_f64();
    let megabytes = rate * bytes as f64 / 1e6;
    println!("{what}: {way} {rate:.0} records/s of {bytes} bytes, {megabytes:.0} MB/s");
}
