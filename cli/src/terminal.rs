//! What is printed for people, who read it in a terminal.

/// A text that holds what others have sent: nothing in it that terminals obey gets there but the ends of lines.
pub(crate) fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn terminals_are_told_nothing_by_others() {
        assert_eq!(super::visible("a\u{9b}31m\x1b[2J\rb\nß"), "a\u{fffd}31m\u{fffd}[2J\u{fffd}b\nß");
    }
}
