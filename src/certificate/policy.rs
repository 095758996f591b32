//! The operator's policy: the findings for which an upload is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{FindingCode, KeyBlocklist, Severity};

/// Says for each finding code whether an upload with this finding is refused.
///
/// Its text starts with `default`, or with `strict`, which refuses every warning. Exceptions for single codes follow:
/// `strict,EXPIRES_SOON=report` or `default,SIGNATURE_WEAK=reject`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    is_strict: bool,
    exceptions: BTreeMap<FindingCode, Action>,
    blocklists: Vec<KeyBlocklist>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Action {
    Reject,
    Report,
}

/// A text that is not a policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PolicyError;

impl Policy {
    /// The same policy with these lists of compromised keys of the operator.
    pub fn with_blocklists(self, blocklists: Vec<KeyBlocklist>) -> Self {
        Self { blocklists, ..self }
    }

    pub(super) fn blocklists(&self) -> &[KeyBlocklist] {
        &self.blocklists
    }

    /// The severity of findings with this code. `Error` means that the upload is refused.
    pub fn severity(&self, code: FindingCode) -> Severity {
        match (self.exceptions.get(&code), code.severity()) {
            (Some(Action::Reject), _) => Severity::Error,
            (Some(Action::Report), severity) => severity.min(Severity::Warning),
            (None, Severity::Warning) if self.is_strict => Severity::Error,
            (None, severity) => severity,
        }
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',').map(str::trim);
        let is_strict = match parts.next() {
            Some("default") => false,
            Some("strict") => true,
            _ => return Err(PolicyError),
        };
        let mut exceptions = BTreeMap::new();
        for part in parts {
            let (code, action) = part.split_once('=').ok_or(PolicyError)?;
            let action = match action.trim() {
                "reject" => Action::Reject,
                "report" => Action::Report,
                _ => return Err(PolicyError),
            };
            let code = code.trim().parse().map_err(|_| PolicyError)?;
            if exceptions.insert(code, action).is_some() {
                return Err(PolicyError);
            }
        }
        Ok(Self {
            is_strict,
            exceptions,
            blocklists: Vec::new(),
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_strict { "strict" } else { "default" })?;
        self.exceptions.iter().try_for_each(|(code, action)| {
            let action = match action {
                Action::Reject => "reject",
                Action::Report => "report",
            };
            write!(f, ",{code}={action}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_of_each_code_how_much_it_matters() {
        let severity = |policy: &str, code| policy.parse::<Policy>().unwrap().severity(code);
        use FindingCode::{ChainReordered, Expired};
        for (policy, code, expected) in [
            ("default", ChainReordered, Severity::Info),
            ("default", Expired, Severity::Warning),
            ("strict", ChainReordered, Severity::Info),
            ("strict", Expired, Severity::Error),
            ("strict,EXPIRED=report", Expired, Severity::Warning),
            ("default,EXPIRED=reject", Expired, Severity::Error),
            ("default, CHAIN_REORDERED = reject", ChainReordered, Severity::Error),
        ] {
            assert_eq!(severity(policy, code), expected, "{policy} {code}");
        }
        assert_eq!("default".parse(), Ok(Policy::default()));
    }

    #[test]
    fn is_written_as_it_is_read() {
        for text in ["default", "strict", "strict,EXPIRED=report,SAN_MISSING=reject"] {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "Strict",
            "EXPIRED=reject",
            "default,",
            "default,EXPIRED",
            "default,EXPIRED=ignore",
            "default,EXPIRD=report",
            "default,EXPIRED=report,EXPIRED=reject",
        ] {
            assert_eq!(text.parse::<Policy>(), Err(PolicyError), "{text}");
        }
    }
}
