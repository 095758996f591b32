//! The names of reasons.

use crate::pb::Reason;

const PREFIX: &str = "REASON_";

impl Reason {
    /// The name in `google.rpc.ErrorInfo`, for example `REGION_NOT_FOUND`.
    pub fn name(self) -> &'static str {
        let name = self.as_str_name();
        name.strip_prefix(PREFIX).unwrap_or(name)
    }

    /// The reason with this name in `google.rpc.ErrorInfo`.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::from_str_name(&format!("{PREFIX}{name}"))
    }
}
