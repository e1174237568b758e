//! `GET /v1/categories`: what `categories` of a list may be.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Refused, within};
use crate::App;
use crate::error::{ApiResult, ErrorBody};
use crate::extract::Params;

/// Most categories of an answer.
const MOST: usize = 1000;

/// Which categories.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Name of the model; otherwise the first
    model: Option<String>,
    /// How many, at most 1000
    #[serde(default = "most")]
    #[param(default = 1000, minimum = 1, maximum = 1000, required = false)]
    limit: usize,
}

fn most() -> usize {
    MOST
}

/// Categories of a catalogue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Categories {
    /// How many there are in all.
    total: usize,
    /// Those of most items first, of equally many in the order of their names.
    categories: Vec<CategorySize>,
}

/// How large a category is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CategorySize {
    #[schema(example = "Nail Polish")]
    category: String,
    items: usize,
}

/// The categories of the catalogue
#[utoipa::path(
    get, path = "/v1/categories", tag = "catalogue", security(("token" = [])), params(Which),
    responses(
        Refused,
        (status = 200, description = "The largest ones", body = Categories),
        (status = 400, description = "The query is none", body = ErrorBody),
        (status = 404, description = "There is no such model", body = ErrorBody),
        (status = 422, description = "A number is out of range", body = ErrorBody),
    ),
)]
pub(crate) async fn categories(
    State(app): State<Arc<App>>,
    Params(which): Params<Which>,
) -> ApiResult<Json<Categories>> {
    let model = app.models.get(which.model.as_deref())?;
    let limit = within("limit", which.limit, MOST)?;
    let mut sizes: Vec<(&String, usize)> = model
        .bundle
        .categories()
        .iter()
        .map(|(category, items)| (category, items.len()))
        .collect();
    // Stable: names stay in their order.
    sizes.sort_by_key(|&(_, items)| Reverse(items));
    let total = sizes.len();
    let first = sizes.into_iter().take(limit);
    Ok(Json(Categories {
        total,
        categories: first
            .map(|(category, items)| CategorySize {
                category: category.clone(),
                items,
            })
            .collect(),
    }))
}
