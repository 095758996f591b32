//! Whole answers for programs: JSON in protobuf's mapping, and the same as YAML.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use super::Failure;
use super::escape::{Form, escaped};
use super::print::write;
use crate::grpc::DESCRIPTORS;

/// The format of a document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Document {
    Json,
    /// The fields of an object are sorted by name.
    Yaml,
}

impl Document {
    /// Prints a message with every field. `name` is its name in the schema.
    pub(super) fn print(self, name: &str, message: &impl Message) -> Result<(), Failure> {
        match self {
            Self::Json => {
                let serializer = serde_json::Serializer::pretty(Vec::new());
                print_json(&format!("{}\n", serialized(name, message, serializer)?))
            }
            Self::Yaml => self.print_value(value(name, message)?),
        }
    }

    pub(super) fn print_value(self, value: Value) -> Result<(), Failure> {
        match self {
            Self::Json => print_json(&format!("{value:#}\n")),
            Self::Yaml => write(yaml(value)?.as_bytes()),
        }
    }
}

/// A message as one line of JSON.
pub(super) fn json_line(name: &str, message: &impl Message) -> Result<(), Failure> {
    let serializer = serde_json::Serializer::new(Vec::new());
    print_json(&format!("{}\n", serialized(name, message, serializer)?))
}

/// A message as a value of JSON.
pub(super) fn value(name: &str, message: &impl Message) -> Result<Value, Failure> {
    let text = serialized(name, message, serde_json::Serializer::new(Vec::new()))?;
    serde_json::from_str(&text).map_err(|error| Failure::from_error(&error))
}

/// JSON in one line that misleads nobody.
pub(super) fn json_text(value: &Value) -> String {
    escaped(&value.to_string(), Form::Json).into_owned()
}

fn print_json(text: &str) -> Result<(), Failure> {
    write(escaped(text, Form::Json).as_bytes())
}

fn yaml(value: Value) -> Result<String, Failure> {
    serde_saphyr::to_string(&visible(value)).map_err(|error| Failure::from_error(&error))
}

/// The value with misleading characters as visible text: an unquoted scalar of YAML cannot escape them. JSON has the exact value.
fn visible(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(escaped(&text, Form::Lines).into_owned()),
        Value::Array(values) => values.into_iter().map(visible).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, visible(value))).collect(),
        value => value,
    }
}

fn serialized<F: serde_json::ser::Formatter>(
    name: &str,
    message: &impl Message,
    mut serializer: serde_json::Serializer<Vec<u8>, F>,
) -> Result<String, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::from_error(error);
    let pool = DescriptorPool::decode(DESCRIPTORS).map_err(|error| failed(&error))?;
    let descriptor = pool
        .get_message_by_name(&format!("certkeep.v1.{name}"))
        .ok_or_else(|| Failure::refused("the answer is of an unknown type"))?;
    let message =
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_err(|error| failed(&error))?;
    let options = SerializeOptions::new().skip_default_fields(false);
    message
        .serialize_with_options(&mut serializer, &options)
        .map_err(|error| failed(&error))?;
    Ok(String::from_utf8_lossy(&serializer.into_inner()).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_keeps_lines_and_types_and_shows_misleading_characters() {
        let value = json!({
            "name": "yes",
            "chain": "-----BEGIN\nAA\n-----END\n",
            "tags": [{"key": "a\u{202e}b", "value": "\u{1b}[2J"}],
            "deleted": false,
            "size": "2048",
        });
        assert_eq!(
            yaml(value).unwrap(),
            "chain: |\n  -----BEGIN\n  AA\n  -----END\ndeleted: false\nname: \"yes\"\nsize: \"2048\"\ntags:\n\
             - key: a\\u{202e}b\n  value: \\u{1b}[2J\n"
        );
    }
}
