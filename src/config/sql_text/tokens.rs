//! The tokens of SQL, as PostgreSQL's own scanner cuts them.
//!
//! In:    text. Out: [`Token`]s with their places; a sentence when something is left open.
//! Holds: what a token covers is `sql[start..end]`; between tokens there is only white space.
//! Source: PostgreSQL manual, "Lexical Structure"; `src/backend/parser/scan.l` for what the manual
//!        leaves out: a string goes on after white space with a line break, in its own kind.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A key word or a name without quotes, folded to lower case.
    Word,
    /// A name in double quotes.
    Name,
    /// A name written as `U&"..."`, whose text is not read.
    UnicodeName,
    /// `'...'` with any prefix.
    String,
    /// `$tag$...$tag$`.
    Dollar,
    /// `$1`.
    Parameter,
    /// A number.
    Number,
    /// `-- ...` or `/* ... */`.
    Comment,
    /// Any other character.
    Sign(char),
}

/// One token.
#[derive(Clone, Debug)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// Folded word, name without quotes, or the inside of a string.
    pub text: String,
    /// For a string: whether it is written without a prefix, so that `text` is what it says.
    pub plain: bool,
}

impl Token {
    /// Whether it is the key word `word`.
    pub fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }

    /// Whether it is an identifier that SQL reads as `name`.
    pub fn is_name(&self, name: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Name) && self.text == name
    }

    /// Whether it is the name of the setting `name`; those are the same in upper and lower case.
    pub fn is_setting(&self, name: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Name) && self.text.eq_ignore_ascii_case(name)
    }
}

/// Cuts `sql` into tokens.
///
/// # Errors
/// A sentence, when a string, a name, a comment or a dollar quote is left open.
pub fn scan(sql: &str) -> Result<Vec<Token>, String> {
    let mut scanner = Scanner { sql, at: 0, tokens: Vec::new() };
    while scanner.at < sql.len() {
        scanner.step()?;
    }
    Ok(scanner.tokens)
}

struct Scanner<'a> {
    sql: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.sql[self.at..]
    }

    fn push(&mut self, kind: Kind, length: usize, text: impl Into<String>) {
        let (start, end) = (self.at, self.at + length);
        let plain = self.rest().starts_with('\'');
        self.tokens.push(Token { kind, start, end, text: text.into(), plain });
        self.at = end;
    }

    fn step(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let Some(c) = rest.chars().next() else { return Ok(()) };
        let starts = |prefix: &str| rest.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix));
        if c.is_ascii_whitespace() || c == '\u{b}' {
            self.at += 1;
        } else if rest.starts_with("--") {
            let length = rest.find(['\n', '\r']).unwrap_or(rest.len());
            self.push(Kind::Comment, length, "");
        } else if rest.starts_with("/*") {
            self.push(Kind::Comment, block_comment(rest)?, "");
        } else if c == '\'' {
            self.string(0, false)?;
        } else if starts("e'") {
            self.string(1, true)?;
        } else if starts("b'") || starts("x'") || starts("n'") {
            self.string(1, false)?;
        } else if starts("u&'") {
            self.string(2, false)?;
        } else if starts("u&\"") {
            let (length, _) = quoted(&rest[2..], '"')?;
            self.push(Kind::UnicodeName, length + 2, "");
        } else if c == '"' {
            let (length, text) = quoted(rest, '"')?;
            self.push(Kind::Name, length, text);
        } else if c == '$' {
            self.dollar()?;
        } else if is_start(c) {
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            self.push(Kind::Word, length, rest[..length].to_ascii_lowercase());
        } else if c.is_ascii_digit() {
            // As of 15, `1x` is an error and `1_000` a number: no token of ours can hide in either.
            let length = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
            self.push(Kind::Number, length, "");
        } else {
            self.push(Kind::Sign(c), c.len_utf8(), "");
        }
        Ok(())
    }

    /// A string whose quote stands `prefix` bytes on; `escapes` when backslashes count.
    fn string(&mut self, prefix: usize, escapes: bool) -> Result<(), String> {
        let rest = self.rest();
        let mut length = prefix;
        let mut text = String::new();
        loop {
            let (used, part) =
                if escapes { escaped(&rest[length..])? } else { quoted(&rest[length..], '\'')? };
            length += used;
            text += &part;
            match continuation(&rest[length..]) {
                Some(gap) => length += gap,
                None => break,
            }
        }
        self.push(Kind::String, length, text);
        Ok(())
    }

    fn dollar(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            self.push(Kind::Parameter, 1 + digits, "");
            return Ok(());
        }
        let tag_end = rest[1..].find(|c: char| c == '$' || !is_part(c)).map(|at| at + 1);
        let Some(end) = tag_end.filter(|at| rest[*at..].starts_with('$')) else {
            self.push(Kind::Sign('$'), 1, "");
            return Ok(());
        };
        let tag = &rest[..=end];
        let body = &rest[tag.len()..];
        let close = body.find(tag).ok_or("a dollar quote is left open")?;
        self.push(Kind::Dollar, tag.len() * 2 + close, &body[..close]);
        Ok(())
    }
}

fn is_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_part(c: char) -> bool {
    is_start(c) || c.is_ascii_digit() || c == '$'
}

/// Length of the comment that `text` starts with; they nest.
fn block_comment(text: &str) -> Result<usize, String> {
    let (bytes, mut at, mut depth) = (text.as_bytes(), 0, 0usize);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Ok(at);
                }
            }
            _ => at += 1,
        }
    }
    Err("a comment is left open".into())
}

/// Length and inside of what stands in `quote`s, doubled ones inside undone.
fn quoted(text: &str, quote: char) -> Result<(usize, String), String> {
    let mut inside = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            inside.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
            inside.push(quote);
            chars.next();
        } else {
            return Ok((at + 1, inside));
        }
    }
    Err(if quote == '"' { "a name's quote is left open".into() } else { "a string is left open".into() })
}

/// As [`quoted`] for `'`, where a backslash takes the next character with it.
fn escaped(text: &str) -> Result<(usize, String), String> {
    let mut inside = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => inside.extend(chars.next().map(|(_, c)| c)),
            '\'' if chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                inside.push('\'');
                chars.next();
            }
            '\'' => return Ok((at + 1, inside)),
            c => inside.push(c),
        }
    }
    Err("a string is left open".into())
}

/// How far on a string that ended before `text` goes on: white space and line comments with a line
/// break in them, then a quote.
fn continuation(text: &str) -> Option<usize> {
    let (mut at, mut broken) = (0, false);
    loop {
        let rest = &text[at..];
        if rest.starts_with("--") {
            at += rest.find(['\n', '\r'])?;
            continue;
        }
        match rest.chars().next()? {
            c @ ('\n' | '\r') => {
                broken = true;
                at += c.len_utf8();
            }
            c @ (' ' | '\t' | '\u{b}' | '\u{c}') => at += c.len_utf8(),
            '\'' if broken => return Some(at),
            _ => return None,
        }
    }
}
