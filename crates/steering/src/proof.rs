//! Proof that who reports round trips was asked to measure them: what `/candidates` gives and `/report` wants back.
//!
//! A proof is the moment and the edges that were offered, with an HMAC-SHA-256 of both and of the network of the client. So a report counts
//! for the network that was asked, for edges that this process has named, and for a few minutes. The key is made at the start; control
//! processes with the same `[steering] secret` accept one another's proofs.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;
use nearside_config::Secret;

/// Time for which a proof holds, in milliseconds. Measuring takes a few seconds; the rest is for pages that were in the background.
pub(super) const PROOF_MAX_MS: u64 = 5 * 60_000;
/// The clock of another control process may be ahead of ours by this, in milliseconds.
const AHEAD_MAX_MS: u64 = 60_000;
/// Longest text that is looked at: a few names of edges.
const PROOF_BYTES_MAX: usize = 2 << 10;
/// What the key is derived with, so that the secret can serve nothing else by accident.
const CONTEXT: &[u8] = b"nearside steering proof, version 1";

/// The key of all proofs.
#[derive(Debug)]
pub(super) struct Proofs {
    key: hmac::Key,
}

/// What a valid proof says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// When it was given: milliseconds since 1970.
    pub(super) at_ms: u64,
    /// The edges that were to be measured.
    pub(super) edges: Vec<String>,
}

/// Why a proof is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProofError {
    #[error(
        "its proof was not given by this control process to this network: ask /.well-known/nearside/candidates for one"
    )]
    Forged,
    #[error("its proof is older than five minutes: ask /.well-known/nearside/candidates for another")]
    Expired,
}

impl Proofs {
    /// Derives the key from a secret, or makes one.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub(super) fn new(secret: Option<&Secret>) -> Result<Self, Unspecified> {
        let key = match secret {
            Some(secret) => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
                hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, CONTEXT).as_ref())
            }
            None => hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?,
        };
        Ok(Self { key })
    }

    /// The proof for a network that was offered these edges at a moment.
    pub(super) fn give(&self, network: IpNet, edges: &[String], now_ms: u64) -> String {
        let offer = format!("{now_ms} {}", edges.join(" "));
        let tag = hmac::sign(&self.key, &signed(network, offer.as_bytes()));
        format!("{}.{}", URL_SAFE_NO_PAD.encode(&offer), URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    /// What was offered to a network, if this proves it.
    ///
    /// # Errors
    ///
    /// It proves nothing.
    pub(super) fn check(&self, network: IpNet, proof: &str, now_ms: u64) -> Result<Offer, ProofError> {
        let parts = proof.split_once('.').filter(|_| proof.len() <= PROOF_BYTES_MAX).ok_or(ProofError::Forged)?;
        let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_malformed| ProofError::Forged);
        let (offer, tag) = (decoded(parts.0)?, decoded(parts.1)?);
        hmac::verify(&self.key, &signed(network, &offer), &tag).map_err(|_wrong| ProofError::Forged)?;
        let text = String::from_utf8(offer).map_err(|_malformed| ProofError::Forged)?;
        let mut words = text.split(' ');
        let at_ms: u64 = words.next().and_then(|word| word.parse().ok()).ok_or(ProofError::Forged)?;
        if at_ms > now_ms.saturating_add(AHEAD_MAX_MS) || now_ms.saturating_sub(at_ms) > PROOF_MAX_MS {
            return Err(ProofError::Expired);
        }
        Ok(Offer { at_ms, edges: words.filter(|word| !word.is_empty()).map(str::to_owned).collect() })
    }
}

/// What is signed. Neither a network nor names of edges contain a line break.
fn signed(network: IpNet, offer: &[u8]) -> Vec<u8> {
    [format!("{network}\n").as_bytes(), offer].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn network(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn edges() -> Vec<String> {
        ["edge-lon", "edge-fra"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_proof_holds_for_its_network_and_for_some_minutes() {
        let proofs = Proofs::new(None).unwrap();
        let here = network("192.0.2.0/24");
        let proof = proofs.give(here, &edges(), NOW);
        let offer = Offer { at_ms: NOW, edges: edges() };
        assert_eq!(proofs.check(here, &proof, NOW), Ok(offer));
        for (at, expected) in [
            (NOW + PROOF_MAX_MS, None),
            (NOW + PROOF_MAX_MS + 1, Some(ProofError::Expired)),
            (NOW - AHEAD_MAX_MS, None),
            (NOW - AHEAD_MAX_MS - 1, Some(ProofError::Expired)),
        ] {
            assert_eq!(proofs.check(here, &proof, at).err(), expected, "{at}");
        }
        for other in ["192.0.3.0/24", "192.0.2.0/25", "2001:db8::/48"] {
            assert_eq!(proofs.check(network(other), &proof, NOW), Err(ProofError::Forged), "{other}");
        }
    }

    #[test]
    fn what_was_changed_or_made_with_another_key_proves_nothing() {
        let (proofs, here) = (Proofs::new(None).unwrap(), network("2001:db8::/48"));
        let proof = proofs.give(here, &edges(), NOW);
        let (offer, tag) = proof.split_once('.').unwrap();
        let other = URL_SAFE_NO_PAD.encode(format!("{NOW} edge-syd"));
        let foreign = Proofs::new(None).unwrap().give(here, &edges(), NOW);
        let short = URL_SAFE_NO_PAD.encode(&URL_SAFE_NO_PAD.decode(tag).unwrap()[..8]);
        for forged in [
            String::new(),
            ".".to_owned(),
            offer.to_owned(),
            format!("{offer}."),
            format!("{other}.{tag}"),
            format!("{offer}.{short}"),
            format!("{proof}="),
            format!(" {proof}"),
            foreign,
            format!("{}.{tag}", "A".repeat(PROOF_BYTES_MAX)),
        ] {
            assert_eq!(proofs.check(here, &forged, NOW), Err(ProofError::Forged), "{forged}");
        }
    }

    #[test]
    fn processes_with_one_secret_accept_one_anothers_proofs() {
        let secret = |text: &str| Secret::new(text).unwrap();
        let [one, other] =
            ["the-secret-of-steering", "the-secret-of-steering"].map(|text| Proofs::new(Some(&secret(text))).unwrap());
        let stranger = Proofs::new(Some(&secret("another-secret-of-steering"))).unwrap();
        let here = network("192.0.2.0/24");
        let proof = one.give(here, &edges(), NOW);
        assert!(other.check(here, &proof, NOW).is_ok());
        assert_eq!(stranger.check(here, &proof, NOW), Err(ProofError::Forged));
    }
}
