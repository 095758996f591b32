//! The door for clients of Alibaba Cloud's SLB API, version 2014-05-15: its requests to use case and back, and its words for each error.
//!
//! A request may have a private key in its URI. Nothing here logs, traces or repeats a URI, a query or a form.

mod action;
mod answer;
mod call;
mod credentials;
mod error;
mod field;
mod parameters;
mod perform;
mod record;
mod render;
mod request;
mod xml;

pub use call::Door;
pub use request::MAX_HEAD_LEN;
