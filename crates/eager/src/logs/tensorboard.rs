//! TensorBoard's event files: records framed as TFRecord, each an `Event` in protobuf, written by hand.
//!
//! The few fields that scalars need (tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto):
//! `Event { double wall_time = 1; int64 step = 2; oneof { string file_version = 3; Summary summary = 5; SessionLog
//! session_log = 7 } }`, `Summary { repeated Value { string tag = 1; float simple_value = 2 } value = 1 }`, `SessionLog {
//! status = 1 }`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

/// Writes scalars for `tensorboard --logdir`.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    file: File,
}

impl TensorBoard {
    /// Starts a new event file in `folder`, made if need be. A loop that goes on after step `resumed` begins it with the
    /// mark of a restart, by which the viewer drops what earlier files say of later steps. Without `resumed`, earlier
    /// event files are deleted.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn open(folder: &Path, resumed: Option<u64>) -> Result<Self> {
        let failed = || format!("{}: cannot create an event file", folder.display());
        if resumed.is_none() && folder.exists() {
            std::fs::remove_dir_all(folder).with_context(failed)?;
        }
        std::fs::create_dir_all(folder).with_context(failed)?;
        // The viewer reads the files in the order of their names.
        let taken = std::fs::read_dir(folder).with_context(failed)?.count();
        let seconds = now() as u64;
        let name = format!("events.out.tfevents.{seconds:010}.{taken:06}.eager");
        let path = folder.join(name);
        let file = File::create_new(&path).with_context(failed)?;
        let mut board = Self { path, file };
        board.event(0, &bytes(3, b"brain.Event:2"))?;
        if let Some(resumed) = resumed {
            const START: u64 = 1;
            board.event(resumed + 1, &bytes(7, &integer(1, START)))?;
        }
        Ok(board)
    }

    /// Adds scalars of a step.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn log(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let value = |&(tag, value): &(&str, f64)| {
            let value = [bytes(1, tag.as_bytes()), single(2, value as f32)].concat();
            bytes(1, &value)
        };
        let summary: Vec<u8> = values.iter().flat_map(value).collect();
        self.event(step, &bytes(5, &summary))
    }

    fn event(&mut self, step: u64, what: &[u8]) -> Result<()> {
        let event = [&double(1, now()), &integer(2, step), what].concat();
        let written = self.file.write_all(&framed(&event));
        written.with_context(|| format!("{}: cannot write", self.path.display()))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

/// A TFRecord: length, its checksum, the bytes, theirs (tensorflow/core/lib/io/record_writer.h).
fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let checks = [masked(&length), masked(data)].map(u32::to_le_bytes);
    [&length, &checks[0][..], data, &checks[1]].concat()
}

/// CRC-32C, rotated and moved, since checksums of data with checksums in them are no good (tensorflow/core/lib/hash/crc32c.h).
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

// Protobuf's wire types: a field is its number · 8 + type, then the value.

fn integer(field: u8, value: u64) -> Vec<u8> {
    [vec![field << 3], varint(value)].concat()
}

fn double(field: u8, value: f64) -> Vec<u8> {
    [&[field << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2], &varint(value.len() as u64)[..], value].concat()
}

fn single(field: u8, value: f32) -> Vec<u8> {
    [&[field << 3 | 5][..], &value.to_le_bytes()].concat()
}

/// Seven bits a byte, lowest first, the eighth set where more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of a message: number and value, integers and fixed values as their bits.
    #[derive(Debug, PartialEq)]
    enum Field<'a> {
        Number(u64, u64),
        Bytes(u64, &'a [u8]),
    }

    fn read_varint(data: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = data[0];
            *data = &data[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
            shift += 7;
        }
    }

    fn fields(mut data: &[u8]) -> Vec<Field<'_>> {
        let mut found = Vec::new();
        while !data.is_empty() {
            let key = read_varint(&mut data);
            let field = key >> 3;
            found.push(match key & 7 {
                0 => Field::Number(field, read_varint(&mut data)),
                1 => {
                    let (value, rest) = data.split_at(8);
                    data = rest;
                    Field::Number(field, u64::from_le_bytes(value.try_into().unwrap()))
                }
                2 => {
                    let length = read_varint(&mut data) as usize;
                    let (value, rest) = data.split_at(length);
                    data = rest;
                    Field::Bytes(field, value)
                }
                5 => {
                    let (value, rest) = data.split_at(4);
                    data = rest;
                    let bits = u32::from_le_bytes(value.try_into().unwrap());
                    Field::Number(field, u64::from(bits))
                }
                other => panic!("wire type {other}"),
            });
        }
        found
    }

    fn records(path: &Path) -> Vec<Vec<u8>> {
        let data = std::fs::read(path).unwrap();
        let (mut data, mut found) = (&data[..], Vec::new());
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        while !data.is_empty() {
            let length = u64::from_le_bytes(data[..8].try_into().unwrap()) as usize;
            assert_eq!(number(&data[8..12]), masked(&data[..8]));
            let (record, rest) = data[12..].split_at(length);
            assert_eq!(number(&rest[..4]), masked(record));
            found.push(record.to_vec());
            data = &rest[4..];
        }
        found
    }

    #[test]
    fn records_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::open(folder.path(), Some(300)).unwrap();
        board
            .log(301, &[("loss", 0.5), ("valid/ndcg@10", -2.0)])
            .unwrap();
        let records = records(&board.path);
        assert_eq!(records.len(), 3);
        let first = fields(&records[0]);
        assert_eq!(first[2], Field::Bytes(3, b"brain.Event:2"));
        let Field::Number(1, time) = first[0] else {
            panic!("{first:?}")
        };
        assert!((f64::from_bits(time) - now()).abs() < 60.0);

        let restart = fields(&records[1]);
        assert_eq!(restart[1], Field::Number(2, 301));
        assert_eq!(restart[2], Field::Bytes(7, &[8, 1]));

        let scalars = fields(&records[2]);
        assert_eq!(scalars[1], Field::Number(2, 301));
        let Field::Bytes(5, summary) = scalars[2] else {
            panic!("{scalars:?}")
        };
        let expected = [("loss", 0.5f32), ("valid/ndcg@10", -2.0)];
        let values = fields(summary);
        assert_eq!(values.len(), 2);
        for (value, (tag, figure)) in values.iter().zip(expected) {
            let Field::Bytes(1, value) = value else {
                panic!("{value:?}")
            };
            let figure = u64::from(figure.to_bits());
            let value = fields(value);
            assert_eq!(
                value,
                [Field::Bytes(1, tag.as_bytes()), Field::Number(2, figure)]
            );
        }
    }

    /// RFC 3720's check value, and TensorFlow's mask of it by hand.
    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        // 0xe3069283 rotated right by 15, plus 0xa282ead8.
        assert_eq!(masked(b"123456789"), 0xc78a_b0e5);
        assert_eq!(varint(300), [0xac, 2]);
    }
}
