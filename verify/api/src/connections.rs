//! Takes connections, and bounds what each of them may cost.
//!
//! Whoever connects may be slow, silent or gone. None of them keeps anybody else from being answered
//! for ever, and none keeps the node from ending.
//!
//! Invariants
//! - So many connections are open at a time; the next waits until one is closed.
//! - A head is at most 16 KiB and comes within its time, also on a connection that is kept open.
//! - A connection that takes nothing of its answer for a while is closed.
//! - Large answers that are on their way have a bounded number of bytes together.

use axum::Router;
use axum::body::{Body, Bytes};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

/// Most bytes of the head of a request.
const HEAD_MAX: usize = 16 << 10;
/// Bytes of an answer that is on its way without being counted: connections bound these.
const SMALL: usize = 64 << 10;
/// Most KiB of larger answers that are on their way together.
const SENDING_KIB: u32 = 256 << 10;

/// What connections may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Most of them at a time.
    pub(crate) connections: usize,
    /// Time for the head of a request, and for the next one to begin.
    pub(crate) head: Duration,
    /// Time without anything of an answer being taken.
    pub(crate) stall: Duration,
    /// Time for answers that are under way when the node ends.
    pub(crate) end: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        let seconds = Duration::from_secs;
        Bounds { connections: 512, head: seconds(30), stall: seconds(20), end: seconds(5) }
    }
}

/// A connection whose other side must take what is written to it.
struct Patient {
    stream: TcpStream,
    stall: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn within<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let stall = self.stall;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(stall)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.within(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.within(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Answers on one connection, until either side ends it.
async fn answer(
    stream: TcpStream,
    router: Router,
    bounds: Bounds,
    mut ending: watch::Receiver<bool>,
) {
    // Only delays.
    let _ = stream.set_nodelay(true);
    let stream = Patient { stream, stall: bounds.stall, waiting: None };
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(HEAD_MAX);
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How it ends is the other side's affair.
        _ = connection.as_mut() => return,
        _ = ending.wait_for(|ending| *ending) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Whether an error is of the connection that was to come, and the next may be good.
fn of_the_other_side(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Answers whoever connects, until `until` is done and what was under way is answered or given up.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    until: impl Future<Output = ()>,
) {
    let (end, ending) = watch::channel(false);
    let mut open = JoinSet::new();
    let mut until = pin!(until);
    loop {
        let next = async {
            while open.len() >= bounds.connections {
                open.join_next().await;
            }
            listener.accept().await
        };
        let accepted = tokio::select! {
            () = &mut until => break,
            accepted = next => accepted,
        };
        while open.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                drop(open.spawn(answer(stream, router.clone(), bounds, ending.clone())));
            }
            Err(error) if of_the_other_side(&error) => {}
            // Files of this process have run out, most likely: some may be closed soon.
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
    drop(listener);
    // Nobody listens where no connection is open.
    let _ = end.send(true);
    let ended = timeout(bounds.end, async { while open.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        open.shutdown().await;
    }
}

/// What large answers that are on their way may have together.
#[derive(Clone, Debug)]
pub(crate) struct Sending(Arc<Semaphore>);

/// An answer, counted until nobody holds any of it.
struct Counted {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Sending {
    pub(crate) fn new() -> Sending {
        Sending(Arc::new(Semaphore::new(SENDING_KIB as usize)))
    }

    /// The body of an answer; nothing where too much is on its way.
    pub(crate) fn body(&self, bytes: Vec<u8>) -> Option<Body> {
        if bytes.len() <= SMALL {
            return Some(bytes.into());
        }
        let kib = u32::try_from(bytes.len() >> 10).unwrap_or(u32::MAX).min(SENDING_KIB);
        let room = self.0.clone().try_acquire_many_owned(kib).ok()?;
        Some(Bytes::from_owner(Counted { bytes, _room: room }).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::io::{Read, Write};
    use std::net::SocketAddr;

    const SHORT: Bounds = Bounds {
        connections: 2,
        head: Duration::from_millis(300),
        stall: Duration::from_millis(1_500),
        end: Duration::from_millis(300),
    };

    /// Serves a small and a large answer, and has `ask` ask from a thread.
    async fn with<T: Send + 'static>(
        bounds: Bounds,
        ask: impl FnOnce(SocketAddr) -> T + Send + 'static,
    ) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|| async { "small" }))
            .route("/large", get(|| async { vec![7u8; 64 << 20] }));
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let until = async move { drop(ended.await) };
        let server = tokio::spawn(serve(listener, router, bounds, until));
        let answer = tokio::task::spawn_blocking(move || ask(address)).await.unwrap();
        end.send(()).unwrap();
        server.await.unwrap();
        answer
    }

    fn connect(address: SocketAddr, said: &str) -> std::net::TcpStream {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        // It may be refused before all is said.
        let _ = stream.write_all(said.as_bytes());
        stream
    }

    /// What comes until the connection is closed, however that is.
    fn rest(mut stream: &std::net::TcpStream) -> Vec<u8> {
        let (mut all, mut some) = (Vec::new(), [0; 4_096]);
        while let Ok(read @ 1..) = stream.read(&mut some) {
            all.extend_from_slice(&some[..read]);
        }
        all
    }

    const ONCE: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    #[tokio::test(flavor = "multi_thread")]
    async fn who_says_nothing_or_half_of_it_is_let_go_and_others_are_answered() {
        let answer = with(SHORT, |address| {
            let silent = ["", "GET / HTTP/1.1\r\nHost:", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"];
            let silent = silent.map(|said| connect(address, said));
            // Two are open, which are all; this one comes behind them.
            let answer = rest(&connect(address, ONCE));
            let said = silent.map(|stream| String::from_utf8(rest(&stream)).unwrap());
            (answer, said)
        })
        .await;
        let (answer, said) = answer;
        assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"small"));
        assert!(!said[0].contains("200") && !said[1].contains("200"), "{said:?}");
        assert!(said[2].contains("200"), "{said:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_takes_nothing_of_his_answer_is_let_go() {
        let taken = with(SHORT, |address| {
            let slow = connect(address, &ONCE.replace("/ ", "/large "));
            let quick = rest(&connect(address, &ONCE.replace("/ ", "/large "))).len();
            // Meanwhile the slow one was given up: what it had not taken is lost.
            std::thread::sleep(SHORT.stall * 4);
            (rest(&slow).len(), quick)
        })
        .await;
        let (slow, quick) = taken;
        assert!(quick > 64 << 20, "{quick}");
        assert!(slow < 64 << 20, "{slow}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_end_waits_for_nobody_who_is_silent() {
        // With the usual times: that this test ends is what it says.
        let bounds = Bounds { end: SHORT.end, ..Bounds::default() };
        let held = with(bounds, |address| {
            ["", "GET /", "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"]
                .map(|said| connect(address, said))
        })
        .await;
        assert!(held.iter().all(|stream| rest(stream).len() < 64 << 20));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heads_are_bounded_and_nonsense_is_refused() {
        let codes = with(Bounds::default(), |address| {
            let long = "x".repeat(HEAD_MAX);
            let lines: String = (0..200).map(|i| format!("a{i}: b\r\n")).collect();
            [
                format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
                format!("GET / HTTP/1.1\r\nHost: {long}\r\n\r\n"),
                format!("GET / HTTP/1.1\r\n{lines}\r\n"),
                "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".into(),
                "GET / HTTP/1.1\r\nTransfer-Encoding: x\r\nContent-Length: 5\r\n\r\n".into(),
                "GET / HTTP/1.1\r\nContent-Length: +5\r\n\r\n".into(),
                "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n".into(),
                "GET /\u{0} HTTP/1.1\r\n\r\n".into(),
                "GET / HTTP/9.9\r\n\r\n".into(),
                "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n".into(),
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
            ]
            .map(|said| {
                let answer = rest(&connect(address, &said));
                String::from_utf8_lossy(&answer).get(9..12).unwrap_or_default().to_string()
            })
        })
        .await;
        assert!(codes.iter().all(|code| ["400", "414", "431", "505", ""].contains(&&**code)));
        assert_eq!(&codes[..4], ["431", "431", "431", "400"].map(String::from));
    }

    #[tokio::test]
    async fn large_answers_on_their_way_are_bounded_together() {
        let sending = Sending::new();
        let half = vec![0; SENDING_KIB as usize * 512];
        let held = [sending.body(half.clone()).unwrap(), sending.body(half.clone()).unwrap()];
        assert!(sending.body(vec![0; SMALL + 1]).is_none());
        assert!(sending.body(vec![0; SMALL]).is_some());
        drop(held);
        assert!(sending.body(half).is_some());
        // One that is larger than all the room has it alone.
        let body = sending.body(vec![0; SENDING_KIB as usize * 1_024 + (1 << 20)]);
        assert!(body.is_some_and(|_| sending.body(vec![0; SMALL + 1]).is_none()));
    }
}
