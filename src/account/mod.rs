//! Accounts, roles, quotas and actors. No I/O, no clock, no protocol.

mod actor;
mod id;
mod quota;
mod role;

pub use actor::{Actor, Principal};
pub use id::{AccountId, AccountIdError};
pub use quota::QuotaKind;
pub use role::Role;
