//! The manual's own way through the commands: a new chain, a participant, an imported invoice, its
//! receipt, and what each command says when something is wrong.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

use std::path::Path;
use std::process::{Command, Output};

const UBL: &str = include_str!("../../../ingest/import/tests/samples/ubl.xml");

fn piaogen(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_piaogen")).args(arguments).current_dir(dir).output().unwrap()
}

/// Runs a command that must end with this code; what it printed, standard error last.
fn run(dir: &Path, code: i32, arguments: &[&str]) -> String {
    let output = piaogen(dir, arguments);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

/// Makes a chain that serves nothing.
fn genesis(dir: &Path, chain_id: &str) {
    run(dir, 0, &["genesis", "--dir", "chain", "--chain-id", chain_id, "--partitions", "2"]);
    serve_nothing(&dir.join("chain"));
}

/// These tests run side by side, and there is one default port.
fn serve_nothing(chain: &Path) {
    let path = chain.join("node.toml");
    let toml = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("listen = \"\"\n{toml}")).unwrap();
}

#[test]
fn from_a_new_chain_to_a_receipt_and_back() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    std::fs::write(dir.join("invoice.xml"), UBL).unwrap();
    genesis(dir, "manual-1");
    let again = run(dir, 2, &["genesis", "--dir", "chain", "--chain-id", "manual-1"]);
    assert!(again.contains("is not empty"), "{again}");
    run(dir, 0, &["config", "--check", "chain/node.toml"]);
    run(dir, 0, &["keygen", "--out", "seller.pem", "--public", "seller.pub"]);
    run(dir, 0, &["import", "ubl", "invoice.xml", "--out", "document.json"]);
    let text = std::fs::read_to_string(dir.join("document.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let field = |name: &str| document["fields"][name].as_str().unwrap().to_string();
    let (number, seller) = (field("number"), field("seller_party"));

    let base = ["submit", "--dir", "chain", "--key"];
    let register = ["chain/authority.pem", "register", "--party", &seller, "--name", "Seller"];
    let rest = ["--role", "issuer", "--public", "seller.pub"];
    run(dir, 0, &[&base[..], &register[..], &rest[..]].concat());
    run(dir, 0, &["node", "--dir", "chain", "--until-drained"]);
    let issue = ["seller.pem", "issue", "document.json"];
    run(dir, 0, &[&base[..], &issue[..]].concat());
    // The same again is answered with the first; somebody else may not issue.
    run(dir, 0, &[&base[..], &issue[..]].concat());
    run(dir, 0, &["node", "--dir", "chain", "--until-drained"]);

    let which = ["--number", &number, "--scheme", "EN16931", "--seller", &seller];
    let show = ["--show", "number,total_gross,currency", "--out", "receipt.json"];
    run(dir, 0, &[&["receipt", "--dir", "chain"][..], &which[..], &show[..]].concat());
    let trust = ["--trust-root", "chain/trust-root.json"];
    let good = run(
        dir,
        0,
        &[&["verify", "receipt.json"][..], &trust[..], &["--document", "document.json"][..]]
            .concat(),
    );
    assert!(good.contains("ACCEPTED"), "{good}");

    let altered =
        text.replace(&format!("\"seller_party\": \"{seller}\""), "\"seller_party\": \"X\"");
    assert_ne!(altered, text);
    std::fs::write(dir.join("altered.json"), altered).unwrap();
    let bad = run(
        dir,
        1,
        &[&["verify", "receipt.json"][..], &trust[..], &["--document", "altered.json"][..]]
            .concat(),
    );
    assert!(bad.contains("seller_party"), "{bad}");

    let receipt = std::fs::read_to_string(dir.join("receipt.json")).unwrap();
    std::fs::write(dir.join("forged.json"), receipt.replace("\"ACCEPTED\"", "\"NOT_FOUND\""))
        .unwrap();
    let forged = run(dir, 1, &[&["verify", "forged.json"][..], &trust[..]].concat());
    assert!(forged.contains("inclusion"), "{forged}");

    let none = run(dir, 2, &["receipt", "--dir", "chain", "--number", "nothing"]);
    assert!(none.contains("was not accepted"), "{none}");
    run(dir, 0, &["receipt", "--dir", "chain", "--consistency", "1", "--out", "consistency.json"]);
    let leaves = run(dir, 0, &["inspect", "--dir", "chain", "chain", "--json"]);
    assert!(leaves.contains("manual-1"), "{leaves}");
    let checkpoint = run(dir, 0, &["inspect", "--dir", "chain", "checkpoint"]);
    assert!(checkpoint.starts_with("piaogen/manual-1\n"), "{checkpoint}");
    run(dir, 0, &["fsck", "--dir", "chain"]);
    run(dir, 0, &["audit", "verify", "--dir", "chain"]);
    let sql = "SELECT outcome, count(*) AS n FROM records WHERE kind = 'issue' GROUP BY outcome \
               ORDER BY outcome";
    let answer = run(dir, 0, &["audit", "query", "--dir", "chain", "--format", "csv", sql]);
    let lines: Vec<&str> = answer.lines().map(str::trim_end).collect();
    assert_eq!(lines, ["outcome,n", "ACCEPTED,1", "REPLAY,1"]);
}

#[test]
fn a_hundred_validators_are_the_most_at_every_command() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let many = ["--validators", "101"];
    let genesis = ["genesis", "--dir", "chain", "--chain-id", "large-1", "--partitions", "2"];
    for command in [&genesis[..], &["sim", "--seeds", "1"]] {
        let said = run(dir, 2, &[command, &many[..]].concat());
        assert!(said.contains("101 is not in 1..=100"), "{said}");
    }
}

#[test]
fn an_archive_that_was_touched_is_found_out() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    run(dir, 0, &["demo", "--records", "400", "--dir", "d", "--sellers", "5", "--partitions", "2"]);
    run(dir, 0, &["audit", "verify", "--dir", "d"]);
    let mut segments = Vec::new();
    let mut folders = vec![dir.join("d/archive/records")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { segments.push(path) }
        }
    }
    let mut bytes = std::fs::read(&segments[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segments[0], bytes).unwrap();
    let said = run(dir, 1, &["audit", "verify", "--dir", "d"]);
    assert!(said.contains("FOUND"), "{said}");
}

#[test]
fn an_archive_of_another_folder_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    run(dir, 0, &["demo", "--records", "400", "--dir", "d", "--sellers", "5", "--partitions", "2"]);
    serve_nothing(&dir.join("d"));
    // The stream is there, so all could be executed again; but nothing of it would be sealed.
    std::fs::remove_dir_all(dir.join("d/data")).unwrap();
    let said = run(dir, 2, &["node", "--dir", "d", "--until-drained"]);
    assert!(said.contains("the archive has"), "{said}");
    std::fs::remove_dir_all(dir.join("d/archive")).unwrap();
    run(dir, 0, &["node", "--dir", "d", "--until-drained"]);
    run(dir, 0, &["audit", "verify", "--dir", "d"]);
}

#[test]
fn what_happens_afterwards_is_submitted_too() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    std::fs::write(dir.join("invoice.xml"), UBL).unwrap();
    genesis(dir, "manual-2");
    run(dir, 0, &["keygen", "--out", "seller.pem", "--public", "seller.pub"]);
    run(dir, 0, &["import", "ubl", "invoice.xml", "--out", "document.json"]);
    let text = std::fs::read_to_string(dir.join("document.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let seller = document["fields"]["seller_party"].as_str().unwrap();
    let submit = |code, key: &str, rest: &[&str]| {
        run(dir, code, &[&["submit", "--dir", "chain", "--key", key][..], rest].concat())
    };
    let public = ["--public", "seller.pub", "--role", "issuer", "--role", "company"];
    let register = ["register", "--name", "Seller", "--party", seller];
    submit(0, "chain/authority.pem", &[&register[..], &public[..]].concat());
    run(dir, 0, &["node", "--dir", "chain", "--until-drained"]);

    submit(0, "seller.pem", &["issue", "document.json"]);
    let event = ["event", "add_file", "--document", "document.json"];
    let missing = submit(1, "seller.pem", &event);
    assert!(missing.contains("MALFORMED"), "{missing}");
    let digest = format!("{{\"digest\": \"{}\"}}", "ab".repeat(32));
    submit(0, "seller.pem", &[&event[..], &["--fields", &digest]].concat());
    let until = ["--kind", "book", "--until-ms", "4000000000000"];
    let delegate = ["delegate", "--party", "AUTHORITY"];
    submit(0, "seller.pem", &[&delegate[..], &until[..]].concat());
    let unknown = submit(2, "seller.pem", &["policy", "--from-height", "9", "--set", "x=1"]);
    assert!(unknown.contains("lien_blocks"), "{unknown}");
    let policy = ["policy", "--from-height", "100000", "--set", "lien_blocks=0"];
    submit(0, "chain/authority.pem", &policy);
    run(dir, 0, &["node", "--dir", "chain", "--until-drained"]);
    run(dir, 0, &["fsck", "--dir", "chain"]);
    run(dir, 0, &["audit", "verify", "--dir", "chain"]);
    let sql = "SELECT kind, outcome, digest IS NOT NULL AS d FROM records ORDER BY kind";
    let answer = run(dir, 0, &["audit", "query", "--dir", "chain", "--format", "csv", sql]);
    let lines: Vec<&str> = answer.lines().map(str::trim_end).collect();
    let rows = ["add_file,ACCEPTED,true", "delegate,ACCEPTED,false", "issue,ACCEPTED,false"];
    assert_eq!(lines[1..4], rows);
    assert_eq!(lines[4..], ["policy,ACCEPTED,false", "register,ACCEPTED,false"]);
}

#[test]
fn a_set_is_made_from_keys_that_others_hold_or_all_at_once() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    for name in ["a", "b"] {
        let (secret, public) = (format!("{name}.pem"), format!("{name}.pub.pem"));
        run(dir, 0, &["keygen", "--out", &secret, "--public", &public]);
    }
    let genesis = ["genesis", "--chain-id", "set-1", "--partitions", "2", "--dir"];
    let named = ["--validator", "a.pub.pem", "--validator", "b.pub.pem"];
    let at = ["--address", "a.example:9465", "--address", "b.example:9465"];
    run(dir, 0, &[&genesis[..], &["set"], &named[..], &at[..]].concat());
    run(dir, 2, &[&genesis[..], &["wrong"], &named[..], &at[..2]].concat());
    for index in ["1", "2"] {
        let folder = format!("set/validator-{index}");
        run(dir, 0, &["config", "--check", &format!("{folder}/node.toml")]);
        assert!(!dir.join(&folder).join("validator.pem").exists());
        let said = run(dir, 2, &["node", "--dir", &folder]);
        assert!(said.contains("reading set"), "{said}");
    }
    let others = ["--co-authority", "TAX-2=a.pub.pem", "--co-authority", "TAX-3=b.pub.pem"];
    let rules = ["--authority-quorum", "3", "--epoch-blocks", "7"];
    run(dir, 0, &[&genesis[..], &["three"], &others[..], &rules[..]].concat());
    let file = std::fs::read_to_string(dir.join("three/genesis.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file["participants"][2]["party"], "TAX-3");
    assert_eq!((&file["authority_quorum"], &file["epoch_blocks"]), (&3.into(), &7.into()));
    let more = run(dir, 2, &[&genesis[..], &["more"], &others[..2], &rules[..2]].concat());
    assert!(more.contains("authority_quorum must be within 1 and 2"), "{more}");
    run(dir, 0, &[&genesis[..], &["four", "--validators", "4"]].concat());
    assert!(dir.join("four/validator-4/validator.pem").exists());
    assert!(!dir.join("four/validator.pem").exists());
    // A validator of a set that is told of nobody says what is missing.
    let config = dir.join("four/validator-1/node.toml");
    let toml = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, toml.split("[peers]").next().unwrap()).unwrap();
    let said = run(dir, 2, &["node", "--dir", "four/validator-1"]);
    assert!(said.contains("has 4 validators: say in [peers]"), "{said}");
}

#[test]
fn a_devnet_of_four_processes_answers_every_record() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let said = run(dir, 0, &["devnet", "--dir", "d", "--records", "1000", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["receipts_verified"], 1_000, "{said}");
    let sights = answer["sights"].as_array().unwrap();
    assert_eq!(sights.len(), 9);
    for sight in &sights[..4] {
        assert_eq!(sight["root"], sights[0]["root"], "{said}");
        assert_eq!(sight["connected"], 4, "{said}");
        assert!(sight["votes"].as_u64().unwrap() > 0, "{said}");
    }
    for observer in &sights[4..6] {
        assert_eq!(observer["root"], sights[0]["root"], "{said}");
        assert_eq!(observer["votes"], 0, "{said}");
    }
    for witness in &sights[6..] {
        assert!(witness["cosigned"].as_u64().unwrap() > 0, "{said}");
    }
    let cosigned = &answer["cosigned"];
    assert_eq!(cosigned["quorum"], 2, "{said}");
    assert!(cosigned["witnesses"].as_u64().unwrap() >= 2, "{said}");
    assert!(cosigned["receipts"].as_u64().unwrap() > 0, "{said}");
    // Anybody checks them with what the run leaves.
    assert!(dir.join("d/watched.json").exists() && dir.join("d/cosigned").exists());
    run(dir, 0, &["fsck", "--dir", "d/validator-3"]);
}

#[test]
fn a_devnet_in_trouble_stays_one_history() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let kafka = std::env::var("PIAOGEN_KAFKA").ok().filter(|broker| !broker.is_empty());
    let mut arguments = vec!["devnet", "--dir", "d", "--trouble", "--json"];
    arguments.extend(["--records", "20000", "--rate", "400"]);
    arguments.extend(kafka.iter().flat_map(|broker| ["--kafka", broker.as_str()]));
    let output = piaogen(dir, &arguments);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words}");
    let said = String::from_utf8(output.stdout).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["receipts_verified"], 20_000, "{said}");
    let incidents = answer["incidents"].as_array().unwrap();
    let what: Vec<&str> = incidents.iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!(what.len(), 10, "{said}");
    assert_eq!(what[9], "2 of 4 validators are killed");
    assert!(answer["blocks_compared"].as_u64().unwrap() > 40, "{said}");
}
