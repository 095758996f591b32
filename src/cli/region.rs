//! `certkeep regions`.

use clap::Args;

use super::Failure;
use super::answer::{Effect, answered};
use super::connection::ConnectionArgs;
use super::print::plain;
use super::table::{Column, Row, TableArgs};
use crate::grpc::pb;

#[derive(Args)]
pub(super) struct RegionsArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Language of the names: zh-CN, en-US or ja.
    #[arg(long, default_value = "en-US")]
    language: String,
    #[command(flatten)]
    shown: TableArgs<pb::Region>,
}

pub(super) async fn regions(args: RegionsArgs) -> Result<(), Failure> {
    let request = pb::DescribeRegionsRequest {
        accept_language: args.language,
    };
    let answer = args.connection.connect()?.describe_regions(request).await;
    let answer = answered(answer, Effect::Reads)?;
    args.shown
        .print("DescribeRegionsResponse", &answer, "regions", &answer.regions)
}

impl Row for pb::Region {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::text("name", |region| plain(&region.local_name)),
        Column::new("id", |region| plain(&region.region_id)),
    ];
}
