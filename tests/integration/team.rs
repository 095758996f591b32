//! The story of a team with grpcurl: an operator makes its account, its admin makes keys, the team uses, rotates, disables and deletes them,
//! and the audit trail tells all of it.

use std::process::Command;

use serde_json::{Value, json};

use crate::external::{run, text, tool};
use crate::harness::{Account, REGION, TestServer, until};
use crate::pki::{self, Key};

/// Calls of one server with grpcurl.
struct Grpcurl {
    address: String,
}

impl Grpcurl {
    /// The answer, or the status of the error with its details.
    async fn try_call(&self, key: &str, method: &str, request: &Value) -> Result<Value, String> {
        let mut command = Command::new(tool("bin/grpcurl"));
        // As the documents do, so that `ps` does not show the key.
        command.env("ADMIN_KEY", key).args([
            "-plaintext",
            "-expand-headers",
            "-H",
            "authorization: Bearer ${ADMIN_KEY}",
            "-d",
            &request.to_string(),
        ]);
        command.args([&self.address, &format!("certkeep.v1.{method}")]);
        let output = run(command).await;
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            false => Err(text(&output.stderr)),
        }
    }

    async fn call(&self, key: &str, method: &str, request: Value) -> Value {
        let answer = self.try_call(key, method, &request).await;
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The error must have this reason.
    async fn refused(&self, key: &str, method: &str, request: Value, reason: &str) {
        let error = self.try_call(key, method, &request).await.unwrap_err();
        assert!(
            error.contains(&format!("\"reason\": \"{reason}\"")),
            "{method}: {reason} in {error}"
        );
    }

    /// A new access key, `<id>.<secret>`.
    async fn new_key(&self, admin: &str, request: Value) -> String {
        key_of(&self.call(admin, "AdminService/CreateAccessKey", request).await)
    }
}

fn key_of(answer: &Value) -> String {
    let id = answer["accessKey"]["accessKeyId"].as_str().unwrap();
    format!("{id}.{}", answer["secret"].as_str().unwrap())
}

fn id_of(key: &str) -> &str {
    key.split_once('.').unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_lives_with_its_access_keys() {
    let server = TestServer::start().await;
    let grpcurl = Grpcurl {
        address: server.address().to_string(),
    };
    let operator = server.add_key("operator", Account::Operators).await;

    // The operator makes the account and never sees a certificate.
    let made = grpcurl
        .call(&operator, "OperatorService/CreateAccount", json!({"name": "shop"}))
        .await;
    let (account, admin) = (made["account"]["accountId"].as_str().unwrap(), key_of(&made));
    grpcurl
        .refused(
            &operator,
            "CertificateService/DescribeServerCertificates",
            json!({}),
            "PERMISSION_DENIED",
        )
        .await;

    // The admin makes keys for the team.
    let of_team = json!({"role": "ROLE_EDITOR", "scope": {"name_prefixes": ["shop-"]}, "description": "pipeline"});
    let pipeline = grpcurl.new_key(&admin, of_team.clone()).await;
    let monitor = grpcurl.new_key(&admin, json!({"role": "ROLE_READER"})).await;

    // They do their work, and no more.
    let upload = |name: &str| {
        let pair = pki::issued(Key::P256, "shop.example");
        json!({
            "region_id": REGION, "server_certificate": pair.certificate, "private_key": pair.key,
            "server_certificate_name": name,
        })
    };
    let uploaded = grpcurl
        .call(
            &pipeline,
            "CertificateService/UploadServerCertificate",
            upload("shop-www"),
        )
        .await;
    assert_eq!(uploaded["commonName"], "shop.example");
    grpcurl
        .call(&admin, "CertificateService/UploadServerCertificate", upload("pay-www"))
        .await;
    grpcurl
        .refused(
            &pipeline,
            "CertificateService/UploadServerCertificate",
            upload("pay-api"),
            "OUT_OF_SCOPE",
        )
        .await;
    grpcurl
        .refused(
            &monitor,
            "CertificateService/UploadServerCertificate",
            upload("shop-x"),
            "PERMISSION_DENIED",
        )
        .await;
    let names = async |key: &str| {
        let seen = grpcurl
            .call(key, "CertificateService/DescribeServerCertificates", json!({}))
            .await;
        let seen = seen["serverCertificates"].as_array().unwrap().clone();
        seen.iter()
            .map(|seen| seen["serverCertificateName"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&monitor).await, ["shop-www", "pay-www"]);
    assert_eq!(names(&pipeline).await, ["shop-www"]);

    // Rotation: a second key, then the first one is disabled and deleted.
    let next = grpcurl.new_key(&admin, of_team).await;
    assert_eq!(names(&next).await, ["shop-www"]);
    let old = json!({"access_key_id": id_of(&pipeline)});
    grpcurl
        .refused(
            &admin,
            "AdminService/DeleteAccessKey",
            old.clone(),
            "ACCESS_KEY_ENABLED",
        )
        .await;
    let disable = json!({"access_key_id": id_of(&pipeline), "disabled": true});
    grpcurl.call(&admin, "AdminService/UpdateAccessKey", disable).await;
    until(async || {
        let answer = grpcurl
            .try_call(&pipeline, "CertificateService/DescribeServerCertificates", &json!({}))
            .await;
        answer.is_err_and(|error| error.contains("ACCESS_KEY_DISABLED"))
    })
    .await;
    grpcurl.call(&admin, "AdminService/DeleteAccessKey", old).await;
    assert_eq!(names(&next).await, ["shop-www"]);

    // The last admin key cannot be locked out.
    let last = json!({"access_key_id": id_of(&admin), "disabled": true});
    grpcurl
        .refused(&admin, "AdminService/UpdateAccessKey", last, "LAST_ADMIN_KEY")
        .await;

    // The audit trail has all of it, and is whole.
    until(async || {
        let listed = grpcurl.call(&admin, "AdminService/ListAuditEvents", json!({})).await;
        let events = listed["auditEvents"].as_array().unwrap().clone();
        let of = |method: &str, outcome: &str| {
            events
                .iter()
                .filter(|event| event["method"] == method && event["outcome"] == format!("AUDIT_OUTCOME_{outcome}"))
                .count()
        };
        let found = [
            of("CreateAccount", "DONE"),
            of("CreateAccessKey", "DONE"),
            of("UpdateAccessKey", "DONE"),
            of("DeleteAccessKey", "DONE"),
            of("UploadServerCertificate", "DONE"),
            of("UploadServerCertificate", "DENIED"),
        ];
        found == [1, 3, 1, 1, 2, 2]
    })
    .await;

    // The operator disables the account: every key is refused.
    let disable = json!({"account_id": account, "disabled": true});
    grpcurl.call(&operator, "OperatorService/UpdateAccount", disable).await;
    for key in [&admin, &next, &monitor] {
        until(async || {
            let answer = grpcurl.try_call(key, "AdminService/DescribeCaller", &json!({})).await;
            answer.is_err_and(|error| error.contains("ACCOUNT_DISABLED"))
        })
        .await;
    }
    server.stop().await;
}
