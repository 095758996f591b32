//! The parameters of a request: those of its query and of its form.

use std::collections::BTreeMap;

use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use super::error::Refusal;
use crate::secret::Secret;

/// The maximum number of parameters. The largest call has 20 tags with 2 parameters each.
const MAX_PARAMETERS: usize = 256;
/// Parameters of all actions that belong to the protocol, and those that clients send although they mean nothing here.
const COMMON: [&str; 17] = [
    "AccessKeyId",
    "Action",
    "Format",
    "OwnerAccount",
    "OwnerId",
    "ResourceOwnerAccount",
    "ResourceOwnerId",
    "SecurityToken",
    "Signature",
    "SignatureMethod",
    "SignatureNonce",
    "SignatureType",
    "SignatureVersion",
    "TimeStamp",
    "Timestamp",
    "Version",
    "access_key_id",
];

/// Decoded parameters with different names. Their texts are wiped, since one may be a private key.
#[derive(Default)]
pub(super) struct Parameters(BTreeMap<String, Zeroizing<String>>);

impl Parameters {
    /// Reads `name=value` pairs that are joined by `&`. `+` is a space.
    pub(super) fn read(&mut self, encoded: &[u8]) -> Result<(), Refusal> {
        for pair in encoded.split(|octet| *octet == b'&').filter(|pair| !pair.is_empty()) {
            let end = pair.iter().position(|octet| *octet == b'=').unwrap_or(pair.len());
            let (name, value) = (&pair[..end], pair.get(end + 1..).unwrap_or_default());
            let mut name = decoded(name).ok_or(Refusal::ParameterFormat)?;
            let value = decoded(value).ok_or(Refusal::ParameterFormat)?;
            let is_doubled = self.0.insert(std::mem::take(&mut *name), value).is_some();
            if is_doubled || self.0.len() > MAX_PARAMETERS {
                return Err(Refusal::ParameterFormat);
            }
        }
        Ok(())
    }

    /// All parameters but `Signature`.
    pub(super) fn signed(&self) -> Vec<(&str, &str)> {
        let all = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(|(name, _)| *name != "Signature").collect()
    }

    pub(super) fn all(&self) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    /// The value, or nothing if the parameter is absent or empty.
    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(|value| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Removes the parameters that belong to the protocol.
    pub(super) fn remove_common(&mut self) {
        for name in COMMON {
            self.0.remove(name);
        }
    }

    /// Takes a text; empty if the parameter is absent.
    pub(super) fn take(&mut self, name: &str) -> String {
        self.take_secret(name).into_text()
    }

    /// Takes a text that may contain a private key.
    pub(super) fn take_secret(&mut self, name: &str) -> Secret {
        let mut value = self.0.remove(name).unwrap_or_default();
        Secret::from(std::mem::take(&mut *value))
    }

    /// Takes `True` or `False`, in any case. Absent or empty: `false`.
    pub(super) fn take_bool(&mut self, name: &str) -> Result<bool, Refusal> {
        match self.take(name).to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "" | "false" => Ok(false),
            _ => Err(Refusal::ParameterFormat),
        }
    }

    /// Takes the texts `name.1`, `name.2` and so on, in this order.
    pub(super) fn take_list(&mut self, name: &str) -> Vec<String> {
        let numbers = self.numbers(name, "");
        numbers
            .into_iter()
            .map(|number| self.take(&format!("{name}.{number}")))
            .collect()
    }

    /// Takes the tags `Tag.1.Key` with `Tag.1.Value`, `Tag.2.Key` and so on, in this order.
    pub(super) fn take_tags(&mut self) -> Vec<(String, String)> {
        let mut numbers = self.numbers("Tag", ".Key");
        numbers.extend(self.numbers("Tag", ".Value"));
        numbers.sort_unstable();
        numbers.dedup();
        let mut take = |number: u16, part| self.take(&format!("Tag.{number}.{part}"));
        numbers
            .into_iter()
            .map(|number| (take(number, "Key"), take(number, "Value")))
            .collect()
    }

    /// The numbers of the parameters `name.<number><end>`, sorted. They begin with 1.
    fn numbers(&self, name: &str, end: &str) -> Vec<u16> {
        let number_of = |given: &String| {
            let digits = given.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(end)?;
            let number: u16 = digits.parse().ok().filter(|number| *number > 0)?;
            // Not `+1` or `01`: two names would then mean the same parameter.
            (number.to_string() == digits).then_some(number)
        };
        let mut numbers: Vec<_> = self.0.keys().filter_map(number_of).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Refuses parameters that nobody has taken. No parameter is accepted and ignored.
    pub(super) fn end(self) -> Result<(), Refusal> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Refusal::UnsupportedParameter),
        }
    }
}

/// `None`: the text is not UTF-8.
fn decoded(encoded: &[u8]) -> Option<Zeroizing<String>> {
    let spaced = Zeroizing::new(
        encoded
            .iter()
            .map(|octet| if *octet == b'+' { b' ' } else { *octet })
            .collect::<Vec<_>>(),
    );
    let octets = Zeroizing::new(percent_decode(&spaced).collect::<Vec<_>>());
    std::str::from_utf8(&octets)
        .ok()
        .map(|text| Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(encoded: &str) -> Result<Parameters, Refusal> {
        let mut parameters = Parameters::default();
        parameters.read(encoded.as_bytes()).map(|()| parameters)
    }

    #[test]
    fn a_plus_and_percent_20_are_spaces() {
        let mut parameters = read("a=x+y%20z%2B&b&&c=%E8%AF%81=").unwrap();
        assert_eq!(parameters.all(), [("a", "x y z+"), ("b", ""), ("c", "证=")]);
        assert_eq!((parameters.take("a").as_str(), parameters.find("b")), ("x y z+", None));
    }

    #[test]
    fn doubled_names_too_many_and_other_texts_than_utf_8_are_refused() {
        let many: String = (0..=MAX_PARAMETERS).map(|number| format!("{number}=&")).collect();
        for encoded in ["a=1&a=1", "a=1&%61=2", "a=%FF", "%FF=a", &many] {
            assert!(matches!(read(encoded), Err(Refusal::ParameterFormat)), "{encoded}");
        }
        let mut both = read("a=1").unwrap();
        assert!(both.read(b"a=2").is_err(), "in the query and in the form");
    }

    #[test]
    fn lists_are_read_by_their_numbers() {
        let mut parameters =
            read("Tag.2.Key=b&Tag.10.Value=v&Tag.1.Key=a&Tag.1.Value=1&ResourceId.2=y&ResourceId.1=x").unwrap();
        let tags = parameters.take_tags();
        let tags: Vec<_> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(tags, [("a", "1"), ("b", ""), ("", "v")]);
        assert_eq!(parameters.take_list("ResourceId"), ["x", "y"]);
        parameters.end().unwrap();
        for other in [
            "ResourceId.0=a",
            "ResourceId.01=a",
            "ResourceId.+1=a",
            "ResourceId=a",
            "Tag.1=a",
            "x=y",
        ] {
            let mut parameters = read(other).unwrap();
            assert!(parameters.take_list("ResourceId").is_empty() && parameters.take_tags().is_empty());
            assert!(
                matches!(parameters.end(), Err(Refusal::UnsupportedParameter)),
                "{other}"
            );
        }
    }

    #[test]
    fn booleans_come_in_any_case() {
        for (text, expected) in [("True", true), ("true", true), ("False", false), ("", false)] {
            assert_eq!(
                read(&format!("All={text}")).unwrap().take_bool("All").unwrap(),
                expected
            );
        }
        assert!(read("All=1").unwrap().take_bool("All").is_err());
    }
}
