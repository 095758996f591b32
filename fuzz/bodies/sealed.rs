//! Sealed values.

use certkeep::seal::{KeyEncryptionKeyId, KeyRing, Row};

use super::{cost, key_ring};

/// The row of the value.
const ROW: Row<'static> = Row::ServiceKey { purpose: "fuzz" };

fn ring() -> KeyRing {
    let line = format!("{} {}", "11".repeat(8), "22".repeat(32));
    key_ring::ring(line.as_bytes()).expect("a line of a key ring")
}

/// The input opens for no row. Neither does a sealed value after it was changed at any place, cut or lengthened by the input.
pub fn sealed(input: &[u8]) {
    let ring = ring();
    let id = ring.first_id();
    assert!(cost::within_limit(|| ring.open(input, &ROW)).is_err());
    assert!(cost::within_limit(|| ring.rewrap(id, input, &ROW)).is_err());
    if let Ok(id) = KeyEncryptionKeyId::of_sealed(input) {
        assert_eq!(input[0], 1);
        assert_eq!(id.as_bytes(), &input[1..9]);
    }
    let value = ring.new_service_key(id, "fuzz").expect("OpenSSL encrypts");
    let value = value.as_bytes();
    assert!(ring.open(value, &ROW).is_ok());
    assert!(ring.open(value, &Row::ServiceKey { purpose: "fuzz2" }).is_err());
    let mut changed = value.to_vec();
    for (at, byte) in input.iter().enumerate() {
        changed[at % value.len()] ^= byte;
    }
    assert_eq!(ring.open(&changed, &ROW).is_ok(), changed == value);
    let cut = &value[..input.len() % value.len()];
    assert!(ring.open(cut, &ROW).is_err());
    let longer = [value, input].concat();
    assert_eq!(ring.open(&longer, &ROW).is_ok(), input.is_empty());
}
