//! What a file is written in, from its name and its first bytes; or why it cannot be read, and what to do.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::read::lines;
use crate::read::rows::{Kind, TableFile};
use crate::{DataError, Result};

/// Bytes looked at.
const LOOK: u64 = 1 << 16;

/// The table at `path`, and the delimiter that a manifest has to name because the file's name does not tell it.
pub(super) fn sniff(path: &Path) -> Result<(TableFile, Option<char>)> {
    let refuse = |message: String| DataError::Table {
        path: path.to_owned(),
        message,
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let packed = first_bytes(path)?;
    let (lower, gz) = lines::name(path);
    let told = match packed.as_slice() {
        [0x1f, 0x8b, ..] if !gz => Some(format!("is packed with gzip; call it {name}.gz")),
        [0x1f, 0x8b, ..] => None,
        _ if gz => Some("is not packed with gzip as its name says; take the .gz off".to_owned()),
        [b'P', b'K', 3, 4, ..] => {
            Some("is a zip archive or a workbook; unpack it, or save the sheet as CSV".to_owned())
        }
        [b'P', b'A', b'R', b'1', ..] if !lower.ends_with(".parquet") => {
            Some(format!("is a Parquet file; call it {name}.parquet"))
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Some("is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)".to_owned())
        }
        _ => None,
    };
    if let Some(message) = told {
        return Err(refuse(message));
    }
    let kind = Kind::of(path);
    if let Ok(kind @ (Kind::Parquet | Kind::Jsonl | Kind::Atomic)) = kind {
        let path = path.to_owned();
        return Ok((TableFile { path, kind }, None));
    }
    let head = first_text(path)?;
    match head
        .trim_start_matches('\u{feff}')
        .trim_start()
        .chars()
        .next()
    {
        Some('{') => return Err(refuse("holds JSON objects; call it .jsonl".to_owned())),
        Some('[') if lower.ends_with(".json") => {
            let advice = "is one JSON array; write an object a line: jq -c '.[]' FILE > FILE.jsonl";
            return Err(refuse(advice.to_owned()));
        }
        _ => {}
    }
    let usual = match kind {
        Ok(Kind::Tsv) => Some('\t'),
        Ok(_) => Some(','),
        Err(_) => None,
    };
    let found = delimiter(&head, usual);
    let Some(found) = found.or(usual) else {
        return Err(refuse(
            "is no table that can be read: write it as .csv, .tsv, .jsonl (each also .gz) or .parquet".to_owned(),
        ));
    };
    let named = (Some(found) != usual).then_some(found);
    Ok((TableFile::new(path, named)?, named))
}

/// The first bytes as they lie there.
fn first_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(DataError::io(path, "open"))?;
    let read = file.take(8).read_to_end(&mut bytes);
    read.map_err(DataError::io(path, "read"))?;
    Ok(bytes)
}

/// The first lines, unpacked.
fn first_text(path: &Path) -> Result<String> {
    let (stream, _) = lines::open(path)?;
    let mut bytes = Vec::new();
    let read = stream.take(LOOK).read_to_end(&mut bytes);
    read.map_err(|error| lines::read_error(error, path, 1))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What separates the fields: the usual one where the header has it, else the one that most of the first lines have as
/// often as the header.
fn delimiter(head: &str, usual: Option<char>) -> Option<char> {
    let lines: Vec<&str> = head.lines().take(20).collect();
    let header = lines.first()?;
    if usual.is_some_and(|usual| header.contains(usual)) {
        return usual;
    }
    let agreeing = |&delimiter: &char| {
        let wanted = header.matches(delimiter).count();
        let same = lines
            .iter()
            .filter(|line| line.matches(delimiter).count() == wanted);
        (wanted > 0).then(|| (same.count(), wanted))
    };
    let found = ['\t', ';', ',', '|']
        .into_iter()
        .filter(|c| agreeing(c).is_some());
    found.max_by_key(agreeing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sniffed(name: &str, bytes: &[u8]) -> std::result::Result<(Kind, Option<char>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let found = sniff(&path).map_err(|error| error.to_string())?;
        Ok((found.0.kind, found.1))
    }

    #[test]
    fn names_and_first_bytes_tell() {
        for (name, bytes, kind, delimiter) in [
            ("a.csv", "u,i\n1,2\n", Kind::Csv(b','), None),
            ("a.CSV", "one\n1\n", Kind::Csv(b','), None),
            (
                "a.csv",
                "u;i;when\n1;2;\"3,4\"\n",
                Kind::Csv(b';'),
                Some(';'),
            ),
            ("a.csv", "u\ti\n1\t2\n", Kind::Csv(b'\t'), Some('\t')),
            ("a.tsv", "u\ti\n1\t2\n", Kind::Tsv, None),
            ("a.tsv", "u,i\n1,2\n", Kind::Csv(b','), Some(',')),
            ("a.txt", "u|i\n1|2\n", Kind::Csv(b'|'), Some('|')),
            ("a.jsonl", "{}\n", Kind::Jsonl, None),
            ("a.inter", "u:token\ti:token\n", Kind::Atomic, None),
            ("a.parquet", "PAR1", Kind::Parquet, None),
            ("A.PARQUET", "PAR1", Kind::Parquet, None),
        ] {
            assert_eq!(
                sniffed(name, bytes.as_bytes()),
                Ok((kind, delimiter)),
                "{name}"
            );
        }
        let packed = b"\x1f\x8b\x08";
        assert_eq!(sniffed("A.INTER.GZ", packed), Ok((Kind::Atomic, None)));
    }

    #[test]
    fn what_cannot_be_read_says_what_to_do() {
        for (name, bytes, words) in [
            ("a.csv", &b"\x1f\x8b\x08"[..], "call it a.csv.gz"),
            ("a.csv.gz", b"u,i\n", "take the .gz off"),
            ("a.xlsx", b"PK\x03\x04", "save the sheet as CSV"),
            ("a.bin", b"PAR1....", "call it a.bin.parquet"),
            ("a.csv", b"\xff\xfeu\0", "iconv -f UTF-16"),
            ("a.json", b"{\"u\": 1}\n", "call it .jsonl"),
            ("a.json", b"[{\"u\": 1}]", "jq -c"),
            ("a.txt", b"word\n", "no table"),
            ("a.csv", b"", "is empty"),
        ] {
            let message = sniffed(name, bytes).unwrap_err();
            assert!(
                message.contains(words) && message.contains(name),
                "{message}"
            );
        }
    }
}
