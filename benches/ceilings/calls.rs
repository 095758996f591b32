//! What the generator asks: calls that are ready to be sent, and by whom.

use std::cell::Cell;

use bytes::Bytes;
use http::Request;

use crate::Outcome;
use crate::wire;

/// Whose call it is.
#[derive(Clone, Copy, Debug)]
pub enum Caller {
    /// This account's.
    Account(usize),
    /// Any account's, another one each time.
    Any,
}

/// Calls of one method, made in turn and from the first again, over all measurements.
pub struct Calls {
    /// One for each account.
    heads: Vec<Request<()>>,
    calls: Vec<(Caller, Bytes)>,
    made: Cell<u64>,
}

impl Calls {
    pub fn new(heads: Vec<Request<()>>, calls: Vec<(Caller, Bytes)>) -> Self {
        Self {
            heads,
            calls,
            made: Cell::new(0),
        }
    }

    /// The same message by the same accounts, of another method.
    pub fn of_path(&self, path: &str, frame: Bytes) -> Outcome<Self> {
        let mut heads = self.heads.clone();
        for head in &mut heads {
            *head.uri_mut() = wire::uri(path)?;
        }
        Ok(Self::new(heads, vec![(Caller::Any, frame)]))
    }

    pub fn next(&self) -> (&Request<()>, Bytes) {
        let made = self.made.replace(self.made.get() + 1);
        let (caller, frame) = &self.calls[(made % self.calls.len() as u64) as usize];
        let account = match caller {
            Caller::Account(account) => *account,
            Caller::Any => (mixed(made) % self.heads.len() as u64) as usize,
        };
        (&self.heads[account], frame.clone())
    }
}

/// As random as pgbench's accounts, and the same in each run: the last step of splitmix64.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
