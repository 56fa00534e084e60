//! `checks:` of one table -> its rules, each with scope and severity.
//!
//! In:    [`Checks`] as written. Out: [`Check`]s in the order of DESIGN.md 3.8.
//! Holds: without words of its own a check fails the run; what can be judged by this run's rows alone
//!        (`null_rate`, `accepted`, `references`, `sql`) looks at those, the rest at the table as it
//!        would be published.

use super::At;
use crate::config::model::{Check, Rule, Scope, Severity};
use crate::config::node::Fault;
use crate::config::raw::Form;
use crate::config::raw::checks::{Checks, Reference, Rows, Unique, UniqueItem};
use crate::config::sql_text;
use crate::table::{TableName, split_identifiers};

/// The rules of one table; `at` is its `checks:`.
///
/// # Errors
/// A [`Fault`] at the first check that means nothing.
pub fn checks(at: At<'_>, raw: &Checks) -> Result<Vec<Check>, Fault> {
    let mut found = Vec::new();
    if let Some(rows) = &raw.rows {
        found.extend(row_counts(at, rows)?);
    }
    by_column(at, raw, &mut found)?;
    if let Some(unique) = &raw.unique {
        found.extend(unique_keys(at, unique)?);
    }
    references(at, raw, &mut found)?;
    for (name, form) in &raw.sql.0 {
        let (query, severity, scope) = match form {
            Form::Word(query) => (query, None, None),
            Form::Keys(sql) => (&sql.query, sql.severity, sql.scope),
            Form::List(no) => match *no {},
        };
        let path: &[&str] =
            if matches!(form, Form::Word(_)) { &["sql", name] } else { &["sql", name, "query"] };
        sql_text::query(query).map_err(|why| at.fault(path, format!("the query is refused: {why}")))?;
        let rule = Rule::Sql { name: name.clone(), query: query.clone() };
        found.push(check(rule, severity, scope, Scope::Table));
    }
    Ok(found)
}

fn check(rule: Rule, severity: Option<Severity>, scope: Option<Scope>, usual: Scope) -> Check {
    Check { rule, scope: scope.unwrap_or(usual), severity: severity.unwrap_or(Severity::Fail) }
}

fn row_counts(at: At<'_>, rows: &Rows) -> Result<Vec<Check>, Fault> {
    if let (Some(min), Some(max)) = (rows.min, rows.max)
        && min > max
    {
        return Err(at.fault(&["rows", "max"], "it is smaller than `min`"));
    }
    let change = rows.max_change.map(|share| Rule::MaxChange(share.0));
    let rules = [rows.min.map(Rule::MinRows), rows.max.map(Rule::MaxRows), change];
    let rules: Vec<Check> = rules
        .into_iter()
        .flatten()
        .map(|rule| check(rule, rows.severity, rows.scope, Scope::Table))
        .collect();
    if rules.is_empty() {
        return Err(at.fault(&["rows"], "expected one of min, max, max_change"));
    }
    Ok(rules)
}

/// The checks that bound one column each.
fn by_column(at: At<'_>, raw: &Checks, found: &mut Vec<Check>) -> Result<(), Fault> {
    for (column, form) in &raw.null_rate.0 {
        at.identifier(&["null_rate", column], column)?;
        let (share, severity, scope) = match form {
            Form::Word(share) => (*share, None, None),
            Form::Keys(bound) => (bound.at_most, bound.severity, bound.scope),
            Form::List(no) => match *no {},
        };
        let rule = Rule::NullRate { column: column.clone(), at_most: share.0 };
        found.push(check(rule, severity, scope, Scope::Batch));
    }
    for (column, form) in &raw.freshness.0 {
        at.identifier(&["freshness", column], column)?;
        let (length, severity, scope) = match form {
            Form::Word(length) => (*length, None, None),
            Form::Keys(bound) => (bound.at_most, bound.severity, bound.scope),
            Form::List(no) => match *no {},
        };
        let rule = Rule::Freshness { column: column.clone(), at_most: length.0 };
        found.push(check(rule, severity, scope, Scope::Table));
    }
    for (column, form) in &raw.accepted.0 {
        at.identifier(&["accepted", column], column)?;
        let (values, severity, scope) = match form {
            Form::List(values) => (values, None, None),
            Form::Keys(accepted) => (&accepted.values, accepted.severity, accepted.scope),
            Form::Word(no) => match *no {},
        };
        if values.is_empty() {
            return Err(at.fault(&["accepted", column], "expected at least one value"));
        }
        let rule = Rule::Accepted {
            column: column.clone(),
            values: values.iter().map(|value| value.0.clone()).collect(),
        };
        found.push(check(rule, severity, scope, Scope::Batch));
    }
    Ok(())
}

/// `[a, b]` is one key of two columns, `[[a], [b]]` are two keys of one.
fn unique_keys(
    at: At<'_>,
    form: &Form<crate::config::raw::No, Vec<UniqueItem>, Unique>,
) -> Result<Vec<Check>, Fault> {
    let one = |columns: &Vec<String>, severity, scope, path: &[&str]| {
        at.identifiers(path, columns)?;
        Ok(check(Rule::Unique(columns.clone()), severity, scope, Scope::Table))
    };
    let items = match form {
        Form::Keys(key) => {
            return Ok(vec![one(&key.columns, key.severity, key.scope, &["unique", "columns"])?]);
        }
        Form::List(items) => items,
        Form::Word(no) => match *no {},
    };
    let word = |item: &UniqueItem| if let Form::Word(column) = item { Some(column.clone()) } else { None };
    if let Some(columns) = items.iter().map(word).collect::<Option<Vec<String>>>() {
        return Ok(vec![one(&columns, None, None, &["unique"])?]);
    }
    let each = (0..).zip(items).map(|(index, item): (usize, _)| {
        let index = index.to_string();
        match item {
            Form::List(columns) => one(columns, None, None, &["unique", &index]),
            Form::Keys(key) => one(&key.columns, key.severity, key.scope, &["unique", &index, "columns"]),
            Form::Word(_) => Err(at
                .fault(&["unique", &index], "a column stands among lists")
                .hint("Write `[a, b]` for one key of two columns, `[[a], [b]]` for two keys.")),
        }
    });
    each.collect()
}

fn references(at: At<'_>, raw: &Checks, found: &mut Vec<Check>) -> Result<(), Fault> {
    match &raw.references {
        None => Ok(()),
        Some(Form::Keys(columns)) => columns.0.iter().try_for_each(|(column, form)| {
            at.identifier(&["references", column], column)?;
            let (to, severity, scope) = match form {
                Form::Word(to) => (to, None, None),
                Form::Keys(to) => (&to.to, to.severity, to.scope),
                Form::List(no) => match *no {},
            };
            let parts = split_identifiers(to).ok().and_then(|parts| <[String; 3]>::try_from(parts).ok());
            let [schema, name, to] = parts.ok_or_else(|| {
                at.fault(&["references", column], "expected schema.table.column, in the warehouse")
            })?;
            let rule = Rule::References {
                columns: vec![column.clone()],
                table: TableName { schema, name },
                to: vec![to],
            };
            found.push(check(rule, severity, scope, Scope::Batch));
            Ok(())
        }),
        Some(Form::List(list)) => (0..).zip(list).try_for_each(|(index, reference): (usize, _)| {
            found.push(composite(at, &index.to_string(), reference)?);
            Ok(())
        }),
        Some(Form::Word(no)) => match *no {},
    }
}

fn composite(at: At<'_>, index: &str, reference: &Reference) -> Result<Check, Fault> {
    at.identifiers(&["references", index, "columns"], &reference.columns)?;
    at.identifiers(&["references", index, "to"], &reference.to)?;
    if reference.columns.len() != reference.to.len() {
        return Err(at.fault(&["references", index, "to"], "it has not as many columns as `columns`"));
    }
    let table = TableName::parse(&reference.table)
        .map_err(|_| at.fault(&["references", index, "table"], "expected schema.table, in the warehouse"))?;
    let rule = Rule::References { columns: reference.columns.clone(), table, to: reference.to.clone() };
    Ok(check(rule, reference.severity, reference.scope, Scope::Batch))
}
