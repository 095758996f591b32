//! Chains of each kind that families of clients refuse, and chains like them that no client refuses.

use openssl::ec::PointConversionForm;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;

use super::{Chain, Exception};
use crate::pki::Key;

pub const EXCEPTIONS: &[Exception] = &[];

/// One DER value (X.690 8.1).
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut der = vec![tag];
    match content.len() {
        short @ 0..=0x7f => der.push(u8::try_from(short).unwrap()),
        long @ 0x80..=0xff => der.extend([0x81, u8::try_from(long).unwrap()]),
        longer => {
            der.push(0x82);
            der.extend(u16::try_from(longer).unwrap().to_be_bytes());
        }
    }
    der.extend(content);
    der
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, parts)
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    hex::decode(hexadecimal).unwrap()
}

/// A name with one attribute, whose type is given by its content in hexadecimal.
fn name_of(oid: &str, value: &[u8]) -> Vec<u8> {
    sequence(&[&der(0x31, &[&sequence(&[&der(6, &[&bytes(oid)]), value])])])
}

fn common_name(name: &str) -> Vec<u8> {
    name_of("550403", &der(12, &[name.as_bytes()]))
}

fn extension(oid: &str, is_critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if is_critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&der(6, &[&bytes(oid)]), critical, &der(4, &[value])])
}

const ECDSA_SHA256: &str = "300a06082a8648ce3d040302";
const ECDSA_SHA384: &str = "300a06082a8648ce3d040303";
const ECDSA_SHA256_NULL: &str = "300c06082a8648ce3d0403020500";
const RSA_SHA256: &str = "300d06092a864886f70d01010b0500";
const RSA_SHA256_WITHOUT_NULL: &str = "300b06092a864886f70d01010b";

/// The fields of a certificate (RFC 5280 4.1), each in DER.
struct Fields {
    serial: Vec<u8>,
    inner: Vec<u8>,
    outer: Vec<u8>,
    issuer: Vec<u8>,
    validity: Vec<u8>,
    subject: Vec<u8>,
    key: Vec<u8>,
    extensions: Vec<Vec<u8>>,
}

struct Authority {
    key: PKey<Private>,
    name: Vec<u8>,
}

/// A day before this moment and 60 days after it, as UTCTime without a tag.
struct Times {
    now: i64,
    begin: String,
    end: String,
}

impl Times {
    fn new() -> Self {
        let now = certkeep::clock::now().millis() / 1000;
        let utc = |seconds: i64| {
            let format = time::format_description::parse_borrowed::<2>(
                "[year repr:last_two][month][day][hour][minute][second]Z",
            );
            time::OffsetDateTime::from_unix_timestamp(seconds)
                .unwrap()
                .format(&format.unwrap())
                .unwrap()
        };
        Self {
            now,
            begin: utc(now - 86_400),
            end: utc(now + 60 * 86_400),
        }
    }

    fn validity(&self) -> Vec<u8> {
        sequence(&[&der(0x17, &[self.begin.as_bytes()]), &der(0x17, &[self.end.as_bytes()])])
    }
}

impl Authority {
    fn new(key: Key, name: &str) -> Self {
        Self {
            key: key.make(),
            name: common_name(name),
        }
    }

    fn algorithm(&self) -> Vec<u8> {
        bytes(if self.key.rsa().is_ok() {
            RSA_SHA256
        } else {
            ECDSA_SHA256
        })
    }

    /// The fields of an ordinary server certificate from this authority.
    fn server(&self, times: &Times) -> Fields {
        let san = sequence(&[&der(0x82, &[b"a.example"])]);
        Fields {
            serial: der(2, &[&[77]]),
            inner: self.algorithm(),
            outer: self.algorithm(),
            issuer: self.name.clone(),
            validity: times.validity(),
            subject: common_name("a.example"),
            key: Key::P256.make().public_key_to_der().unwrap(),
            extensions: vec![
                extension("551d13", true, &sequence(&[])),
                extension("551d0f", true, &bytes("03020780")),
                extension("551d25", false, &bytes("300a06082b06010505070301")),
                extension("551d11", false, &san),
            ],
        }
    }

    /// The fields of an ordinary certificate for another authority.
    fn authority(&self, of: &Self, times: &Times) -> Fields {
        Fields {
            subject: of.name.clone(),
            key: of.key.public_key_to_der().unwrap(),
            extensions: vec![
                extension("551d13", true, &bytes("30030101ff")),
                extension("551d0f", true, &bytes("03020106")),
            ],
            ..self.server(times)
        }
    }

    fn sign(&self, fields: &Fields) -> Vec<u8> {
        let extensions = der(0xa3, &[&sequence(&[&fields.extensions.concat()])]);
        let tbs = sequence(&[
            &bytes("a003020102"),
            &fields.serial,
            &fields.inner,
            &fields.issuer,
            &fields.validity,
            &fields.subject,
            &fields.key,
            &extensions,
        ]);
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key).unwrap();
        let signature = signer.sign_oneshot_to_vec(&tbs).unwrap();
        sequence(&[&tbs, &fields.outer, &der(3, &[&[0], &signature])])
    }
}

/// Makes chains under one root, or under one root and one issuer.
struct Cases {
    times: Times,
    root: Authority,
    issuer: Authority,
    chains: Vec<Chain>,
}

impl Cases {
    fn add(&mut self, name: &str, change: impl FnOnce(&mut Fields)) {
        let mut fields = self.root.server(&self.times);
        change(&mut fields);
        let root = self.root.sign(&self.root.authority(&self.root, &self.times));
        let leaf = self.root.sign(&fields);
        self.push(name, root, leaf, Vec::new());
    }

    /// A chain whose issuer is changed.
    fn add_issuer(&mut self, name: &str, change: impl FnOnce(&mut Fields)) {
        let mut fields = self.root.authority(&self.issuer, &self.times);
        change(&mut fields);
        let root = self.root.sign(&self.root.authority(&self.root, &self.times));
        let leaf = self.issuer.sign(&self.issuer.server(&self.times));
        let between = vec![self.root.sign(&fields)];
        self.push(name, root, leaf, between);
    }

    fn push(&mut self, name: &str, root: Vec<u8>, leaf: Vec<u8>, between: Vec<Vec<u8>>) {
        self.chains.push(Chain {
            name: name.to_owned(),
            root,
            leaf,
            between,
            at: self.times.now,
        });
    }

    /// A server certificate with one extension more, or with another value of an extension that it has.
    fn with_extension(&mut self, name: &str, oid: &str, is_critical: bool, value: &str) {
        let added = extension(oid, is_critical, &bytes(value));
        let identifier = der(6, &[&bytes(oid)]);
        self.add(name, |fields| {
            fields
                .extensions
                .retain(|old| !old.windows(identifier.len()).any(|window| window == identifier));
            fields.extensions.push(added);
        });
    }
}

pub fn all() -> Vec<Chain> {
    let mut cases = Cases {
        times: Times::new(),
        root: Authority::new(Key::P256, "root"),
        issuer: Authority::new(Key::P256, "issuer"),
        chains: Vec::new(),
    };
    cases.add("good", |_| {});
    cases.add_issuer("good with an issuer", |_| {});
    extensions(&mut cases);
    values(&mut cases);
    constraints(&mut cases);
    algorithms_and_keys(&mut cases);
    strings(&mut cases);
    numbers_and_times(&mut cases);
    names(&mut cases);
    cases.chains
}

/// Each extension: ordinary, critical, without a value, and with a value of another type.
fn extensions(cases: &mut Cases) {
    const ACCESS: &str = "301e301c06082b060105050730018610687474703a2f2f612e6578616d706c65";
    const POINTS: &str = "30183016a014a0128610687474703a2f2f612e6578616d706c65";
    for (name, oid, value) in [
        ("authorityInfoAccess", "2b06010505070101", ACCESS),
        ("subjectInfoAccess", "2b0601050507010b", ACCESS),
        ("subjectKeyIdentifier", "551d0e", "04083132333435363738"),
        ("authorityKeyIdentifier", "551d23", "300a80083132333435363738"),
        ("issuerAltName", "551d12", "300b8209612e6578616d706c65"),
        ("freshestCRL", "551d2e", POINTS),
        (
            "subjectDirectoryAttributes",
            "551d09",
            "3010300e06082b060105050709043102130 0",
        ),
        ("tlsFeature", "2b06010505070118", "3003020105"),
        ("cRLDistributionPoints", "551d1f", POINTS),
        ("certificatePolicies", "551d20", "300a3008060667810c010201"),
        (
            "privateKeyUsagePeriod",
            "551d10",
            "3011800f32303236303130313030303030305a",
        ),
        ("policyMappings", "551d21", "300a300806022a0306022a04"),
        ("policyConstraints", "551d24", "3003800105"),
        ("inhibitAnyPolicy", "551d36", "020105"),
        ("nsCertType", "6086480186f8420101", "03020640"),
        ("nsComment", "6086480186f842010d", "160178"),
        ("signedCertificateTimestamps", "2b06010401d679020402", "04020000"),
        ("ocspNoCheck", "2b0601050507300105", "0500"),
        ("qcStatements", "2b06010505070103", "3000"),
        ("unknown", "2a0304", "0500"),
        ("acmeIdentifier", "2b0601050507011f", "04020000"),
        ("logotype", "2b0601050507010c", "3000"),
    ] {
        let value = value.replace(' ', "");
        cases.with_extension(name, oid, false, &value);
        cases.with_extension(&format!("{name}, critical"), oid, true, &value);
        cases.with_extension(&format!("{name}, empty"), oid, false, "");
        cases.with_extension(&format!("{name}, another type"), oid, false, "0c0161");
    }
}

/// Odd values of extensions.
fn values(cases: &mut Cases) {
    for (name, oid, value) in [
        ("basicConstraints, another type", "551d13", "0c0161"),
        ("basicConstraints, negative path length", "551d13", "30060101ff0201ff"),
        (
            "basicConstraints, long path length",
            "551d13",
            "300e0101ff0209008000000000000000",
        ),
        ("basicConstraints, leading zero", "551d13", "30070101ff02020001"),
        ("keyUsage, another type", "551d0f", "0c0161"),
        ("keyUsage, no usage", "551d0f", "03020000"),
        ("keyUsage, unused bits", "551d0f", "03020781"),
        ("keyUsage, trailing zeros", "551d0f", "03020080"),
        ("extKeyUsage, another type", "551d25", "0c0161"),
        (
            "extKeyUsage, twice",
            "551d25",
            "301406082b0601050507030106082b06010505070301",
        ),
        (
            "extKeyUsage, large number",
            "551d25",
            "301306082b0601050507030106072a038880808000",
        ),
        ("subjectAltName, another type", "551d11", "0c0161"),
        (
            "subjectAltName, unknown type of name",
            "551d11",
            "300e8209612e6578616d706c658f0178",
        ),
        (
            "subjectAltName, URI without ]",
            "551d11",
            "301682 09612e6578616d706c658609687474703a2f2f5b78",
        ),
        (
            "subjectAltName, URI with a space",
            "551d11",
            "30178209612e6578616d706c65860a687474703a2f2f612062",
        ),
        (
            "subjectAltName, escape in a URI",
            "551d11",
            "30198209612e6578616d706c65860c687474703a2f2f612f257a7a",
        ),
        (
            "subjectAltName, five bytes of address",
            "551d11",
            "30128209612e6578616d706c6587053132333435",
        ),
        (
            "subjectAltName, DNS name in Latin-1",
            "551d11",
            "30168209612e6578616d706c658209e42e6578616d706c65",
        ),
        (
            "subjectAltName, other name",
            "551d11",
            "30168209612e6578616d706c65a00906022a03a0030c0178",
        ),
        (
            "subjectAltName, registered id",
            "551d11",
            "300f8209612e6578616d706c6588022a03",
        ),
        ("certificatePolicies, twice", "551d20", "300c300406022a03300406022a03"),
        ("certificatePolicies, two", "551d20", "300c300406022a03300406022a04"),
        (
            "certificatePolicies, large number",
            "551d20",
            "300b300906072a038880808000",
        ),
        ("certificatePolicies, no qualifier", "551d20", "3008300606022a033000"),
        ("authorityKeyIdentifier, no field", "551d23", "3000"),
        ("authorityKeyIdentifier, empty serial", "551d23", "30028200"),
        ("authorityKeyIdentifier, other field", "551d23", "3003040178"),
        ("authorityKeyIdentifier, octets", "551d23", "040178"),
        ("subjectKeyIdentifier, bare", "551d0e", "3132333435363738"),
        ("subjectKeyIdentifier, no bytes", "551d0e", "0400"),
        (
            "cRLDistributionPoints, relative name",
            "551d1f",
            "3015 3013a011a10f300d06035504030c06697373756572",
        ),
        ("cRLDistributionPoints, no name", "551d1f", "30023000"),
        ("cRLDistributionPoints, reasons only", "551d1f", "3006300481020106"),
        (
            "cRLDistributionPoints, unknown type of name",
            "551d1f",
            "30083006a004a0028f00",
        ),
        ("authorityInfoAccess, no description", "2b06010505070101", "3000"),
        (
            "authorityInfoAccess, name of a directory",
            "2b06010505070101",
            "3010300e06082b06010505073001a4023000",
        ),
        ("inhibitAnyPolicy, a sequence", "551d36", "3000"),
        ("policyConstraints, none", "551d24", "3000"),
    ] {
        cases.with_extension(name, oid, false, &value.replace(' ', ""));
    }
    for (name, value) in [
        ("issuer, negative path length", "30060101ff0201ff"),
        ("issuer, path length 0", "30060101ff020100"),
    ] {
        let constraints = extension("551d13", true, &bytes(value));
        cases.add_issuer(name, |fields| fields.extensions[0] = constraints);
    }
    for (name, number) in [("31 bits", "2a0387ffffff7f"), ("32 bits", "2a038880808000")] {
        let odd = extension(number, false, &[5, 0]);
        cases.add(&format!("extension, number of {name}"), |fields| {
            fields.extensions.push(odd)
        });
    }
}

/// Name constraints of the issuer (RFC 5280 4.2.1.10).
fn constraints(cases: &mut Cases) {
    for (name, base) in [
        ("DNS", "82076578616d706c65"),
        ("DNS with a dot", "82082e6578616d706c65"),
        ("mail", "81076578616d706c65"),
        ("URI", "86076578616d706c65"),
        ("URI of an address", "8607312e322e332e34"),
        ("address", "8708c0000200ffffff00"),
        ("address of seven bytes", "8707c0000200ffffff"),
        ("address with a gap", "8708c0000200ff00ff00"),
        ("DNS in Latin-1", "8208e42e6578616d706c"),
        ("registered id", "88022a03"),
        ("other name", "a00906022a03a0030c0178"),
        ("principal name", "a011060a2b060104018237140203a0030c0178"),
        ("X.400", "a300"),
    ] {
        for (which, tag) in [("permitted", 0xa0), ("excluded", 0xa1)] {
            if which == "excluded" && name.starts_with("DNS") && !name.contains("Latin") {
                continue;
            }
            for is_critical in [true, false] {
                let subtrees = sequence(&[&der(tag, &[&sequence(&[&bytes(base)])])]);
                let constraints = extension("551d1e", is_critical, &subtrees);
                let critical = if is_critical { ", critical" } else { "" };
                cases.add_issuer(&format!("constraint {which} {name}{critical}"), |fields| {
                    fields.extensions.push(constraints);
                });
            }
        }
    }
    // O=x
    let directory = name_of("55040a", &der(12, &[b"x"]));
    for is_critical in [true, false] {
        let subtrees = sequence(&[&der(0xa1, &[&sequence(&[&der(0xa4, &[&directory])])])]);
        let constraints = extension("551d1e", is_critical, &subtrees);
        cases.add_issuer(
            &format!("constraint excluded directory name, critical {is_critical}"),
            |fields| {
                fields.extensions.push(constraints);
            },
        );
    }
    for (name, value) in [
        ("minimum 0", "3010a00e300c82076578616d706c65800100"),
        ("minimum 1", "3010a00e300c82076578616d706c65800101"),
        ("maximum 1", "3010a00e300c82076578616d706c65810101"),
        ("nothing permitted", "3002a000"),
        ("none", "3000"),
        ("another type", "0c0161"),
    ] {
        let constraints = extension("551d1e", true, &bytes(value));
        cases.add_issuer(&format!("constraint, {name}"), |fields| {
            fields.extensions.push(constraints)
        });
    }
}

fn algorithms_and_keys(cases: &mut Cases) {
    for (name, inner, outer) in [
        ("outer SHA-384", ECDSA_SHA256, ECDSA_SHA384),
        ("inner SHA-384", ECDSA_SHA384, ECDSA_SHA256),
        ("outer NULL", ECDSA_SHA256, ECDSA_SHA256_NULL),
        ("two NULL", ECDSA_SHA256_NULL, ECDSA_SHA256_NULL),
    ] {
        cases.add(&format!("signature algorithms, {name}"), |fields| {
            fields.inner = bytes(inner);
            fields.outer = bytes(outer);
        });
    }
    let rsa = Authority::new(Key::Rsa(2048), "root");
    let of_rsa = rsa.sign(&rsa.authority(&rsa, &cases.times));
    for (name, inner, outer) in [
        ("good with RSA", RSA_SHA256, RSA_SHA256),
        (
            "signature algorithms, RSA without NULL",
            RSA_SHA256_WITHOUT_NULL,
            RSA_SHA256_WITHOUT_NULL,
        ),
        (
            "signature algorithms, RSA, inner without NULL",
            RSA_SHA256_WITHOUT_NULL,
            RSA_SHA256,
        ),
        (
            "signature algorithms, RSA, outer without NULL",
            RSA_SHA256,
            RSA_SHA256_WITHOUT_NULL,
        ),
    ] {
        let mut fields = rsa.server(&cases.times);
        fields.inner = bytes(inner);
        fields.outer = bytes(outer);
        let leaf = rsa.sign(&fields);
        cases.push(name, of_rsa.clone(), leaf, Vec::new());
    }
    let public = rsa.key.rsa().unwrap().public_key_to_der_pkcs1().unwrap();
    for (name, parameters) in [("with NULL", &[5, 0][..]), ("without NULL", &[])] {
        let algorithm = sequence(&[&bytes("06092a864886f70d010101"), parameters]);
        let key = sequence(&[&algorithm, &der(3, &[&[0], &public])]);
        cases.add(&format!("RSA key {name}"), |fields| fields.key = key);
    }
    for (curve, nid, oid) in [
        ("P-256", Nid::X9_62_PRIME256V1, "06082a8648ce3d030107"),
        ("P-384", Nid::SECP384R1, "06052b81040022"),
        ("P-521", Nid::SECP521R1, "06052b81040023"),
        ("secp256k1", Nid::SECP256K1, "06052b8104000a"),
    ] {
        let group = openssl::ec::EcGroup::from_curve_name(nid).unwrap();
        let key = openssl::ec::EcKey::generate(&group).unwrap();
        for (form, conversion) in [
            ("uncompressed", PointConversionForm::UNCOMPRESSED),
            ("compressed", PointConversionForm::COMPRESSED),
            ("hybrid", PointConversionForm::HYBRID),
        ] {
            let mut context = openssl::bn::BigNumContext::new().unwrap();
            let point = key.public_key().to_bytes(&group, conversion, &mut context).unwrap();
            let algorithm = sequence(&[&bytes("06072a8648ce3d0201"), &bytes(oid)]);
            let key = sequence(&[&algorithm, &der(3, &[&[0], &point])]);
            cases.add(&format!("{curve}, {form}"), |fields| fields.key = key);
        }
    }
    let edwards = Key::Ed25519.make().public_key_to_der().unwrap();
    cases.add("Ed25519", |fields| fields.key = edwards);
}

/// Strings of the subject and of the issuer (X.680 41).
fn strings(cases: &mut Cases) {
    for (name, tag, content) in [
        ("PrintableString", 0x13, &b"aZ09 '()+,-./:=?"[..]),
        ("PrintableString with *", 0x13, b"*.a"),
        ("PrintableString with &", 0x13, b"a&b"),
        ("PrintableString with @", 0x13, b"a@b"),
        ("PrintableString with _", 0x13, b"a_b"),
        ("PrintableString in Latin-1", 0x13, b"a\xe4"),
        ("PrintableString with a null", 0x13, b"a\0b"),
        ("PrintableString with !", 0x13, b"a!b"),
        ("UTF8String", 12, "\u{e4}@_".as_bytes()),
        ("UTF8String with a null", 12, b"a\0b"),
        ("UTF8String of Latin-1", 12, b"a\xff"),
        ("IA5String", 0x16, b"a@b"),
        ("IA5String in Latin-1", 0x16, b"a\xe4"),
        ("T61String", 0x14, b"a\xe4"),
        ("BMPString", 0x1e, b"\0a\0b"),
        ("BMPString with U+FFFF", 0x1e, b"\xff\xff"),
        ("BMPString with a surrogate", 0x1e, b"\xd8\0\xdc\0"),
        ("UniversalString", 0x1c, b"\0\0\0a"),
        ("NumericString", 0x12, b"12 3"),
        ("NumericString with a letter", 0x12, b"12a"),
        ("VisibleString", 0x1a, b"ab"),
        ("BIT STRING", 3, b"\0a"),
        ("SEQUENCE", 0x30, b""),
        ("OCTET STRING", 4, b"ab"),
    ] {
        let odd = name_of("55040a", &der(tag, &[content]));
        cases.add(&format!("subject, {name}"), |fields| fields.subject = odd.clone());
        let root = Authority {
            key: Key::P256.make(),
            name: odd,
        };
        let certificate = root.sign(&root.authority(&root, &cases.times));
        let leaf = root.sign(&root.server(&cases.times));
        cases.push(&format!("issuer, {name}"), certificate, leaf, Vec::new());
    }
    for (name, number) in [("31 bits", "2a0387ffffff7f"), ("32 bits", "2a038880808000")] {
        let odd = name_of(number, &der(12, &[b"a"]));
        cases.add(&format!("subject, number of {name}"), |fields| fields.subject = odd);
    }
}

fn numbers_and_times(cases: &mut Cases) {
    for (name, content) in [
        ("zero", &[0][..]),
        ("negative", &[0xff]),
        ("20 bytes", &[0x7f; 20]),
        ("21 bytes", &[0x7f; 21]),
    ] {
        cases.add(&format!("serial number, {name}"), |fields| {
            fields.serial = der(2, &[content])
        });
    }
    let [begin, end] = [cases.times.begin.clone(), cases.times.end.clone()];
    // Without the Z, without the seconds and the Z, and with the century.
    let forms = |time: &str| {
        let (seconds, minutes, century) = (&time[..12], &time[..10], format!("20{time}"));
        [
            ("no seconds", 0x17, format!("{minutes}Z")),
            ("offset", 0x17, format!("{seconds}+0100")),
            ("no offset", 0x17, format!("{seconds}+0000")),
            ("no zone", 0x17, seconds.to_owned()),
            ("century", 0x18, century.clone()),
            ("fraction", 0x18, format!("20{seconds}.5Z")),
            ("century and offset", 0x18, format!("20{seconds}+0100")),
            ("century, no seconds", 0x18, format!("20{minutes}Z")),
            ("month 13", 0x17, format!("{}13{}", &time[..2], &time[4..])),
        ]
    };
    let ordinary = |time: &str| der(0x17, &[time.as_bytes()]);
    for (name, tag, text) in forms(&begin) {
        let validity = sequence(&[&der(tag, &[text.as_bytes()]), &ordinary(&end)]);
        cases.add(&format!("notBefore, {name}"), |fields| fields.validity = validity);
    }
    for (name, tag, text) in forms(&end) {
        let validity = sequence(&[&ordinary(&begin), &der(tag, &[text.as_bytes()])]);
        cases.add(&format!("notAfter, {name}"), |fields| fields.validity = validity);
    }
    let validity = sequence(&[&ordinary(&begin), &der(0x18, &[b"99991231235959Z"])]);
    cases.add("notAfter, 9999", |fields| fields.validity = validity);
}

fn names(cases: &mut Cases) {
    cases.add("subject, empty", |fields| {
        fields.subject = sequence(&[]);
        let san = sequence(&[&der(0x82, &[b"a.example"])]);
        fields.extensions[3] = extension("551d11", true, &san);
    });
    let nobody = Authority {
        key: Key::P256.make(),
        name: sequence(&[]),
    };
    let root = nobody.sign(&nobody.authority(&nobody, &cases.times));
    let leaf = nobody.sign(&nobody.server(&cases.times));
    cases.push("issuer, empty", root, leaf, Vec::new());
}
