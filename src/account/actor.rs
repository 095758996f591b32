//! Who acts for an account.

use std::fmt;
use std::net::IpAddr;

use uuid::Uuid;

/// How a caller proved who it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Principal {
    /// An access key, by its id.
    AccessKey(String),
}

impl Principal {
    /// Its id, as events record it.
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

/// Who makes a change, from which address, by which request: for the event of the change.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The caller.
    pub principal: Principal,
    /// The caller's address.
    pub address: IpAddr,
    /// The request.
    pub request_id: Uuid,
}
