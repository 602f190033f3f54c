//! Keeps `FORMAT.md` and `verify/vectors` equal to what the code does.
//!
//! Tables and examples of the document, the vectors for other languages and one hash for each
//! encoded type are computed here and compared with the files. `PIAOGEN_BLESS=1` writes the files
//! instead; a change of them is a change of the format and is reviewed as such.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "format/examples.rs"]
mod examples;
#[path = "format/freeze.rs"]
mod freeze;
#[path = "format/tables.rs"]
mod tables;
#[path = "format/vectors.rs"]
mod vectors;

use common::chain::Chain;
use common::life::Life;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    std::env::current_dir().expect("a folder to be in")
}

fn bless() -> bool {
    std::env::var_os("PIAOGEN_BLESS").is_some_and(|value| value == "1")
}

/// Compares a file with what it should hold, or writes it.
fn settle(path: &Path, expected: &str) {
    if bless() {
        std::fs::write(path, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if found != expected {
        let differs = |(a, b): &(&str, &str)| a != b;
        let pairs = found.lines().zip(expected.lines());
        let (line, pair) = pairs.enumerate().find(|(_, pair)| differs(pair)).unwrap_or_default();
        panic!(
            "{} is not what the code does, first in line {}:\n  file {:?}\n  code {:?}\n\
             If the format was meant to change, run the test with PIAOGEN_BLESS=1.",
            path.display(),
            line + 1,
            pair.0,
            pair.1
        );
    }
}

fn examples_now() -> Vec<(&'static str, String)> {
    let chain = Chain::build();
    examples::all(&chain, &Life::build(&chain))
}

#[test]
fn the_document_is_what_the_code_does() {
    let path = folder().join("FORMAT.md");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text = tables::replace(&text);
    for (name, block) in examples_now() {
        text = examples::replace(&text, name, &block);
    }
    settle(&path, &text);
}

#[test]
fn every_example_block_has_its_source() {
    let text = std::fs::read_to_string(folder().join("FORMAT.md")).unwrap();
    let known: Vec<&str> = examples_now().iter().map(|(name, _)| *name).collect();
    for line in text.lines().filter_map(|line| line.strip_prefix("```example ")) {
        assert!(known.contains(&line), "the example {line:?} is checked by nothing");
    }
}

#[test]
fn vectors_are_what_the_code_does() {
    let folder = folder().join("vectors");
    std::fs::create_dir_all(&folder).unwrap();
    let chain = Chain::build();
    for (name, value) in vectors::all(&chain, &Life::build(&chain)) {
        let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
        settle(&folder.join(name), &text);
    }
}

#[test]
fn encodings_are_frozen() {
    let text = serde_json::to_string_pretty(&freeze::all()).unwrap() + "\n";
    settle(&folder().join("vectors/freeze.json"), &text);
}
