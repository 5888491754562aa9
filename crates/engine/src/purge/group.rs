//! Names of the groups by which purges find entries: of a site, a host, a tag, and of the spellings of a URL.
//!
//! Names of different kinds differ in their first byte; those of RFC 9875 begin with a scheme, in lower case.

/// Group of all entries of a site.
pub(super) fn of_site(site: &str) -> Vec<u8> {
    name(b'S', site, b"")
}

/// Group of all entries of a site and a host.
pub(super) fn of_host(site: &str, host: &[u8]) -> Vec<u8> {
    name(b'H', site, host)
}

/// Group of all entries of a site with a tag.
pub(super) fn of_tag(site: &str, tag: &[u8]) -> Vec<u8> {
    name(b'T', site, tag)
}

/// Group of the entries whose URLs have this normal form, but are spelled otherwise.
pub(super) fn of_spellings(normal: &[u8]) -> Vec<u8> {
    [b"N", normal].concat()
}

/// The tag that a group stands for, if it is one of a tag.
pub(super) fn tag(group: &[u8]) -> Option<String> {
    let (kind, name) = group.split_first()?;
    let at = name.iter().position(|byte| *byte == b'\n').filter(|_| *kind == b'T')?;
    Some(String::from_utf8_lossy(name.get(at + 1..)?).into_owned())
}

fn name(kind: u8, site: &str, name: &[u8]) -> Vec<u8> {
    [&[kind], site.as_bytes(), b"\n", name].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::samples::key;

    #[test]
    fn no_two_kinds_or_sites_share_the_name_of_a_group() {
        let mut names = HashSet::new();
        for site in ["shop", "shop2"] {
            assert!(names.insert(of_site(site)));
            for text in ["a.org", "tag", "shop"] {
                assert!(names.insert(of_host(site, text.as_bytes())), "{site} {text}");
                assert!(names.insert(of_tag(site, text.as_bytes())), "{site} {text}");
            }
        }
        for url in ["http\na.org\n/p", "http\na.org\n/"] {
            assert!(names.insert(of_spellings(url.as_bytes())), "{url}");
        }
        assert!(names.insert(key(b"http\na.org\n/p").group("tag")), "a group of RFC 9875");
    }

    #[test]
    fn the_tag_is_told_of_groups_of_tags_only() {
        assert_eq!(tag(&of_tag("shop", b"product-1")).as_deref(), Some("product-1"));
        assert_eq!(tag(&of_tag("shop", b"")).as_deref(), Some(""));
        assert_eq!(tag(&of_tag("shop", b"two\nlines")).as_deref(), Some("two\nlines"));
        for group in [of_site("Tshop"), of_host("shop", b"a.org"), of_spellings(b"T\na"), b"T".to_vec(), Vec::new()] {
            assert_eq!(tag(&group), None, "{group:?}");
        }
    }
}
