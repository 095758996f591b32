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
    /// A client certificate, given by the name by which the service knows it, as [`IdentityName`](super::IdentityName) shows it.
    ClientIdentity(String),
    /// An access key, on a connection with a client certificate that the service knows.
    Both {
        /// The id of the access key.
        access_key_id: String,
        /// The name of the client certificate.
        client_identity: String,
        /// Both, separated by a space.
        id: String,
    },
    /// The service itself, or a command on its host.
    Service,
}

impl Principal {
    /// An access key together with a client identity.
    pub fn both(access_key_id: &str, client_identity: &str) -> Self {
        Self::Both {
            access_key_id: access_key_id.to_owned(),
            client_identity: client_identity.to_owned(),
            id: format!("{access_key_id} {client_identity}"),
        }
    }

    /// The id of the access key, if the caller used one.
    pub fn access_key_id(&self) -> Option<&str> {
        match self {
            Self::AccessKey(id) | Self::Both { access_key_id: id, .. } => Some(id),
            Self::ClientIdentity(_) | Self::Service => None,
        }
    }

    /// The client identity, if the caller has one.
    pub fn client_identity(&self) -> Option<&str> {
        match self {
            Self::ClientIdentity(name)
            | Self::Both {
                client_identity: name, ..
            } => Some(name),
            Self::AccessKey(_) | Self::Service => None,
        }
    }

    /// The id in the form that events record. The service itself has no id.
    pub fn id(&self) -> &str {
        match self {
            Self::AccessKey(id) | Self::ClientIdentity(id) | Self::Both { id, .. } => id,
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
