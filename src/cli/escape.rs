//! Escapes the characters with which a certificate or a server could mislead whoever reads the output: a terminal obeys control
//! characters, and some marks turn, hide or split a text.

use std::borrow::Cow;

/// The form of an output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// A value within a line.
    Value,
    /// Lines for people. Line ends and certkeep's own colours stay.
    Lines,
    /// JSON. Line ends stay: in a string, they are escaped already.
    Json,
}

/// The colours of `print.rs`: red, yellow, and their end.
const COLOURS: [&str; 3] = ["\x1b[31m", "\x1b[33m", "\x1b[0m"];

/// The text without misleading characters. They become `\n`, `\u{202e}` and the like, and in JSON `\u202e`.
pub(super) fn escaped(text: &str, form: Form) -> Cow<'_, str> {
    if !text.contains(is_misleading) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let colour = COLOURS
            .into_iter()
            .find(|colour| form == Form::Lines && rest.starts_with(colour));
        if let Some(colour) = colour {
            shown.push_str(colour);
            rest = &rest[colour.len()..];
            continue;
        }
        match form {
            _ if !is_misleading(c) => shown.push(c),
            Form::Lines | Form::Json if c == '\n' => shown.push(c),
            Form::Value | Form::Lines => shown.extend(c.escape_default()),
            Form::Json => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(shown)
}

/// Control characters, and format characters that have no shape of their own (Unicode's `Default_Ignorable_Code_Point`), among them
/// the marks that turn the direction, and the separators of lines. The variation selectors U+FE00 to U+FE0F stay: they choose the shape of an emoji.
fn is_misleading(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_escapes_what_misleads_in_it() {
        let text = "a\u{202e}b\u{9b}31m\u{200b}\u{2028}\n\x1b[31mred\x1b[0m\x1b[2J\u{e0041}ä中\u{1f600}";
        assert_eq!(
            escaped(text, Form::Value),
            r"a\u{202e}b\u{9b}31m\u{200b}\u{2028}\n\u{1b}[31mred\u{1b}[0m\u{1b}[2J\u{e0041}ä中".to_owned()
                + "\u{1f600}"
        );
        let lines = escaped(text, Form::Lines);
        assert!(lines.contains("\n\x1b[31mred\x1b[0m\\u{1b}[2J"), "{lines}");
        let quoted = serde_json::to_string(text).unwrap();
        let json = escaped(&quoted, Form::Json);
        assert!(
            json.contains(r"a\u202eb\u009b31m") && json.contains(r"\udb40\udc41"),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        assert!(matches!(escaped("plain ä", Form::Value), Cow::Borrowed(_)));
    }
}
