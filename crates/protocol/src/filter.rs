//! Expressions over lines of the access log: `cache=="miss" and ttfb>0.2`.
//!
//! A comparison is a field, an operator and a value: `==` `!=` for texts, numbers, `true` and `false`; `<` `<=` `>` `>=` for numbers;
//! `~` for a text that holds another. Comparisons are joined by `and`, `or`, `not` and parentheses; `and` binds before `or`. A field
//! alone says that it is there. A field that is not there is unequal to everything, and not smaller or greater than anything.

use std::fmt;

use serde_json::Value;

/// The longest expression, in bytes.
const BYTES_MAX: usize = 4096;
/// How deep parentheses and `not` may go.
const DEPTH_MAX: usize = 32;

/// An expression that has been understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Everything.
    All,
    /// Both hold.
    And(Box<Self>, Box<Self>),
    /// One of them holds.
    Or(Box<Self>, Box<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// The field is there.
    Has(String),
    /// A comparison holds.
    Is(String, Operator, Value),
}

/// What the values of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Texts.
    Text,
    /// Numbers.
    Number,
    /// `true`, or the field is absent.
    Flag,
}

/// A field that expressions may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
}

const fn text(name: &'static str) -> Field {
    Field { name, kind: Kind::Text }
}

const fn number(name: &'static str) -> Field {
    Field { name, kind: Kind::Number }
}

/// The fields of the access log. A test of the node holds its lines to them.
pub static LOG_FIELDS: [Field; 25] = [
    number("ts"),
    text("node"),
    text("site"),
    text("client_ip"),
    text("method"),
    text("scheme"),
    text("host"),
    text("path"),
    Field { name: "query", kind: Kind::Flag },
    text("proto"),
    number("status"),
    number("bytes"),
    number("duration"),
    number("ttfb"),
    text("cache"),
    text("reason"),
    number("age"),
    number("ttl"),
    text("upstream"),
    number("upstream_status"),
    number("upstream_duration"),
    text("trace_id"),
    text("error"),
    text("ua"),
    text("referer"),
];

/// Why an expression can hold for no line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldError {
    /// No line has such a field.
    Unknown {
        /// As it is written in the expression.
        name: String,
        /// The field that is spelt most like it, if one is.
        near: Option<&'static str>,
        /// All that there are.
        known: String,
    },
    /// It is compared with a value of another kind.
    Kind {
        /// The field.
        field: Field,
        /// What it is compared with.
        value: Value,
    },
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, near, known } => {
                write!(f, "there is no field {name:?}")?;
                match near {
                    Some(near) => write!(f, ", did you mean {near:?}?")?,
                    None => f.write_str(".")?,
                }
                write!(f, " Known are: {known}")
            }
            Self::Kind { field: Field { name, kind }, value } => {
                let (is, as_in) = match kind {
                    Kind::Text => ("a text", format!("{name}==\"…\"")),
                    Kind::Number => ("a number", format!("{name}==5")),
                    Kind::Flag => ("true or absent", format!("{name}==true")),
                };
                write!(f, "the field {name:?} is {is} and never equal to {value}: compare it as in {as_in}")
            }
        }
    }
}

impl std::error::Error for FieldError {}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
    /// `~`
    Holds,
}

/// Why an expression is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// Where, in bytes.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at character {}", self.expected, self.at + 1)
    }
}

impl std::error::Error for FilterError {}

impl Filter {
    /// Reads an expression; an empty one is everything.
    ///
    /// # Errors
    ///
    /// It is none; the error says where.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > BYTES_MAX {
            return Err(FilterError { at: BYTES_MAX, expected: "no more than 4096 characters" });
        }
        let mut reader = Reader { text, at: 0, depth: 0 };
        reader.skip();
        if reader.rest().is_empty() {
            return Ok(Self::All);
        }
        let filter = reader.any()?;
        if reader.rest().is_empty() { Ok(filter) } else { Err(reader.wrong("\"and\", \"or\" or the end")) }
    }

    /// Checks that it is about these fields only, and compares each with values of its kind. Any other expression waits for lines
    /// that never come.
    ///
    /// # Errors
    ///
    /// The first field that is unknown, or compared with what it cannot be.
    pub fn check(&self, fields: &[Field]) -> Result<(), FieldError> {
        match self {
            Self::All => Ok(()),
            Self::And(one, other) | Self::Or(one, other) => one.check(fields).and_then(|()| other.check(fields)),
            Self::Not(inner) => inner.check(fields),
            Self::Has(name) => known(fields, name).map(|_| ()),
            Self::Is(name, _, value) => {
                let field = known(fields, name)?;
                let is_of_kind = match field.kind {
                    Kind::Text => value.is_string(),
                    Kind::Number => value.is_number(),
                    Kind::Flag => value.is_boolean(),
                };
                if is_of_kind { Ok(()) } else { Err(FieldError::Kind { field, value: value.clone() }) }
            }
        }
    }

    /// Whether it holds for a line.
    #[must_use]
    pub fn holds(&self, line: &Value) -> bool {
        match self {
            Self::All => true,
            Self::And(one, other) => one.holds(line) && other.holds(line),
            Self::Or(one, other) => one.holds(line) || other.holds(line),
            Self::Not(inner) => !inner.holds(line),
            Self::Has(field) => line.get(field).is_some(),
            Self::Is(field, operator, value) => operator.holds(line.get(field), value),
        }
    }
}

/// The field of a name.
fn known(fields: &[Field], name: &str) -> Result<Field, FieldError> {
    let found = fields.iter().find(|field| field.name == name).copied();
    found.ok_or_else(|| {
        let distance = |field: &Field| (strsim::damerau_levenshtein(name, field.name), field.name);
        let near = fields.iter().map(distance).filter(|(distance, name)| *distance <= name.len().div_ceil(3)).min();
        let known = fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ");
        FieldError::Unknown { name: name.to_owned(), near: near.map(|(_, name)| name), known }
    })
}

impl Operator {
    fn holds(self, found: Option<&Value>, value: &Value) -> bool {
        let Some(found) = found else { return self == Self::Unequal };
        let ordering = || found.as_f64()?.partial_cmp(&value.as_f64()?);
        match self {
            Self::Equal => equal(found, value),
            Self::Unequal => !equal(found, value),
            Self::Less => ordering().is_some_and(std::cmp::Ordering::is_lt),
            Self::AtMost => ordering().is_some_and(std::cmp::Ordering::is_le),
            Self::More => ordering().is_some_and(std::cmp::Ordering::is_gt),
            Self::AtLeast => ordering().is_some_and(std::cmp::Ordering::is_ge),
            Self::Holds => found.as_str().zip(value.as_str()).is_some_and(|(found, part)| found.contains(part)),
        }
    }
}

/// Numbers are equal by their value, however they are written.
fn equal(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one.total_cmp(&other).is_eq(),
        _ => one == other,
    }
}

/// Reads an expression from left to right.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn wrong(&self, expected: &'static str) -> FilterError {
        FilterError { at: self.at, expected }
    }

    /// Takes a sign, if it comes next.
    fn takes(&mut self, sign: &str) -> bool {
        let comes = self.rest().starts_with(sign);
        if comes {
            self.at += sign.len();
            self.skip();
        }
        comes
    }

    /// Takes a word, if it comes next as a whole.
    fn takes_word(&mut self, word: &str) -> bool {
        self.word() == word && self.takes(word)
    }

    /// The word that comes next; it may be empty.
    fn word(&self) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    fn any(&mut self) -> Result<Filter, FilterError> {
        let mut filter = self.all()?;
        while self.takes_word("or") {
            filter = Filter::Or(Box::new(filter), Box::new(self.all()?));
        }
        Ok(filter)
    }

    fn all(&mut self) -> Result<Filter, FilterError> {
        let mut filter = self.one()?;
        while self.takes_word("and") {
            filter = Filter::And(Box::new(filter), Box::new(self.one()?));
        }
        Ok(filter)
    }

    fn one(&mut self) -> Result<Filter, FilterError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong("fewer parentheses"));
        }
        let filter = if self.takes_word("not") {
            Filter::Not(Box::new(self.one()?))
        } else if self.takes("(") {
            let inner = self.any()?;
            if !self.takes(")") {
                return Err(self.wrong("\")\""));
            }
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(filter)
    }

    fn comparison(&mut self) -> Result<Filter, FilterError> {
        let field = self.word();
        if field.is_empty() || ["and", "or"].contains(&field) {
            return Err(self.wrong("the name of a field"));
        }
        self.takes(field);
        // The longer ones first.
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::Unequal),
            ("<=", Operator::AtMost),
            (">=", Operator::AtLeast),
            ("<", Operator::Less),
            (">", Operator::More),
            ("~", Operator::Holds),
        ];
        let Some((_, operator)) = operators.into_iter().find(|(sign, _)| self.takes(sign)) else {
            return match self.rest().chars().next() {
                None | Some(')' | 'a' | 'o') => Ok(Filter::Has(field.to_owned())),
                Some(_) => Err(self.wrong("== != < <= > >= ~")),
            };
        };
        let value = self.value()?;
        let is_ordered = matches!(operator, Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast);
        if is_ordered && !value.is_number() || operator == Operator::Holds && !value.is_string() {
            return Err(self.wrong(if is_ordered { "a number before this" } else { "a text before this" }));
        }
        Ok(Filter::Is(field.to_owned(), operator, value))
    }

    /// A JSON string, number or boolean; strings may stand in single quotes, which shells leave alone inside of double ones.
    fn value(&mut self) -> Result<Value, FilterError> {
        let rest = self.rest();
        let expected = "a \"text\", a number, true or false";
        let end = match rest.chars().next() {
            Some('\'') => {
                let inner =
                    rest.get(1..).and_then(|rest| rest.split_once('\'')).ok_or_else(|| self.wrong("a closing '"))?;
                self.at += inner.0.len() + 2;
                self.skip();
                return Ok(Value::from(inner.0));
            }
            Some('"') => closing(rest).ok_or_else(|| self.wrong("a closing \""))?,
            _ => rest.find(|c: char| c.is_whitespace() || c == ')').unwrap_or(rest.len()),
        };
        let value: Value =
            serde_json::from_str(rest.get(..end).unwrap_or_default()).map_err(|_no_value| self.wrong(expected))?;
        if !(value.is_string() || value.is_number() || value.is_boolean()) {
            return Err(self.wrong(expected));
        }
        self.at += end;
        self.skip();
        Ok(value)
    }
}

/// Where a string in double quotes ends.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at + 1)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_hold_for_the_lines_that_they_mean() {
        let line = json!({
            "cache": "miss", "ttfb": 0.25, "status": 200, "path": "/a b", "query": true, "reason": "uri-miss", "bytes": 1024
        });
        for (text, holds) in [
            ("", true),
            ("  ", true),
            (r#"cache=="miss" and ttfb>0.2"#, true),
            (r#"cache == 'miss' and ttfb > 0.3"#, false),
            (r#"cache=="hit" or status==200"#, true),
            (r#"cache=="hit" or cache=="miss" and status==404"#, false),
            (r#"(cache=="hit" or cache=="miss") and status==200"#, true),
            ("status==200.0", true),
            ("status>=200 and status<300", true),
            ("status<=199", false),
            (r#"path~" b""#, true),
            (r#"path ~ 'x'"#, false),
            (r#"path=="/a\u0020b""#, true),
            ("query==true", true),
            ("not query", false),
            ("error", false),
            ("reason and not error", true),
            (r#"error!="client-gone""#, true),
            (r#"error=="client-gone""#, false),
            ("ttl<5", false),
            ("ttl>=5", false),
            (r#"not (not (cache=="miss"))"#, true),
            (r#"cache=="200""#, false),
        ] {
            let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(filter.holds(&line), holds, "{text}");
        }
    }

    #[test]
    fn expressions_that_could_never_hold_are_refused() {
        let check = |text: &str| Filter::parse(text).unwrap().check(&LOG_FIELDS).map_err(|error| error.to_string());
        for right in
            ["", "cache==\"miss\" and ttfb>0.2", "not error", "query==true", "status!=200 or path~'x'", "ua~'bot'"]
        {
            assert_eq!(check(right), Ok(()), "{right}");
        }
        for (wrong, says) in [
            ("chache==\"miss\"", "no field \"chache\", did you mean \"cache\"? Known are: ts, node, site,"),
            ("not (cache=='hit' or stauts==404)", "did you mean \"status\"?"),
            ("frobnicate", "no field \"frobnicate\". Known are: ts"),
            ("Status==404", "did you mean \"status\"?"),
            ("status==\"404\"", "\"status\" is a number and never equal to \"404\": compare it as in status==5"),
            ("cache==200", "\"cache\" is a text"),
            ("method>5", "\"method\" is a text"),
            ("query=='a=b'", "\"query\" is true or absent"),
        ] {
            let said = check(wrong).unwrap_err();
            assert!(said.contains(says), "{wrong}: {said}");
        }
    }

    #[test]
    fn what_is_no_expression_says_where() {
        for (text, at, expected) in [
            ("cache=", 5, "== != < <= > >= ~"),
            ("cache==", 7, "a \"text\", a number, true or false"),
            ("cache==miss", 7, "a \"text\", a number, true or false"),
            ("cache==\"miss", 7, "a closing \""),
            ("cache==\"miss\" ttfb>1", 14, "\"and\", \"or\" or the end"),
            ("and", 0, "the name of a field"),
            ("cache==\"a\" and", 14, "the name of a field"),
            ("(status==1", 10, "\")\""),
            ("status==[1]", 8, "a \"text\", a number, true or false"),
            ("cache<\"a\"", 9, "a number before this"),
            ("status~5", 8, "a text before this"),
        ] {
            let error = Filter::parse(text).expect_err(text);
            assert_eq!((error.at, error.expected), (at, expected), "{text}");
        }
        assert!(Filter::parse(&"(".repeat(40)).is_err());
        assert!(Filter::parse(&"not ".repeat(1000)).is_err());
        assert!(Filter::parse(&format!("a=='{}'", "x".repeat(BYTES_MAX))).is_err());
    }
}
