//! What no pipeline can loosen: which tables and columns never leave, which masks always apply.
//!
//! In:    the guard's patterns; names of a database, a table and its columns as the catalog spells
//!        them.
//! Out:   yes or no, and the strictest mask of each column.
//! Holds: names are compared exactly, upper and lower case apart; `*` stands for any run of
//!        characters within one part. A three-part pattern covers a table and all its columns, a
//!        four-part one columns only.
//! Not here: the grants of the source role, which are the hard limit (`doctor`).

use super::model::{Guard, Mask, Pattern};
use super::sql_text;
use crate::table::TableName;
use std::collections::BTreeMap;

/// Reads `database.schema.table[.column]`; a part with a dot in it stands in double quotes.
///
/// # Errors
/// A sentence, when there are not three or four parts.
pub fn pattern(text: &str) -> Result<Pattern, String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        let part = parts.last_mut().ok_or("it is empty")?;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => part.push(c),
        }
    }
    if quoted || parts.iter().any(String::is_empty) || !(3..=4).contains(&parts.len()) {
        return Err("a pattern is database.schema.table or database.schema.table.column".into());
    }
    Ok(Pattern { text: text.to_owned(), parts })
}

/// Whether `pattern` covers a table (`column`: `None`) or one of its columns.
pub fn pattern_matches(pattern: &Pattern, database: &str, table: &TableName, column: Option<&str>) -> bool {
    let names = [database, &table.schema, &table.name];
    let table_matches = pattern.parts.iter().zip(names).all(|(part, name)| glob(part, name));
    match (pattern.parts.get(3), column) {
        (None, _) => table_matches,
        (Some(_), None) => false,
        (Some(part), Some(column)) => table_matches && glob(part, column),
    }
}

/// Whether `pattern` speaks of database `database` by its own name, and not of any.
pub fn is_about(pattern: &Pattern, database: &str) -> bool {
    pattern.parts.first().is_some_and(|part| part == database)
}

/// Whether `pattern`, with `*` for any run of characters, is all of `name`.
fn glob(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

impl Guard {
    /// The pattern by which a table never leaves, if one covers it.
    pub fn never_table(&self, database: &str, table: &TableName) -> Option<&Pattern> {
        self.never.iter().find(|pattern| pattern_matches(pattern, database, table, None))
    }

    /// Those of `columns` that never leave, in their order.
    pub fn never_columns(&self, database: &str, table: &TableName, columns: &[String]) -> Vec<String> {
        let never = |c: &&String| self.never.iter().any(|p| pattern_matches(p, database, table, Some(c)));
        columns.iter().filter(never).cloned().collect()
    }

    /// The mask that each of `columns` must have, where there is one; the strictest of several.
    pub fn masks(&self, database: &str, table: &TableName, columns: &[String]) -> BTreeMap<String, Mask> {
        let forced = |column: &String| {
            let covers = |(p, _): &&(Pattern, Mask)| pattern_matches(p, database, table, Some(column));
            self.mask.iter().filter(covers).map(|(_, mask)| *mask).max()
        };
        columns.iter().filter_map(|c| forced(c).map(|mask| (c.clone(), mask))).collect()
    }

    /// The first pattern of a guarded column, never or masked, that `filter` of `table` could tell the
    /// values of: by the column's name, or by the row as a whole. `columns` are all the table's.
    pub fn told_by(
        &self,
        database: &str,
        table: &TableName,
        columns: &[String],
        filter: &str,
    ) -> Option<&Pattern> {
        let patterns = || self.never.iter().chain(self.mask.iter().map(|(pattern, _)| pattern));
        let whole = sql_text::whole_row(filter, &table.name);
        patterns().find(|pattern| {
            let mut covered = columns
                .iter()
                .filter(|c| pattern_matches(pattern, database, table, Some(c)))
                .map(String::as_str);
            if whole { covered.next().is_some() } else { sql_text::mentions(filter, covered).is_some() }
        })
    }
}

/// The masks of a table: the pipeline's and the guard's, the stricter of each column.
pub fn strictest(
    pipeline: &BTreeMap<String, Mask>,
    guard: &BTreeMap<String, Mask>,
) -> BTreeMap<String, Mask> {
    let mut masks = pipeline.clone();
    for (column, mask) in guard {
        masks.entry(column.clone()).and_modify(|old| *old = (*old).max(*mask)).or_insert(*mask);
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(text: &str, name: &str) -> bool {
        let names: Vec<&str> = name.split('/').collect();
        let table = TableName::new(names[1], names[2]);
        pattern_matches(&pattern(text).unwrap(), names[0], &table, names.get(3).copied())
    }

    #[test]
    fn a_pattern_covers_what_it_names_and_nothing_else() {
        for (text, name, expected) in [
            ("hr.public.payroll", "hr/public/payroll", true),
            ("hr.public.payroll", "hr/public/payroll/amount", true),
            ("hr.public.payroll", "hr/public/payroll_2024", false),
            ("hr.public.payroll*", "hr/public/payroll_2024", true),
            ("hr.public.payroll", "records/public/payroll", false),
            ("hr.public.payroll", "hr/public/Payroll", false),
            ("*.*.*.national_id", "hr/public/employee/national_id", true),
            ("*.*.*.national_id", "hr/public/employee/National_ID", false),
            ("*.*.*.national_id", "hr/public/employee", false),
            ("*.*.*.*id", "hr/public/employee/national_id", true),
            ("*.*.*.n*l*d", "hr/public/employee/national_id", true),
            ("*.*.*.*aa*aa", "a/b/c/aaa", false),
            ("*.*.*.a*a", "a/b/c/a", false),
            ("hr.\"odd.schema\".t", "hr/odd.schema/t", true),
            ("hr.\"a\"\"b\".t", "hr/a\"b/t", true),
        ] {
            assert_eq!(matches(text, name), expected, "{text} {name}");
        }
    }

    #[test]
    fn a_pattern_has_three_or_four_parts() {
        for text in ["", "a", "a.b", "a.b.c.d.e", "a..c", "a.b.\"c", ".b.c"] {
            assert!(pattern(text).is_err(), "{text}");
        }
    }

    fn guard() -> Guard {
        let mask = |text: &str, mask| (pattern(text).unwrap(), mask);
        Guard {
            never: vec![pattern("*.*.*.national_id").unwrap(), pattern("hr.public.payroll").unwrap()],
            mask: vec![
                mask("*.*.*.email", Mask::Hmac),
                mask("hr.*.*.email", Mask::Nullify),
                mask("hr.*.*.*", Mask::Redact),
            ],
            sources: BTreeMap::new(),
        }
    }

    #[test]
    fn never_and_masks_are_told_by_table_and_column() {
        let columns: Vec<String> = ["id", "email", "national_id"].map(String::from).into();
        let employee = TableName::new("public", "employee");
        let payroll = TableName::new("public", "payroll");
        let guard = guard();
        assert_eq!(guard.never_table("hr", &payroll).unwrap().text, "hr.public.payroll");
        assert!(guard.never_table("records", &payroll).is_none());
        assert!(guard.never_table("hr", &employee).is_none());
        assert_eq!(guard.never_columns("hr", &employee, &columns), ["national_id"]);
        assert_eq!(guard.never_columns("hr", &payroll, &columns), columns);
        let masks = guard.masks("hr", &employee, &columns);
        assert_eq!((masks["id"], masks["email"]), (Mask::Redact, Mask::Nullify));
        assert_eq!(guard.masks("records", &employee, &columns), [("email".to_owned(), Mask::Hmac)].into());
    }

    #[test]
    fn the_stricter_mask_wins_whoever_wrote_it() {
        let map = |mask| BTreeMap::from([("email".to_owned(), mask)]);
        for (one, other, expected) in [
            (Mask::Hmac, Mask::Nullify, Mask::Nullify),
            (Mask::Hmac, Mask::Redact, Mask::Redact),
            (Mask::Redact, Mask::Nullify, Mask::Nullify),
        ] {
            assert_eq!(strictest(&map(one), &map(other)), map(expected));
            assert_eq!(strictest(&map(other), &map(one)), map(expected));
        }
        assert_eq!(strictest(&map(Mask::Hmac), &BTreeMap::new()), map(Mask::Hmac));
        assert_eq!(strictest(&BTreeMap::new(), &map(Mask::Hmac)), map(Mask::Hmac));
    }

    #[test]
    fn a_filter_that_could_tell_a_guarded_column_is_seen() {
        let columns: Vec<String> = ["id", "national_id"].map(String::from).into();
        let employee = TableName::new("public", "employee");
        let told = |filter| guard().told_by("records", &employee, &columns, filter).map(|p| p.text.clone());
        assert_eq!(told("NATIONAL_ID like '1%'").as_deref(), Some("*.*.*.national_id"));
        assert_eq!(told("employee::text like '%1%'").as_deref(), Some("*.*.*.national_id"));
        assert_eq!(told("id > 3"), None);
    }
}
