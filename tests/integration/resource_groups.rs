//! Resource groups: made, listed, uploaded into, filtered by, moved to.

use certkeep::grpc::pb::{self, admin_service_client::AdminServiceClient};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::bad_input::wrong_fields;
use crate::ca_certificates;
use crate::calls::{ANY, delete, describe, get, ids, purge, refusal, stored, upload};
use crate::harness::{Account, Bearer, Client, REGION, TestServer, bearer, until_waiting, upload_of};
use crate::pki::{self, Key};

type Admin = AdminServiceClient<InterceptedService<Channel, Bearer>>;

fn admin(server: &TestServer, key: &str) -> Admin {
    AdminServiceClient::with_interceptor(server.channel(), bearer(key))
}

async fn create(admin: &Admin, name: &str) -> Result<pb::ResourceGroup, Status> {
    let request = pb::CreateResourceGroupRequest { name: name.into() };
    let answer = admin.clone().create_resource_group(request).await?.into_inner();
    Ok(answer.resource_group.unwrap())
}

/// The id of a group of the first account.
pub async fn made(server: &TestServer, name: &str) -> String {
    let group = create(&admin(server, server.admin_key()), name).await;
    group.unwrap().resource_group_id
}

/// Makes a group of the first account and deletes it.
pub async fn deleted_group(server: &TestServer) {
    let id = made(server, "short-lived").await;
    remove(&admin(server, server.admin_key()), &id).await.unwrap();
}

async fn list(admin: &Admin, page_size: i32, page_token: &str) -> Result<(Vec<pb::ResourceGroup>, String), Status> {
    let request = pb::ListResourceGroupsRequest {
        page_size,
        page_token: page_token.into(),
    };
    let page = admin.clone().list_resource_groups(request).await?.into_inner();
    Ok((page.resource_groups, page.next_page_token))
}

pub async fn move_to(client: &Client, id: &str, group: &str) -> Result<String, Status> {
    move_if(client, id, group, ANY).await
}

async fn move_if(client: &Client, id: &str, group: &str, if_etag: &str) -> Result<String, Status> {
    let request = pb::MoveResourceGroupRequest {
        region_id: REGION.into(),
        resource_id: id.into(),
        resource_type: "certificate".into(),
        new_resource_group_id: group.into(),
        if_etag: if_etag.into(),
    };
    Ok(client.clone().move_resource_group(request).await?.into_inner().etag)
}

fn of_group(group: &str) -> pb::DescribeServerCertificatesRequest {
    pb::DescribeServerCertificatesRequest {
        resource_group_id: group.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn groups_are_made_once_for_a_name_and_listed_behind_the_default_one() {
    let server = TestServer::start().await;
    let admin = admin(&server, server.admin_key());
    let (only, next) = list(&admin, 0, "").await.unwrap();
    assert_eq!((only.len(), only[0].name.as_str(), next.as_str()), (1, "default", ""));
    let mut made = vec![only[0].clone(), create(&admin, "shop").await.unwrap()];
    assert_eq!(create(&admin, "shop").await.unwrap(), made[1]);
    assert_eq!(create(&admin, "default").await.unwrap(), made[0]);
    for n in 0..4 {
        made.push(create(&admin, &format!("g{n}")).await.unwrap());
    }
    // Within a millisecond their order is that of their random parts.
    for size in [1, 2, 6] {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let (page, next) = list(&admin, size, &token).await.unwrap();
            assert!(page.len() <= size as usize);
            listed.extend(page);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(listed[0].name, "default");
        listed.sort_by(|one, other| one.resource_group_id.cmp(&other.resource_group_id));
        made.sort_by(|one, other| one.resource_group_id.cmp(&other.resource_group_id));
        assert_eq!(listed, made);
    }
    for (wrong, field_reason) in [("", "NAME_INVALID"), ("a b", "NAME_INVALID")] {
        let expected = (Code::InvalidArgument, field_reason.to_owned());
        assert_eq!(refusal(create(&admin, wrong).await), expected);
    }
    assert_eq!(
        refusal(list(&admin, -1, "").await),
        (Code::InvalidArgument, "FIELD_INVALID".into())
    );
    assert_eq!(
        refusal(list(&admin, 1, "x").await),
        (Code::InvalidArgument, "PAGE_TOKEN_INVALID".into())
    );
    server.stop().await;
}

#[tokio::test]
async fn groups_are_an_accounts_own_and_an_admins_matter() {
    let server = TestServer::start().await;
    let ours = create(&admin(&server, server.admin_key()), "shop").await.unwrap();
    let editor = admin(&server, &server.add_key("editor", Account::First).await);
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    assert_eq!(refusal(create(&editor, "x").await), denied);
    assert_eq!(refusal(list(&editor, 0, "").await), denied);

    let key = server.add_key("admin", Account::New).await;
    let strangers = admin(&server, &key);
    let (theirs, _) = list(&strangers, 0, "").await.unwrap();
    assert_eq!(theirs.len(), 1);
    assert_ne!(create(&strangers, "shop").await.unwrap(), ours);
    let stranger = server.client_with(Some(&format!("Bearer {key}")));
    let into_ours = pb::UploadServerCertificateRequest {
        resource_group_id: ours.resource_group_id.clone(),
        ..upload_of(&pki::self_signed(Key::P256, "theirs.example"))
    };
    let not_found = (Code::NotFound, "RESOURCE_GROUP_NOT_FOUND".to_owned());
    assert_eq!(refusal(upload(&stranger, into_ours).await), not_found);
    let id = stored(&stranger, &upload_of(&pki::self_signed(Key::P256, "theirs.example"))).await;
    assert_eq!(
        refusal(move_to(&stranger, &id, &ours.resource_group_id).await),
        not_found
    );
    assert_eq!(
        refusal(move_to(&server.client(), &id, &ours.resource_group_id).await),
        (Code::NotFound, "RESOURCE_NOT_FOUND".into())
    );
    let reader = format!("Bearer {}", server.add_key("reader", Account::First).await);
    let reader = server.client_with(Some(&reader));
    assert_eq!(refusal(move_to(&reader, &id, &ours.resource_group_id).await), denied);
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_is_uploaded_into_a_group_found_by_it_and_moved() {
    let server = TestServer::start().await;
    let client = server.client();
    let admin = admin(&server, server.admin_key());
    let (groups, _) = list(&admin, 0, "").await.unwrap();
    let default = groups[0].resource_group_id.clone();
    let shop = create(&admin, "shop").await.unwrap().resource_group_id;

    let one = upload_of(&pki::self_signed(Key::P256, "one.example"));
    let answer = upload(&client, one.clone()).await.unwrap();
    assert_eq!(answer.resource_group_id, default);
    let one = answer.server_certificate_id;
    let two = pb::UploadServerCertificateRequest {
        resource_group_id: shop.clone(),
        client_token: "two".into(),
        tags: vec![pb::Tag {
            key: "team".into(),
            value: "shop".into(),
        }],
        ..upload_of(&pki::self_signed(Key::P256, "two.example"))
    };
    let dry = pb::UploadServerCertificateRequest {
        validate_only: true,
        client_token: String::new(),
        ..two.clone()
    };
    assert_eq!(upload(&client, dry.clone()).await.unwrap().resource_group_id, shop);
    let answer = upload(&client, two.clone()).await.unwrap();
    assert_eq!(answer.resource_group_id, shop);
    let two_id = answer.server_certificate_id;
    let repeated = upload(&client, two.clone()).await.unwrap();
    assert_eq!(
        (repeated.resource_group_id, repeated.server_certificate_id),
        (shop.clone(), two_id.clone())
    );
    // A token is that of its group too.
    let elsewhere = pb::UploadServerCertificateRequest {
        resource_group_id: default.clone(),
        ..two
    };
    assert_eq!(
        refusal(upload(&client, elsewhere).await),
        (Code::AlreadyExists, "CLIENT_TOKEN_REUSED".into())
    );
    let unknown = pb::UploadServerCertificateRequest {
        resource_group_id: format!("rg-{}", "0".repeat(32)),
        ..dry
    };
    let not_found = (Code::NotFound, "RESOURCE_GROUP_NOT_FOUND".to_owned());
    assert_eq!(refusal(upload(&client, unknown).await), not_found);

    assert_eq!(get(&client, &one).await.unwrap().resource_group_id, default);
    assert_eq!(ids(&client, of_group(&default)).await, std::slice::from_ref(&one));
    assert_eq!(ids(&client, of_group(&shop)).await, std::slice::from_ref(&two_id));
    for unknown in ["rg-1", &format!("rg-{}", "0".repeat(32))] {
        assert_eq!(describe(&client, of_group(unknown)).await, (vec![], String::new()));
    }
    for (group, found) in [(&shop, 1), (&default, 0)] {
        let tagged = pb::DescribeServerCertificatesRequest {
            tags: vec![pb::Tag {
                key: "team".into(),
                value: "shop".into(),
            }],
            ..of_group(group)
        };
        assert_eq!(describe(&client, tagged).await.0.len(), found);
        let by_id = pb::DescribeServerCertificatesRequest {
            server_certificate_id: two_id.clone(),
            ..of_group(group)
        };
        assert_eq!(describe(&client, by_id).await.0.len(), found);
        let elsewhere = pb::DescribeServerCertificatesRequest {
            region_id: "eu-central-1".into(),
            ..of_group(group)
        };
        assert_eq!(describe(&client, elsewhere).await.0.len(), 0);
    }

    let etag = move_to(&client, &one, &shop).await.unwrap();
    let moved = get(&client, &one).await.unwrap();
    assert_eq!((moved.resource_group_id, moved.etag), (shop.clone(), etag));
    assert_eq!(ids(&client, of_group(&shop)).await.len(), 2);
    let old_etag = get(&client, &one).await.unwrap().etag;
    let mismatch = (Code::Aborted, "ETAG_MISMATCH".to_owned());
    assert_eq!(refusal(move_if(&client, &one, &default, "1").await), mismatch);
    move_if(&client, &one, &default, &old_etag).await.unwrap();
    assert_eq!(refusal(move_if(&client, &one, &shop, &old_etag).await), mismatch);
    assert_eq!(ids(&client, of_group(&default)).await, std::slice::from_ref(&one));
    assert_eq!(refusal(move_to(&client, &one, "rg-1").await), not_found);
    delete(&client, &one, ANY).await.unwrap();
    assert_eq!(
        refusal(move_to(&client, &one, &shop).await),
        (Code::NotFound, "RESOURCE_NOT_FOUND".into())
    );
    let deleted = pb::DescribeServerCertificatesRequest {
        deleted: true,
        ..of_group(&default)
    };
    assert_eq!(ids(&client, deleted).await, [one]);
    let wrong = pb::MoveResourceGroupRequest {
        resource_type: "loadbalancer".into(),
        ..Default::default()
    };
    let refused = client.clone().move_resource_group(wrong).await.unwrap_err();
    assert_eq!(
        wrong_fields(&refused),
        ["region_id", "resource_id", "resource_type", "new_resource_group_id"]
    );
    server.stop().await;
}

#[tokio::test]
async fn ca_certificates_are_in_groups_too() {
    let server = TestServer::start().await;
    let client = server.client();
    let admin = admin(&server, server.admin_key());
    let shop = create(&admin, "shop").await.unwrap().resource_group_id;
    let default = list(&admin, 0, "").await.unwrap().0[0].resource_group_id.clone();
    let request = pb::UploadCaCertificateRequest {
        resource_group_id: shop.clone(),
        ..ca_certificates::request()
    };
    let id = ca_certificates::kept(&client, request).await;
    let of_group = |group: &String| ca_certificates::Describe {
        resource_group_id: group.clone(),
        ..Default::default()
    };
    assert_eq!(
        ca_certificates::ids(&client, of_group(&shop)).await,
        std::slice::from_ref(&id)
    );
    assert_eq!(ca_certificates::ids(&client, of_group(&default)).await, [""; 0]);
    let etag = move_to(&client, &id, &default).await.unwrap();
    let moved = ca_certificates::get(&client, &id).await.unwrap();
    assert_eq!((moved.resource_group_id, moved.etag), (default, etag));
    server.stop().await;
}

async fn rename(admin: &Admin, id: &str, name: &str) -> Result<pb::ResourceGroup, Status> {
    let request = pb::UpdateResourceGroupRequest {
        resource_group_id: id.into(),
        name: name.into(),
    };
    let answer = admin.clone().update_resource_group(request).await?.into_inner();
    Ok(answer.resource_group.unwrap())
}

async fn remove(admin: &Admin, id: &str) -> Result<(), Status> {
    let request = pb::DeleteResourceGroupRequest {
        resource_group_id: id.into(),
    };
    admin.clone().delete_resource_group(request).await?;
    Ok(())
}

#[tokio::test]
async fn a_group_takes_only_a_name_that_no_other_group_has() {
    let server = TestServer::start().await;
    let [shop, bank] = [made(&server, "shop").await, made(&server, "bank").await];
    let admin = admin(&server, server.admin_key());
    let taken = (Code::InvalidArgument, "NAME_INVALID".to_owned());
    for name in ["bank", "default", "", "a b"] {
        let refused = rename(&admin, &shop, name).await.unwrap_err();
        assert_eq!(wrong_fields(&refused), ["name"], "{name}");
        assert_eq!(refusal(Err::<(), _>(refused)), taken, "{name}");
    }
    for (id, name) in [(&shop, "shop"), (&shop, "store"), (&bank, "shop")] {
        let group = rename(&admin, id, name).await.unwrap();
        assert_eq!((group.resource_group_id, group.name), (id.clone(), name.to_owned()));
    }
    let unknown = shop.replace(|digit: char| digit.is_ascii_digit(), "0");
    let not_found = (Code::NotFound, "RESOURCE_GROUP_NOT_FOUND".to_owned());
    assert_eq!(refusal(rename(&admin, &unknown, "other").await), not_found);
    assert_eq!(refusal(remove(&admin, &unknown).await), not_found);
    let stranger = self::admin(&server, &server.add_key("admin", Account::New).await);
    assert_eq!(refusal(rename(&stranger, &shop, "other").await), not_found);
    assert_eq!(refusal(remove(&stranger, &shop).await), not_found);
    let editor = self::admin(&server, &server.add_key("editor", Account::First).await);
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    assert_eq!(refusal(rename(&editor, &shop, "other").await), denied);
    assert_eq!(refusal(remove(&editor, &shop).await), denied);
    let default = list(&admin, 0, "").await.unwrap().0[0].resource_group_id.clone();
    for id in [default.as_str(), ""] {
        let refused = [
            rename(&admin, id, "other").await.unwrap_err(),
            remove(&admin, id).await.unwrap_err(),
        ];
        for refused in refused {
            assert_eq!(wrong_fields(&refused), ["resource_group_id"], "{id}");
        }
    }
    let groups = list(&admin, 0, "").await.unwrap().0;
    let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["default", "store", "shop"]);
    server.stop().await;
}

#[tokio::test]
async fn a_group_is_deleted_only_while_no_certificate_is_in_it() {
    let server = TestServer::start().await;
    let client = server.client();
    let [shop, bank] = [made(&server, "shop").await, made(&server, "bank").await];
    let sql = server.sql().await;
    let admin = admin(&server, server.admin_key());
    let not_empty = (Code::FailedPrecondition, "RESOURCE_GROUP_NOT_EMPTY".to_owned());
    let not_found = (Code::NotFound, "RESOURCE_GROUP_NOT_FOUND".to_owned());
    let of_shop = pb::UploadServerCertificateRequest {
        resource_group_id: shop.clone(),
        ..upload_of(&pki::issued(Key::P256, "one.example"))
    };
    let id = stored(&client, &of_shop).await;
    assert_eq!(refusal(remove(&admin, &shop).await), not_empty);
    // It could be undeleted.
    delete(&client, &id, ANY).await.unwrap();
    assert_eq!(refusal(remove(&admin, &shop).await), not_empty);
    purge(&client, &id, ANY).await.unwrap();
    remove(&admin, &shop).await.unwrap();
    assert_eq!(refusal(remove(&admin, &shop).await), not_found);

    // A certificate that comes at the same moment.
    let moved = stored(&client, &upload_of(&pki::issued(Key::P256, "two.example"))).await;
    sql.batch_execute("begin").await.unwrap();
    let into_bank = "update certificate set resource_group_id = $1";
    assert_eq!(sql.execute(into_bank, &[&bank]).await.unwrap(), 1);
    let (result, ()) = tokio::join!(remove(&admin, &bank), async {
        until_waiting(&sql, "store::delete_resource_group", 1).await;
        sql.batch_execute("commit").await.unwrap();
    });
    assert_eq!(refusal(result), not_empty);

    // A group that goes at the same moment.
    let back = "update certificate set resource_group_id = null";
    assert_eq!(sql.execute(back, &[]).await.unwrap(), 1);
    let gone = "delete from resource_group";
    sql.batch_execute("begin").await.unwrap();
    assert_eq!(sql.execute(gone, &[]).await.unwrap(), 1);
    let of_bank = pb::UploadServerCertificateRequest {
        resource_group_id: bank.clone(),
        ..of_shop
    };
    let (uploaded, moved, ()) = tokio::join!(upload(&client, of_bank), move_to(&client, &moved, &bank), async {
        until_waiting(&sql, "store::upload", 1).await;
        until_waiting(&sql, "store::move_to_group", 1).await;
        sql.batch_execute("commit").await.unwrap();
    });
    assert_eq!(refusal(uploaded), not_found);
    assert_eq!(refusal(moved), not_found);
    assert_eq!(server.rows().await[0], 1);
    server.stop().await;
}
