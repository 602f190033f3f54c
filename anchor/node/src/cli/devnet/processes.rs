//! The processes of a devnet: started, killed, cut off, joined, looked at, ended.
//!
//! Invariants
//! - No process outlives the value, however it goes; a namespace that was cut off is joined again.

use super::sight::Sight;
use crate::sinks;
use crate::witness::CHECKPOINT;
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longer than anything takes that has not failed, also where other programs have the machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
pub(super) const GLANCE: Duration = Duration::from_millis(250);

/// So much of a log's end is quoted, in bytes.
const LAST_WORDS: usize = 2_000;

/// A network namespace, and the address that it has in it. The host's end of its link has the
/// namespace's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namespace {
    pub(super) name: String,
    pub(super) address: std::net::Ipv4Addr,
}

impl FromStr for Namespace {
    type Err = String;

    fn from_str(text: &str) -> Result<Namespace, String> {
        let wrong = || format!("{text:?} is not NAME=ADDRESS");
        let (name, address) = text.split_once('=').ok_or_else(wrong)?;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        // As long as the name of a network interface may be.
        if !(1..=15).contains(&name.len()) || !name.bytes().all(good) || name.starts_with('-') {
            return Err(wrong());
        }
        let address = address.parse().map_err(|_| wrong())?;
        Ok(Namespace { name: name.into(), address })
    }
}

/// How a process is looked at.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A node that serves HTTP there, with this key in hexadecimal.
    Node { http: String, key: String },
    /// A witness.
    Witness,
}

/// One process to be.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Its own folder.
    pub(super) folder: PathBuf,
    /// What this program is started with.
    pub(super) arguments: Vec<String>,
    pub(super) namespace: Option<Namespace>,
}

impl Post {
    /// What it says of itself now.
    fn look(&self) -> Sight {
        let silent = || Sight { name: self.name.clone(), seen: Default::default() };
        match &self.kind {
            Kind::Node { http, key } => match sinks::fetch(http, "/metrics") {
                Ok(text) => Sight::of_node(&self.name, key, &text),
                Err(_) => silent(),
            },
            Kind::Witness => match std::fs::read_to_string(self.folder.join(CHECKPOINT)) {
                Ok(note) => Sight::of_witness(&self.name, &note),
                Err(_) => silent(),
            },
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.join("process.log")
    }

    /// The last lines of its log.
    fn last_words(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        let end =
            String::from_utf8_lossy(&log[log.len().saturating_sub(LAST_WORDS)..]).into_owned();
        end.trim_end().to_string()
    }
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    cut: bool,
}

/// The processes.
pub(super) struct Processes {
    program: PathBuf,
    pub(super) posts: Vec<Post>,
    states: Mutex<Vec<State>>,
}

impl Processes {
    /// None of them runs yet.
    pub(super) fn new(posts: Vec<Post>) -> Result<Processes> {
        let program = std::env::current_exe().context("finding this program")?;
        let states = Mutex::new(posts.iter().map(|_| State::default()).collect());
        Ok(Processes { program, posts, states })
    }

    fn states(&self) -> std::sync::MutexGuard<'_, Vec<State>> {
        // Each change is one assignment.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one; its words go to the end of its log.
    pub(super) fn start(&self, index: usize) -> Result<()> {
        let post = &self.posts[index];
        let log = std::fs::File::options().append(true).create(true).open(post.log())?;
        let mut command = match &post.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &namespace.name]).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        let child = command
            .args(&post.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", post.name))?;
        self.states()[index].child = Some(child);
        Ok(())
    }

    /// Kills one, as a crash would.
    pub(super) fn kill(&self, index: usize) -> Result<()> {
        let child = self.states()[index].child.take();
        let mut child =
            child.with_context(|| format!("{} does not run", self.posts[index].name))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Cuts the namespace of one off, or joins it again.
    pub(super) fn cut(&self, index: usize, cut: bool) -> Result<()> {
        let post = &self.posts[index];
        let namespace = post.namespace.as_ref();
        let name = &namespace.with_context(|| format!("{} has no namespace", post.name))?.name;
        let state = if cut { "down" } else { "up" };
        let done = Command::new("ip").args(["link", "set", "dev", name, state]).status()?;
        ensure!(done.success(), "`ip link set dev {name} {state}` failed ({done})");
        self.states()[index].cut = cut;
        Ok(())
    }

    /// Those that were started and are not cut off.
    pub(super) fn running(&self) -> Vec<usize> {
        let states = self.states();
        let runs = |index: &usize| states[*index].child.is_some() && !states[*index].cut;
        (0..self.posts.len()).filter(runs).collect()
    }

    /// What each says of itself now; who is cut off, nothing.
    pub(super) fn look(&self) -> Vec<Sight> {
        let running = self.running();
        let away = |index: usize| !running.contains(&index);
        let sight = |(index, post): (usize, &Post)| match away(index) {
            true => Sight { name: post.name.clone(), seen: Default::default() },
            false => post.look(),
        };
        self.posts.iter().enumerate().map(sight).collect()
    }

    /// An error where one ended by itself.
    pub(super) fn alive(&self) -> Result<()> {
        for (state, post) in self.states().iter_mut().zip(&self.posts) {
            let Some(child) = &mut state.child else { continue };
            if let Some(status) = child.try_wait()? {
                let (name, log) = (&post.name, post.log());
                bail!(
                    "{name} ended ({status}); {} ends with\n{}",
                    log.display(),
                    post.last_words()
                );
            }
        }
        Ok(())
    }

    /// Waits until what they say is as wanted; an error where one ended or it takes too long.
    pub(super) fn wait(&self, what: &str, done: impl Fn(&[Sight]) -> bool) -> Result<Vec<Sight>> {
        let until = Instant::now() + PATIENCE;
        loop {
            let sights = self.look();
            if done(&sights) {
                return Ok(sights);
            }
            self.alive()?;
            ensure!(
                Instant::now() < until,
                "waited {PATIENCE:?} in vain until {what}\n{}",
                self.last_words(&sights)
            );
            std::thread::sleep(GLANCE);
        }
    }

    /// How all look, and what each said last.
    fn last_words(&self, sights: &[Sight]) -> String {
        let looks = sights.iter().map(Sight::line);
        let words = self.posts.iter().map(|post| format!("{}:\n{}", post.name, post.last_words()));
        looks.chain(words).collect::<Vec<_>>().join("\n")
    }

    /// Tells all to end, and waits until they have written what they hold. A witness holds nothing.
    pub(super) fn end(&self) -> Result<()> {
        let mut states = self.states();
        for (state, post) in states.iter_mut().zip(&self.posts) {
            match (&mut state.child, &post.kind) {
                (Some(child), Kind::Node { .. }) => tell(child),
                (Some(child), Kind::Witness) => child.kill()?,
                (None, _) => {}
            }
        }
        let mut result = Ok(());
        for (state, post) in states.iter_mut().zip(&self.posts) {
            let Some(mut child) = state.child.take() else { continue };
            let status = child.wait()?;
            if !status.success() && matches!(post.kind, Kind::Node { .. }) {
                let (name, log) = (&post.name, post.log());
                result = Err(anyhow::anyhow!(
                    "{name} ended badly ({status}); {} ends with\n{}",
                    log.display(),
                    post.last_words()
                ));
            }
        }
        result
    }
}

/// Asks a process to end in order. The shell's `kill` needs no other program.
fn tell(child: &Child) {
    let command = format!("kill -TERM {}", child.id());
    if let Err(error) = Command::new("sh").args(["-c", &command]).status() {
        tracing::warn!(%error, "a process could not be told to end");
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let cut: Vec<usize> = (0..self.posts.len()).filter(|i| self.states()[*i].cut).collect();
        for index in cut {
            if let Err(error) = self.cut(index, false) {
                tracing::warn!(error = format!("{error:#}"), "a namespace stays cut off");
            }
        }
        for state in self.states().iter_mut() {
            if let Some(child) = &mut state.child {
                // It ended by itself, or it is ended here.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_name_and_an_address() {
        let good: Namespace = "piaogen1=10.203.7.11".parse().unwrap();
        assert_eq!(good.name, "piaogen1");
        for wrong in ["", "a", "=10.0.0.1", "a=b", "-a=10.0.0.1", "a b=10.0.0.1", "a=10.0.0"] {
            assert!(wrong.parse::<Namespace>().is_err(), "{wrong}");
        }
        assert!("sixteen-letters-=10.0.0.1".parse::<Namespace>().is_err());
    }

    fn post(folder: &std::path::Path) -> Post {
        let kind = Kind::Witness;
        // The test program, which ends with an error at this argument.
        let arguments = vec!["--no-such-argument".to_string()];
        Post { name: "one".into(), kind, folder: folder.into(), arguments, namespace: None }
    }

    #[test]
    fn one_that_ends_by_itself_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let processes = Processes::new(vec![post(dir.path())]).unwrap();
        assert!(processes.kill(0).is_err());
        processes.start(0).unwrap();
        let error = processes.wait("it runs", |_| false).unwrap_err().to_string();
        assert!(error.contains("one ended") && error.contains("no-such-argument"), "{error}");
        assert!(processes.cut(0, true).unwrap_err().to_string().contains("no namespace"));
    }
}
