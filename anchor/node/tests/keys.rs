//! Runs chains whose keys are closed by a passphrase, in the environment, or closed by a token
//! (SoftHSM), and says what is wrong where they do not open.
//!
//! Where there is no SoftHSM, the tests that need it say so and pass. `PIAOGEN_SOFTHSM` names its
//! module where it is in another place than Debian's.

#![allow(clippy::unwrap_used, reason = "a test; helpers outside test functions included")]

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use piaogen_crypto::sm2::SecretKey;
use piaogen_crypto::sm2::encrypted::is_encrypted;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PIN: &str = "4711-4711";
const LABEL: &str = "piaogen test";
/// The variable by which the child below is told which module to load.
const CHILD: &str = "PIAOGEN_TEST_MODULE";

/// The folder of a test, and the environment of what runs in it.
struct Place {
    folder: tempfile::TempDir,
    env: Vec<(&'static str, String)>,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap(), env: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).envs(self.env.iter().cloned());
        command.env_remove("PIAOGEN_PASSPHRASE").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_piaogen")).args(arguments).output().unwrap()
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says when it refuses: code 2, and no panic.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(!said.contains(PIN) && !said.contains("panicked"), "{said}");
        said
    }

    /// A chain of the validator with this public key, whose secret key is there.
    fn chain(&self, public: &str, key: &str) {
        let make = ["genesis", "--dir", "chain", "--chain-id", "keys", "--partitions", "2"];
        self.good(&[&make[..], &["--validator", public]].concat());
        let toml = self.path("chain/validator-1/node.toml");
        let text = std::fs::read_to_string(&toml).unwrap();
        let text = text.replace("\"validator.pem\"", &format!("{key:?}"));
        let text = text.replace("listen = \"127.0.0.1:9464\"", "listen = \"\"");
        std::fs::write(&toml, text.replace("127.0.0.1:9500", "127.0.0.1:0")).unwrap();
    }

    /// Registers somebody, with the authority's key, and runs the node until that is final.
    fn register_and_run(&self, party: &str, authority: &str) {
        self.good(&["keygen", "--out", &format!("{party}.pem"), "--public", "party.pub"]);
        let node = ["--dir", "chain/validator-1"];
        let what = ["register", "--party", party, "--name", "x", "--role", "issuer"];
        let submit = ["submit", node[0], node[1], "--key", authority];
        self.good(&[&submit[..], &what, &["--public", "party.pub"]].concat());
        std::fs::remove_file(self.path("party.pub")).unwrap();
        self.good(&["node", node[0], node[1], "--until-drained"]);
    }

    fn height(&self) -> u64 {
        let text = self.good(&["--json", "inspect", "--dir", "chain/validator-1", "chain"]);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["flushed_height"].as_u64().unwrap()
    }
}

#[test]
fn a_validator_runs_with_a_key_that_a_passphrase_closes() {
    let mut place = Place::new();
    place.env = vec![("PASS", "open sesame".into())];
    let make = ["keygen", "--out", "v.pem", "--public", "v.pub", "--encrypt"];
    let said = place.refused(&make);
    assert!(said.contains("PIAOGEN_PASSPHRASE"), "{said}");
    assert!(!place.path("v.pem").exists());
    place.good(&[&make[..], &["--passphrase-source", "env:PASS"]].concat());
    assert!(is_encrypted(&std::fs::read(place.path("v.pem")).unwrap()));
    place.chain("v.pub", "file:../../v.pem?passphrase-source=env:PASS");

    // The authority's key comes from the environment.
    let authority = std::fs::read_to_string(place.path("chain/authority.pem")).unwrap();
    place.env.push(("AUTHORITY_KEY", authority));
    place.register_and_run("A", "env:AUTHORITY_KEY");
    let height = place.height();
    assert!(height > 0);
    // One record for each key, outside of the votes.
    let signed: Vec<_> =
        std::fs::read_dir(place.path("chain/validator-1/data/signed")).unwrap().collect();
    assert_eq!(signed.len(), 1);

    place.env[0].1 = "close sesame".into();
    let said = place.refused(&["node", "--dir", "chain/validator-1"]);
    assert!(said.contains("passphrase does not open"), "{said}");
    assert!(!said.contains("close sesame"), "{said}");
    place.env[0].1 = "open sesame".into();
    place.register_and_run("B", "env:AUTHORITY_KEY");
    assert!(place.height() > height);
}

#[test]
fn a_data_folder_from_a_backup_is_refused_where_the_record_is_elsewhere() {
    let place = Place::new();
    place.good(&["keygen", "--out", "v.pem", "--public", "v.pub"]);
    place.chain("v.pub", "../../v.pem");
    let toml = place.path("chain/validator-1/node.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    std::fs::write(&toml, format!("signed = \"../../signed\"\n{text}")).unwrap();
    place.register_and_run("A", "chain/authority.pem");
    let (chain, backup) = (place.text("chain"), place.text("backup"));
    let copied = Command::new("cp").args(["-a", &chain, &backup]).status().unwrap();
    assert!(copied.success());
    place.register_and_run("B", "chain/authority.pem");
    std::fs::remove_dir_all(&chain).unwrap();
    std::fs::rename(&backup, &chain).unwrap();
    let said = place.refused(&["node", "--dir", "chain/validator-1", "--until-drained"]);
    assert!(said.contains("older copy"), "{said}");
}

fn module() -> Option<String> {
    let usual = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/lib64/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
    ];
    let named = std::env::var("PIAOGEN_SOFTHSM").ok();
    named.or_else(|| usual.iter().find(|path| Path::new(path).exists()).map(|path| (*path).into()))
}

/// A place with a token, and its module; nothing where there is no SoftHSM.
fn softhsm() -> Option<(Place, String)> {
    let mut place = Place::new();
    let tokens = place.path("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let conf = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
    std::fs::write(place.path("softhsm.conf"), conf).unwrap();
    std::fs::write(place.path("pin"), format!("{PIN}\n")).unwrap();
    place.env = vec![("SOFTHSM2_CONF", place.text("softhsm.conf"))];
    let made = place
        .command("softhsm2-util")
        .args(["--init-token", "--free", "--label", LABEL, "--so-pin", "12345678", "--pin", PIN])
        .output()
        .is_ok_and(|output| output.status.success());
    let module = module();
    if !made || module.is_none() {
        eprintln!("SKIPPED: no SoftHSM: keys in tokens are not tested (apt-get install softhsm2)");
        return None;
    }
    Some((place, module?))
}

#[test]
fn a_validator_votes_with_a_key_that_a_token_opens() {
    let Some((place, module)) = softhsm() else { return };
    let uri = |token: &str, object: &str, pin: &str, more: &str| {
        format!("pkcs11:token={token};object={object}?module-path={module}&pin-source={pin}{more}")
    };
    let pin = place.text("pin");
    let aes = uri("piaogen%20test", "wrap", &pin, "");
    let make = ["keygen", "--public", "v.pub", "--wrap", &aes, "--out"];
    let said = place.good(&[&make[..], &["v.wrapped"]].concat());
    assert!(said.contains("made an AES key"), "{said}");
    std::fs::remove_file(place.path("v.pub")).unwrap();
    std::fs::remove_file(place.path("v.wrapped")).unwrap();
    let said = place.good(&[&make[..], &["v.wrapped"]].concat());
    assert!(!said.contains("made"), "the AES key is there: {said}");

    let wrapped = format!("&wrapped-key={}", place.text("v.wrapped"));
    let key = uri("piaogen%20test", "wrap", &pin, &wrapped);
    place.chain("v.pub", &key);
    place.register_and_run("A", "chain/authority.pem");
    assert!(place.height() > 0, "it voted");
    place.register_and_run("B", "chain/authority.pem");

    // What can be wrong is said, and nothing panics.
    let sign = |key: &str| {
        let what = ["register", "--party", "C", "--name", "x", "--role", "issuer"];
        let submit = ["submit", "--dir", "chain/validator-1", "--key", key];
        place.refused(&[&submit[..], &what, &["--public", "v.pub"]].concat())
    };
    std::fs::write(place.path("wrong"), "0000-0000").unwrap();
    std::fs::write(place.path("empty"), "").unwrap();
    let altered = std::fs::read_to_string(place.path("v.wrapped")).unwrap();
    let last = altered.trim_end().chars().last().unwrap();
    let other = if last == '0' { "1\n" } else { "0\n" };
    std::fs::write(place.path("altered"), [&altered[..altered.len() - 2], other].concat()).unwrap();
    place.good(&["keygen", "--out", "plain.pem"]);
    let in_token = |pin: &str, more: &str| uri("piaogen%20test", "wrap", &place.text(pin), more);
    let file = |name: &str| format!("&wrapped-key={}", place.text(name));
    for (key, word) in [
        (in_token("wrong", &wrapped), "the PIN is wrong"),
        (in_token("empty", &wrapped), "the PIN is empty"),
        (in_token("missing", &wrapped), "reading"),
        (uri("nobody", "wrap", &pin, &wrapped), "the token is not there"),
        (uri("piaogen%20test", "none", &pin, &wrapped), "correct object="),
        (in_token("pin", &file("altered")), "does not open it"),
        (in_token("pin", &file("plain.pem")), "no wrapped key"),
        (in_token("pin", &file("nowhere")), "nowhere"),
        (key.replace(&module, "/nowhere.so"), "cannot be loaded"),
        (key.replace(&module, &place.text("plain.pem")), "cannot be loaded"),
        (in_token("pin", ""), "no private key wrap"),
    ] {
        let said = sign(&key);
        assert!(said.contains(word), "{word}: {said}");
    }
    // The token is gone: the next start does not happen.
    std::fs::rename(place.path("tokens"), place.path("away")).unwrap();
    let said = place.refused(&["node", "--dir", "chain/validator-1"]);
    assert!(said.contains("the token is not there") || said.contains("does not start"), "{said}");
    std::fs::rename(place.path("away"), place.path("tokens")).unwrap();
    place.register_and_run("D", "chain/authority.pem");
}

#[test]
#[ignore = "the child of the tests below"]
fn child_makes_a_key_on_the_curve() {
    let Ok(module) = std::env::var(CHILD) else { return };
    let module = Pkcs11::new(module).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = module.get_slots_with_initialized_token().unwrap()[0];
    let session = module.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::from(PIN.to_owned()))).unwrap();
    let curves = [
        ("sm2", vec![0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d]),
        ("p256", vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]),
    ];
    for (label, curve) in curves {
        let label = Attribute::Label(label.into());
        let public = [Attribute::Token(true), Attribute::Verify(true), label.clone()];
        let public = [&public[..], &[Attribute::EcParams(curve)]].concat();
        let private = [Attribute::Token(true), Attribute::Sign(true), label];
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).unwrap();
    }
    // The key of a file, as a token would have it.
    let Ok(pem) = std::env::var("TOKEN_KEY") else { return };
    let key = SecretKey::from_pkcs8(&std::fs::read(pem).unwrap()).unwrap();
    let point = [&[0x04, 0x41][..], &key.public_key().to_uncompressed()].concat();
    let curve = Attribute::EcParams(vec![0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 1, 0x82, 0x2d]);
    let common = [
        Attribute::Token(true),
        Attribute::KeyType(KeyType::EC),
        Attribute::Label("native".into()),
        curve,
    ];
    let class = Attribute::Class;
    let public = [class(ObjectClass::PUBLIC_KEY), Attribute::EcPoint(point)];
    session.create_object(&[&common[..], &public].concat()).unwrap();
    let value = Attribute::Value(key.to_bytes().to_vec());
    let private = [class(ObjectClass::PRIVATE_KEY), Attribute::Sign(true), value];
    session.create_object(&[&common[..], &private].concat()).unwrap();
}

#[test]
fn a_token_that_signs_something_else_than_sm2_is_refused() {
    let Some((place, module)) = softhsm() else { return };
    let child = place
        .command(std::env::current_exe().unwrap())
        .args(["child_makes_a_key_on_the_curve", "--exact", "--ignored"])
        .env(CHILD, &module)
        .output()
        .unwrap();
    if !child.status.success() {
        eprintln!("SKIPPED: this SoftHSM makes no key on the SM2 curve");
        return;
    }
    place.good(&["keygen", "--out", "v.pem", "--public", "v.pub"]);
    place.chain("v.pub", "../../v.pem");
    let sign = |object: &str, more: &str| {
        let pin = place.text("pin");
        let token = "piaogen%20test";
        let uri = format!(
            "pkcs11:token={token};object={object}?module-path={module}&pin-source={pin}{more}"
        );
        let what = ["register", "--party", "C", "--name", "x", "--role", "issuer"];
        let submit = ["submit", "--dir", "chain/validator-1", "--key", &uri];
        place.refused(&[&submit[..], &what, &["--public", "v.pub"]].concat())
    };
    // It takes the key for one of ECDSA.
    let said = sign("sm2", "");
    assert!(said.contains("the token does not sign SM2"), "{said}");
    assert!(said.contains("what the token returned is no SM2 signature"), "{said}");
    // A vendor's mechanism that it does not have, and a number that is no vendor's.
    let said = sign("sm2", "&mechanism=0x80000011");
    assert!(said.contains("does not sign SM2"), "{said}");
    let said = sign("sm2", "&mechanism=0x1041");
    assert!(said.contains("no vendor's"), "{said}");
    let said = sign("p256", "");
    assert!(said.contains("not on curve sm2p256v1"), "{said}");
}

/// A process that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for something that takes a while; false where it does not come.
fn wait(mut come: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(300);
    while Instant::now() < until {
        if come() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn a_validator_votes_with_a_token_that_signs_and_stops_when_it_is_removed() {
    let Some((mut place, module)) = softhsm() else { return };
    let (shim, gone) = (place.text("token_sm2.so"), place.text("gone"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/token_sm2.c");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O2", "-o", &shim]).arg(source).args(["-lcrypto", "-ldl"]);
    if !cc.output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no C compiler, or no OpenSSL 3 to compile with");
        return;
    }
    place.good(&["keygen", "--out", "token.pem", "--public", "v.pub"]);
    place.env.extend([
        ("TOKEN_MODULE", module.clone()),
        ("TOKEN_KEY", place.text("token.pem")),
        ("TOKEN_GONE", gone.clone()),
    ]);
    let child = place
        .command(std::env::current_exe().unwrap())
        .args(["child_makes_a_key_on_the_curve", "--exact", "--ignored"])
        .env(CHILD, &module)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let key = format!(
        "pkcs11:token=piaogen%20test;object=native?module-path={shim}&pin-source={}\
         &mechanism=0x80000011",
        place.text("pin")
    );
    place.chain("v.pub", &key);
    place.register_and_run("A", "chain/authority.pem");
    let height = place.height();
    assert!(height > 0, "it voted");

    // While it runs the token is taken away: it stops, says so, and goes on when it is back.
    let toml = place.path("chain/validator-1/node.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    std::fs::write(&toml, format!("{text}\n[blocks]\nidle_interval_ms = 100\n")).unwrap();
    let log = std::fs::File::create(place.path("log")).unwrap();
    let node = place
        .command(env!("CARGO_BIN_EXE_piaogen"))
        .args(["node", "--dir", "chain/validator-1"])
        .stderr(log)
        .spawn()
        .unwrap();
    let mut node = Killed(node);
    let said = || std::fs::read_to_string(place.path("log")).unwrap();
    assert!(wait(|| said().contains("running at height")), "{}", said());
    std::thread::sleep(Duration::from_millis(500));
    std::fs::write(&gone, "").unwrap();
    assert!(wait(|| node.0.try_wait().unwrap().is_some()), "{}", said());
    let status = node.0.wait().unwrap();
    assert_eq!(status.code(), Some(4), "{}", said());
    assert!(said().contains("does not sign") && !said().contains("panicked"), "{}", said());
    let refused = place.refused(&["node", "--dir", "chain/validator-1"]);
    assert!(refused.contains("secret key native of piaogen test"), "{refused}");
    std::fs::remove_file(&gone).unwrap();
    place.register_and_run("B", "chain/authority.pem");
    assert!(place.height() > height);
}
