//! `eager serve`: bundles and runs over HTTP, by [`eager_serve`].

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use eager_bundle::Bundle;
use eager_serve::{App, Config, Open, Source, Token};

use crate::bundle;
use crate::cli::{DeviceKind, Usage, chain};
use crate::recommend::one_or_more;

/// Which models, where, and within which limits.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Serve {
    /// Folders of bundles, or of runs trained up to stage `model`; each may be given a name
    ///
    /// Without one a model is named as its bundle is. Requests that name no model go to the first.
    #[arg(required = true, value_name = "[NAME=]BUNDLE|RUN")]
    pub models: Vec<String>,

    /// Address and port; with another address than loopback, other machines can ask
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub bind: SocketAddr,

    /// A file with the token that clients have to show (Authorization: Bearer …); otherwise the variable EAGER_TOKEN
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Threads that compute; otherwise as many as there are cores
    #[arg(long, value_name = "N", value_parser = one_or_more)]
    pub workers: Option<NonZeroUsize>,

    /// Most queries that a worker answers in one pass
    #[arg(long, value_name = "N", default_value = "16", value_parser = one_or_more)]
    pub max_batch: NonZeroUsize,

    /// Requests that may wait for a worker; one more is answered 429
    #[arg(long, value_name = "N", default_value = "256", value_parser = one_or_more)]
    pub max_queue: NonZeroUsize,

    /// Connections open at a time; further ones wait
    #[arg(long, value_name = "N", default_value = "1024", value_parser = one_or_more)]
    pub max_connections: NonZeroUsize,

    /// Longest body of a request
    #[arg(long, value_name = "BYTES", default_value = "1048576", value_parser = one_or_more)]
    pub max_body: NonZeroUsize,

    /// Most ids of a history, and most names of `categories`
    #[arg(long, value_name = "N", default_value = "1000", value_parser = one_or_more)]
    pub max_history: NonZeroUsize,

    /// Longest list
    #[arg(long, value_name = "N", default_value = "100", value_parser = one_or_more)]
    pub max_k: NonZeroUsize,

    /// How long a request may take until it is answered 503
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = some_seconds)]
    pub timeout: Duration,

    /// After the signal to stop: how long requests are still taken, while /readyz says so to a load balancer
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub linger: Duration,

    /// After that: how long requests under way may go on
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub grace: Duration,

    /// Where tensors live
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceKind,

    /// What the log is written in
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub log_format: LogFormat,
}

/// Forms of the log.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines to read.
    Text,
    /// An object a line.
    Json,
}

const EXAMPLES: &str = "\
The page at / shows lists, reasons and trees; /docs says what can be asked, /openapi.json says it to programs. /healthz and
/readyz are for probes, /metrics for Prometheus.

Examples:
  eager serve beauty                                        a bundle, on http://127.0.0.1:8080
  eager serve runs/demo/paper                               a run, as the bundle that it would be exported as
  eager serve old=beauty new=beauty-2 --bind 0.0.0.0:80 --token-file token
  curl -H 'content-type: application/json' -d '{\"history\": [\"item-0012\", \"item-0007\"], \"k\": 5}' 127.0.0.1:8080/v1/recommend

Signals: SIGHUP opens every folder again, and where that fails the old model goes on; SIGTERM and SIGINT finish what is under
way, a second one does not.";

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let expected = || "expected a number of seconds, such as 10 or 0.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| expected())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| expected())
}

fn some_seconds(text: &str) -> std::result::Result<Duration, String> {
    let some = seconds(text)?;
    match some.is_zero() {
        true => Err("expected more than 0 seconds".to_owned()),
        false => Ok(some),
    }
}

/// `NAME=FOLDER` or a folder; a folder with `=` in its name is given as `./…`.
fn source(text: &str) -> Source {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !name.contains('/') => Source {
            name: Some(name.to_owned()),
            folder: folder.into(),
        },
        _ => Source {
            name: None,
            folder: text.into(),
        },
    }
}

impl Serve {
    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// When the address is taken, a model cannot be opened, or the token is none.
    pub fn run(&self) -> Result<()> {
        let device = self.device.open()?;
        let token = self.token()?;
        let local = self.bind.ip().is_loopback();
        if !local && token.is_none() {
            tracing::warn!(
                "{}: other machines can ask without a token; give --token-file, or put a proxy in front",
                self.bind
            );
        }
        let config = Config {
            max_body: self.max_body.get(),
            max_history: self.max_history.get(),
            max_k: self.max_k.get(),
            max_queue: self.max_queue.get(),
            max_batch: self.max_batch.get(),
            max_connections: self.max_connections.get(),
            workers: self
                .workers
                .map_or(Config::default().workers, NonZeroUsize::get),
            timeout: self.timeout,
            linger: self.linger,
            grace: self.grace,
            admin: local || token.is_some(),
            token,
        };
        // A line of the log like the others, whatever their form.
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        let listener = eager_serve::bind(self.bind)?;
        let sources: Vec<Source> = self.models.iter().map(|text| source(text)).collect();
        let open = move |folder: &Path| -> Result<Bundle> {
            let mut bundle = bundle::open(folder, &device)?;
            bundle::with_digest(&mut bundle)?;
            Ok(bundle)
        };
        // With its causes, as a client of `/v1/admin/reload` sees one line of it.
        let open: Box<Open> =
            Box::new(move |folder| open(folder).map_err(|error| chain(&error).into()));
        let load = move || App::new(config, &sources, open);
        Ok(eager_serve::run(listener, load)?)
    }

    fn token(&self) -> Result<Option<Token>> {
        if let Some(file) = &self.token_file {
            return Ok(Some(Token::read(file)?));
        }
        match std::env::var("EAGER_TOKEN") {
            Ok(text) => Ok(Some(Token::new(&text, "EAGER_TOKEN")?)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(error) => Err(Usage::new(&anyhow!("EAGER_TOKEN: {error}")).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_and_seconds() {
        let named = source("a=b/c=d");
        assert_eq!(
            (named.name.as_deref(), named.folder.as_path()),
            (Some("a"), Path::new("b/c=d"))
        );
        for text in ["b/c", "./a=b", "=b"] {
            let plain = source(text);
            assert_eq!((plain.name, plain.folder), (None, PathBuf::from(text)));
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(
            ["-1", "x", "NaN", "1e99", "inf"]
                .iter()
                .all(|text| seconds(text).is_err())
        );
    }
}
