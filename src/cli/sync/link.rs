//! `--link NAME=ID`: a name for the folder of a certificate that the user chooses.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::app::CertificateId;
use crate::cli::Failure;

const MAX_NAME_LEN: usize = 64;

/// A link to the folder of a certificate.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// [`is_name`] holds.
    pub(super) name: String,
    pub(super) id: CertificateId,
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, id) = text.split_once('=').ok_or("use NAME=ID")?;
        match (is_name(name), CertificateId::parse(id)) {
            (false, _) => Err(
                "a link has a name of 1 to 64 letters, digits, - . and _, which begins with no dot and is no id".into(),
            ),
            (true, Err(_)) => Err("what follows the = is no certificate id".into()),
            (true, Ok(id)) => Ok(Self {
                name: name.to_owned(),
                id,
            }),
        }
    }
}

/// Whether a link can have this name: it is no path, not hidden, and no id.
pub(super) fn is_name(name: &str) -> bool {
    let is_allowed = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
    !name.is_empty()
        && name.len() <= MAX_NAME_LEN
        && !name.starts_with('.')
        && name.bytes().all(is_allowed)
        && CertificateId::parse(name).is_err()
}

/// Refuses two links with one name.
pub(super) fn check(links: &[Link]) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    match links.iter().find(|link| !names.insert(&link.name)) {
        Some(link) => Err(Failure::usage(format!(
            "there are two links with the name {}",
            link.name
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_a_plain_name_and_an_id() {
        let id = "1231579085529123_15d6fcb45a3_1328245761_-2147483648";
        let link: Link = format!("web-1.example={id}").parse().unwrap();
        assert_eq!(
            (link.name.as_str(), link.id.to_string().as_str()),
            ("web-1.example", id)
        );
        for wrong in ["..", ".web", "a/b", "", "wéb", "a b", id] {
            assert!(format!("{wrong}={id}").parse::<Link>().is_err(), "{wrong}");
        }
        assert!("web".parse::<Link>().is_err());
        assert!("web=../x".parse::<Link>().is_err());
    }
}
