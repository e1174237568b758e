//! What is below `/v1`: a module a resource, each with the types of its requests and answers.

pub(crate) mod admin;
pub(crate) mod categories;
pub(crate) mod explain;
pub(crate) mod items;
pub(crate) mod models;
pub(crate) mod recommend;
pub(crate) mod tree;

use std::collections::BTreeMap;

use eager_bundle::Bundle;
use eager_model::Stream;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, ToSchema};

use crate::error::{ApiError, ApiResult};

/// Answers that are errors, by their status.
type Refusals = BTreeMap<String, RefOr<Response>>;

/// What every route below `/v1` may answer instead.
pub(crate) struct Refused;

impl IntoResponses for Refused {
    fn responses() -> Refusals {
        refusals(&[
            (401, "The server has a token, and this is not it"),
            (
                500,
                "A fault of the server; its log has the reason under the request's id",
            ),
        ])
    }
}

/// What a route with a body may answer instead.
pub(crate) struct BadBody;

impl IntoResponses for BadBody {
    fn responses() -> Refusals {
        refusals(&[
            (400, "The body is not JSON"),
            (413, "The body is longer than this server takes"),
            (415, "The body is not said to be JSON"),
            (503, LATE),
        ])
    }
}

/// What a route that computes may answer instead.
pub(crate) struct Busy;

impl IntoResponses for Busy {
    fn responses() -> Refusals {
        refusals(&[
            (429, "Too many requests are waiting; see `retry-after`"),
            (503, LATE),
        ])
    }
}

const LATE: &str = "No answer in time, or the body came too slowly; see `retry-after`";

fn refusals(all: &[(u16, &str)]) -> Refusals {
    let refusal = |&(status, description): &(u16, &str)| {
        // A route has the type among its own answers, so it is in the document.
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody")));
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/json", body.build());
        (status.to_string(), RefOr::T(response.build()))
    };
    all.iter().map(refusal).collect()
}

/// An item as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ItemName {
    /// Its id in the catalogue.
    #[schema(example = "B004ZT0SSG")]
    item: String,
    /// Its title, where it has one.
    #[schema(example = "OPI Red Shatter Crackle Nail Polish E55 New")]
    title: Option<String>,
}

impl ItemName {
    fn new(bundle: &Bundle, number: u32) -> Self {
        let item = &bundle.items()[number as usize];
        Self {
            item: item.id.clone(),
            title: item.title.clone(),
        }
    }
}

/// A stream, or the view of the items that its codes are made of.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StreamName {
    /// Of what people did.
    Behaviour,
    /// Of what items say of themselves.
    Semantic,
}

impl From<StreamName> for Stream {
    fn from(name: StreamName) -> Self {
        match name {
            StreamName::Behaviour => Self::Behaviour,
            StreamName::Semantic => Self::Semantic,
        }
    }
}

/// Something of both streams.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Streams<T> {
    behaviour: T,
    semantic: T,
}

impl<T> Streams<T> {
    fn from_fn(mut f: impl FnMut(Stream) -> T) -> Self {
        Self {
            behaviour: f(Stream::Behaviour),
            semantic: f(Stream::Semantic),
        }
    }
}

/// Which model is asked.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelParam {
    /// Name of the model; otherwise the first
    model: Option<String>,
}

/// What is done with an id that the catalogue does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unknown {
    /// The request is refused.
    #[default]
    Error,
    /// It is left out, and listed in `skipped`.
    Skip,
}

impl Unknown {
    /// The numbers of `ids`, which stand in `field`.
    fn numbers(
        self,
        bundle: &Bundle,
        field: &str,
        ids: &[String],
        skipped: &mut Vec<String>,
    ) -> ApiResult<Vec<u32>> {
        let mut numbers = Vec::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            match bundle.number(id) {
                Ok(number) => numbers.push(number),
                Err(_) if self == Self::Skip => skipped.push(id.clone()),
                Err(error) => return Err(ApiError::from(error).at(format!("{field}[{place}]"))),
            }
        }
        Ok(numbers)
    }
}

/// A number between 1 and `most`.
fn within(field: &str, found: usize, most: usize) -> ApiResult<usize> {
    if (1..=most).contains(&found) {
        return Ok(found);
    }
    let message = format!("{field} is {found}, expected 1 to {most}");
    Err(ApiError::invalid(field, "out_of_range", message))
}

/// The length of a list: `k`, or the usual one, at most `most`.
fn length(k: Option<usize>, most: usize) -> ApiResult<usize> {
    const USUAL: usize = 10;
    k.map_or(Ok(USUAL.min(most)), |k| within("k", k, most))
}

/// A history: at least one item, at most as many ids as the server takes.
fn history(
    bundle: &Bundle,
    ids: &[String],
    most: usize,
    unknown: Unknown,
    skipped: &mut Vec<String>,
) -> ApiResult<Vec<u32>> {
    if ids.len() > most {
        let message = format!(
            "the history has {} ids, this server takes {most}; send the newest",
            ids.len()
        );
        return Err(ApiError::invalid("history", "too_long", message));
    }
    let numbers = unknown.numbers(bundle, "history", ids, skipped)?;
    if numbers.is_empty() {
        let message = "no item of the history is known; at least one is needed (show what is popular instead)";
        return Err(ApiError::invalid("history", "empty_history", message));
    }
    Ok(numbers)
}
