//! `eager serve`: bundles and runs over HTTP, by [`eager_serve`].

use std::env::VarError;
use std::net::SocketAddr;
use std::num::{IntErrorKind, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use eager_bundle::Bundle;
use eager_serve::{App, Config, Open, Source, Token};

use crate::bundle;
use crate::cli::{DeviceKind, Usage, chain};

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
    #[arg(long, value_name = "N", value_parser = up_to(Config::MOST_WORKERS))]
    pub workers: Option<NonZeroUsize>,

    /// Most queries that a worker answers in one pass
    #[arg(long, value_name = "N", default_value = "16", value_parser = up_to(Config::MOST))]
    pub max_batch: NonZeroUsize,

    /// Requests that may wait for a worker; one more is answered 429
    #[arg(long, value_name = "N", default_value = "256", value_parser = up_to(Config::MOST))]
    pub max_queue: NonZeroUsize,

    /// Connections open at a time; further ones wait
    #[arg(long, value_name = "N", default_value = "1024", value_parser = up_to(Config::MOST))]
    pub max_connections: NonZeroUsize,

    /// Longest body of a request
    #[arg(long, value_name = "BYTES", default_value = "1048576", value_parser = up_to(Config::MOST_BYTES))]
    pub max_body: NonZeroUsize,

    /// Most ids of a history, and most names of `categories`
    #[arg(long, value_name = "N", default_value = "1000", value_parser = up_to(Config::MOST))]
    pub max_history: NonZeroUsize,

    /// Longest list
    #[arg(long, value_name = "N", default_value = "100", value_parser = up_to(Config::MOST))]
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

/// A number from 1 to `most`.
fn up_to(
    most: usize,
) -> impl Fn(&str) -> std::result::Result<NonZeroUsize, String> + Clone + Send + Sync + 'static {
    move |text: &str| {
        let too_large = || format!("too large, the most is {most}");
        match text.parse::<NonZeroUsize>() {
            Ok(number) if number.get() <= most => Ok(number),
            Ok(_) => Err(too_large()),
            Err(error) if *error.kind() == IntErrorKind::PosOverflow => Err(too_large()),
            Err(_) => Err(format!("expected a whole number from 1 to {most}")),
        }
    }
}

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
    /// [`Usage`] when there is no such device, or the token is none; when the address is taken, or a model cannot be opened.
    pub fn run(&self) -> Result<()> {
        let device = self.device.open()?;
        let variable = std::env::var("EAGER_TOKEN");
        let token = token(self.token_file.as_deref(), variable)?;
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
}

/// The token of a file, otherwise that of the variable `EAGER_TOKEN`.
fn token(
    file: Option<&Path>,
    variable: std::result::Result<String, VarError>,
) -> Result<Option<Token>> {
    let token = match (file, variable) {
        (Some(file), _) => Token::read(file),
        (None, Ok(text)) => Token::new(&text, "EAGER_TOKEN"),
        (None, Err(VarError::NotPresent)) => return Ok(None),
        // Its own words show what the variable holds.
        (None, Err(VarError::NotUnicode(_))) => {
            let words =
                "the token of EAGER_TOKEN is not UTF-8; a token is of visible ASCII characters";
            return Err(Usage::new(&anyhow!(words)).into());
        }
    };
    let token = token.map_err(|error| Usage::new(&error.into()))?;
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parsed(args: &[&str]) -> std::result::Result<Cli, clap::Error> {
        let command = ["eager", "serve", "bundle"].into_iter();
        Cli::try_parse_from(command.chain(args.iter().copied()))
    }

    #[test]
    fn a_limit_has_two_ends() {
        for (option, most) in [
            ("--workers", Config::MOST_WORKERS),
            ("--max-batch", Config::MOST),
            ("--max-queue", Config::MOST),
            ("--max-connections", Config::MOST),
            ("--max-body", Config::MOST_BYTES),
            ("--max-history", Config::MOST),
            ("--max-k", Config::MOST),
        ] {
            let said = |value: &str| parsed(&[option, value]).unwrap_err().to_string();
            let more = (most + 1).to_string();
            for value in [&more[..], "18446744073709551615", "99999999999999999999"] {
                let text = said(value);
                let words = format!("too large, the most is {most}");
                assert!(text.contains(&words) && text.contains(option), "{text}");
            }
            for value in ["0", "1.5", "many"] {
                let text = said(value);
                let words = format!("expected a whole number from 1 to {most}");
                assert!(text.contains(&words), "{text}");
            }
            assert!(parsed(&[option, "1"]).is_ok() && parsed(&[option, &most.to_string()]).is_ok());
        }
    }

    #[test]
    fn a_poor_token_is_wrong_usage_and_is_not_shown() {
        let said = |file: Option<&Path>, variable| {
            let error = token(file, variable).unwrap_err();
            assert!(error.is::<Usage>(), "{error}");
            error.to_string()
        };
        let none = || Err(VarError::NotPresent);
        assert!(said(None, Ok("short".to_owned())).contains("5 characters"));
        assert!(said(None, Ok(" ".to_owned())).contains("EAGER_TOKEN is empty"));
        let held = VarError::NotUnicode("correct-horse-battery".into());
        let text = said(None, Err(held));
        assert!(
            text.contains("EAGER_TOKEN is not UTF-8") && !text.contains("correct"),
            "{text}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(said(Some(path.as_path()), none()).contains("cannot be read"));
        std::fs::write(&path, "\n").unwrap();
        assert!(said(Some(path.as_path()), none()).contains("is empty"));
        std::fs::write(&path, b"correct-horse-\xff").unwrap();
        assert!(!said(Some(path.as_path()), none()).contains("correct"));
        assert!(token(None, none()).unwrap().is_none());
        let good = token(None, Ok("correct-horse-battery".to_owned()));
        assert!(good.unwrap().is_some());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_the_build_lacks_is_wrong_usage() {
        let cli = parsed(&["--device", "cuda"]).unwrap();
        let Command::Serve(serve) = &cli.command else {
            panic!("{cli:?}");
        };
        let error = serve.run().unwrap_err();
        assert!(
            error.is::<Usage>() && error.to_string().contains("--features cuda"),
            "{error}"
        );
    }

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
