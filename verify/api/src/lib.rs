//! Answers over HTTP what a node knows: metrics, health, receipts.
//!
//! It reads and never writes. What it needs of the node is one trait, so that it depends on no
//! storage and no engine.
//!
//! | path | answer |
//! |---|---|
//! | `GET /metrics` | series in Prometheus' text format |
//! | `GET /health/live` | 200 while the process knows its own state, else 503 with the reason |
//! | `GET /health/ready` | 200 while it follows the chain, else 503 with the reason |
//! | `GET /v1/receipts/{partition}/{offset}?count=N` | receipts from that place of the stream on |
//! | `GET /v1/headers/{height}?count=N` | headers with their certificates, from that height on |
//! | `GET /v1/head` | the newest header that proves something |
//! | `GET /v1/flushed` | JSON: what of the stream the node needs after a crash, by shard |
//! | `GET /v1/tiles/{tile}` | a tile of a log, for ever the same (`FORMAT.md` section 11.2) |
//! | `GET /v1/status/{scheme}/{number}?seller=S` | the proof of what became of an invoice |
//! | `GET /v1/consistency/{older}/{newer}` | the proof that one header extends another |
//! | `GET /v1/snapshot/{file}` | a file of the snapshot that the node offers, if it does |
//! | `GET /v1/evidence` | JSON: the files of evidence that validators voted twice |
//! | `GET /v1/evidence/{file}` | one of them (`FORMAT.md` section 12.2) |
//!
//! Health says the node's role behind `ok`.
//!
//! Receipts come in compact form, each behind its length (`u32`, big-endian), for at most `count`
//! (1–1,000) records from the offset on; none where they are not provable yet, which a client asks
//! again. They show all fields: whoever may read this port reads what the node stores. With
//! `cosigned=1` they carry the cosignatures of witnesses, and those are not there yet that these do
//! not cover. A status shows what everybody may know, whoever asks.
//!
//! Invariants
//! - A request costs a bounded number of receipts.
//! - So many requests are answered at a time as were allowed, even where who asked has gone; one
//!   more is told to come again. Health and metrics are always answered.
//! - What connections cost is bounded (`connections`).

mod connections;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use connections::{Bounds, Sending};
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Most headers of one answer.
pub const HEADERS_MAX: u64 = 1_000;
/// Most receipts of one answer.
pub const RECEIPTS_MAX: u64 = 1_000;

/// Why the node does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// It is not here, or not yet: 404.
    Absent(String),
    /// It cannot be answered at the moment: 503, and who asks comes again in a second.
    Busy(String),
    /// It is here and cannot be read: 500. What went wrong is for the operator, not for who asks.
    Failed,
}

impl IntoResponse for Unanswered {
    fn into_response(self) -> Response {
        match self {
            Unanswered::Absent(why) => (StatusCode::NOT_FOUND, format!("{why}\n")).into_response(),
            Unanswered::Busy(why) => {
                let again = [(header::RETRY_AFTER, "1")];
                (StatusCode::SERVICE_UNAVAILABLE, again, format!("{why}\n")).into_response()
            }
            Unanswered::Failed => {
                let why = "it cannot be read; the node's log says why\n";
                (StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
            }
        }
    }
}

/// What the node tells.
pub trait Source: Send + Sync + 'static {
    /// What the node is there for: the word behind `ok` in its health.
    fn role(&self) -> &'static str;
    /// All series.
    fn metrics(&self) -> String;
    /// Why the node no longer knows its own state, if so.
    fn failure(&self) -> Option<String>;
    /// Why it does not follow the chain at present, if so.
    fn unready(&self) -> Option<String>;
    /// Compact receipts from an offset of a partition on, as many as are provable, at most `count`.
    /// The partition after the last is the registry. `cosigned`: with the cosignatures of
    /// witnesses, as many as are in the log that they signed.
    fn receipts(
        &self,
        partition: u32,
        offset: u64,
        count: u64,
        cosigned: bool,
    ) -> Result<Vec<Vec<u8>>, Unanswered>;
    /// Final headers from a height on with what certifies them (`FORMAT.md` section 11.1), at most
    /// `count`.
    fn headers(&self, height: u64, count: u64) -> Result<Vec<Vec<u8>>, Unanswered>;
    /// A file of the snapshot that it offers, by a name without folders; nothing where there is none.
    fn snapshot(&self, file: &str) -> Result<Option<Vec<u8>>, Unanswered>;
    /// The files of evidence that it has, as JSON.
    fn evidence_files(&self) -> Result<String, Unanswered>;
    /// A file of evidence, by its name; nothing where there is none.
    fn evidence(&self, file: &str) -> Result<Option<Vec<u8>>, Unanswered>;
    /// What of the stream it needs after a crash, as JSON (`PROTOCOL.md` section 5.3).
    fn flushed(&self) -> Result<String, Unanswered>;
    /// The newest header that proves something (`FORMAT.md` section 11.2); none at the beginning.
    fn head(&self) -> Result<Option<Vec<u8>>, Unanswered>;
    /// The tile with this path, where it is and can be proved.
    fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, Unanswered>;
    /// The proof of the status of an invoice (`FORMAT.md` section 9.1), showing what everybody may
    /// know.
    fn status(
        &self,
        scheme: &str,
        number: &str,
        seller: Option<&str>,
    ) -> Result<Vec<u8>, Unanswered>;
    /// The proof that the header at one height is extended by that at another (`FORMAT.md` section
    /// 11).
    fn consistency(&self, older: u64, newer: u64) -> Result<Vec<u8>, Unanswered>;
}

/// Serves who connects until `until` is done; answers at most `requests` at a time.
///
/// # Errors
///
/// What the operating system says of a listener that cannot be used.
pub async fn serve(
    listener: std::net::TcpListener,
    source: Arc<dyn Source>,
    requests: usize,
    until: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (room, sending) = (Arc::new(Semaphore::new(requests)), Sending::new());
    let router = router(Asked { source, room, sending });
    connections::serve(listener, router, Bounds::default(), until).await;
    Ok(())
}

/// Who answers, and how many more may ask.
#[derive(Clone)]
struct Asked {
    source: Arc<dyn Source>,
    room: Arc<Semaphore>,
    sending: Sending,
}

impl Asked {
    /// Reads from the source, which blocks, on a thread for that; says so where there is no room.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Source) -> Result<T, Unanswered> + Send + 'static,
    ) -> Result<T, Response> {
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            let why = "too many requests are being answered; try again in a second";
            return Err(Unanswered::Busy(why.into()).into_response());
        };
        let source = self.source.clone();
        let reading = tokio::task::spawn_blocking(move || {
            // Held until it is read, even if nobody waits for it any longer.
            let _permit = permit;
            read(&*source)
        });
        match reading.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(why)) => Err(why.into_response()),
            Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
        }
    }
}

impl Asked {
    /// Answers with a file, and how long it may be kept.
    async fn file(
        &self,
        read: impl FnOnce(&dyn Source) -> Result<Option<Vec<u8>>, Unanswered> + Send + 'static,
        age: &'static str,
    ) -> Response {
        match self.read(read).await {
            Ok(Some(bytes)) => match self.bytes(bytes) {
                Ok(mut response) => {
                    let age = HeaderValue::from_static(age);
                    response.headers_mut().insert(header::CACHE_CONTROL, age);
                    response
                }
                Err(busy) => busy.into_response(),
            },
            Ok(None) => Unanswered::Absent("it is not here, or not yet".into()).into_response(),
            Err(response) => response,
        }
    }

    /// Answers with JSON.
    async fn json(
        &self,
        read: impl FnOnce(&dyn Source) -> Result<String, Unanswered> + Send + 'static,
    ) -> Response {
        match self.read(read).await {
            Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
            Err(response) => response,
        }
    }

    /// An answer of these bytes, where not too much is on its way.
    fn bytes(&self, bytes: Vec<u8>) -> Result<Response, Unanswered> {
        let busy = || Unanswered::Busy("too much is being sent; try again in a second".into());
        let body = self.sending.body(bytes).ok_or_else(busy)?;
        Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
    }
}

fn router(asked: Asked) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/v1/receipts/{partition}/{offset}", get(receipts))
        .route("/v1/headers/{height}", get(headers))
        .route("/v1/snapshot/{file}", get(snapshot))
        .route("/v1/head", get(head))
        .route("/v1/flushed", get(flushed))
        .route("/v1/evidence", get(evidence_files))
        .route("/v1/evidence/{file}", get(evidence))
        .route("/v1/tiles/{*tile}", get(tile))
        .route("/v1/status/{scheme}/{number}", get(status))
        .route("/v1/consistency/{older}/{newer}", get(consistency))
        .with_state(asked)
}

type Shared = State<Asked>;

/// How long a head or a status may be kept, which change with each block; and a tile or a proof
/// between two heights, which is good for ever.
const HEAD_AGE: &str = "public, max-age=1";
const TILE_AGE: &str = "public, max-age=31536000, immutable";

async fn metrics(State(Asked { source, .. }): Shared) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], source.metrics()).into_response()
}

async fn live(State(Asked { source, .. }): Shared) -> Response {
    health(source.role(), source.failure())
}

async fn ready(State(Asked { source, .. }): Shared) -> Response {
    health(source.role(), source.failure().or_else(|| source.unready()))
}

fn health(role: &str, trouble: Option<String>) -> Response {
    match trouble {
        None => format!("ok {role}\n").into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn receipts(
    State(asked): Shared,
    Path((partition, offset)): Path<(u32, u64)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let cosigned = match query.get("cosigned").map(String::as_str) {
        None | Some("0") => false,
        Some("1") => true,
        Some(_) => return (StatusCode::BAD_REQUEST, "cosigned must be 0 or 1\n").into_response(),
    };
    let read =
        move |source: &dyn Source, count| source.receipts(partition, offset, count, cosigned);
    answer(asked, &query, RECEIPTS_MAX, read).await
}

async fn headers(
    State(asked): Shared,
    Path(height): Path<u64>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    answer(asked, &query, HEADERS_MAX, move |source, count| source.headers(height, count)).await
}

async fn head(State(asked): Shared) -> Response {
    asked.file(|source| source.head(), HEAD_AGE).await
}

async fn flushed(State(asked): Shared) -> Response {
    asked.json(|source| source.flushed()).await
}

async fn evidence_files(State(asked): Shared) -> Response {
    asked.json(|source| source.evidence_files()).await
}

async fn evidence(State(asked): Shared, Path(name): Path<String>) -> Response {
    asked.file(move |source| source.evidence(&name), HEAD_AGE).await
}

async fn tile(State(asked): Shared, Path(path): Path<String>) -> Response {
    asked.file(move |source| source.tile(&path), TILE_AGE).await
}

async fn status(
    State(asked): Shared,
    Path((scheme, number)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let seller = query.get("seller").cloned();
    let read = move |source: &dyn Source| source.status(&scheme, &number, seller.as_deref());
    asked.file(move |source| read(source).map(Some), HEAD_AGE).await
}

async fn consistency(State(asked): Shared, Path((older, newer)): Path<(u64, u64)>) -> Response {
    if older >= newer {
        let why = format!("the older height {older} must be below the newer, {newer}\n");
        return (StatusCode::BAD_REQUEST, why).into_response();
    }
    asked.file(move |source| source.consistency(older, newer).map(Some), TILE_AGE).await
}

/// Most files of a snapshot that are read at once, each whole into memory.
static SNAPSHOT_READS: Semaphore = Semaphore::const_new(4);

async fn snapshot(State(asked): Shared, Path(name): Path<String>) -> Response {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if !name.chars().all(plain) || name.len() > 100 || name.starts_with('.') {
        return StatusCode::NOT_FOUND.into_response();
    }
    let Ok(_turn) = SNAPSHOT_READS.try_acquire() else {
        return Unanswered::Busy("too many files are being read".into()).into_response();
    };
    asked.file(move |source| source.snapshot(&name), HEAD_AGE).await
}

/// Answers with as many items as are asked for, each behind its length as `u32`.
async fn answer(
    asked: Asked,
    query: &HashMap<String, String>,
    limit: u64,
    read: impl FnOnce(&dyn Source, u64) -> Result<Vec<Vec<u8>>, Unanswered> + Send + 'static,
) -> Response {
    let count = match query.get("count").map(|text| text.parse::<u64>()) {
        None => 1,
        Some(Ok(count)) if (1..=limit).contains(&count) => count,
        Some(_) => {
            let why = format!("count must be 1 to {limit}\n");
            return (StatusCode::BAD_REQUEST, why).into_response();
        }
    };
    match asked.read(move |source| read(source, count)).await {
        Ok(items) => {
            let mut body = Vec::new();
            for item in items {
                body.extend_from_slice(&(item.len() as u32).to_be_bytes());
                body.extend_from_slice(&item);
            }
            asked.bytes(body).unwrap_or_else(IntoResponse::into_response)
        }
        Err(response) => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    /// Longer than anything takes that has not failed.
    const PATIENCE: Duration = Duration::from_secs(120);

    struct Fixed;

    impl Source for Fixed {
        fn role(&self) -> &'static str {
            "observer"
        }
        fn metrics(&self) -> String {
            "x 1\n".into()
        }
        fn failure(&self) -> Option<String> {
            None
        }
        fn unready(&self) -> Option<String> {
            Some("behind".into())
        }
        fn receipts(
            &self,
            partition: u32,
            _: u64,
            count: u64,
            cosigned: bool,
        ) -> Result<Vec<Vec<u8>>, Unanswered> {
            if partition > 3 {
                Err(Unanswered::Absent("no such partition".into()))
            } else {
                Ok(vec![vec![7 + u8::from(cosigned)]; count as usize])
            }
        }
        fn snapshot(&self, file: &str) -> Result<Option<Vec<u8>>, Unanswered> {
            // A real one would find whatever lies there, so that names are to be refused before.
            Ok((!file.ends_with(".part")).then(|| b"{}".to_vec()))
        }

        fn headers(&self, height: u64, count: u64) -> Result<Vec<Vec<u8>>, Unanswered> {
            Ok(vec![vec![height as u8]; count as usize])
        }
        fn evidence_files(&self) -> Result<String, Unanswered> {
            Ok("[]".into())
        }
        fn evidence(&self, file: &str) -> Result<Option<Vec<u8>>, Unanswered> {
            Ok(file.starts_with("evidence-").then(|| file.into()))
        }
        fn flushed(&self) -> Result<String, Unanswered> {
            Ok("{}".into())
        }
        fn head(&self) -> Result<Option<Vec<u8>>, Unanswered> {
            Ok(None)
        }
        fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, Unanswered> {
            match path {
                "0/0/slow" => std::thread::sleep(Duration::from_secs(1)),
                "0/0/none" => return Ok(None),
                _ => {}
            }
            Ok(Some(path.into()))
        }
        fn status(
            &self,
            scheme: &str,
            number: &str,
            seller: Option<&str>,
        ) -> Result<Vec<u8>, Unanswered> {
            match number {
                "busy" => Err(Unanswered::Busy("ahead".into())),
                "failed" => Err(Unanswered::Failed),
                _ => Ok(format!("{scheme} {number} {seller:?}").into()),
            }
        }
        fn consistency(&self, older: u64, newer: u64) -> Result<Vec<u8>, Unanswered> {
            Ok(vec![older as u8, newer as u8])
        }
    }

    /// Serves with room for so many, and has `ask` ask from a thread.
    async fn with_room<T: Send + 'static>(
        requests: usize,
        ask: impl FnOnce(SocketAddr) -> T + Send + 'static,
    ) -> T {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let until = async move { drop(ended.await) };
        let server = tokio::spawn(serve(listener, Arc::new(Fixed), requests, until));
        let answer = tokio::task::spawn_blocking(move || ask(address)).await.unwrap();
        end.send(()).unwrap();
        server.await.unwrap().unwrap();
        answer
    }

    fn ask(address: SocketAddr, path: &str) -> (String, Vec<u8>) {
        let (head, body) = ask_all(address, path);
        (head[9..12].to_string(), body)
    }

    fn ask_all(address: SocketAddr, path: &str) -> (String, Vec<u8>) {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
        (head, all[end + 4..].to_vec())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_path_answers() {
        let answers = with_room(4, |address| {
            [
                "/metrics",
                "/health/live",
                "/health/ready",
                "/v1/receipts/0/5?count=2",
                "/v1/receipts/9/5",
                "/v1/receipts/0/5?count=1001",
                "/v1/receipts/x/5",
                "/",
                "/v1/headers/3?count=2",
                "/v1/headers/3?count=0",
                "/v1/headers/-1",
                "/v1/snapshot/manifest.json",
                "/v1/snapshot/blocks-0.part",
                "/v1/snapshot/..%2Fvalidator.pem",
                "/v1/snapshot/.hidden",
                "/v1/flushed",
                "/v1/head",
                "/v1/tiles/0/entries/x001/002.p/7",
                "/v1/tiles/0/0/none",
                "/v1/evidence",
                "/v1/evidence/evidence-a.json",
                "/v1/evidence/..%2Fvalidator.pem",
                "/v1/evidence/a/b",
                "/v1/receipts/0/5?cosigned=1",
                "/v1/receipts/0/5?cosigned=0",
                "/v1/receipts/0/5?cosigned=yes",
            ]
            .map(|path| ask(address, path))
        })
        .await;
        let codes = answers.each_ref().map(|(code, _)| code.as_str());
        assert_eq!(
            codes,
            [
                "200", "200", "503", "200", "404", "400", "400", "404", "200", "400", "400", "200",
                "404", "404", "404", "200", "404", "200", "404", "200", "200", "404", "404", "200",
                "200", "400",
            ]
        );
        assert_eq!((answers[23].1.last(), answers[24].1.last()), (Some(&8), Some(&7)));
        assert_eq!(answers[0].1, b"x 1\n");
        assert_eq!(answers[1].1, b"ok observer\n");
        assert_eq!(answers[3].1, [0, 0, 0, 1, 7, 0, 0, 0, 1, 7]);
        assert_eq!(answers[11].1, b"{}");
        assert_eq!(answers[8].1, [0, 0, 0, 1, 3, 0, 0, 0, 1, 3]);
        assert_eq!(answers[15].1, b"{}");
        assert_eq!(answers[17].1, b"0/entries/x001/002.p/7");
        assert_eq!(answers[19].1, b"[]");
        assert_eq!(answers[20].1, b"evidence-a.json");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn proofs_are_asked_for_by_name_and_every_trouble_has_its_code() {
        let answers = with_room(4, |address| {
            [
                "/v1/status/CN-EINV/26442000000000000001",
                "/v1/status/EN16931/INV%2F2026%2F7?seller=a%26b",
                "/v1/status/EN16931/..%2F..%2Fx",
                "/v1/status/x/busy",
                "/v1/status/x/failed",
                "/v1/status/x",
                "/v1/status/x/y/z",
                "/v1/status/x/%ff",
                "/v1/consistency/3/7",
                "/v1/consistency/7/7",
                "/v1/consistency/8/7",
                "/v1/consistency/-1/7",
                "/v1/consistency/1/99999999999999999999",
            ]
            .map(|path| ask_all(address, path))
        })
        .await;
        let codes = answers.each_ref().map(|(head, _)| head[9..12].to_string());
        let expected = [
            "200", "200", "200", "503", "500", "404", "404", "400", "200", "400", "400", "400",
            "400",
        ];
        assert_eq!(codes, expected);
        assert_eq!(answers[0].1, b"CN-EINV 26442000000000000001 None");
        assert_eq!(answers[1].1, b"EN16931 INV/2026/7 Some(\"a&b\")");
        assert_eq!(answers[8].1, [3, 7]);
        assert!(answers[0].0.contains("max-age=1\r") || answers[0].0.contains("max-age=1\n"));
        assert!(answers[3].0.contains("retry-after: 1") && !answers[3].0.contains("max-age"));
        assert!(answers[8].0.contains("immutable"), "{}", answers[8].0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn where_there_is_no_room_readers_come_again_and_health_is_answered() {
        let [busy, live, free] = with_room(1, |address| {
            // The other reader may be in its way first, or have been away meanwhile.
            let (seen, until) = (Arc::new(AtomicBool::new(false)), Instant::now() + PATIENCE);
            let enough = seen.clone();
            let slow = std::thread::spawn(move || {
                loop {
                    let answer = ask_all(address, "/v1/tiles/0/0/slow");
                    if !answer.0.contains(" 503 ") && enough.load(Ordering::SeqCst) {
                        return answer;
                    }
                    assert!(Instant::now() < until, "{}", answer.0);
                }
            });
            // Asked until it is being answered, which takes a second.
            let busy = loop {
                let answer = ask_all(address, "/v1/tiles/0/0/000");
                if answer.0.contains(" 503 ") {
                    break answer;
                }
                assert!(Instant::now() < until, "{}", answer.0);
            };
            seen.store(true, Ordering::SeqCst);
            let live = ask_all(address, "/health/live");
            let (head, _) = slow.join().unwrap();
            assert!(head.contains(" 200 ") && head.contains("immutable"), "{head}");
            [busy.0, live.0, ask_all(address, "/v1/tiles/0/0/000").0]
        })
        .await;
        assert!(busy.contains("retry-after: 1"), "{busy}");
        assert!(live.contains(" 200 ") && free.contains(" 200 "), "{live} {free}");
    }
}
