//! The body of an answer, in JSON or XML. A long list is read and written page by page.

use std::io;

use axum::body::Bytes;
use serde_json::{Value, json};

use super::render::{self, Fields};
use super::xml::Xml;
use crate::app::{App, Call, DescribeCertificates, Error, ListAccountFingerprints, RequestId};

/// The format of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    Json,
    Xml,
}

impl Format {
    /// The format of this name. JSON, if there is none or it is unknown.
    pub(super) fn named(name: Option<&str>) -> Self {
        match name {
            Some(name) if name.eq_ignore_ascii_case("XML") => Self::Xml,
            _ => Self::Json,
        }
    }

    pub(super) fn is_known(name: Option<&str>) -> bool {
        name.is_none_or(|name| ["JSON", "XML"].iter().any(|known| name.eq_ignore_ascii_case(known)))
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json;charset=utf-8",
            Self::Xml => "text/xml;charset=utf-8",
        }
    }
}

/// The answer of an action, without the request id.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) fields: Fields,
    pub(super) list: Option<List>,
}

impl From<Fields> for Answer {
    fn from(fields: Fields) -> Self {
        Self { fields, list: None }
    }
}

/// The list of an answer: its first page, and how to read the rest.
pub(super) struct List {
    /// The names of the list and of its items.
    pub(super) names: [&'static str; 2],
    pub(super) items: Vec<Value>,
    pub(super) rest: Option<Rest>,
}

/// The pages of a list that are not read yet.
pub(super) enum Rest {
    Certificates(Box<DescribeCertificates>),
    /// The token of the next page.
    Fingerprints(String),
}

/// The body of an error.
pub(super) fn error(format: Format, error: &Fields) -> io::Result<Vec<u8>> {
    match format {
        Format::Json => Ok(serde_json::to_vec(error)?),
        Format::Xml => {
            let mut xml = Xml::new();
            xml.declaration()?;
            xml.open("Error")?;
            error.iter().try_for_each(|(name, value)| xml.element(name, value))?;
            xml.close("Error")?;
            Ok(xml.into_octets())
        }
    }
}

/// Writes an answer part by part.
pub(super) struct Document {
    format: Format,
    /// The name of the root element in XML.
    root: String,
    /// Whether an item of the list was written.
    has_items: bool,
}

/// The parts of an answer after the first.
pub(super) struct Pages {
    pub(super) app: App,
    pub(super) call: Call,
    document: Document,
    rest: Rest,
}

/// The first part of an answer to `action`, and the pages after it.
pub(super) fn begin(
    (format, action): (Format, &str),
    request_id: RequestId,
    answer: Answer,
    (app, call): (App, Call),
) -> io::Result<(Bytes, Option<Pages>)> {
    let mut fields = answer.fields;
    fields.insert("RequestId".to_owned(), json!(request_id.to_string()));
    let mut document = Document {
        format,
        root: format!("{action}Response"),
        has_items: false,
    };
    let Some(list) = answer.list else {
        return Ok((document.whole(&fields)?.into(), None));
    };
    let mut octets = document.start(&fields, list.names)?;
    octets.extend(document.page(list.names, &list.items, list.rest.is_none())?);
    let pages = list.rest.map(|rest| Pages {
        app,
        call,
        document,
        rest,
    });
    Ok((octets.into(), pages))
}

impl Pages {
    /// Reads and writes the next part.
    pub(super) async fn next(mut self) -> Result<(Bytes, Option<Self>), Error> {
        let list = match self.rest {
            Rest::Certificates(request) => {
                let described = self.app.describe(&self.call, &request).await?;
                render::page_of_certificates(*request, described)
            }
            Rest::Fingerprints(page_token) => {
                let request = ListAccountFingerprints {
                    page_size: i32::MAX,
                    page_token,
                };
                render::fingerprints(self.app.fingerprints(&self.call, &request).await?)
            }
        };
        let page = self.document.page(list.names, &list.items, list.rest.is_none());
        let octets = page.map_err(|error| Error::Internal(Box::new(error)))?;
        let pages = list.rest.map(|rest| Self { rest, ..self });
        Ok((octets.into(), pages))
    }
}

impl Document {
    fn whole(&self, fields: &Fields) -> io::Result<Vec<u8>> {
        match self.format {
            Format::Json => Ok(serde_json::to_vec(fields)?),
            Format::Xml => {
                let mut xml = self.xml_start(fields)?;
                xml.close(&self.root)?;
                Ok(xml.into_octets())
            }
        }
    }

    fn xml_start(&self, fields: &Fields) -> io::Result<Xml> {
        let mut xml = Xml::new();
        xml.declaration()?;
        xml.open(&self.root)?;
        fields.iter().try_for_each(|(name, value)| xml.element(name, value))?;
        Ok(xml)
    }

    /// The document up to the first item of its list.
    fn start(&self, fields: &Fields, [list, item]: [&str; 2]) -> io::Result<Vec<u8>> {
        match self.format {
            Format::Json => {
                let mut octets = serde_json::to_vec(fields)?;
                // The list is one more member of the object, which has the request id at least.
                octets.pop();
                octets.extend(format!(",\"{list}\":{{\"{item}\":[").into_bytes());
                Ok(octets)
            }
            Format::Xml => {
                let mut xml = self.xml_start(fields)?;
                xml.open(list)?;
                Ok(xml.into_octets())
            }
        }
    }

    /// Items of the list, and the end of the document after the last ones.
    fn page(&mut self, [list, item]: [&str; 2], items: &[Value], is_last: bool) -> io::Result<Vec<u8>> {
        match self.format {
            Format::Json => {
                let mut octets = Vec::new();
                for item in items {
                    if std::mem::replace(&mut self.has_items, true) {
                        octets.push(b',');
                    }
                    serde_json::to_writer(&mut octets, item)?;
                }
                if is_last {
                    octets.extend(b"]}}");
                }
                Ok(octets)
            }
            Format::Xml => {
                let mut xml = Xml::new();
                items.iter().try_for_each(|one| xml.element(item, one))?;
                if is_last {
                    xml.close(list)?;
                    xml.close(&self.root)?;
                }
                Ok(xml.into_octets())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_several_parts_is_as_one_of_one_part() {
        let fields: Fields = [("RequestId".to_owned(), json!("1"))].into_iter().collect();
        let names = ["Things", "Thing"];
        let written = |format, pages: &[&[Value]]| {
            let mut document = Document {
                format,
                root: "R".to_owned(),
                has_items: false,
            };
            let mut octets = document.start(&fields, names).unwrap();
            for (number, page) in pages.iter().enumerate() {
                octets.extend(document.page(names, page, number + 1 == pages.len()).unwrap());
            }
            String::from_utf8(octets).unwrap()
        };
        let (one, two) = (json!({"A": 1}), json!("b"));
        for (pages, items) in [
            (&[&[][..]][..], json!([])),
            (&[&[one.clone(), two.clone()][..]], json!([one, two])),
            (
                &[std::slice::from_ref(&one), &[], std::slice::from_ref(&two)],
                json!([one, two]),
            ),
        ] {
            let json: Value = serde_json::from_str(&written(Format::Json, pages)).unwrap();
            assert_eq!(json, json!({"RequestId": "1", "Things": {"Thing": items}}));
        }
        assert_eq!(
            written(Format::Xml, &[&[one][..], &[two]]),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><R><RequestId>1</RequestId><Things><Thing><A>1</A></Thing>\
             <Thing>b</Thing></Things></R>"
        );
    }
}
