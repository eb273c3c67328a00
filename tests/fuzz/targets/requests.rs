#![no_main]

#[path = "../bodies.rs"]
#[allow(dead_code)] // each target calls one of them
mod bodies;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bodies::requests(bytes));
