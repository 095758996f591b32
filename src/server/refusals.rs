//! Connections that a listener refuses or closes for lack of room or patience: counted, and told by the log once a minute.

use crate::telemetry::{Seldom, metrics};

/// Why a connection was refused, was closed, or waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refused {
    /// All connections are in use: the connection waits.
    Full,
    /// It was the oldest of too many connections without an authenticated call.
    Crowded,
    /// It had no authenticated call in time.
    Late,
    /// Its address has as many connections as it may have.
    Address,
    /// Its caller did not take an answer in time.
    Unread,
    /// It had too many calls that waited or were refused, and none that was authenticated.
    Misused,
}

impl Refused {
    const ALL: [Self; 6] = [
        Self::Full,
        Self::Crowded,
        Self::Late,
        Self::Address,
        Self::Unread,
        Self::Misused,
    ];

    /// The name in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Crowded => "crowded",
            Self::Late => "late",
            Self::Address => "address",
            Self::Unread => "unread",
            Self::Misused => "misused",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Full => "all connections are in use: new ones wait",
            Self::Crowded => "closed the oldest connections without an authenticated call, to make room for new ones",
            Self::Late => "closed connections that had no authenticated call in time",
            Self::Address => "refused connections of an address that has too many",
            Self::Unread => "closed connections whose callers did not take their answers in time",
            Self::Misused => "closed connections with too many refused calls and no authenticated call",
        }
    }
}

/// The refused connections of a listener.
pub(super) struct Refusals {
    listener: &'static str,
    lines: [Seldom; Refused::ALL.len()],
}

impl Refusals {
    pub(super) fn new(listener: &'static str) -> Self {
        for refused in Refused::ALL {
            metrics::connections_can_be_refused(listener, refused.name());
        }
        Self {
            listener,
            lines: Default::default(),
        }
    }

    /// Counts a connection.
    pub(super) fn count(&self, refused: Refused) {
        metrics::connection_refused(self.listener, refused.name());
        let line = Refused::ALL.iter().position(|other| *other == refused);
        let Some(connections) = line.and_then(|line| self.lines.get(line)).and_then(Seldom::count) else {
            return;
        };
        let (listener, text) = (self.listener, refused.text());
        match refused {
            // Health probes that keep their connection open are closed so.
            Refused::Late => tracing::debug!(listener, connections, "{text}"),
            _ => tracing::warn!(listener, connections, "{text}"),
        }
    }
}
