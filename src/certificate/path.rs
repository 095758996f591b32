//! Builds the paths from the leaf towards a root, and the order in which the certificates are served. The order of the
//! certificates in the text does not matter.

use std::collections::VecDeque;

use super::authorities::Authorities;
use super::issuing::{Issuing, TooComplex};
use super::signature_algorithm::Strength;
use super::x509::Certificate;

/// The indexes of the certificates, in the order in which they are served.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Path {
    /// The leaf, then the shortest path to an issuer that is missing or self-signed. A self-signed certificate is only
    /// included if it is the leaf.
    pub(super) main: Vec<usize>,
    /// The certificates on other paths.
    pub(super) others: Vec<usize>,
    /// The self-signed certificate that issued the last certificate of the main path.
    pub(super) root: Option<usize>,
    /// The self-signed certificates at the ends of the other paths.
    pub(super) other_roots: Vec<usize>,
    /// Whether the leaf is self-signed.
    pub(super) is_self_signed: bool,
    /// The certificates on no path.
    pub(super) unrelated: Vec<usize>,
}

/// The distance to the end of a path: first the number of its signatures that anybody can forge, then its length.
type Distance = (usize, usize);

struct Node {
    /// The certificates that issued this certificate, the preferred one first.
    issuers: Vec<usize>,
    is_self_signed: bool,
    is_forgeable: bool,
    /// The number of links between the leaf and this certificate. `None` if no path leads to this certificate.
    depth: Option<usize>,
    /// `None` if every path from this certificate is a cycle.
    distance: Option<Distance>,
}

impl Path {
    /// Finds the paths from the leaf. `certificates` must not contain a certificate twice.
    pub(super) fn from_leaf(
        certificates: &[Certificate<'_>],
        leaf: usize,
        authorities: &Authorities,
    ) -> Result<Self, TooComplex> {
        let mut preferred: Vec<_> = (0..certificates.len()).collect();
        preferred.sort_by(|&a, &b| certificates[a].preference(&certificates[b]));
        let mut nodes = reach(
            Issuing::among(certificates, authorities),
            certificates,
            &preferred,
            leaf,
        )?;
        measure(&mut nodes);

        let mut path = Self {
            main: vec![leaf],
            is_self_signed: nodes[leaf].is_self_signed,
            ..Self::default()
        };
        let mut end = leaf;
        while let Some(next) = next(&nodes, end, &path.main) {
            if nodes[next].is_self_signed {
                path.root = Some(next);
                break;
            }
            path.main.push(next);
            end = next;
        }
        // The sort is stable, so certificates of the same depth stay in the order of preference.
        preferred.sort_by_key(|&index| nodes[index].depth);
        for index in preferred {
            match nodes[index] {
                _ if path.main.contains(&index) || path.root == Some(index) => {}
                Node { depth: None, .. } => path.unrelated.push(index),
                Node {
                    is_self_signed: true, ..
                } => path.other_roots.push(index),
                _ => path.others.push(index),
            }
        }
        path.unrelated.sort_unstable();
        Ok(path)
    }

    /// The certificates that are stored and served, in this order.
    pub(super) fn served(&self) -> impl Iterator<Item = usize> {
        self.main.iter().chain(&self.others).copied()
    }

    /// The issuers of the main path. The issuer of the leaf is the first, the root (if the text has it) the last.
    pub(super) fn issuers(&self) -> impl Iterator<Item = usize> {
        self.main.iter().skip(1).copied().chain(self.root)
    }
}

/// Finds the issuers of every certificate on a path from the leaf. Every path stops at a self-signed certificate,
/// because this certificate is its own issuer.
fn reach(
    mut issuing: Issuing<'_>,
    certificates: &[Certificate<'_>],
    preferred: &[usize],
    leaf: usize,
) -> Result<Vec<Node>, TooComplex> {
    let mut nodes: Vec<_> = certificates
        .iter()
        .map(|certificate| Node {
            issuers: Vec::new(),
            is_self_signed: false,
            is_forgeable: matches!(
                certificate.signature_strength,
                Strength::Forgeable | Strength::Unverifiable
            ),
            depth: None,
            distance: None,
        })
        .collect();
    nodes[leaf].depth = Some(0);
    let mut reached = VecDeque::from([(leaf, 0)]);
    while let Some((child, depth)) = reached.pop_front() {
        if issuing.is_issued(child, child)? {
            nodes[child].is_self_signed = true;
            continue;
        }
        for &issuer in preferred {
            if issuer == leaf || issuer == child || !issuing.is_issued(child, issuer)? {
                continue;
            }
            nodes[child].issuers.push(issuer);
            if nodes[issuer].depth.is_none() {
                nodes[issuer].depth = Some(depth + 1);
                reached.push_back((issuer, depth + 1));
            }
        }
    }
    Ok(nodes)
}

/// Measures the distance of each certificate to the end of a path. After as many passes as there are certificates, no
/// distance gets shorter.
fn measure(nodes: &mut [Node]) {
    for _ in 0..nodes.len() {
        for index in 0..nodes.len() {
            nodes[index].distance = distance(nodes, &nodes[index]);
        }
    }
}

fn distance(nodes: &[Node], node: &Node) -> Option<Distance> {
    let (forgeable, length) = match node {
        Node { depth: None, .. } => return None,
        Node {
            is_self_signed: true, ..
        } => return Some((0, 0)),
        // The issuer of this certificate is missing.
        Node { issuers, .. } if issuers.is_empty() => (0, 0),
        Node { issuers, .. } => issuers.iter().filter_map(|&issuer| nodes[issuer].distance).min()?,
    };
    Some((forgeable + usize::from(node.is_forgeable), length + 1))
}

/// The next certificate of the main path: the preferred one of the issuers nearest to an end. If all paths are cycles,
/// the path continues until it would repeat a certificate.
fn next(nodes: &[Node], from: usize, path: &[usize]) -> Option<usize> {
    let issuers = nodes[from].issuers.iter().copied();
    // `min_by_key` takes the first of equal issuers, which is the preferred one.
    issuers
        .filter(|issuer| !path.contains(issuer))
        .min_by_key(|&issuer| nodes[issuer].distance.unwrap_or((usize::MAX, 0)))
}

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::x509::X509;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::super::given::Given;
    use super::super::test_pair::{AT, AUTHORITY, Entity, verify};
    use super::super::{Authorities, CertificateError, Chain, Policy, UnverifiedPair};

    fn pem(certificates: &[&X509]) -> Vec<u8> {
        let pem = certificates
            .iter()
            .flat_map(|certificate| certificate.to_pem().unwrap());
        pem.collect()
    }

    /// The stored certificates, as indexes into `given`.
    fn stored(given: &[&X509], server: &Entity) -> Vec<usize> {
        let pair = verify(&pem(given), &server.key_pem()).unwrap();
        let given: Vec<_> = given.iter().map(|certificate| certificate.to_der().unwrap()).collect();
        pair.certificate()
            .chain()
            .der()
            .map(|der| given.iter().position(|given| given == der).unwrap())
            .collect()
    }

    fn until(issuer: &Entity, subject: &Entity, not_after: i64) -> X509 {
        issuer.certify_with(subject, AUTHORITY, |builder| {
            builder.set_not_after(&Asn1Time::from_unix(not_after).unwrap()).unwrap();
        })
    }

    const YEAR_2030: i64 = 1_893_456_000;

    #[test]
    fn the_shortest_path_comes_first_and_then_what_else_leads_somewhere() {
        let [server, issuer, root, old, older] = ["server", "issuer", "root", "old", "older"].map(Entity::new);
        let leaf = issuer.certify_server(&server);
        let above = root.certify_authority(&issuer);
        let self_signed = root.certify_authority(&root);
        let crossed = old.certify_authority(&root);
        let above_crossed = older.certify_authority(&old);
        assert_eq!(
            stored(&[&above_crossed, &crossed, &self_signed, &above, &leaf], &server),
            [4, 3, 1, 0],
            "the way to the root is shorter than that to the old one"
        );
        assert_eq!(stored(&[&crossed, &above, &leaf], &server), [2, 1, 0]);
    }

    #[test]
    fn between_equals_the_later_end_wins() {
        let [server, issuer, one, two] = ["server", "issuer", "one", "two"].map(Entity::new);
        let leaf = issuer.certify_server(&server);
        let (early, late) = (until(&one, &issuer, YEAR_2030), until(&two, &issuer, YEAR_2030 + 1));
        assert_eq!(stored(&[&leaf, &early, &late], &server), [0, 2, 1]);
        let (mut first, mut second) = (until(&one, &issuer, YEAR_2030), until(&two, &issuer, YEAR_2030));
        if first.to_der().unwrap() > second.to_der().unwrap() {
            std::mem::swap(&mut first, &mut second);
        }
        assert_eq!(stored(&[&second, &first, &leaf], &server), [2, 1, 0]);
    }

    #[test]
    fn a_circle_ends() {
        let [server, a, b] = ["server", "a", "b"].map(Entity::new);
        let leaf = a.certify_server(&server);
        let (a_by_b, b_by_a) = (b.certify_authority(&a), a.certify_authority(&b));
        assert_eq!(stored(&[&b_by_a, &leaf, &a_by_b], &server), [1, 2, 0]);
        let self_signed = b.certify_authority(&b);
        assert_eq!(
            stored(&[&b_by_a, &leaf, &a_by_b, &self_signed], &server),
            [1, 2, 0],
            "the root is dropped"
        );
    }

    #[test]
    fn a_forged_issuer_of_the_right_name_is_unrelated() {
        let [server, issuer, root] = ["server", "issuer", "root"].map(Entity::new);
        let leaf = issuer.certify_server(&server);
        let forged = root.certify_authority(&Entity::new("issuer"));
        let error = verify(&pem(&[&leaf, &forged]), &server.key_pem()).unwrap_err();
        assert!(matches!(
            error.certificate[..],
            [CertificateError::Unrelated { index: 2, .. }]
        ));
    }

    #[test]
    fn key_identifiers_must_fit() {
        let [server, issuer, root] = ["server", "issuer", "root"].map(Entity::new);
        let with = |id: &str| {
            let extensions = [AUTHORITY, &[("subjectKeyIdentifier", id)]].concat();
            root.certify(&issuer, &extensions)
        };
        // AuthorityKeyIdentifier with the key identifier 01.
        let leaf = issuer.certify(&server, &[("2.5.29.35", "DER:30:03:80:01:01")]);
        for (id, is_related) in [("01", true), ("02", false)] {
            let outcome = verify(&pem(&[&leaf, &with(id)]), &server.key_pem());
            assert_eq!(outcome.is_ok(), is_related, "{id}");
        }
        assert!(verify(&pem(&[&leaf, &root.certify_authority(&issuer)]), &server.key_pem()).is_ok());
    }

    #[test]
    fn a_forgeable_link_counts_less_than_a_longer_path() {
        let [server, issuer, one, two, far] = ["server", "issuer", "one", "two", "far"].map(Entity::new);
        let leaf = issuer.certify_server(&server);
        let md5 = |issuer: &Entity, subject: &Entity| {
            let key = &issuer.key;
            let certificate = issuer.certify_authority(subject);
            let mut builder = super::super::test_pair::builder(&subject.key);
            builder.set_subject_name(certificate.subject_name()).unwrap();
            builder.set_issuer_name(certificate.issuer_name()).unwrap();
            builder.sign(key, MessageDigest::md5()).unwrap();
            builder.build()
        };
        let one = Entity {
            key: super::super::test_pair::rsa_key(2048),
            ..one
        };
        let forgeable = md5(&one, &issuer);
        let (sound, above) = (two.certify_authority(&issuer), far.certify_authority(&two));
        assert_eq!(stored(&[&leaf, &forgeable, &sound, &above], &server), [0, 2, 3, 1]);
        assert_eq!(stored(&[&forgeable, &leaf], &server), [1, 0], "it is read");
    }

    #[test]
    fn more_than_forty_signatures_are_too_many() {
        let server = Entity::new("server");
        let issuers: Vec<_> = (0..19).map(|_| Entity::new("issuer")).collect();
        let leaf = issuers[0].certify_server(&server);
        let all: Vec<_> = issuers
            .iter()
            .map(|issuer| issuers[0].certify_authority(issuer))
            .collect();
        let text = pem(&[&[&leaf][..], &all.iter().collect::<Vec<_>>()].concat());
        // 19 signatures for the leaf, and at most 19 for its issuer, which is self-signed.
        assert!(matches!(
            verify(&text, &server.key_pem()).unwrap_err().certificate[..],
            [CertificateError::Unrelated { .. }, ..]
        ));
        let chain: Vec<_> = (0..19)
            .map(|i| issuers[(i + 1) % 19].certify_authority(&issuers[i]))
            .collect();
        let text = pem(&[&[&leaf][..], &chain.iter().collect::<Vec<_>>()].concat());
        assert_eq!(
            verify(&text, &server.key_pem()).unwrap_err().certificate,
            [CertificateError::TooComplex]
        );
    }

    /// A line of CAs. Each CA may be certified by any CA above it and by itself.
    fn graphs() -> impl Strategy<Value = (Vec<(usize, usize)>, Vec<Index>)> {
        let links = (2_usize..6).prop_flat_map(|authorities| {
            let spine = (1..authorities).map(|above| (above, above - 1)).collect::<Vec<_>>();
            let more = (0..authorities).flat_map(move |of| (of..authorities).map(move |by| (by, of)));
            let more = proptest::sample::subsequence(more.collect::<Vec<_>>(), 0..=3);
            (Just(spine), more).prop_map(|(mut links, more)| {
                links.extend(more);
                links.sort_unstable();
                links.dedup();
                links
            })
        });
        (links, proptest::collection::vec(any::<Index>(), 40))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_order_gives_the_same_chain((links, order) in graphs(), repeated in any::<Index>(), end in select(vec![0, 1])) {
            let server = Entity::new("server");
            let authorities: Vec<_> = (0..6).map(|i| Entity::new(format!("authority {i}"))).collect();
            let mut all = vec![authorities[0].certify_server(&server)];
            // With `end` 0 all certificates expire at the same time, with `end` 1 they do not.
            all.extend(links.iter().enumerate().map(|(i, &(by, of))| {
                until(&authorities[by], &authorities[of], YEAR_2030 + end * i as i64)
            }));
            let given: Vec<_> = all.iter().collect();
            let chain = |given: &[&X509]| verify(&pem(given), &server.key_pem()).map(|pair| pair.certificate().chain().clone());
            let expected = chain(&given).unwrap();
            prop_assert_eq!(expected.der().next(), Some(&all[0].to_der().unwrap()[..]));

            let mut shuffled = given.clone();
            shuffled.push(given[repeated.index(given.len())]);
            for place in (1..shuffled.len()).rev() {
                shuffled.swap(place, order[place].index(place + 1));
            }
            prop_assert_eq!(&chain(&shuffled).unwrap(), &expected);

            // The stored chain, written as text and read again, is the same chain.
            let text = expected.to_pem();
            let given = Given::read(text.as_bytes()).unwrap().certificates;
            let read = Chain::of(given.iter().map(|block| block.decode().unwrap().to_vec()));
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn what_is_remembered_of_authorities_changes_nothing((links, order) in graphs(), bent in any::<Index>()) {
            let server = Entity::new("server");
            // Two CAs for each name. One may replace the other.
            let authorities: Vec<_> = (0..12).map(|i| Entity::new(format!("authority {}", i / 2))).collect();
            let leaf = authorities[0].certify_server(&server);
            let certify = |with_twins: bool| {
                let links = links.iter().zip(&order);
                let certificates = links.map(|(&(by, of), twin)| {
                    let twin = usize::from(with_twins) * twin.index(2);
                    until(&authorities[2 * by + twin], &authorities[2 * of + twin], YEAR_2030)
                });
                certificates.collect::<Vec<_>>()
            };
            let (true_ones, twins) = (certify(false), certify(true));
            let mut broken = true_ones.clone();
            let broken_one = bent.get_mut(&mut broken);
            let mut der = broken_one.to_der().unwrap();
            *der.last_mut().unwrap() ^= 1;
            *broken_one = X509::from_der(&der).unwrap();

            let warm = Authorities::default();
            for issuers in [&true_ones, &twins, &broken, &true_ones, &twins, &broken] {
                let given: Vec<_> = std::iter::once(&leaf).chain(issuers).collect();
                let outcome = |authorities: &Authorities| {
                    let pair = UnverifiedPair::read(&pem(&given), &server.key_pem().into());
                    let verified = pair.verify(AT, &Policy::default(), authorities);
                    verified.map(|pair| (pair.certificate().chain().clone(), pair.certificate().findings().to_vec()))
                };
                prop_assert_eq!(outcome(&warm), outcome(&Authorities::default()));
            }
        }
    }
}
