//! `/v1/items`: the catalogue, an item of it, and items like it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use eager_bundle::Bundle;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Busy, ItemName, ModelParam, Refused, StreamName, Streams, length, within};
use crate::App;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{Params, Segment};

/// Most items of a page of the catalogue.
const PAGE: usize = 100;

/// Longest `q`, in characters.
const QUERY: usize = 1000;

/// Which part of the catalogue.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// Name of the model; otherwise the first
    model: Option<String>,
    /// Words, each of which begins a word of the item's title or id; in upper or lower case, at most 1000 characters
    #[serde(default)]
    #[param(max_length = 1000, required = false)]
    q: String,
    /// Only items of this category
    category: Option<String>,
    /// How many items, at most 100
    #[serde(default = "twenty")]
    #[param(default = 20, minimum = 1, maximum = 100, required = false)]
    limit: usize,
    /// How many to leave out before them
    #[serde(default)]
    #[param(required = false)]
    offset: usize,
}

fn twenty() -> usize {
    20
}

/// A page of the catalogue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Found {
    /// Items found in all.
    total: usize,
    /// In the order of the catalogue.
    items: Vec<CatalogueItem>,
}

/// An item with its categories.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CatalogueItem {
    #[serde(flatten)]
    name: ItemName,
    categories: Vec<String>,
}

impl CatalogueItem {
    fn new(bundle: &Bundle, number: u32) -> Self {
        Self {
            name: ItemName::new(bundle, number),
            categories: bundle.items()[number as usize].categories.clone(),
        }
    }
}

/// An item with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ItemDetails {
    #[serde(flatten)]
    item: CatalogueItem,
    /// What the text encoder read.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Its own code in each stream's tree: which child of its parent every node is.
    codes: Streams<Vec<u32>>,
}

/// Items of a category.
pub(super) fn items_of<'a>(bundle: &'a Bundle, category: &str) -> ApiResult<&'a [u32]> {
    let items = bundle.categories().get(category).map(Vec::as_slice);
    items.ok_or_else(|| {
        let message = format!("no item has category {category:?}");
        ApiError::invalid("category", "unknown_category", message)
    })
}

/// The number of an item of the path.
fn number(bundle: &Bundle, id: &str) -> ApiResult<u32> {
    let unknown = |error: eager_bundle::BundleError| {
        ApiError::not_found("unknown_item", error.to_string()).at("id")
    };
    bundle.number(id).map_err(unknown)
}

/// The catalogue, and items by title
#[utoipa::path(
    get, path = "/v1/items", tag = "catalogue", security(("token" = [])), params(Search),
    responses(
        Refused, Busy,
        (status = 200, description = "A page", body = Found),
        (status = 400, description = "The query is none", body = ErrorBody),
        (status = 404, description = "There is no such model", body = ErrorBody),
        (status = 422, description = "No item has the category, `q` is too long, or a number is out of range", body = ErrorBody),
    ),
)]
pub(crate) async fn items(
    State(app): State<Arc<App>>,
    Params(search): Params<Search>,
) -> ApiResult<Json<Found>> {
    let model = app.models.get(search.model.as_deref())?;
    let limit = within("limit", search.limit, PAGE)?;
    let length = search.q.chars().count();
    if length > QUERY {
        let message = format!("q has {length} characters, expected at most {QUERY}");
        return Err(ApiError::invalid("q", "too_long", message));
    }
    if let Some(category) = &search.category {
        items_of(&model.bundle, category)?;
    }
    let found = app.queue.compute(move || {
        let category = search
            .category
            .as_ref()
            .map(|category| items_of(&model.bundle, category));
        let of_category = |item: &u32| match &category {
            Some(items) => items
                .as_ref()
                .is_ok_and(|items| items.binary_search(item).is_ok()),
            None => true,
        };
        let numbers: Vec<u32> = model.titles.find(&search.q).filter(of_category).collect();
        let page = numbers.iter().skip(search.offset).take(limit);
        Found {
            total: numbers.len(),
            items: page
                .map(|&item| CatalogueItem::new(&model.bundle, item))
                .collect(),
        }
    });
    found.await.map(Json)
}

/// An item
#[utoipa::path(
    get, path = "/v1/items/{id}", tag = "catalogue", security(("token" = [])),
    params(("id" = String, Path, description = "The item's id"), ModelParam),
    responses(
        Refused,
        (status = 200, description = "The item", body = ItemDetails),
        (status = 400, description = "The path or the query is none", body = ErrorBody),
        (status = 404, description = "There is no such item or model", body = ErrorBody),
    ),
)]
pub(crate) async fn item(
    State(app): State<Arc<App>>,
    Segment(id): Segment<String>,
    Params(ModelParam { model }): Params<ModelParam>,
) -> ApiResult<Json<ItemDetails>> {
    let model = app.models.get(model.as_deref())?;
    let bundle = &model.bundle;
    let number = number(bundle, &id)?;
    let codes = |stream| bundle.recommender().codes(stream).code(number).to_vec();
    Ok(Json(ItemDetails {
        item: CatalogueItem::new(bundle, number),
        text: bundle
            .manifest()
            .text
            .template
            .fill(&bundle.items()[number as usize]),
        codes: Streams::from_fn(codes),
    }))
}

/// Which items are near.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Near {
    /// Name of the model; otherwise the first
    model: Option<String>,
    /// `behaviour`: used by the same people; `semantic`: they read alike
    #[serde(default = "semantic")]
    #[param(default = "semantic", required = false)]
    view: StreamName,
    /// How many; otherwise 10, or as many as the server gives at most
    #[param(minimum = 1)]
    k: Option<usize>,
}

fn semantic() -> StreamName {
    StreamName::Semantic
}

/// Items near an item.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SimilarItems {
    /// The item asked for.
    item: String,
    view: StreamName,
    /// Nearest first.
    items: Vec<SimilarItem>,
}

/// An item near another.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SimilarItem {
    /// From 1.
    rank: usize,
    #[serde(flatten)]
    name: ItemName,
    /// Cosine of the two items' vectors, −1 to 1.
    cosine: f32,
}

/// Items like an item
///
/// Those whose vectors in the view have the greatest cosine to the item's.
#[utoipa::path(
    get, path = "/v1/items/{id}/similar", tag = "catalogue", security(("token" = [])),
    params(("id" = String, Path, description = "The item's id"), Near),
    responses(
        Refused, Busy,
        (status = 200, description = "The items", body = SimilarItems),
        (status = 400, description = "The path or the query is none", body = ErrorBody),
        (status = 404, description = "There is no such item or model", body = ErrorBody),
        (status = 422, description = "A number is out of range", body = ErrorBody),
    ),
)]
pub(crate) async fn similar(
    State(app): State<Arc<App>>,
    Segment(id): Segment<String>,
    Params(near): Params<Near>,
) -> ApiResult<Json<SimilarItems>> {
    let model = app.models.get(near.model.as_deref())?;
    let number = number(&model.bundle, &id)?;
    let k = length(near.k, app.config.max_k)?;
    let (view, searched) = (near.view, model.clone());
    let similar = move || searched.bundle.similar(number, view.into(), k);
    let found = app.queue.compute(similar).await??;
    let items = (1..).zip(found).map(|(rank, similar)| SimilarItem {
        rank,
        name: ItemName::new(&model.bundle, similar.item),
        cosine: similar.cosine,
    });
    Ok(Json(SimilarItems {
        item: id,
        view: near.view,
        items: items.collect(),
    }))
}
