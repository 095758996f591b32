//! `certkeep regions`.

use clap::Args;

use super::Failure;
use super::answer::{Effect, answered};
use super::connection::ConnectionArgs;
use super::print::{self, ListOutput};
use crate::grpc::pb;

#[derive(Args)]
pub(super) struct RegionsArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Language of the names: zh-CN, en-US or ja.
    #[arg(long, default_value = "en-US")]
    language: String,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

pub(super) async fn regions(args: RegionsArgs) -> Result<(), Failure> {
    let request = pb::DescribeRegionsRequest {
        accept_language: args.language,
    };
    let answer = args.connection.connect()?.describe_regions(request).await;
    print::regions(&answered(answer, Effect::Reads)?, args.output)
}
