//! The `COPY` statement of a data entry: which table, which columns.
//!
//! In:    `COPY schema.table (a, "b c") FROM stdin;` as pg_dump writes it.
//! Out:   the names, unquoted.
//! Holds: what is not exactly of that form is not understood, rather than half.
//! Not here: the rows (`rows`).

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub schema: String,
    pub table: String,
    pub columns: Vec<String>,
}

/// Reads the statement; `None` if it is of another form.
pub(super) fn target(statement: &str) -> Option<Target> {
    let rest = statement.strip_prefix("COPY ")?;
    let (schema, rest) = name(rest)?;
    let (table, rest) = name(rest.strip_prefix('.')?)?;
    let (columns, rest) = columns(rest.strip_prefix(' ')?)?;
    (rest == " FROM stdin;\n").then_some(Target { schema, table, columns })
}

/// `(a, b)`, or nothing at all for a table without columns.
fn columns(text: &str) -> Option<(Vec<String>, &str)> {
    let mut columns = Vec::new();
    let Some(mut rest) = text.strip_prefix('(') else { return Some((columns, text)) };
    loop {
        let (column, after) = name(rest)?;
        columns.push(column);
        match after.strip_prefix(", ") {
            Some(next) => rest = next,
            None => return Some((columns, after.strip_prefix(')')?)),
        }
    }
}

/// One name at the start of `text`, unquoted, and what follows it.
pub(super) fn name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))?;
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut unquoted = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"')?;
        unquoted.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                unquoted.push('"');
                rest = more;
            }
            None => return Some((unquoted, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unquoted_and_a_table_may_have_no_columns() {
        let found = target("COPY public.\"a \"\"b\"\".c\" (id, \"x, (y)\") FROM stdin;\n").unwrap();
        assert_eq!((found.schema.as_str(), found.table.as_str()), ("public", "a \"b\".c"));
        assert_eq!(found.columns, ["id", "x, (y)"]);
        assert_eq!(target("COPY public.none  FROM stdin;\n").unwrap().columns, [""; 0]);
    }

    #[test]
    fn another_statement_is_not_understood() {
        for other in
            ["COPY a FROM stdin;\n", "COPY a.b (c FROM stdin;\n", "COPY a.b (c) FROM stdin", "INSERT"]
        {
            assert_eq!(target(other), None, "{other}");
        }
    }
}
