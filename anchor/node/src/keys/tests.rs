use super::*;
use std::os::unix::fs::PermissionsExt;

const MODULE: &str = "module-path=/lib/hsm.so";

fn parse(text: &str) -> Result<KeySource> {
    text.parse()
}

fn wrong(text: &str) -> String {
    format!("{:#}", parse(text).unwrap_err())
}

#[test]
fn values_say_where_a_key_is() {
    assert_eq!(parse("a/b.pem").unwrap(), PathBuf::from("a/b.pem").into());
    let passphrase = SecretSource::Env("P".into());
    let (path, name) = (PathBuf::from("a b.pem"), "K_1".to_string());
    let file = KeySource::File { path, passphrase: passphrase.clone() };
    assert_eq!(parse("file:a b.pem?passphrase-source=env:P").unwrap(), file);
    let env = KeySource::Env { name, passphrase };
    assert_eq!(parse("env:K_1?passphrase-source=env:P").unwrap(), env);
    assert_eq!(env.to_string(), "env:K_1");
    let uri = format!(
        "pkcs11:token=My%20HSM;object=val%3bidator;id=%00%ff?{MODULE}&pin-source=file:/run/pin\
         &mechanism=0x80000011"
    )
    .replace("%00", "%01");
    let KeySource::Token(uri) = parse(&uri).unwrap() else { panic!() };
    assert_eq!(uri.token.as_deref(), Some("My HSM"));
    assert_eq!(uri.object.as_deref(), Some("val;idator"));
    assert_eq!(uri.id.as_deref(), Some(&[1, 0xff][..]));
    assert_eq!(uri.pin, SecretSource::File("/run/pin".into()));
    assert_eq!(uri.mechanism, Some(0x8000_0011));
    assert_eq!(uri.to_string(), "val;idator of My HSM");
    for (text, source) in [
        ("prompt", SecretSource::Prompt),
        ("pin.txt", SecretSource::File("pin.txt".into())),
        ("file:pin.txt", SecretSource::File("pin.txt".into())),
    ] {
        assert_eq!(text.parse::<SecretSource>().unwrap(), source);
    }
    let beside = parse("file:a.pem?passphrase-source=p").unwrap().beside(Path::new("/x"));
    let (path, passphrase) = ("/x/a.pem".into(), SecretSource::File("/x/p".into()));
    assert_eq!(beside, KeySource::File { path, passphrase });
    let uri = format!("pkcs11:object=a?{MODULE}&wrapped-key=w");
    let KeySource::Token(uri) = parse(&uri).unwrap().beside(Path::new("/x")) else { panic!() };
    assert_eq!(uri.wrapped, Some("/x/w".into()));
    assert_eq!(uri.module, Path::new("/lib/hsm.so"));
}

#[test]
fn mistakes_are_named_and_secrets_are_not() {
    for (text, word) in [
        ("", "is empty"),
        ("env:", "names no variable"),
        ("env:A=B", "names no variable"),
        ("file:", "names no file"),
        ("file:a?pass=x", "passphrase-source"),
        ("file:a?passphrase-source=", "file:PATH"),
        ("pkcs11:object=a", "module-path is missing"),
        ("pkcs11:object?module-path=m", "has no ="),
        ("pkcs11:?module-path=m", "object or id"),
        ("pkcs11:object=a;object=b?module-path=m", "twice"),
        ("pkcs11:objekt=a?module-path=m", "not known"),
        ("pkcs11:module-path=m;object=a", "not known before the ?"),
        ("pkcs11:object=a?module-path=m&token=t", "not known after the ?"),
        ("pkcs11:object=%ff?module-path=m", "not UTF-8"),
        ("pkcs11:object=a%00?module-path=m", "zero byte"),
        ("pkcs11:object=a;slot-id=x?module-path=m", "no number"),
        ("pkcs11:object=a;type=cert?module-path=m", "type is private"),
        ("pkcs11:object=a?module-path=m&pin-source=|cat", "file:PATH"),
        ("pkcs11:object=a?module-path=m&wrapped-key=w&mechanism=1", "leave it out"),
    ] {
        assert!(wrong(text).contains(word), "{text}: {}", wrong(text));
    }
    let secret = wrong("pkcs11:object=a?module-path=m&pin-value=4711");
    assert!(secret.contains("pin-source") && !secret.contains("4711"), "{secret}");
    let pem = SecretKey::from_bytes(&[7; 32]).unwrap().to_pkcs8_pem();
    let inside = &pem.lines().nth(1).unwrap()[..20];
    let named = wrong(&pem);
    assert!(named.contains("env:NAME") && !named.contains(inside), "{named}");
    let named = wrong(&format!("env:{inside}/+"));
    assert!(named.contains("names no variable"), "{named}");
    assert!(wrong(&"a".repeat(SOURCE_MAX + 1)).contains("above 4096"));
}

#[test]
fn any_bytes_are_a_value_or_a_refusal() {
    let seeds = [
        "file:a.pem?passphrase-source=env:P".to_string(),
        "env:K?passphrase-source=prompt".into(),
        format!("pkcs11:token=a;object=b;id=%01;slot-id=3?{MODULE}&pin-source=p&wrapped-key=w"),
    ];
    let mut state = 1_u64;
    let mut next = |end: usize| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) as usize % end
    };
    let mut taken = 0;
    for round in 0..30_000 {
        let mut bytes = seeds[round % seeds.len()].clone().into_bytes();
        for _ in 0..=next(3) {
            let at = next(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            if bytes.is_empty() {
                break;
            }
            match next(4) {
                0 => bytes[at] = b"%;&?=:|\0\xffx"[next(10)],
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"%;&?=:0fz"[next(9)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let Ok(text) = String::from_utf8(bytes) else { continue };
        taken += usize::from(text.parse::<KeySource>().is_ok());
    }
    assert!(taken > 3_000, "{taken}");
}

fn file(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn files_open_with_what_they_need() {
    let folder = tempfile::tempdir().unwrap();
    let key = SecretKey::from_bytes(&[7; 32]).unwrap();
    let write = |name: &str, bytes: &[u8], mode| file(folder.path(), name, bytes, mode);
    let plain = write("plain.pem", key.to_pkcs8_pem().as_bytes(), 0o600);
    assert_eq!(parse(&plain).unwrap().public_key().unwrap(), key.public_key());
    let der = write("plain.der", &key.to_pkcs8_der(), 0o640);
    let signer = parse(&der).unwrap().open().unwrap();
    assert_eq!(signer.try_sign(b"m").unwrap(), key.sign(b"m"));
    assert!(!format!("{signer:?}").contains('7'));
    for mode in [0o604, 0o644, 0o660, 0o666] {
        let wide = write("wide.pem", key.to_pkcs8_pem().as_bytes(), mode);
        let error = format!("{:#}", parse(&wide).unwrap().open().unwrap_err());
        assert!(error.contains("chmod 600") && error.contains(&format!("{mode:04o}")), "{error}");
    }
    let closed = key.to_pkcs8_encrypted(b"open sesame", &[3; 32]);
    let closed = write("closed.pem", closed.as_bytes(), 0o644);
    for (line, mode) in
        [("open sesame\n", 0o600), ("open sesame", 0o600), ("open sesame\r\n", 0o600)]
    {
        let pass = write("pass", line.as_bytes(), mode);
        let source = parse(&format!("file:{closed}?passphrase-source={pass}")).unwrap();
        assert_eq!(source.public_key().unwrap(), key.public_key());
    }
    let error = |text: &str| format!("{:#}", parse(text).unwrap().open().unwrap_err());
    let pass = write("pass", b"close sesame\n", 0o600);
    let said = error(&format!("file:{closed}?passphrase-source={pass}"));
    assert!(said.contains("passphrase does not open") && !said.contains("sesame"), "{said}");
    let pass = write("pass", b"\n", 0o600);
    assert!(error(&format!("file:{closed}?passphrase-source={pass}")).contains("is empty"));
    assert!(error(&format!("file:{closed}?passphrase-source=env:NOT_SET_5")).contains("NOT_SET_5"));
    assert!(error("env:NOT_SET_6").contains("NOT_SET_6"));
    assert!(error(&format!("{plain}.missing")).contains("reading"));
    let long = write("long", &[b'a'; DOCUMENT_MAX + 1], 0o600);
    assert!(error(&long).contains("more than"));
    let module = error("pkcs11:object=a?module-path=/nowhere/hsm.so&pin-source=env:PATH");
    assert!(module.contains("/nowhere/hsm.so cannot be loaded"), "{module}");
}
