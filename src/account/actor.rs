//! Who acts for an account.

use std::fmt;
use std::net::IpAddr;

use uuid::Uuid;

/// How a caller authenticated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Principal {
    /// An access key, given by its id.
    AccessKey(String),
}

impl Principal {
    /// The id in the form that events record.
    pub fn id(&self) -> &str {
        match self {
            Self::AccessKey(id) => id,
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
    /// The caller.
    pub principal: Principal,
    /// The caller's address.
    pub address: IpAddr,
    /// The request.
    pub request_id: Uuid,
}
