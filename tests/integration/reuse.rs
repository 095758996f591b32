//! What is told of a pair that the account has already, or whose key it has.

use certkeep::grpc::pb::{self, FindingCode as Code, Severity};
use tonic::Code as Status;

use crate::bad_input::findings;
use crate::calls::{ANY, delete, refusal, stored, undelete, upload};
use crate::harness::{Account, Client, TestServer, upload_of};
use crate::pki::{self, Key};

/// What is told of reuse, each with the last word of its message, which is an id.
fn reuse(findings: &[pb::Finding]) -> Vec<(Code, Severity, String)> {
    let of_reuse = findings
        .iter()
        .filter(|finding| [Code::AlreadyStored, Code::KeyReused].contains(&finding.code()));
    of_reuse
        .map(|finding| {
            let id = finding.message.rsplit(' ').next().unwrap().to_owned();
            (finding.code(), finding.severity(), id)
        })
        .collect()
}

/// What an upload would tell, which a check tells too.
async fn told(client: &Client, request: &pb::UploadServerCertificateRequest) -> Vec<(Code, Severity, String)> {
    let dry = pb::UploadServerCertificateRequest {
        validate_only: true,
        ..request.clone()
    };
    let check = pb::CheckServerCertificateRequest {
        server_certificate: request.server_certificate.clone(),
        private_key: request.private_key.clone(),
    };
    let dry = upload(client, dry).await.unwrap();
    let checked = client
        .clone()
        .check_server_certificate(check)
        .await
        .unwrap()
        .into_inner();
    assert!(checked.accepted);
    assert_eq!(reuse(&dry.findings), reuse(&checked.findings));
    reuse(&dry.findings)
}

#[tokio::test]
async fn the_same_certificate_and_the_same_key_are_told_with_the_others_id() {
    let server = TestServer::start().await;
    let client = server.client();
    let key = Key::P256.make();
    let [one, other, third] = ["one.example", "two.example", "three.example"]
        .map(|name| upload_of(&pki::pair(&key, pki::certificate(&key, name, None))));
    assert_eq!(told(&client, &one).await, []);
    let answer = upload(&client, one.clone()).await.unwrap();
    assert_eq!(reuse(&answer.findings), [], "an upload is not told of itself");
    let first = answer.server_certificate_id;
    let already = |id: &str| (Code::AlreadyStored, Severity::Info, id.to_owned());
    let reused = |id: &str| (Code::KeyReused, Severity::Info, id.to_owned());
    assert_eq!(told(&client, &one).await, [already(&first)]);

    // In another region too. Of several, one is named.
    let elsewhere = pb::UploadServerCertificateRequest {
        region_id: "eu-central-1".into(),
        client_token: "again".into(),
        ..one.clone()
    };
    let answer = upload(&client, elsewhere.clone()).await.unwrap();
    assert_eq!(reuse(&answer.findings), [already(&first)]);
    let second = answer.server_certificate_id;
    let of_leaf = told(&client, &one).await;
    assert!(
        of_leaf == [already(&first)] || of_leaf == [already(&second)],
        "{of_leaf:?}"
    );
    let repeated = upload(&client, elsewhere).await.unwrap();
    assert_eq!(
        (reuse(&repeated.findings), &repeated.server_certificate_id),
        (vec![already(&first)], &second)
    );

    let of_key = told(&client, &other).await;
    assert!(of_key == [reused(&first)] || of_key == [reused(&second)], "{of_key:?}");
    let answer = upload(&client, other.clone()).await.unwrap();
    assert_eq!(reuse(&answer.findings), of_key);
    let different = answer.server_certificate_id;
    assert_eq!(told(&client, &one).await, [of_leaf[0].clone(), reused(&different)]);
    assert_eq!(told(&client, &other).await.len(), 2);
    assert_eq!(told(&client, &third).await.len(), 1);

    // The deleted count no longer, and another account's never did.
    for id in [&first, &different] {
        delete(&client, id, ANY).await.unwrap();
    }
    assert_eq!(told(&client, &one).await, [already(&second)]);
    delete(&client, &second, ANY).await.unwrap();
    assert_eq!(told(&client, &one).await, []);
    undelete(&client, &first, ANY).await.unwrap();
    assert_eq!(told(&client, &one).await, [already(&first)]);
    let strangers = server.client_with(Some(&format!(
        "Bearer {}",
        server.add_key("editor", Account::New).await
    )));
    assert_eq!(told(&strangers, &one).await, []);
    server.stop().await;
}

#[tokio::test]
async fn a_policy_may_refuse_what_is_stored_already_but_no_retry() {
    let server = TestServer::start_with_policy("default,ALREADY_STORED=reject").await;
    let client = server.client();
    let key = Key::P256.make();
    let pair = pki::pair(&key, pki::certificate(&key, "once.example", None));
    let once = pb::UploadServerCertificateRequest {
        client_token: "once".into(),
        ..upload_of(&pair)
    };
    let id = stored(&client, &once).await;
    // It is not told of itself, nor refused for it.
    let repeated = upload(&client, once.clone()).await.unwrap();
    assert_eq!(
        (repeated.server_certificate_id.as_str(), reuse(&repeated.findings)),
        (id.as_str(), vec![])
    );
    let refused = upload(&client, upload_of(&pair)).await;
    let told = findings(refused.as_ref().unwrap_err());
    assert_eq!(
        reuse(&told.findings),
        [(Code::AlreadyStored, Severity::Error, id.clone())]
    );
    let expected = (Status::InvalidArgument, "POLICY_REJECTED".to_owned());
    assert_eq!(refusal(refused), expected);
    let dry = pb::UploadServerCertificateRequest {
        validate_only: true,
        ..upload_of(&pair)
    };
    assert_eq!(refusal(upload(&client, dry).await), expected);
    let check = pb::CheckServerCertificateRequest {
        server_certificate: pair.certificate.clone(),
        private_key: pair.key.clone(),
    };
    let checked = client
        .clone()
        .check_server_certificate(check)
        .await
        .unwrap()
        .into_inner();
    assert!(!checked.accepted);
    assert_eq!(checked.violations[0].reason().name(), "POLICY_REJECTED");
    assert_eq!(server.rows().await[0], 1);
    // The same key is only reported, and once.
    stored(
        &client,
        &upload_of(&pki::pair(&key, pki::certificate(&key, "twice.example", None))),
    )
    .await;
    let repeated = upload(&client, once).await.unwrap();
    let codes: Vec<_> = reuse(&repeated.findings).into_iter().map(|(code, ..)| code).collect();
    assert_eq!(codes, [Code::KeyReused]);
    server.stop().await;
}
