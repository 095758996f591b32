//! Answers of use cases as the fields of the API.

use serde_json::{Map, Value, json};

use super::answer::{Answer, List, Rest};
use crate::app::{
    AliCloudCertificate, CertificateFacts, CertificateKind, DescribeCertificates, Described, DescribedRegion,
    ListedFingerprints, ListedTagResources, RESOURCE_TYPE, StoredCertificate, Tag, Uploaded,
};

/// The fields of an object.
pub(super) type Fields = Map<String, Value>;

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Fields {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The answer to the upload of a server certificate. The account's fingerprints can be too many for one page.
pub(super) fn uploaded(uploaded: Uploaded) -> Answer {
    let mut answer = of_upload(&uploaded, ["ServerCertificateId", "ServerCertificateName"]);
    answer.extend(fields([
        ("RegionId", json!(uploaded.region.as_str())),
        ("RegionIdAlias", json!(uploaded.region.as_str())),
    ]));
    answer.extend(of_leaf(&uploaded.facts));
    answer.extend(ali_cloud(uploaded.ali_cloud.as_ref()));
    Answer {
        fields: answer,
        list: Some(fingerprints(uploaded.account_fingerprints)),
    }
}

pub(super) fn uploaded_ca(uploaded: Uploaded) -> Answer {
    let mut answer = of_upload(&uploaded, ["CACertificateId", "CACertificateName"]);
    answer.extend(of_certificate(&uploaded.facts));
    answer.into()
}

/// The fields that the answers to both uploads have.
fn of_upload(uploaded: &Uploaded, [id, name]: [&str; 2]) -> Fields {
    let created = uploaded.id.map(|id| id.created);
    fields([
        (id, json!(uploaded.id.map(|id| id.to_string()))),
        (name, json!(uploaded.name.as_ref().map(|name| name.as_str()))),
        ("CreateTime", json!(created.map(|created| created.to_string()))),
        (
            "CreateTimeStamp",
            json!(created.map(|created| created.millis_of_whole_secs())),
        ),
        ("ResourceGroupId", json!(uploaded.resource_group.to_string())),
    ])
}

/// A page of the account's fingerprints, and the rest.
pub(super) fn fingerprints(listed: ListedFingerprints) -> List {
    let token = listed.next_page_token;
    List {
        names: ["AccountFingerprints", "Fingerprint"],
        items: listed.fingerprints.iter().map(|one| json!(one.to_string())).collect(),
        rest: (!token.is_empty()).then_some(Rest::Fingerprints(token)),
    }
}

/// A page of certificates, and the rest.
pub(super) fn certificates(request: DescribeCertificates, described: Described) -> Answer {
    Answer {
        fields: Fields::new(),
        list: Some(page_of_certificates(request, described)),
    }
}

pub(super) fn page_of_certificates(request: DescribeCertificates, described: Described) -> List {
    let (names, render): (_, fn(&StoredCertificate) -> Fields) = match request.kind {
        CertificateKind::Server => (["ServerCertificates", "ServerCertificate"], server_certificate),
        CertificateKind::Ca => (["CACertificates", "CACertificate"], ca_certificate),
    };
    let rest = DescribeCertificates {
        page_token: described.next_page_token,
        ..request
    };
    List {
        names,
        items: described
            .certificates
            .iter()
            .map(|one| Value::Object(render(one)))
            .collect(),
        rest: (!rest.page_token.is_empty()).then(|| Rest::Certificates(Box::new(rest))),
    }
}

fn server_certificate(stored: &StoredCertificate) -> Fields {
    let mut certificate = fields([
        ("ServerCertificateId", json!(stored.id.to_string())),
        ("ServerCertificateName", json!(stored.name.as_str())),
        ("RegionIdAlias", json!(stored.region.as_str())),
    ]);
    certificate.extend(of_both(stored));
    certificate.extend(of_leaf(&stored.facts));
    certificate.extend(ali_cloud(stored.ali_cloud.as_ref()));
    certificate
}

fn ca_certificate(stored: &StoredCertificate) -> Fields {
    let mut certificate = fields([
        ("CACertificateId", json!(stored.id.to_string())),
        ("CACertificateName", json!(stored.name.as_str())),
    ]);
    certificate.extend(of_both(stored));
    certificate.extend(of_certificate(&stored.facts));
    certificate
}

/// The fields that certificates of both kinds have in a list.
fn of_both(stored: &StoredCertificate) -> Fields {
    let tag = |tag: &Tag| json!({"TagKey": tag.key(), "TagValue": tag.value()});
    let tags: Vec<_> = stored.tags.iter().map(tag).collect();
    fields([
        ("CreateTime", json!(stored.id.created.to_string())),
        ("CreateTimeStamp", json!(stored.id.created.millis_of_whole_secs())),
        ("RegionId", json!(stored.region.as_str())),
        ("ResourceGroupId", json!(stored.resource_group.to_string())),
        ("Tags", json!({"Tag": tags})),
    ])
}

/// The facts about a leaf.
fn of_leaf(facts: &CertificateFacts) -> Fields {
    let mut leaf = of_certificate(facts);
    let names = &facts.subject_alternative_names;
    if !names.is_empty() {
        let names = json!({"SubjectAlternativeName": names});
        leaf.insert("SubjectAlternativeNames".to_owned(), names);
    }
    leaf
}

/// The facts about a certificate of either kind.
fn of_certificate(facts: &CertificateFacts) -> Fields {
    fields([
        ("Fingerprint", json!(facts.fingerprint.to_string())),
        ("CommonName", json!(facts.common_name)),
        ("ExpireTime", json!(facts.not_after.to_string())),
        ("ExpireTimeStamp", json!(facts.not_after.millis_of_whole_secs())),
    ])
}

/// The certificate of Alibaba Cloud from which a server certificate comes.
fn ali_cloud(certificate: Option<&AliCloudCertificate>) -> Fields {
    let text = |text: Option<&str>| json!(text.unwrap_or_default());
    fields([
        ("IsAliCloudCertificate", json!(i32::from(certificate.is_some()))),
        ("AliCloudCertificateId", text(certificate.map(|of| of.id.as_str()))),
        ("AliCloudCertificateName", text(certificate.map(|of| of.name.as_str()))),
    ])
}

pub(super) fn regions(regions: &[DescribedRegion<'_>], host: &str) -> Answer {
    let region = |region: &DescribedRegion<'_>| json!({"RegionId": region.id, "RegionEndpoint": host, "LocalName": region.local_name});
    let regions: Vec<_> = regions.iter().map(region).collect();
    fields([("Regions", json!({"Region": regions}))]).into()
}

pub(super) fn tag_resources(listed: ListedTagResources) -> Answer {
    let mut tags = Vec::new();
    for (id, of_one) in &listed.resources {
        tags.extend(of_one.iter().map(|tag| {
            json!({
                "ResourceId": id.to_string(),
                "ResourceType": RESOURCE_TYPE,
                "TagKey": tag.key(),
                "TagValue": tag.value(),
            })
        }));
    }
    fields([
        ("NextToken", json!(listed.next_token)),
        ("TagResources", json!({"TagResource": tags})),
    ])
    .into()
}
