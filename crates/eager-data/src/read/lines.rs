//! A text file, plain or gzip, line by line with line numbers; every reader of this crate stands on it.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use super::quotes::OpenQuote;
use crate::error::LineFault;
use crate::{DataError, Result};

/// How much of a file has been read.
#[derive(Clone, Default)]
pub(crate) struct Meter {
    read: Rc<Cell<u64>>,
    size: u64,
}

impl Meter {
    /// Bytes of the file as it lies there (packed, where it is packed) that were read, and all of them.
    pub(crate) fn of(&self) -> (u64, u64) {
        (self.read.get(), self.size)
    }
}

struct Metered {
    file: File,
    meter: Meter,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.meter.read.set(self.meter.read.get() + n as u64);
        Ok(n)
    }
}

/// The file's name in small letters without `.gz`, and whether it ends in that: then the file is packed with gzip.
pub(crate) fn name(path: &Path) -> (String, bool) {
    let name = super::short(path).to_ascii_lowercase();
    match name.strip_suffix(".gz") {
        Some(unpacked) => (unpacked.to_owned(), true),
        None => (name, false),
    }
}

/// Opens `path`, through gzip where its name ends in `.gz`.
///
/// # Errors
/// When the file cannot be opened or holds no byte.
pub(crate) fn open(path: &Path) -> Result<(Box<dyn BufRead>, Meter)> {
    let file = File::open(path).map_err(DataError::io(path, "open"))?;
    let size = file.metadata().map_err(DataError::io(path, "read"))?.len();
    if size == 0 {
        return Err(DataError::Empty {
            path: path.to_owned(),
        });
    }
    let meter = Meter {
        read: Rc::default(),
        size,
    };
    let file = Metered {
        file,
        meter: meter.clone(),
    };
    let file = BufReader::with_capacity(1 << 16, file);
    if name(path).1 {
        let unpacked = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file));
        return Ok((Box::new(unpacked), meter));
    }
    Ok((Box::new(file), meter))
}

/// The lines of a file, without their line ends.
pub(crate) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    meter: Meter,
    buffer: Vec<u8>,
    number: usize,
}

impl Lines {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (reader, meter) = open(path)?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            meter,
            buffer: Vec::new(),
            number: 0,
        })
    }

    /// Those of standard input; faults name it as the file.
    pub(crate) fn standard_input() -> Self {
        Self {
            path: PathBuf::from("standard input"),
            reader: Box::new(std::io::stdin().lock()),
            meter: Meter::default(),
            buffer: Vec::new(),
            number: 0,
        }
    }

    /// The next line, or `None` at the end of the file; the first one without a byte order mark.
    ///
    /// # Errors
    /// With the line's number when it cannot be read or is not UTF-8; at the end of a file without a line.
    pub(crate) fn next(&mut self) -> Result<Option<&str>> {
        self.buffer.clear();
        let read = self.reader.read_until(b'\n', &mut self.buffer);
        if let Err(error) = read {
            return Err(read_error(error, &self.path, self.number + 1));
        }
        if self.buffer.is_empty() {
            return match self.number {
                0 => Err(DataError::Empty {
                    path: self.path.clone(),
                }),
                _ => Ok(None),
            };
        }
        self.number += 1;
        while matches!(self.buffer.last(), Some(b'\n' | b'\r')) {
            self.buffer.pop();
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(line) if self.number == 1 => Ok(Some(line.strip_prefix('\u{feff}').unwrap_or(line))),
            Ok(line) => Ok(Some(line)),
            Err(error) => {
                Err(LineFault::NotUtf8(error.valid_up_to() + 1).at(&self.path, self.number))
            }
        }
    }

    /// How much of the file has been read.
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Number of the line last returned, from 1; 0 before the first.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// `fault` at the line last returned.
    pub(crate) fn at(&self, fault: LineFault) -> DataError {
        fault.at(&self.path, self.number)
    }
}

/// A failed read of `line`: an open quote and gzip's own faults are told from the system's.
pub(crate) fn read_error(error: std::io::Error, path: &Path, line: usize) -> DataError {
    let quote = error.get_ref().and_then(|inner| inner.downcast_ref());
    if let Some(&OpenQuote { line }) = quote {
        return LineFault::OpenQuote.at(path, line);
    }
    if name(path).1 {
        match error.kind() {
            ErrorKind::UnexpectedEof => return LineFault::TruncatedGzip.at(path, line),
            ErrorKind::InvalidInput | ErrorKind::InvalidData => {
                return LineFault::DamagedGzip(error.to_string()).at(path, line);
            }
            _ => {}
        }
    }
    DataError::Io {
        path: path.to_owned(),
        action: "read",
        source: error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn all(path: &Path) -> Result<Vec<String>> {
        let mut lines = Lines::open(path)?;
        let mut out = Vec::new();
        while let Some(line) = lines.next()? {
            out.push(line.to_owned());
        }
        assert_eq!(out.len(), lines.number());
        Ok(out)
    }

    #[test]
    fn plain_gzip_and_concatenated_gzip_read_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, zipped) = (folder.path().join("a.txt"), folder.path().join("a.txt.gz"));
        let loud = folder.path().join("B.TXT.GZ");
        std::fs::write(&plain, "one\r\ntwo\n\nfour").unwrap();
        let mut members = gzip("one\ntw");
        members.extend(gzip("o\n\nfour\n"));
        std::fs::write(&zipped, &members).unwrap();
        std::fs::write(&loud, &members).unwrap();
        for path in [&plain, &zipped, &loud] {
            assert_eq!(all(path).unwrap(), ["one", "two", "", "four"]);
        }
        std::fs::write(&loud, &members[..members.len() - 1]).unwrap();
        let message = all(&loud).unwrap_err().to_string();
        assert!(message.contains("cut short"), "{message}");
    }

    /// Where it is a mark, which is at the beginning of the file alone.
    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, zipped) = (folder.path().join("a.txt"), folder.path().join("a.txt.gz"));
        let text = "\u{feff}one\n\u{feff}two\n";
        std::fs::write(&plain, text).unwrap();
        std::fs::write(&zipped, gzip(text)).unwrap();
        for path in [&plain, &zipped] {
            assert_eq!(all(path).unwrap(), ["one", "\u{feff}two"]);
        }
    }

    #[test]
    fn faults_name_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt.gz");
        let text: String = (0..20_000u32)
            .map(|i| format!("{}\n", i.wrapping_mul(2_654_435_761)))
            .collect();
        let bytes = gzip(&text);

        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let message = all(&path).unwrap_err().to_string();
        let line: usize = message.split(':').nth(1).unwrap().parse().unwrap();
        assert!((5_000..15_000).contains(&line), "{message}");
        assert!(
            message.contains("a.txt.gz") && message.contains("cut short"),
            "{message}"
        );

        let mut damaged = bytes.clone();
        let middle = bytes.len() - 6;
        damaged[middle] ^= 0xff;
        std::fs::write(&path, damaged).unwrap();
        let message = all(&path).unwrap_err().to_string();
        assert!(
            message.contains("a.txt.gz:20001: damaged gzip"),
            "{message}"
        );

        let path = folder.path().join("b.txt");
        std::fs::write(&path, b"good\nba\xffd\n").unwrap();
        let message = all(&path).unwrap_err().to_string();
        assert!(
            message.contains("b.txt:2: byte 3 of the line is not UTF-8"),
            "{message}"
        );

        std::fs::write(&path, b"").unwrap();
        assert!(matches!(all(&path), Err(DataError::Empty { .. })));
        std::fs::write(path.with_extension("gz"), gzip("")).unwrap();
        assert!(matches!(
            all(&path.with_extension("gz")),
            Err(DataError::Empty { .. })
        ));
    }
}
