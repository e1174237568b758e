//! `report.html`: what a run came to, to be looked at. Made from the files of the run's folder alone, of which any may
//! still be missing; the same folder gives the same page.

mod codes;
mod curves;
mod files;
mod hits;
mod overview;
mod users;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use maud::{Markup, html};

use crate::cli::print;
use crate::html::{document, section};
use crate::run::write_atomic;

use files::RunFiles;

pub(crate) use files::name as run_name;

/// Name of the page in the run's folder.
const NAME: &str = "report.html";

/// Which run, and where the page goes.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A run's folder: runs/DATASET/NAME
    ///
    /// It may be unfinished: the page then holds what there is.
    pub run: PathBuf,

    /// The file to write; otherwise report.html in the run's folder
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Writes the page and prints its path.
///
/// # Errors
/// When the folder is none of a run, one of its files cannot be read, or the page cannot be written.
pub fn run(args: &ReportArgs) -> Result<()> {
    let path = args.out.clone().unwrap_or_else(|| args.run.join(NAME));
    write_atomic(&path, page(&args.run)?.as_bytes())?;
    print(path.display())
}

/// Writes the page into the folder of a run that has just ended. The run's figures are there by then, so a page that cannot
/// be made is a warning.
pub(crate) fn write(run: &Path) {
    let path = run.join(NAME);
    let written = page(run).and_then(|page| write_atomic(&path, page.as_bytes()));
    match written {
        Ok(()) => tracing::info!("report: {}", path.display()),
        Err(error) => tracing::warn!(
            "no {}: {error:#}; to try again: eager report {}",
            path.display(),
            run.display()
        ),
    }
}

/// The page of a run's folder.
///
/// # Errors
/// When the folder is none of a run, or one of its files cannot be read.
pub fn page(run: &Path) -> Result<String> {
    let files = RunFiles::read(run)?;
    let title = format!("{} · {}", files.dataset_name(), files.name);
    let eager = match files.has_direct_head() {
        true => "EAGER+",
        false => "EAGER",
    };
    let model = files.baseline().unwrap_or(eager);
    let mut parts = overview::parts(&files)?;
    parts.extend(hits::parts(&files)?);
    parts.extend(curves::parts(&files)?);
    parts.extend(users::part(&files)?);
    parts.extend(codes::part(&files)?);
    parts.extend([overview::stages(&files), overview::settings(&files)]);
    let body = html! {
        header {
            h1 { (model) " on " (title) }
            (overview::head(&files))
            nav aria-label="Sections" {
                ul { @for part in &parts { li { a href={ "#" (part.id) } { (part.title) } } } }
            }
        }
        @for part in &parts { (section(part.id, part.title, &part.caption, &part.body)) }
    };
    Ok(document(&format!("{model}: {title}"), &body))
}

/// A section of the page.
struct Part {
    id: &'static str,
    title: &'static str,
    /// What to see in it.
    caption: String,
    body: Markup,
}
