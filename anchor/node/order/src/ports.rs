//! Ports of this machine for nodes that are started, killed and started again.
//!
//! A port that the kernel hands out itself (by binding port 0) is of the range from which outgoing
//! connections get theirs. While a node is down, any connection may come to have its port, even one
//! that a peer makes to just that port (it is then connected with itself), and the node cannot
//! listen when it starts again. So these are below that range.
//!
//! Invariants
//! - No port is given twice by one process.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the kernel's own range begins by default (Linux, `ip_local_port_range`).
const KERNEL_FIRST: u16 = 32_768;
/// Below are the ports of well-known services.
const FIRST: u16 = 10_000;

/// How many were looked at by this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Addresses of this machine's loopback on which nobody listens now.
///
/// # Errors
///
/// Where so many are not free.
pub fn free(count: usize) -> Result<Vec<SocketAddr>> {
    let range = u32::from(end().saturating_sub(FIRST)).max(1);
    // Processes that run side by side begin at different places.
    let start = std::process::id().wrapping_mul(97);
    let mut found = Vec::with_capacity(count);
    for _ in 0..range {
        if found.len() == count {
            break;
        }
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u32::from(FIRST) + start.wrapping_add(step) % range;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16));
        if TcpListener::bind(address).is_ok() {
            found.push(address);
        }
    }
    match found.len() == count {
        true => Ok(found),
        false => Err(Error::new(
            ErrorKind::AddrInUse,
            format!("{count} free ports are wanted, {FIRST} to {} have {}", end(), found.len()),
        )),
    }
}

/// The first port that is not ours to take.
fn end() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range.ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
    // Where the kernel's range leaves nothing, there is nothing to keep out of.
    first.filter(|first| *first > FIRST).unwrap_or(KERNEL_FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_differ_and_are_free_and_none_is_one_that_a_connection_gets() {
        let mut all = free(40).unwrap();
        all.extend(free(40).unwrap());
        let listeners: Vec<_> = all.iter().map(|at| TcpListener::bind(at).unwrap()).collect();
        assert_eq!(listeners.len(), 80);
        assert!(all.iter().all(|at| (FIRST..end()).contains(&at.port())));
        assert!(free(60_000).unwrap_err().to_string().contains("60000 free ports"));
    }
}
