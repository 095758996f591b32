//! Accounts and who acts for them. Pure: no I/O, no clock, no protocol.

mod id;

pub use id::{AccountId, AccountIdError};
