//! Python literals, as the 2014 Amazon metadata has them: one `dict` a line, written by Python 2's `repr`.
//!
//! Read are `None`, `True`, `False`, numbers, strings (with or without `u`, `r` or `b`, single or double quotes,
//! adjacent literals joined), lists, tuples and dicts. Left out are expressions, complex numbers and sets.

use crate::error::LineFault;

/// A value written as a Python literal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    None,
    Bool(bool),
    /// Integers too: the metadata's fit in 53 bits.
    Number(f64),
    Text(String),
    /// Lists and tuples.
    List(Vec<Literal>),
    /// In the order written; a repeated key is kept twice and the last one counts, as in Python.
    Dict(Vec<(Literal, Literal)>),
}

impl Literal {
    /// The value of `key` in a dict.
    pub(crate) fn get(&self, key: &str) -> Option<&Literal> {
        match self {
            Literal::Dict(entries) => entries
                .iter()
                .rev()
                .find(|(k, _)| matches!(k, Literal::Text(k) if k == key))
                .map(|(_, v)| v),
            _ => None,
        }
    }
}

/// Deepest nesting read; the metadata's is 3.
const MAX_DEPTH: usize = 64;

/// Reads one literal that fills `text`.
///
/// # Errors
/// With the column (in bytes, from 1) of what is no literal.
pub(crate) fn parse(text: &str) -> Result<Literal, LineFault> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    parser.space();
    match parser.peek() {
        None => Ok(value),
        Some(c) => Err(parser.fault(format!("`{c}` after the end of the literal"))),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn fault(&self, message: String) -> LineFault {
        LineFault::Python {
            column: self.at + 1,
            message,
        }
    }

    fn expected(&self, what: &str) -> LineFault {
        match self.peek() {
            Some(c) => self.fault(format!("`{c}` where {what} should be")),
            None => self.fault(format!("the line ends where {what} should be")),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Literal, LineFault> {
        if depth > MAX_DEPTH {
            return Err(self.fault(format!("nested deeper than {MAX_DEPTH}")));
        }
        self.space();
        match self.peek() {
            Some('{') => self.dict(depth),
            Some('[') => self.sequence(']', depth),
            Some('(') => self.sequence(')', depth),
            Some('0'..='9' | '.' | '-' | '+') => self.number(),
            Some('\'' | '"') => self.strings(),
            Some(c) if c.is_ascii_alphabetic() => self.word(),
            _ => Err(self.expected("a value")),
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Literal, LineFault> {
        self.eat('{');
        let mut entries = Vec::new();
        loop {
            self.space();
            if self.eat('}') {
                return Ok(Literal::Dict(entries));
            }
            let key = self.value(depth + 1)?;
            self.space();
            if !self.eat(':') {
                return Err(self.expected("`:`"));
            }
            entries.push((key, self.value(depth + 1)?));
            self.space();
            if !self.eat(',') && self.peek() != Some('}') {
                return Err(self.expected("`,` or `}`"));
            }
        }
    }

    /// A list or a tuple; `(x)` is `x`, as in Python.
    fn sequence(&mut self, end: char, depth: usize) -> Result<Literal, LineFault> {
        self.next();
        let (mut values, mut comma) = (Vec::new(), false);
        loop {
            self.space();
            if self.eat(end) {
                return Ok(match values.pop() {
                    Some(only) if end == ')' && !comma && values.is_empty() => only,
                    Some(last) => {
                        values.push(last);
                        Literal::List(values)
                    }
                    None => Literal::List(values),
                });
            }
            values.push(self.value(depth + 1)?);
            self.space();
            if self.eat(',') {
                comma = true;
            } else if self.peek() != Some(end) {
                return Err(self.expected(&format!("`,` or `{end}`")));
            }
        }
    }

    fn number(&mut self) -> Result<Literal, LineFault> {
        let rest = self.rest();
        let mut end = 0;
        for (i, c) in rest.char_indices() {
            let sign_in_exponent =
                matches!(c, '-' | '+') && (i == 0 || rest[..i].ends_with(['e', 'E']));
            if !(c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '_') || sign_in_exponent) {
                break;
            }
            end = i + c.len_utf8();
        }
        let value = rest[..end].replace('_', "").parse::<f64>();
        match value {
            Ok(value) if value.is_finite() => {
                self.at += end;
                self.eat('L'); // Python 2's long integers
                Ok(Literal::Number(value))
            }
            _ => Err(self.fault(format!("`{}` is no number", &rest[..end]))),
        }
    }

    /// `None`, `True`, `False`, or the prefix of a string.
    fn word(&mut self) -> Result<Literal, LineFault> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let (word, next) = rest.split_at(end);
        let value = match word {
            "None" => Literal::None,
            "True" => Literal::Bool(true),
            "False" => Literal::Bool(false),
            "u" | "U" | "b" | "B" | "r" | "R" | "ur" | "br" if next.starts_with(['\'', '"']) => {
                return self.strings();
            }
            _ => return Err(self.fault(format!("`{word}` is no literal"))),
        };
        self.at += end;
        Ok(value)
    }

    /// One string literal or several beside each other, which Python joins.
    fn strings(&mut self) -> Result<Literal, LineFault> {
        let mut text = String::new();
        loop {
            let raw = self.prefix();
            self.string(raw, &mut text)?;
            let end = self.at;
            self.space();
            let rest = self.rest();
            let another = rest
                .trim_start_matches(['u', 'U', 'b', 'B', 'r', 'R'])
                .starts_with(['\'', '"']);
            if !another {
                self.at = end;
                return Ok(Literal::Text(text));
            }
        }
    }

    /// Skips a string's prefix; whether it makes the string raw.
    fn prefix(&mut self) -> bool {
        let mut raw = false;
        while let Some(c @ ('u' | 'U' | 'b' | 'B' | 'r' | 'R')) = self.peek() {
            raw |= matches!(c, 'r' | 'R');
            self.next();
        }
        raw
    }

    fn string(&mut self, raw: bool, text: &mut String) -> Result<(), LineFault> {
        let start = self.at;
        let Some(quote) = self.next() else {
            return Err(self.expected("a string"));
        };
        loop {
            match self.next() {
                None => {
                    self.at = start;
                    return Err(self.fault("a string without an end".to_owned()));
                }
                Some(c) if c == quote => return Ok(()),
                Some('\\') if raw => {
                    text.push('\\');
                    text.extend(self.next());
                }
                Some('\\') => self.escape(text)?,
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), LineFault> {
        let start = self.at - 1;
        let code = match self.next() {
            Some('x') => self.digits(2, 16),
            Some('u') => self.digits(4, 16).and_then(|high| self.surrogates(high)),
            Some('U') => self.digits(8, 16),
            Some('0'..='7') => {
                self.at -= 1;
                let octal = self
                    .rest()
                    .bytes()
                    .take(3)
                    .take_while(|b| matches!(b, b'0'..=b'7'))
                    .count();
                self.digits(octal, 8)
            }
            Some(c) => {
                let plain = match c {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'v' => '\u{b}',
                    '\\' | '\'' | '"' => c,
                    // An unknown escape stands for itself, backslash and all.
                    other => {
                        text.push('\\');
                        other
                    }
                };
                text.push(plain);
                return Ok(());
            }
            None => None,
        };
        match code.and_then(char::from_u32) {
            Some(c) => {
                text.push(c);
                Ok(())
            }
            None => {
                self.at = start;
                Err(self.fault("an escape that is no character".to_owned()))
            }
        }
    }

    /// `count` digits of `radix` as a number.
    fn digits(&mut self, count: usize, radix: u32) -> Option<u32> {
        let digits = self.rest().get(..count)?;
        if !digits.bytes().all(|b| char::from(b).is_digit(radix)) {
            return None;
        }
        let value = u32::from_str_radix(digits, radix).ok()?;
        self.at += count;
        Some(value)
    }

    /// Joins a surrogate pair `\ud83d\ude00`, as narrow builds of Python 2 wrote what lies above U+FFFF.
    fn surrogates(&mut self, high: u32) -> Option<u32> {
        if !(0xD800..0xDC00).contains(&high) {
            return Some(high);
        }
        self.at += self.rest().strip_prefix("\\u").map(|_| 2)?;
        let low = self
            .digits(4, 16)
            .filter(|low| (0xDC00..0xE000).contains(low))?;
        Some(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Literal {
        Literal::Text(s.to_owned())
    }

    #[test]
    fn reads_what_repr_writes() {
        let line = r#"{'asin': 'B000', u'title': "O'Neill \"x\"", 'price': 4.99, 'n': -3L, 'ok': True, 'no': None,
            'categories': [['Beauty', 'Hair Care'], ('a',), (1), ()], 'f': 1e-3,}"#
            .replace('\n', " ");
        let value = parse(&line).unwrap();
        assert_eq!(value.get("asin"), Some(&text("B000")));
        assert_eq!(value.get("title"), Some(&text("O'Neill \"x\"")));
        assert_eq!(value.get("price"), Some(&Literal::Number(4.99)));
        assert_eq!(value.get("n"), Some(&Literal::Number(-3.0)));
        assert_eq!(value.get("ok"), Some(&Literal::Bool(true)));
        assert_eq!(value.get("no"), Some(&Literal::None));
        assert_eq!(value.get("f"), Some(&Literal::Number(0.001)));
        assert_eq!(value.get("absent"), None);
        let categories = Literal::List(vec![
            Literal::List(vec![text("Beauty"), text("Hair Care")]),
            Literal::List(vec![text("a")]),
            Literal::Number(1.0),
            Literal::List(vec![]),
        ]);
        assert_eq!(value.get("categories"), Some(&categories));
    }

    #[test]
    fn escapes_are_those_of_python() {
        for (written, meant) in [
            (r"'a\nb\t\\\'\x41\101\0'", "a\nb\t\\'AA\0"),
            (r"'caf\u00e9 \U0001F600 \ud83d\ude00'", "café 😀 😀"),
            (r"'\d stays'", r"\d stays"),
            (r"r'\n \' raw'", r"\n \' raw"),
            ("'joined ' \"by\" u' python'", "joined by python"),
            ("'déjà'", "déjà"),
            ("''", ""),
        ] {
            assert_eq!(parse(written).unwrap(), text(meant), "{written}");
        }
    }

    #[test]
    fn faults_say_the_column() {
        for (written, column, words) in [
            ("{'a': }", 7, "`}` where a value"),
            ("{'a' 1}", 6, "where `:`"),
            ("{'a': 'open", 7, "without an end"),
            ("[1, 2", 6, "the line ends where `,` or `]`"),
            ("{'a': 1} x", 10, "after the end"),
            ("{'a': nan}", 7, "`nan` is no literal"),
            ("{'a': 1e999}", 7, "no number"),
            (r"'ab\xg0'", 4, "an escape"),
            (r"'\ud800'", 2, "an escape"),
            ("", 1, "the line ends"),
            ("é", 1, "where a value"),
        ] {
            match parse(written) {
                Err(LineFault::Python {
                    column: at,
                    message,
                }) => {
                    assert_eq!(at, column, "{written}: {message}");
                    assert!(message.contains(words), "{written}: {message}");
                }
                other => panic!("{written}: {other:?}"),
            }
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(
            parse(&deep),
            Err(LineFault::Python { column: 66, .. })
        ));
    }

    /// Whatever the bytes, the parser returns: every cut and every changed byte of a good line.
    #[test]
    fn broken_lines_never_panic() {
        let line =
            r#"{'t': "a\u00e9\x41\\", 'p': -1.5e3, 'c': [['é', u'b'], (1, None)], 'k': 'x' "y"}"#;
        assert!(parse(line).is_ok());
        for cut in (0..line.len()).filter(|&i| line.is_char_boundary(i)) {
            assert!(parse(&line[..cut]).is_err(), "{}", &line[..cut]);
            for c in ['\'', '\\', '{', ']', '0', 'u', 'é', '\u{0}'] {
                let mut changed: Vec<char> = line.chars().collect();
                if cut < changed.len() {
                    changed[cut] = c;
                    let _ = parse(&changed.into_iter().collect::<String>());
                }
            }
        }
    }
}
