//! The figures.

pub mod curve;
pub mod lone;
pub mod million;
pub mod process;
pub mod read;
pub mod upload;
