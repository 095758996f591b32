//! Certificates of Alibaba Cloud Certificate Management Service.

use std::fmt;

/// The certificate of Alibaba Cloud Certificate Management Service from which a pair came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AliCloudCertificate {
    /// Its id there.
    pub id: AliCloudCertificateId,
    /// Its name there; empty: none.
    pub name: String,
    /// Its region there; empty: not given.
    pub region_id: String,
}

/// The id of a certificate in Alibaba Cloud: the decimal digits of a positive 64-bit integer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AliCloudCertificateId(String);

impl AliCloudCertificateId {
    /// The id; `None`: the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_canonical = |number: &i64| *number > 0 && number.to_string() == text;
        text.parse().ok().filter(is_canonical).map(|_| Self(text.to_owned()))
    }

    /// The id from the store.
    pub fn from_stored(id: String) -> Self {
        Self(id)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AliCloudCertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_positive_integer_in_its_only_form() {
        for id in ["1", "6055048", "9223372036854775807"] {
            assert_eq!(AliCloudCertificateId::parse(id).unwrap().as_str(), id);
        }
        for text in [
            "",
            "0",
            "-1",
            "+1",
            "01",
            " 1",
            "1 ",
            "９",
            "1-cn-hangzhou",
            "9223372036854775808",
        ] {
            assert_eq!(AliCloudCertificateId::parse(text), None, "{text}");
        }
    }
}
