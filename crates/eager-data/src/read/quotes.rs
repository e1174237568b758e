//! Quotes of a CSV stream, followed on the way to the `csv` crate: that reads a quote which is never closed as one field to
//! the end of the file, and nobody would learn which quote it was.

use std::fmt;
use std::io::{Error, ErrorKind, Read};

/// The longest quoted field, bytes; a longer one is a quote left open, and the rest of a large file is not to be held.
const LONGEST: usize = 1 << 24;

/// A quote that is not closed; the error inside the [`std::io::Error`].
#[derive(Debug)]
pub(super) struct OpenQuote {
    /// Where it was opened, from 1.
    pub(super) line: usize,
}

impl fmt::Display for OpenQuote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the quote of line {} is not closed", self.line)
    }
}

impl std::error::Error for OpenQuote {}

/// Where in a record a byte stands; only a quote that begins a field quotes it, as in RFC 4180 and the `csv` crate.
#[derive(Copy, Clone, PartialEq, Eq)]
enum At {
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote within quotes: the field's end, or the first half of a doubled one.
    Closing,
}

/// A reader that fails with [`OpenQuote`] where a quoted field reaches the end of the stream, or beyond [`LONGEST`].
pub(super) struct Quotes<R> {
    inner: R,
    delimiter: u8,
    at: At,
    line: usize,
    opened: usize,
    quoted: usize,
}

impl<R: Read> Quotes<R> {
    pub(super) fn new(inner: R, delimiter: u8) -> Self {
        Self {
            inner,
            delimiter,
            at: At::FieldStart,
            line: 1,
            opened: 0,
            quoted: 0,
        }
    }

    fn follow(&mut self, bytes: &[u8]) {
        let unquoted = matches!(self.at, At::FieldStart | At::Plain);
        if let (true, Some(&last), false) = (unquoted, bytes.last(), bytes.contains(&b'"')) {
            self.line += bytes.iter().filter(|&&byte| byte == b'\n').count();
            self.at = self.plain(last);
            return;
        }
        for &byte in bytes {
            self.at = match (self.at, byte) {
                (At::FieldStart, b'"') => {
                    (self.opened, self.quoted) = (self.line, 0);
                    At::Quoted
                }
                (At::Quoted, b'"') => At::Closing,
                (At::Closing, b'"') => At::Quoted,
                (At::Quoted, _) => {
                    self.quoted += 1;
                    At::Quoted
                }
                (_, byte) => self.plain(byte),
            };
            self.line += usize::from(byte == b'\n');
        }
    }

    fn plain(&self, byte: u8) -> At {
        match byte == b'\n' || byte == self.delimiter {
            true => At::FieldStart,
            false => At::Plain,
        }
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.follow(&buffer[..n]);
        let ended = n == 0 && !buffer.is_empty();
        if self.at == At::Quoted && (ended || self.quoted > LONGEST) {
            let line = self.opened;
            return Err(Error::new(ErrorKind::InvalidData, OpenQuote { line }));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of the open quote, read `step` bytes at a time.
    fn open(text: &str, step: usize) -> Option<usize> {
        let mut quotes = Quotes::new(text.as_bytes(), b',');
        let mut buffer = vec![0; step];
        loop {
            match quotes.read(&mut buffer) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    let inner = error.get_ref().unwrap().downcast_ref::<OpenQuote>();
                    return Some(inner.unwrap().line);
                }
            }
        }
    }

    #[test]
    fn only_a_quote_left_open_is_told_and_by_its_own_line() {
        for (text, line) in [
            ("a,b\n1,2\n", None),
            ("a,b\n\"1\",\"2\n3\"\n", None),
            ("a,\"say \"\"so\"\"\"\n", None),
            ("a,5\" pipe\n", None),
            ("a,\"x\"\r\nb,c", None),
            ("a,b\n1,\"2\n3,4\n", Some(2)),
            ("a,b\n\"p\nq\",x\n1,\"2\"\"\n3,4\n5,6", Some(4)),
            ("a,b\n1,\"", Some(2)),
        ] {
            for step in [1, 2, 3, 1000] {
                assert_eq!(open(text, step), line, "{text:?} by {step}");
            }
        }
        let endless = format!("a\n\"{}\"\n", "x".repeat(LONGEST + 70_000));
        assert_eq!(open(&endless, 1 << 16), Some(2));
    }
}
