//! `certkeep whoami`.

use clap::Args;

use super::Failure;
use super::answer::{Effect, answered};
use super::connection::ConnectionArgs;
use super::print::{self, ListOutput};
use crate::grpc::pb;

#[derive(Args)]
pub(super) struct WhoamiArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

pub(super) async fn whoami(args: WhoamiArgs) -> Result<(), Failure> {
    let request = pb::DescribeCallerRequest {};
    let answer = args.connection.connect_as_admin()?.describe_caller(request).await;
    print::caller(&answered(answer, Effect::Reads)?, args.output)
}
