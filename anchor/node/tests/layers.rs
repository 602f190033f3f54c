//! Holds the layers: who may use whom, and where the outside world may be touched.
//!
//! `crypto` is below `verify`, which is below everything; `ingest`, `storage`, `anchor` and
//! `loadgen` never meet; only `anchor/node` and `anchor/sim` join them. `crypto`, `verify` and `anchor` are pure, so
//! that whoever embeds or simulates them brings the world along.
//!
//! Invariants
//! - A package that is not in the table below fails the test: its place has to be decided.
//! - Every complaint names the fix.

mod tree;

use std::collections::BTreeMap;
use tree::{File, manifest, members, none, read, rust};

/// Each package's folder, and the packages of ours that it may use. Their tests too: what a test of
/// two siblings needs is a test of `anchor/node`.
const MAY_USE: &[(&str, &[&str])] = &[
    ("crypto", &[]),
    ("verify", &["crypto"]),
    ("ingest", &["crypto", "verify"]),
    ("ingest/import", &["crypto", "verify"]),
    ("storage", &["crypto", "verify"]),
    ("storage/query", &["crypto", "verify", "storage"]),
    ("anchor", &["crypto", "verify"]),
    ("anchor/node/order", &["crypto", "verify"]),
    ("loadgen", &["crypto", "verify"]),
    // It brings a simulated world along to what a node runs, so it joins them as a node does.
    ("anchor/sim", &["crypto", "verify", "ingest", "anchor", "anchor/node/order", "loadgen"]),
    ("verify/api", &["crypto", "verify", "storage"]),
    (
        "anchor/node",
        &[
            "crypto",
            "verify",
            "verify/api",
            "ingest",
            "ingest/import",
            "storage",
            "storage/query",
            "anchor",
            "anchor/node/order",
            "anchor/sim",
            "loadgen",
        ],
    ),
];

/// Crates of others, by the beginning of their names, and the only packages that may use them.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("rocksdb", &["storage"]),
    ("librocksdb-sys", &["storage"]),
    ("parquet", &["storage", "storage/query"]),
    ("arrow", &["storage", "storage/query"]),
    ("object_store", &["storage", "storage/query"]),
    ("datafusion", &["storage/query"]),
    ("rdkafka", &["ingest", "loadgen"]),
    ("axum", &["verify/api"]),
    ("commonware-", &["anchor/node/order"]),
    ("cryptoki", &["anchor/node"]),
    ("pkcs8", &["crypto"]),
];

/// The packages that touch nothing outside.
const PURE: &[&str] = &["crypto", "verify", "anchor"];

/// Crates with which one touches the outside; not for pure packages, but in their tests.
const WORLDLY: &[&str] = &[
    "async",
    "chrono",
    "crossbeam",
    "fs",
    "futures",
    "getrandom",
    "indicatif",
    "memmap",
    "mio",
    "rand",
    "rayon",
    "reqwest",
    "smol",
    "socket",
    "tempfile",
    "time",
    "tokio",
    "tracing",
];

/// Modules of `std` that touch the outside.
const OUTSIDE: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread", "time"];

/// Other words by which a source touches the outside.
const OUTSIDE_WORDS: &[&str] = &[
    "getrandom",
    "rand::",
    "rand_core::OsRng",
    "SystemTime",
    "Instant::now",
    "println!",
    "eprintln!",
    "dbg!",
    "include_bytes!(\"/",
];

fn folder_of(package: &str) -> Option<&'static str> {
    MAY_USE.iter().map(|(folder, _)| *folder).find(|folder| package_of(folder) == package)
}

fn package_of(folder: &str) -> String {
    format!("piaogen-{}", folder.rsplit('/').next().unwrap_or_default())
}

/// All dependencies of a manifest, by kind: `dependencies`, `dev-dependencies` …
fn dependencies(manifest: &toml::Table) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut tables = vec![manifest];
    let targets = manifest.get("target").and_then(|targets| targets.as_table());
    tables.extend(targets.into_iter().flatten().filter_map(|(_, target)| target.as_table()));
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = table.get(kind).and_then(|names| names.as_table()).into_iter().flatten();
            for (name, how) in names {
                let real = how.get("package").and_then(|real| real.as_str()).unwrap_or(name);
                found.entry(kind.into()).or_default().push(real.into());
            }
        }
    }
    found
}

#[test]
fn every_package_has_its_place() {
    let mut complaints = Vec::new();
    for folder in members() {
        let package = manifest(&format!("{folder}/Cargo.toml"));
        let name = package["package"]["name"].as_str().unwrap().to_string();
        if folder_of(&name) != Some(folder.as_str()) {
            complaints.push(format!(
                "{folder} ({name}) has no row in MAY_USE of anchor/node/tests/layers.rs, or its \
                 name is not {}: decide its layer, then add the row",
                package_of(&folder)
            ));
        }
        if package.get("lints").and_then(|lints| lints.get("workspace")).is_none() {
            complaints.push(format!("{folder}/Cargo.toml: add `[lints] workspace = true`"));
        }
    }
    for (folder, _) in MAY_USE {
        if !members().iter().any(|member| member == folder) {
            complaints
                .push(format!("{folder} is in MAY_USE and not in Cargo.toml: remove the row"));
        }
    }
    none(&complaints);
}

#[test]
fn everything_points_down() {
    let mut complaints = Vec::new();
    for (folder, may_use) in MAY_USE {
        for (kind, names) in dependencies(&manifest(&format!("{folder}/Cargo.toml"))) {
            for name in names.iter().filter(|name| name.starts_with("piaogen-")) {
                match folder_of(name) {
                    Some(used) if may_use.contains(&used) => {}
                    _ => complaints.push(format!(
                        "{folder}/Cargo.toml, {kind}: {folder} must not use {name}; move what both \
                         need down into verify, or join them in anchor/node"
                    )),
                }
            }
        }
    }
    none(&complaints);
}

#[test]
fn heavy_crates_stay_where_they_belong() {
    let mut complaints = Vec::new();
    for (folder, _) in MAY_USE {
        for (kind, names) in dependencies(&manifest(&format!("{folder}/Cargo.toml"))) {
            for name in names {
                let only = ONLY_IN.iter().find(|(begin, _)| name.starts_with(begin));
                let Some((_, allowed)) = only else { continue };
                if !allowed.contains(folder) {
                    complaints.push(format!(
                        "{folder}/Cargo.toml, {kind}: {name} belongs to {} only; ask that package \
                         through its own interface",
                        allowed.join(" and ")
                    ));
                }
            }
        }
    }
    none(&complaints);
}

#[test]
fn pure_packages_use_no_crate_of_the_world() {
    let mut complaints = Vec::new();
    for folder in PURE {
        let found = dependencies(&manifest(&format!("{folder}/Cargo.toml")));
        for name in found.iter().filter(|(kind, _)| *kind == "dependencies").flat_map(|(_, n)| n) {
            if WORLDLY.iter().any(|begin| name.starts_with(begin)) {
                complaints.push(format!(
                    "{folder}/Cargo.toml: {name} touches clock, threads, disk, network or \
                     randomness; give {folder} what it needs as an argument"
                ));
            }
        }
    }
    none(&complaints);
}

/// A source without comments and without its tests; lines keep their numbers.
fn code(file: &File) -> String {
    let mut code = String::new();
    let mut lines = file.text.lines().peekable();
    let mut in_tests = false;
    while let Some(line) = lines.next() {
        let next = lines.peek().map_or("", |next| next.trim());
        in_tests |= line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{');
        if !in_tests {
            code.push_str(line.split("//").next().unwrap_or_default());
        }
        in_tests &= line != "}";
        code.push('\n');
    }
    code
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// What stands after `std::`: one name, or each first name of a group `{a, b::c, d::{e, f}}`.
fn modules(path: &str) -> Vec<&str> {
    let Some(group) = path.strip_prefix('{') else { return vec![first_name(path)] };
    let (mut found, mut depth, mut begin) = (Vec::new(), 1, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            found.push(first_name(group[begin..at].trim_start()));
            begin = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    found
}

fn first_name(path: &str) -> &str {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    &path[..end]
}

/// Where code touches the outside, and by which word.
fn touches(code: &str) -> Vec<(usize, String)> {
    let line_of = |at: usize| code[..at].matches('\n').count() + 1;
    let mut found: Vec<(usize, String)> = Vec::new();
    for (at, prefix) in code.match_indices("std::") {
        let names = modules(&code[at + prefix.len()..]);
        let outside = names.into_iter().filter(|name| OUTSIDE.contains(name));
        found.extend(outside.map(|name| (line_of(at), format!("std::{name}"))));
    }
    for word in OUTSIDE_WORDS {
        found.extend(code.match_indices(word).map(|(at, _)| (line_of(at), (*word).to_string())));
    }
    found
}

#[test]
fn pure_sources_touch_nothing_outside() {
    let mut complaints = Vec::new();
    for folder in PURE {
        for file in rust(&format!("{folder}/src")).iter().filter(|file| !is_test(&file.path)) {
            for (line, word) in touches(&code(file)) {
                complaints.push(format!(
                    "{}:{line}: `{word}` touches the outside; {folder} is pure: take the value as \
                     an argument, or do it in anchor/node",
                    file.path
                ));
            }
        }
    }
    none(&complaints);
}

#[test]
fn what_touches_the_outside_is_found() {
    let text = "use std::{\n    collections::{HashMap, io},\n    fs,\n};\n// std::net\n\
                use std::time::Duration;\nlet key = getrandom::fill();\n\
                #[cfg(test)]\nmod tests {\nuse std::thread;\n}\nuse std::net;\n";
    let file = File { path: "x/src/lib.rs".into(), text: text.into() };
    let found = touches(&code(&file));
    let found: Vec<(usize, &str)> = found.iter().map(|(at, word)| (*at, word.as_str())).collect();
    assert_eq!(found, [(1, "std::fs"), (6, "std::time"), (12, "std::net"), (7, "getrandom")]);
}

#[test]
fn libraries_for_others_need_no_std() {
    for folder in ["crypto", "verify"] {
        let root = read(&format!("{folder}/src/lib.rs"));
        assert!(
            root.lines().any(|line| line.trim() == "#![no_std]"),
            "{folder}/src/lib.rs: put `#![no_std]` back; banks embed it where there is no std"
        );
    }
}

#[test]
fn unsafe_code_is_in_crypto_only() {
    let workspace = manifest("Cargo.toml");
    let level = workspace["workspace"]["lints"]["rust"]["unsafe_code"].as_str();
    assert_eq!(level, Some("deny"), "Cargo.toml: put `unsafe_code = \"deny\"` back");
    let words = ["{", "fn ", "impl ", "extern "].map(|after| ["unsafe", after].join(" "));
    let mut complaints = Vec::new();
    for file in rust("").iter().filter(|file| !file.path.starts_with("crypto/")) {
        for (line, number) in file.text.lines().zip(1..) {
            let line = line.split("//").next().unwrap_or_default();
            let word = words.iter().find(|word| line.contains(word.as_str()));
            let allowed = ["allow", "expect"].map(|how| [how, "unsafe_code"].join("("));
            let allowed = allowed.iter().any(|allowed| line.contains(allowed.as_str()));
            if word.is_some() || allowed {
                complaints.push(format!(
                    "{}:{number}: unsafe code belongs to crypto only; find a safe way, or a crate \
                     that has one",
                    file.path
                ));
            }
        }
    }
    none(&complaints);
}
