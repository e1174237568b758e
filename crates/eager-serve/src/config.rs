//! What a server may use and how long it waits. Nothing here changes an answer.

use std::time::Duration;

use crate::Token;

/// Limits and times of a server. `Default` suits one machine of a few cores.
#[derive(Clone, Debug)]
pub struct Config {
    /// Longest body of a request, in bytes.
    pub max_body: usize,
    /// Most ids of a history, of which the model reads the newest, as many as its window has room for; and most names of a
    /// list's `categories`.
    pub max_history: usize,
    /// Longest list.
    pub max_k: usize,
    /// Requests that may wait for a worker; one more is answered 429.
    pub max_queue: usize,
    /// Most queries that a worker answers in one pass.
    pub max_batch: usize,
    /// Connections open at a time; further ones wait to be accepted.
    pub max_connections: usize,
    /// Threads that compute, at least one.
    pub workers: usize,
    /// How long a request may take, its body included, until it is answered 503.
    pub timeout: Duration,
    /// How long requests are still taken after the signal to stop, while `/readyz` says `draining`.
    pub linger: Duration,
    /// How long requests under way may go on after that.
    pub grace: Duration,
    /// What a client has to show below `/v1`.
    pub token: Option<Token>,
    /// Whether `/v1/admin` is served.
    pub admin: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body: 1 << 20,
            max_history: 1000,
            max_k: 100,
            max_queue: 256,
            max_batch: 16,
            max_connections: 1024,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            timeout: Duration::from_secs(10),
            linger: Duration::ZERO,
            grace: Duration::from_secs(10),
            token: None,
            admin: true,
        }
    }
}
