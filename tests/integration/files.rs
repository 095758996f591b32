//! Files in every format, from the command line to the store, and the commands that certkeep names for the formats that it does not read.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use certkeep::grpc::pb;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs12::Pkcs12;
use openssl::provider::Provider;
use openssl::stack::Stack;
use openssl::x509::X509Req;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{REGION, TestServer, temp_dir, write_secret};
use crate::pki::{self, Key, Pair};
use crate::process::{CERTKEEP, stderr, stdout};

const PASSWORD: &str = "secret";

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(temp_dir());
        folder.write("password", format!("{PASSWORD}\n"));
        folder
    }

    /// The path of a new file.
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_secret(path, bytes);
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

fn run(program: &str, args: &[&str], stdin: Option<&Path>) -> Output {
    let mut command = Command::new(program);
    match stdin {
        Some(path) => command.stdin(std::fs::File::open(path).unwrap()),
        None => command.stdin(Stdio::null()),
    };
    command.args(args).output().unwrap_or_else(|error| {
        panic!("{program} cannot be run ({error}): `make test` installs it, or run tools/install")
    })
}

/// Runs a command of a sentence of certkeep's, with this file.
fn run_named(sentence: &str, place: usize, file: &str, folder: &Folder) {
    let command = sentence.split('`').nth(2 * place + 1).unwrap().replace("FILE", file);
    let script = format!("cd '{}' && {command}", folder.path(""));
    let output = run("sh", &["-c", &script], None);
    assert!(
        output.status.success(),
        "{script}: {}{}",
        stdout(&output),
        stderr(&output)
    );
}

/// What `check` says, and its exit code.
fn check(args: &[&str]) -> (i32, String) {
    let output = run(CERTKEEP, &[&["check"][..], args].concat(), None);
    (output.status.code().unwrap(), stdout(&output) + &stderr(&output))
}

fn is_accepted(args: &[&str]) {
    let (code, said) = check(args);
    assert!(
        said.starts_with("an upload would store this pair") && [0, 5].contains(&code),
        "{args:?}: {said}"
    );
}

fn is_refused(args: &[&str], sentences: &[&str]) -> String {
    let (code, said) = check(args);
    assert!([1, 2].contains(&code), "{said}");
    for sentence in sentences {
        assert!(said.contains(sentence), "{sentence} is not in {said}");
    }
    said
}

/// As old programs write it, with RC2 of 40 bits.
fn old_pkcs_12(pair: &Pair, others: &[&str]) -> Vec<u8> {
    let _legacy = Provider::try_load(None, "legacy", true).unwrap();
    let key = openssl::pkey::PKey::private_key_from_pem(pair.key.as_bytes()).unwrap();
    let mut chain = Stack::new().unwrap();
    for other in others {
        chain
            .push(openssl::x509::X509::from_pem(other.as_bytes()).unwrap())
            .unwrap();
    }
    let mut builder = Pkcs12::builder();
    builder
        .pkey(&key)
        .cert(&pair.x509)
        .ca(chain)
        .mac_md(MessageDigest::sha1());
    builder.key_algorithm(Nid::PBE_WITHSHA1AND3_KEY_TRIPLEDES_CBC);
    builder.cert_algorithm(Nid::PBE_WITHSHA1AND40BITRC2_CBC);
    builder.build2(PASSWORD).unwrap().to_der().unwrap()
}

/// Texts as editors, mail and Kubernetes make them.
#[test]
fn texts_are_read_as_people_have_them() {
    let folder = Folder::new();
    let pair = pki::issued(Key::P256, "texts.example");
    let latin_1 = |text: &str| {
        [
            b"Bag Attributes\r\n    friendlyName: f\xfcr K\xf6ln\r\n",
            text.as_bytes(),
        ]
        .concat()
    };
    let utf_16 = |text: &str| -> Vec<u8> {
        let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    type Dress<'a> = &'a dyn Fn(&str) -> Vec<u8>;
    let dresses: [(&str, Dress<'_>); 8] = [
        ("utf-16", &utf_16),
        ("latin-1", &latin_1),
        ("joined", &|text| {
            text.trim_end().replace("-----\n-----", "----------").into_bytes()
        }),
        ("base64", &|text| BASE64_STANDARD.encode(text).into_bytes()),
        ("escaped", &|text| text.replace('\n', "\\n").into_bytes()),
        ("dashes", &|text| text.replace("-----", "----").into_bytes()),
        ("quoted", &|text| format!("TLS=\"{text}\"").into_bytes()),
        ("comment", &|text| format!("# the server's: {text}").into_bytes()),
    ];
    for (name, dress) in dresses {
        let certificate = folder.write(&format!("{name}.crt"), dress(&pair.certificate));
        let key = folder.write(&format!("{name}.key"), dress(&pair.key));
        is_accepted(&[&certificate, &key]);
    }
    let certificate = folder.write("plain.crt", &pair.certificate);
    for label in ["RSA PRIVATE KEY", "EC PRIVATE KEY"] {
        let key = folder.write(&format!("{label}.key"), pair.key.replace("PRIVATE KEY", label));
        is_accepted(&[&certificate, &key]);
        let (_, said) = check(&[&certificate, &key]);
        assert!(said.contains("LABEL_WRONG") && said.contains("PRIVATE KEY"), "{said}");
    }
    let parameters = "-----BEGIN DH PARAMETERS-----\nMAYCAQUCAQI=\n-----END DH PARAMETERS-----\n";
    let all = folder.write("haproxy.pem", pair.certificate.clone() + &pair.key + parameters);
    is_accepted(&[&all]);
    assert!(check(&[&all]).1.contains("BLOCK_DROPPED"));
}

#[test]
fn other_formats_are_named_with_a_command_that_converts_them() {
    let folder = Folder::new();
    let pair = pki::self_signed(Key::P256, "named.example");
    let rsa = pki::self_signed(Key::Rsa(2048), "rsa.example");
    let certificate = folder.write("cert.pem", &pair.certificate);
    folder.write("rsa.pem", &rsa.certificate);
    folder.write("plain.p12", old_pkcs_12(&pair, &[]));

    // A Java key store. keytool writes JKS only for this option.
    let (p12, jks) = (folder.path("plain.p12"), folder.path("store.jks"));
    let made = run(
        "keytool",
        &[
            "-importkeystore",
            "-noprompt",
            "-srckeystore",
            &p12,
            "-srcstoretype",
            "PKCS12",
            "-srcstorepass",
            PASSWORD,
            "-destkeystore",
            &jks,
            "-deststoretype",
            "JKS",
            "-deststorepass",
            PASSWORD,
        ],
        None,
    );
    assert!(made.status.success(), "{}{}", stdout(&made), stderr(&made));
    let said = is_refused(&[&jks], &["Java key store (JKS)", "keytool -importkeystore"]);
    // keytool asks for passwords on a terminal, and else takes them from options.
    let said = said.replace(
        "PKCS12`",
        &format!("PKCS12 -srcstorepass {PASSWORD} -deststorepass {PASSWORD} -noprompt`"),
    );
    run_named(&said, 0, "", &folder);
    let password = folder.path("password");
    is_accepted(&[&format!("{jks}.p12"), "--password-file", &password]);

    // An OpenSSH key.
    let askpass = folder.write("askpass", format!("#!/bin/sh\necho {PASSWORD}\n"));
    std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).unwrap();
    let asking = format!("`SSH_ASKPASS_REQUIRE=force SSH_ASKPASS='{askpass}' ssh-keygen");
    for (kind, size, passphrase) in [("rsa", "2048", ""), ("ecdsa", "256", PASSWORD)] {
        let key = folder.path(&format!("id_{kind}"));
        let made = run(
            "ssh-keygen",
            &["-q", "-t", kind, "-b", size, "-N", passphrase, "-f", &key],
            None,
        );
        assert!(made.status.success(), "{}", stderr(&made));
        let said = is_refused(&[&certificate, &key], &["OpenSSH", "ssh-keygen"]);
        run_named(&said.replace("`ssh-keygen", &asking), 0, &key, &folder);
        // It is a key now, and that of another certificate.
        is_refused(&[&certificate, &key], &["PRIVATE_KEY_MISMATCH"]);
    }

    // A file of a key without a key.
    is_refused(&[&certificate, "/dev/null"], &["/dev/null contains no private key"]);
    is_refused(&[&certificate, &certificate], &["cert.pem contains no private key"]);
    let other = folder.write("other.key", &rsa.key);
    let refused = run(CERTKEEP, &["check", &certificate, &other, "--output", "pem"], None);
    assert_eq!(
        (refused.status.code(), stdout(&refused)),
        (Some(1), pair.certificate.clone())
    );
    assert!(
        stderr(&refused).starts_with("error: an upload would be refused: 1 error\n  PRIVATE_KEY_MISMATCH  "),
        "{}",
        stderr(&refused)
    );

    let plain = folder.write("key.pem", &pair.key);
    let trusted = folder.path("trusted.pem");
    let made = run(
        "openssl",
        &["x509", "-in", &certificate, "-trustout", "-out", &trusted],
        None,
    );
    assert!(made.status.success(), "{}", stderr(&made));
    let said = is_refused(&[&trusted, &plain], &["TRUSTED CERTIFICATE"]);
    run_named(&said, 0, &trusted, &folder);
    is_accepted(&[&format!("{trusted}.pem"), &plain]);

    // A request, and two pairs.
    let key = Key::P256.make();
    let mut request = X509Req::builder().unwrap();
    request.set_pubkey(&key).unwrap();
    request.sign(&key, MessageDigest::sha256()).unwrap();
    let request = request.build();
    let pem = folder.write("request.csr", request.to_pem().unwrap());
    is_refused(&[&pem, &plain], &["certificate request"]);
    let der = folder.write("request.der", request.to_der().unwrap());
    is_refused(&[&der, &plain], &["certificate request"]);
    let two = [&pair.certificate, &pair.key, &rsa.certificate, &rsa.key]
        .map(String::as_str)
        .concat();
    let two = folder.write("split/two.pem", two);
    let said = is_refused(&[&two], &["contains two pairs", "awk"]);
    assert_eq!(said.matches("\nerror ").count(), 1, "{said}");
    let blocks = Folder(temp_dir());
    run_named(&said, 0, &two, &blocks);
    is_accepted(&[&blocks.path("pairs/1.pem"), &blocks.path("pairs/2.pem")]);
    is_accepted(&[&blocks.path("pairs/3.pem"), &blocks.path("pairs/4.pem")]);
    let mode = std::fs::metadata(blocks.path("pairs/2.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_is_uploaded_and_renewed() {
    let server = TestServer::start().await;
    let folder = Folder::new();
    let pki::Hierarchy { key, leaf, issuer, .. } = pki::hierarchy(Key::Rsa(2048), "formats.example");
    let (issuer, pair) = (pki::pem(&issuer), pki::pair(&key, leaf));
    let password = folder.path("password");
    let rsa = key.rsa().unwrap();
    let der = folder.write("cert.der", pair.x509.to_der().unwrap());
    let chain = folder.write("chain.pem", [&pair.certificate, &issuer].map(String::as_str).concat());
    let bundle = folder.path("chain.p7b");
    let bundle_der = folder.path("chain.p7b.der");
    for (form, path) in [("PEM", &bundle), ("DER", &bundle_der)] {
        let made = run(
            "openssl",
            &[
                "crl2pkcs7",
                "-nocrl",
                "-certfile",
                &chain,
                "-outform",
                form,
                "-out",
                path,
            ],
            None,
        );
        assert!(made.status.success(), "{}", stderr(&made));
    }
    let both = folder.write(
        "both.pem",
        [&pair.certificate, &issuer, &pair.key].map(String::as_str).concat(),
    );
    let old = rsa.private_key_to_pem_passphrase(openssl::symm::Cipher::des_ede3_cbc(), PASSWORD.as_bytes());
    let old = folder.write("old.key", old.unwrap());
    let new = key.private_key_to_pkcs8_passphrase(openssl::symm::Cipher::aes_256_cbc(), PASSWORD.as_bytes());
    let new = folder.write("new.key", new.unwrap());
    let key_der = folder.write("key.der", rsa.private_key_to_der().unwrap());
    let store = folder.write("store.pfx", old_pkcs_12(&pair, &[&issuer]));

    let endpoint = format!("http://{}", server.address());
    let access_key = server.admin_key_file();
    let common = [
        "--endpoint",
        &endpoint,
        "--access-key-file",
        access_key.to_str().unwrap(),
        "--region",
        REGION,
        "--output",
        "json",
    ];
    let call = |args: &[&str], stdin: Option<&str>, code: i32| {
        let output = run(CERTKEEP, &[args, &common[..]].concat(), stdin.map(Path::new));
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}{}",
            stdout(&output),
            stderr(&output)
        );
        (stdout(&output), stderr(&output))
    };
    let mut id = String::new();
    let cases: [(&[&str], Option<&str>, i32); 9] = [
        (&["--cert", &der, "--key", &key_der], None, 1),
        (&["--cert", &bundle, "--key", &key_der], None, 2),
        (
            &["--cert", &bundle_der, "--key", &old, "--password-file", &password],
            None,
            2,
        ),
        (
            &["--cert", &chain, "--key", &new, "--password-file", &password],
            None,
            2,
        ),
        (&["--cert", &both], None, 2),
        (&["--cert", &both, "--key", &both], None, 2),
        (&["--cert", "-"], Some(&both), 2),
        (&["--cert", "-", "--key", "-"], Some(&both), 2),
        (&["--cert", &store, "--password-file", &password], None, 2),
    ];
    for (args, stdin, chain_length) in cases {
        let (answer, _) = call(&[&["upload"][..], args].concat(), stdin, 0);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        id = answer["serverCertificateId"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned();
        let get = pb::GetServerCertificateRequest {
            server_certificate_id: id.clone(),
            ..Default::default()
        };
        let stored = server.client().get_server_certificate(get).await.unwrap().into_inner();
        assert_eq!(
            stored.server_certificate.unwrap().chain_length,
            chain_length,
            "{args:?}"
        );
    }
    call(&["renew", &id, "--cert", &store, "--password-file", &password], None, 0);
    let authority = Pkcs12::builder().cert(&pki::root("Private CA").x509).build2(PASSWORD);
    let authority = folder.write("authority.p12", authority.unwrap().to_der().unwrap());
    call(&["ca", "upload", &authority, "--password-file", &password], None, 0);
    let online = ["check", &store, "--password-file", &password, "--online"];
    let output = run(
        CERTKEEP,
        &[
            &online[..],
            &[
                "--endpoint",
                &endpoint,
                "--access-key-file",
                access_key.to_str().unwrap(),
            ],
        ]
        .concat(),
        None,
    );
    assert_eq!(output.status.code(), Some(5), "{}{}", stdout(&output), stderr(&output));

    // The issuers may be in the file of the key.
    for key in [&store, &both] {
        let args = ["upload", "--cert", &der, "--key", key, "--password-file", &password];
        let (answer, _) = call(&args, None, 0);
        let got = stdout(&run(
            CERTKEEP,
            &[
                &[
                    "get",
                    serde_json::from_str::<Value>(&answer).unwrap()["serverCertificateId"]
                        .as_str()
                        .unwrap(),
                ],
                &common[..4],
                &["--output", "pem"],
            ]
            .concat(),
            None,
        ));
        assert_eq!(got, std::fs::read_to_string(&chain).unwrap(), "{key}");
    }

    // Without the password or the key, or with a wrong password, nothing is sent.
    let rows = server.rows().await;
    let wrong = folder.write("wrong", "hunter2");
    let several = folder.write("several", format!("{PASSWORD}\nhunter2\n"));
    for (args, sentence) in [
        (
            &["--cert", &store][..],
            "is encrypted: give its password with --password-file",
        ),
        (
            &["--cert", &store, "--password-file", &wrong],
            "does not open with this password",
        ),
        (
            &["--cert", &store, "--password-file", &several],
            "several has several lines",
        ),
        (
            &["--cert", &chain, "--key", &new],
            "is encrypted: give its password with --password-file",
        ),
        (
            &["--cert", &chain],
            "chain.pem contains no private key: name its file with --key",
        ),
        (
            &["--cert", &bundle],
            "chain.p7b contains no private key: name its file with --key",
        ),
        (
            &["--cert", &chain, "--key", &chain],
            "chain.pem contains no private key\"",
        ),
        (
            &["--cert", &chain, "--key", "/dev/null"],
            "/dev/null contains no private key\"",
        ),
    ] {
        let (_, said) = call(&[&["upload"][..], args].concat(), None, 2);
        assert!(said.contains(sentence) && !said.contains("hunter2"), "{said}");
    }
    assert_eq!(server.rows().await, rows);
    server.stop().await;
}

/// A command on a terminal. `answer` is typed when the screen shows `until`. The whole screen, and the exit code.
fn on_a_terminal(args: &[&str], until: &str, answer: &str) -> (String, Option<i32>) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let end = || std::fs::File::options().read(true).write(true).open(&name).unwrap();
    let mut command = Command::new(CERTKEEP);
    command
        .args(args)
        .env("TERM", "xterm")
        .stdin(end())
        .stdout(end())
        .stderr(end());
    let mut child = command.spawn().unwrap();
    // The command holds the terminal too.
    drop(command);
    let mut terminal = std::fs::File::from(terminal);
    let (mut screen, mut chunk) = (Vec::new(), [0; 1024]);
    while !String::from_utf8_lossy(&screen).contains(until) {
        match terminal.read(&mut chunk) {
            Ok(len) => screen.extend_from_slice(&chunk[..len]),
            // Nobody holds the other end any more.
            Err(_) => break,
        }
    }
    let _ = terminal.write_all(answer.as_bytes());
    let _ = terminal.read_to_end(&mut screen);
    (
        String::from_utf8_lossy(&screen).into_owned(),
        child.wait().unwrap().code(),
    )
}

#[test]
fn a_terminal_is_asked_for_the_password_and_shows_the_wait() {
    let folder = Folder::new();
    let pair = pki::self_signed(Key::P256, "asked.example");
    let store = folder.write("store.pfx", old_pkcs_12(&pair, &[]));
    let (screen, code) = on_a_terminal(&["check", &store], "password of ", &format!("{PASSWORD}\n"));
    assert_eq!(code, Some(5), "{screen}");
    assert!(screen.contains("an upload would store this pair"), "{screen}");
    // The line with the prompt shows nothing of the password.
    assert!(screen.starts_with(&format!("password of {store}: \r\n")), "{screen}");

    let access_key = folder.write("access-key", "ck1.secret");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{nobody}");
    let import = [
        "import",
        &folder.path(""),
        "--region",
        REGION,
        "--endpoint",
        &endpoint,
        "--access-key-file",
        &access_key,
        "--password-file",
        &folder.path("password"),
        "--retry-for",
        "2",
    ];
    let (screen, code) = on_a_terminal(&import, "waiting for the service", "");
    assert_eq!(code, Some(3), "{screen}");
    assert!(screen.contains("waiting for the service, up to "), "{screen}");
}

fn import(folder: &Path, server: &TestServer, args: &[&str], code: i32) -> Value {
    let endpoint = format!("http://{}", server.address());
    let access_key: PathBuf = server.admin_key_file();
    let common = [
        "import",
        folder.to_str().unwrap(),
        "--region",
        REGION,
        "--endpoint",
        &endpoint,
        "--access-key-file",
        access_key.to_str().unwrap(),
        "--output",
        "json",
    ];
    let output = run(CERTKEEP, &[&common[..], args].concat(), None);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The state, the files and the format of each result.
fn results(report: &Value) -> Vec<String> {
    let results = report["results"].as_array().unwrap().iter();
    results
        .map(|result| {
            let files: Vec<_> = result["files"]
                .as_array()
                .unwrap()
                .iter()
                .map(|file| file.as_str().unwrap())
                .collect();
            let text = |field: &str| result[field].as_str().unwrap().to_owned();
            format!("{} {} {}", text("state"), files.join("+"), text("format"))
                .trim()
                .to_owned()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_takes_every_format_and_names_every_other_file() {
    let server = TestServer::start().await;
    let (folder, password) = (Folder(temp_dir()), Folder::new());
    let password = password.path("password");
    let pki::Hierarchy {
        key,
        leaf,
        issuer,
        root,
    } = pki::hierarchy(Key::P256, "three.example");
    let three = pki::pair(&key, leaf);
    folder.write("three/leaf.crt", &three.certificate);
    folder.write("three/chain.crt", pki::pem(&issuer) + &pki::pem(&root));
    folder.write("three/private.key", &three.key);
    folder.write(
        "shop.pfx",
        old_pkcs_12(&pki::self_signed(Key::P256, "shop.example"), &[]),
    );
    let authority = pki::root("Private CA");
    folder.write("ca/ca.crt", &authority.certificate);
    folder.write("ca/ca.key", &authority.key);
    folder.write("ca/other.crt", pki::root("Other CA").certificate);
    let acme = pki::self_signed(Key::P256, "traefik.example");
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    let acme = serde_json::json!({"new": {"Account": {}, "Certificates": null}, "le": {"Account": {}, "Certificates": [
        {"domain": {"main": "traefik.example"}, "certificate": encode(&acme.certificate), "key": encode(&acme.key)},
    ]}});
    folder.write("z/acme.json", acme.to_string());
    folder.write("z/store.jks", b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\0");
    folder.write("z/notes.txt", "how to renew");

    let without = import(folder.0.path(), &server, &["--dry-run"], 1);
    assert!(
        results(&without).contains(&"unreadable shop.pfx PKCS #12".to_owned()),
        "{without:#}"
    );
    let report = import(folder.0.path(), &server, &["--password-file", &password], 1);
    assert_eq!(
        results(&report),
        [
            "ca_pair ca/ca.crt+ca/ca.key",
            "ca_certificate ca/other.crt",
            "uploaded shop.pfx",
            "uploaded three/leaf.crt+three/chain.crt+three/private.key",
            "unreadable z/acme.json acme.json of Traefik",
            "ignored z/notes.txt unknown format",
            "unreadable z/store.jks Java key store (JKS)",
        ]
    );
    let messages: Vec<_> = report["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["message"].as_str().unwrap())
        .collect();
    assert!(
        messages[4].contains("jq -r") && messages[6].contains("keytool -importkeystore"),
        "{messages:?}"
    );
    // The command for acme.json, which certkeep reads then.
    let pairs = Folder(temp_dir());
    run_named(messages[4], 0, "", &pairs);
    let of_acme = import(&pairs.0.path().join("pairs"), &server, &[], 0);
    assert_eq!(
        results(&of_acme),
        ["uploaded pairs/aaaa+pairs/aaab".replace("pairs/", "")]
    );

    // Nothing but CAs and other files is no error.
    for file in ["shop.pfx", "z/acme.json", "z/store.jks"] {
        std::fs::remove_file(folder.0.path().join(file)).unwrap();
    }
    let again = import(folder.0.path(), &server, &[], 0);
    assert_eq!(again["summary"]["already_there"], 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_was_deleted_or_purged_is_stored_again_and_a_short_chain_is_completed() {
    let server = TestServer::start().await;
    let folder = Folder(temp_dir());
    let pki::Hierarchy { key, leaf, issuer, .. } = pki::hierarchy(Key::P256, "again.example");
    let pair = pki::pair(&key, leaf);
    folder.write("a.crt", &pair.certificate);
    folder.write("a.key", &pair.key);
    let id_of = |report: &Value| report["results"][0]["id"].as_str().unwrap().to_owned();
    let mut client = server.client();
    let mut ids = Vec::new();
    for purges in [false, true, false] {
        let report = import(folder.0.path(), &server, &[], 0);
        assert_eq!(report["summary"]["uploaded"], 1, "{report:#}");
        let id = id_of(&report);
        assert!(!ids.contains(&id));
        let delete = pb::DeleteServerCertificateRequest {
            server_certificate_id: id.clone(),
            ..Default::default()
        };
        client.delete_server_certificate(delete).await.unwrap();
        if purges {
            let purge = pb::PurgeServerCertificateRequest {
                server_certificate_id: id.clone(),
                ..Default::default()
            };
            client.purge_server_certificate(purge).await.unwrap();
        }
        ids.push(id);
    }
    let id = id_of(&import(folder.0.path(), &server, &[], 0));

    folder.write("chain.pem", pki::pem(&issuer));
    let dry = import(folder.0.path(), &server, &["--dry-run"], 0);
    assert_eq!(results(&dry), ["to_be_renewed a.crt+chain.pem+a.key"]);
    let longer = import(folder.0.path(), &server, &[], 0);
    assert_eq!(results(&longer), ["renewed a.crt+chain.pem+a.key"]);
    assert_eq!(
        (id_of(&longer), &longer["results"][0]["message"]),
        (id, &Value::from("with a longer chain"))
    );
    let again = import(folder.0.path(), &server, &[], 0);
    assert_eq!(results(&again), ["already_there a.crt+chain.pem+a.key"]);
    server.stop().await;
}
