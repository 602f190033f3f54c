//! Reads the project's own files, for the tests that hold its rules.
//!
//! Only text is read, and nothing of what is built, downloaded or left by a demo.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "shared by tests; a failure ends them")]
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::PathBuf;

/// The folder of the workspace.
pub fn root() -> PathBuf {
    let node = std::env::current_dir().expect("a folder to be in");
    node.ancestors().nth(2).expect("the package lies two folders below").to_path_buf()
}

/// A file, by its path from the root.
pub struct File {
    pub path: String,
    pub text: String,
}

/// One file.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below a folder (by its path from the root, empty for all) whose path `wanted` takes.
pub fn files(folder: &str, wanted: impl Fn(&str) -> bool) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let entry = entry.unwrap();
            let path = entry.path();
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            if entry.file_type().unwrap().is_dir() {
                if !foreign(&name) {
                    folders.push(path);
                }
            } else if wanted(&name)
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                found.push(File { path: name, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Folders that are no part of the project.
fn foreign(folder: &str) -> bool {
    let name = folder.rsplit('/').next().unwrap_or_default();
    matches!(name, ".git" | "target" | "__pycache__")
        || folder == "deploy/node"
        || folder.starts_with("piaogen-demo")
}

/// All Rust sources.
pub fn rust(folder: &str) -> Vec<File> {
    let found = files(folder, |path| path.ends_with(".rs"));
    assert!(!found.is_empty(), "there is no Rust source below {folder:?}");
    found
}

/// A manifest.
pub fn manifest(path: &str) -> toml::Table {
    read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The folders of the workspace's packages.
pub fn members() -> Vec<String> {
    let workspace = manifest("Cargo.toml");
    let members = workspace["workspace"]["members"].as_array().expect("members is a list");
    members.iter().map(|member| member.as_str().unwrap().to_string()).collect()
}

/// Fails with all complaints at once, one a line.
pub fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
