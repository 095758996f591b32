//! Keys of the key ring that a PKCS#11 token (SoftHSM) and a transit service (OpenBao) wrap.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use certkeep::grpc::pb;
use certkeep::grpc::pb::operator_service_client::OperatorServiceClient;

use crate::calls;
use crate::external::tool;
use crate::harness::{bearer, connect_to, temp_dir, until, upload_of};
use crate::key_ring::write_ring;
use crate::pki::{self, Key};
use crate::process::{CERTKEEP, Certkeep, DataDir, stderr, stdout};

const PIN: &str = "1234";

fn ran(output: Output) -> String {
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    stdout(&output)
}

/// A secret in a file that only its owner may read.
fn secret_file(path: &Path, text: &str) -> String {
    write_ring(path, text);
    path.to_str().unwrap().to_owned()
}

/// A token of SoftHSM with a wrapping key.
struct Token {
    directory: tempfile::TempDir,
    settings: Vec<String>,
}

impl Token {
    fn new() -> Self {
        let directory = temp_dir();
        let path = directory.path();
        std::fs::create_dir(path.join("tokens")).unwrap();
        let config = format!(
            "directories.tokendir = {}\nlog.level = ERROR\n",
            path.join("tokens").display()
        );
        std::fs::write(path.join("softhsm2.conf"), config).unwrap();
        std::fs::write(path.join("key"), [7; 32]).unwrap();
        let util = |args: &[&str]| {
            let mut command = Command::new("softhsm2-util");
            command.args(args).env("SOFTHSM2_CONF", path.join("softhsm2.conf"));
            ran(command.output().expect("run tools/install softhsm"));
        };
        util(&[
            "--init-token",
            "--free",
            "--label",
            "ring",
            "--pin",
            PIN,
            "--so-pin",
            "5678",
        ]);
        let key = path.join("key");
        let import = [
            "--import",
            key.to_str().unwrap(),
            "--aes",
            "--token",
            "ring",
            "--pin",
            PIN,
        ];
        util(&[&import[..], &["--label", "certkeep", "--id", "01"]].concat());
        let modules = [
            "/usr/lib/softhsm/libsofthsm2.so",
            "/usr/lib64/pkcs11/libsofthsm2.so",
            "/opt/homebrew/lib/softhsm/libsofthsm2.so",
        ];
        let module = modules.into_iter().find(|module| Path::new(module).exists()).unwrap();
        let pin = secret_file(&path.join("pin"), PIN);
        let settings = [
            "--pkcs11-module",
            module,
            "--pkcs11-token",
            "ring",
            "--pkcs11-pin-file",
            &pin,
        ];
        let settings = settings.map(str::to_owned).to_vec();
        Self { directory, settings }
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("softhsm2.conf")
    }
}

/// OpenBao with a transit engine and a key, and a token for them.
struct Bao {
    process: Child,
    directory: tempfile::TempDir,
    settings: Vec<String>,
    token_file: PathBuf,
}

impl Bao {
    async fn start() -> Self {
        let directory = temp_dir();
        // OpenBao does not tell which port the system assigned to it. So the test asks for one and gives it to OpenBao.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let process = Command::new(tool("bin/bao"))
            .args(["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"])
            .arg(format!("-dev-listen-address={address}"))
            .env("HOME", directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("http://{address}");
        let token_file = directory.path().join("token");
        let settings = [
            "--transit-url",
            &url,
            "--transit-key",
            "certkeep",
            "--transit-token-file",
        ];
        let mut settings = settings.map(str::to_owned).to_vec();
        settings.push(token_file.to_str().unwrap().to_owned());
        let bao = Self {
            process,
            directory,
            settings,
            token_file,
        };
        let run = |args: &[&str]| {
            let mut command = Command::new(tool("bin/bao"));
            command.args(args).env("BAO_ADDR", &url).env("BAO_TOKEN", "root");
            command.output().unwrap()
        };
        until(async || run(&["status"]).status.success()).await;
        ran(run(&["secrets", "enable", "transit"]));
        ran(run(&["write", "-f", "transit/keys/certkeep"]));
        let policy = bao.directory.path().join("policy.hcl");
        let rule =
            |operation: &str| format!("path \"transit/{operation}/certkeep\" {{ capabilities = [\"update\"] }}\n");
        std::fs::write(&policy, rule("encrypt") + &rule("decrypt")).unwrap();
        ran(run(&["policy", "write", "ring", policy.to_str().unwrap()]));
        let token = ran(run(&["token", "create", "-policy=ring", "-field=token"]));
        secret_file(&bao.token_file, &token);
        bao
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Rotates to a key of this provider, restarts on the ring with this key alone, and opens what was sealed before.
async fn rotates(settings: &[String], softhsm: Option<PathBuf>, add: &[&str], prefix: &str) -> DataDir {
    let data_dir = DataDir::new();
    let path = data_dir.path().to_str().unwrap().to_owned();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let environment = |command: &mut Command| {
        if let Some(config) = &softhsm {
            command.env("SOFTHSM2_CONF", config);
        }
    };
    let server = Certkeep::start_as(data_dir.path(), &settings, environment);
    let pair = pki::self_signed(Key::P256, "a.example");
    calls::upload(&server.client(&data_dir), upload_of(&pair))
        .await
        .unwrap();

    let mut command = Command::new(CERTKEEP);
    command
        .args(["keyring", "add", "--data-dir", &path])
        .args(&settings)
        .args(add);
    environment(&mut command);
    let added = ran(command.output().unwrap());
    let id = added
        .lines()
        .find_map(|line| line.strip_prefix("added"))
        .unwrap()
        .trim()
        .to_owned();
    let ring = std::fs::read_to_string(data_dir.path().join("key-ring")).unwrap();
    let line = ring.lines().last().unwrap();
    assert!(line.starts_with(&format!("{id} {prefix}")), "{line}");

    let sql = connect_to(&data_dir.connection_string()).await;
    let secret = "s".repeat(43);
    let insert =
        "insert into access_key (account_id, access_key_id, secret_sha256, role) values (0, 'ckop', $1, 'operator')";
    let hash = certkeep::digest::sha256(secret.as_bytes());
    sql.execute(insert, &[&hash.as_slice()]).await.unwrap();
    let key = data_dir.path().join("operator.key");
    secret_file(&key, &format!("ckop.{secret}"));
    let endpoint = format!("http://{}", server.address);
    let connection = ["--endpoint", &endpoint, "--access-key-file", key.to_str().unwrap()];
    let keyring = |args: &[&str]| {
        Command::new(CERTKEEP)
            .arg("keyring")
            .args(args)
            .args(connection)
            .output()
            .unwrap()
    };
    until(async || ran(keyring(&["list"])).contains(&format!("{id}  prepared  1 of 1"))).await;
    ran(keyring(&["rotate", &id]));
    until(async || ran(keyring(&["list"])).contains("progress      ended")).await;
    assert!(ran(keyring(&["verify-remotely"])).contains("keys opened   1"));
    let old = ring
        .lines()
        .find(|line| !line.starts_with('#'))
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    ran(keyring(&["retire", old]));
    write_ring(&data_dir.path().join("key-ring"), &format!("{line}\n"));
    server.terminate();

    let server = Certkeep::start_as(data_dir.path(), &settings, environment);
    calls::upload(&server.client(&data_dir), upload_of(&pair))
        .await
        .unwrap();
    let mut operator = OperatorServiceClient::with_interceptor(server.channel(), bearer(&format!("ckop.{secret}")));
    let mut steps = operator
        .verify_key_ring(pb::VerifyKeyRingRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut counts = (0, 0);
    while let Some(step) = steps.message().await.unwrap() {
        counts = (step.private_keys + step.service_keys, step.fault_count);
    }
    assert_eq!(counts, (5, 0));
    server.terminate();
    data_dir
}

/// A start that fails, and what it prints.
fn refused_start(data_dir: &DataDir, settings: &[String], softhsm: Option<&Path>) -> String {
    let mut command = Command::new(CERTKEEP);
    let path = data_dir.path().to_str().unwrap();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", path])
        .args(settings);
    if let Some(config) = softhsm {
        command.env("SOFTHSM2_CONF", config);
    }
    let output = command.output().unwrap();
    assert!(!output.status.success());
    stderr(&output)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pkcs11_token_wraps_a_key_of_the_ring() {
    let token = Token::new();
    let config = token.config();
    let add = ["--provider", "pkcs11", "--wrapping-key", "certkeep"];
    let data_dir = rotates(&token.settings, Some(config.clone()), &add, "pkcs11:certkeep:").await;

    let error = refused_start(&data_dir, &[], Some(&config));
    assert!(error.contains("needs the settings pkcs11_module"), "{error}");
    for (place, value, expected) in [
        (1, "/nonexistent.so", "which cannot be loaded"),
        (3, "other", "no token has the label other"),
        (5, "/nonexistent", "pkcs11_pin_file cannot be used"),
    ] {
        let mut settings = token.settings.clone();
        settings[place] = value.to_owned();
        let error = refused_start(&data_dir, &settings, Some(&config));
        assert!(error.contains(expected), "{error}");
    }
    let pin = secret_file(&token.directory.path().join("wrong"), "4321");
    let mut settings = token.settings.clone();
    settings[5] = pin;
    let error = refused_start(&data_dir, &settings, Some(&config));
    assert!(
        error.contains("the token refused the call") && !error.contains("4321"),
        "{error}"
    );

    let mut command = Command::new(CERTKEEP);
    command.args([
        "keyring",
        "add",
        "--data-dir",
        data_dir.path().to_str().unwrap(),
        "--provider",
        "pkcs11",
    ]);
    command
        .args(["--wrapping-key", "absent"])
        .args(&token.settings)
        .env("SOFTHSM2_CONF", &config);
    let error = stderr(&command.output().unwrap());
    assert!(error.contains("0 secret keys with the label absent"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transit_service_wraps_a_key_of_the_ring() {
    let bao = Bao::start().await;
    let data_dir = rotates(&bao.settings, None, &["--provider", "transit"], "transit:vault:v1:").await;

    let error = refused_start(&data_dir, &[], None);
    assert!(error.contains("needs the settings transit_url"), "{error}");
    let mut settings = bao.settings.clone();
    settings[3] = "absent".to_owned();
    let error = refused_start(&data_dir, &settings, None);
    assert!(
        error.contains("403 Forbidden") && error.contains("permission denied"),
        "{error}"
    );
    let token = std::fs::read_to_string(&bao.token_file).unwrap();
    secret_file(&bao.token_file, "wrong");
    let error = refused_start(&data_dir, &bao.settings, None);
    assert!(error.contains("403 Forbidden") && !error.contains("wrong"), "{error}");
    secret_file(&bao.token_file, &token);

    // A running replica does not need the service. A start does.
    let settings: Vec<&str> = bao.settings.iter().map(String::as_str).collect();
    let server = Certkeep::start_with(data_dir.path(), &settings);
    let settings = bao.settings.clone();
    drop(bao);
    let pair = pki::self_signed(Key::P256, "a.example");
    calls::upload(&server.client(&data_dir), upload_of(&pair))
        .await
        .unwrap();
    server.terminate();
    // The token's file is gone with the service.
    let error = refused_start(&data_dir, &settings, None);
    assert!(error.contains("transit_token_file cannot be used"), "{error}");
    let mut settings = settings;
    settings[5] = secret_file(&data_dir.path().join("token"), &token);
    let error = refused_start(&data_dir, &settings, None);
    assert!(error.contains("there was no answer from transit_url"), "{error}");
}
