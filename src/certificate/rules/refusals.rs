//! The reasons for which clients refuse a path. The rules that note findings also find these reasons.

use std::collections::HashMap;

use x509_parser::x509::X509Version;

use super::general::{self, Signature};
use super::name_constraints::NameConstraints;
use super::{Findings, TooManyNames, issuers};
use crate::certificate::x509::Certificate;
use crate::certificate::{FindingCode as Code, FindingKind, Policy};
use crate::clock::Timestamp;

/// The position of an issuer on a path.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::certificate) enum Position {
    /// Below another issuer, which may be missing.
    Between,
    /// The issuer is self-signed, and the path ends with it.
    Root,
}

/// Counts the reasons for which clients refuse paths at one time.
pub(in crate::certificate) struct Refusals<'a> {
    certificates: &'a [Certificate<'a>],
    at: Timestamp,
    /// The reasons of each issuer on its own.
    own: HashMap<(usize, Position), usize>,
    constraints: NameConstraints,
}

impl<'a> Refusals<'a> {
    pub(in crate::certificate) fn among(certificates: &'a [Certificate<'a>], at: Timestamp) -> Self {
        Self {
            certificates,
            at,
            own: HashMap::new(),
            constraints: NameConstraints::new(),
        }
    }

    /// The number of reasons that an issuer adds to the path from the leaf to the certificate below it.
    pub(in crate::certificate) fn of_issuer(
        &mut self,
        path: &[usize],
        issuer: usize,
        position: Position,
    ) -> Result<usize, TooManyNames> {
        let own = match self.own.get(&(issuer, position)) {
            Some(own) => *own,
            None => self.own(issuer, position),
        };
        self.own.insert((issuer, position), own);
        Ok(own + self.on_path(path, issuer)?.len())
    }

    /// The findings about an issuer and the path below it, each with the index of its certificate.
    pub(super) fn on_path(&mut self, path: &[usize], issuer: usize) -> Result<Vec<(FindingKind, usize)>, TooManyNames> {
        let below = issuers::length(self.certificates, path);
        let length = issuers::path_length(&self.certificates[issuer], below);
        let mut found = self.constraints.of_issuer(self.certificates, path, issuer)?;
        found.extend(length.map(|finding| (finding, issuer)));
        Ok(found)
    }

    fn own(&self, issuer: usize, position: Position) -> usize {
        let issuer = &self.certificates[issuer];
        let policy = Policy::default();
        let mut findings = Findings::by(&policy);
        let signature = match position {
            Position::Between => Signature::Matters,
            Position::Root => Signature::DoesNotMatter,
        };
        general::certificate(issuer, signature, &mut findings);
        issuers::validity(issuer, self.at, &mut findings);
        // Clients accept old roots of version 1, which have no usages.
        if position == Position::Between || issuer.fields.version() == X509Version::V3 {
            issuers::usage(issuer, &mut findings);
        }
        findings
            .noted
            .iter()
            .filter(|finding| is_refused(finding.code()))
            .count()
    }
}

/// Whether clients refuse a path with such an issuer.
fn is_refused(code: Code) -> bool {
    matches!(
        code,
        Code::ChainExpired
            | Code::IssuerNotCa
            | Code::EkuUnfit
            | Code::CriticalExtensionUnknown
            | Code::RsaKeySmall
            | Code::SignatureWeak
            | Code::ExtensionUnreadable
            | Code::EncodingRefusedBy
    )
}
