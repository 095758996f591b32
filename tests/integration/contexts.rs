//! `certkeep login`, `certkeep context` and the region that nobody types.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use certkeep::config::{RegionConfig, TlsFiles};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

use crate::harness::{Account, REGION, TestServer, temp_dir, write_secret};
use crate::pki::{self, Key};
use crate::process::{CERTKEEP, stderr, stdout};

/// A user with a home directory and no variables of certkeep.
struct User(TempDir);

impl User {
    fn new() -> Self {
        Self(temp_dir())
    }

    fn config_dir(&self) -> PathBuf {
        self.0.path().join(".config/certkeep")
    }

    fn contexts(&self) -> String {
        std::fs::read_to_string(self.config_dir().join("contexts.toml")).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CERTKEEP);
        command.args(args).env_clear().env("HOME", self.0.path());
        command
    }

    fn output(&self, args: &[&str], variables: &[(&str, &str)]) -> Output {
        self.command(args).envs(variables.iter().copied()).output().unwrap()
    }

    /// What a command prints that must succeed.
    fn run(&self, args: &[&str], variables: &[(&str, &str)]) -> String {
        let output = self.output(args, variables);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// The exit code and the error of a command that must fail.
    fn refused(&self, args: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
        let output = self.output(args, variables);
        assert!(!output.status.success(), "{args:?}: {}", stdout(&output));
        (output.status.code().unwrap(), stderr(&output))
    }

    /// A login with a key from standard input.
    fn log_in(&self, args: &[&str], key: &str) -> Output {
        let mut child = self
            .command(&[&["login"], args].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The command may end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(key.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn must_log_in(&self, args: &[&str], key: &str) -> String {
        let output = self.log_in(args, key);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    }
}

fn id(key: &str) -> &str {
    key.split('.').next().unwrap()
}

fn secret(key: &str) -> &str {
    key.split('.').next_back().unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

fn region(id: &str) -> RegionConfig {
    RegionConfig {
        id: id.to_owned(),
        names: [id.to_owned(), id.to_owned(), id.to_owned()],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_login_commands_need_no_flags() {
    let server = TestServer::start().await;
    let user = User::new();
    let (key, endpoint) = (server.admin_key(), server.endpoint());
    let shown = user.must_log_in(
        &["prod", "--endpoint", &endpoint, "--region", REGION],
        &format!("{key}\n"),
    );
    let key_file = user.config_dir().join(format!("prod.{}.key", id(key)));
    for line in [
        "context       prod",
        &format!("endpoint      {endpoint}"),
        &format!("access key    {}", id(key)),
        "role          admin",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
    }
    assert_eq!(std::fs::read_to_string(&key_file).unwrap(), format!("{key}\n"));
    assert_eq!((mode(&key_file), mode(&user.config_dir())), (0o600, 0o700));
    assert_eq!(mode(&user.config_dir().join("contexts.toml")), 0o600);
    assert!(!shown.contains(secret(key)) && !user.contexts().contains(secret(key)));

    assert!(user.run(&["whoami"], &[]).contains(id(key)));
    let shown = user.run(&["context", "show"], &[]);
    let expected = format!(
        "context       prod\nendpoint      {endpoint} (context prod)\nCA file       the system's CA certificates\n\
         access key    {} (context prod)\nregion        {REGION} (context prod)\nplain text    refused\n",
        key_file.display()
    );
    assert_eq!(shown, expected);
    assert_eq!(
        user.run(&["context", "show", "prod"], &[]),
        expected.replace(" (context prod)", "")
    );

    // A new key for the same context: the server and the region stay, and the old file goes.
    let reader = server.add_key("reader", Account::First).await;
    user.must_log_in(&["prod"], &reader);
    assert!(user.run(&["whoami"], &[]).contains(id(&reader)));
    assert!(user.run(&["context", "show"], &[]).contains(REGION));
    assert!(!key_file.exists());

    // The user's own file stays the user's.
    let own = server.admin_key_file();
    user.must_log_in(
        &["--endpoint", &endpoint, "--access-key-file", own.to_str().unwrap()],
        "",
    );
    let listed = user.run(&["context", "list"], &[]);
    let names: Vec<_> = listed
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .collect();
    assert_eq!(names[0][..3], ["*", "default", &endpoint]);
    assert_eq!(names[1][..3], ["prod", &endpoint, REGION]);
    let shown = user.run(&["context", "delete", "default"], &[]);
    assert_eq!(
        shown,
        "deleted       default\ncurrent       none: choose one with `certkeep context use`\n"
    );
    assert!(own.exists());
    assert!(user.run(&["context", "use", "prod"], &[]).contains(&endpoint));
    user.run(&["context", "delete", "prod"], &[]);
    let left: Vec<_> = std::fs::read_dir(user.config_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["contexts.toml"]);
    let (code, error) = user.refused(&["context", "use", "prod"], &[]);
    assert_eq!(code, 2);
    assert!(
        error.contains("no context is named \"prod\"; there is none yet"),
        "{error}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_does_not_show_the_key() {
    let server = TestServer::start().await;
    let user = User::new();
    let key = server.admin_key();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let end = || std::fs::File::options().read(true).write(true).open(&name).unwrap();
    let mut command = user.command(&["login", "--endpoint", &server.endpoint()]);
    command.stdin(end()).stdout(end()).stderr(end());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut terminal = std::fs::File::from(terminal);
    let mut screen = Vec::new();
    let mut chunk = [0; 1024];
    while !String::from_utf8_lossy(&screen).contains("not shown): ") {
        let len = terminal.read(&mut chunk).unwrap();
        screen.extend_from_slice(&chunk[..len]);
    }
    terminal.write_all(format!("{key}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    // Ends with an error when nobody holds the other end any more.
    let _ = terminal.read_to_end(&mut screen);
    let screen = String::from_utf8(screen).unwrap();
    assert!(screen.contains(id(key)) && !screen.contains(secret(key)), "{screen}");
    assert!(user.run(&["whoami"], &[]).contains(id(key)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_fails_stores_nothing() {
    let server = TestServer::start().await;
    let user = User::new();
    let endpoint = server.endpoint();
    let wrong_secret = format!("{}.{}", id(server.admin_key()), "x".repeat(43));
    let output = user.log_in(&["prod", "--endpoint", &endpoint], &wrong_secret);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("access key  standard input"), "{error}");
    assert!(
        error.contains(&format!("endpoint    {endpoint} (--endpoint)")),
        "{error}"
    );
    for (args, key, expected) in [
        (
            &["prod"][..],
            "",
            "context prod does not exist yet: name its server with --endpoint",
        ),
        (
            &["--endpoint", "localhost:1"],
            "ck1.s",
            "--endpoint is no URL: it needs http:// or https://, for example http://localhost:1",
        ),
        (&["--endpoint", &endpoint], "", "this is no access key"),
        (&["--endpoint", &endpoint], "hello\nck1.s\n", "this is no access key"),
        (
            &["--endpoint", &endpoint],
            &"ck1.s".repeat(1000),
            "this is no access key",
        ),
        (&["../x", "--endpoint", &endpoint], "ck1.s", "letters, digits, dots"),
        (
            &["--endpoint", &endpoint, "--access-key-file", "none"],
            "",
            "none cannot be read",
        ),
        (
            &["--endpoint", &endpoint, "--ca-file", "none", "--context", "a"],
            "",
            "--context is only for",
        ),
    ] {
        let output = user.log_in(args, key);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
    let nowhere = user.log_in(&["--endpoint", "http://127.0.0.1:1"], server.admin_key());
    assert_eq!(nowhere.status.code(), Some(3));
    assert!(!user.config_dir().exists());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_only_to_the_server_of_its_context() {
    let (a, b) = (TestServer::start().await, TestServer::start().await);
    let user = User::new();
    user.must_log_in(&["b", "--endpoint", &b.endpoint()], b.admin_key());
    user.must_log_in(&["a", "--endpoint", &a.endpoint()], a.admin_key());
    let caller = |args: &[&str], variables: &[(&str, &str)]| {
        let shown = user.run(args, variables);
        let line = shown.lines().find_map(|line| line.strip_prefix("access key ")).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(caller(&["whoami"], &[]), id(a.admin_key()));
    for (args, variables) in [
        (&["--context", "b", "whoami"][..], &[][..]),
        (&["whoami", "--context", "b"], &[("CERTKEEP_CONTEXT", "a")]),
        (&["whoami"], &[("CERTKEEP_CONTEXT", "b")]),
        (
            &["whoami", "--endpoint", &b.endpoint()],
            &[("CERTKEEP_ACCESS_KEY", b.admin_key())],
        ),
        (
            &["whoami"],
            &[
                ("CERTKEEP_ENDPOINT", &b.endpoint()),
                ("CERTKEEP_ACCESS_KEY_FILE", b.admin_key_file().to_str().unwrap()),
            ],
        ),
    ] {
        assert_eq!(caller(args, variables), id(b.admin_key()), "{args:?}");
    }
    assert!(
        user.run(&["--context", "b", "resource-group", "list"], &[])
            .contains("default")
    );
    for variables in [&[("CERTKEEP_ENDPOINT", b.endpoint().as_str())][..], &[]] {
        let args: &[&str] = match variables {
            [] => &["whoami", "--endpoint", &b.endpoint()],
            _ => &["whoami"],
        };
        let (code, error) = user.refused(args, variables);
        assert_eq!(code, 2);
        let expected = format!("the access key of context a is only for {}", a.endpoint());
        assert!(error.contains(&expected), "{error}");
    }
    let (code, error) = user.refused(&["serve", "--context", "a"], &[]);
    assert_eq!(
        (code, error.as_str()),
        (2, "error: --context is only for commands that call a service\n")
    );

    // The error of an unknown key names the key's origin and the server.
    let unknown = "ck0000000000.secret";
    let (code, error) = user.refused(&["whoami"], &[("CERTKEEP_ACCESS_KEY", unknown)]);
    assert_eq!(code, 1);
    assert!(error.contains("access key  CERTKEEP_ACCESS_KEY\n"), "{error}");
    assert!(
        error.contains(&format!("endpoint    {} (context a)\n", a.endpoint())),
        "{error}"
    );
    let (_, error) = user.refused(
        &["describe", "--access-key-file", b.admin_key_file().to_str().unwrap()],
        &[],
    );
    let expected = format!("access key  {} (--access-key-file)\n", b.admin_key_file().display());
    assert!(error.contains(&expected), "{error}");

    let file = user.config_dir().join("contexts.toml");
    std::fs::write(&file, format!("{}\n[contexts.a.x]\n", user.contexts())).unwrap();
    let (code, error) = user.refused(&["whoami"], &[]);
    assert_eq!(code, 2);
    assert!(error.contains("contexts.toml: unknown key contexts.a.x"), "{error}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_types_a_region_where_the_service_has_one() {
    let one = TestServer::start_with(|config| config.regions = Some(vec![region("dc-1")])).await;
    let many = TestServer::start().await;
    let user = User::new();
    user.must_log_in(&["many", "--endpoint", &many.endpoint()], many.admin_key());
    user.must_log_in(
        &["tokyo", "--endpoint", &many.endpoint(), "--region", "ap-northeast-1"],
        many.admin_key(),
    );
    user.must_log_in(&["one", "--endpoint", &one.endpoint()], one.admin_key());
    let dir = temp_dir();
    let pair = pki::self_signed(Key::P256, "shop.example");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, &pair.certificate).unwrap();
    crate::harness::write_secret(&key, &pair.key);
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let upload = ["upload", "--cert", cert, "--key", key];
    let field = |shown: &str, label: &str| {
        let value = shown.lines().find_map(|line| line.strip_prefix(label));
        value.unwrap_or_else(|| panic!("{label} in {shown}")).trim().to_owned()
    };
    let shown = user.run(&upload, &[]);
    assert_eq!(field(&shown, "region "), "dc-1");
    let id = field(&shown, "id ");
    user.run(&["rename", &id, "shop"], &[]);
    user.run(&["tag", &id, "--tag", "team=shop"], &[]);
    assert!(user.run(&["tags", &id], &[]).contains("team"));
    user.run(&["untag", &id, "--all"], &[]);
    let folder = dir.path().to_str().unwrap();
    user.run(&["import", folder], &[]);
    // It was already there: the heading and one certificate.
    assert_eq!(user.run(&["describe"], &[]).lines().count(), 2);

    let (code, error) = user.refused(&upload, &[("CERTKEEP_CONTEXT", "many")]);
    assert_eq!(code, 1);
    assert!(error.contains("REGION_MISSING"), "{error}");
    let (code, error) = user.refused(&["import", folder], &[("CERTKEEP_CONTEXT", "many")]);
    assert_eq!(code, 2);
    assert!(error.contains("the service has several regions"), "{error}");
    let tokyo = user.run(&upload, &[("CERTKEEP_CONTEXT", "tokyo")]);
    assert_eq!(field(&tokyo, "region "), "ap-northeast-1");
    let variables = [("CERTKEEP_CONTEXT", "tokyo"), ("CERTKEEP_REGION", "cn-beijing")];
    assert_eq!(field(&user.run(&upload, &variables), "region "), "cn-beijing");
    let named = [&upload[..], &["--region", REGION]].concat();
    assert_eq!(field(&user.run(&named, &variables), "region "), REGION);
    // A default region never hides certificates.
    let described = user.run(&["describe"], &variables);
    assert_eq!(described.lines().count(), 4, "{described}");
    assert_eq!(
        user.run(&["describe", "--region", REGION], &variables).lines().count(),
        2
    );
    one.stop().await;
    many.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_keeps_the_ca_file_by_its_absolute_path() {
    let dir = temp_dir();
    let pair = pki::self_signed(Key::P256, "localhost");
    std::fs::write(dir.path().join("tls.pem"), &pair.certificate).unwrap();
    crate::harness::write_secret(dir.path().join("tls-key.pem"), &pair.key);
    let tls = TlsFiles {
        certificate: dir.path().join("tls.pem"),
        private_key: dir.path().join("tls-key.pem"),
        client_ca: None,
    };
    let server = TestServer::start_with(|config| config.tls = Some(tls)).await;
    let user = User::new();
    crate::harness::write_secret(user.0.path().join("admin.key"), server.admin_key());
    let endpoint = format!("https://localhost:{}", server.address().port());
    let login = [
        "login",
        "--endpoint",
        &endpoint,
        "--ca-file",
        "tls.pem",
        "--access-key-file",
        "../admin.key",
    ];
    std::fs::create_dir(user.0.path().join("elsewhere")).unwrap();
    std::fs::copy(dir.path().join("tls.pem"), user.0.path().join("elsewhere/tls.pem")).unwrap();
    let output = user
        .command(&login)
        .current_dir(user.0.path().join("elsewhere"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(user.run(&["whoami"], &[]).contains(id(server.admin_key())));
    server.stop().await;
}

/// No network gets a key in plain text unless somebody says so: with the flag, the variable or the context.
#[test]
fn keys_go_in_plain_text_only_to_this_machine() {
    let user = User::new();
    let key = user.0.path().join("key");
    write_secret(&key, "ck1.secret\n");
    let folder = user.0.path().to_str().unwrap();
    let key = key.to_str().unwrap();
    // This address leads to this machine, but it is no loopback address. Nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let endpoint = &format!("http://0.0.0.0:{port}");
    let connection = ["--endpoint", endpoint, "--access-key-file", key];
    for command in [
        &["describe"][..],
        &["whoami"],
        &["watch"],
        &["sync", folder],
        &["import", folder],
        &["login", "prod"],
    ] {
        let (code, text) = user.refused(&[command, &connection].concat(), &[]);
        assert_eq!(code, 2, "{text}");
        assert!(
            text.contains("--danger-plaintext") && text.contains("CERTKEEP_DANGER_PLAINTEXT"),
            "{text}"
        );
    }
    // Nobody types a key for it.
    let login = user.log_in(&["prod", "--endpoint", endpoint], "");
    assert_eq!(login.status.code(), Some(2));
    assert!(stderr(&login).contains("--danger-plaintext"), "{}", stderr(&login));

    std::fs::create_dir_all(user.config_dir()).unwrap();
    let write = |extra: &str| {
        let text = format!("[contexts.a]\nendpoint = \"{endpoint}\"\naccess_key_file = \"{key}\"\n{extra}");
        std::fs::write(user.config_dir().join("contexts.toml"), text).unwrap();
    };
    write("");
    let (code, text) = user.refused(&["whoami", "--context", "a"], &[]);
    assert!(code == 2 && text.contains("(context a)"), "{text}");
    // Each word of danger leads to the attempt to connect, which fails otherwise.
    let context = ["whoami", "--context", "a"];
    let flag = [&context[..], &["--danger-plaintext"]].concat();
    let variable = [("CERTKEEP_DANGER_PLAINTEXT", "true")];
    assert_eq!(user.refused(&flag, &[]).0, 3);
    assert_eq!(user.refused(&context, &variable).0, 3);
    write("danger_plaintext = true\n");
    assert_eq!(user.refused(&context, &[]).0, 3);
}
