//! The proof of a session: 16 bytes that every member computes from the session's id, so that none is
//! stored. It is a checksum, not a secret.
//!
//! The bytes are those of Java's `java.util.Random`, which Apache takes, so that sessions survive a move
//! between the two servers.

use crate::types::SessionId;

/// Apache's constant that is mixed into the seed.
const SUPER_SECRET: u64 = 0xB341_5C00;
/// The generator of `java.util.Random`: 48 bits of state, `s * MULTIPLIER + INCREMENT`.
const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;

/// The password of a session.
pub fn password(session: SessionId) -> [u8; 16] {
    let seed = session.0 as u64 ^ SUPER_SECRET;
    let mut state = (seed ^ MULTIPLIER) & MASK;
    let mut password = [0; 16];
    for chunk in password.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT) & MASK;
        chunk.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    password
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn passwords_are_those_of_apache() {
        assert_eq!(hex(&password(SessionId(0x0100_0012_f827_0000))), "0bb214083ce27e8161079961e592d78b");
        assert_eq!(hex(&password(SessionId(1))), "054cc74a37327db215e702e20c73f005");
    }
}
