//! Suggestions for misspelt names.

/// Returns the name closest to `text` in spelling, if one is close enough.
pub fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let near = names.map(|name| (strsim::damerau_levenshtein(text, name), name));
    near.filter(|(distance, name)| *distance <= name.len().div_ceil(3)).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_nearly_right_are_suggested() {
        let names = || ["edge-nrt", "edge-nyc", "shield-fra"].into_iter();
        assert_eq!(nearest("edge-ntr", names()), Some("edge-nrt"));
        assert_eq!(nearest("origin", names()), None);
    }
}
