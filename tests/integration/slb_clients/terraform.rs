//! The calls of Terraform's provider for Alibaba Cloud, by its client. The provider itself cannot be had from Go's module proxy.
//! `resource_alicloud_slb_server_certificate.go`, `resource_alicloud_slb_ca_certificate.go` and `service_alicloud_slb.go` of the provider
//! have the order of the calls, and their tests have the kinds of certificates.

use std::time::Duration;

use certkeep::grpc::pb;
use certkeep::grpc::pb::delivery_service_client::DeliveryServiceClient;
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::x509::X509Name;
use openssl::x509::extension::BasicConstraints;
use serde_json::{Value, json};

use super::{Client, GO, Program, assert_shared, authority, item, start, upload};
use crate::harness::{Account, REGION, bearer};
use crate::pki::{self, Key, Pair};
use crate::slb::SlbCaller;

/// The provider: the typed client for server certificates, a form for CA certificates and for reading tags.
struct Provider {
    program: Program,
    caller: SlbCaller,
}

impl Provider {
    fn new(caller: SlbCaller) -> Self {
        Self {
            program: Program::start(&GO),
            caller,
        }
    }

    fn client(&mut self, style: &'static str) -> Client<'_> {
        Client {
            program: &mut self.program,
            style,
            caller: self.caller.clone(),
        }
    }

    fn typed(&mut self, action: &str, parameters: &Value) -> Value {
        self.client("go").call(action, parameters)
    }

    fn form(&mut self, action: &str, parameters: &Value) -> Value {
        self.client("go-form").call(action, parameters)
    }

    /// It reads the tags first. No certificate, or another one in the first place, means that the certificate is gone.
    fn read(&mut self, id: &str) -> Option<(Value, Vec<(String, String)>)> {
        let of_this = json!({"RegionId": REGION, "ResourceType": "certificate", "ResourceId": [id]});
        let listed = self.form("ListTagResources", &of_this);
        let text = |tag: &Value, name: &str| tag[name].as_str().unwrap().to_owned();
        let tags = listed["TagResources"]["TagResource"]
            .as_array()
            .expect("the list is there, even if it is empty");
        let mut tags: Vec<_> = tags
            .iter()
            .map(|tag| (text(tag, "TagKey"), text(tag, "TagValue")))
            .collect();
        tags.sort();
        let described = self.typed(
            "DescribeServerCertificates",
            &json!({"RegionId": REGION, "ServerCertificateId": id}),
        );
        let first = item(&described, "ServerCertificates", "ServerCertificate")
            .into_iter()
            .next()?;
        (first["ServerCertificateId"] == id).then_some((first, tags))
    }

    /// Uploads, then adds the tags in a second call, then reads.
    fn create(&mut self, pair: &Pair, name: &str, tags: &[(&str, &str)]) -> (String, Value) {
        let created = self.typed("UploadServerCertificate", &upload(pair, name));
        let id = created["ServerCertificateId"].as_str().unwrap().to_owned();
        if !tags.is_empty() {
            self.tag(&id, tags);
        }
        let (read, told) = self.read(&id).unwrap();
        let tags: Vec<_> = tags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(told, tags);
        assert_eq!(read["ServerCertificateName"], name);
        assert_shared(&created, &read, 14);
        (id, read)
    }

    fn tag(&mut self, id: &str, tags: &[(&str, &str)]) {
        let tags: Vec<_> = tags
            .iter()
            .map(|(key, value)| json!({"Key": key, "Value": value}))
            .collect();
        let request = json!({"RegionId": REGION, "ResourceType": "certificate", "ResourceId": [id], "Tag": tags});
        self.typed("TagResources", &request);
    }

    /// Deletes again while the certificate is in use, and then reads until the certificate is gone. The number of refusals.
    fn delete(&mut self, id: &str, mut release: impl FnMut()) -> usize {
        let of_this = json!({"RegionId": REGION, "ServerCertificateId": id});
        let mut refusals = 0;
        loop {
            let answer = self.client("go").ask("DeleteServerCertificate", &of_this);
            if answer.0["error"]["code"] != "CertificateAndPrivateKeyIsRefered" {
                answer.ok();
                break;
            }
            refusals += 1;
            assert!(refusals < 100, "the certificate is in use for ever");
            release();
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(self.read(id), None);
        refusals
    }

    /// The form of the CA certificate: upload, tags, read.
    fn read_ca(&mut self, id: &str) -> Option<Value> {
        let described = self.form(
            "DescribeCACertificates",
            &json!({"RegionId": REGION, "CACertificateId": id}),
        );
        let list = described["CACertificates"]["CACertificate"]
            .as_array()
            .expect("the list is there, even if it is empty");
        list.first().filter(|first| first["CACertificateId"] == id).cloned()
    }
}

/// Certificates of the kinds that the provider's tests upload, without a newline at their ends.
fn kinds() -> Vec<(&'static str, Pair)> {
    let key = Key::Rsa(1024).make();
    let mut builder = pki::builder(&key, "old.example");
    builder.set_issuer_name(&pki::subject("old.example")).unwrap();
    builder
        .append_extension(BasicConstraints::new().ca().build().unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::from_unix(1_732_000_000).unwrap())
        .unwrap();
    builder.sign(&key, MessageDigest::sha1()).unwrap();
    let expired = pki::pair(&key, builder.build());

    let key = Key::Rsa(2048).make();
    let mut builder = pki::builder(&key, "unused");
    let mut organization = X509Name::builder().unwrap();
    organization.append_entry_by_text("O", "ALI").unwrap();
    let organization = organization.build();
    builder.set_subject_name(&organization).unwrap();
    builder.set_issuer_name(&organization).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let nameless = pki::pair(&key, builder.build());

    let mut kinds = vec![
        ("tf-testAcc-expired-rsa-1024-sha-1-ca", expired),
        ("tf-testAcc-without-a-common-name", nameless),
        ("tf-testAcc-self-signed", pki::self_signed(Key::P256, "tf.example")),
        ("tf-testAcc-chain", pki::issued(Key::Rsa(2048), "chain.example")),
    ];
    for (_, pair) in &mut kinds {
        pair.certificate.truncate(pair.certificate.trim_end().len());
        pair.key.truncate(pair.key.trim_end().len());
    }
    kinds
}

fn server_certificates(provider: &mut Provider) {
    for (name, pair) in kinds() {
        let (id, read) = provider.create(&pair, name, &[("Created", "TF"), ("For", "acceptance test 接受")]);
        assert_ne!(read["ResourceGroupId"], "");
        let not_after = pair.x509.not_after().to_string();
        assert_ne!(read["ExpireTime"], "", "{not_after}");
        assert!(read["CreateTimeStamp"].as_i64().unwrap() > 1_700_000_000_000);
        assert_eq!(read["Fingerprint"].as_str().unwrap().len(), 59);
        let common_name = pair
            .x509
            .subject_name()
            .entries_by_nid(openssl::nid::Nid::COMMONNAME)
            .next();
        let common_name = common_name.map(|entry| entry.data().to_string().unwrap());
        assert_eq!(read["CommonName"], common_name.unwrap_or_default());

        // An update removes the tags that are gone or changed, adds the new ones, renames, and reads.
        let resource =
            json!({"RegionId": REGION, "ResourceType": "certificate", "ResourceId": [id], "TagKey": ["For"]});
        provider.typed("UntagResources", &resource);
        provider.tag(&id, &[("For", "update")]);
        let renamed = format!("{name}-update");
        let rename = json!({"RegionId": REGION, "ServerCertificateId": id, "ServerCertificateName": renamed});
        provider.typed("SetServerCertificateName", &rename);
        let (read, tags) = provider.read(&id).unwrap();
        assert_eq!(read["ServerCertificateName"], renamed);
        assert_eq!(
            tags,
            [
                ("Created".to_owned(), "TF".to_owned()),
                ("For".to_owned(), "update".to_owned())
            ]
        );
        assert_eq!(provider.delete(&id, || ()), 0);
        // A second delete: not found means done.
        let again = json!({"RegionId": REGION, "ServerCertificateId": id});
        let told = provider.client("go").ask("DeleteServerCertificate", &again).error();
        assert_eq!(told.1, "ServerCertificateId.NotFound");
    }
}

fn ca_certificates(provider: &mut Provider) {
    let root = pki::root("tf root");
    // Ten identical certificates of one name, at the same time.
    let request = json!({"RegionId": REGION, "CACertificate": root.certificate.trim_end(), "CACertificateName": "tf-testAccSlbCACertificate"});
    let client = provider.client("go-form");
    let calls: Vec<_> = (0..10).map(|_| client.of("UploadCACertificate", &request)).collect();
    let uploaded: Vec<_> = client.program.ask(&calls).into_iter().map(super::Answer::ok).collect();
    let ids: std::collections::BTreeSet<_> = uploaded
        .iter()
        .map(|one| one["CACertificateId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 10);
    for id in ids {
        let tags = json!({"RegionId": REGION, "ResourceType": "certificate", "ResourceId.1": id, "Tag.1.Key": "Created", "Tag.1.Value": "TF"});
        provider.form("TagResources", &tags);
        let read = provider.read_ca(id).unwrap();
        assert_eq!(read["CACertificateName"], "tf-testAccSlbCACertificate");
        assert_eq!(read["Tags"]["Tag"], json!([{"TagKey": "Created", "TagValue": "TF"}]));
        assert_ne!(read["ResourceGroupId"], "");
        let rename =
            json!({"RegionId": REGION, "CACertificateId": id, "CACertificateName": "tf-testAccSlbCACertificateUpdate"});
        provider.form("SetCACertificateName", &rename);
        assert_eq!(
            provider.read_ca(id).unwrap()["CACertificateName"],
            "tf-testAccSlbCACertificateUpdate"
        );
        let of_this = json!({"RegionId": REGION, "CACertificateId": id});
        provider.form("DeleteCACertificate", &of_this);
        assert_eq!(provider.read_ca(id), None);
        let told = provider.client("go-form").ask("DeleteCACertificate", &of_this).error();
        assert_eq!(told.1, "CACertificateId.NotFound");
    }
    // The provider's test takes one of its expired, self-signed server certificates for the certificate of an authority.
    let key = Key::Rsa(1024).make();
    let old = pki::pem(&authority(&key, "old root", None));
    let request = json!({"RegionId": REGION, "CACertificate": old.trim_end()});
    let id = provider.form("UploadCACertificate", &request)["CACertificateId"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(provider.read_ca(&id).unwrap()["CommonName"], "old root");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calls_of_terraforms_provider() {
    let (server, caller) = start(|_| {}).await;
    let consumer = server.add_key("consumer", Account::First).await;
    let delivery = DeliveryServiceClient::with_interceptor(server.channel(), bearer(&consumer));
    let runtime = tokio::runtime::Handle::current();
    let run = move || {
        let mut provider = Provider::new(caller);
        server_certificates(&mut provider);
        ca_certificates(&mut provider);
        // A certificate in use: its deletion waits for the holder.
        let (id, _) = provider.create(&pki::self_signed(Key::P256, "in-use.example"), "in-use", &[]);
        let lease = pb::BindServerCertificateRequest {
            server_certificate_id: id.clone(),
            holder: "proxy".into(),
            ..Default::default()
        };
        runtime
            .block_on(delivery.clone().bind_server_certificate(lease))
            .unwrap();
        let refusals = provider.delete(&id, || {
            let release = pb::ReleaseServerCertificateRequest {
                holder: "proxy".into(),
                all: true,
                ..Default::default()
            };
            runtime
                .block_on(delivery.clone().release_server_certificate(release))
                .unwrap();
        });
        assert_eq!(refusals, 1);
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}
