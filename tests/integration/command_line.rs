//! What the client's commands print: for people, for programs, on a terminal.

use std::io::Read;
use std::process::{Command, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::{REGION, TestServer, temp_dir, upload_of};
use crate::pki::{self, Key};
use crate::process::{CERTKEEP, stderr, stdout};

pub fn command(server: &TestServer, args: &[&str]) -> Command {
    let mut command = Command::new(CERTKEEP);
    command
        .args(args)
        .args(["--endpoint", &server.endpoint(), "--access-key-file"])
        .arg(server.admin_key_file())
        .env_remove("NO_COLOR");
    command
}

pub fn run(server: &TestServer, args: &[&str]) -> Output {
    let output = command(server, args).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

/// What it prints on a terminal.
pub fn on_a_terminal(mut command: Command) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let screen = std::fs::File::options().read(true).write(true).open(name).unwrap();
    command.stdin(Stdio::null()).stdout(screen);
    let reading = std::thread::spawn(move || {
        let mut shown = Vec::new();
        // Ends with an error when nobody holds the other end any more.
        let _ = std::fs::File::from(terminal).read_to_end(&mut shown);
        String::from_utf8(shown).unwrap()
    });
    let mut child = command.spawn().unwrap();
    // The command holds the screen too.
    drop(command);
    assert!(child.wait().unwrap().success());
    reading.join().unwrap()
}

async fn upload(server: &TestServer, pair: &pki::Pair) -> String {
    let answer = server
        .client()
        .upload_server_certificate(upload_of(pair))
        .await
        .unwrap();
    answer.into_inner().server_certificate_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_and_a_delete_say_what_they_did() {
    let server = TestServer::start().await;
    let id = upload(&server, &pki::self_signed(Key::P256, "shop.example")).await;
    let etag = || {
        let json = run(&server, &["get", &id, "--output", "json"]).stdout;
        let got: serde_json::Value = serde_json::from_slice(&json).unwrap();
        got["serverCertificate"]["etag"].as_str().unwrap().to_owned()
    };
    let renamed = run(&server, &["rename", &id, "shop-2", "--region", REGION]);
    assert_eq!(
        stdout(&renamed),
        format!("id            {id}\nname          shop-2\netag          {}\n", etag())
    );
    let args = ["rename", &id, "shop-3", "--region", REGION, "--output", "json"];
    let renamed: serde_json::Value = serde_json::from_slice(&run(&server, &args).stdout).unwrap();
    assert_eq!(renamed["etag"], etag().as_str());
    assert!(renamed["requestId"].is_string());

    let other = upload(&server, &pki::self_signed(Key::P256, "other.example")).await;
    let deleted = run(&server, &["delete", &id]);
    assert_eq!(stdout(&deleted), format!("deleted       {id}\netag          4\n"));
    let deleted = run(&server, &["delete", &other, "--output", "json"]);
    let deleted: serde_json::Value = serde_json::from_slice(&deleted.stdout).unwrap();
    assert!(deleted["requestId"].is_string());
    server.stop().await;
}

/// Red in the last week, yellow in the last month, on a terminal alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_days_left_are_told_and_coloured_on_a_terminal() {
    const RED: &str = "\u{1b}[31m";
    const YELLOW: &str = "\u{1b}[33m";
    let server = TestServer::start().await;
    let dir = temp_dir();
    for (days, colour) in [(5, Some(RED)), (20, Some(YELLOW)), (300, None)] {
        let pair = pki::expiring("shop.example", days);
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, &pair.certificate).unwrap();
        std::fs::write(&key, &pair.key).unwrap();
        let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
        let upload = ["upload", "--region", REGION, "--cert", cert, "--key", key];
        let shown = on_a_terminal(command(&server, &upload));
        let id = shown.lines().find_map(|line| line.strip_prefix("id ")).unwrap().trim();
        // A moment of the last day is gone.
        let left = format!("in {} days", days - 1);
        let get = on_a_terminal(command(&server, &["get", id]));
        let describe = on_a_terminal(command(&server, &["describe", "--id", id]));
        for shown in [&shown, &get, &describe] {
            let line = shown.lines().find(|line| line.contains(&left));
            let line = line.unwrap_or_else(|| panic!("{left} in {shown}"));
            match colour {
                Some(colour) => assert!(
                    line.starts_with(colour) && line.trim_end().ends_with("\u{1b}[0m"),
                    "{line:?}"
                ),
                None => assert!(!line.contains('\u{1b}'), "{line:?}"),
            }
            let others: Vec<_> = shown.lines().filter(|other| *other != line).collect();
            assert!(others.iter().all(|line| !line.contains('\u{1b}')), "{shown:?}");
        }
        let mut plain = command(&server, &["get", id]);
        plain.env("NO_COLOR", "1");
        let plain = on_a_terminal(plain);
        let piped = stdout(&run(&server, &["get", id]));
        for shown in [plain, piped] {
            assert!(shown.contains(&left) && !shown.contains('\u{1b}'), "{shown:?}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_and_resource_groups_have_commands() {
    let server = TestServer::start().await;
    let id = upload(&server, &pki::self_signed(Key::P256, "shop.example")).await;
    let other = upload(&server, &pki::self_signed(Key::P256, "other.example")).await;
    let both = ["--region", REGION, &id, &other];
    let tag = [&["tag"], &both[..], &["--tag", "team=shop", "--tag", "env="]].concat();
    assert_eq!(
        stdout(&run(&server, &tag)),
        format!("tagged        {id} (etag 2)\ntagged        {other} (etag 2)\n")
    );
    let untag = ["untag", "--region", REGION, &other, "--key", "env"];
    assert_eq!(
        stdout(&run(&server, &untag)),
        format!("untagged      {other} (etag 3)\n")
    );
    let listed = stdout(&run(&server, &["tags", "--region", REGION, "--tag", "team=shop"]));
    let lines: Vec<Vec<_>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["KEY", "VALUE", "ID"]);
    assert_eq!(
        lines[1..],
        [
            vec!["env", &id],
            vec!["team", "shop", &id],
            vec!["team", "shop", &other]
        ]
    );
    let json = ["tags", "--region", REGION, &other, "--output", "json"];
    let json: serde_json::Value = serde_json::from_slice(&run(&server, &json).stdout).unwrap();
    assert_eq!(json["tagResources"][0]["resourceType"], "certificate");
    let nothing = command(&server, &["untag", "--region", REGION, &id]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(2), "{}", stderr(&nothing));

    let made = stdout(&run(&server, &["resource-group", "create", "shop"]));
    let group = made.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(stdout(&run(&server, &["resource-group", "create", "shop"])), made);
    let listed = stdout(&run(&server, &["resource-group", "list"]));
    let names: Vec<_> = listed
        .lines()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(names, ["NAME", "default", "shop"]);
    let moved = run(&server, &["resource-group", "move", "--region", REGION, &id, &group]);
    assert!(stdout(&moved).starts_with(&format!("moved         {id}\netag ")));
    let described = stdout(&run(&server, &["describe", "--resource-group", &group]));
    assert!(described.contains(&id) && !described.contains(&other), "{described}");
    let renamed = stdout(&run(&server, &["resource-group", "rename", &group, "store"]));
    assert_eq!(renamed, format!("id            {group}\nname          store\n"));
    let used = command(&server, &["resource-group", "delete", &group])
        .output()
        .unwrap();
    assert!(stderr(&used).contains("RESOURCE_GROUP_NOT_EMPTY"), "{}", stderr(&used));
    let empty = stdout(&run(&server, &["resource-group", "create", "empty"]));
    let empty = empty.lines().next().unwrap().rsplit(' ').next().unwrap();
    let deleted = stdout(&run(&server, &["resource-group", "delete", empty]));
    assert_eq!(deleted, format!("deleted       {empty}\n"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_and_a_rollback_say_which_version_is_present() {
    let (server, dir) = (TestServer::start().await, temp_dir());
    let id = upload(&server, &pki::self_signed(Key::P256, "shop.example")).await;
    let renew = |name: &str, pair: &pki::Pair, more: &[&str]| {
        let [cert, key] = ["crt", "key"].map(|ending| dir.path().join(format!("{name}.{ending}")));
        std::fs::write(&cert, &pair.certificate).unwrap();
        std::fs::write(&key, &pair.key).unwrap();
        let [cert, key] = [&cert, &key].map(|path| path.to_str().unwrap());
        let args = [&["renew", &id, "--cert", cert, "--key", key], more].concat();
        command(&server, &args).output().unwrap()
    };
    let other = pki::self_signed(Key::P256, "other.example");
    let refused = renew("other", &other, &[]);
    assert_eq!(refused.status.code(), Some(1));
    let told = stderr(&refused);
    let (told, _) = told.split_once("\n  request id ").unwrap();
    assert_eq!(
        told,
        "error: the new certificate does not cover 2 of the names of the present one; they are listed below; \
         use --allow-lost-names to renew all the same\n  \
         reason      NAMES_LOST\n  lost names  shop.example www.shop.example"
    );

    let new = pki::self_signed(Key::Rsa(2048), "shop.example");
    let is_told = |output: &Output, lines: &[&str]| {
        let shown = stdout(output);
        for line in lines {
            assert!(
                shown.lines().any(|other| other == *line),
                "{line} in {shown}{}",
                stderr(output)
            );
        }
    };
    let is_version = |output: &Output, version: &str| {
        is_told(
            output,
            &[&format!("id            {id}"), &format!("version       {version}")],
        );
    };
    is_version(&renew("new", &new, &["--validate-only"]), "2 (before: 1)");
    is_version(&renew("new", &new, &[]), "2 (before: 1)");
    is_version(&renew("new", &new, &[]), "2 (unchanged)");
    let lost = renew("other", &other, &["--allow-lost-names"]);
    is_version(&lost, "3 (before: 2)");
    is_told(&lost, &["lost names    shop.example, www.shop.example"]);
    is_version(&run(&server, &["rollback", &id, "2"]), "4 (before: 3)");
    let table = stdout(&run(&server, &["versions", &id]));
    let numbers: Vec<_> = table
        .lines()
        .map(|line| line.trim().split("  ").next().unwrap())
        .collect();
    assert_eq!(numbers, ["VERSION", "4 (as 2)", "3", "2", "1"], "{table}");
    server.stop().await;
}

fn refused(server: &TestServer, args: &[&str], code: i32) -> String {
    let output = command(server, args).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
    assert_eq!(stdout(&output), "", "{args:?}");
    stderr(&output)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_name_does_instead_of_an_id() {
    let (server, dir) = (TestServer::start().await, temp_dir());
    let shop = pki::self_signed(Key::P256, "shop.example");
    let id = upload(&server, &shop).await;
    let twins = [
        upload(&server, &pki::self_signed(Key::P256, "twin.example")).await,
        upload(&server, &pki::self_signed(Key::P256, "twin.example")).await,
    ];
    // A longer name that begins with it is another one.
    upload(&server, &pki::self_signed(Key::P256, "shop.example.org")).await;
    let id_line = format!("id            {id}");
    for args in [
        &["get", "shop.example"][..],
        &["get", "shop.example", "--region", REGION],
    ] {
        let shown = stdout(&run(&server, args));
        assert!(shown.lines().any(|line| line == id_line), "{shown}");
    }
    let [cert, key] = ["crt", "key"].map(|ending| dir.path().join(ending).to_str().unwrap().to_owned());
    std::fs::write(&cert, &shop.certificate).unwrap();
    std::fs::write(&key, &shop.key).unwrap();
    let renewed = stdout(&run(
        &server,
        &["renew", "shop.example", "--cert", &cert, "--key", &key],
    ));
    assert!(renewed.lines().any(|line| line == id_line), "{renewed}");
    assert!(stdout(&run(&server, &["versions", "shop.example"])).contains("present"));

    let several = refused(&server, &["delete", "twin.example"], 1);
    assert!(
        several.starts_with("error: several server certificates have the name twin.example; "),
        "{several}"
    );
    assert!(
        twins
            .iter()
            .all(|twin| several.contains(&format!("\n  {twin}  {REGION}"))),
        "{several}"
    );
    let other_region = ["delete", "shop.example", "--region", "cn-beijing"];
    for args in [
        &other_region[..],
        &["get", "shop.example", "--region", "cn-beijing"],
        &["get", "nothing.example"],
        &["get", "no name?"],
        &["delete", "shop"],
    ] {
        let told = refused(&server, args, 1);
        assert!(told.contains("no server certificate has the id or the name"), "{told}");
    }
    let unnamed = refused(&server, &["rename", "shop.example", ""], 2);
    assert!(unnamed.contains("'<NAME>'"), "{unnamed}");
    // Only the names of live certificates are looked up.
    for command in ["undelete", "purge"] {
        let told = refused(&server, &[command, "shop.example"], 2);
        assert!(
            told.contains("shop.example is no id; `certkeep describe --deleted` lists them"),
            "{told}"
        );
        let told = refused(&server, &["ca", command, "shop.example"], 2);
        assert!(told.contains("`certkeep ca describe --deleted` lists them"), "{told}");
    }
    for args in [
        &["tag", "shop.example", "--tag", "a=b"][..],
        &["untag", "shop.example", "--all"],
        &["tags", "shop.example"],
    ] {
        let told = refused(&server, args, 2);
        assert!(
            told.contains("shop.example is no id; `certkeep describe` and `certkeep ca describe` list them"),
            "{told}"
        );
    }
    let deleted = stdout(&run(&server, &["delete", "shop.example"]));
    assert!(deleted.starts_with(&format!("deleted       {id}\n")), "{deleted}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_choose_columns_and_get_yaml_and_errors_as_json() {
    let (server, dir) = (TestServer::start().await, temp_dir());
    let empty = run(&server, &["describe"]);
    assert_eq!(
        (stdout(&empty), stderr(&empty)),
        (String::new(), "no server certificates\n".to_owned())
    );
    let id = upload(&server, &pki::self_signed(Key::P256, "shop.example")).await;
    let columns = stdout(&run(&server, &["describe", "--columns", "key,name,id"]));
    assert_eq!(
        columns,
        format!("KEY          NAME          ID\nECDSA P-256  shop.example  {id}\n")
    );
    let wrong = refused(&server, &["describe", "--columns", "nmae"], 2);
    assert!(wrong.contains("a similar value exists: 'name'"), "{wrong}");
    let both = refused(&server, &["describe", "--columns", "name", "--output", "json"], 2);
    assert!(both.contains("--columns is for tables"), "{both}");
    let yaml = stdout(&run(&server, &["get", &id, "--output", "yaml"]));
    for line in [
        &format!("  serverCertificateId: {id}"),
        "  certificateChain: |",
        "  keySize: 256",
    ] {
        assert!(yaml.lines().any(|shown| shown == line), "{line} in {yaml}");
    }

    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let pair = pki::self_signed(Key::P256, "other.example");
    std::fs::write(&cert, &pair.certificate).unwrap();
    std::fs::write(&key, pki::self_signed(Key::P256, "a.example").key).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let upload = [
        "upload", "--cert", cert, "--key", key, "--region", "mars-1", "--output", "json",
    ];
    let told = refused(&server, &upload, 1);
    let error: serde_json::Value = serde_json::from_str(&told).unwrap();
    let error = &error["error"];
    assert_eq!(
        (&error["code"], &error["exitCode"], &error["violations"][0]["field"]),
        (&"INVALID_ARGUMENT".into(), &1.into(), &"--region".into())
    );
    assert_eq!(
        error["violations"][0]["message"],
        "unknown --region; run `certkeep regions` for the valid ids"
    );
    assert!(
        !told.contains("server_certificate ") && error["requestId"].is_string(),
        "{told}"
    );
    let usage: serde_json::Value =
        serde_json::from_str(&refused(&server, &["get", "--nonsense", "--output=yaml"], 2)).unwrap();
    assert_eq!(usage["error"]["exitCode"], 2);
    assert!(
        usage["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("unexpected argument '--nonsense'"),
        "{usage}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_needs_no_key_and_no_argument_on_the_servers_machine() {
    let dir = temp_dir();
    let pair = pki::self_signed(Key::P256, "certkeep.example");
    let [cert, key] = ["tls.pem", "tls-key.pem"].map(|name| dir.path().join(name));
    std::fs::write(&cert, &pair.certificate).unwrap();
    crate::harness::write_secret(&key, &pair.key);
    let tls = certkeep::config::TlsFiles {
        certificate: cert.clone(),
        private_key: key,
        client_ca: None,
    };
    let secure = TestServer::start_with(|config| config.tls = Some(tls)).await;
    let plain = TestServer::start().await;
    let health = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(CERTKEEP);
        command.arg("health").args(args).env("HOME", dir.path());
        let output = command.envs(variables.iter().copied()).output().unwrap();
        (output.status.code().unwrap(), stdout(&output), stderr(&output))
    };
    let serving = (0, "serving\n".to_owned(), String::new());
    let addresses = [plain.address().to_string(), secure.address().to_string()];
    assert_eq!(health(&["--endpoint", &plain.endpoint()], &[]), serving);
    assert_eq!(health(&["--reads"], &[("CERTKEEP_LISTEN", &addresses[0])]), serving);
    let here = [
        ("CERTKEEP_LISTEN", &*addresses[1]),
        ("CERTKEEP_TLS_CERTIFICATE", cert.to_str().unwrap()),
    ];
    assert_eq!(health(&[], &here), serving);
    // The name is not that of the certificate, and only the listener of this machine may have another one.
    let url = format!("https://{}", addresses[1]);
    let named = health(&["--endpoint", &url, "--ca-file", cert.to_str().unwrap()], &[]);
    assert_eq!((named.0, named.1.as_str()), (3, ""), "{}", named.2);
    let plain_endpoint = plain.endpoint();
    plain.stop().await;
    let gone = health(&[], &[("CERTKEEP_LISTEN", &addresses[0])]);
    assert!(
        gone.0 == 3
            && gone
                .2
                .starts_with(&format!("error: {} cannot be reached", addresses[0])),
        "{gone:?}"
    );
    let refused = |endpoint: &str, why: &str| format!("error: {endpoint} (--endpoint) cannot be reached: {why}\n");
    let gone = health(&["--endpoint", &plain_endpoint], &[]);
    assert_eq!((gone.0, gone.2), (3, refused(&plain_endpoint, "connection refused")));
    let unencrypted = format!("http://{}", addresses[1]);
    let wrong = health(&["--endpoint", &unencrypted], &[]);
    let why = format!("the server expects TLS; use {url}");
    assert_eq!((wrong.0, wrong.2), (2, refused(&unencrypted, &why)));
    secure.stop().await;
}

#[test]
fn printing_the_settings_reads_the_files_that_they_name() {
    let dir = temp_dir();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let pair = pki::self_signed(Key::P256, "certkeep.example");
    std::fs::write(path("tls.pem"), &pair.certificate).unwrap();
    crate::harness::write_secret(path("tls-key.pem"), &pki::self_signed(Key::P256, "a.example").key);
    std::fs::write(path("list"), "nothing").unwrap();
    crate::harness::write_secret(path("key-ring"), "not a key ring\n");
    let print = |args: &[&str]| {
        let args = [
            &["serve", "--print-config", "--data-dir", dir.path().to_str().unwrap()],
            args,
        ]
        .concat();
        std::process::Command::new(CERTKEEP).args(args).output().unwrap()
    };
    let of_ring = print(&[]);
    assert_eq!(of_ring.status.code(), Some(2));
    assert!(stderr(&of_ring).contains("\n  key_ring: "), "{}", stderr(&of_ring));
    assert!(stdout(&of_ring).contains("data_dir = "));
    std::fs::remove_file(path("key-ring")).unwrap();
    assert!(print(&[]).status.success());
    let (cert, key, list) = (path("tls.pem"), path("tls-key.pem"), path("list"));
    let wrong = print(&[
        "--tls-certificate",
        &cert,
        "--tls-private-key",
        &key,
        "--key-blocklist",
        &list,
    ]);
    let told = stderr(&wrong);
    assert_eq!(wrong.status.code(), Some(2), "{told}");
    assert!(
        told.contains("tls_private_key does not belong to tls_certificate"),
        "{told}"
    );
    let swapped = stderr(&print(&["--tls-certificate", &key, "--tls-private-key", &key]));
    assert!(
        swapped.contains("tls-key.pem, which cannot be used: it contains no certificate"),
        "{swapped}"
    );
    assert!(
        told.contains("key_blocklist names ") && told.contains("list, which cannot be used"),
        "{told}"
    );
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = temp_dir();
    let written = std::process::Command::new(CERTKEEP)
        .arg("man")
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(written.status.success(), "{}", stderr(&written));
    let page = std::fs::read_to_string(dir.path().join("certkeep-resource-group-move.1")).unwrap();
    assert!(page.contains("Examples:") && page.contains("Exit codes:"), "{page}");
    assert!(std::fs::read_dir(dir.path()).unwrap().count() > 60);
}
