//! A web server that hands out a folder and knows nothing of what is in it.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was asked for, in order.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// Serves a folder until the test ends, each file after so long; its URL, and what was asked for.
pub fn serve(dir: &Path, delay: Duration) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, dir) = (Asked::default(), dir.to_path_buf());
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (dir, log) = (dir.clone(), log.clone());
            // Who goes away in the middle is nobody's concern.
            std::thread::spawn(move || answer(stream.unwrap(), dir, delay, &log).ok());
        }
    });
    (url, asked)
}

fn answer(
    stream: TcpStream,
    dir: PathBuf,
    delay: Duration,
    log: &Mutex<Vec<String>>,
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
        log.lock().unwrap().push(path.to_string());
        std::thread::sleep(delay);
        let (status, body) = match std::fs::read(dir.join(path)) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len())?;
        out.write_all(&body)?;
    }
}
