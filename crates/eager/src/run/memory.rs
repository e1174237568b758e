//! The process's peak memory, from Linux's `/proc`; other systems have no figure here.

/// Largest resident memory since [`reset_peak`], bytes (`VmHWM`).
pub(super) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Sets the peak to what is resident now, so that a stage is not charged with the one before. Where that is not allowed
/// the peak stays that of the whole process.
pub(super) fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5"); // 5: see proc(5)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_grows_with_what_is_touched() {
        let before = peak().unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = peak().unwrap();
        assert!(after >= before && after >= block.len() as u64);
    }
}
