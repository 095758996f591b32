//! XML. An object's members are elements. An array is a repeated element.

use std::borrow::Cow;
use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use serde_json::Value;

/// A document, or a part of one.
pub(super) struct Xml(Writer<Vec<u8>>);

impl Xml {
    pub(super) fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    pub(super) fn declaration(&mut self) -> io::Result<()> {
        self.0
            .write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))
    }

    pub(super) fn open(&mut self, name: &str) -> io::Result<()> {
        self.0.write_event(Event::Start(BytesStart::new(name)))
    }

    pub(super) fn close(&mut self, name: &str) -> io::Result<()> {
        self.0.write_event(Event::End(BytesEnd::new(name)))
    }

    /// Writes a value as elements of this name.
    pub(super) fn element(&mut self, name: &str, value: &Value) -> io::Result<()> {
        if let Value::Array(items) = value {
            return items.iter().try_for_each(|item| self.element(name, item));
        }
        self.open(name)?;
        match value {
            Value::Object(members) => members.iter().try_for_each(|(name, value)| self.element(name, value))?,
            Value::String(text) => self.text(text)?,
            Value::Null => {}
            other => self.text(&other.to_string())?,
        }
        self.close(name)
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.0.write_event(Event::Text(BytesText::new(&legal(text))))
    }

    pub(super) fn into_octets(self) -> Vec<u8> {
        self.0.into_inner()
    }
}

/// The text without characters that XML cannot have (XML 1.0 2.2). Names in a certificate can have any.
fn legal(text: &str) -> Cow<'_, str> {
    let is_illegal = |c: char| matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}');
    match text.contains(is_illegal) {
        true => Cow::Owned(text.replace(is_illegal, "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arrays_are_repeated_elements_and_texts_are_escaped() {
        let mut xml = Xml::new();
        xml.declaration().unwrap();
        let value = json!({"A": "<&>\"'\u{1}证", "B": {"C": [1, {"D": ""}], "E": []}});
        xml.element("R", &value).unwrap();
        assert_eq!(
            String::from_utf8(xml.into_octets()).unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><R><A>&lt;&amp;&gt;&quot;&apos;\u{fffd}证</A>\
             <B><C>1</C><C><D></D></C></B></R>"
        );
    }
}
