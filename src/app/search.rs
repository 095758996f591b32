//! Searches server certificates in pages.

use super::page::{List, page_size};
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError, KeyAlgorithm};
use crate::clock::Timestamp;
use crate::inventory::{
    Criteria, CriterionError, DomainMatch, ExpiryWindow, SoughtDomain, SoughtFingerprint, SoughtIssuer, SoughtKeyType,
    SoughtSerial, parse_name_prefix, parse_spki_sha256,
};
use crate::store::{Cursor, Order, Position, SortKey, StoredCertificate};

/// The criteria and the page of a search. A certificate must meet every criterion that is set. An empty text or 0 means that the
/// criterion is not set. An error stands for a value that the door could not read.
#[derive(Debug)]
pub struct SearchServerCertificates {
    /// The region of the certificates.
    pub region_id: String,
    /// The SHA-1 or SHA-256 of the DER encoding.
    pub fingerprint: String,
    /// A domain that must match a name of the certificate.
    pub domain: String,
    /// How the domain matches, if the request sets it. An error if the value is unknown.
    pub domain_match: Result<Option<DomainMatch>, CriterionError>,
    /// The SHA-256 of the `SubjectPublicKeyInfo`.
    pub spki_sha256: String,
    /// The serial number.
    pub serial_number: String,
    /// The issuer, see [`SoughtIssuer`].
    pub issuer: String,
    /// The algorithm of the key, if the request sets it. An error if the value is unknown.
    pub key_algorithm: Result<Option<KeyAlgorithm>, CriterionError>,
    /// The size of the key.
    pub key_size: i32,
    /// The earliest expiry. An error if the value is not a valid time.
    pub expire_time_from: Result<Option<Timestamp>, CriterionError>,
    /// Certificates must expire before this time. An error if the value is not a valid time.
    pub expire_time_before: Result<Option<Timestamp>, CriterionError>,
    /// The start of the certificate's name.
    pub server_certificate_name_prefix: String,
    /// Tags that every certificate must have.
    pub tags: Vec<(String, String)>,
    /// Whether only certificates with a compromised key are found.
    pub compromised: bool,
    /// The sort order. An error if the value is unknown.
    pub order_by: Result<Order, CriterionError>,
    /// The maximum number of certificates in the answer; 0: the default.
    pub page_size: i32,
    /// The token of the page; empty: the first page.
    pub page_token: String,
}

/// A page of certificates.
#[derive(Debug)]
pub struct Found {
    /// The certificates in the requested order.
    pub certificates: Vec<StoredCertificate>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
}

impl App {
    /// A page of the certificates that exist for the caller and meet all criteria.
    pub async fn search(&self, call: &Call, request: &SearchServerCertificates) -> Result<Found, Error> {
        // An unknown order counts as the default order here. The call refuses it below.
        let order = request.order_by.unwrap_or(Order::CreateTime);
        let others = format!(
            "{order:?} {:?} {:?} {} {:?} {:?} {}",
            request.domain_match,
            request.key_algorithm,
            request.key_size,
            request.expire_time_from,
            request.expire_time_before,
            request.compromised
        );
        let mut filter = vec![
            others.as_str(),
            &request.region_id,
            &request.fingerprint,
            &request.domain,
            &request.spki_sha256,
            &request.serial_number,
            &request.issuer,
            &request.server_certificate_name_prefix,
        ];
        for (key, value) in &request.tags {
            filter.extend([key.as_str(), value]);
        }
        let list = List {
            name: "SearchServerCertificates",
            account: call.caller.account,
            filter: &filter,
        };

        let mut violations = Violations::default();
        let criteria = self.criteria(call, request, &mut violations);
        let size = violations.check(Field::PageSize, page_size(request.page_size));
        let after = match request.page_token.as_str() {
            "" => Ok(None),
            token => match self.0.page_tokens.read_sorted(list, token) {
                Ok((position, key)) => cursor(order, position, key).map(Some),
                Err(error) => Err(error),
            },
        };
        let after = violations.check(Field::PageToken, after);
        let (Some(criteria), Some(size), Some(after)) = (criteria, size, after) else {
            return Err(violations.into());
        };
        let page = self.0.store.search(call.reach(), &criteria, order, after, size).await?;
        let token = |next: Cursor| self.0.page_tokens.write_sorted(list, next.position, &bytes(&next.key));
        Ok(Found {
            certificates: page.certificates,
            next_page_token: page.next.map(token).transpose()?.unwrap_or_default(),
        })
    }

    /// The checked criteria. `None` if one is invalid; its violation is noted.
    fn criteria(
        &self,
        call: &Call,
        request: &SearchServerCertificates,
        violations: &mut Violations,
    ) -> Option<Criteria> {
        let mut check = Checking(violations);
        let region = check
            .0
            .check(Field::RegionId, self.region_or_any(call, &request.region_id));
        let fingerprint = check.given(Field::Fingerprint, &request.fingerprint, SoughtFingerprint::parse);
        let domain = check.given(Field::Domain, &request.domain, |text| {
            let matching = request.domain_match.ok().flatten().unwrap_or_default();
            SoughtDomain::parse(text, matching).map_err(CriterionError::Domain)
        });
        let domain_match = check.that(
            Field::DomainMatch,
            match request.domain_match {
                Err(error) => Err(error),
                Ok(Some(_)) if request.domain.is_empty() => Err(CriterionError::DomainMatchAlone),
                Ok(_) => Ok(()),
            },
        );
        let spki_sha256 = check.given(Field::SpkiSha256, &request.spki_sha256, parse_spki_sha256);
        let serial_number = check.given(Field::SerialNumber, &request.serial_number, SoughtSerial::parse);
        let issuer = check.given(Field::Issuer, &request.issuer, SoughtIssuer::parse);
        let algorithm = check.that(Field::KeyAlgorithm, request.key_algorithm);
        let size = check.that(
            Field::KeySize,
            match request.key_size {
                0 => Ok(None),
                size if size < 0 => Err(CriterionError::KeySize),
                _ if request.key_algorithm == Ok(None) => Err(CriterionError::KeySizeAlone),
                size => Ok(Some(size)),
            },
        );
        let from = check.that(Field::ExpireTimeFrom, request.expire_time_from);
        let before = check.that(Field::ExpireTimeBefore, request.expire_time_before);
        let expiry = match (from, before) {
            (Some(from), Some(before)) => check.that(Field::ExpireTimeBefore, expiry(from, before)),
            _ => None,
        };
        let name_prefix = check.given(
            Field::CertificateNamePrefix,
            &request.server_certificate_name_prefix,
            parse_name_prefix,
        );
        let tags = check.0.tags(request.tags.clone());
        let order = check.that(Field::OrderBy, request.order_by);
        domain_match.and(order)?;
        let size = size?;
        Some(Criteria {
            region: region?,
            fingerprint: fingerprint?,
            domain: domain?,
            spki_sha256: spki_sha256?,
            serial_number: serial_number?,
            issuer: issuer?,
            key_type: algorithm?.map(|algorithm| SoughtKeyType { algorithm, size }),
            expiry: expiry?,
            name_prefix: name_prefix?,
            tags: tags?,
            is_compromised: request.compromised,
        })
    }
}

/// Notes the violations of criteria.
struct Checking<'a>(&'a mut Violations);

impl Checking<'_> {
    /// The parsed value, if the text is not empty. `None` if the text is invalid.
    fn given<T>(
        &mut self,
        field: Field,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, CriterionError>,
    ) -> Option<Option<T>> {
        match text {
            "" => Some(None),
            text => self.that(field, parse(text)).map(Some),
        }
    }

    fn that<T>(&mut self, field: Field, checked: Result<T, CriterionError>) -> Option<T> {
        self.0.check(field, checked.map_err(FieldError::Criterion))
    }
}

fn expiry(from: Option<Timestamp>, before: Option<Timestamp>) -> Result<Option<ExpiryWindow>, CriterionError> {
    if from.is_none() && before.is_none() {
        return Ok(None);
    }
    let window = ExpiryWindow {
        from: from.map_or(i64::MIN, Timestamp::millis),
        to: before.map_or(i64::MAX, Timestamp::millis),
    };
    match window.from < window.to {
        true => Ok(Some(window)),
        false => Err(CriterionError::ExpiryWindow),
    }
}

fn cursor(order: Order, position: Position, key: Vec<u8>) -> Result<Cursor, FieldError> {
    let key = match order {
        Order::CreateTime if key.is_empty() => Some(SortKey::CreateTime),
        Order::CreateTime => None,
        Order::ExpireTime => key.try_into().ok().map(i64::from_be_bytes).map(SortKey::ExpireTime),
        Order::Name => String::from_utf8(key).ok().map(SortKey::Name),
    };
    Ok(Cursor {
        // The MAC of the token was checked, and it covers this order.
        key: key.ok_or(FieldError::PageToken)?,
        position,
    })
}

fn bytes(key: &SortKey) -> Vec<u8> {
    match key {
        SortKey::CreateTime => Vec::new(),
        SortKey::ExpireTime(moment) => moment.to_be_bytes().into(),
        SortKey::Name(name) => name.as_bytes().into(),
    }
}
