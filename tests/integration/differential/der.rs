//! DER as a tree, of which one value can be changed.

/// One value of X.690.
#[derive(Clone)]
pub struct Value {
    tag: u8,
    length: Length,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Bytes(Vec<u8>),
    /// What a constructed value holds, or a string that holds DER. A BIT STRING has the number of its unused bits before it.
    Values(Vec<u8>, Vec<Value>),
}

/// How the length is written.
#[derive(Clone, Copy)]
enum Length {
    /// As X.690 10.1 asks.
    Shortest,
    Longer,
    Indefinite,
    /// The number of the content's bytes, and this.
    Off(isize),
}

/// What is done to one value. The lengths around it are made right again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    OtherTag,
    Removed,
    Repeated,
    SwappedWithNext,
    Emptied,
    ValueAdded,
    ByteRemoved,
    ByteAdded,
    FirstBitFlipped,
    LastBitFlipped,
    ZeroInFront,
    SignZeroRemoved,
    LongLength,
    IndefiniteLength,
    LengthTooShort,
    LengthTooLong,
}

impl Change {
    pub const ALL: [Self; 16] = [
        Self::OtherTag,
        Self::Removed,
        Self::Repeated,
        Self::SwappedWithNext,
        Self::Emptied,
        Self::ValueAdded,
        Self::ByteRemoved,
        Self::ByteAdded,
        Self::FirstBitFlipped,
        Self::LastBitFlipped,
        Self::ZeroInFront,
        Self::SignZeroRemoved,
        Self::LongLength,
        Self::IndefiniteLength,
        Self::LengthTooShort,
        Self::LengthTooLong,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherTag => "another tag",
            Self::Removed => "removed",
            Self::Repeated => "repeated",
            Self::SwappedWithNext => "swapped with the next",
            Self::Emptied => "emptied",
            Self::ValueAdded => "a NULL added",
            Self::ByteRemoved => "last byte removed",
            Self::ByteAdded => "a byte added",
            Self::FirstBitFlipped => "first bit flipped",
            Self::LastBitFlipped => "last bit flipped",
            Self::ZeroInFront => "a leading zero",
            Self::SignZeroRemoved => "leading zero removed",
            Self::LongLength => "length in a longer form",
            Self::IndefiniteLength => "indefinite length",
            Self::LengthTooShort => "length too short",
            Self::LengthTooLong => "length too long",
        }
    }
}

impl Value {
    /// Reads one value in DER.
    pub fn read(der: &[u8]) -> Self {
        let [value] = read_all(der).unwrap().try_into().ok().unwrap();
        value
    }

    pub fn new(tag: u8, values: Vec<Self>) -> Self {
        Self {
            tag,
            length: Length::Shortest,
            content: Content::Values(Vec::new(), values),
        }
    }

    pub fn primitive(tag: u8, bytes: &[u8]) -> Self {
        Self {
            tag,
            length: Length::Shortest,
            content: Content::Bytes(bytes.to_vec()),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let content = match &self.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::Values(before, values) => {
                let mut content = before.clone();
                values.iter().for_each(|value| content.extend(value.encode()));
                content
            }
        };
        let mut der = vec![self.tag];
        match self.length {
            Length::Shortest => der.extend(length(content.len())),
            Length::Off(by) => der.extend(length(content.len().saturating_add_signed(by))),
            Length::Indefinite => der.push(0x80),
            Length::Longer => match &length(content.len())[..] {
                [short] => der.extend([0x81, *short]),
                [first, bytes @ ..] => {
                    der.extend([first + 1, 0]);
                    der.extend(bytes);
                }
                [] => unreachable!(),
            },
        }
        der.extend(content);
        if matches!(self.length, Length::Indefinite) {
            der.extend([0, 0]);
        }
        der
    }

    fn values(&self) -> &[Self] {
        match &self.content {
            Content::Values(_, values) => values,
            Content::Bytes(_) => &[],
        }
    }

    fn values_mut(&mut self) -> &mut Vec<Self> {
        match &mut self.content {
            Content::Values(_, values) => values,
            Content::Bytes(_) => panic!("a value that holds no others"),
        }
    }

    pub fn push(&mut self, value: Self) {
        self.values_mut().push(value);
    }

    pub fn at(&mut self, path: &[usize]) -> &mut Self {
        path.iter().fold(self, |value, &place| &mut value.values_mut()[place])
    }

    /// The ways to all values: the places to go from this one.
    pub fn paths(&self) -> Vec<Vec<usize>> {
        let mut paths = vec![Vec::new()];
        for (place, value) in self.values().iter().enumerate() {
            paths.extend(value.paths().into_iter().map(|path| [&[place], &path[..]].concat()));
        }
        paths
    }

    /// The encoding with one value changed; `None` if that can't be done to it, or changes nothing.
    pub fn changed(&self, path: &[usize], change: Change) -> Option<Vec<u8>> {
        let mut root = self.clone();
        match (change, path.split_last()) {
            (Change::Removed | Change::Repeated | Change::SwappedWithNext, None) => return None,
            (Change::Removed, Some((&place, parent))) => drop(root.at(parent).values_mut().remove(place)),
            (Change::Repeated, Some((&place, parent))) => {
                let values = root.at(parent).values_mut();
                values.insert(place, values[place].clone());
            }
            (Change::SwappedWithNext, Some((&place, parent))) => {
                let values = root.at(parent).values_mut();
                if place + 1 == values.len() {
                    return None;
                }
                values.swap(place, place + 1);
            }
            (change, _) => root.at(path).change(change)?,
        }
        let changed = root.encode();
        (changed != self.encode()).then_some(changed)
    }

    fn change(&mut self, change: Change) -> Option<()> {
        match (change, &mut self.content) {
            (Change::OtherTag, _) => self.tag ^= 1,
            (Change::LongLength, _) => self.length = Length::Longer,
            (Change::IndefiniteLength, _) if self.tag & 0x20 != 0 => self.length = Length::Indefinite,
            (Change::LengthTooShort, _) => self.length = Length::Off(-1),
            (Change::LengthTooLong, _) => self.length = Length::Off(1),
            (Change::Emptied, Content::Values(_, values)) => values.clear(),
            (Change::ValueAdded, Content::Values(_, values)) => values.push(Self::primitive(5, &[])),
            (Change::Emptied, Content::Bytes(bytes)) => bytes.clear(),
            (Change::ByteRemoved, Content::Bytes(bytes)) => drop(bytes.pop()?),
            (Change::ByteAdded, Content::Bytes(bytes)) => bytes.push(0),
            (Change::FirstBitFlipped, Content::Bytes(bytes)) => *bytes.first_mut()? ^= 0x80,
            (Change::LastBitFlipped, Content::Bytes(bytes)) => *bytes.last_mut()? ^= 1,
            (Change::ZeroInFront, Content::Bytes(bytes)) => bytes.insert(0, 0),
            (Change::SignZeroRemoved, Content::Bytes(bytes)) if self.tag == 2 && bytes.len() > 1 && bytes[0] == 0 => {
                bytes.remove(0);
            }
            _ => return None,
        }
        Some(())
    }
}

/// A length in its shortest form.
fn length(len: usize) -> Vec<u8> {
    let bytes: Vec<_> = len.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    match bytes[..] {
        [] => vec![0],
        [short @ ..=0x7f] => vec![short],
        _ => [&[0x80 + u8::try_from(bytes.len()).unwrap()], &bytes[..]].concat(),
    }
}

fn read_all(mut der: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    while let [tag, first, rest @ ..] = der {
        let (len, rest) = match first {
            ..=0x7f => (usize::from(*first), rest),
            0x81 => (usize::from(*rest.first()?), &rest[1..]),
            0x82 => {
                let (len, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(*len)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        let mut value = Value::primitive(*tag, content);
        if tag & 0x20 != 0 {
            value.content = Content::Values(Vec::new(), read_all(content)?);
        }
        values.push(value);
        der = rest;
    }
    open_strings(&mut values);
    der.is_empty().then_some(values)
}

/// Reads the strings that hold DER: an extension's value, PKCS#8's key, an RSA key in a SubjectPublicKeyInfo. They are known by
/// what stands before them, so that random bytes are never taken for DER.
fn open_strings(values: &mut [Value]) {
    let tags: Vec<_> = values.iter().map(|value| value.tag).collect();
    for value in values {
        let Content::Bytes(bytes) = &value.content else {
            continue;
        };
        let (before, inside) = match (value.tag, &tags[..]) {
            (4, [6, ..] | [2, 0x30, ..]) => (vec![], read_all(bytes)),
            (3, [0x30, 3]) if bytes.starts_with(&[0, 0x30]) => (vec![0], read_all(&bytes[1..])),
            _ => continue,
        };
        if let Some(inside) = inside {
            value.content = Content::Values(before, inside);
        }
    }
}
