//! Certificates: parsed, checked types and the rules about them. Pure: no I/O, no clock.
