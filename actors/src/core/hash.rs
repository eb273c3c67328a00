//! One hash for all tables here: fixed, so that runs repeat exactly. No table is ever iterated, so what
//! the hash makes of the order is never seen.

/// Two odd numbers without a pattern (fractions of the golden ratio and of pi).
const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0x2436_9c5f_a8b1_d305;

/// Multiply and fold, eight bytes a step. All 64 bits are good.
pub(super) fn hash(seed: u32, bytes: &[u8]) -> u64 {
    let mut hash = fold(u64::from(seed) ^ K1, K0 ^ bytes.len() as u64);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        hash = fold(hash ^ u64::from_le_bytes(word.try_into().expect("chunks of 8")), K0);
    }
    let mut tail = [0; 8];
    tail[..words.remainder().len()].copy_from_slice(words.remainder());
    fold(hash ^ u64::from_le_bytes(tail), K1)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbered_names_spread() {
        let hashes: Vec<u64> = (0..10_000).map(|i| hash(1, format!("lock-{i:010}").as_bytes())).collect();
        for shift in [0, 24, 40, 56] {
            let mut load = [0_usize; 256];
            hashes.iter().for_each(|h| load[(h >> shift) as usize % 256] += 1);
            let (least, most) = (load.iter().min().unwrap(), load.iter().max().unwrap());
            assert!(*least >= 10 && *most <= 80, "39 expected in each part, found {least} to {most}");
        }
        assert_eq!(hashes.iter().collect::<BTreeSet<_>>().len(), hashes.len());
    }

    #[test]
    fn seed_length_and_padding_count() {
        let all = [hash(1, b"a"), hash(2, b"a"), hash(1, b"a\0"), hash(1, b""), hash(1, b"12345678")];
        assert_eq!(BTreeSet::from(all).len(), all.len());
        assert_ne!(hash(1, b"12345678"), hash(1, b"123456781"));
    }
}
