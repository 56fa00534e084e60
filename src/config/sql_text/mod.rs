//! SQL that people write in project files, split and judged without a server.
//!
//! In:    the text of an `after:` script, a `filter:` or a quality query.
//! Out:   its statements; or a sentence that says why it is refused.
//! Holds: comments, strings (`'..'`, `E'..'`, `$tag$..$tag$`), quoted names, parentheses and
//!        `BEGIN ATOMIC` bodies never split or trigger anything. A refused text is never quoted.
//! Not here: rights. What a tokenizer cannot see, `EXECUTE 're' || 'set role'` in a body, is held
//!        by the roles of the session that runs it.

pub mod tokens;

use tokens::{Kind, Token, scan};

/// Splits a script into its statements, without their `;`; comments alone are none.
///
/// # Errors
/// A sentence: something is left open, or the script would control the transaction or the role.
pub fn statements(sql: &str) -> Result<Vec<String>, String> {
    let tokens = scan(sql)?;
    let mut found = Vec::new();
    for part in split(&tokens)? {
        refuse_control(part)?;
        if let (Some(first), Some(last)) = (part.first(), part.last()) {
            found.push(sql[first.start..last.end].to_owned());
        }
    }
    Ok(found)
}

/// Checks a row filter: one condition, with nothing that could end or extend it.
///
/// # Errors
/// A sentence.
pub fn condition(sql: &str) -> Result<(), String> {
    let tokens = scan(sql)?;
    if tokens.iter().any(|token| token.kind == Kind::Comment) {
        return Err("it holds a comment".into());
    }
    if tokens.is_empty() {
        return Err("it is empty".into());
    }
    if tokens.iter().any(|token| token.kind == Kind::Sign(';')) {
        return Err("it holds a `;`".into());
    }
    balanced(&tokens)?;
    refuse_signs(&tokens)
}

/// Checks a quality query: one SELECT and nothing else.
///
/// # Errors
/// A sentence.
pub fn query(sql: &str) -> Result<(), String> {
    match statements(sql)?.as_slice() {
        [one] => {
            let tokens = code(&scan(one)?);
            let first = tokens.iter().find(|token| token.kind != Kind::Sign('('));
            let reads = first.is_some_and(|t| ["select", "with", "values", "table"].iter().any(|w| t.is(w)));
            if reads { Ok(()) } else { Err("it does not begin with SELECT or WITH".into()) }
        }
        [] => Err("it is empty".into()),
        _ => Err("it is more than one statement".into()),
    }
}

/// The first of `names` that `sql` mentions as an identifier, folded as SQL folds it.
///
/// For a filter that must not tell what a guarded column holds. Text that cannot be scanned mentions
/// nothing: [`condition`] has refused it before.
pub fn mentions<'a>(sql: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let tokens = scan(sql).unwrap_or_default();
    names.into_iter().find(|name| tokens.iter().any(|token| token.is_name(name)))
}

/// Whether `sql` uses the rows of `table` as a whole (`employee::text`, `employee.*`, `(employee)`),
/// by which it could look at any column.
pub fn whole_row(sql: &str, table: &str) -> bool {
    let tokens = code(&scan(sql).unwrap_or_default());
    let sign = |at: usize, c: char| tokens.get(at).is_some_and(|token| token.kind == Kind::Sign(c));
    (0..tokens.len()).any(|at| {
        tokens[at].is_name(table)
            && !(at > 0 && sign(at - 1, '.'))
            && (!sign(at + 1, '.') || sign(at + 2, '*'))
    })
}

/// The tokens that are no comments.
fn code(tokens: &[Token]) -> Vec<Token> {
    tokens.iter().filter(|token| token.kind != Kind::Comment).cloned().collect()
}

/// The statements of a script, each as its tokens without the comments around it.
fn split(tokens: &[Token]) -> Result<Vec<&[Token]>, String> {
    balanced(tokens)?;
    let (mut parts, mut start, mut parens, mut atomic) = (Vec::new(), 0, 0usize, 0usize);
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Sign('(') => parens += 1,
            Kind::Sign(')') => parens = parens.saturating_sub(1),
            // As psql: `BEGIN ATOMIC ... END` of a CREATE FUNCTION or PROCEDURE holds semicolons.
            Kind::Word if atomic > 0 && (token.is("case") || token.is("begin")) => atomic += 1,
            Kind::Word if atomic > 0 && token.is("end") => atomic -= 1,
            Kind::Word if token.is("begin") && creates_routine(&tokens[start..at]) => atomic = 1,
            Kind::Sign(';') if parens == 0 && atomic == 0 => {
                parts.push(trimmed(&tokens[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    if atomic > 0 {
        return Err("a BEGIN ATOMIC has no END".into());
    }
    parts.push(trimmed(&tokens[start..]));
    parts.retain(|part| !part.is_empty());
    Ok(parts)
}

fn trimmed(mut tokens: &[Token]) -> &[Token] {
    while let [first, rest @ ..] = tokens
        && first.kind == Kind::Comment
    {
        tokens = rest;
    }
    while let [rest @ .., last] = tokens
        && last.kind == Kind::Comment
    {
        tokens = rest;
    }
    tokens
}

fn creates_routine(tokens: &[Token]) -> bool {
    let words: Vec<&str> =
        tokens.iter().filter(|t| t.kind == Kind::Word).take(4).map(|t| t.text.as_str()).collect();
    words.first() == Some(&"create") && words.iter().any(|word| matches!(*word, "function" | "procedure"))
}

fn balanced(tokens: &[Token]) -> Result<(), String> {
    let mut open = Vec::new();
    for token in tokens {
        match token.kind {
            Kind::Sign(sign @ ('(' | '[')) => open.push(sign),
            Kind::Sign(sign @ (')' | ']')) if open.pop() != Some(if sign == ')' { '(' } else { '[' }) => {
                return Err(format!("a `{sign}` closes nothing"));
            }
            _ => {}
        }
    }
    open.pop().map_or(Ok(()), |sign| Err(format!("a `{sign}` is left open")))
}

fn refuse_signs(tokens: &[Token]) -> Result<(), String> {
    if tokens.iter().any(|token| token.kind == Kind::Sign('\\')) {
        return Err("it holds a backslash; psql's own commands are not SQL".into());
    }
    if tokens.iter().any(|token| token.kind == Kind::Parameter) {
        return Err("it holds a parameter such as `$1`".into());
    }
    if tokens.iter().any(|token| token.kind == Kind::UnicodeName) {
        return Err("it holds a name written as U&\"...\"; write the name itself".into());
    }
    Ok(())
}

/// Refuses one statement that would control the transaction it runs in, or the role it runs as.
fn refuse_control(statement: &[Token]) -> Result<(), String> {
    refuse_signs(statement)?;
    let tokens = code(statement);
    let word = |at: usize| tokens.get(at).filter(|t| t.kind == Kind::Word).map_or("", |t| t.text.as_str());
    match (word(0), word(1)) {
        (first @ ("begin" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release"), _) => {
            return Err(format!("{} controls the transaction", first.to_uppercase()));
        }
        ("start" | "prepare", "transaction") => return Err("it controls the transaction".into()),
        ("set", _) if (1..4).any(|at| word(at) == "transaction") || word(2) == "characteristics" => {
            return Err("SET TRANSACTION controls the transaction".into());
        }
        ("discard", _) => return Err("DISCARD changes the session".into()),
        ("copy", _) if tokens.iter().any(|t| t.is("stdin") || t.is("stdout")) => {
            return Err("COPY cannot read or write the client here".into());
        }
        _ => {}
    }
    refuse_roles(&tokens)
}

/// Refuses SET and RESET of the role, anywhere in a statement and in the bodies it carries.
fn refuse_roles(tokens: &[Token]) -> Result<(), String> {
    let mut updates = false; // `UPDATE t SET role = ...` is a column
    for (at, token) in tokens.iter().enumerate() {
        let next = |by: usize| tokens.get(at + by);
        let is = |by: usize, name: &str| next(by).is_some_and(|t| t.is_setting(name));
        let role = |by: usize| {
            is(by, "role")
                || is(by, "session_authorization")
                || (is(by, "session") && is(by + 1, "authorization"))
        };
        let column = updates && next(2).is_some_and(|t| t.kind == Kind::Sign('='));
        if token.is("set") && !column && (role(1) || ((is(1, "local") || is(1, "session")) && role(2))) {
            return Err("SET ROLE and SET SESSION AUTHORIZATION change the role".into());
        }
        if token.is("reset") && (role(1) || is(1, "all")) {
            return Err("RESET changes the role or the session".into());
        }
        let named =
            next(2).is_some_and(harmless_setting) && next(3).is_some_and(|t| t.kind == Kind::Sign(','));
        if token.is_name("set_config") && !named {
            return Err("set_config changes the role, or a setting whose name cannot be seen".into());
        }
        if token.is_name("pg_settings") && updates {
            return Err("an UPDATE of pg_settings may change the role".into());
        }
        if token.kind == Kind::Dollar
            && let Ok(body) = scan(&token.text)
        {
            refuse_roles(&code(&body))?;
        }
        updates = (updates || token.is("update")) && token.kind != Kind::Sign(';');
    }
    Ok(())
}

/// Whether `token` is a plain string that names another setting than the role.
fn harmless_setting(token: &Token) -> bool {
    let role = ["role", "session_authorization"].iter().any(|name| token.text.eq_ignore_ascii_case(name));
    token.kind == Kind::String && token.plain && !role
}

#[cfg(test)]
mod tests;
