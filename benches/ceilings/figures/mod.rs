//! The figures, each measured by its own file.

pub mod describe;
pub mod upload;
