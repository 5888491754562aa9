//! Methods by which plugins purge.

use http::Method;

/// Whether a method is one by which plugins purge. Such a request is never sent to an origin.
#[must_use]
pub fn is_purge(method: &Method) -> bool {
    // Of the common methods none is: this is asked of every request in the pass lane.
    let name = method.as_str().to_ascii_uppercase();
    name.contains("PURGE") || name.ends_with("BAN") || name == "REFRESH"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_plugins_are_known_by_their_names() {
        let is = |name: &str| is_purge(&name.parse().unwrap());
        assert!(["PURGE", "purge", "BAN", "PURGEKEYS", "FULLBAN", "REFRESH", "XKEYPURGE"].into_iter().all(is));
        assert!(!["GET", "POST", "PROPFIND", "BIND", "REPORT", "LINK"].into_iter().any(is));
    }
}
