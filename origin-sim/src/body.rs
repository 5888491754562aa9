//! Bodies that anyone can check: each byte follows from the seed and its place.

use bytes::Bytes;

/// The bytes of the body of `seed` from `start` to before `end`.
///
/// Eight bytes at a time are `mix(seed + place / 8)`, little-endian, where `mix` is the finalizer of SplitMix64.
#[must_use]
pub fn bytes(seed: u64, start: u64, end: u64) -> Bytes {
    let mut body = Vec::with_capacity(usize::try_from(end.saturating_sub(start)).unwrap_or(0) + 16);
    let mut word = start / 8;
    while word * 8 < end {
        body.extend_from_slice(&mix(seed.wrapping_add(word)).to_le_bytes());
        word += 1;
    }
    let skip = usize::try_from(start % 8).unwrap_or(0);
    let length = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
    Bytes::from(body).slice(skip..skip + length)
}

/// Where `body`, which begins at `start`, first differs from the body of `seed`.
#[must_use]
pub fn differs(seed: u64, start: u64, body: &[u8]) -> Option<u64> {
    let expected = bytes(seed, start, start + body.len() as u64);
    let at = expected.iter().zip(body).position(|(a, b)| a != b)?;
    Some(start + at as u64)
}

fn mix(word: u64) -> u64 {
    let mut hash = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_body_is_the_same_part_of_the_whole() {
        let whole = bytes(7, 0, 1000);
        for (start, end) in [(0, 0), (0, 1), (1, 9), (7, 8), (8, 16), (13, 999), (999, 1000)] {
            assert_eq!(bytes(7, start, end), whole[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()]);
        }
        assert_ne!(bytes(8, 0, 100), whole[..100]);
        assert_eq!(differs(7, 500, &whole[500..]), None);
        let mut wrong = whole.to_vec();
        wrong[600] ^= 1;
        assert_eq!(differs(7, 500, &wrong[500..]), Some(600));
    }
}
