//! The commands for tags of server and CA certificates.

use clap::Args;

use super::answer::{Effect, answered};
use super::connection::ConnectionArgs;
use super::print::{self, ListOutput, plain};
use super::table::{Column, Row, TableArgs};
use super::{Failure, target};
use crate::app::RESOURCE_TYPE;
use crate::grpc::pb;

#[derive(Args)]
pub(super) struct TagArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Region of the certificates. Default: the context's, else the only region of the service. [env: CERTKEEP_REGION]
    #[arg(long)]
    region: Option<String>,
    /// Id of a certificate; up to 20.
    #[arg(required = true)]
    ids: Vec<String>,
    /// A tag to set; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE", required = true)]
    tags: Vec<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct UntagArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Region of the certificates. Default: the context's, else the only region of the service. [env: CERTKEEP_REGION]
    #[arg(long)]
    region: Option<String>,
    /// Id of a certificate; up to 20.
    #[arg(required = true)]
    ids: Vec<String>,
    /// Key of a tag to remove; may be repeated.
    #[arg(long = "key", value_name = "KEY", required_unless_present = "all")]
    keys: Vec<String>,
    /// Remove every tag.
    #[arg(long, conflicts_with = "keys")]
    all: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct TagsArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Region of the certificates. Default: the context's, else the only region of the service. [env: CERTKEEP_REGION]
    #[arg(long)]
    region: Option<String>,
    /// Id of a certificate; up to 20.
    #[arg(required_unless_present = "tags")]
    ids: Vec<String>,
    /// Only certificates with this tag; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    #[command(flatten)]
    shown: TableArgs<pb::TagResource>,
}

/// Tags in the form `KEY=VALUE`.
pub(super) fn tags(given: &[String]) -> Result<Vec<pb::Tag>, Failure> {
    let tag = |tag: &String| {
        let (key, value) = tag
            .split_once('=')
            .ok_or_else(|| Failure::usage("a --tag is KEY=VALUE"))?;
        Ok(pb::Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    };
    given.iter().map(tag).collect()
}

/// A name may be that of a server certificate and of a CA certificate.
fn ids(given: Vec<String>) -> Result<Vec<String>, Failure> {
    let lists = "`certkeep describe` and `certkeep ca describe` list";
    given.into_iter().map(|id| target::only_id(id, lists)).collect()
}

pub(super) async fn tag(args: TagArgs) -> Result<(), Failure> {
    let request = pb::TagResourcesRequest {
        region_id: args.connection.region(args.region)?,
        resource_type: RESOURCE_TYPE.to_owned(),
        resource_ids: ids(args.ids)?,
        tags: tags(&args.tags)?,
    };
    let answer = args.connection.connect()?.tag_resources(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::retagged("tagged", &answer.etags, ("TagResourcesResponse", &answer), args.output)
}

pub(super) async fn untag(args: UntagArgs) -> Result<(), Failure> {
    let request = pb::UntagResourcesRequest {
        region_id: args.connection.region(args.region)?,
        resource_type: RESOURCE_TYPE.to_owned(),
        resource_ids: ids(args.ids)?,
        tag_keys: args.keys,
        all: args.all,
    };
    let answer = args.connection.connect()?.untag_resources(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::retagged(
        "untagged",
        &answer.etags,
        ("UntagResourcesResponse", &answer),
        args.output,
    )
}

pub(super) async fn list(args: TagsArgs) -> Result<(), Failure> {
    let mut client = args.connection.connect()?;
    let mut request = pb::ListTagResourcesRequest {
        region_id: args.connection.region(args.region)?,
        resource_type: RESOURCE_TYPE.to_owned(),
        resource_ids: ids(args.ids)?,
        tags: tags(&args.tags)?,
        page_size: 1000,
        ..Default::default()
    };
    let mut all = pb::ListTagResourcesResponse::default();
    loop {
        let page = client.list_tag_resources(request.clone()).await;
        let page = answered(page, Effect::Reads)?;
        all.request_id = page.request_id;
        all.tag_resources.extend(page.tag_resources);
        if page.next_token.is_empty() {
            return args
                .shown
                .print("ListTagResourcesResponse", &all, "tags", &all.tag_resources);
        }
        request.next_token = page.next_token;
    }
}

impl Row for pb::TagResource {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::text("key", |tag| plain(&tag.tag_key)),
        Column::text("value", |tag| plain(&tag.tag_value)),
        Column::new("id", |tag| plain(&tag.resource_id)),
    ];
}
