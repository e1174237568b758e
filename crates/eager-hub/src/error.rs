//! What can go wrong between this machine and a repository, and what to do then.

use std::path::PathBuf;

/// `Result` with this crate's error.
pub type Result<T, E = HubError> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// No name of a repository.
    #[error(
        "{name:?} is no name of a repository: {fault}; expected OWNER/NAME, such as my-name/beauty"
    )]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The hub is not to be asked.
    #[error("HF_HUB_OFFLINE is set, and this needs the hub; unset it")]
    Offline,
    /// A token with characters that no token has, and no request can carry.
    #[error(
        "{place}: is no token, it has characters that are not visible ASCII (a blank or a line break within it, for instance); \
         give the token alone, as the hub shows it"
    )]
    TokenText {
        /// Where it is from: a variable or a file.
        place: String,
    },
    /// No name of a branch, a tag or a commit.
    #[error("{revision:?} is no revision; expected a branch, a tag or a commit, such as main")]
    Revision {
        /// What was given.
        revision: String,
    },
    /// There is no folder for the cache.
    #[error("there is no home folder for the hub's cache; set HF_HOME")]
    NoCache,
    /// Nobody is logged in.
    #[error(
        "{repository}: no token, and only who may write there can push; make a token with the right to write in the settings \
         of {endpoint}, and put it into HF_TOKEN or save it with `hf auth login`"
    )]
    NoToken {
        /// The repository.
        repository: String,
        /// The hub's address.
        endpoint: String,
    },
    /// No answer.
    #[error(
        "the hub at {endpoint} cannot be reached ({reason}); check the network, HTTPS_PROXY and HF_ENDPOINT, and try again"
    )]
    Unreachable {
        /// Its address.
        endpoint: String,
        /// How it ended.
        reason: String,
    },
    /// Status 401.
    #[error(
        "{what}: the hub does not accept the token (401: {said}); it may have expired or been deleted: make another one, and \
         put it into HF_TOKEN or save it with `hf auth login`"
    )]
    Token {
        /// What was being done.
        what: String,
        /// The hub's words.
        said: String,
    },
    /// Status 403.
    #[error(
        "{what}: the token does not allow it (403: {said}); it must have the right to it (write, to push) for this owner and \
         this repository"
    )]
    Forbidden {
        /// What was being done.
        what: String,
        /// The hub's words.
        said: String,
    },
    /// No such repository, or none that the token may see.
    #[error(
        "{repository}: the hub has no such repository, or it is private and {} may not read it; check the name{}",
        if *.token { "the token" } else { "nobody without a token" },
        if *.token { "" } else { ", or put a token into HF_TOKEN" }
    )]
    NoRepository {
        /// Its name.
        repository: String,
        /// Whether a token was given.
        token: bool,
    },
    /// No such branch, tag or commit.
    #[error(
        "{repository} has no branch, tag or commit {revision:?}; its branches and tags are listed on its page"
    )]
    NoRevision {
        /// The repository.
        repository: String,
        /// What was asked for.
        revision: String,
    },
    /// No such file.
    #[error("{repository} has no file {file}")]
    NoFile {
        /// The repository.
        repository: String,
        /// What was asked for.
        file: String,
    },
    /// Another status, or one that stayed through all tries.
    #[error(
        "{what}: the hub answers with status {status}: {said}; if it stays so, look whether it is in order"
    )]
    Status {
        /// What was being done.
        what: String,
        /// The status.
        status: u16,
        /// The hub's words.
        said: String,
    },
    /// An answer that is not as the hub's interface says.
    #[error(
        "{what}: the hub's answer is not as expected: {fault}; is HF_ENDPOINT the address of a hub?"
    )]
    Answer {
        /// What was being done.
        what: String,
        /// What is wrong with it.
        fault: String,
    },
    /// A transfer that broke off each time.
    #[error(
        "{file}: the transfer broke off at {done} of {total} bytes ({reason}); what is there is kept, give the command again to go on"
    )]
    Broken {
        /// The file.
        file: String,
        /// Bytes that are there.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// How it ended.
        reason: String,
    },
    /// A file that is not what it must be.
    #[error("{file}: {fault}; it was not kept")]
    Altered {
        /// The file.
        file: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The hub took up another change meanwhile.
    #[error(
        "{repository} was changed while this was being pushed; look at its history, and give the command again"
    )]
    Changed {
        /// The repository.
        repository: String,
    },
    /// A file of this machine.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being tried, as a verb.
        action: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
}

#[cfg(feature = "network")]
impl HubError {
    /// A maker of [`HubError::Io`] for `map_err`.
    pub(crate) fn io(
        path: &std::path::Path,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }
}
