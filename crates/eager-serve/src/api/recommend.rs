//! `POST /v1/recommend`: a history in, a ranked list out.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use eager_bundle::{Bundle, Filter, ListKind, Query, Ranked};
use eager_model::Stream;
use serde::{Deserialize, Serialize};
use tower_http::request_id::RequestId;
use utoipa::ToSchema;

use super::{BadBody, Busy, ItemName, Refused, Unknown, history, length};
use crate::App;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{Body, name};
use crate::models::Model;
use crate::router::id;

/// A history, and what the list may hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecommendRequest {
    /// Name of the model; otherwise the first.
    model: Option<String>,
    /// Item ids, oldest first. The model reads the newest, as many as `max_history` of `/v1/models` says.
    #[schema(example = json!(["B004756YJA", "B004ZT0SSG"]))]
    history: Vec<String>,
    /// Length of the list; it is shorter only where the filters let fewer items through. Otherwise 10, or as many as the
    /// server gives at most.
    #[schema(minimum = 1)]
    k: Option<usize>,
    /// Which list.
    #[serde(default, deserialize_with = "name")]
    list: ListName,
    /// Leave out what is in the history.
    #[serde(default)]
    exclude_seen: bool,
    /// Nothing but these items.
    allow: Option<Vec<String>>,
    /// None of these items.
    #[serde(default)]
    deny: Vec<String>,
    /// Nothing but items of one of these categories, where there are any.
    #[serde(default)]
    categories: Vec<String>,
    /// What is done with ids that the catalogue does not have.
    #[serde(default, deserialize_with = "name")]
    unknown: Unknown,
}

/// Both streams' predictions merged, or one stream's own.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ListName {
    #[default]
    Merged,
    Behaviour,
    Semantic,
}

impl From<ListName> for ListKind {
    fn from(name: ListName) -> Self {
        match name {
            ListName::Merged => Self::Merged,
            ListName::Behaviour => Self::Behaviour,
            ListName::Semantic => Self::Semantic,
        }
    }
}

/// A ranked list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecommendResponse {
    /// The model that answered.
    #[schema(example = "amazon-beauty/paper")]
    model: String,
    /// Exactly which: the digest of its bundle.
    digest: String,
    /// Best first.
    items: Vec<RankedItem>,
    /// Ids that were left out, with `"unknown": "skip"`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    skipped: Vec<String>,
    request_id: String,
}

/// An item of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RankedItem {
    /// From 1.
    #[schema(example = 1)]
    rank: usize,
    #[serde(flatten)]
    name: ItemName,
    /// What the list is ranked by.
    #[schema(example = -3.1247)]
    score: f32,
    /// What makes the item most likely.
    stream: ListedBy,
    /// Log-probability of the item's code in the behaviour stream, where that stream predicted it.
    #[schema(example = -4.0716)]
    behaviour: Option<f32>,
    /// The same of the semantic stream.
    #[schema(example = -3.1247)]
    semantic: Option<f32>,
    /// The same of the direct head, where the model has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    direct: Option<f32>,
}

/// What can put an item into a list.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ListedBy {
    Behaviour,
    Semantic,
    /// A head over the whole catalogue, which some models have.
    Direct,
}

impl RankedItem {
    fn new(model: &Model, place: usize, ranked: &Ranked) -> Self {
        Self {
            rank: place + 1,
            name: ItemName::new(&model.bundle, ranked.item),
            score: ranked.score,
            stream: match ranked.surest() {
                Some(Stream::Behaviour) => ListedBy::Behaviour,
                Some(Stream::Semantic) => ListedBy::Semantic,
                None => ListedBy::Direct,
            },
            behaviour: ranked.behaviour,
            semantic: ranked.semantic,
            direct: ranked.direct,
        }
    }
}

/// A list for a history
///
/// An item comes with what each stream says of it. Filters are applied before the streams are merged, so that a list is
/// shorter than `k` only where fewer items are allowed.
#[utoipa::path(
    post, path = "/v1/recommend", tag = "recommend", security(("token" = [])), request_body = RecommendRequest,
    responses(
        Refused, BadBody, Busy,
        (status = 200, description = "The list", body = RecommendResponse),
        (status = 404, description = "There is no such model", body = ErrorBody),
        (status = 422, description = "An item is unknown, a field is missing, unknown or out of range", body = ErrorBody),
    ),
)]
pub(crate) async fn recommend(
    State(app): State<Arc<App>>,
    Extension(request_id): Extension<RequestId>,
    Body(request): Body<RecommendRequest>,
) -> ApiResult<Json<RecommendResponse>> {
    let model = app.models.get(request.model.as_deref())?;
    let (bundle, unknown) = (&model.bundle, request.unknown);
    let mut skipped = vec![];
    let k = length(request.k, app.config.max_k)?;
    let history = history(
        bundle,
        &request.history,
        app.config.max_history,
        unknown,
        &mut skipped,
    )?;
    let mut numbers = |field, ids: &[String]| unknown.numbers(bundle, field, ids, &mut skipped);
    let filter = Filter {
        exclude_seen: request.exclude_seen,
        allow: request
            .allow
            .map(|ids| numbers("allow", &ids))
            .transpose()?,
        deny: numbers("deny", &request.deny)?,
        categories: known_categories(bundle, request.categories, app.config.max_history)?,
    };
    let query = Query {
        history,
        k,
        list: request.list.into(),
        filter,
    };
    let list = app.queue.list(model.clone(), query).await?;
    let ranked = list.iter().enumerate();
    Ok(Json(RecommendResponse {
        model: model.name.clone(),
        digest: bundle.digest().to_owned(),
        items: ranked
            .map(|(place, ranked)| RankedItem::new(&model, place, ranked))
            .collect(),
        skipped,
        request_id: id(&request_id),
    }))
}

/// Categories that there are, at most as many names as a history may have ids.
fn known_categories(
    bundle: &Bundle,
    categories: Vec<String>,
    most: usize,
) -> ApiResult<Vec<String>> {
    if categories.len() > most {
        let message = format!("{} categories, this server takes {most}", categories.len());
        return Err(ApiError::invalid("categories", "too_long", message));
    }
    for (place, category) in categories.iter().enumerate() {
        super::items::items_of(bundle, category)
            .map_err(|e| e.at(format!("categories[{place}]")))?;
    }
    Ok(categories)
}
