//! Signatures of events: Standard Webhooks (standardwebhooks.com), and as GitHub does it. HMAC-SHA-256 both.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nearside_config::{Secret, Signature};

/// So far the time of an event may be from ours, in seconds: an old one is not to be played again.
const TOLERANCE_SECS: u64 = 300;

/// The key that a secret stands for: `whsec_` and base64, or the text itself.
fn key(secret: &Secret) -> hmac::Key {
    let text = secret.reveal();
    let decoded = text.strip_prefix("whsec_").and_then(|encoded| STANDARD.decode(encoded).ok());
    hmac::Key::new(hmac::HMAC_SHA256, decoded.as_deref().unwrap_or(text.as_bytes()))
}

fn signed_text(id: &str, timestamp: u64, body: &[u8]) -> Vec<u8> {
    [format!("{id}.{timestamp}.").as_bytes(), body].concat()
}

/// The value of `webhook-signature`.
pub(crate) fn sign(secret: &Secret, id: &str, timestamp: u64, body: &[u8]) -> String {
    let tag = hmac::sign(&key(secret), &signed_text(id, timestamp, body));
    format!("v1,{}", STANDARD.encode(tag.as_ref()))
}

/// Whether an event shows a signature at all, which is known before its body is read.
pub(crate) fn is_signed(signature: Signature, fields: &HeaderMap) -> bool {
    fields.contains_key(match signature {
        Signature::Github => "x-hub-signature-256",
        Signature::Standard => "webhook-signature",
    })
}

/// Whether an event was signed with a secret, and, where the way of signing has one, its id; that of GitHub is not signed.
pub(crate) fn verify(
    signature: Signature,
    secret: &Secret,
    fields: &HeaderMap,
    body: &[u8],
    now: u64,
) -> Result<Option<String>, &'static str> {
    let field = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    match signature {
        Signature::Github => {
            let shown = field("x-hub-signature-256").and_then(|shown| shown.strip_prefix("sha256="));
            let tag = shown.and_then(unhex).ok_or("there is no X-Hub-Signature-256")?;
            hmac::verify(&key(secret), body, &tag).map_err(|_wrong| "the signature is wrong")?;
            Ok(field("x-github-delivery").map(str::to_owned))
        }
        Signature::Standard => {
            let parts = (field("webhook-id"), field("webhook-timestamp"), field("webhook-signature"));
            let (Some(id), Some(timestamp), Some(shown)) = parts else {
                return Err("there is no webhook-id, webhook-timestamp or webhook-signature");
            };
            let timestamp = timestamp.parse().map_err(|_no_number| "webhook-timestamp is no number")?;
            if now.abs_diff(timestamp) > TOLERANCE_SECS {
                return Err("webhook-timestamp is more than five minutes away");
            }
            let (key, text) = (key(secret), signed_text(id, timestamp, body));
            let is_right = |one: &str| {
                let tag = one.strip_prefix("v1,").and_then(|encoded| STANDARD.decode(encoded).ok());
                tag.is_some_and(|tag| hmac::verify(&key, &text, &tag).is_ok())
            };
            // Several, while a secret is being changed.
            if shown.split(' ').any(is_right) { Ok(Some(id.to_owned())) } else { Err("the signature is wrong") }
        }
    }
}

/// The time that signatures are made at: seconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "signatures hold for some minutes of real time")]
pub(crate) fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    (text.len().is_multiple_of(2) && text.is_ascii())
        .then(|| digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_signature_is_that_of_the_specifications_example() {
        // The example of the Standard Webhooks specification.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        let signature = sign(&secret, id, 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let verify = |lines: &[(&'static str, &str)], body: &[u8], now| {
            verify(Signature::Standard, &secret, &fields(lines), body, now)
        };
        let right = [("webhook-id", id), ("webhook-timestamp", "1614265330"), ("webhook-signature", &signature)];
        assert_eq!(verify(&right, body, 1_614_265_330), Ok(Some(id.to_owned())));
        assert!(verify(&right, body, 1_614_265_330 + TOLERANCE_SECS + 1).is_err(), "too old");
        assert!(verify(&right, b"{}", 1_614_265_330).is_err(), "another body");
        let other = [("webhook-id", "msg_other"), right[1], right[2]];
        assert!(verify(&other, body, 1_614_265_330).is_err(), "another id");
        assert!(verify(&right[..2], body, 1_614_265_330).is_err());
        let two = format!("v1,AAAA {signature}");
        assert!(verify(&[right[0], right[1], ("webhook-signature", &two)], body, 1_614_265_330).is_ok());
    }

    #[test]
    fn a_signature_is_that_of_githubs_example() {
        // The example of GitHub's documentation.
        let secret = Secret::new("It's-a-Secret-to-Everybody").unwrap();
        let tag = hmac::sign(&key(&secret), b"Hello, World!");
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let verify = |shown: &str, body: &[u8]| {
            verify(Signature::Github, &secret, &fields(&[("x-hub-signature-256", shown)]), body, 0).is_ok()
        };
        assert!(verify(&format!("sha256={hex}"), b"Hello, World!"));
        assert!(!verify(&format!("sha256={hex}"), b"Hello, World"));
        for wrong in ["", "sha256=", "sha256=zz", "sha1=00", &hex] {
            assert!(!verify(wrong, b"Hello, World!"), "{wrong}");
        }
    }
}
