//! Files that somebody hands out: a node or any web server over HTTP, or a folder.
//!
//! Invariants
//! - An answer is read up to the limit that the caller has for it, never further.
//! - Who is busy is waited for, so often and no more; a file that is not there is no error.
//! - Nothing that comes back is believed, and nobody is followed to another address.

use anyhow::{Context, Result, bail, ensure};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a busy server is asked again, and the longest wait between, whatever it says.
const BUSY_TRIES: u32 = 60;
const BUSY_WAIT_MAX: u64 = 10;
/// The first wait after a connection failed; it doubles each time.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// Connections that are kept open for the next file.
const IDLE_CONNECTIONS: usize = 32;

/// Most bytes of what a server says when it does not answer.
const COMPLAINT: u64 = 1_024;
/// What stands in a part of a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A server that said again and again that it is busy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Busy(pub String);

/// Where files are read from.
#[derive(Debug)]
pub struct Site {
    place: Place,
    tries: u32,
}

#[derive(Debug)]
enum Place {
    Http(ureq::Agent, String),
    Folder(PathBuf),
}

/// What came of one request.
enum Answer {
    File(Vec<u8>),
    /// With what was said.
    Absent(String),
    /// Ask again after so long; with what was said.
    Busy(Duration, String),
}

impl Site {
    /// Opens what an argument names: `http://HOST:PORT`, where files lie below `below`, or a folder.
    /// `patience` is the longest time for one file.
    pub fn open(from: &str, below: &str, patience: Duration) -> Result<Site> {
        let place = if from.starts_with("http://") {
            let agent = ureq::Agent::config_builder()
                .timeout_global(Some(patience))
                .http_status_as_error(false)
                .max_redirects(0)
                .max_idle_connections(IDLE_CONNECTIONS)
                .max_idle_connections_per_host(IDLE_CONNECTIONS)
                .build();
            Place::Http(agent.into(), format!("{}{below}", from.trim_end_matches('/')))
        } else if from.contains("://") {
            bail!("{from}: only http:// is spoken; put a proxy before the node for anything else");
        } else {
            Place::Folder(from.into())
        };
        Ok(Site { place, tries: 1 })
    }

    /// A node at `http://HOST:PORT`, asked below `/v1`; nothing where that is no address.
    pub fn node(from: &str, patience: Duration) -> Result<Option<Site>> {
        let site = Site::open(from, "/v1", patience)?;
        Ok(matches!(site.place, Place::Http(..)).then_some(site))
    }

    /// The same, which asks again where a connection fails, so often.
    pub fn trying(self, tries: u32) -> Site {
        Site { tries, ..self }
    }

    fn once(&self, path: &str, limit: u64) -> Result<Answer> {
        match &self.place {
            Place::Folder(dir) => {
                let path = dir.join(path);
                let absent = || Answer::Absent(format!("{} is not there", path.display()));
                Ok(read_bounded(&path, limit)?.map_or_else(absent, Answer::File))
            }
            Place::Http(agent, base) => http(agent, &format!("{base}/{path}"), limit),
        }
    }

    /// Asks once for what must be there; who does not give it, or is busy, is quoted.
    pub fn ask(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        match self.once(path, limit)? {
            Answer::File(bytes) => Ok(bytes),
            Answer::Absent(said) => bail!(said),
            Answer::Busy(_, said) => Err(Busy(said).into()),
        }
    }

    /// Reads a file; nothing where there is none. One that is longer than `limit` is an error.
    pub fn get(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let (mut failed, mut busy) = (0, 0);
        loop {
            match self.once(path, limit) {
                Ok(Answer::File(bytes)) => return Ok(Some(bytes)),
                Ok(Answer::Absent(_)) => return Ok(None),
                Ok(Answer::Busy(wait, _)) if busy < BUSY_TRIES => {
                    busy += 1;
                    std::thread::sleep(wait);
                }
                Ok(Answer::Busy(_, said)) => {
                    let why = format!("busy {BUSY_TRIES} times in a row: {said}");
                    return Err(Busy(why).into());
                }
                Err(error) => {
                    failed += 1;
                    if failed >= self.tries {
                        return Err(error);
                    }
                    tracing::debug!(error = format!("{error:#}"), path, "asked for again");
                    std::thread::sleep(RETRY_WAIT * (1 << (failed - 1).min(5)));
                }
            }
        }
    }
}

/// Reads a file; nothing where there is none. One that is longer than `limit` is an error.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let named = || path.display().to_string();
    let file = match std::fs::File::open(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        file => file.with_context(named)?,
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).with_context(named)?;
    ensure!(bytes.len() as u64 <= limit, "{} is longer than {limit} bytes", path.display());
    Ok(Some(bytes))
}

fn http(agent: &ureq::Agent, url: &str, limit: u64) -> Result<Answer> {
    let mut response = agent.get(url).call().with_context(|| url.to_string())?;
    let code = response.status().as_u16();
    if code == 200 {
        let body = response.body_mut().with_config().limit(limit.saturating_add(1)).read_to_vec();
        let body = body.with_context(|| url.to_string())?;
        ensure!(body.len() as u64 <= limit, "{url}: the answer is longer than {limit} bytes");
        return Ok(Answer::File(body));
    }
    let again = response.headers().get("retry-after").and_then(|value| {
        let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
        Some(seconds.min(BUSY_WAIT_MAX))
    });
    let said = response.body_mut().with_config().limit(COMPLAINT).read_to_vec();
    // Whoever answers may say anything: it is shown as text of one line.
    let said = String::from_utf8_lossy(&said.unwrap_or_default()).trim().to_string();
    let said: String = said.chars().filter(|c| !c.is_control()).collect();
    let said = format!("{url}: {code} {said}");
    match code {
        404 | 410 => Ok(Answer::Absent(said)),
        429 | 503 => Ok(Answer::Busy(Duration::from_secs(again.unwrap_or(1)), said)),
        _ => bail!(said),
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
    use std::io::Write;
    use std::net::TcpListener;

    /// A server that gives these answers, one a connection; its URL.
    fn server(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1_024];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        url
    }

    fn get(from: &str, tries: u32, limit: u64) -> Result<Option<Vec<u8>>> {
        let site = Site::open(from, "/v1", Duration::from_secs(10)).unwrap();
        site.trying(tries).get("file", limit)
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    const BUSY: &str = "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\
        Connection: close\r\n\r\n";
    const NONE: &str = "HTTP/1.1 404 None\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const WRONG: &str = "HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc";

    #[test]
    fn who_is_busy_is_waited_for_and_who_fails_is_asked_again() {
        let file = Some(b"abc".to_vec());
        assert_eq!(get(&server(&[BUSY, BUSY, OK]), 1, 3).unwrap(), file);
        assert_eq!(get(&server(&[CUT, WRONG, OK]), 3, 3).unwrap(), file);
        assert_eq!(get(&server(&[NONE]), 1, 3).unwrap(), None);
        let error = get(&server(&[BUSY; 61]), 1, 3).unwrap_err();
        assert!(error.is::<Busy>(), "{error}");
        for (answers, why) in
            [(&[WRONG][..], ": 500 "), (&[CUT, OK], "file"), (&["nonsense\r\n\r\n", OK], "file")]
        {
            let error = format!("{:#}", get(&server(answers), 1, 100).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn who_does_not_answer_is_quoted_and_not_followed() {
        let ask = |answers| {
            let site = Site::node(&server(answers), Duration::from_secs(10)).unwrap().unwrap();
            site.ask("head", 3)
        };
        assert_eq!(ask(&[OK]).unwrap(), b"abc");
        assert!(ask(&[BUSY]).unwrap_err().is::<Busy>());
        const ABSENT: &str = "HTTP/1.1 404 x\r\ncontent-length: 9\r\n\r\nno\u{1b}[31m!\n";
        let error = format!("{:#}", ask(&[ABSENT]).unwrap_err());
        assert!(error.contains("/v1/head: 404 no[31m!"), "{error}");
        const MOVED: &str =
            "HTTP/1.1 302 x\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let error = format!("{:#}", ask(&[MOVED]).unwrap_err());
        assert!(error.contains("302"), "{error}");
        assert!(Site::node("a folder", Duration::ZERO).unwrap().is_none());
        assert_eq!(encoded("INV/2026 7?#&=票"), "INV%2F2026%207%3F%23%26%3D%E7%A5%A8");
        assert_eq!(encoded(".."), "%2E%2E");
    }

    #[test]
    fn only_http_and_folders_are_spoken() {
        let error = Site::open("https://host", "", Duration::ZERO).err().unwrap();
        assert!(error.to_string().contains("proxy"), "{error}");
    }

    #[test]
    fn nothing_is_read_beyond_the_limit() {
        assert!(get(&server(&[OK]), 1, 2).is_err());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"abc").unwrap();
        let from = dir.path().to_str().unwrap();
        assert_eq!(get(from, 1, 3).unwrap(), Some(b"abc".to_vec()));
        let error = get(from, 1, 2).unwrap_err();
        assert!(error.to_string().contains("longer than 2 bytes"), "{error}");
    }
}
