//! Somebody between two validators who sees every byte: nothing of what they say can be read.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Mutex;
use std::thread::{JoinHandle, spawn};

/// What passed, of each connection and way.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// Passes bytes on, and keeps them.
fn pass(mut from: TcpStream, mut to: TcpStream, heard: Heard) -> JoinHandle<()> {
    let place = {
        let mut all = heard.lock().unwrap();
        all.push(Vec::new());
        all.len() - 1
    };
    spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            heard.lock().unwrap()[place].extend_from_slice(&buffer[..count]);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        // The other way ends too.
        let _ = to.shutdown(std::net::Shutdown::Both);
    })
}

/// Listens where it says, for connections to `target`.
fn between(target: &str) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, heard) = (listener.local_addr().unwrap().to_string(), Heard::default());
    let (kept, target) = (heard.clone(), target.to_owned());
    // It ends with the process.
    spawn(move || {
        for dialed in listener.incoming() {
            let (Ok(here), Ok(there)) = (dialed, TcpStream::connect(&target)) else { continue };
            pass(here.try_clone().unwrap(), there.try_clone().unwrap(), kept.clone());
            pass(there, here, kept.clone());
        }
    });
    (address, heard)
}

/// Whether any of this was heard.
fn has(heard: &Heard, wanted: &[u8]) -> bool {
    heard.lock().unwrap().iter().any(|bytes| bytes.windows(wanted.len()).any(|at| at == wanted))
}

#[test]
fn who_listens_between_validators_reads_nothing() {
    let mut four = Four::new();
    // Whoever of 0 and the others dials, somebody is between.
    let (ours, to_us) = between(&four.addresses[0]);
    let mut heard = vec![to_us];
    for index in 0..4 {
        let mut config = four.config(index);
        let network = config.network.as_mut().unwrap();
        for (other, (_, address)) in network.peers.iter_mut().enumerate() {
            if index == 0 && other != 0 {
                let (theirs, to_them) = between(address);
                *address = theirs;
                heard.push(to_them);
            } else if index != 0 && other == 0 {
                address.clone_from(&ours);
            }
        }
        let chain = four.chains[index].clone();
        four.handles[index] = Some(start(config, &four.secrets[index], chain).unwrap());
    }
    four.grow(&[0, 1, 2, 3], 10);
    let total = |heard: &Heard| heard.lock().unwrap().iter().map(Vec::len).sum::<usize>();
    let finals = four.chains[0].finals(10);
    let bytes: usize = heard.iter().map(total).sum();
    assert!(bytes > finals.len() * 1_000, "{bytes} bytes passed");
    let mut secrets: Vec<Vec<u8>> = vec![NAMESPACE.to_vec()];
    for block in &finals {
        let read = Finalized::decode(&block.finalization).unwrap();
        secrets.extend([read.block.to_vec(), block.body.clone(), block.body[48..].to_vec()]);
        secrets.extend(read.signatures.iter().map(|(_, signature)| signature.to_vec()));
    }
    for secret in &secrets {
        assert!(!heard.iter().any(|heard| has(heard, secret)), "{}", hex::encode(secret));
    }
    // It would have been found.
    let (address, heard) = between(&four.addresses[0]);
    TcpStream::connect(address).unwrap().write_all(&finals[0].body).unwrap();
    wait("what is sent in the open is heard", || has(&heard, &finals[0].body));
    four.finish();
}
