//! A folder that is written beside its place, under a hidden name of its own (`.NAME.` and numbers, `.new`), and renamed when
//! it is whole. It is locked while it is written, so that the next one of that name knows what a killed process has left.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Result;
use crate::manifest::io;

/// A new folder beside a place. It is removed in the end, unless it was renamed.
#[derive(Debug)]
pub(crate) struct Beside {
    path: PathBuf,
    /// The lock.
    _held: Option<File>,
}

impl Beside {
    /// Makes one for `place`, and the folders above; removes those that processes that are gone have left there.
    pub(crate) fn new(place: &Path) -> Result<Self> {
        let Some(name) = place.file_name() else {
            return Err(io(place, "write")(ErrorKind::InvalidInput.into()));
        };
        let parent = match place.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(parent).map_err(io(parent, "make the folder"))?;
        remove_left(parent, name);
        loop {
            let path = parent.join(hidden(name));
            match std::fs::create_dir(&path) {
                // By another thread, within a tick of the clock.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                made => made.map_err(io(&path, "make the folder"))?,
            }
            let held = match lock(&path) {
                Lock::Ours(file) => Some(file),
                Lock::Unknown => None,
                Lock::Taken => continue,
            };
            // Who saw it before it was locked took it for one that was left.
            if path.is_dir() {
                return Ok(Self { path, _held: held });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path); // not there any more where all went well
    }
}

/// Who has a folder.
enum Lock {
    /// This value, until it is dropped or the process ends.
    Ours(File),
    /// Another one.
    Taken,
    /// Only on Unix can a folder be opened as a file, and some network file systems have no locks.
    Unknown,
}

fn lock(folder: &Path) -> Lock {
    if cfg!(not(unix)) {
        return Lock::Unknown;
    }
    let Ok(file) = File::open(folder) else {
        return Lock::Unknown;
    };
    match file.try_lock() {
        Ok(()) => Lock::Ours(file),
        Err(TryLockError::WouldBlock) => Lock::Taken,
        Err(TryLockError::Error(_)) => Lock::Unknown,
    }
}

/// A name that nothing else has or had.
fn hidden(name: &OsStr) -> OsString {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = since.unwrap_or_default().as_nanos();
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}-{nanos}.new", std::process::id()));
    hidden
}

fn is_hidden(found: &OsStr, name: &OsStr) -> bool {
    let rest = found.as_encoded_bytes().strip_prefix(b".");
    let rest = rest.and_then(|rest| rest.strip_prefix(name.as_encoded_bytes()));
    let rest = rest.and_then(|rest| rest.strip_prefix(b"."));
    let rest = rest.and_then(|rest| rest.strip_suffix(b".new"));
    rest.is_some_and(|rest| rest.iter().all(|&b| b.is_ascii_digit() || b == b'-'))
}

/// What cannot be looked at or removed is no reason not to write.
fn remove_left(parent: &Path, name: &OsStr) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if !is_hidden(&entry.file_name(), name) {
            continue;
        }
        let path = entry.path();
        if let Lock::Ours(_held) = lock(&path) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_those_of_others() {
        let name = OsStr::new("shop");
        assert!(is_hidden(&hidden(name), name));
        for other in [
            "shop",
            "shop.1-2.new",
            ".shop.new",
            ".shop.2.1-2.new",
            ".shopping.1-2.new",
            ".shop.1-2.part",
            ".shop.a.new",
        ] {
            assert!(!is_hidden(OsStr::new(other), name), "{other}");
        }
    }
}
