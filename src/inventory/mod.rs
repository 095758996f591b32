//! The data that a store keeps about certificates: ids, names, tags, resource groups, regions and search criteria. Pure: no I/O, no
//! clock, no protocol.

mod ali_cloud;
mod alibaba_regions;
mod criteria;
mod domain;
mod id;
mod issuer;
mod kind;
mod name;
mod region;
mod resource_group;
mod scope;
mod searchable;
mod tag;

pub use ali_cloud::{AliCloudCertificate, AliCloudCertificateId};
pub use criteria::{
    Criteria, CriterionError, ExpiryWindow, SoughtFingerprint, SoughtKeyType, SoughtSerial, parse_name_prefix,
    parse_spki_sha256,
};
pub use domain::{DomainError, DomainFit, DomainMatch, SoughtDomain};
pub use id::{CertificateId, CertificateIdError};
pub use issuer::{SoughtIssuer, searchable_issuer};
pub use kind::CertificateKind;
pub use name::{CertificateName, NameError};
pub use region::{Language, LanguageError, Region, RegionError, RegionId, Regions};
pub use resource_group::ResourceGroupId;
pub use scope::Scope;
pub use searchable::{changed_names, comparable_names, lost_names, searchable_names};
pub use tag::{Tag, TagError, TagPart, Tags, TagsError};
