//! Runs as processes of their own, which SIGTERM ends together with this one.

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

/// This program, for [`Children::run`]: on Linux as it is now, whatever a build puts in the place of its file later.
pub(super) fn this_program() -> io::Result<PathBuf> {
    match cfg!(target_os = "linux") {
        true => Ok(PathBuf::from("/proc/self/exe")),
        false => std::env::current_exe(),
    }
}

/// Starts one process at a time and waits for it.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct Children {
    /// Whether none is running: SIGTERM then does what it always does.
    none: std::sync::Arc<std::sync::atomic::AtomicBool>,
    /// Whether SIGTERM has come.
    asked: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

#[cfg(unix)]
mod unix {
    use std::os::unix::process::CommandExt as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::time::Duration;

    use signal_hook::consts::SIGTERM;
    use signal_hook::{flag, low_level};

    use super::*;

    /// How long SIGTERM may wait.
    const PAUSE: Duration = Duration::from_millis(100);

    impl Children {
        pub(in super::super) fn new() -> io::Result<Self> {
            let none = Arc::new(AtomicBool::new(true));
            let asked = Arc::new(AtomicBool::new(false));
            flag::register_conditional_default(SIGTERM, Arc::clone(&none))?;
            flag::register(SIGTERM, Arc::clone(&asked))?;
            Ok(Self { none, asked })
        }

        /// Where SIGTERM comes before the process has ended, it is killed (a run goes on from its checkpoint) and so is this
        /// one, as if it had not waited.
        pub(in super::super) fn run(&self, command: &mut Command) -> io::Result<ExitStatus> {
            command.arg0("eager"); // what it calls itself, whatever its file is called
            self.none.store(false, SeqCst);
            let mut child = command.spawn()?;
            let status = loop {
                if self.asked.load(SeqCst) {
                    child.kill()?;
                    child.wait()?;
                    low_level::emulate_default_handler(SIGTERM)?;
                }
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                std::thread::sleep(PAUSE);
            };
            self.none.store(true, SeqCst);
            Ok(status)
        }
    }
}

/// Starts one process at a time and waits for it.
#[cfg(not(unix))]
#[derive(Debug)]
pub(super) struct Children;

#[cfg(not(unix))]
impl Children {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) fn run(&self, command: &mut Command) -> io::Result<ExitStatus> {
        command.status()
    }
}
