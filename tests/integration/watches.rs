//! WatchServerCertificates: the present state, then every change in order and without a gap.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use certkeep::grpc::pb::delivery_service_client::DeliveryServiceClient;
use certkeep::grpc::pb::{self, CertificateEventKind as Kind};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::bad_input::reason;
use crate::calls::{self, delete, purge, rename, stored, tags, undelete};
use crate::external::tool;
use crate::harness::{Account, Bearer, REGION, TestServer, bearer, until, upload_of};
use crate::load::Load;
use crate::pki::{self, Key};
use crate::process::{CERTKEEP, Certkeep, DataDir};
use crate::proof::{figure, times};
use crate::resource_groups::{made, move_to};
use crate::scope::Limits;
use crate::tags::tag;

type Delivery = DeliveryServiceClient<InterceptedService<Channel, Bearer>>;
type Request = pb::WatchServerCertificatesRequest;
type Message = pb::WatchServerCertificatesResponse;

fn delivery(server: &TestServer, key: &str) -> Delivery {
    DeliveryServiceClient::with_interceptor(server.channel(), bearer(key))
}

/// An open stream, and its last token.
pub struct Watch {
    stream: Streaming<Message>,
    pub token: String,
}

impl Watch {
    pub async fn open(server: &TestServer, key: &str, request: Request) -> Result<Self, Status> {
        let stream = delivery(server, key).watch_server_certificates(request).await?;
        Ok(Self {
            stream: stream.into_inner(),
            token: String::new(),
        })
    }

    /// The next message, or the end.
    pub async fn next(&mut self) -> Result<Message, Status> {
        let next = tokio::time::timeout(Duration::from_secs(40), self.stream.message()).await;
        let message = next
            .expect("no message")
            .map(|message| message.expect("a stream ends with an error"))?;
        self.token.clone_from(&message.resume_token);
        Ok(message)
    }

    /// The kind, the name if there is a certificate, and the id.
    async fn short(&mut self) -> (Kind, String, String) {
        let message = self.next().await.unwrap();
        let name = message
            .server_certificate
            .as_ref()
            .map(|stored| stored.server_certificate_name.clone());
        (message.kind(), name.unwrap_or_default(), message.server_certificate_id)
    }

    /// The present certificates, up to SYNCED.
    async fn synced(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            match self.short().await {
                (Kind::Synced, ..) => return names,
                (Kind::Present, name, _) => names.push(name),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The error that ends the stream, after any messages.
    pub async fn end(&mut self) -> Status {
        loop {
            if let Err(end) = self.next().await {
                return end;
            }
        }
    }
}

fn named(pair: &pki::Pair, name: &str) -> pb::UploadServerCertificateRequest {
    pb::UploadServerCertificateRequest {
        server_certificate_name: name.into(),
        ..upload_of(pair)
    }
}

fn metadata_token(end: &Status) -> String {
    let details = end.get_error_details();
    details.error_info().unwrap().metadata["resume_token"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_sent_once_in_order_with_its_event_and_from_any_replica() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    let client = server.client();
    let consumer = server.add_key("consumer", Account::First).await;
    let pair = pki::self_signed(Key::P256, "a.example");
    let first = stored(&client, &named(&pair, "first")).await;
    let request = Request {
        with_certificate_chain: true,
        ..Request::default()
    };
    let mut here = Watch::open(&server, &consumer, request.clone()).await.unwrap();
    let mut there = Watch::open(&replica, &consumer, request.clone()).await.unwrap();
    let group = made(&server, "shop").await;

    assert_eq!(
        (here.synced().await, there.synced().await),
        (vec!["first".to_owned()], vec!["first".to_owned()])
    );
    let second = stored(&client, &named(&pair, "second")).await;
    rename(&client, &first, "renamed", "").await.unwrap();
    tag(&client, &[&first], &[("k", "v")]).await.unwrap();
    move_to(&client, &first, &group).await.unwrap();
    delete(&client, &first, "").await.unwrap();
    undelete(&client, &first, "").await.unwrap();
    delete(&client, &first, "").await.unwrap();
    purge(&client, &first, "").await.unwrap();
    let expected = [
        (Kind::Uploaded, &second),
        (Kind::Renamed, &first),
        (Kind::Tagged, &first),
        (Kind::Moved, &first),
        (Kind::Deleted, &first),
        (Kind::Undeleted, &first),
        (Kind::Deleted, &first),
        (Kind::Purged, &first),
    ];
    let sql = server.sql().await;
    let rows = sql
        .query("select request_id::text from event order by position", &[])
        .await
        .unwrap();
    let events: Vec<String> = rows.iter().map(|row| row.get::<_, String>(0).to_uppercase()).collect();
    for watch in [&mut here, &mut there] {
        let mut tokens = Vec::new();
        for ((kind, id), event) in expected.iter().zip(&events[1..]) {
            let message = watch.next().await.unwrap();
            assert_eq!(
                (message.kind(), &message.server_certificate_id, &message.event_id),
                (*kind, *id, event)
            );
            assert!(message.event_time.is_some() && message.version == 1);
            match (kind, message.server_certificate) {
                (Kind::Uploaded, Some(certificate)) => assert_eq!(certificate.certificate_chain, pair.certificate),
                (_, Some(certificate)) => assert_eq!(certificate.server_certificate_name, "renamed"),
                // A later event may have removed it already.
                (_, None) => assert_ne!(*kind, Kind::Uploaded),
            }
            tokens.push(message.resume_token);
        }
        // Each token goes on after its message, from the other replica too.
        for (at, token) in tokens.into_iter().enumerate().take(7) {
            let request = Request {
                resume_token: token,
                ..Request::default()
            };
            let mut resumed = Watch::open(&replica, &consumer, request).await.unwrap();
            let message = resumed.next().await.unwrap();
            assert_eq!(
                (message.kind(), &message.event_id),
                (expected[at + 1].0, &events[at + 2])
            );
        }
    }
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_move_in_and_out_of_the_filters_and_the_scope_come_and_leave_once() {
    let server = TestServer::start().await;
    let client = server.client();
    let pair = pki::self_signed(Key::P256, "a.example");
    let group = made(&server, "shop").await;
    let scoped = server.add_key("reader", Account::First).await;
    let limits = Limits {
        groups: vec![group.clone()],
        ..Limits::default()
    };
    server.limit_key(&scoped, &limits).await;
    let ids = [
        stored(&client, &named(&pair, "shop-1")).await,
        stored(&client, &named(&pair, "bank-1")).await,
    ];
    let admin = server.admin_key();
    let open = async |key: &str, request: Request| {
        let mut watch = Watch::open(&server, key, request).await.unwrap();
        (watch.synced().await, watch)
    };
    let (names, mut by_prefix) = open(
        admin,
        Request {
            server_certificate_name_prefix: "shop-".into(),
            ..Request::default()
        },
    )
    .await;
    assert_eq!(names, ["shop-1"]);
    let (names, mut by_tag) = open(
        admin,
        Request {
            tags: tags(&[("live", "yes")]),
            ..Request::default()
        },
    )
    .await;
    assert_eq!(names, [""; 0]);
    let (names, mut by_group) = open(
        admin,
        Request {
            resource_group_id: group.clone(),
            region_id: REGION.into(),
            ..Request::default()
        },
    )
    .await;
    assert_eq!(names, [""; 0]);
    let (names, mut by_id) = open(
        admin,
        Request {
            server_certificate_ids: vec![ids[1].clone()],
            ..Request::default()
        },
    )
    .await;
    assert_eq!(names, ["bank-1"]);
    let (names, mut by_scope) = open(&scoped, Request::default()).await;
    assert_eq!(names, [""; 0]);

    let default = calls::get(&client, &ids[0]).await.unwrap().resource_group_id;
    // Into and out of each filter. Then a change that only the watch of the id sees.
    rename(&client, &ids[0], "bank-2", "").await.unwrap();
    rename(&client, &ids[0], "shop-2", "").await.unwrap();
    tag(&client, &[&ids[0]], &[("live", "yes")]).await.unwrap();
    tag(&client, &[&ids[0]], &[("live", "no")]).await.unwrap();
    move_to(&client, &ids[0], &group).await.unwrap();
    move_to(&client, &ids[0], &default).await.unwrap();
    rename(&client, &ids[1], "bank-3", "").await.unwrap();
    // It is purged while it is in the group, with the tag. The rows that tell this are gone.
    let gone = stored(&client, &named(&pair, "shop-3")).await;
    tag(&client, &[&gone], &[("live", "yes")]).await.unwrap();
    move_to(&client, &gone, &group).await.unwrap();
    delete(&client, &gone, "").await.unwrap();
    purge(&client, &gone, "").await.unwrap();

    let kinds = async |watch: &mut Watch, count: usize| {
        let mut seen = Vec::new();
        for _ in 0..count {
            let message = watch.next().await.unwrap();
            seen.push((message.kind(), message.server_certificate_id));
        }
        seen
    };
    let of = |id: &str, kinds: &[Kind]| kinds.iter().map(|kind| (*kind, id.to_owned())).collect::<Vec<_>>();
    use Kind::{Deleted, Left, Moved, Purged, Renamed, Tagged, Uploaded};
    assert_eq!(
        kinds(&mut by_prefix, 11).await,
        [
            of(&ids[0], &[Left, Uploaded, Tagged, Tagged, Moved, Moved]),
            of(&gone, &[Uploaded, Tagged, Moved, Deleted, Purged])
        ]
        .concat()
    );
    let came_and_left = [
        of(&ids[0], &[Uploaded, Left]),
        of(&gone, &[Uploaded, Moved, Deleted, Purged]),
    ]
    .concat();
    assert_eq!(kinds(&mut by_tag, 6).await, came_and_left);
    let came_and_left = [of(&ids[0], &[Uploaded, Left]), of(&gone, &[Uploaded, Deleted, Purged])].concat();
    assert_eq!(kinds(&mut by_group, 5).await, came_and_left);
    assert_eq!(kinds(&mut by_scope, 5).await, came_and_left);
    assert_eq!(kinds(&mut by_id, 1).await, of(&ids[1], &[Renamed]));

    // The same from the tokens: the table is read, after everything has happened.
    let (_, mut all) = open(admin, Request::default()).await;
    rename(&client, &ids[1], "bank-4", "").await.unwrap();
    assert_eq!(kinds(&mut all, 1).await, of(&ids[1], &[Renamed]));
    assert_eq!(kinds(&mut by_id, 1).await, of(&ids[1], &[Renamed]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_with_a_holder_holds_what_it_sends_while_it_lives() {
    let server = TestServer::start().await;
    let client = server.client();
    let consumer = server.add_key("consumer", Account::First).await;
    let pair = pki::self_signed(Key::P256, "a.example");
    let first = stored(&client, &named(&pair, "shop-1")).await;
    let request = Request {
        holder: "edge/1".into(),
        server_certificate_name_prefix: "shop-".into(),
        ..Request::default()
    };
    let refused = Watch::open(&server, server.admin_key(), request.clone())
        .await
        .err()
        .unwrap();
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::PermissionDenied, "PERMISSION_DENIED".into())
    );
    let misnamed = Request {
        holder: "a b".into(),
        ..request.clone()
    };
    let refused = Watch::open(&server, &consumer, misnamed).await.err().unwrap();
    assert_eq!(reason(&refused), "FIELD_INVALID");

    let is_held = async |id: &str| {
        let refused = delete(&client, id, "0").await.unwrap_err();
        // With a wrong etag, nothing is deleted.
        assert_eq!(reason(&refused), "ETAG_MISMATCH");
        let leases = pb::ListLeasesRequest {
            server_certificate_id: id.into(),
            ..Default::default()
        };
        let listed = delivery(&server, &consumer)
            .list_leases(leases)
            .await
            .unwrap()
            .into_inner();
        let of_watch = |lease: &pb::Lease| {
            (lease.kind(), lease.holder.as_str(), lease.sent_version) == (pb::LeaseKind::Watch, "edge/1", 1)
        };
        assert!(listed.leases.iter().all(of_watch));
        !listed.leases.is_empty()
    };
    let mut watch = Watch::open(&server, &consumer, request.clone()).await.unwrap();
    assert_eq!(watch.synced().await, ["shop-1"]);
    assert!(is_held(&first).await);
    let second = stored(&client, &named(&pair, "shop-2")).await;
    assert_eq!(watch.short().await.2, second);
    assert!(is_held(&second).await);
    assert_eq!(
        reason(&delete(&client, &second, "").await.unwrap_err()),
        "CERTIFICATE_IN_USE"
    );
    // What no longer matches is released.
    rename(&client, &second, "bank-2", "").await.unwrap();
    assert_eq!(watch.short().await.0, Kind::Left);
    until(async || !is_held(&second).await).await;
    delete(&client, &second, "").await.unwrap();
    // A resumed watch holds again what an earlier one was sent.
    let resumed = Request {
        resume_token: watch.token.clone(),
        ..request
    };
    drop(watch);
    until(async || !is_held(&first).await).await;
    let resumed = Watch::open(&server, &consumer, resumed).await.unwrap();
    until(async || is_held(&first).await).await;
    drop(resumed);
    until(async || !is_held(&first).await).await;
    delete(&client, &first, "").await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_watch_reads_what_happened_from_the_table() {
    let server = TestServer::start().await;
    let client = server.client();
    let pair = pki::self_signed(Key::P256, "a.example");
    let shop = || Request {
        server_certificate_name_prefix: "shop-".into(),
        ..Request::default()
    };
    let mut watch = Watch::open(&server, server.admin_key(), shop()).await.unwrap();
    assert_eq!(watch.synced().await, [""; 0]);
    let token = watch.token.clone();
    drop(watch);
    let id = stored(&client, &named(&pair, "bank-1")).await;
    for name in ["shop-1", "bank-2", "shop-2", "bank-3"] {
        rename(&client, &id, name, "").await.unwrap();
    }
    delete(&client, &id, "").await.unwrap();
    purge(&client, &id, "").await.unwrap();
    let request = Request {
        resume_token: token.clone(),
        ..shop()
    };
    let mut watch = Watch::open(&server, server.admin_key(), request.clone()).await.unwrap();
    for kind in [Kind::Uploaded, Kind::Left, Kind::Uploaded, Kind::Left] {
        let message = watch.next().await.unwrap();
        // It is gone, and its present name was never visible.
        assert_eq!((message.kind(), message.server_certificate), (kind, None));
    }

    // The token is for these filters, this scope and this account.
    let scoped = server.add_key("reader", Account::First).await;
    let limits = Limits {
        prefixes: vec!["shop-".into()],
        ..Limits::default()
    };
    server.limit_key(&scoped, &limits).await;
    let foreign = server.add_key("admin", Account::New).await;
    let refused = async |key: &str, request: Request| match Watch::open(&server, key, request).await {
        Ok(_) => panic!("it must be refused"),
        Err(refused) => (refused.code(), reason(&refused)),
    };
    let invalid = (Code::InvalidArgument, "RESUME_TOKEN_INVALID".to_owned());
    let admin = server.admin_key();
    for (key, prefix) in [
        (admin, "bank-"),
        (scoped.as_str(), "shop-"),
        (foreign.as_str(), "shop-"),
    ] {
        let request = Request {
            server_certificate_name_prefix: prefix.into(),
            ..request.clone()
        };
        assert_eq!(refused(key, request).await, invalid, "{prefix}");
    }
    let with = |change: fn(&mut Request)| {
        let mut request = Request::default();
        change(&mut request);
        request
    };
    for (request, expected) in [
        (
            with(|request| request.resume_token = "x".into()),
            "RESUME_TOKEN_INVALID",
        ),
        (with(|request| request.region_id = "mars-1".into()), "REGION_NOT_FOUND"),
        (
            with(|request| request.resource_group_id = "x".into()),
            "RESOURCE_GROUP_NOT_FOUND",
        ),
        (
            with(|request| request.server_certificate_ids = vec!["x".into()]),
            "SERVER_CERTIFICATE_NOT_FOUND",
        ),
        (
            with(|request| request.server_certificate_ids = vec!["x".into(); 1001]),
            "FIELD_INVALID",
        ),
        (
            with(|request| request.server_certificate_name_prefix = "a b".into()),
            "FIELD_INVALID",
        ),
        (with(|request| request.tags = tags(&[("", "x")])), "TAG_INVALID"),
    ] {
        assert_eq!(refused(admin, request).await.1, expected);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_its_token_at_a_drain_at_the_age_of_the_connection_and_when_history_broke() {
    let server = TestServer::start_with(|config| config.max_connection_age = Duration::from_secs(2)).await;
    let replica = server.replica(|_| {}).await;
    let client = server.client();
    let pair = pki::self_signed(Key::P256, "a.example");
    let id = stored(&client, &named(&pair, "a")).await;
    let admin = server.admin_key();
    let mut aging = Watch::open(&server, admin, Request::default()).await.unwrap();
    let mut drained = Watch::open(&replica, admin, Request::default()).await.unwrap();
    aging.synced().await;
    drained.synced().await;
    rename(&client, &id, "b", "").await.unwrap();
    for watch in [&mut aging, &mut drained] {
        assert_eq!(watch.short().await, (Kind::Renamed, "b".into(), id.clone()));
    }
    let stopping = tokio::spawn(replica.stop());
    for mut watch in [aging, drained] {
        let end = watch.end().await;
        assert_eq!((end.code(), reason(&end)), (Code::Unavailable, "STREAM_ENDED".into()));
        let request = Request {
            resume_token: metadata_token(&end),
            ..Request::default()
        };
        let mut resumed = Watch::open(&server, admin, request).await.unwrap();
        rename(&server.client(), &id, "c", "").await.unwrap();
        assert_eq!(resumed.short().await, (Kind::Renamed, "c".into(), id.clone()));
    }
    stopping.await.unwrap();
    server.stop().await;

    // A key that is disabled, and a database that lost the last event and has another one in its place.
    let server = TestServer::start().await;
    let client = server.client();
    stored(&client, &named(&pair, "a")).await;
    let key = server.add_key("reader", Account::First).await;
    let mut refused = Watch::open(&server, &key, Request::default()).await.unwrap();
    let mut broken = Watch::open(&server, server.admin_key(), Request::default())
        .await
        .unwrap();
    refused.synced().await;
    broken.synced().await;
    let sql = server.sql().await;
    let disable = "update access_key set disabled = true where access_key_id = $1";
    sql.execute(disable, &[&key.split_once('.').unwrap().0]).await.unwrap();
    let began = Instant::now();
    let end = refused.end().await;
    assert_eq!(
        (end.code(), reason(&end)),
        (Code::Unauthenticated, "ACCESS_KEY_DISABLED".into())
    );
    // Other tests slow the short form down.
    let limit = Duration::from_secs(times(30, 3) as u64);
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
    let other_event = "grant update on event to certkeep; update event set request_id = gen_random_uuid()";
    sql.batch_execute(other_event).await.unwrap();
    let end = broken.end().await;
    assert_eq!(
        (end.code(), reason(&end)),
        (Code::OutOfRange, "RESUME_TOKEN_EXPIRED".into())
    );
    let request = Request {
        resume_token: broken.token.clone(),
        ..Request::default()
    };
    let end = Watch::open(&server, server.admin_key(), request).await.err().unwrap();
    assert_eq!(reason(&end), "RESUME_TOKEN_EXPIRED");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_present_state_goes_on_after_each_of_its_messages_and_waits_for_a_slow_caller() {
    let certificates = times(100, 600);
    let server = TestServer::start().await;
    let client = server.client();
    let pair = pki::self_signed(Key::P256, "a.example");
    let mut uploads = tokio::task::JoinSet::new();
    for number in 0..certificates {
        let (client, request) = (client.clone(), named(&pair, &format!("n{number}")));
        uploads.spawn(async move { stored(&client, &request).await });
    }
    let mut ids = uploads.join_all().await;
    ids.sort();
    let by_id = Request {
        server_certificate_ids: ids[..70].to_vec(),
        ..Request::default()
    };
    for (request, count) in [(Request::default(), certificates), (by_id, 70)] {
        let mut seen = Vec::new();
        let mut request = request;
        // Each call takes some messages, and the next call goes on after the last of them.
        loop {
            let mut watch = Watch::open(&server, server.admin_key(), request.clone()).await.unwrap();
            let (mut taken, mut kind) = (0, Kind::Present);
            while kind == Kind::Present && taken < 40 {
                let message = watch.next().await.unwrap();
                kind = message.kind();
                seen.extend(message.server_certificate.map(|stored| stored.server_certificate_id));
                taken += 1;
            }
            request.resume_token.clone_from(&watch.token);
            if kind == Kind::Synced {
                break;
            }
        }
        assert_eq!(seen.len(), count);
        seen.sort();
        assert_eq!(seen, ids[..count]);
    }

    // It reads nothing while more changes than the queue holds (in the long form, than the ring holds) happen. Then it gets all of them.
    let mut slow = Watch::open(&server, server.admin_key(), Request::default())
        .await
        .unwrap();
    slow.synced().await;
    let mut changes = tokio::task::JoinSet::new();
    for id in ids.clone() {
        let client = client.clone();
        changes.spawn(async move {
            for name in ["one", "two", "three"] {
                rename(&client, &id, name, "").await.unwrap();
            }
        });
    }
    changes.join_all().await;
    let mut renamed: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for _ in 0..3 * certificates {
        let message = slow.next().await.unwrap();
        assert_eq!(message.kind(), Kind::Renamed);
        let revision = message.server_certificate.unwrap().etag.parse().unwrap();
        renamed.entry(message.server_certificate_id).or_default().push(revision);
    }
    assert!(renamed.len() == certificates && renamed.values().all(|revisions| revisions.len() == 3));
    assert!(
        renamed.values().all(|revisions| revisions.is_sorted()),
        "never in an older state"
    );
    server.stop().await;
}

/// Only the long form waits for the 30 seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_watch_gets_heartbeats_and_a_caller_that_takes_nothing_loses_its_watch() {
    let server = TestServer::start().await;
    let client = server.client();
    let pair = pki::self_signed(Key::P256, "a.example");
    let id = stored(&client, &named(&pair, "a")).await;
    let mut stuck = Watch::open(&server, server.admin_key(), Request::default())
        .await
        .unwrap();
    stuck.synced().await;
    let quiet = Request {
        server_certificate_name_prefix: "quiet".into(),
        ..Request::default()
    };
    let mut quiet = Watch::open(&server, server.admin_key(), quiet).await.unwrap();
    quiet.synced().await;
    let synced = quiet.token.clone();
    for n in 0..times(10, 4000) {
        rename(&client, &id, &format!("n{n}"), "").await.unwrap();
    }
    if times(0, 1) == 1 {
        assert_eq!(quiet.next().await.unwrap().kind(), Kind::Heartbeat);
        assert_ne!(quiet.token, synced);
        tokio::time::sleep(Duration::from_secs(35)).await;
        let mut taken = String::new();
        let end = loop {
            match stuck.next().await {
                Ok(message) => taken = message.event_id,
                Err(end) => break end,
            }
        };
        assert_eq!(
            (end.code(), reason(&end)),
            (Code::ResourceExhausted, "WATCHER_TOO_SLOW".into())
        );
        let request = Request {
            resume_token: metadata_token(&end),
            ..Request::default()
        };
        let mut resumed = Watch::open(&server, server.admin_key(), request).await.unwrap();
        // The stream goes on right after the last message that was taken.
        let sql = server.sql().await;
        let next = "select upper(request_id::text) from event where position =
                    1 + (select position from event where upper(request_id::text) = $1)";
        let next: String = sql.query_one(next, &[&taken]).await.unwrap().get(0);
        assert_eq!(resumed.next().await.unwrap().event_id, next);
        let last = format!("n{}", times(10, 4000) - 1);
        while resumed.short().await.1 != last {}
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_watches_on_after_its_server_stopped() {
    let data_dir = DataDir::new();
    let server = Certkeep::start(&data_dir);
    let address = server.address;
    let pair = pki::self_signed(Key::P256, "a.example");
    let first = stored(&server.client(&data_dir), &named(&pair, "shop-1")).await;
    let mut watch = Command::new(CERTKEEP);
    watch
        .args([
            "watch",
            "--name-prefix",
            "shop-",
            "--output",
            "jsonl",
            "--endpoint",
            &format!("http://{address}"),
        ])
        .arg("--data-dir")
        .arg(data_dir.path())
        .stdout(Stdio::piped());
    let watcher = Watcher::read(watch, |line| {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| message[name].as_str().unwrap().to_owned();
        [field("kind"), field("serverCertificateId")]
    });
    let seen = |count: usize| {
        let lines = watcher.lines.clone();
        until(async move || lines.lock().unwrap().len() >= count)
    };
    seen(2).await;
    server.terminate();
    let server = Certkeep::start_at(&data_dir, address);
    let second = stored(&server.client(&data_dir), &named(&pair, "shop-2")).await;
    stored(&server.client(&data_dir), &named(&pair, "bank-1")).await;
    seen(3).await;
    let line = |kind: &str, id: &str| [format!("CERTIFICATE_EVENT_KIND_{kind}"), id.to_owned()];
    assert_eq!(
        *watcher.lines.lock().unwrap(),
        [line("PRESENT", &first), line("SYNCED", ""), line("UPLOADED", &second)]
    );
    server.terminate();
}

/// The lines of watcher.py, which calls again with its last token whenever its stream ends.
struct Watcher<const FIELDS: usize> {
    process: Child,
    lines: Arc<Mutex<Vec<[String; FIELDS]>>>,
}

impl Watcher<4> {
    fn start(addresses: &[String], key: &str) -> Self {
        let mut command = Command::new(tool("python/bin/python"));
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/watcher.py"))
            .args(addresses)
            .env("PYTHONPATH", tool("python/gen"))
            .env("WATCHER_KEY", key)
            .stdout(Stdio::piped());
        Self::read(command, |line| serde_json::from_str(line).unwrap())
    }
}

impl<const FIELDS: usize> Watcher<FIELDS> {
    fn read(mut command: Command, parse: impl Fn(&str) -> [String; FIELDS] + Send + 'static) -> Self {
        let mut process = command.spawn().unwrap();
        let output = std::io::BufReader::new(process.stdout.take().unwrap());
        let lines: Arc<Mutex<Vec<_>>> = Arc::default();
        let read = lines.clone();
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(output).map_while(Result::ok) {
                read.lock().unwrap().push(parse(&line));
            }
        });
        Self { process, lines }
    }
}

impl<const FIELDS: usize> Drop for Watcher<FIELDS> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_misses_nothing_while_certkeep_and_postgres_are_killed() {
    let data_dir = DataDir::new();
    let mut server = Certkeep::start(&data_dir);
    let address = server.address;
    let key = std::fs::read_to_string(data_dir.admin_key_file()).unwrap();
    let watcher = Watcher::start(&[address.to_string()], key.trim());
    let has_synced = || watcher.lines.lock().unwrap().iter().any(|[kind, ..]| kind == "SYNCED");
    until(async || has_synced()).await;
    let kills = times(2, 200);
    for kill in 0..kills {
        let load = Load::start(&server.client(&data_dir));
        load.acknowledges(20).await;
        if kill % 2 == 0 {
            server.kill();
            load.stop().await;
            server = Certkeep::start_at(&data_dir, address);
        } else {
            let database = data_dir.connection_string();
            let killed = data_dir.kill_postmaster();
            data_dir.until_postgres_is_back(killed, &database).await;
            load.stop().await;
        }
    }
    let load = Load::start(&server.client(&data_dir));
    load.acknowledges(1).await;
    load.stop().await;
    let sql = crate::harness::connect_to(&data_dir.connection_string()).await;
    let rows = sql
        .query("select request_id::text from event order by position", &[])
        .await
        .unwrap();
    let events: Vec<String> = rows.iter().map(|row| row.get::<_, String>(0).to_uppercase()).collect();
    let last = events.last().unwrap();
    until(async || {
        watcher
            .lines
            .lock()
            .unwrap()
            .last()
            .is_some_and(|[_, event, ..]| event == last)
    })
    .await;
    let lines = watcher.lines.lock().unwrap().clone();
    let seen: Vec<_> = lines
        .iter()
        .filter(|[kind, ..]| kind == "UPLOADED")
        .map(|line| line[1].clone())
        .collect();
    // Each event once, in the order of the trail, without a gap.
    assert_eq!(seen, events);
    let ends = lines.iter().filter(|[kind, ..]| kind == "ENDED").count();
    assert!(ends >= kills / 2, "{ends}");
    figure("certkeep and PostgreSQL killed under a watcher", kills);
    figure("events, each seen once and in order", events.len());
    figure("streams and calls that ended", ends);
    server.terminate();
}

/// Resident memory of this process in MiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn many_watchers_need_little_memory_and_each_gets_its_change() {
    let accounts = times(4, 100);
    const WATCHERS: usize = 100;
    let server = TestServer::start().await;
    let replica = Certkeep::start_replica(&server);
    let pair = pki::self_signed(Key::P256, "a.example");
    let before = resident(replica.pid());
    let (mut clients, mut watches) = (Vec::new(), Vec::new());
    for account in 0..accounts {
        let key = server.add_key("admin", Account::New).await;
        // A connection of its own.
        let channel = replica.channel();
        let opening = (0..WATCHERS).map(|watcher| {
            let mut client = DeliveryServiceClient::with_interceptor(channel.clone(), bearer(&key));
            async move {
                let request = Request {
                    server_certificate_name_prefix: format!("w{watcher}-"),
                    ..Request::default()
                };
                let stream = client.watch_server_certificates(request).await.unwrap();
                let mut watch = Watch {
                    stream: stream.into_inner(),
                    token: String::new(),
                };
                assert_eq!(watch.synced().await, [""; 0]);
                (account, watcher, watch)
            }
        });
        let opening: tokio::task::JoinSet<_> = opening.collect();
        watches.extend(opening.join_all().await);
        clients.push(server.client_with(Some(&format!("Bearer {key}"))));
    }
    let idle = resident(replica.pid());
    // One upload for each account, and each tenth of its watchers.
    let mut uploaded = BTreeMap::new();
    for (account, client) in clients.iter().enumerate() {
        for watcher in (0..WATCHERS).step_by(10) {
            let id = stored(client, &named(&pair, &format!("w{watcher}-{account}"))).await;
            uploaded.insert((account, watcher), id);
        }
    }
    let mut kept = Vec::new();
    for (account, watcher, mut watch) in watches {
        if let Some(id) = uploaded.get(&(account, watcher)) {
            let mut message = watch.next().await.unwrap();
            while message.kind() == Kind::Heartbeat {
                message = watch.next().await.unwrap();
            }
            assert_eq!((message.kind(), &message.server_certificate_id), (Kind::Uploaded, id));
        }
        kept.push(watch);
    }
    let after = resident(replica.pid());
    figure("watches on one process", kept.len());
    figure("resident memory without watches, MiB", before);
    figure("resident memory with idle watches, MiB", idle);
    figure("resident memory after changes, MiB", after);
    assert!(after < 300, "{before} {idle} {after}");
    replica.kill();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_watches_of_the_same_replica_and_of_others_soon() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    let client = server.client();
    let pair = pki::self_signed(Key::P256, "a.example");
    let id = stored(&client, &named(&pair, "a")).await;
    let mut here = Watch::open(&server, server.admin_key(), Request::default())
        .await
        .unwrap();
    let mut there = Watch::open(&replica, server.admin_key(), Request::default())
        .await
        .unwrap();
    here.synced().await;
    there.synced().await;
    let (mut of_here, mut of_there) = (Vec::new(), Vec::new());
    for n in 0..times(10, 200) {
        rename(&client, &id, &format!("n{n}"), "").await.unwrap();
        // The answer follows the commit.
        let committed = Instant::now();
        here.next().await.unwrap();
        of_here.push(committed.elapsed());
        there.next().await.unwrap();
        of_there.push(committed.elapsed());
    }
    for (delays, limit, name) in [(&mut of_here, 50, "the same"), (&mut of_there, 100, "another")] {
        delays.sort();
        let median = delays[delays.len() / 2];
        figure(
            &format!("from commit to message on {name} replica, median, ms"),
            format!("{:.1}", median.as_secs_f64() * 1000.0),
        );
        // Other tests slow the short form down.
        let limit = Duration::from_millis(times(10_000, limit) as u64);
        assert!(median < limit, "{name}: {median:?}");
    }
    replica.stop().await;
    server.stop().await;
}
