//! Every method of the schema, called with every role and with every kind of access key that is refused.

use certkeep::grpc::DESCRIPTORS;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tonic::client::Grpc;

use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::bad_input::reason;
use crate::harness::{Account, TestServer, bearer};

const ROLES: [&str; 5] = ["reader", "editor", "consumer", "admin", "operator"];

/// The roles that may call a method: the first letters of their names.
const EXPECTED: &[(&str, &str)] = &[
    ("BindServerCertificate", "c"),
    ("CheckServerCertificate", "ea"),
    ("CreateAccessKey", "ao"),
    ("CreateAccount", "o"),
    ("CreateAccountAdminKey", "o"),
    ("CreateClientIdentity", "o"),
    ("CreateResourceGroup", "a"),
    ("DeleteAccessKey", "ao"),
    ("DeleteCACertificate", "ea"),
    ("DeleteClientIdentity", "o"),
    ("DeleteResourceGroup", "a"),
    ("DeleteServerCertificate", "ea"),
    ("DeltaSecrets", "c"),
    ("DescribeAccountQuotas", "o"),
    ("DescribeCACertificates", "rea"),
    ("DescribeCaller", "recao"),
    ("DescribeKeyRing", "o"),
    ("DescribeQuotas", "ao"),
    ("DescribeRegions", "rea"),
    ("DescribeServerCertificates", "rea"),
    ("FetchSecrets", "c"),
    ("GetCACertificate", "rea"),
    ("GetKeyPair", "c"),
    ("GetServerCertificate", "rea"),
    ("ListAccessKeys", "ao"),
    ("ListAccountFingerprints", "rea"),
    ("ListAccounts", "o"),
    ("ListAuditEvents", "ao"),
    ("ListClientIdentities", "o"),
    ("ListLeases", "reca"),
    ("ListResourceGroups", "a"),
    ("ListServerCertificateVersions", "rea"),
    ("ListTagResources", "rea"),
    ("MoveResourceGroup", "ea"),
    ("PurgeCACertificate", "a"),
    ("PurgeServerCertificate", "a"),
    ("ReleaseServerCertificate", "c"),
    ("RenewLeases", "c"),
    ("RenewServerCertificate", "ea"),
    ("RetireKeyEncryptionKey", "o"),
    ("RollbackServerCertificate", "ea"),
    ("RotateKeyRing", "o"),
    ("SearchServerCertificates", "rea"),
    ("SetCACertificateName", "ea"),
    ("SetServerCertificateName", "ea"),
    ("StreamSecrets", "c"),
    ("TagResources", "ea"),
    ("TailAuditEvents", "ao"),
    ("UndeleteCACertificate", "ea"),
    ("UndeleteServerCertificate", "ea"),
    ("UntagResources", "ea"),
    ("UpdateAccessKey", "ao"),
    ("UpdateAccount", "o"),
    ("UpdateQuota", "o"),
    ("UpdateResourceGroup", "a"),
    ("UploadCACertificate", "ea"),
    ("UploadServerCertificate", "ea"),
    ("VerifyAuditTrail", "ao"),
    ("VerifyKeyRing", "o"),
    ("WatchServerCertificates", "reca"),
];

fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let services: Vec<_> = pool.services().collect();
    services
        .iter()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect()
}

/// Calls the method with an empty request. A stream is called until its first message.
async fn call(server: &TestServer, method: &MethodDescriptor, key: &str) -> Result<(), Status> {
    let channel = tonic::service::interceptor::InterceptedService::new(server.channel(), bearer(key));
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let (request, path) = (Request::new(()), path.parse().unwrap());
    // An empty message is the request of each method, and every answer can be read as one.
    let codec = ProstCodec::<(), ()>::default();
    if method.is_server_streaming() {
        let mut stream = client.server_streaming(request, path, codec).await?.into_inner();
        let first = tokio::time::timeout(std::time::Duration::from_secs(2), stream.message()).await;
        first.map_or(Ok(()), |message| message.map(|_| ()))
    } else {
        client.unary(request, path, codec).await.map(|_| ())
    }
}

fn code_and_reason(answer: Result<(), Status>) -> (Code, String) {
    answer.map_or_else(
        |refused| (refused.code(), reason(&refused)),
        |()| (Code::Ok, String::new()),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_call_its_own_methods_only() {
    let server = TestServer::start().await;
    let methods = methods();
    let names: Vec<_> = methods.iter().map(|method| method.name().to_owned()).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(
        sorted,
        EXPECTED.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "say who may call each method"
    );
    for role in ROLES {
        let account = if role == "operator" {
            Account::Operators
        } else {
            Account::First
        };
        let key = server.add_key(role, account).await;
        for method in &methods {
            let (_, roles) = EXPECTED.iter().find(|(name, _)| *name == method.name()).unwrap();
            let (code, reason) = code_and_reason(call(&server, method, &key).await);
            let is_denied = code == Code::PermissionDenied && reason == "PERMISSION_DENIED";
            assert_eq!(
                is_denied,
                !roles.contains(&role[..1]),
                "{role} calls {}: {code:?} {reason}",
                method.name()
            );
            // An empty request is refused for its fields, if at all. Nothing fails inside.
            let is_expected = matches!(
                code,
                Code::Ok | Code::PermissionDenied | Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition
            );
            assert!(is_expected, "{role} calls {}: {code:?} {reason}", method.name());
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_method_answers_a_key_that_is_refused() {
    let server = TestServer::start().await;
    let sql = server.sql().await;
    let methods = methods();
    for (column, expected) in [
        ("disabled = true", "ACCESS_KEY_DISABLED"),
        ("expires_at = now() - interval '1 second'", "ACCESS_KEY_EXPIRED"),
        ("secret_sha256 = sha256('other')", "UNAUTHENTICATED"),
    ] {
        for (role, account) in [("admin", Account::First), ("operator", Account::Operators)] {
            let key = server.add_key(role, account).await;
            let (id, _) = key.split_once('.').unwrap();
            let set = format!("update access_key set {column} where access_key_id = $1");
            assert_eq!(sql.execute(&set, &[&id]).await.unwrap(), 1);
            for method in &methods {
                let answer = code_and_reason(call(&server, method, &key).await);
                assert_eq!(
                    answer,
                    (Code::Unauthenticated, expected.to_owned()),
                    "{}",
                    method.name()
                );
            }
        }
    }
    server.stop().await;
}
