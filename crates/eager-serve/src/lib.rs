#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod api;
mod batch;
mod config;
mod error;
mod extract;
mod health;
mod metrics;
mod models;
mod openapi;
mod page;
mod patience;
mod router;
mod search;
mod server;
mod state;
mod token;

pub use config::Config;
pub use error::{Result, ServeError};
pub use models::{Open, Source};
pub use router::router;
pub use server::{bind, run, serve};
pub use state::App;
pub use token::Token;
