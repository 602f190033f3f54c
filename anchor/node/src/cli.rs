//! The subcommands of `piaogen`, one file each, and what they share.
//!
//! Exit codes: 0 done, or the answer is yes; 1 the answer is no (a receipt that does not verify, a
//! check that found something, a record that was refused); 2 the command line or its input is
//! wrong; 3 busy, try again later; 4 fatal: the program cannot vouch for the state.
//!
//! Invariants
//! - What a program wants to read goes to standard output, everything else to standard error.
//! - Progress is drawn on a terminal only.

mod alerts;
mod audit;
mod bench;
mod check;
mod demo;
mod devnet;
mod evidence;
mod fsck;
mod genesis;
mod identity;
mod import;
mod inspect;
mod keygen;
mod mirror;
mod node;
mod prune;
mod receipt;
mod sim;
mod snapshot;
mod status;
mod submit;
mod trust;
mod unused;
mod verify;
mod witness;

pub(crate) use receipt::Folder;

use crate::config::Config;
use crate::run::Fatal;
use crate::run::statuses::Ahead;
use crate::site::{Busy, Site};
use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use piaogen_ingest::stream::StreamError;
use piaogen_order::OrderError;
use piaogen_storage::StoreError;
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::{Refusal, Step};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Anchors electronic invoices: signed, ordered, agreed on, and provable to anyone, offline.
#[derive(Debug, Parser)]
#[command(name = "piaogen", version, about, after_help = EXIT_CODES, max_term_width = 100)]
struct Arguments {
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Log to standard error as JSON lines.
    #[arg(long, global = true)]
    log_json: bool,
    /// What to log: error, warn, info, debug, or a filter such as piaogen_order=debug. Without it,
    /// warn; in simulations, where warnings are what is tried, nothing.
    #[arg(long, global = true, env = "PIAOGEN_LOG")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes:\n  0  done, or the answer is yes\n  1  the answer is no: a \
receipt that does not verify, a check that found something\n  2  the command line or its input is \
wrong\n  3  busy: try again later\n  4  fatal: the state cannot be vouched for";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole way of a record on this machine, and leave a data folder to look at.
    Demo(demo::Arguments),
    /// Run several validators on this machine, each a process, and show what each sees.
    Devnet(devnet::Arguments),
    /// Run a node.
    Node(node::Arguments),
    /// Make a secret key.
    Keygen(keygen::Arguments),
    /// State that a node's keys have voted nowhere, so that they may in an epoch that has begun.
    Unused(unused::Arguments),
    /// Make a new chain: genesis, keys, trust root, configuration.
    Genesis(genesis::Arguments),
    /// Show whom certificates name, and check who issued them.
    Identity(identity::Arguments),
    /// Turn a UBL or 数电票 XML file into a document.
    Import(import::Arguments),
    /// Sign documents or registry changes, and send them into the stream.
    Submit(submit::Arguments),
    /// Make, renew or convert a receipt.
    Receipt(receipt::Arguments),
    /// Prove what became of an invoice, or that nothing did.
    Status(status::Arguments),
    /// Ask, as a bank: is this invoice good for this amount?
    Check(check::Arguments),
    /// Print what parties must know.
    Alerts(alerts::Arguments),
    /// Check a receipt, a status proof or a history offline.
    Verify(verify::Arguments),
    /// Lead a trust root to the validators of today; say which witnesses count.
    Trust(trust::Arguments),
    /// Follow a chain's headers and sign that they are one history; gather what witnesses signed.
    Witness(witness::Arguments),
    /// Keep the logs of a chain as files that any web server hands out; check them; prove from them.
    Mirror(mirror::Arguments),
    /// Check that somebody signed two things that exclude each other; list what a node has of that.
    Evidence(evidence::Arguments),
    /// Execute the whole stream again and compare it with what is stored.
    Fsck(fsck::Arguments),
    /// Make, fetch and restore snapshots of a node.
    Snapshot(snapshot::Arguments),
    /// Delete what of the stream nobody needs any more.
    Prune(prune::Arguments),
    /// Verify or query the archive.
    Audit(audit::Arguments),
    /// Run sets of validators from seeds, with faults and liars, and check what is promised.
    Sim(sim::Arguments),
    /// Measure this machine.
    Bench(bench::Arguments),
    /// Print the commented configuration, or check one.
    Config(ConfigArguments),
    /// Show blocks, records, leaves, shards, checkpoints, keys.
    Inspect(inspect::Arguments),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigArguments {
    /// Check this file instead of printing the default one.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

/// Where a chain lies: a folder that `genesis` or `demo` made, or a configuration file.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// Folder of a chain, as `piaogen genesis` and `piaogen demo` make it.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Configuration file of a node.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    fn config(&self) -> Result<Config> {
        match (&self.dir, &self.config) {
            (_, Some(file)) => Config::load(file),
            (Some(dir), None) => Config::load(&dir.join("node.toml")),
            (None, None) => Ok(Config::of_dir(Path::new("."))),
        }
    }
}

/// Where a proof comes from: a folder at rest, or a node that runs.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Origin {
    /// Folder of a chain, as `piaogen genesis` and `piaogen demo` make it.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Configuration file of a node.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A node that runs, http://HOST:PORT.
    #[arg(long, value_name = "FROM")]
    from: Option<String>,
}

/// Longest time that a node may take for a proof.
const PATIENCE: Duration = Duration::from_secs(30);

impl Origin {
    /// The node, where one is named.
    fn node(&self) -> Result<Option<Site>> {
        let Some(from) = &self.from else { return Ok(None) };
        let node = Site::node(from, PATIENCE)?;
        node.with_context(|| format!("--from {from}: a node is http://HOST:PORT")).map(Some)
    }

    fn config(&self) -> Result<Config> {
        Place { dir: self.dir.clone(), config: self.config.clone() }.config()
    }
}

/// How a command answers.
#[derive(Clone, Copy, Debug)]
struct Output {
    json: bool,
}

/// The answer is no; it has been said already.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct No(pub String);

impl Output {
    /// Prints JSON, or text made by `text`.
    fn print(self, json: &serde_json::Value, text: impl FnOnce() -> String) -> Result<()> {
        let text = if self.json { format!("{json:#}") } else { text() };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", text.trim_end()).context("writing to standard output")
    }
}

/// A progress bar on a terminal; elsewhere nothing is drawn.
fn progress(total: u64, what: &str) -> ProgressBar {
    let template = "{msg:>12} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(what.to_string())
}

/// Reads a text file, at most `limit` bytes; `-` is standard input.
fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let name = path.display();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path)
            .with_context(|| format!("opening {name}"))?
            .take(limit + 1)
            .read_to_end(&mut bytes)
    };
    read.with_context(|| format!("reading {name}"))?;
    anyhow::ensure!(bytes.len() as u64 <= limit, "{name} is longer than {limit} bytes");
    Ok(bytes)
}

/// Reads a text file in UTF-8.
fn read_text(path: &Path, limit: u64) -> Result<String> {
    String::from_utf8(read_file(path, limit)?)
        .with_context(|| format!("{} is not UTF-8 text", path.display()))
}

/// Reads what a verifier trusts beforehand.
fn read_trust_root(path: &Path) -> Result<TrustRoot> {
    let text = read_text(path, RECEIPT_MAX)?;
    TrustRoot::from_json(&text).with_context(|| format!("trust root {}", path.display()))
}

/// Reads a proof that is compact, and then begins with a P, or JSON.
fn in_either_form<T, D, J>(
    bytes: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, D>,
    from_json: impl FnOnce(&str) -> Result<T, J>,
) -> Result<T, Refusal>
where
    Refusal: From<D>,
    J: std::fmt::Display,
{
    if bytes.first() == Some(&b'P') {
        return Ok(decode(bytes)?);
    }
    let refused = |why: String| Refusal::new(Step::Decode, why);
    let text = std::str::from_utf8(bytes)
        .map_err(|error| refused(format!("neither the compact form nor JSON: {error}")))?;
    from_json(text).map_err(|error| refused(error.to_string()))
}

/// Most bytes of a JSON document.
const DOCUMENT_MAX: u64 = 16 << 20;
/// Most bytes of a receipt in either form.
const RECEIPT_MAX: u64 = 1 << 20;

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let usual = if matches!(arguments.command, Command::Sim(_)) { "off" } else { "warn" };
    start_log(arguments.log.as_deref().unwrap_or(usual), arguments.log_json);
    let output = Output { json: arguments.json };
    exit_code(run(arguments.command, output))
}

/// Begins to log to standard error; a second call changes nothing.
pub fn start_log(filter: &str, json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only where logging was started before.
    let _ = if json { log.json().try_init() } else { log.try_init() };
}

/// Says what went wrong, and gives the code for it.
pub fn exit_code(result: Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if let Some(No(why)) = error.downcast_ref() {
        eprintln!("{why}");
        return ExitCode::from(1);
    }
    eprintln!("error: {error:#}");
    ExitCode::from(error.chain().find_map(class_of).unwrap_or(2))
}

/// The exit code of an error whose class is known: busy or fatal.
fn class_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<Fatal>() {
        return Some(4);
    }
    if cause.is::<Busy>() || cause.is::<Ahead>() {
        return Some(3);
    }
    if let Some(error) = cause.downcast_ref::<OrderError>() {
        return matches!(error, OrderError::Fatal(_)).then_some(4);
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return match error {
            StoreError::Busy(_) => Some(3),
            StoreError::Fatal { .. } => Some(4),
            StoreError::Refused(_) => None,
        };
    }
    match cause.downcast_ref::<StreamError>()? {
        StreamError::Busy(_) => Some(3),
        StreamError::Fatal(_) => Some(4),
        StreamError::Refused(_) => None,
    }
}

fn run(command: Command, output: Output) -> Result<()> {
    match command {
        Command::Demo(arguments) => demo::run(&arguments, output),
        Command::Devnet(arguments) => devnet::run(&arguments, output),
        Command::Node(arguments) => node::run(&arguments),
        Command::Keygen(arguments) => keygen::run(&arguments, output),
        Command::Unused(arguments) => unused::run(&arguments, output),
        Command::Genesis(arguments) => genesis::run(&arguments, output),
        Command::Identity(arguments) => identity::run(&arguments, output),
        Command::Import(arguments) => import::run(&arguments, output),
        Command::Submit(arguments) => submit::run(&arguments, output),
        Command::Receipt(arguments) => receipt::run(&arguments, output),
        Command::Status(arguments) => status::run(&arguments, output),
        Command::Check(arguments) => check::run(&arguments, output),
        Command::Alerts(arguments) => alerts::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments, output),
        Command::Trust(arguments) => trust::run(&arguments, output),
        Command::Witness(arguments) => witness::run(&arguments, output),
        Command::Mirror(arguments) => mirror::run(&arguments, output),
        Command::Evidence(arguments) => evidence::run(&arguments, output),
        Command::Fsck(arguments) => fsck::run(&arguments, output),
        Command::Snapshot(arguments) => snapshot::run(&arguments, output),
        Command::Prune(arguments) => prune::run(&arguments, output),
        Command::Sim(arguments) => sim::run(&arguments, output),
        Command::Bench(arguments) => bench::run(&arguments, output),
        Command::Audit(arguments) => audit::run(&arguments, output),
        Command::Config(arguments) => config(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments, output),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "piaogen", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn config(arguments: &ConfigArguments) -> Result<()> {
    match &arguments.check {
        None => print!("{}", crate::config::COMMENTED),
        Some(file) => {
            Config::load(file)?;
            println!("{} is a good configuration", file.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fatal_and_busy_have_codes_of_their_own() {
        let code = |error: anyhow::Error| error.chain().find_map(class_of);
        assert_eq!(code(Fatal("x".into()).into()), Some(4));
        assert_eq!(code(anyhow::Error::new(Busy("x".into())).context("y")), Some(3));
        assert_eq!(code(anyhow::Error::new(StreamError::Busy("x".into())).context("y")), Some(3));
        assert_eq!(code(StoreError::Refused("x".into()).into()), None);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
