//! The body of zabra: sockets, bytes, files and settings around the brain in `zabra-actors`.

pub mod net;
