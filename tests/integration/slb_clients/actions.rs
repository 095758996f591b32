//! All thirteen actions.

use serde_json::{Value, json};

use super::{Client, GO, PYTHON, Program, assert_shared, authority, each_client, item, start, upload};
use crate::harness::REGION;
use crate::pki::{self, Key, Pair};
use crate::resource_groups;

/// A tag that has all characters that the clients encode in different ways.
const KEY: &str = "键 a+b*c~d'()!";
const VALUE: &str = "值 +*~ e/=&%25;:@é";

/// A pair of an RSA key with 4,096 bits and four certificates. Its URL is longer than 11 KB.
fn long_pair() -> Pair {
    let [key, issuer_key] = std::thread::scope(|scope| {
        [0; 2]
            .map(|_| scope.spawn(|| Key::Rsa(4096).make()))
            .map(|thread| thread.join().unwrap())
    });
    let root = authority(&issuer_key, "Test Root", None);
    let upper = authority(&issuer_key, "Upper Test CA", Some((&root, &issuer_key)));
    let middle = authority(&issuer_key, "Middle Test CA", Some((&upper, &issuer_key)));
    let issuer = authority(&issuer_key, "Test CA", Some((&middle, &issuer_key)));
    let mut pair = pki::pair(
        &key,
        pki::certificate(&key, "long.example", Some((&issuer, &issuer_key))),
    );
    for certificate in [issuer, middle, upper] {
        pair.certificate.push_str(&pki::pem(&certificate));
    }
    let texts = format!("{}{}", pair.certificate, pair.key);
    let encoded = percent_encoding::utf8_percent_encode(&texts, percent_encoding::NON_ALPHANUMERIC).to_string();
    assert!(encoded.len() > 11_000, "{}", encoded.len());
    pair
}

fn tags(certificate: &Value) -> Vec<Value> {
    item(certificate, "Tags", "Tag")
}

/// Uploads, reads, renames, tags, moves and deletes a server certificate.
fn server_certificate(client: &mut Client<'_>, pair: &Pair, group: &str) {
    let style = client.style;
    let name = format!("证书-{style}_*.é/1");
    let mut request = upload(pair, &name);
    request["Tag"] = json!([{"Key": KEY, "Value": VALUE}, {"Key": "style", "Value": style}]);
    let uploaded = client.call("UploadServerCertificate", &request);
    let id = uploaded["ServerCertificateId"].as_str().unwrap().to_owned();
    let sha1 = pair.x509.digest(openssl::hash::MessageDigest::sha1()).unwrap();
    let fingerprint = hex::encode(sha1)
        .as_bytes()
        .chunks(2)
        .map(String::from_utf8_lossy)
        .collect::<Vec<_>>()
        .join(":");
    assert_eq!(uploaded["ServerCertificateName"], name, "{style}");
    assert_eq!(uploaded["Fingerprint"], fingerprint);
    assert_eq!(uploaded["CommonName"], "long.example");
    assert_eq!(
        item(&uploaded, "SubjectAlternativeNames", "SubjectAlternativeName"),
        ["long.example", "www.long.example"]
    );
    assert_eq!(uploaded["RegionId"], REGION);
    assert_eq!(uploaded["IsAliCloudCertificate"], 0);
    assert_eq!(uploaded["AliCloudCertificateId"], "");
    assert_eq!(uploaded["ExpireTime"], "2096-10-02T07:06:40Z");
    assert_eq!(uploaded["ExpireTimeStamp"], 4_000_000_000_000_i64);
    assert!(uploaded["CreateTimeStamp"].as_i64().unwrap() > 1_700_000_000_000);
    assert_eq!(uploaded["RequestId"].as_str().unwrap().len(), 36);
    // The types of alibabacloud-slb20140515 have no RegionIdAlias.
    if !["acs3", "v2"].contains(&style) {
        assert_eq!(uploaded["RegionIdAlias"], REGION);
    }
    // Clients with a type for the answer drop members that Alibaba Cloud's API does not have.
    if !["acs3", "v2", "go"].contains(&style) {
        let fingerprints = item(&uploaded, "AccountFingerprints", "Fingerprint");
        assert!(fingerprints.contains(&json!(fingerprint)), "{style} {uploaded}");
    }

    let of_this = json!({"RegionId": REGION, "ServerCertificateId": id});
    let described = |client: &mut Client<'_>, filter: &Value| {
        let answer = client.call("DescribeServerCertificates", filter);
        item(&answer, "ServerCertificates", "ServerCertificate")
    };
    let all = described(client, &of_this);
    assert_eq!(all.len(), 1);
    assert_shared(&uploaded, &all[0], 14);
    assert_eq!(
        tags(&all[0]),
        [
            json!({"TagKey": "style", "TagValue": style}),
            json!({"TagKey": KEY, "TagValue": VALUE})
        ]
    );
    let tagged = json!({"RegionId": REGION, "Tag": [{"Key": "style", "Value": style}, {"Key": KEY, "Value": VALUE}]});
    assert_eq!(described(client, &tagged), all);
    let everything = described(client, &json!({"RegionId": REGION}));
    assert!(everything.contains(&all[0]));

    client.call(
        "SetServerCertificateName",
        &json!({"RegionId": REGION, "ServerCertificateId": id, "ServerCertificateName": format!("renamed-{style}")}),
    );
    client.call(
        "MoveResourceGroup",
        &json!({"RegionId": REGION, "ResourceId": id, "ResourceType": "certificate", "NewResourceGroupId": group}),
    );
    let moved = described(
        client,
        &json!({"RegionId": REGION, "ResourceGroupId": group, "ServerCertificateId": id}),
    );
    assert_eq!(moved[0]["ServerCertificateName"], format!("renamed-{style}"));
    assert_eq!(moved[0]["ResourceGroupId"], group);

    client.call("DeleteServerCertificate", &of_this);
    assert_eq!(described(client, &of_this), Vec::<Value>::new());
}

/// Uploads, reads, renames, tags and deletes the certificate of an authority.
fn ca_certificate(client: &mut Client<'_>, root: &Pair) {
    let style = client.style;
    let name = format!("根-{style}");
    let request = json!({
        "RegionId": REGION,
        "CACertificate": root.certificate,
        "CACertificateName": name,
        "Tag": [{"Key": "first", "Value": ""}],
    });
    let uploaded = client.call("UploadCACertificate", &request);
    let id = uploaded["CACertificateId"].as_str().unwrap().to_owned();
    assert_eq!(uploaded["CACertificateName"], name);
    assert_eq!(uploaded["CommonName"], "Client Root");
    assert_eq!(uploaded["ExpireTime"], "2096-10-02T07:06:40Z");
    let of_this = json!({"RegionId": REGION, "CACertificateId": id});
    let described = |client: &mut Client<'_>| {
        let answer = client.call("DescribeCACertificates", &of_this);
        item(&answer, "CACertificates", "CACertificate")
    };
    let all = described(client);
    assert_eq!(all.len(), 1);
    assert_shared(&uploaded, &all[0], 9);
    assert_eq!(all[0]["RegionId"], REGION);
    assert_eq!(tags(&all[0]), [json!({"TagKey": "first", "TagValue": ""})]);

    client.call(
        "SetCACertificateName",
        &json!({"RegionId": REGION, "CACertificateId": id, "CACertificateName": format!("renamed-{style}")}),
    );
    assert_eq!(described(client)[0]["CACertificateName"], format!("renamed-{style}"));

    let resource = json!({"RegionId": REGION, "ResourceType": "certificate", "ResourceId": [id]});
    let with = |members: Value| {
        let mut request = resource.clone();
        request
            .as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        request
    };
    let listed = |client: &mut Client<'_>| {
        let answer = client.call("ListTagResources", &resource);
        let tags = item(&answer, "TagResources", "TagResource").into_iter();
        tags.map(|tag| {
            assert_eq!(
                (&tag["ResourceId"], &tag["ResourceType"]),
                (&json!(id), &json!("certificate"))
            );
            (
                tag["TagKey"].as_str().unwrap().to_owned(),
                tag["TagValue"].as_str().unwrap().to_owned(),
            )
        })
        .collect::<Vec<_>>()
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let tags = json!([{"Key": "first", "Value": "1"}, {"Key": KEY, "Value": VALUE}, {"Key": "last", "Value": "2"}]);
    client.call("TagResources", &with(json!({"Tag": tags})));
    let mut of_all = vec![pair("first", "1"), pair("last", "2"), pair(KEY, VALUE)];
    let mut told = listed(client);
    told.sort();
    of_all.sort();
    assert_eq!(told, of_all);
    client.call("UntagResources", &with(json!({"TagKey": [KEY, "first"]})));
    assert_eq!(listed(client), [pair("last", "2")]);
    // Python sends True, JavaScript true. Go's own type for it is a text.
    let all = if style == "go" { json!("true") } else { json!(true) };
    client.call("UntagResources", &with(json!({"All": all})));
    assert!(listed(client).is_empty());

    client.call("DeleteCACertificate", &of_this);
    assert_eq!(described(client), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_calls_every_action() {
    let (server, caller) = start(|_| {}).await;
    let group = resource_groups::made(&server, "sdk").await;
    let pair = tokio::task::spawn_blocking(long_pair).await.unwrap();
    let root = pki::root("Client Root");
    each_client(caller, move |client| {
        let regions = client.call("DescribeRegions", &json!({"AcceptLanguage": "zh-CN"}));
        let regions = item(&regions, "Regions", "Region");
        let hangzhou = regions.iter().find(|region| region["RegionId"] == REGION).unwrap();
        assert_eq!(hangzhou["RegionEndpoint"], "127.0.0.1");
        assert!(hangzhou["LocalName"].as_str().unwrap().contains("杭州"), "{hangzhou}");
        server_certificate(client, &pair, &group);
        ca_certificate(client, &root);
    })
    .await;
}

/// The clients that read XML: Go's into the same types as JSON. Python's old client gives the text.
#[tokio::test(flavor = "multi_thread")]
async fn clients_read_xml() {
    let (_server, caller) = start(|_| {}).await;
    let pair = pki::self_signed(Key::P256, "xml.example");
    let run = move || {
        let mut program = Program::start(&GO);
        let mut go = Client {
            program: &mut program,
            style: "go",
            caller: caller.clone(),
        };
        let mut request = upload(&pair, "证书<&>");
        request["ServerCertificateName"] = json!("证书-xml");
        request["Tag"] = json!([{"Key": "<&>\"'", "Value": KEY}]);
        let uploaded = go
            .ask_with("UploadServerCertificate", &request, &json!({"format": "XML"}))
            .ok();
        let of_this = json!({"RegionId": REGION, "ServerCertificateId": uploaded["ServerCertificateId"]});
        let mut read = |format: &str| {
            go.ask_with("DescribeServerCertificates", &of_this, &json!({"format": format}))
                .ok()["ServerCertificates"]
                .clone()
        };
        let (json, xml) = (read("JSON"), read("XML"));
        assert_eq!(json, xml);
        assert_shared(&uploaded, &xml["ServerCertificate"][0], 14);
        assert_eq!(
            tags(&xml["ServerCertificate"][0]),
            [json!({"TagKey": "<&>\"'", "TagValue": KEY})]
        );

        let mut program = Program::start(&PYTHON);
        let mut core = Client {
            program: &mut program,
            style: "core",
            caller,
        };
        let xml = json!({"format": "XML"});
        let deleted = core.ask_with("DeleteServerCertificate", &of_this, &xml).0;
        assert_eq!(deleted["status"], 200);
        let body = deleted["xml"].as_str().unwrap();
        let root = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><DeleteServerCertificateResponse><RequestId>";
        assert!(body.starts_with(root), "{body}");
        let again = core.ask_with("DeleteServerCertificate", &of_this, &xml).0;
        assert_eq!(again["status"], 404);
        let body = again["xml"].as_str().unwrap();
        assert!(
            body.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error>"),
            "{body}"
        );
        assert!(body.contains("<Code>ServerCertificateId.NotFound</Code>"), "{body}");
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}
