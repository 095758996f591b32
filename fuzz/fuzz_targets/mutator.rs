//! Mutations that follow the structure of DER: what is changed inside of a value changes the lengths of all that it stands in.

use crate::bodies::tree::{der, values};

/// Deeper, and in more values than so many, an input is bytes.
const MAX_DEPTH: usize = 32;
const MAX_NODES: usize = 4096;

/// A DER value.
#[derive(Clone)]
struct Node {
    tag: u8,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Bytes(Vec<u8>),
    /// Values behind so many bytes of a BIT STRING's own: one or none.
    Values(Vec<u8>, Vec<Node>),
}

/// Where a value stands: its place among its siblings, below that of its parent.
type Path = Vec<usize>;

/// Changes an input. The bytes of one value are changed by `bytes`, as libFuzzer does it.
pub fn mutate(input: &[u8], max: usize, seed: u32, bytes: impl Fn(&mut Vec<u8>)) -> Option<Vec<u8>> {
    let mut random = Random::of(seed);
    let mut forest = forest(input, 0)?;
    let paths = paths(&forest);
    let path = random.one_of(&paths)?;
    let copy = at(&mut forest, random.one_of(&paths)?).clone();
    let (&place, above) = path.split_last()?;
    let siblings = siblings(&mut forest, above);
    match random.below(8) {
        0 => drop(siblings.remove(place)),
        1 => siblings.insert(place, siblings[place].clone()),
        2 => siblings[place] = copy,
        3 => siblings.insert(place, copy),
        4 => {
            let other = random.below(siblings.len());
            siblings.swap(place, other);
        }
        5 => siblings[place].tag = random.tag(siblings[place].tag, copy.tag),
        _ => {
            let node = &mut siblings[place];
            let mut content = node.content.encoded();
            bytes(&mut content);
            node.content = Content::Bytes(content);
        }
    }
    Some(encoded(&forest)).filter(|output| output.len() <= max)
}

/// The one input with a value of the other in it.
pub fn cross(one: &[u8], other: &[u8], max: usize, seed: u32) -> Option<Vec<u8>> {
    let mut random = Random::of(seed);
    let (mut forest, mut other) = (forest(one, 0)?, forest(other, 0)?);
    // What stands as deep is likely to be of the same kind.
    let path = random.one_of(&paths(&forest))?.clone();
    let others: Vec<_> = paths(&other).into_iter().filter(|other| other.len() == path.len()).collect();
    *at(&mut forest, &path) = at(&mut other, random.one_of(&others)?).clone();
    Some(encoded(&forest)).filter(|output| output.len() <= max)
}

fn forest(input: &[u8], depth: usize) -> Option<Vec<Node>> {
    let values: Vec<_> = values(input).collect();
    // What is cut, or has a length of another form, is no value.
    let encoded: usize = values.iter().map(|(tag, content)| der(*tag, content).len()).sum();
    let node = |(tag, content)| Node {
        tag,
        content: Content::of(tag, content, depth),
    };
    (encoded == input.len()).then(|| values.into_iter().map(node).collect())
}

impl Content {
    fn of(tag: u8, content: &[u8], depth: usize) -> Self {
        // Also an OCTET STRING or a BIT STRING may hold values.
        let own = match tag {
            3 if content.first() == Some(&0) => 1,
            4 => 0,
            _ if tag & 0x20 != 0 => 0,
            _ => return Self::Bytes(content.to_vec()),
        };
        match forest(&content[own..], depth + 1) {
            Some(values) if depth < MAX_DEPTH && !values.is_empty() => Self::Values(content[..own].to_vec(), values),
            _ => Self::Bytes(content.to_vec()),
        }
    }

    fn encoded(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Values(own, values) => [own.clone(), encoded(values)].concat(),
        }
    }
}

fn encoded(nodes: &[Node]) -> Vec<u8> {
    nodes.iter().flat_map(|node| der(node.tag, &node.content.encoded())).collect()
}

/// The paths of all values.
fn paths(forest: &[Node]) -> Vec<Path> {
    fn walk(nodes: &[Node], above: &Path, paths: &mut Vec<Path>) {
        for (place, node) in nodes.iter().enumerate() {
            if paths.len() == MAX_NODES {
                return;
            }
            let path = [&above[..], &[place]].concat();
            paths.push(path.clone());
            if let Content::Values(_, values) = &node.content {
                walk(values, &path, paths);
            }
        }
    }
    let mut paths = Vec::new();
    walk(forest, &Vec::new(), &mut paths);
    paths
}

/// The values below that path.
fn siblings<'a>(forest: &'a mut Vec<Node>, above: &[usize]) -> &'a mut Vec<Node> {
    above.iter().fold(forest, |nodes, &place| match &mut nodes[place].content {
        Content::Values(_, values) => values,
        Content::Bytes(_) => unreachable!("a path leads through values"),
    })
}

fn at<'a>(forest: &'a mut Vec<Node>, path: &[usize]) -> &'a mut Node {
    let (place, above) = path.split_last().expect("no path is empty");
    &mut siblings(forest, above)[*place]
}

/// Steele and Vigna's SplitMix64: libFuzzer's seed, spread.
struct Random(u64);

impl Random {
    fn of(seed: u32) -> Self {
        Self(u64::from(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() {
            return None;
        }
        all.get(self.below(all.len()))
    }

    /// Another's tag, the next one, or the other form.
    fn tag(&mut self, tag: u8, other: u8) -> u8 {
        match self.below(4) {
            0 => other,
            1 => tag.wrapping_add(1),
            2 => tag ^ 0x20,
            _ => tag & 0xe0 | self.next() as u8 & 0x1f,
        }
    }
}
