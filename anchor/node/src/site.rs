//! Files that somebody hands out: a node or any web server over HTTP, or a folder.
//!
//! Invariants
//! - An answer is read up to the limit that the caller has for it, never further.
//! - Who is busy is waited for, so often and no more; a file that is not there is no error.

use anyhow::{Context, Result, bail, ensure};
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

/// A server that said again and again that it is busy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Busy(pub String);

/// Where files are read from.
pub struct Site {
    place: Place,
    tries: u32,
}

enum Place {
    Http(ureq::Agent, String),
    Folder(PathBuf),
}

/// What came of one request.
enum Answer {
    File(Vec<u8>),
    Absent,
    /// Ask again after so long.
    Busy(Duration),
}

impl Site {
    /// Opens what an argument names: `http://HOST:PORT`, where files lie below `below`, or a folder.
    /// `patience` is the longest time for one file.
    pub fn open(from: &str, below: &str, patience: Duration) -> Result<Site> {
        let place = if from.starts_with("http://") {
            let agent = ureq::Agent::config_builder()
                .timeout_global(Some(patience))
                .http_status_as_error(false)
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

    /// The same, which asks again where a connection fails, so often.
    pub fn trying(self, tries: u32) -> Site {
        Site { tries, ..self }
    }

    /// Reads a file; nothing where there is none. One that is longer than `limit` is an error.
    pub fn get(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let (mut failed, mut busy) = (0, 0);
        loop {
            let answer = match &self.place {
                Place::Folder(dir) => read_bounded(&dir.join(path), limit)
                    .map(|file| file.map_or(Answer::Absent, Answer::File)),
                Place::Http(agent, base) => http(agent, &format!("{base}/{path}"), limit),
            };
            match answer {
                Ok(Answer::File(bytes)) => return Ok(Some(bytes)),
                Ok(Answer::Absent) => return Ok(None),
                Ok(Answer::Busy(wait)) if busy < BUSY_TRIES => {
                    busy += 1;
                    std::thread::sleep(wait);
                }
                Ok(Answer::Busy(_)) => {
                    let why = format!("{path}: the server was busy {BUSY_TRIES} times in a row");
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
    match response.status().as_u16() {
        200 => {}
        404 | 410 => return Ok(Answer::Absent),
        429 | 503 => {
            let seconds = response.headers().get("retry-after").and_then(|value| {
                let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
                Some(seconds.min(BUSY_WAIT_MAX))
            });
            return Ok(Answer::Busy(Duration::from_secs(seconds.unwrap_or(1))));
        }
        code => bail!("{url}: the server answered {code}"),
    }
    let body = response.body_mut().with_config().limit(limit.saturating_add(1)).read_to_vec();
    let body = body.with_context(|| url.to_string())?;
    if body.len() as u64 > limit {
        bail!("{url}: the answer is longer than {limit} bytes");
    }
    Ok(Answer::File(body))
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
        for (answers, why) in [
            (&[WRONG][..], "answered 500"),
            (&[CUT, OK], "file"),
            (&["nonsense\r\n\r\n", OK], "file"),
        ] {
            let error = format!("{:#}", get(&server(answers), 1, 100).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
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
