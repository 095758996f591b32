//! Reads and writes PEM text (RFC 7468). It is read as people have it: any line ends and widths, blank lines, indentation, text around the blocks, a byte
//! order mark, no newline at the end. The text between BEGIN and END is read strictly.
//!
//! Reading takes linear time. Only [`Block::decode`] decodes base64.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

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
    /// A BEGIN or END line contains other text.
    NotAlone {
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
            | Self::NotAlone { block }
            | Self::NotBase64 { block } => Some(block),
        }
    }
}

/// The label of a BEGIN line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Label {
    Certificate,
    TrustedCertificate,
    CertificateRequest,
    Pkcs7,
    PublicKey,
    Pkcs8,
    Pkcs1,
    Sec1,
    Dsa,
    OpenSsh,
    Encrypted,
    EcParameters,
    Other,
}

/// A block, not decoded yet.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) label: Label,
    /// Its number in the text, counted from 1.
    index: usize,
    body: &'a [u8],
}

/// The blocks of a text in order. Ends after the first error.
pub(super) fn blocks(text: &[u8]) -> impl Iterator<Item = Result<Block<'_>, PemError>> {
    let mut rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut index = 0;
    std::iter::from_fn(move || {
        let block = next_block(&mut rest, index + 1);
        index += 1;
        if let Some(Err(_)) = block {
            rest = &[];
        }
        block
    })
}

/// The labels of all BEGIN lines without other text, even of blocks that are not closed.
pub(super) fn begun(text: &[u8]) -> impl Iterator<Item = Label> {
    let mut rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    std::iter::from_fn(move || take_line(&mut rest)).filter_map(|line| match Line::read(line) {
        Line::Begin(label) => Some(Label::read(label)),
        _ => None,
    })
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
    let opened = loop {
        match Line::read(take_line(rest)?) {
            Line::Text => {}
            Line::Begin(label) => break label,
            Line::End(_) => return Some(Err(PemError::NotOpened { block: index - 1 })),
            Line::Crowded => return Some(Err(PemError::NotAlone { block: index })),
        }
    };
    let inside = *rest;
    loop {
        let body = &inside[..inside.len() - rest.len()];
        let Some(line) = take_line(rest) else {
            return Some(Err(PemError::NotClosed { block: index }));
        };
        match Line::read(line) {
            Line::Text => {}
            Line::Begin(_) => return Some(Err(PemError::NotClosed { block: index })),
            Line::End(closed) if closed == opened => {
                return Some(Ok(Block {
                    label: Label::read(opened),
                    index,
                    body,
                }));
            }
            Line::End(_) => return Some(Err(PemError::LabelMismatch { block: index })),
            Line::Crowded => return Some(Err(PemError::NotAlone { block: index })),
        }
    }
}

impl Block<'_> {
    /// Whether the first line is RFC 1421's header of an encrypted block (4.6.1.1), as OpenSSL's old private keys have it.
    pub(super) fn has_encrypted_header(&self) -> bool {
        let mut body = self.body;
        std::iter::from_fn(|| take_line(&mut body))
            .map(<[u8]>::trim_ascii)
            .find(|line| !line.is_empty())
            .is_some_and(|line| line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"))
    }

    /// Decodes the base64 text. Wipes the text and leaves no copy of the bytes in memory.
    pub(super) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, PemError> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.body.len()));
        for part in self.body.split(|byte| is_space(*byte)) {
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

/// The white space of RFC 7468 3.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
}

/// Takes the next line without its end. `None` at the end of the text. CR LF counts as two ends with an empty line
/// between them.
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.is_empty() {
        return None;
    }
    let end = memchr::memchr2(b'\r', b'\n', rest);
    let (line, after) = match end {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (*rest, &rest[rest.len()..]),
    };
    *rest = after;
    Some(line)
}

enum Line<'a> {
    Text,
    Begin(&'a [u8]),
    End(&'a [u8]),
    /// A BEGIN or END line with other text.
    Crowded,
}

impl<'a> Line<'a> {
    fn read(line: &'a [u8]) -> Self {
        // Almost every line is base64, which contains no dash.
        if !line.contains(&b'-') {
            return Self::Text;
        }
        let line = line.trim_ascii();
        let label = |prefix| {
            let label = line.strip_prefix(prefix)?.strip_suffix(DASHES)?;
            (!label.windows(2).any(|pair| pair == b"--")).then_some(label)
        };
        if let Some(label) = label(BEGIN) {
            Self::Begin(label)
        } else if let Some(label) = label(END) {
            Self::End(label)
        } else if [BEGIN, END]
            .iter()
            .any(|mark| line.windows(mark.len()).any(|window| window == *mark))
        {
            Self::Crowded
        } else {
            Self::Text
        }
    }
}

impl Label {
    /// The labels of RFC 7468 4 and of OpenSSL (`pem.h`).
    fn read(label: &[u8]) -> Self {
        match label {
            b"CERTIFICATE" | b"X509 CERTIFICATE" => Self::Certificate,
            b"TRUSTED CERTIFICATE" => Self::TrustedCertificate,
            b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => Self::CertificateRequest,
            b"PKCS7" | b"PKCS #7 SIGNED DATA" | b"CMS" => Self::Pkcs7,
            b"PUBLIC KEY" | b"RSA PUBLIC KEY" => Self::PublicKey,
            b"PRIVATE KEY" => Self::Pkcs8,
            b"RSA PRIVATE KEY" => Self::Pkcs1,
            b"EC PRIVATE KEY" => Self::Sec1,
            b"DSA PRIVATE KEY" => Self::Dsa,
            b"OPENSSH PRIVATE KEY" => Self::OpenSsh,
            b"ENCRYPTED PRIVATE KEY" => Self::Encrypted,
            b"EC PARAMETERS" => Self::EcParameters,
            _ => Self::Other,
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
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<(Label, Vec<u8>)>, PemError> {
        blocks(text)
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
            (
                "-----BEGIN A----- aGVs -----END A-----\n",
                PemError::NotAlone { block: 2 },
            ),
            ("-----BEGIN A-----\\n-----END A-----\n", PemError::NotAlone { block: 2 }),
            (
                "x -----BEGIN A-----\n-----END A-----\n",
                PemError::NotAlone { block: 2 },
            ),
            (
                "-----BEGIN A-----\naGVs-----END A-----\n",
                PemError::NotAlone { block: 2 },
            ),
            ("-----BEGIN A\n-----END A-----\n", PemError::NotAlone { block: 2 }),
        ] {
            let text = format!("{good}{bad}{good}");
            let read: Vec<_> = blocks(text.as_bytes()).collect();
            assert_eq!(read.len(), 2, "nothing is read after an error: {bad}");
            assert_eq!(read[1].as_ref().err(), Some(&error), "{bad}");
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
