//! Asks a node over HTTP: one bounded GET at a time.
//!
//! Invariants
//! - Nothing that comes back is believed; here only its length and the time for it are bounded.
//! - Nobody is followed to another address.

use anyhow::{Context, Result, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::time::Duration;

/// Most bytes of what a node says when it does not answer.
const COMPLAINT: u64 = 1_024;
/// What stands in a part of a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The node has no time now.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Busy(String);

/// A node that is asked.
#[derive(Clone, Debug)]
pub struct Asked {
    agent: ureq::Agent,
    base: String,
}

impl Asked {
    /// The node at `http://HOST:PORT`, which may take so long for an answer; none where that is no
    /// address.
    pub fn open(from: &str, patience: Duration) -> Result<Option<Asked>> {
        if !from.starts_with("http://") {
            if from.contains("://") {
                bail!(
                    "{from}: only http:// is spoken; put a proxy before the node for anything else"
                );
            }
            return Ok(None);
        }
        let config = ureq::Agent::config_builder().timeout_global(Some(patience));
        let config = config.max_redirects(0).http_status_as_error(false).build();
        let base = from.trim_end_matches('/').to_string();
        Ok(Some(Asked { agent: config.into(), base }))
    }

    /// What the node answers with under a path, at most so many bytes.
    pub fn get(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        let url = format!("{}{path}", self.base);
        let mut response = self.agent.get(&url).call().with_context(|| url.clone())?;
        let code = response.status().as_u16();
        let limit = if code == 200 { limit } else { COMPLAINT };
        let body = response.body_mut().with_config().limit(limit + 1).read_to_vec();
        if code == 200 {
            return body.with_context(|| url);
        }
        // Whoever answers may say anything: it is shown as text of one line.
        let said = String::from_utf8_lossy(&body.unwrap_or_default()).trim().to_string();
        let said: String = said.chars().filter(|c| !c.is_control()).collect();
        let why = format!("{url}: {code} {said}");
        if code == 503 { Err(Busy(why).into()) } else { bail!(why) }
    }
}

/// A text as one part of a path, or a value of a query.
pub fn encoded(text: &str) -> String {
    // Dots alone would be taken for a step upwards.
    match text {
        "." | ".." => text.replace('.', "%2E"),
        _ => utf8_percent_encode(text, PLAIN).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// A node that answers once, with these bytes.
    fn once(answer: &'static str) -> Asked {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let from = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4_096];
            let _ = stream.read(&mut head).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        Asked::open(&from, Duration::from_secs(5)).unwrap().unwrap()
    }

    #[test]
    fn an_answer_is_bounded_and_a_complaint_is_told() {
        let answer = |text, limit| once(text).get("/v1/head", limit);
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(answer(good, 3).unwrap(), b"abc");
        assert!(answer(good, 1).is_err());
        assert!(answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", 9).is_err());
        let busy = "HTTP/1.1 503 x\r\ncontent-length: 6\r\n\r\nlater\n";
        assert!(answer(busy, 9).unwrap_err().is::<Busy>());
        let absent = "HTTP/1.1 404 x\r\ncontent-length: 9\r\n\r\nno\u{1b}[31m!\n";
        let error = format!("{:#}", answer(absent, 9).unwrap_err());
        assert!(error.contains("404 no[31m!"), "{error}");
        let moved = "HTTP/1.1 302 x\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let error = format!("{:#}", answer(moved, 9).unwrap_err());
        assert!(error.contains("302"), "{error}");
        assert!(answer("nonsense", 9).is_err());
    }

    #[test]
    fn only_addresses_of_nodes_are_taken() {
        let open = |from| Asked::open(from, Duration::from_secs(1));
        assert!(open("a folder").unwrap().is_none());
        assert!(open("https://x").is_err() && open("ftp://x").is_err());
        assert_eq!(encoded("INV/2026 7?#&=票"), "INV%2F2026%207%3F%23%26%3D%E7%A5%A8");
        assert_eq!(encoded(".."), "%2E%2E");
    }
}
