//! One request of a run, and whether its answer is what was to come.

use http::header::RANGE;
use http::{HeaderMap, HeaderValue};

use super::Shared;
use crate::client::Client;
use crate::shape::{Asked, number_in, size_in};
use crate::tally::Answer;

/// Asks for what was drawn, and judges what comes.
pub(super) async fn ask(shared: &Shared, client: &mut Client, asked: &Asked) -> Result<Answer, String> {
    let Asked { url, part } = asked;
    let with_range = part.as_ref().map(|part| {
        let mut fields = shared.load.fields.clone();
        if let Ok(range) = HeaderValue::try_from(format!("bytes={}-{}", part.start(), part.end())) {
            fields.insert(RANGE, range);
        }
        fields
    });
    let first = part.as_ref().map_or(0, |part| *part.start());
    let seed = number_in(url, "seed").unwrap_or(0);
    let (mut bytes, mut wrong) = (0, false);
    let check = shared.load.check.as_ref();
    let fields: &HeaderMap = with_range.as_ref().unwrap_or(&shared.load.fields);
    let answer = client.get_with(url, fields, |data| {
        wrong |= check.is_some_and(|check| !check(seed, first + bytes, data));
        bytes += data.len() as u64;
    });
    let head = answer.await?;
    let judged = check.is_some() || part.is_some();
    let wrong = if judged && head.status.is_success() { judge(asked, &head, bytes, wrong) } else { None };
    Ok(Answer { head, bytes, wrong })
}

/// What is wrong with a whole answer, if anything is.
fn judge(asked: &Asked, head: &http::response::Parts, bytes: u64, wrong: bool) -> Option<String> {
    let Asked { url, part } = asked;
    // "A server MAY ignore the Range header field" (RFC 9110 §14.2): then the whole has to be there, and that is all that is judged.
    let is_ignored = part.is_some() && head.status == 200;
    let (status, expected) = match part.as_ref().filter(|_| !is_ignored) {
        Some(part) => (206, part.end() - part.start() + 1),
        None => (200, size_in(url)?),
    };
    if head.status != status {
        return Some(format!("{url}: status {} in place of {status}", head.status.as_u16()));
    }
    if bytes != expected {
        return Some(format!("{url}: {bytes} bytes in place of {expected}"));
    }
    if is_ignored {
        return None;
    }
    if let Some(part) = part {
        let told = head.headers.get("content-range").and_then(|told| told.to_str().ok()).unwrap_or_default();
        let begins = format!("bytes {}-{}/", part.start(), part.end());
        if !told.starts_with(&begins) {
            return Some(format!("{url}: Content-Range {told:?} in place of {begins:?}"));
        }
    }
    wrong.then(|| format!("{url}: a wrong byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_may_be_ignored_but_not_answered_with_another() {
        let asked = |part| Asked { url: "http://a/?size=100&seed=1".parse().unwrap(), part };
        let judged = |part, status: u16, range: &str, bytes| {
            let head = http::Response::builder().status(status).header("content-range", range).body(()).unwrap();
            judge(&asked(part), &head.into_parts().0, bytes, false)
        };
        assert_eq!(judged(Some(10..=19), 206, "bytes 10-19/100", 10), None);
        assert_eq!(judged(Some(10..=19), 200, "", 100), None);
        assert!(judged(Some(10..=19), 200, "", 10).unwrap().contains("10 bytes in place of 100"));
        assert!(judged(Some(10..=19), 206, "bytes 0-9/100", 10).unwrap().contains("Content-Range"));
        assert!(judged(Some(10..=19), 206, "bytes 10-19/100", 9).unwrap().contains("9 bytes"));
        assert!(judged(None, 206, "bytes 10-19/100", 10).unwrap().contains("status 206"));
    }
}
