//! Who acts for an account.

use std::fmt;
use std::net::IpAddr;

use uuid::Uuid;

use super::AccountId;

/// How a caller authenticated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Principal {
    /// An access key, given by its id.
    AccessKey(String),
    /// The service itself, or a command on its host.
    Service,
}

impl Principal {
    /// The id in the form that events record. The service itself has no id.
    pub fn id(&self) -> &str {
        match self {
            Self::AccessKey(id) => id,
            Self::Service => "",
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// The author of a change, for the event that records the change.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The caller's account.
    pub account: AccountId,
    /// The caller.
    pub principal: Principal,
    /// The caller's address. The service itself and a command on its host have none.
    pub address: Option<IpAddr>,
    /// The request.
    pub request_id: Uuid,
}
