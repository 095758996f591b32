//! Accounts, roles and actors. No I/O, no clock, no protocol.

mod actor;
mod id;
mod role;

pub use actor::{Actor, Principal};
pub use id::{AccountId, AccountIdError};
pub use role::Role;
