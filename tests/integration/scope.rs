//! For a caller with a scope nothing exists outside the scope.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{LazyLock, Mutex};

use certkeep::app::{Role, roles_of};
use certkeep::grpc::DESCRIPTORS;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::{Value, json};
use tokio_postgres::Client as Sql;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt;

use crate::bad_input::reason;
use crate::harness::{Account, Bearer, REGION, TestServer, bearer, stored_id, until_waiting};
use crate::pki::{self, Key, Pair};

const ELSEWHERE: &str = "eu-central-1";

/// A scope. Empty: no limit.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    pub regions: Vec<String>,
    pub groups: Vec<String>,
    pub prefixes: Vec<String>,
}

impl Limits {
    fn has(&self, certificate: &Certificate) -> bool {
        let has = |values: &[String], value: &str| values.is_empty() || values.iter().any(|one| one == value);
        has(&self.regions, &certificate.region)
            && has(&self.groups, &certificate.group)
            && (self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| certificate.name.starts_with(prefix)))
    }
}

/// A certificate that the account has.
#[derive(Clone, Debug)]
struct Certificate {
    id: String,
    kind: &'static str,
    region: String,
    group: String,
    name: String,
    is_deleted: bool,
    /// SHA-1. Empty for a CA certificate.
    fingerprint: String,
}

/// Calls any method of the schema. Requests and answers are JSON.
struct Caller {
    channel: InterceptedService<Channel, Bearer>,
    pool: DescriptorPool,
    /// The methods that were called.
    called: Mutex<BTreeSet<String>>,
    /// All answers and errors, as texts.
    told: Mutex<Vec<String>>,
}

/// A refused call.
#[derive(Clone, Debug, PartialEq)]
struct Refused {
    reason: String,
    /// The message and all details except the id of the request.
    text: String,
}

/// Encodes and decodes messages by their descriptors.
#[derive(Clone)]
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::Message::encode(&message, to).unwrap();
        Ok(())
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let mut message = DynamicMessage::new(self.0.clone());
        prost::Message::merge(&mut message, from).unwrap();
        Ok(Some(message))
    }
}

impl Caller {
    fn new(server: &TestServer, key: &str) -> Self {
        Self {
            channel: InterceptedService::new(server.channel(), bearer(key)),
            pool: DescriptorPool::decode(DESCRIPTORS).unwrap(),
            called: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// The methods that a caller of an account may call, except those on access keys and the audit trail, which have their own rules.
    fn methods(&self) -> Vec<MethodDescriptor> {
        let services: Vec<_> = self.pool.services().collect();
        let methods = services
            .iter()
            .flat_map(|service| service.methods().collect::<Vec<_>>());
        let is_of_certificates = |method: &MethodDescriptor| {
            let roles = roles_of(method.name());
            let is_elsewhere = ["AccessKey", "Audit"].iter().any(|part| method.name().contains(part));
            !is_elsewhere && roles.contains(&Role::Admin)
        };
        methods.filter(is_of_certificates).collect()
    }

    fn method(&self, name: &str) -> MethodDescriptor {
        self.methods().into_iter().find(|method| method.name() == name).unwrap()
    }

    async fn call(&self, name: &str, request: Value) -> Result<Value, Refused> {
        let method = self.method(name);
        self.called.lock().unwrap().insert(name.to_owned());
        let request = DynamicMessage::deserialize(method.input(), request).unwrap();
        let path = format!("/{}/{name}", method.parent_service().full_name());
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let answer = grpc
            .unary(Request::new(request), path.parse().unwrap(), Dynamic(method.output()))
            .await;
        match answer {
            Ok(answer) => {
                let mut answer = serde_json::to_value(answer.into_inner()).unwrap();
                answer.as_object_mut().unwrap().remove("requestId");
                self.told.lock().unwrap().push(answer.to_string());
                Ok(answer)
            }
            Err(status) => {
                let details = status.get_error_details();
                let metadata = details.error_info().map(|info| info.metadata.clone().into_iter());
                let text = format!(
                    "{} {:?} {:?} {:?} {:?} {:?}",
                    status.message(),
                    metadata.map(BTreeMap::from_iter),
                    details.bad_request(),
                    details.resource_info(),
                    details.precondition_failure(),
                    details.quota_failure()
                );
                Err(Refused {
                    reason: reason(&status),
                    text,
                })
            }
        }
    }

    /// The ids of the present certificates in a watch, sorted.
    async fn watched(&self) -> Vec<String> {
        let method = self.method("WatchServerCertificates");
        self.called.lock().unwrap().insert(method.name().to_owned());
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let request = Request::new(DynamicMessage::new(method.input()));
        let stream = grpc
            .server_streaming(request, path.parse().unwrap(), Dynamic(method.output()))
            .await;
        let (mut stream, mut ids) = (stream.unwrap().into_inner(), Vec::new());
        loop {
            let message = serde_json::to_value(stream.message().await.unwrap().unwrap()).unwrap();
            self.told.lock().unwrap().push(message.to_string());
            if message["kind"] == "CERTIFICATE_EVENT_KIND_SYNCED" {
                ids.sort();
                return ids;
            }
            ids.push(message["serverCertificateId"].as_str().unwrap().to_owned());
        }
    }

    /// The reason of a refused call. Its error is one of the texts that the caller is told.
    async fn refused(&self, name: &str, request: Value) -> String {
        let refused = self.call(name, request).await.unwrap_err();
        self.told.lock().unwrap().push(refused.text);
        refused.reason
    }

    /// The elements of a list on all pages. No page is needlessly short.
    async fn all(&self, name: &str, mut request: Value, (list, token, next): (&str, &str, &str)) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let page = self.call(name, request.clone()).await.unwrap();
            all.extend(page[list].as_array().cloned().unwrap_or_default());
            match page[next].as_str() {
                None => return all,
                Some(next) => request[token] = next.into(),
            }
        }
    }

    async fn ids(&self, name: &str, request: Value, kind: &str) -> Vec<String> {
        let (list, id) = match kind {
            "server" => ("serverCertificates", "serverCertificateId"),
            _ => ("caCertificates", "caCertificateId"),
        };
        let all = self.all(name, request, (list, "page_token", "nextPageToken")).await;
        let mut ids: Vec<_> = all.iter().map(|one| one[id].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

fn upload_of(certificate: &Certificate, pair: &Pair) -> (&'static str, Value) {
    let mut request = json!({
        "region_id": certificate.region,
        "resource_group_id": certificate.group,
        "tags": [{"key": "team", "value": "all"}],
    });
    let (method, name, text) = match certificate.kind {
        "server" => (
            "UploadServerCertificate",
            "server_certificate_name",
            "server_certificate",
        ),
        _ => ("UploadCACertificate", "ca_certificate_name", "ca_certificate"),
    };
    request[name] = certificate.name.clone().into();
    request[text] = pair.certificate.clone().into();
    if certificate.kind == "server" {
        request["private_key"] = pair.key.clone().into();
    }
    (method, request)
}

/// An account with certificates of both kinds, in two regions, in two groups, with two beginnings of names, live and deleted.
struct World {
    server: TestServer,
    sql: Sql,
    account: i64,
    admin: Caller,
    default_group: String,
    /// A group of the account, and another one.
    shop: String,
    bank: String,
    certificates: Vec<Certificate>,
    /// The pairs of the certificates.
    pairs: Vec<Pair>,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let sql = server.sql().await;
        let admin = Caller::new(&server, server.admin_key());
        let account: i64 = sql
            .query_one("select account_id from account where name = 'default'", &[])
            .await
            .unwrap()
            .get(0);
        let mut groups = Vec::new();
        for name in ["shop", "bank"] {
            let made = admin.call("CreateResourceGroup", json!({"name": name})).await.unwrap();
            groups.push(made["resourceGroup"]["resourceGroupId"].as_str().unwrap().to_owned());
        }
        let (bank, shop) = (groups.pop().unwrap(), groups.pop().unwrap());
        let mut world = Self {
            server,
            sql,
            account,
            admin,
            default_group: format!("rg-{account}"),
            shop,
            bank,
            certificates: Vec::new(),
            pairs: Vec::new(),
        };
        for n in 0..32 {
            let has = |bit: u32| n & (1 << bit) != 0;
            let kind = if has(0) { "server" } else { "ca" };
            let prefix = if has(1) { "shop-" } else { "pay-" };
            let group = if has(3) { &world.shop } else { &world.default_group };
            let certificate = Certificate {
                id: String::new(),
                kind,
                region: if has(2) { REGION } else { ELSEWHERE }.to_owned(),
                group: group.clone(),
                name: format!("{prefix}{kind}-{n:02}"),
                is_deleted: has(4),
                fingerprint: String::new(),
            };
            world.store(certificate).await;
        }
        world
    }

    /// Stores it with a pair of its own.
    async fn store(&mut self, mut certificate: Certificate) -> Certificate {
        let name = format!("n{}.example", self.pairs.len());
        let pair = match certificate.kind {
            "server" => pki::issued(Key::P256, &name),
            _ => pki::root(&name),
        };
        let (method, request) = upload_of(&certificate, &pair);
        let answer = self.admin.call(method, request).await.unwrap();
        let field = match certificate.kind {
            "server" => "serverCertificateId",
            _ => "caCertificateId",
        };
        certificate.id = answer[field].as_str().unwrap().to_owned();
        certificate.fingerprint = answer["fingerprint"].as_str().unwrap_or_default().to_owned();
        if certificate.is_deleted {
            let (method, field) = match certificate.kind {
                "server" => ("DeleteServerCertificate", "server_certificate_id"),
                _ => ("DeleteCACertificate", "ca_certificate_id"),
            };
            self.admin.call(method, json!({field: certificate.id})).await.unwrap();
        }
        self.certificates.push(certificate.clone());
        self.pairs.push(pair);
        certificate
    }

    /// An admin with this scope.
    async fn caller(&self, limits: &Limits) -> Caller {
        let key = self.server.add_key("admin", Account::First).await;
        self.server.limit_key(&key, limits).await;
        Caller::new(&self.server, &key)
    }

    /// Scopes of every kind, and combinations.
    fn scopes(&self) -> Vec<Limits> {
        let limits = |regions: &[&str], groups: &[&str], prefixes: &[&str]| {
            let [regions, groups, prefixes] =
                [regions, groups, prefixes].map(|list| list.iter().map(ToString::to_string).collect());
            Limits {
                regions,
                groups,
                prefixes,
            }
        };
        let (default, shop, bank) = (&*self.default_group, &*self.shop, &*self.bank);
        vec![
            limits(&[REGION], &[], &[]),
            limits(&[], &[shop], &[]),
            limits(&[], &[default, bank], &[]),
            limits(&[], &[], &["shop-"]),
            limits(&[REGION], &[default], &["pay-"]),
            limits(&[ELSEWHERE, REGION], &[shop, bank], &["pay-s", "shop-c", "none"]),
        ]
    }

    /// All rows of these certificates, as text.
    async fn rows(&self, ids: &[String]) -> Vec<String> {
        let mut rows = Vec::new();
        for table in [
            "certificate",
            "private_key",
            "certificate_tag",
            "searchable_name",
            "event",
        ] {
            let text = format!(
                "select coalesce(string_agg(row::text, ';' order by row::text), '') from {table} as row where exists (
                   select from certificate as one
                   where one.name = any($1) and (one.created_ms, one.random) = (row.created_ms, row.random)
                 )"
            );
            let names: Vec<_> = self
                .certificates
                .iter()
                .filter(|one| ids.contains(&one.id))
                .map(|one| one.name.as_str())
                .collect();
            let text: String = self.sql.query_one(&text, &[&names]).await.unwrap().get(0);
            rows.push(format!("{table}: {text}"));
        }
        rows
    }
}

/// The pair of all renewals.
static NEW_PAIR: LazyLock<Pair> = LazyLock::new(|| pki::issued(Key::P256, "new.example"));

/// The requests of a method that names one certificate. `None`: the method names none.
fn requests_for(
    method: &MethodDescriptor,
    id: &str,
    certificate: &Certificate,
    (regions, group, name): (&[&str], &str, &str),
) -> Option<Vec<Value>> {
    let id_field = match certificate.kind {
        "server" => "server_certificate_id",
        _ => "ca_certificate_id",
    };
    let mut requests = vec![json!({})];
    let mut names_one = false;
    let each = |requests: Vec<Value>, field: &str, values: &[Value]| -> Vec<Value> {
        let with = |request: &Value, value: &Value| {
            let mut request = request.clone();
            request[field] = value.clone();
            request
        };
        requests
            .iter()
            .flat_map(|request| values.iter().map(move |value| with(request, value)))
            .collect()
    };
    for field in method.input().fields() {
        let values: Vec<Value> = match field.name() {
            of_kind if of_kind == id_field => vec![id.into()],
            "resource_id" => vec![id.into()],
            "resource_ids" => vec![json!([id])],
            "region_id" => regions.iter().map(|region| (*region).into()).collect(),
            "if_etag" => vec!["".into(), "77".into()],
            "server_certificate_name" | "ca_certificate_name" => vec![name.into()],
            "resource_type" => vec!["certificate".into()],
            "new_resource_group_id" => vec![group.into()],
            "tags" if method.name() == "TagResources" => vec![json!([{"key": "new", "value": "tag"}])],
            "all" => vec![true.into()],
            "server_certificate" if method.name() == "RenewServerCertificate" => {
                vec![NEW_PAIR.certificate.clone().into()]
            }
            "private_key" if method.name() == "RenewServerCertificate" => vec![NEW_PAIR.key.clone().into()],
            "version" => vec!["1".into()],
            "deleted" => vec![true.into(), false.into()],
            _ => continue,
        };
        names_one |= field.name() == id_field || field.name().starts_with("resource_id");
        requests = each(requests, field.name(), &values);
    }
    names_one.then_some(requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_exists_outside_the_scope() {
    let world = World::new().await;
    let ghost = stored_id(world.account, 1_800_000_000_000, 77).to_string();
    let scopes = world.scopes();
    for limits in &scopes {
        let caller = world.caller(limits).await;
        let (inside, outside): (Vec<_>, Vec<_>) = world.certificates.iter().cloned().partition(|one| limits.has(one));
        assert!(!inside.is_empty() && outside.len() >= 16, "{limits:?}");
        let ids: Vec<_> = outside.iter().map(|one| one.id.clone()).collect();
        let before = world.rows(&ids).await;

        certificates_outside_are_as_unknown_as_others(&caller, limits, &outside, &ghost).await;
        lists_have_the_certificates_inside(&world, &caller, limits, &inside).await;
        check_and_upload_compare_inside(&world, &caller, limits, &inside).await;
        groups_are_those_inside(&world, &caller, limits).await;

        let secrets = outside.iter().flat_map(|one| [&one.id, &one.name, &one.fingerprint]);
        let secrets: Vec<_> = secrets.filter(|text| !text.is_empty()).cloned().collect();
        for told in caller.told.lock().unwrap().iter() {
            // A name can be the beginning of another one.
            let named = secrets.iter().find(|secret| told.contains(&format!("{secret:?}")));
            assert!(named.is_none(), "{limits:?}: {named:?} in {told}");
        }
        assert_eq!(world.rows(&ids).await, before, "{limits:?}");

        let missing: Vec<_> = caller
            .methods()
            .into_iter()
            .map(|method| method.name().to_owned())
            .filter(|name| !caller.called.lock().unwrap().contains(name))
            .collect();
        assert!(missing.is_empty(), "add a case for {missing:?}");
    }
    world.server.stop().await;
}

/// Every method that names a certificate answers the same for one outside the scope and for one that never existed.
async fn certificates_outside_are_as_unknown_as_others(
    caller: &Caller,
    limits: &Limits,
    outside: &[Certificate],
    ghost: &str,
) {
    let group = limits.groups.first().map_or_else(
        || format!("rg-{}", ghost.split('_').next().unwrap()),
        |group| group.clone(),
    );
    let name = format!("{}new", limits.prefixes.first().map_or("", |prefix| prefix));
    let in_scope = limits.regions.first().map_or(REGION, |region| region);
    let (mut compared, mut expected) = (0, HashMap::new());
    for method in caller.methods() {
        for certificate in outside {
            let regions: BTreeSet<_> = ["", in_scope, certificate.region.as_str()].into();
            let regions: Vec<_> = regions.into_iter().collect();
            let requests = |id: &str| requests_for(&method, id, certificate, (&regions, &group, &name));
            let (Some(of_it), Some(of_ghost)) = (requests(&certificate.id), requests(ghost)) else {
                continue;
            };
            for (of_it, of_ghost) in of_it.into_iter().zip(of_ghost) {
                let neutral = |answer: Result<Value, Refused>, id: &str| format!("{answer:?}").replace(id, "ID");
                let shown = of_it.to_string();
                let told = caller.call(method.name(), of_it).await;
                let key = format!("{} {of_ghost}", method.name());
                if !expected.contains_key(&key) {
                    let of_ghost = caller.call(method.name(), of_ghost).await;
                    expected.insert(key.clone(), neutral(of_ghost, ghost));
                }
                assert_eq!(
                    neutral(told, &certificate.id),
                    expected[&key],
                    "{limits:?}: {} {shown} of {certificate:?}",
                    method.name()
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 500, "{compared}");
}

/// Every list has the certificates of the scope that match, each once, in pages of any size.
async fn lists_have_the_certificates_inside(world: &World, caller: &Caller, limits: &Limits, inside: &[Certificate]) {
    let expected = |is_listed: &dyn Fn(&Certificate) -> bool| {
        let mut ids: Vec<_> = inside
            .iter()
            .filter(|one| is_listed(one))
            .map(|one| one.id.clone())
            .collect();
        ids.sort();
        ids
    };
    let is_allowed = |region: &str| limits.regions.is_empty() || limits.regions.iter().any(|one| one == region);
    let regions = ["", REGION, ELSEWHERE];
    for (kind, method) in [
        ("server", "DescribeServerCertificates"),
        ("ca", "DescribeCACertificates"),
    ] {
        for region in regions {
            for group in [&String::new(), &world.default_group, &world.shop, &world.bank] {
                for (is_deleted, tags) in [
                    (false, json!([])),
                    (true, json!([])),
                    (false, json!([{"key": "team", "value": "all"}])),
                    (true, json!([{"key": "team", "value": "all"}])),
                ] {
                    let request = json!({
                        "region_id": region, "resource_group_id": group, "deleted": is_deleted, "tags": tags, "page_size": 3,
                    });
                    if !region.is_empty() && !is_allowed(region) {
                        assert_eq!(caller.refused(method, request).await, "OUT_OF_SCOPE");
                        continue;
                    }
                    let listed = |one: &Certificate| {
                        one.kind == kind
                            && one.is_deleted == is_deleted
                            && (region.is_empty() || one.region == region)
                            && (group.is_empty() || one.group == *group)
                    };
                    let shown = format!("{limits:?} {method} {request}");
                    assert_eq!(caller.ids(method, request, kind).await, expected(&listed), "{shown}");
                }
            }
        }
    }

    let is_live_server = |one: &Certificate| one.kind == "server" && !one.is_deleted;
    assert_eq!(caller.watched().await, expected(&is_live_server), "{limits:?}");
    let search = "SearchServerCertificates";
    for order in ["CREATE_TIME", "EXPIRE_TIME", "NAME"] {
        let order = format!("SEARCH_ORDER_{order}");
        for domain in ["", "example"] {
            let matching = if domain.is_empty() {
                json!({})
            } else {
                json!({"domain": domain, "domain_match": "DOMAIN_MATCH_BELOW"})
            };
            let mut request = json!({"order_by": order, "page_size": 2});
            request
                .as_object_mut()
                .unwrap()
                .extend(matching.as_object().unwrap().clone());
            assert_eq!(
                caller.ids(search, request, "server").await,
                expected(&is_live_server),
                "{limits:?}"
            );
        }
    }
    for one in world.certificates.iter().filter(|one| is_live_server(one)) {
        let only = |found: &Certificate| found.id == one.id;
        for request in [
            json!({"fingerprint": one.fingerprint}),
            json!({"server_certificate_name_prefix": one.name}),
        ] {
            assert_eq!(
                caller.ids(search, request, "server").await,
                expected(&only),
                "{limits:?}"
            );
        }
    }
    for region in [REGION, ELSEWHERE] {
        let request = json!({"region_id": region});
        match is_allowed(region) {
            true => {
                let listed = |one: &Certificate| is_live_server(one) && one.region == region;
                assert_eq!(
                    caller.ids(search, request, "server").await,
                    expected(&listed),
                    "{limits:?}"
                );
            }
            false => assert_eq!(caller.refused(search, request).await, "OUT_OF_SCOPE"),
        }
        let request = json!({
            "region_id": region, "resource_type": "certificate", "tags": [{"key": "team", "value": "all"}], "page_size": 1,
        });
        let tokens = ("tagResources", "next_token", "nextToken");
        match is_allowed(region) {
            true => {
                let listed = caller.all("ListTagResources", request, tokens).await;
                let mut ids: Vec<_> = listed.iter().map(|one| one["resourceId"].as_str().unwrap()).collect();
                ids.sort_unstable();
                let of_region = |one: &Certificate| one.region == region && !one.is_deleted;
                assert_eq!(ids, expected(&of_region), "{limits:?}");
            }
            false => assert_eq!(caller.refused("ListTagResources", request).await, "OUT_OF_SCOPE"),
        }
    }

    let request = json!({"page_size": 2});
    let tokens = ("accountFingerprints", "page_token", "nextPageToken");
    let listed = caller.all("ListAccountFingerprints", request, tokens).await;
    assert_eq!(texts(&listed), fingerprints(inside), "{limits:?}");

    let regions = caller.call("DescribeRegions", json!({})).await.unwrap();
    let regions = regions["regions"].as_array().unwrap();
    let mut ids: Vec<_> = regions.iter().map(|one| one["regionId"].as_str().unwrap()).collect();
    match limits.regions.is_empty() {
        true => assert!(ids.len() > 2),
        false => {
            ids.sort_unstable();
            let mut expected = limits.regions.clone();
            expected.sort();
            assert_eq!(ids, expected);
        }
    }
    let quotas = caller.call("DescribeQuotas", json!({})).await.unwrap().to_string();
    for region in [REGION, ELSEWHERE] {
        assert!(is_allowed(region) || !quotas.contains(region), "{limits:?}: {quotas}");
    }
    let shown = caller.call("DescribeCaller", json!({})).await.unwrap();
    assert_eq!(
        shown["scope"]["regionIds"].as_array().map_or(0, Vec::len),
        limits.regions.len()
    );
}

fn texts(list: &[Value]) -> Vec<String> {
    let mut texts: Vec<_> = list.iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    texts.sort();
    texts
}

/// The fingerprints of the live server certificates.
fn fingerprints(certificates: &[Certificate]) -> Vec<String> {
    let live = certificates
        .iter()
        .filter(|one| one.kind == "server" && !one.is_deleted);
    let mut fingerprints: Vec<_> = live.map(|one| one.fingerprint.clone()).collect();
    fingerprints.sort();
    fingerprints
}

/// Checks and uploads compare with the certificates of the scope only, and an upload must be in the scope.
async fn check_and_upload_compare_inside(world: &World, caller: &Caller, limits: &Limits, inside: &[Certificate]) {
    let live: Vec<_> = world
        .certificates
        .iter()
        .zip(&world.pairs)
        .filter(|(one, _)| !one.is_deleted)
        .collect();
    // The answer repeats the fingerprint of the certificate that the caller sent.
    let forget_own = |is_inside: bool| {
        if !is_inside {
            caller.told.lock().unwrap().pop();
        }
    };
    for (one, pair) in live {
        if one.kind == "server" {
            let request = json!({"server_certificate": pair.certificate, "private_key": pair.key});
            let checked = caller.call("CheckServerCertificate", request).await.unwrap();
            assert_eq!(names_stored(&checked), limits.has(one), "{limits:?} {one:?}");
            forget_own(limits.has(one));
        }
        // The same certificate again, in the scope, as a trial.
        let here = inside.iter().find(|here| here.kind == one.kind).cloned();
        let place = here.unwrap_or_else(|| inside[0].clone());
        let (method, mut request) = upload_of(
            &Certificate {
                kind: one.kind,
                ..place.clone()
            },
            pair,
        );
        request["validate_only"] = true.into();
        let answer = caller.call(method, request).await.unwrap();
        assert_eq!(names_stored(&answer), limits.has(one), "{limits:?} {one:?}");
        if one.kind == "server" {
            let mut expected = fingerprints(inside);
            expected.push(one.fingerprint.clone());
            expected.sort();
            let listed = answer["accountFingerprints"].as_array().unwrap();
            assert_eq!(texts(listed), expected, "{limits:?}");
        }
        forget_own(limits.has(one));
        // As it is: outside it is refused.
        let (method, mut request) = upload_of(one, pair);
        request["validate_only"] = true.into();
        if limits.has(one) {
            caller.call(method, request).await.unwrap();
        } else {
            let refused = caller.call(method, request).await.unwrap_err();
            let is_of_group = !limits.groups.is_empty() && !limits.groups.contains(&one.group);
            let expected: &[&str] = match is_of_group {
                true => &["OUT_OF_SCOPE", "RESOURCE_GROUP_NOT_FOUND"],
                false => &["OUT_OF_SCOPE"],
            };
            assert!(
                expected.contains(&refused.reason.as_str()),
                "{limits:?} {one:?}: {refused:?}"
            );
        }
    }
}

/// Whether the answer has a finding about a stored certificate.
fn names_stored(answer: &Value) -> bool {
    let findings = answer["findings"].as_array().cloned().unwrap_or_default();
    let code = |finding: &Value| finding["code"].as_str().unwrap().to_owned();
    findings.iter().any(|finding| code(finding).ends_with("ALREADY_STORED"))
}

/// The groups of the scope are listed. Others cannot be changed.
async fn groups_are_those_inside(world: &World, caller: &Caller, limits: &Limits) {
    let tokens = ("resourceGroups", "page_token", "nextPageToken");
    let request = json!({"page_size": 1});
    let listed = caller.all("ListResourceGroups", request, tokens).await;
    let mut ids: Vec<_> = listed
        .iter()
        .map(|one| one["resourceGroupId"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    let all = [&world.default_group, &world.shop, &world.bank].map(Clone::clone);
    let is_inside = |group: &String| limits.groups.is_empty() || limits.groups.contains(group);
    let mut expected: Vec<_> = all.iter().filter(|group| is_inside(group)).collect();
    expected.sort();
    assert_eq!(ids, expected.into_iter().collect::<Vec<_>>(), "{limits:?}");
    for group in all.iter().filter(|group| !is_inside(group)) {
        let rename = json!({"resource_group_id": group, "name": "taken-over"});
        assert_eq!(
            caller.refused("UpdateResourceGroup", rename).await,
            "RESOURCE_GROUP_NOT_FOUND"
        );
        let delete = json!({"resource_group_id": group});
        assert_eq!(
            caller.refused("DeleteResourceGroup", delete).await,
            "RESOURCE_GROUP_NOT_FOUND"
        );
    }
    let create = json!({"name": "bank"});
    match limits.groups.is_empty() {
        true => {
            let made = caller.call("CreateResourceGroup", create).await.unwrap();
            assert_eq!(made["resourceGroup"]["resourceGroupId"], world.bank);
            let none = json!({"resource_group_id": format!("rg-{}", "0".repeat(32))});
            assert_eq!(
                caller.refused("DeleteResourceGroup", none.clone()).await,
                "RESOURCE_GROUP_NOT_FOUND"
            );
            let rename = json!({"resource_group_id": none["resource_group_id"], "name": "x"});
            assert_eq!(
                caller.refused("UpdateResourceGroup", rename).await,
                "RESOURCE_GROUP_NOT_FOUND"
            );
        }
        false => assert_eq!(caller.refused("CreateResourceGroup", create).await, "OUT_OF_SCOPE"),
    }
}

/// The caller's changes inside the scope, and the error of each that would end outside.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_ends_inside_the_scope() {
    let world = World::new().await;
    let limits = Limits {
        regions: vec![REGION.into()],
        groups: vec![world.shop.clone(), world.bank.clone()],
        prefixes: vec!["shop-".into(), "x.".into()],
    };
    let caller = world.caller(&limits).await;
    let is_wanted = |one: &&Certificate| limits.has(one) && one.kind == "server" && !one.is_deleted;
    let inside = world.certificates.iter().find(is_wanted).unwrap();
    let rename =
        |name: &str| json!({"region_id": REGION, "server_certificate_id": inside.id, "server_certificate_name": name});
    let move_to = |group: &str| {
        json!({
            "region_id": REGION, "resource_id": inside.id, "resource_type": "certificate", "new_resource_group_id": group,
        })
    };
    let refused = caller
        .call("SetServerCertificateName", rename("pay-1"))
        .await
        .unwrap_err();
    assert_eq!(refused.reason, "OUT_OF_SCOPE");
    let sentence = "server_certificate_name is outside the scope of this caller, which is limited to names that begin with shop- or x.";
    assert!(refused.text.starts_with(sentence), "{}", refused.text);
    for group in [&world.default_group, "rg-1", &format!("rg-{}", "0".repeat(32))] {
        assert_eq!(
            caller.refused("MoveResourceGroup", move_to(group)).await,
            "RESOURCE_GROUP_NOT_FOUND"
        );
    }
    caller.call("SetServerCertificateName", rename("x.1")).await.unwrap();
    caller.call("MoveResourceGroup", move_to(&world.bank)).await.unwrap();
    let tagged = json!({
        "region_id": REGION, "resource_type": "certificate", "resource_ids": [inside.id],
        "tags": [{"key": "a", "value": "b"}],
    });
    caller.call("TagResources", tagged).await.unwrap();
    let by_id = json!({"server_certificate_id": inside.id});
    for method in [
        "GetServerCertificate",
        "DeleteServerCertificate",
        "UndeleteServerCertificate",
        "DeleteServerCertificate",
    ] {
        caller.call(method, by_id.clone()).await.unwrap();
    }
    caller.call("PurgeServerCertificate", by_id).await.unwrap();

    // Uploads: of another region, with another name, with a default name or a default group that is outside.
    let pair = pki::issued(Key::P256, "shop-x.example");
    let other = pki::issued(Key::P256, "other.example");
    let upload = |region: &str, name: &str, group: &str, pair: &Pair| {
        json!({
            "region_id": region, "server_certificate_name": name, "resource_group_id": group,
            "server_certificate": pair.certificate, "private_key": pair.key,
        })
    };
    for (request, expected, sentence) in [
        (
            upload(ELSEWHERE, "shop-1", &world.shop, &pair),
            "OUT_OF_SCOPE",
            "region_id is outside the scope of this caller, which is limited to the regions cn-hangzhou",
        ),
        (
            upload(REGION, "pay-1", &world.shop, &pair),
            "OUT_OF_SCOPE",
            "server_certificate_name is outside the scope of this caller, which is limited to names that begin with shop- or x.",
        ),
        (
            upload(REGION, "", &world.shop, &other),
            "OUT_OF_SCOPE",
            "server_certificate_name is empty, and its default is outside the scope of this caller; give one, since the caller is \
             limited to names that begin with shop- or x.",
        ),
        (
            upload(REGION, "shop-1", "", &pair),
            "OUT_OF_SCOPE",
            &format!(
                "resource_group_id is empty, and its default is outside the scope of this caller; give one, since the caller is \
                 limited to the resource groups {}, {}",
                world.shop, world.bank
            ),
        ),
        (
            upload(REGION, "shop-1", &world.default_group, &pair),
            "RESOURCE_GROUP_NOT_FOUND",
            "no such resource group in this account; check the id",
        ),
    ] {
        for validate_only in [true, false] {
            let mut request = request.clone();
            request["validate_only"] = validate_only.into();
            let refused = caller.call("UploadServerCertificate", request).await.unwrap_err();
            assert_eq!(refused.reason, expected);
            assert!(refused.text.starts_with(sentence), "{}", refused.text);
        }
    }
    let stored = caller
        .call("UploadServerCertificate", upload(REGION, "", &world.shop, &pair))
        .await
        .unwrap();
    assert_eq!(stored["serverCertificateName"], "shop-x.example");
    let mut expected: Vec<_> = world
        .certificates
        .iter()
        .filter(|one| is_wanted(one) && one.id != inside.id)
        .cloned()
        .collect();
    expected.push(Certificate {
        fingerprint: stored["fingerprint"].as_str().unwrap().to_owned(),
        ..inside.clone()
    });
    assert_eq!(
        texts(stored["accountFingerprints"].as_array().unwrap()),
        fingerprints(&expected)
    );
    world.server.stop().await;
}

/// A retry leads to the certificate of the first upload only while that certificate is in the scope.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_token_does_not_lead_outside_the_scope() {
    let world = World::new().await;
    let caller = world
        .caller(&Limits {
            groups: vec![world.shop.clone()],
            prefixes: vec!["shop-".into()],
            ..Default::default()
        })
        .await;
    let upload = |name: &str, group: &str, pair: &Pair, token: &str| {
        json!({
            "region_id": REGION, "server_certificate_name": name, "resource_group_id": group,
            "server_certificate": pair.certificate, "private_key": pair.key, "client_token": token,
        })
    };
    let (method, pair) = ("UploadServerCertificate", pki::issued(Key::P256, "token.example"));
    let request = upload("shop-1", &world.shop, &pair, "token 1");
    let first = caller.call(method, request.clone()).await.unwrap();
    let id = first["serverCertificateId"].as_str().unwrap().to_owned();
    let again = caller.call(method, request.clone()).await.unwrap();
    assert_eq!(again["serverCertificateId"], id);
    let rename = json!({"region_id": REGION, "server_certificate_id": id, "server_certificate_name": "pay-1"});
    world.admin.call("SetServerCertificateName", rename).await.unwrap();
    let refused = caller.call(method, request.clone()).await.unwrap_err();
    assert_eq!(refused.reason, "SERVER_CERTIFICATE_NOT_FOUND");
    assert!(!refused.text.contains(&id), "{}", refused.text);
    // The admin's certificate outside, by the same request: the request is out of the scope.
    let outside = upload("pay-2", &world.shop, &pair, "token 2");
    world.admin.call(method, outside.clone()).await.unwrap();
    assert_eq!(caller.refused(method, outside).await, "OUT_OF_SCOPE");
    world.server.stop().await;
}

/// A certificate that leaves the scope while the caller's change waits for it stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_leaves_the_scope_is_not_changed() {
    let world = World::new().await;
    let limits = Limits {
        regions: vec![REGION.into()],
        groups: vec![world.shop.clone()],
        prefixes: vec!["shop-".into()],
    };
    let caller = world.caller(&limits).await;
    let other = world.server.sql().await;
    for (is_deleted, statement, method, more) in [
        (
            false,
            "store::rename",
            "SetServerCertificateName",
            json!({"server_certificate_name": "shop-new"}),
        ),
        (
            false,
            "store::move_to_group",
            "MoveResourceGroup",
            json!({"resource_type": "certificate", "new_resource_group_id": world.shop}),
        ),
        (false, "store::delete", "DeleteServerCertificate", json!({})),
        (
            false,
            "store::renew",
            "RenewServerCertificate",
            json!({
                "server_certificate": NEW_PAIR.certificate, "private_key": NEW_PAIR.key, "allow_lost_names": true,
            }),
        ),
        (true, "store::undelete", "UndeleteServerCertificate", json!({})),
        (true, "store::purge", "PurgeServerCertificate", json!({})),
        (
            false,
            "store::set_tags",
            "TagResources",
            json!({"resource_type": "certificate", "tags": [{"key": "new", "value": "tag"}]}),
        ),
        (
            false,
            "store::set_tags",
            "UntagResources",
            json!({"resource_type": "certificate", "all": true}),
        ),
    ] {
        let is_wanted = |one: &&Certificate| limits.has(one) && one.kind == "server" && one.is_deleted == is_deleted;
        let one = world.certificates.iter().find(is_wanted).unwrap();
        let mut request = more;
        request["region_id"] = REGION.into();
        for field in caller.method(method).input().fields() {
            match field.name() {
                "server_certificate_id" | "resource_id" => request[field.name()] = one.id.clone().into(),
                "resource_ids" => request["resource_ids"] = json!([one.id]),
                _ => {}
            }
        }
        for leaving in [
            "name = 'pay-outside'".to_owned(),
            "resource_group_id = null".to_owned(),
            format!("resource_group_id = '{}'", world.bank),
        ] {
            let rows_of =
                "select row::text, (select string_agg(tag::text, ';' order by tag::text) from certificate_tag as tag
                             where (tag.created_ms, tag.random) = (row.created_ms, row.random))
                           from certificate as row where created_ms = $1 and random = $2";
            let id = "select created_ms, random from certificate where name = $1";
            let id = world.sql.query_one(id, &[&one.name]).await.unwrap();
            let (created_ms, random): (i64, i64) = (id.get(0), id.get(1));
            world.sql.batch_execute("begin").await.unwrap();
            let leave = format!(
                "update certificate set {leaving}, revision = revision + 1 where created_ms = $1 and random = $2"
            );
            assert_eq!(world.sql.execute(&leave, &[&created_ms, &random]).await.unwrap(), 1);
            let (answer, ()) = tokio::join!(caller.call(method, request.clone()), async {
                until_waiting(&other, statement, 1).await;
                world.sql.batch_execute("commit").await.unwrap();
            });
            let refused = answer.unwrap_err();
            let expected = match method {
                "MoveResourceGroup" | "TagResources" | "UntagResources" => "RESOURCE_NOT_FOUND",
                _ => "SERVER_CERTIFICATE_NOT_FOUND",
            };
            assert_eq!(refused.reason, expected, "{method} {leaving}");
            let row = world.sql.query_one(rows_of, &[&created_ms, &random]).await.unwrap();
            let (row, tags): (String, Option<String>) = (row.get(0), row.get(1));
            assert!(!row.contains("shop-new"), "{row}");
            assert!(
                tags.is_some_and(|tags| tags.contains("team") && !tags.contains("new")),
                "{method} {leaving}"
            );
            let deleted = "select deleted_at is not null from certificate where created_ms = $1 and random = $2";
            let deleted: bool = world
                .sql
                .query_one(deleted, &[&created_ms, &random])
                .await
                .unwrap()
                .get(0);
            assert_eq!(deleted, is_deleted, "{method} {leaving}");
            let back = "update certificate set name = $3, resource_group_id = $4, revision = revision + 1
                        where created_ms = $1 and random = $2";
            let back_to: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [&created_ms, &random, &one.name, &world.shop];
            assert_eq!(world.sql.execute(back, &back_to).await.unwrap(), 1);
        }
    }
    world.server.stop().await;
}

/// Many certificates outside the scope make pages short, or empty. Their number does not raise the cost of a page.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_a_limited_number_of_certificates_outside_the_scope() {
    let world = World::new().await;
    let prefixes = Limits {
        prefixes: vec!["late-".into()],
        ..Default::default()
    };
    let caller = world.caller(&prefixes).await;
    let model = world
        .certificates
        .iter()
        .find(|one| one.kind == "server" && !one.is_deleted && one.group == world.default_group)
        .unwrap();
    // 25,000 certificates outside, and after them one inside.
    let fill = format!(
        "begin;
         create temporary table model as select c.*, sealed from certificate c
           join private_key using (account_id, created_ms, random, key_id) where name = '{}';
         create temporary table row as select n, 2000000000000 + n as created_ms from generate_series(1, 25000) as n;
         insert into private_key (account_id, created_ms, random, key_id, sealed)
           select account_id, row.created_ms, n, key_id, sealed from row, model;
         insert into certificate (
           account_id, created_ms, random, kind, region_id, name, revision, version, key_id, fingerprint, fingerprint_sha256,
           common_name, subject_alternative_names, searchable_names, not_before_ms, not_after_ms,
           chain_not_after_ms, serial_number, issuer, searchable_issuer, subject,
           key_algorithm, key_size, signature_algorithm, spki_sha256, chain, chain_length
         )
           select account_id, row.created_ms, n, kind, region_id, case n when 25000 then 'late-1' else 'early-' || n end, revision,
             version, key_id, fingerprint, fingerprint_sha256, common_name, subject_alternative_names, searchable_names,
             not_before_ms, not_after_ms,
             chain_not_after_ms, serial_number, issuer, searchable_issuer, subject, key_algorithm, key_size, signature_algorithm,
             spki_sha256, chain, chain_length
           from row, model;
         insert into certificate_tag (account_id, created_ms, random, kind, key, value)
           select account_id, row.created_ms, n, kind, 'team', 'all' from row, model;
         commit; analyze",
        model.name
    );
    world.sql.batch_execute(&fill).await.unwrap();
    let late = stored_id(world.account, 2_000_000_025_000, 25_000).to_string();
    for (method, request, list, next, is_late) in [
        (
            "DescribeServerCertificates",
            json!({}),
            "serverCertificates",
            "page_token",
            "serverCertificateId",
        ),
        (
            "DescribeServerCertificates",
            json!({"region_id": model.region}),
            "serverCertificates",
            "page_token",
            "serverCertificateId",
        ),
        (
            "DescribeServerCertificates",
            json!({"resource_group_id": world.default_group}),
            "serverCertificates",
            "page_token",
            "serverCertificateId",
        ),
        (
            "DescribeServerCertificates",
            json!({"tags": [{"key": "team", "value": "all"}]}),
            "serverCertificates",
            "page_token",
            "serverCertificateId",
        ),
        (
            "SearchServerCertificates",
            json!({"order_by": "SEARCH_ORDER_EXPIRE_TIME"}),
            "serverCertificates",
            "page_token",
            "serverCertificateId",
        ),
        (
            "ListTagResources",
            json!({"region_id": model.region, "resource_type": "certificate", "tags": [{"key": "team", "value": "all"}]}),
            "tagResources",
            "next_token",
            "resourceId",
        ),
    ] {
        let (mut request, mut sizes, mut found) = (request, Vec::new(), Vec::new());
        let answered = if next == "next_token" {
            "nextToken"
        } else {
            "nextPageToken"
        };
        loop {
            let page = caller.call(method, request.clone()).await.unwrap();
            let page_of = page[list].as_array().cloned().unwrap_or_default();
            sizes.push(page_of.len());
            found.extend(page_of.iter().map(|one| one[is_late].as_str().unwrap().to_owned()));
            match page[answered].as_str() {
                None => break,
                Some(token) => request[next] = token.into(),
            }
        }
        assert_eq!(found, [late.as_str()], "{method} {request}");
        assert_eq!(sizes[..3], [0, 0, 1], "{method} {request}");
    }
    let tokens = ("accountFingerprints", "page_token", "nextPageToken");
    let listed = caller.all("ListAccountFingerprints", json!({}), tokens).await;
    assert_eq!(texts(&listed), [model.fingerprint.as_str()]);

    // A scope of one region or one group is read from its index: its only page is whole.
    for limits in [
        Limits {
            regions: vec![
                [REGION, ELSEWHERE]
                    .into_iter()
                    .find(|region| *region != model.region)
                    .unwrap()
                    .into(),
            ],
            ..Default::default()
        },
        Limits {
            groups: vec![world.shop.clone()],
            ..Default::default()
        },
    ] {
        let caller = world.caller(&limits).await;
        let page = caller.call("DescribeServerCertificates", json!({})).await.unwrap();
        assert_eq!(page["serverCertificates"].as_array().unwrap().len(), 4, "{limits:?}");
        assert_eq!(page["nextPageToken"], Value::Null, "{limits:?}");
    }
    world.server.stop().await;
}
