//! One page for each exit status: what it means, what to do. `docs/errors/` in the repository, `sankofa man 65` anywhere.
//!
//! In:    an exit status. Out: its page.
//! Holds: every status of the table has one, and its page begins as the table says.
//! Not here: the table (`error`), where a page is named (`report`).

/// The pages, by status.
const PAGES: &[(u8, &str)] = &[
    (1, include_str!("../../docs/errors/1.md")),
    (2, include_str!("../../docs/errors/2.md")),
    (65, include_str!("../../docs/errors/65.md")),
    (75, include_str!("../../docs/errors/75.md")),
    (77, include_str!("../../docs/errors/77.md")),
    (78, include_str!("../../docs/errors/78.md")),
    (99, include_str!("../../docs/errors/99.md")),
    (130, include_str!("../../docs/errors/130.md")),
    (143, include_str!("../../docs/errors/143.md")),
];

/// The page of `status`.
pub fn page(status: u8) -> Option<&'static str> {
    PAGES.iter().find(|(known, _)| *known == status).map(|(_, page)| *page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::EXIT_STATUS;
    use crate::report::ErrorFields;

    #[test]
    fn every_exit_status_has_its_page_which_begins_as_the_table_says_and_is_named_in_results() {
        assert_eq!(PAGES.len(), EXIT_STATUS.len());
        for (kind, status, word, meaning) in EXIT_STATUS {
            let page = page(*status).unwrap_or_else(|| panic!("{status} has no page"));
            let head = format!("# Exit status {status}: {word}\n\n*{meaning}*\n");
            assert!(page.starts_with(&head), "{status} does not begin with {head}");
            assert!(page.contains("\n## What to do\n") || *status == 65, "{status} does not say what to do");
            let named = ErrorFields::from(&crate::error::Failure::new(*kind, "x")).page;
            assert_eq!(named, format!("docs/errors/{status}.md"));
        }
    }
}
