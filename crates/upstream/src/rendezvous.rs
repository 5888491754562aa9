//! Which shield owns a key: highest random weight (Thaler and Ravishankar, 1998).
//!
//! Every edge computes the same owner without talking to the others, and a shield that comes or goes moves only its
//! own share of the keys. The hash must be the same on every machine and in every version: FNV-1a, finished with the
//! mixer of SplitMix64. It places keys; it does not identify them.

/// How strongly `hop` claims `key`; the highest claim owns it.
pub(crate) fn score(hop: &str, key: &[u8]) -> u64 {
    let bytes = hop.bytes().chain([0]).chain(key.iter().copied());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(hash)
}

/// A number that is drawn for a key at a hop, whatever its claim.
pub(crate) fn draw(hop: &str, key: &[u8]) -> u16 {
    let [high, low, ..] = mix(score(hop, key)).to_be_bytes();
    u16::from_be_bytes([high, low])
}

fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner<'h>(hops: &[&'h str], key: u32) -> &'h str {
        hops.iter().max_by_key(|hop| score(hop, &key.to_le_bytes())).unwrap()
    }

    #[test]
    fn keys_spread_evenly_and_only_those_of_a_lost_shield_move() {
        let hops = ["http://10.0.0.1:8090", "http://10.0.0.2:8090", "http://10.0.0.3:8090"];
        let mut owned = [0_u32; 3];
        for key in 0..30_000 {
            let with = owner(&hops, key);
            owned[hops.iter().position(|hop| *hop == with).unwrap()] += 1;
            if with != hops[2] {
                assert_eq!(owner(&hops[..2], key), with, "a key of a shield that stayed moved");
            }
        }
        assert!(owned.iter().all(|share| (9_500..10_500).contains(share)), "{owned:?}");
    }

    #[test]
    fn what_is_drawn_says_nothing_about_the_claim() {
        let hops = ["http://10.0.0.1:8090", "http://10.0.0.2:8090"];
        let own = (0..30_000_u32).filter(|key| owner(&hops, *key) == hops[0]);
        let drawn: Vec<_> = own.map(|key| draw(hops[0], &key.to_le_bytes())).collect();
        let low = drawn.iter().filter(|drawn| **drawn < 1 << 14).count();
        assert!((22..28).contains(&(low * 100 / drawn.len())), "a quarter is in the lowest quarter: {low}");
    }

    #[test]
    fn scores_are_the_same_everywhere_for_ever() {
        assert_eq!(score("http://10.0.0.1:8090", b"http\nexample.org\n/"), 0xf663_826c_8d15_7319);
    }
}
