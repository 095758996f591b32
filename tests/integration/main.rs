//! certkeep at its wire, on a real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test may panic, and its name is its doc"
)]

mod access_keys;
mod accounts;
mod audit;
mod backends;
mod bad_input;
mod batches;
#[path = "../../fuzz/bodies/mod.rs"]
mod bodies;
mod ca_certificates;
mod callers;
mod calls;
mod cas;
mod certificates;
mod client_certificates;
mod clients;
mod command_line;
mod connections;
mod contexts;
mod corpus;
mod crash;
mod database_tls;
mod deletes;
mod differential;
mod disk;
mod documents;
mod envoy;
mod envoy_keys;
mod etags;
mod events;
mod external;
mod faults;
mod files;
mod findings;
mod harness;
mod hostile;
mod hosts;
mod import;
mod isolation;
mod key_commands;
mod key_files;
mod key_pairs;
mod key_providers;
mod key_ring;
mod leases;
mod limits;
mod lists;
mod load;
mod memory;
mod misleading;
mod operation;
mod packaging;
mod pki;
mod plans;
mod private_postgres;
mod process;
mod proof;
mod proxy;
mod purging;
mod quotas;
mod renewals;
mod replicas;
mod resource_groups;
mod restore;
mod retries;
mod reuse;
mod roles;
mod rotation;
mod scope;
mod search;
mod search_commands;
mod search_plans;
mod secret_files;
mod secrets;
#[path = "../../fuzz/seeds.rs"]
mod seeds;
mod slb;
mod slb_clients;
mod slb_faults;
mod slb_transport;
mod standby;
mod starts;
mod store;
mod sync;
mod tags;
mod team;
mod tidy;
mod tls;
mod unreachable;
mod upload;
mod verification;
mod watches;
