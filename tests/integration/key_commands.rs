//! The commands for access keys, accounts and quotas, and the recovery of lost keys.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::access_keys::audited;
use crate::command_line::{command, run};
use crate::harness::{Account, TestServer, temp_dir};
use crate::process::{CERTKEEP, certkeep, stderr, stdout};

/// Runs a command with this access key.
fn run_as(server: &TestServer, key_file: &Path, args: &[&str]) -> Output {
    let mut command = std::process::Command::new(CERTKEEP);
    command
        .args(args)
        .args(["--endpoint", &server.endpoint(), "--access-key-file"])
        .arg(key_file);
    command.output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn access_keys_have_commands() {
    let server = TestServer::start().await;
    let dir = temp_dir();
    // Standard output has only the line that --access-key-file accepts.
    let line = run(&server, &["access-key", "create", "--role", "reader"]).stdout;
    let reader = dir.path().join("reader.key");
    crate::harness::write_secret(&reader, &line);
    let line = String::from_utf8(line).unwrap();
    assert_eq!(line.lines().count(), 1);
    let caller = run_as(&server, &reader, &["whoami"]);
    assert!(
        stdout(&caller).contains("role          reader\n"),
        "{}",
        stderr(&caller)
    );

    let file = dir.path().join("shop.key");
    let path = file.to_str().unwrap();
    let create = [
        "access-key",
        "create",
        "--role",
        "admin",
        "--scope-region",
        "cn-hangzhou",
        "--scope-name-prefix",
        "shop-",
        "--description",
        "shop's deploys",
        "--expires-in",
        "30d",
        "--secret-file",
        path,
    ];
    let shown = stdout(&run(&server, &create));
    let (id, secret) = {
        let text = std::fs::read_to_string(&file).unwrap();
        let (id, secret) = text.trim_end().split_once('.').unwrap();
        (id.to_owned(), secret.to_owned())
    };
    assert_eq!(mode(&file), 0o600);
    assert!(!shown.contains(&secret));
    for part in [
        format!("access key    {id}\nrole          admin\nstate         enabled\n"),
        "scope         regions cn-hangzhou; names shop-\ndescription   shop's deploys\n".to_owned(),
        format!("written to    {path}\n"),
    ] {
        assert!(shown.contains(&part), "{part} in {shown}");
    }
    let caller = stdout(&run_as(&server, &file, &["whoami"]));
    assert!(
        caller.contains("scope         regions cn-hangzhou; names shop-\nexpires       20"),
        "{caller}"
    );
    // A file that exists is kept, and no key is created.
    let refused = command(&server, &create).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("exists: name a new file"),
        "{}",
        stderr(&refused)
    );

    let listed = stdout(&run(&server, &["access-key", "list"]));
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(
        words(lines[0]),
        ["DESCRIPTION", "ROLE", "STATE", "EXPIRES", "LAST", "USE", "ID"]
    );
    assert_eq!(lines.len(), 4);
    let one = stdout(&run(&server, &["access-key", "list", "--role", "reader"]));
    assert_eq!(
        words(one.lines().nth(1).unwrap()).last().copied(),
        line.split('.').next()
    );
    let unused = run(&server, &["access-key", "list", "--unused", "30", "--output", "json"]);
    assert_eq!(json(&unused)["accessKeys"], serde_json::json!([]));

    let update = [
        "access-key",
        "update",
        &id,
        "--description",
        "",
        "--no-expiry",
        "--output",
        "json",
    ];
    let updated = json(&run(&server, &update));
    assert_eq!(
        (
            &updated["accessKey"]["description"],
            &updated["accessKey"]["expireTime"]
        ),
        (&Value::from(""), &Value::Null)
    );
    let nothing = command(&server, &["access-key", "update", &id]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
    let enabled = command(&server, &["access-key", "delete", &id]).output().unwrap();
    assert!(stderr(&enabled).contains("ACCESS_KEY_ENABLED"), "{}", stderr(&enabled));
    assert!(stdout(&run(&server, &["access-key", "disable", &id])).contains("state         disabled\n"));
    assert!(stdout(&run(&server, &["access-key", "enable", &id])).contains("state         enabled\n"));
    run(&server, &["access-key", "disable", &id]);
    assert_eq!(
        stdout(&run(&server, &["access-key", "delete", &id])),
        format!("deleted       {id}\n")
    );
    let own = server.admin_key().split_once('.').unwrap().0;
    let last = command(&server, &["access-key", "disable", own]).output().unwrap();
    assert_eq!(last.status.code(), Some(1));
    assert!(stderr(&last).contains("LAST_ADMIN_KEY"), "{}", stderr(&last));
    let wrong = [
        "access-key",
        "create",
        "--role",
        "editor",
        "--scope-region",
        "mars-1",
        "--description",
        &"x".repeat(201),
    ];
    let wrong = command(&server, &wrong).output().unwrap();
    for part in ["--scope-region", "--description", "REGION_NOT_FOUND"] {
        assert!(stderr(&wrong).contains(part), "{part} in {}", stderr(&wrong));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_quotas_have_commands() {
    let server = TestServer::start().await;
    let dir = temp_dir();
    let operator = dir.path().join("operator.key");
    crate::harness::write_secret(&operator, server.add_key("operator", Account::Operators).await);
    let run = |args: &[&str]| {
        let output = run_as(&server, &operator, args);
        assert!(output.status.success(), "{}", stderr(&output));
        output
    };
    let file = dir.path().join("shop.key");
    let path = file.to_str().unwrap();
    let created = json(&run(&[
        "account",
        "create",
        "shop",
        "--secret-file",
        path,
        "--output",
        "json",
    ]));
    let id = created["account"]["accountId"].as_str().unwrap().to_owned();
    assert_eq!((mode(&file), created["secret"].as_str()), (0o600, Some("")));
    let caller = stdout(&run_as(&server, &file, &["whoami"]));
    assert!(caller.contains(&format!("account       {id}\n")), "{caller}");

    let listed = stdout(&run(&["account", "list"]));
    assert_eq!(words(listed.lines().last().unwrap())[..3], ["shop", "enabled", "0"]);
    let renamed = stdout(&run(&["account", "rename", &id, "store"]));
    assert_eq!(
        renamed,
        format!("account       {id}\nname          store\nstate         enabled\n")
    );
    assert!(stdout(&run(&["account", "disable", &id])).ends_with("state         disabled\n"));
    assert!(stdout(&run(&["account", "enable", &id])).ends_with("state         enabled\n"));
    let line = stdout(&run(&["account", "admin-key", &id, "--description", "ticket 7"]));
    let second = dir.path().join("second.key");
    crate::harness::write_secret(&second, &line);
    let keys = stdout(&run_as(&server, &second, &["access-key", "list"]));
    assert!(keys.lines().last().unwrap().starts_with("ticket 7 "), "{keys}");

    let set = stdout(&run(&[
        "quota",
        "set",
        "--account",
        &id,
        "server-certificates",
        "20000",
    ]));
    assert_eq!(
        words(set.lines().last().unwrap()),
        ["server-certificates", "20000", "operator"]
    );
    let of_account = stdout(&run(&["quota", "list", "--account", &id]));
    let own = stdout(&run_as(&server, &second, &["quota", "list"]));
    assert_eq!(of_account, own);
    let lines: Vec<_> = own.lines().map(words).collect();
    assert_eq!(lines[0], ["QUOTA", "REGION", "USED", "MAXIMUM", "SET", "BY"]);
    assert_eq!(lines[3], ["access-keys", "2", "1000", "default"]);
    let reset = stdout(&run(&["quota", "reset", "--account", &id, "server-certificates"]));
    assert_eq!(
        words(reset.lines().last().unwrap()),
        ["server-certificates", "10000", "default"]
    );
    let denied = run_as(&server, &second, &["account", "list"]);
    assert!(
        stderr(&denied).contains("the call needs the role operator"),
        "{}",
        stderr(&denied)
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_the_key_ring_recovers_lost_keys() {
    let server = TestServer::start().await;
    let dir = server.data_dir().to_str().unwrap().to_owned();
    let bootstrap = |args: &[&str]| {
        let database = ["bootstrap", "--data-dir", &dir, "--database-url", server.database()];
        certkeep(&[&database[..], args].concat())
    };
    // The file of the first key is kept.
    let refused = bootstrap(&["--recover"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("admin.key exists: name a new file with --secret-file"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(
        std::fs::read_to_string(server.admin_key_file()).unwrap().trim(),
        server.admin_key()
    );

    let sql = server.sql().await;
    sql.batch_execute("update access_key set disabled = true")
        .await
        .unwrap();
    let files = temp_dir();
    let key_file = |name: &str| files.path().join(name);
    for (args, file, role) in [
        (&["--recover"][..], "one.key", "admin"),
        (&["--recover", "--account", "default"], "two.key", "admin"),
        (&["--operator"], "three.key", "operator"),
    ] {
        let file = key_file(file);
        let made = bootstrap(&[args, &["--secret-file", file.to_str().unwrap()]].concat());
        assert!(made.status.success(), "{}", stderr(&made));
        assert_eq!(mode(&file), 0o600);
        let text = std::fs::read_to_string(&file).unwrap();
        let (id, secret) = text.trim_end().split_once('.').unwrap();
        assert!(stdout(&made).contains(id));
        assert!(!stdout(&made).contains(secret) && !stderr(&made).contains(secret));
        let caller = stdout(&run_as(&server, &file, &["whoami"]));
        assert!(caller.contains(&format!("role          {role}\n")), "{caller}");
        // The service itself did it, in the trail of the account and in that of the operators.
        let events = audited(&server, id).await;
        assert_eq!(events.len(), if role == "admin" { 2 } else { 1 });
        for (method, principal, address, detail) in events {
            assert_eq!(
                (method.as_str(), principal.as_str(), address.as_str()),
                ("bootstrap", "", "")
            );
            assert_eq!(detail["role"], serde_json::json!([null, role]));
            assert!(!detail.to_string().contains(secret));
        }
    }
    let operator = server.data_dir().join("operator.key");
    assert!(bootstrap(&["--operator"]).status.success() && operator.exists());

    let keys = "select count(*) from access_key";
    let before: i64 = sql.query_one(keys, &[]).await.unwrap().get(0);
    let new_file = key_file("four.key");
    let to_new_file = ["--recover", "--secret-file", new_file.to_str().unwrap()];
    let unknown = bootstrap(&[&to_new_file[..], &["--account", "unknown"]].concat());
    assert!(
        stderr(&unknown).contains("there is no account unknown"),
        "{}",
        stderr(&unknown)
    );
    // Another ring, and no ring at all.
    let ring = server.key_ring_file();
    let kept = std::fs::read(&ring).unwrap();
    std::fs::write(&ring, format!("{} {}\n", "ab".repeat(8), "cd".repeat(32))).unwrap();
    let wrong = bootstrap(&to_new_file);
    assert!(stderr(&wrong).contains("key ring"), "{}", stderr(&wrong));
    std::fs::remove_file(&ring).unwrap();
    let none = bootstrap(&to_new_file);
    assert!(!wrong.status.success() && !none.status.success());
    std::fs::write(&ring, kept).unwrap();
    assert!(!new_file.exists());
    assert_eq!(sql.query_one(keys, &[]).await.unwrap().get::<_, i64>(0), before);
    let both = bootstrap(&["--recover", "--operator"]);
    assert_eq!(both.status.code(), Some(2));
    server.stop().await;
}
