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
        let left = format!("(in {} days)", days - 1);
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
    assert_eq!(lines[0], ["ID", "KEY", "VALUE"]);
    assert_eq!(
        lines[1..],
        [
            vec![&id[..], "env"],
            vec![&id, "team", "shop"],
            vec![&other, "team", "shop"]
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
        .map(|line| line.split_whitespace().last().unwrap())
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
        "error: the new certificate does not cover 2 of the names of the present one; ErrorInfo lists them; \
         set allow_lost_names to renew all the same\n  \
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
