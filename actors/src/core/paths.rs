//! The rules for paths.
