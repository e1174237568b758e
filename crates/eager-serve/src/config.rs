//! What a server may use and how long it waits. Nothing here changes an answer.

use std::time::Duration;

use crate::{Result, ServeError, Token};

/// Limits and times of a server. `Default` suits one machine of a few cores. Every limit is at least 1.
#[derive(Clone, Debug)]
pub struct Config {
    /// Longest body of a request, in bytes; at most [`Config::MOST_BYTES`], the other limits at most
    /// [`Config::MOST`].
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
    /// Threads that compute, at most [`Config::MOST_WORKERS`].
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
            workers: std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(Self::MOST_WORKERS),
            timeout: Duration::from_secs(10),
            linger: Duration::ZERO,
            grace: Duration::from_secs(10),
            token: None,
            admin: true,
        }
    }
}

impl Config {
    /// What a limit may be at most.
    pub const MOST: usize = 1_000_000;
    /// What `max_body` may be at most, a GiB.
    pub const MOST_BYTES: usize = 1 << 30;
    /// What `workers` may be at most: each is a thread, and a thread of every model.
    pub const MOST_WORKERS: usize = 1024;

    /// Makes sure that every limit is one.
    pub(crate) fn check(&self) -> Result<()> {
        let limits = [
            ("max_body", self.max_body, Self::MOST_BYTES),
            ("max_history", self.max_history, Self::MOST),
            ("max_k", self.max_k, Self::MOST),
            ("max_queue", self.max_queue, Self::MOST),
            ("max_batch", self.max_batch, Self::MOST),
            ("max_connections", self.max_connections, Self::MOST),
            ("workers", self.workers, Self::MOST_WORKERS),
        ];
        let wrong = |&(_, found, most): &(&str, usize, usize)| !(1..=most).contains(&found);
        match limits.into_iter().find(wrong) {
            Some((name, found, most)) => Err(ServeError::Limit { name, found, most }),
            None => Ok(()),
        }
    }
}
