//! The socket: listening, connections, signals, and an end without a dropped request.

use std::convert::Infallible;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt as _;

use crate::patience::Patient;
use crate::{App, Config, Result, ServeError, router};

/// How long a client may take for a request's head, a connection may do nothing, and an answer may wait for a client that does
/// not read it.
const PATIENCE: Duration = Duration::from_secs(30);

// A semaphore of more panics.
const _: () = assert!(Config::MOST <= Semaphore::MAX_PERMITS);

/// Takes an address, so that one that is taken is said before anything is loaded.
///
/// # Errors
/// When it cannot be listened on.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source| ServeError::Bind { address, source })
}

/// Serves what `load` opens until SIGTERM or SIGINT; SIGHUP reloads every model. Signals are heard from the start: one that
/// asks to stop does not wait for models to be loaded, a SIGHUP does.
///
/// # Errors
/// When `load` fails, or the system refuses a thread, a signal or the socket.
pub fn run(
    listener: TcpListener,
    load: impl FnOnce() -> Result<Arc<App>> + Send + 'static,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let hangups = hangups()?;
        let mut stop = std::pin::pin!(stop_signal()?);
        let app = tokio::select! {
            app = tokio::task::spawn_blocking(load) => match app {
                Ok(app) => app?,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return Ok(()), // a task that nobody cancels
                },
            },
            () = &mut stop => return Ok(()),
        };
        let reloads = tokio::spawn(reload_on(hangups, app.clone()));
        let served = serve(app, listener, stop).await;
        reloads.abort();
        served
    });
    // What is still under way has had its time.
    runtime.shutdown_background();
    served
}

#[cfg(unix)]
fn stop_signal() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(async move {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: finishing what is under way");
        tokio::spawn(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("asked to stop again: stopping at once");
            std::process::exit(1);
        });
    })
}

#[cfg(not(unix))]
fn stop_signal() -> Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

#[cfg(unix)]
type Hangups = tokio::signal::unix::Signal;
#[cfg(not(unix))]
type Hangups = ();

#[cfg(unix)]
fn hangups() -> Result<Hangups> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok(signal(SignalKind::hangup())?)
}

#[cfg(not(unix))]
fn hangups() -> Result<Hangups> {
    Ok(())
}

#[cfg(unix)]
async fn reload_on(mut hangups: Hangups, app: Arc<App>) {
    while hangups.recv().await.is_some() {
        tracing::info!("SIGHUP: reloading");
        app.reload_all().await;
    }
}

#[cfg(not(unix))]
async fn reload_on(_: Hangups, _: Arc<App>) {}

/// Serves on `listener` until `stop`; then takes requests for `linger` more, and gives those under way `grace`.
///
/// # Errors
/// When the socket cannot be used.
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let address = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let connections = Connections::new(app.clone());
    tracing::info!("listening on http://{address}");
    let (linger, grace) = (app.config.linger, app.config.grace);
    let stop = async {
        stop.await;
        app.drain();
        tokio::time::sleep(linger).await;
    };
    tokio::select! {
        () = accept(&listener, &connections) => {}
        () = stop => {}
    }
    drop(listener);
    let ended = tokio::time::timeout(grace, connections.graceful.shutdown()).await;
    if ended.is_err() {
        tracing::warn!(
            "some requests were not done after {} s and are dropped",
            grace.as_secs_f64()
        );
    }
    let closing = tokio::task::spawn_blocking(move || app.close());
    // A worker in the middle of a long pass for nobody is not waited for.
    if ended.is_ok() {
        let _ = closing.await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// What connections share.
struct Connections {
    app: Arc<App>,
    router: axum::Router,
    free: Arc<Semaphore>,
    graceful: GracefulShutdown,
    /// How long an answer may wait for a client that does not read it.
    patience: Duration,
}

impl Connections {
    fn new(app: Arc<App>) -> Self {
        Self {
            router: router(app.clone()),
            free: Arc::new(Semaphore::new(app.config.max_connections)),
            graceful: GracefulShutdown::new(),
            patience: PATIENCE,
            app,
        }
    }

    /// Serves one connection, on a task of its own.
    fn spawn(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let router = self.router.clone();
        let service = tower::service_fn(move |request: hyper::Request<Incoming>| {
            let router = router.clone();
            async move { Ok::<_, Infallible>(answer(router, request.map(axum::body::Body::new)).await) }
        });
        let stream = Patient::new(stream, self.patience);
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = self.graceful.watch(connection);
        let open = self.app.metrics.connections.clone();
        open.inc();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("connection: {error}");
            }
            open.dec();
            drop(permit);
        });
    }
}

async fn answer(router: axum::Router, request: Request) -> axum::response::Response {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Takes connections as long as it is polled.
async fn accept(listener: &tokio::net::TcpListener, connections: &Connections) {
    loop {
        let Ok(permit) = connections.free.clone().acquire_owned().await else {
            return; // the semaphore is never closed
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                connections.spawn(stream, permit);
            }
            // Of one connection, or no file is left: neither ends the server.
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[cfg(unix)]
    #[test]
    fn signals_are_heard_while_models_are_loaded() {
        let began = std::time::Instant::now();
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let load = || {
            // The default of both would be the end of this process.
            for signal in ["-HUP", "-TERM"] {
                let sent = std::process::Command::new("kill")
                    .args([signal, &std::process::id().to_string()])
                    .status();
                assert!(sent.unwrap().success());
            }
            std::thread::sleep(Duration::from_secs(30));
            unreachable!("it was asked to stop")
        };
        run(listener, load).unwrap();
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn whoever_asks_and_does_not_read_makes_room_for_others() {
        let config = Config {
            max_connections: 1,
            workers: 1,
            ..Config::default()
        };
        let app = App::new(config, &[], Box::new(|_| Err("none".into()))).unwrap();
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let connections = Connections {
                    patience: Duration::from_millis(200),
                    ..Connections::new(app)
                };
                accept(&listener, &connections).await;
            });
        });
        let connect = || {
            let client = std::net::TcpStream::connect(address).unwrap();
            let limit = Some(Duration::from_secs(10));
            client.set_write_timeout(limit).unwrap();
            client.set_read_timeout(limit).unwrap();
            client
        };
        // Until the server, which cannot be rid of its answers, takes no more questions, or closes the connection.
        let mut deaf = connect();
        let ask = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
        while deaf.write_all(ask.as_bytes()).is_ok() {}

        let mut other = connect();
        let ask = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        other.write_all(ask.as_bytes()).unwrap();
        let mut answer = String::new();
        other.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(deaf);
    }
}
