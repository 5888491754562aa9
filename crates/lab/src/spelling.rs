//! Suggestions for names that are spelt wrong.

/// The name that is spelt most like a text, if one is.
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
