//! `certkeep get --with-key`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use certkeep::grpc::pb;
use openssl::pkey::PKey;

use crate::calls::stored;
use crate::command_line::on_a_terminal;
use crate::harness::{Account, TestServer, temp_dir, upload_of};
use crate::pki::{self, Key};
use crate::process::{CERTKEEP, stderr, stdout};

/// A command with a consumer's key.
struct Consumer<'a> {
    server: &'a TestServer,
    key_file: String,
}

impl Consumer<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CERTKEEP);
        command.arg("get").args(args);
        command.args([
            "--endpoint",
            &self.server.endpoint(),
            "--access-key-file",
            &self.key_file,
        ]);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The error of the command line, or of the service.
    fn refused(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.run(args);
        assert_eq!(stdout(&output), "");
        (output.status.code(), stderr(&output))
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_pair_is_written_to_private_files_and_elsewhere_only_when_told() {
    let (server, dir) = (TestServer::start().await, temp_dir());
    let pair = pki::issued(Key::P256, "a.example");
    let request = pb::UploadServerCertificateRequest {
        server_certificate_name: "shop".into(),
        ..upload_of(&pair)
    };
    let id = stored(&server.client(), &request).await;
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (key_file, password, out) = (path("consumer.key"), path("password"), path("out"));
    crate::harness::write_secret(&key_file, server.add_key("consumer", Account::First).await);
    crate::harness::write_secret(&password, "correct horse\n");
    std::fs::create_dir(&out).unwrap();
    let link = path("link");
    std::os::unix::fs::symlink(&password, &link).unwrap();
    let consumer = Consumer {
        server: &server,
        key_file,
    };

    // Nobody said where the key goes.
    for (args, code, error) in [
        (&["--with-key"][..], 2, "--out PATH for files, or --stdout"),
        (
            &["--with-key", "--output", "json"],
            2,
            "--out PATH for files, or --stdout",
        ),
        (
            &["--with-key", "--stdout", "--output", "pem"],
            2,
            "--output pem prints the chain alone",
        ),
        (
            &["--with-key", "--out", "/nonexistent"],
            2,
            "--out /nonexistent is not a directory",
        ),
        (
            &["--with-key", "--format", "bundle", "--out", "-"],
            2,
            "--out needs a path: use --stdout",
        ),
        (
            &["--with-key", "--format", "bundle", "--out", "/dev/null"],
            2,
            "/dev/null (--out) is not a regular file",
        ),
        (
            &["--with-key", "--format", "bundle", "--out", &link],
            2,
            "link (--out) is not a regular file",
        ),
        (&["--with-key", "--out", &out, "--stdout"], 2, "cannot be used with"),
        (&["--stdout"], 2, "--with-key"),
        (
            &["--with-key", "--stdout", "--format", "pkcs12"],
            1,
            "--password-file  --password-file is missing",
        ),
        (
            &["--with-key", "--stdout", "--password-file", &password],
            1,
            "--password-file  --format does not use --password-file",
        ),
        (
            &["--with-key", "--stdout", "--alias", "web"],
            1,
            "--alias     --format does not use --alias",
        ),
        (
            &["--with-key", "--stdout", "--version", "7"],
            1,
            "version 7 is not kept",
        ),
        (&["--with-key", "--stdout", "--region", "nowhere"], 1, "--region"),
    ] {
        let (status, shown) = consumer.refused(&[&[&*id], args].concat());
        assert!(
            status == Some(code) && shown.contains(error),
            "{args:?}: {status:?} {shown}"
        );
    }
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);

    // Files that others may read are replaced by files that they may not.
    let (chain, key) = (
        Path::new(&out).join("fullchain.pem"),
        Path::new(&out).join("privkey.pem"),
    );
    std::fs::write(&key, "old").unwrap();
    let written = consumer.run(&["shop", "--with-key", "--out", &out]);
    assert_eq!(
        stdout(&written),
        format!(
            "id            {id}\nname          shop\nversion       1\nwritten to    {}\nwritten to    {}\n",
            chain.display(),
            key.display()
        )
    );
    assert_eq!(std::fs::read_to_string(&chain).unwrap(), pair.certificate);
    assert_eq!(std::fs::read_to_string(&key).unwrap(), pair.key);
    assert_eq!((mode(&chain), mode(&key)), (0o600, 0o600));
    let json = consumer.run(&[&id, "--with-key", "--out", &out, "--output", "json"]);
    let json = stdout(&json);
    assert!(
        json.contains("\"version\": \"1\"") && !json.contains("PRIVATE KEY"),
        "{json}"
    );

    let bundle = path("site.pem");
    consumer.run(&[&id, "--with-key", "--format", "bundle", "--out", &bundle]);
    let both = format!("{}{}", pair.key, pair.certificate);
    assert_eq!(std::fs::read_to_string(&bundle).unwrap(), both);
    assert_eq!(mode(Path::new(&bundle)), 0o600);
    let encrypted = ["--with-key", "--password-file", &password, "--out", &out, "--format"];
    let written = consumer.run(&[&[&*id], &encrypted[..], &["pem-encrypted"]].concat());
    assert!(written.status.success(), "{}", stderr(&written));
    let opened = PKey::private_key_from_pem_passphrase(&std::fs::read(&key).unwrap(), b"correct horse").unwrap();
    assert!(opened.public_eq(&pair.x509.public_key().unwrap()));
    let written = consumer.run(&[&[&*id], &encrypted[..], &["pkcs12-legacy"]].concat());
    assert!(written.status.success(), "{}", stderr(&written));
    let keystore = Path::new(&out).join("keystore.p12");
    let parsed = openssl::pkcs12::Pkcs12::from_der(&std::fs::read(&keystore).unwrap()).unwrap();
    assert!(parsed.parse2("correct horse").is_ok() && mode(&keystore) == 0o600);

    // Told to.
    let shown = stdout(&consumer.run(&[&id, "--with-key", "--stdout"]));
    assert_eq!(shown, format!("{}{}", pair.certificate, pair.key));
    let on_terminal = on_a_terminal(consumer.command(&[&id, "--with-key", "--stdout", "--format", "bundle"]));
    assert_eq!(on_terminal.replace("\r\n", "\n"), both);
    let json = stdout(&consumer.run(&[&id, "--with-key", "--stdout", "--output", "json"]));
    assert!(json.contains("PRIVATE KEY"), "{json}");

    // The present version is known.
    std::fs::remove_file(&chain).unwrap();
    let known = consumer.run(&["shop", "--with-key", "--out", &out, "--known-version", "1"]);
    assert_eq!(known.status.code(), Some(6));
    assert!(
        stdout(&known).contains("unchanged     you have the present version"),
        "{}",
        stdout(&known)
    );
    assert!(!chain.exists());
    server.stop().await;
}
