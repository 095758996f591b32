//! Accounts, roles, quotas and actors. No I/O, no clock, no protocol.

mod actor;
mod client_identity;
mod id;
mod quota;
mod role;

pub use actor::{Actor, Principal};
pub use client_identity::{IdentityKind, IdentityName};
pub use id::{AccountId, AccountIdError};
pub use quota::QuotaKind;
pub use role::Role;
