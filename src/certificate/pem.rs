//! Reads and writes PEM text (RFC 7468). It is read as people have it: any line ends and widths, or none, blank lines, indentation, text before,
//! between and after the blocks, quotation marks, four dashes, no newline at the end. [`PlainText`](super::text::PlainText) makes other texts plain
//! first. The text between BEGIN and END is read strictly.
//!
//! Reading takes linear time. Only [`Block::decode`] decodes the base64 of a whole block.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::der_form::{self, DerForm};
use super::finding::DroppedBlock;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// Why PEM text cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PemError {
    /// The text contains no block.
    NoBlock,
    /// A block has no END line before the next BEGIN line or the end of the text.
    NotClosed {
        /// Which block, counted from 1.
        block: usize,
    },
    /// An END line has no BEGIN line.
    NotOpened {
        /// The number of blocks before it.
        block: usize,
    },
    /// The END line of a block has another label than its BEGIN line.
    LabelMismatch {
        /// Which block, counted from 1.
        block: usize,
    },
    /// A BEGIN or END has no dashes after its label.
    Incomplete {
        /// Which block, counted from 1.
        block: usize,
    },
    /// The text between BEGIN and END is not base64.
    NotBase64 {
        /// Which block, counted from 1.
        block: usize,
    },
}

impl PemError {
    /// The block with the error, counted from 1.
    pub fn block(self) -> Option<usize> {
        match self {
            Self::NoBlock => None,
            Self::NotClosed { block }
            | Self::NotOpened { block }
            | Self::LabelMismatch { block }
            | Self::Incomplete { block }
            | Self::NotBase64 { block } => Some(block),
        }
    }
}

/// The kind of a block, by its content if the first octets tell, else by its label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Label {
    Certificate,
    TrustedCertificate,
    CertificateRequest,
    Pkcs7,
    Pkcs12,
    Pkcs8,
    Pkcs1,
    Sec1,
    Dsa,
    OpenSsh,
    Encrypted,
    EcParameters,
    /// Neither a secret nor a certificate.
    Harmless(DroppedBlock),
    Other,
}

/// A block, not decoded yet.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) label: Label,
    /// Whether its label is that of another kind.
    pub(super) is_mislabelled: bool,
    /// From BEGIN to END.
    pub(super) whole: &'a [u8],
    /// Its number in the text, counted from 1.
    index: usize,
    body: &'a [u8],
}

/// The blocks of a plain text in order. Ends after the first error.
pub(super) fn blocks(text: &[u8]) -> impl Iterator<Item = Result<Block<'_>, PemError>> {
    let (mut rest, mut index) = (text, 0);
    std::iter::from_fn(move || {
        index += 1;
        let block = next_block(&mut rest, index);
        if let Some(Err(_)) = block {
            rest = &[];
        }
        block
    })
}

/// The labels of all BEGINs, even of blocks that are not closed.
pub(super) fn begun(text: &[u8]) -> impl Iterator<Item = Label> {
    let mut rest = text;
    std::iter::from_fn(move || next_mark(&mut rest)).filter_map(|mark| match mark.kind {
        MarkKind::Begin(label) => Some(Label::read(label)),
        MarkKind::End(_) | MarkKind::Incomplete => None,
    })
}

/// Whether a block begins in the text.
pub(super) fn begins(text: &[u8]) -> bool {
    begun(text).next().is_some()
}

/// The octets that fill the 64 characters of a line (RFC 7468 2).
const OCTETS_OF_LINE: usize = 48;

/// Appends a block in the strict form of RFC 7468 3. `text` does not grow if it has room for [`written_len`] octets.
pub(super) fn write(label: &str, der: &[u8], text: &mut Vec<u8>) {
    let mark = |text: &mut Vec<u8>, mark: &[u8]| {
        for part in [mark, label.as_bytes(), DASHES, b"\n"] {
            text.extend_from_slice(part);
        }
    };
    mark(text, BEGIN);
    for octets in der.chunks(OCTETS_OF_LINE) {
        let from = text.len();
        text.resize(from + octets.len().div_ceil(3) * 4, 0);
        let written = BASE64_STANDARD.encode_slice(octets, &mut text[from..]);
        // The slice has the length of the code.
        written.unwrap_or_else(|_| unreachable!("base64 is longer than its length"));
        text.push(b'\n');
    }
    mark(text, END);
}

/// The length of a block that [`write`] appends, for this number of octets.
pub(super) fn written_len(label: &str, octets: usize) -> usize {
    let marks = BEGIN.len() + END.len() + 2 * (label.len() + DASHES.len() + 1);
    marks + octets.div_ceil(3) * 4 + octets.div_ceil(OCTETS_OF_LINE)
}

fn next_block<'a>(rest: &mut &'a [u8], index: usize) -> Option<Result<Block<'a>, PemError>> {
    let begin = next_mark(rest)?;
    let opened = match begin.kind {
        MarkKind::Begin(label) => label,
        MarkKind::End(_) => return Some(Err(PemError::NotOpened { block: index - 1 })),
        MarkKind::Incomplete => return Some(Err(PemError::Incomplete { block: index })),
    };
    let inside = *rest;
    let Some(end) = next_mark(rest) else {
        return Some(Err(PemError::NotClosed { block: index }));
    };
    match end.kind {
        MarkKind::Begin(_) => return Some(Err(PemError::NotClosed { block: index })),
        MarkKind::Incomplete => return Some(Err(PemError::Incomplete { block: index })),
        MarkKind::End(closed) if closed != opened => return Some(Err(PemError::LabelMismatch { block: index })),
        MarkKind::End(_) => {}
    }
    let stated = Label::read(opened);
    let mut block = Block {
        label: stated,
        is_mislabelled: false,
        whole: &begin.from[..begin.from.len() - rest.len()],
        index,
        body: &inside[..inside.len() - end.from.len()],
    };
    block.label = block.kind(stated);
    block.is_mislabelled = block.label != stated;
    Some(Ok(block))
}

impl Block<'_> {
    /// Whether it begins with RFC 1421's header of an encrypted block (4.6.1.1), as OpenSSL's old private keys have it.
    pub(super) fn has_encrypted_header(&self) -> bool {
        const VALUE: &[u8] = b"4,ENCRYPTED";
        let value = self.body.trim_ascii_start().strip_prefix(b"Proc-Type:");
        value.is_some_and(|value| value.trim_ascii_start().starts_with(VALUE))
    }

    /// The kind by the content, if the label is of a kind that certkeep reads.
    fn kind(&self, stated: Label) -> Label {
        let is_read = match stated {
            // An EC or a DSA key has OpenSSL's parameters in other forms, and explicit parameters look like a key.
            Label::Dsa | Label::EcParameters | Label::TrustedCertificate | Label::Other => false,
            Label::Harmless(block) => block == DroppedBlock::PublicKey,
            _ => true,
        };
        let form = if is_read { self.form() } else { None };
        match form {
            None => stated,
            Some(DerForm::Certificate) => Label::Certificate,
            Some(DerForm::Pkcs8) => Label::Pkcs8,
            Some(DerForm::Pkcs1) => Label::Pkcs1,
            Some(DerForm::Sec1) => Label::Sec1,
            Some(DerForm::EncryptedPkcs8) => Label::Encrypted,
            Some(DerForm::PublicKey) => Label::Harmless(DroppedBlock::PublicKey),
            Some(DerForm::Pkcs7) => Label::Pkcs7,
            Some(DerForm::Pkcs12) => Label::Pkcs12,
        }
    }

    /// The structure of the content, by its first octets.
    fn form(&self) -> Option<DerForm> {
        let mut digits = Zeroizing::new([0; der_form::OCTETS / 3 * 4]);
        let mut len = 0;
        let body = self.body.iter().filter(|byte| !is_ignored(**byte));
        for (place, digit) in digits.iter_mut().zip(body) {
            *place = *digit;
            len += 1;
        }
        let mut octets = Zeroizing::new([0; der_form::OCTETS]);
        let octets_len = BASE64.decode_slice(&digits[..len], octets.as_mut_slice()).ok()?;
        DerForm::of(&octets[..octets_len])
    }

    /// Decodes the base64 text. Wipes the text and leaves no copy of the bytes in memory.
    pub(super) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, PemError> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.body.len()));
        for part in self.body.split(|byte| is_ignored(*byte)) {
            text.extend_from_slice(part);
        }
        let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
        let len = BASE64
            .decode_slice(&*text, &mut bytes)
            .map_err(|_| PemError::NotBase64 { block: self.index })?;
        bytes.truncate(len);
        Ok(bytes)
    }
}

/// The standard alphabet. A parser may accept missing padding (RFC 7468 3). Non-zero trailing bits are refused.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(false),
);

/// The white space of RFC 7468 3, and the quotation marks of a text in a program.
fn is_ignored(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c | b'"' | b'\'')
}

/// A BEGIN or an END with its label and its dashes.
struct Mark<'a> {
    kind: MarkKind<'a>,
    /// The text from its first dash on.
    from: &'a [u8],
}

enum MarkKind<'a> {
    Begin(&'a [u8]),
    End(&'a [u8]),
    /// No dashes follow the label.
    Incomplete,
}

/// The fewest dashes before and after a label. RFC 7468 3 has five, and people lose one.
const MIN_DASHES: usize = 4;
/// The longest text between the dashes. A label has no limit (RFC 7468 3), and no program writes a longer one.
const MAX_LABEL: usize = 80;

/// Takes the text up to the end of the next BEGIN or END. `None` if there is none.
fn next_mark<'a>(rest: &mut &'a [u8]) -> Option<Mark<'a>> {
    while let Some(place) = memchr::memchr(b'-', rest) {
        let from = &rest[place..];
        let dashes = dashes(from);
        let after = &from[dashes..];
        *rest = after;
        if dashes < MIN_DASHES {
            continue;
        }
        let words = after.strip_prefix(b" ").unwrap_or(after);
        let (label, is_begin) = match (words.strip_prefix(b"BEGIN "), words.strip_prefix(b"END ")) {
            (Some(label), _) => (label, true),
            (_, Some(label)) => (label, false),
            (None, None) => continue,
        };
        let kind = match take_label(label, rest) {
            None => MarkKind::Incomplete,
            Some(label) if is_begin => MarkKind::Begin(label),
            Some(label) => MarkKind::End(label),
        };
        return Some(Mark { kind, from });
    }
    *rest = &[];
    None
}

/// The label at the beginning of a text. `rest` is the text after its dashes.
fn take_label<'a>(text: &'a [u8], rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let line = &text[..text.len().min(MAX_LABEL)];
    let end = (0..line.len())
        .find(|end| matches!(line[*end], b'\r' | b'\n') || (line[*end] == b'-' && dashes(&text[*end..]) >= MIN_DASHES));
    let end = end.filter(|end| line[*end] == b'-')?;
    let count = dashes(&text[end..]);
    // An END and the next BEGIN on one line share their dashes.
    let own = if count < 2 * MIN_DASHES { count } else { count / 2 };
    *rest = &text[end + own..];
    Some(text[..end].trim_ascii())
}

fn dashes(text: &[u8]) -> usize {
    text.iter().take_while(|byte| **byte == b'-').count()
}

impl Label {
    /// The labels of RFC 7468 4 and of OpenSSL (`pem.h`).
    fn read(label: &[u8]) -> Self {
        match label {
            b"CERTIFICATE" | b"X509 CERTIFICATE" => Self::Certificate,
            b"TRUSTED CERTIFICATE" => Self::TrustedCertificate,
            b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => Self::CertificateRequest,
            b"PKCS7" | b"PKCS #7 SIGNED DATA" | b"CMS" => Self::Pkcs7,
            b"PKCS12" | b"PFX" => Self::Pkcs12,
            b"PRIVATE KEY" => Self::Pkcs8,
            b"RSA PRIVATE KEY" => Self::Pkcs1,
            b"EC PRIVATE KEY" => Self::Sec1,
            b"DSA PRIVATE KEY" => Self::Dsa,
            b"OPENSSH PRIVATE KEY" => Self::OpenSsh,
            b"ENCRYPTED PRIVATE KEY" => Self::Encrypted,
            b"EC PARAMETERS" => Self::EcParameters,
            b"PUBLIC KEY" | b"RSA PUBLIC KEY" | b"SSH2 PUBLIC KEY" => Self::Harmless(DroppedBlock::PublicKey),
            b"DH PARAMETERS" | b"X9.42 DH PARAMETERS" => Self::Harmless(DroppedBlock::DhParameters),
            b"DSA PARAMETERS" => Self::Harmless(DroppedBlock::DsaParameters),
            b"X509 CRL" => Self::Harmless(DroppedBlock::Crl),
            _ => Self::Other,
        }
    }

    /// The label that a block of this kind has (RFC 7468 4). Empty for a kind that has none.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Certificate => "CERTIFICATE",
            Self::TrustedCertificate => "TRUSTED CERTIFICATE",
            Self::CertificateRequest => "CERTIFICATE REQUEST",
            Self::Pkcs7 => "PKCS7",
            Self::Pkcs8 => "PRIVATE KEY",
            Self::Pkcs1 => "RSA PRIVATE KEY",
            Self::Sec1 => "EC PRIVATE KEY",
            Self::Dsa => "DSA PRIVATE KEY",
            Self::OpenSsh => "OPENSSH PRIVATE KEY",
            Self::Encrypted => "ENCRYPTED PRIVATE KEY",
            Self::EcParameters => "EC PARAMETERS",
            Self::Harmless(DroppedBlock::PublicKey) => "PUBLIC KEY",
            Self::Pkcs12 | Self::Harmless(_) | Self::Other => "",
        }
    }

    /// Whether a block with this label is a private key in any format.
    pub(super) fn is_private_key(self) -> bool {
        matches!(
            self,
            Self::Pkcs8 | Self::Pkcs1 | Self::Sec1 | Self::Dsa | Self::OpenSsh | Self::Encrypted
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_pair::{self, pem};
    use super::super::text::PlainText;
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<(Label, Vec<u8>)>, PemError> {
        blocks(&PlainText::of(text))
            .map(|block| block.and_then(|block| Ok((block.label, block.decode()?.to_vec()))))
            .collect()
    }

    fn read_one(text: &str) -> Result<Vec<u8>, PemError> {
        read(text.as_bytes()).map(|blocks| {
            assert_eq!(blocks.len(), 1, "{text:?}");
            blocks[0].1.clone()
        })
    }

    #[test]
    fn white_space_and_text_around_a_block_do_not_matter() {
        let plain = "-----BEGIN CERTIFICATE-----\naGVs\nbG8=\n-----END CERTIFICATE-----\n";
        for text in [
            plain.to_owned(),
            plain.replace('\n', "\r\n"),
            plain.replace('\n', "\r"),
            plain.replace('\n', "\n\n"),
            plain.replace('\n', " \t\n \t"),
            plain.replace("s\nb", "sb"),
            plain.replace("aGVs", "a\nG\nV\ns"),
            plain.replace("aGVs", "a G\tV\u{b}s\u{c}"),
            plain.replace("8=", "8\n="),
            plain.replace('=', ""),
            plain.trim_end().to_owned(),
            format!("\u{feff}{plain}"),
            plain.replace('\n', "\\n"),
            plain.replace('\n', " "),
            plain.replace("s\nb", "s\u{feff}\nb"),
            plain.replace("-----", "----"),
            plain.replace("-----", "------"),
            plain.replace("-----\n", "-----"),
            format!("tls.crt: \"{}\"", plain.trim_end()),
            format!("# the server's {plain}"),
            plain.lines().map(|line| format!("\"{line}\\n\"\n")).collect(),
            format!("Bag Attributes\n    localKeyID: 01\nsubject=CN = a\n{plain}trailing - text -----\n"),
        ] {
            assert_eq!(read_one(&text).as_deref(), Ok(&b"hello"[..]), "{text:?}");
        }
    }

    #[test]
    fn text_around_may_be_binary() {
        let text = b"\xff\x00\xfe\n-----BEGIN X-----\n-----END X-----\n\x80".as_slice();
        assert_eq!(read(text), Ok(vec![(Label::Other, Vec::new())]));
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for body in [
            "aGVsbG8==",
            "aGVsbG8=x",
            "aGVsb",
            "aGVsbG9=",
            "aGVs-bG8=",
            "aGVs!",
            "aGVs\u{0}",
            "=",
            "Comment: x\n\naGVs",
            "é",
        ] {
            let text = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
            assert_eq!(read_one(&text), Err(PemError::NotBase64 { block: 1 }), "{body}");
        }
    }

    #[test]
    fn a_block_has_a_begin_and_an_end_of_the_same_label() {
        let good = "-----BEGIN A-----\n-----END A-----\n";
        for (bad, error) in [
            ("-----BEGIN A-----\n", PemError::NotClosed { block: 2 }),
            (
                "-----BEGIN A-----\n-----BEGIN A-----\n-----END A-----\n",
                PemError::NotClosed { block: 2 },
            ),
            (
                "-----BEGIN A-----\n-----END B-----\n",
                PemError::LabelMismatch { block: 2 },
            ),
            ("-----END A-----\n", PemError::NotOpened { block: 1 }),
            ("-----BEGIN A---\n-----END A-----\n", PemError::Incomplete { block: 2 }),
            ("-----BEGIN A-----\n-----END A\n", PemError::Incomplete { block: 2 }),
            ("-----BEGIN A\n-----END A-----\n", PemError::Incomplete { block: 2 }),
        ] {
            let text = format!("{good}{bad}{good}");
            let read: Vec<_> = blocks(text.as_bytes()).collect();
            assert_eq!(read.len(), 2, "nothing is read after an error: {bad}");
            assert_eq!(read[1].as_ref().err(), Some(&error), "{bad}");
        }
    }

    #[test]
    fn an_end_and_the_next_begin_may_share_a_line() {
        let (a, b) = (
            "-----BEGIN A-----\naGVs\n-----END A-----",
            "-----BEGIN B-----\nbG8=\n-----END B-----",
        );
        for text in [
            format!("{a}{b}\n"),
            format!("{a} {b}"),
            format!("{a}{b}").replace("-----", "----"),
        ] {
            let read = read(text.as_bytes()).unwrap();
            assert_eq!(
                read.iter().map(|(_, der)| der.as_slice()).collect::<Vec<_>>(),
                [b"hel", &b"lo"[..]],
                "{text}"
            );
        }
    }

    #[test]
    fn a_wrong_label_is_corrected_by_the_content() {
        let pair = test_pair::ec();
        let pkcs8 = pair.key.private_key_to_pkcs8().unwrap();
        let sec1 = pair.key.ec_key().unwrap().private_key_to_der().unwrap();
        let certificate = pair.certificate.to_der().unwrap();
        let public = Label::Harmless(DroppedBlock::PublicKey);
        for (label, der, expected, is_wrong) in [
            ("RSA PRIVATE KEY", &pkcs8, Label::Pkcs8, true),
            ("CERTIFICATE", &pkcs8, Label::Pkcs8, true),
            ("PUBLIC KEY", &pkcs8, Label::Pkcs8, true),
            ("PRIVATE KEY", &sec1, Label::Sec1, true),
            ("PRIVATE KEY", &certificate, Label::Certificate, true),
            ("PKCS7", &certificate, Label::Certificate, true),
            ("PRIVATE KEY", &pair.key.public_key_to_der().unwrap(), public, true),
            ("X509 CERTIFICATE", &certificate, Label::Certificate, false),
            ("PRIVATE KEY", &pkcs8, Label::Pkcs8, false),
            ("TRUSTED CERTIFICATE", &certificate, Label::TrustedCertificate, false),
            (
                "DH PARAMETERS",
                &pkcs8,
                Label::Harmless(DroppedBlock::DhParameters),
                false,
            ),
            ("A", &pkcs8, Label::Other, false),
            ("PRIVATE KEY", &vec![1], Label::Pkcs8, false),
        ] {
            let text = pem(label, der);
            let block = blocks(&text).next().unwrap().unwrap();
            assert_eq!((block.label, block.is_mislabelled), (expected, is_wrong), "{label}");
        }
    }

    #[test]
    fn an_old_encrypted_key_is_known_by_its_first_line() {
        let encrypted = "-----BEGIN A-----\n\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: x\n\naGVs\n-----END A-----";
        let plain = "-----BEGIN A-----\naGVs\nProc-Type: 4,ENCRYPTED\n-----END A-----";
        for (text, expected) in [(encrypted, true), (plain, false)] {
            assert_eq!(
                blocks(text.as_bytes()).next().unwrap().unwrap().has_encrypted_header(),
                expected
            );
        }
    }
}
