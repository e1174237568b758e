//! EAGER: the two-stream generative recommender. Training loops, pipeline, run folders and the command.

pub mod baseline;
pub mod bundle;
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod html;
#[cfg(feature = "hub")]
pub mod hub;
pub mod init;
pub mod logs;
pub mod overrides;
pub mod page;
pub mod pipeline;
pub mod recommend;
pub mod report;
pub mod run;
pub mod seed;
pub mod serve;
pub mod shell;
pub mod stages;
pub mod table;
pub mod tables;
pub mod train;
pub mod vectors;

/// The example of the workspace's README, compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
