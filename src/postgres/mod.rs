//! The private Postgres: found, initialised, started, watched and stopped by certkeep.
