//! certkeep at its wire, on a real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test may panic, and its name is its doc"
)]

mod bad_input;
mod callers;
mod calls;
mod certificates;
mod command_line;
mod connections;
mod crash;
mod database_tls;
mod deletes;
mod disk;
mod documents;
mod etags;
mod external;
mod faults;
mod findings;
mod harness;
mod hosts;
mod import;
mod lists;
mod load;
mod operation;
mod pki;
mod plans;
mod private_postgres;
mod process;
mod proxy;
mod quotas;
mod replicas;
mod restore;
mod retries;
mod reuse;
mod search;
mod search_commands;
mod search_plans;
mod standby;
mod store;
mod tidy;
mod tls;
mod upgrade;
mod upload;
