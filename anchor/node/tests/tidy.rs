//! Holds the style that a compiler does not: each complaint names the fix.
//!
//! Invariants
//! - What is looked for is written here in two parts, so that this file passes itself.

mod tree;

use tree::{File, files, members, none, read, rust};

/// Most lines of a source.
const LINES_MAX: usize = 1_000;

/// Endings of files that are text of ours; scripts have none.
const TEXT: &[&str] = &[".md", ".py", ".rs", ".toml", ".xml", ".yaml", ".yml"];

fn is_text(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    TEXT.iter().any(|ending| name.ends_with(ending))
        || (!name.contains('.') && (path.starts_with("deploy/") || path.starts_with(".ci/")))
}

/// All places of these words, with what to do instead.
fn places(files: &[File], words: &[(String, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        for (line, number) in file.text.lines().zip(1..) {
            for (word, instead) in words.iter().filter(|(word, _)| line.contains(word.as_str())) {
                complaints.push(format!("{}:{number}: {word}: {instead}", file.path));
            }
        }
    }
    complaints
}

#[test]
fn every_source_says_what_it_does() {
    let missing = rust("").into_iter().filter(|file| {
        let first = file.text.lines().next().unwrap_or_default();
        // A `tests.rs` belongs to the module above it, whose head speaks for both.
        !(first.starts_with("//!")
            || first.starts_with("#![doc")
            || file.path.ends_with("/tests.rs"))
    });
    let complaint = |file: File| {
        format!("{}: begin with `//!`: what it does, why it is shaped so, invariants", file.path)
    };
    none(&missing.map(complaint).collect::<Vec<_>>());
}

#[test]
fn no_source_is_endless() {
    let long = rust("").into_iter().filter(|file| file.text.lines().count() > LINES_MAX);
    let complaint = |file: File| {
        let lines = file.text.lines().count();
        format!("{}: {lines} lines, {LINES_MAX} are allowed: one topic to a file, split", file.path)
    };
    none(&long.map(complaint).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_undone() {
    let words = [
        (concat!("to", "do!("), "write it, or return an error that says what is not there yet"),
        (concat!("unimpl", "emented!("), "write it, or return an error"),
        (concat!("db", "g!("), "use tracing, or remove it"),
        (concat!("FIX", "ME"), "fix it, or open an issue"),
        (concat!("TO", "DO"), "do it, or open an issue"),
    ];
    let words = words.map(|(word, instead)| (word.to_string(), instead));
    none(&places(&rust(""), &words));
}

#[test]
fn nothing_names_a_machine() {
    let path = "name no folder of one machine; use a relative path or an environment variable";
    let host = "name no package index; whoever builds has one configured";
    let words = [
        (concat!("/ro", "ot/"), path),
        (concat!("/ho", "me/"), path),
        (concat!("/wo", "rk/"), path),
        (concat!("index.cra", "tes.io"), host),
        (concat!("static.cra", "tes.io"), host),
        (concat!("py", "pi.org"), host),
        (concat!("pythonho", "sted.org"), host),
        (concat!("maven.apa", "che.org/maven2"), host),
        (concat!("maven", ".org"), host),
        (concat!("[sou", "rce."), host),
    ];
    let words = words.map(|(word, instead)| (word.to_string(), instead));
    let texts = files("", |path| is_text(path) && !path.starts_with(".cargo/"));
    assert!(texts.iter().any(|file| file.path == "deploy/test"), "scripts are not read");
    none(&places(&texts, &words));
}

#[test]
fn the_lock_file_names_the_public_index_only() {
    let public = concat!("registry+https://github.com/rust-lang/cra", "tes.io-index");
    let other: Vec<String> = read("Cargo.lock")
        .lines()
        .filter(|line| line.starts_with("source = ") && !line.contains(public))
        .map(|line| format!("Cargo.lock: {line}: use released crates of the public index"))
        .collect();
    none(&other);
}

#[test]
fn the_readme_maps_every_folder() {
    let readme = read("README.md");
    let mut folders = members();
    folders.push("deploy".into());
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `")).collect();
    let mut complaints = Vec::new();
    for folder in &folders {
        let row = rows.iter().find(|row| row.starts_with(&format!("| `{folder}/` |")));
        let sentence = row.and_then(|row| row.split('|').nth(2)).unwrap_or_default().trim();
        if sentence.split_whitespace().count() < 3 || !sentence.ends_with('.') {
            complaints.push(format!(
                "README.md: the map needs a row \"| `{folder}/` | Verb sentence. |\""
            ));
        }
    }
    for row in rows {
        let folder = row.trim_start_matches("| `").split("/`").next().unwrap_or_default();
        if !folders.iter().any(|known| known == folder) {
            complaints
                .push(format!("README.md: the map names {folder}, which is no package: {row}"));
        }
    }
    let has_word = |token: &&str| token.chars().any(char::is_alphanumeric);
    let words = readme.split_whitespace().filter(has_word).count();
    if !(600..=900).contains(&words) {
        complaints.push(format!("README.md has {words} words; 600 to 900 are read"));
    }
    none(&complaints);
}

/// Links of a document that are paths, without their anchors.
fn links(text: &str) -> Vec<&str> {
    let after = text.split("](").skip(1);
    let targets = after.filter_map(|after| after.split(')').next());
    targets
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

#[test]
fn documents_link_to_what_is_there() {
    let mut complaints = Vec::new();
    for file in files("", |path| path.ends_with(".md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in links(&file.text) {
            if !tree::root().join(folder).join(link).exists() {
                complaints
                    .push(format!("{}: the link {link} leads nowhere: correct it", file.path));
            }
        }
    }
    none(&complaints);
}
