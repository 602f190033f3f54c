//! A web server that hands out a folder and knows nothing of what is in it.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was asked for, in order.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// How many are answered; who asks after them waits until it is more.
pub type Limit = Arc<AtomicUsize>;

/// Serves a folder until the test ends, each file after so long; its URL, and what was asked for.
pub fn serve(dir: &Path, delay: Duration) -> (String, Asked) {
    let (url, asked, _) = listen(dir, delay);
    (url, asked)
}

/// The same, which answers so many requests of those that it remembers.
pub fn serve_up_to(dir: &Path, answers: usize) -> (String, Asked, Limit) {
    let (url, asked, limit) = listen(dir, Duration::ZERO);
    limit.store(answers, Ordering::SeqCst);
    (url, asked, limit)
}

fn listen(dir: &Path, delay: Duration) -> (String, Asked, Limit) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, limit) = (Asked::default(), Limit::new(AtomicUsize::new(usize::MAX)));
    let (dir, log, most) = (dir.to_path_buf(), asked.clone(), limit.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (dir, log, most) = (dir.clone(), log.clone(), most.clone());
            // Who goes away in the middle is nobody's concern.
            std::thread::spawn(move || answer(stream.unwrap(), dir, delay, &log, &most).ok());
        }
    });
    (url, asked, limit)
}

fn answer(
    stream: TcpStream,
    dir: PathBuf,
    delay: Duration,
    log: &Mutex<Vec<String>>,
    limit: &AtomicUsize,
) -> std::io::Result<()> {
    let (mut lines, mut out) = (BufReader::new(stream.try_clone()?), stream);
    loop {
        let mut request = String::new();
        if lines.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut header = String::new();
        while lines.read_line(&mut header)? > 2 {
            header.clear();
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
        let number = {
            let mut asked = log.lock().unwrap();
            asked.push(path.to_string());
            asked.len()
        };
        std::thread::sleep(delay);
        while number > limit.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (status, body) = match std::fs::read(dir.join(path)) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len())?;
        out.write_all(&body)?;
    }
}
