//! The names of the API's parameters.

use std::borrow::Cow;

use crate::app::{CertificateKind, Field};

/// A parameter and the code of an error that says that it is missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) missing: &'static str,
}

macro_rules! parameter {
    ($name:literal) => {
        Parameter {
            name: $name,
            missing: concat!("Missing", $name),
        }
    };
}
pub(super) use parameter;

/// The parameter of a field. `None`: no action of this door has the field.
pub(super) fn parameter_of(field: Field) -> Option<Parameter> {
    use CertificateKind::{Ca, Server};
    Some(match field {
        Field::AcceptLanguage => parameter!("AcceptLanguage"),
        Field::AliCloudCertificateId => parameter!("AliCloudCertificateId"),
        Field::AliCloudCertificateName => parameter!("AliCloudCertificateName"),
        Field::AliCloudCertificateRegionId => parameter!("AliCloudCertificateRegionId"),
        Field::AllTags => parameter!("All"),
        Field::Certificate(Server) => parameter!("ServerCertificate"),
        Field::Certificate(Ca) => parameter!("CACertificate"),
        Field::CertificateId(Server) => parameter!("ServerCertificateId"),
        Field::CertificateId(Ca) => parameter!("CACertificateId"),
        Field::CertificateName(Server) => parameter!("ServerCertificateName"),
        Field::CertificateName(Ca) => parameter!("CACertificateName"),
        Field::NewResourceGroupId => parameter!("NewResourceGroupId"),
        Field::NextToken => parameter!("NextToken"),
        Field::PrivateKey => parameter!("PrivateKey"),
        Field::RegionId => parameter!("RegionId"),
        Field::ResourceGroupId => parameter!("ResourceGroupId"),
        Field::ResourceId | Field::ResourceIds => parameter!("ResourceId"),
        Field::ResourceType => parameter!("ResourceType"),
        Field::Tag(_) | Field::Tags => parameter!("Tag"),
        Field::TagKeys => parameter!("TagKey"),
        _ => return None,
    })
}

/// How this door calls a field in a sentence.
pub(super) fn field_name(field: Field) -> Cow<'static, str> {
    match (field, parameter_of(field)) {
        // A client counts from 1.
        (Field::Tag(index), _) => Cow::Owned(format!("Tag.{}", index + 1)),
        (_, Some(parameter)) => Cow::Borrowed(parameter.name),
        (_, None) => Cow::Borrowed("a parameter"),
    }
}
