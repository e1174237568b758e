//! Requests: who asks, what is tried again, and what a status means.

use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use crate::{Hub, HubError, RepositoryName, Result, Token};

/// Longest wait for a connection: without a network it is over quickly.
const REACH: Duration = Duration::from_secs(10);
/// Longest wait for the next bytes, either way.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pauses before a request is sent again.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Asks the hub, with the environment's token where there is one.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) agent: Agent,
    endpoint: String,
    token: Option<Token>,
}

/// What is being asked, for messages.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub repository: &'a RepositoryName,
    pub revision: &'a str,
    /// The file, where it is about one.
    pub file: &'a str,
    /// Whether it is about what the storage behind the hub has: its statuses say nothing of token and repository.
    pub storage: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(repository: &'a RepositoryName, revision: &'a str, file: &'a str) -> Self {
        Self {
            repository,
            revision,
            file,
            storage: false,
        }
    }

    fn what(&self) -> String {
        match self.file {
            "" => self.repository.to_string(),
            file => format!("{}/{file}", self.repository),
        }
    }
}

impl Hub {
    /// A client, unless the environment forbids it.
    ///
    /// # Errors
    /// [`HubError::Offline`]; [`HubError::TokenText`] where the token is none.
    pub fn client(&self) -> Result<Client> {
        if self.offline {
            return Err(HubError::Offline);
        }
        if let Some(Token(Err(place))) = &self.token {
            let place = place.clone();
            return Err(HubError::TokenText { place });
        }
        let config = Agent::config_builder()
            .timeout_resolve(Some(REACH))
            .timeout_connect(Some(REACH))
            .timeout_per_read(Some(PATIENCE))
            .timeout_per_write(Some(PATIENCE))
            .http_status_as_error(false)
            // A repository under its old name is redirected; the storage behind the hub must not see the token.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(concat!("eager/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Client {
            agent: config.into(),
            endpoint: self.address().to_owned(),
            token: self.token.clone(),
        })
    }
}

impl Client {
    /// The hub's address, without a slash behind.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether requests carry a token.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The request with the token, where there is one.
    pub(crate) fn signed<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(Token(Ok(token))) => request.header("authorization", format!("Bearer {token}")),
            _ => request,
        }
    }

    /// The good answer to a request, which is sent again where that may help.
    pub(crate) fn ask(
        &self,
        call: Call<'_>,
        mut send: impl FnMut() -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>> {
        let mut pauses = PAUSES.iter();
        loop {
            let answer = send();
            // A request that is none, of a wrong address for instance, is none the next time either.
            let sent = !matches!(&answer, Err(ureq::Error::Http(_) | ureq::Error::BadUri(_)));
            let found = self.once(call, answer);
            let again = match &found {
                Err(HubError::Unreachable { .. }) => sent,
                Err(HubError::Status { status, .. }) => *status == 429 || *status >= 500,
                _ => false,
            };
            match pauses.next() {
                Some(pause) if again => std::thread::sleep(*pause),
                _ => return found,
            }
        }
    }

    /// The answer to a request, if it is a good one.
    pub(crate) fn once(
        &self,
        call: Call<'_>,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>> {
        let mut answer = answer.map_err(|error| HubError::Unreachable {
            endpoint: self.endpoint.clone(),
            reason: error.to_string(),
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let body = answer.body_mut().read_to_string().unwrap_or_default();
        Err(self.refusal(call, answer.status().as_u16(), answer.headers(), &body))
    }

    fn refusal(&self, call: Call<'_>, status: u16, headers: &HeaderMap, body: &str) -> HubError {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let (what, repository) = (call.what(), call.repository.to_string());
        let said = said(header("x-error-message"), body);
        let no_repository = HubError::NoRepository {
            repository: repository.clone(),
            token: self.has_token(),
        };
        if call.storage {
            return HubError::Status { what, status, said };
        }
        match (status, header("x-error-code")) {
            (_, Some("RepoNotFound")) => no_repository,
            (_, Some("RevisionNotFound")) => HubError::NoRevision {
                repository,
                revision: call.revision.to_owned(),
            },
            (_, Some("EntryNotFound")) => HubError::NoFile {
                repository,
                file: call.file.to_owned(),
            },
            // The hub tells nobody whether a private repository is there.
            (401, _) if !self.has_token() => no_repository,
            (401, _) => HubError::Token { what, said },
            (403, _) => HubError::Forbidden { what, said },
            (404, _) => no_repository,
            (412, _) => HubError::Changed { repository },
            _ => HubError::Status { what, status, said },
        }
    }

    /// The JSON of an answer.
    pub(crate) fn json<T: DeserializeOwned>(
        call: Call<'_>,
        mut answer: Response<Body>,
    ) -> Result<T> {
        let fault = |fault: String| HubError::Answer {
            what: call.what(),
            fault,
        };
        let body = answer.body_mut().read_to_string();
        let body = body.map_err(|error| fault(error.to_string()))?;
        serde_json::from_str(&body).map_err(|error| fault(error.to_string()))
    }
}

/// The reason that an answer gives: in a header, as JSON, or in the first words of its body.
pub(crate) fn said(header: Option<&str>, body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Reason {
        error: String,
    }
    let reason = serde_json::from_str(body).map(|Reason { error }| error);
    let words = reason.ok().or_else(|| header.map(str::to_owned));
    let words = words.unwrap_or_else(|| body.lines().next().unwrap_or("").to_owned());
    match words.trim() {
        "" => "without a reason".to_owned(),
        words => words.chars().take(300).collect(),
    }
}
