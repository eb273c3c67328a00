//! The password of a session, by the formula that Apache's clients and servers share.

/// XORed with the session's id into the seed.
const SECRET: i64 = 0xB341_5C00;

/// The multiplier and the addend of `java.util.Random`, which works in 48 bits.
const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const ADDEND: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;

/// The 16 bytes for a session's id.
pub fn password(id: i64) -> Vec<u8> {
    let mut state = ((id ^ SECRET) as u64 ^ MULTIPLIER) & MASK;
    let mut next = || {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(ADDEND) & MASK;
        ((state >> 16) as u32).to_le_bytes()
    };
    (0..4).flat_map(|_| next()).collect()
}
