//! `POST /v1/explain`: why items are likely, token by token.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use eager_bundle::{Bundle, CodePath};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BadBody, Busy, ItemName, Refused, Streams, Unknown, history, within};
use crate::App;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::Body;

/// Most items of a request.
const ITEMS: usize = 20;

/// Most sample items of a prefix.
pub(super) const SAMPLES: usize = 50;

/// A history, and the items to explain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainRequest {
    /// Name of the model; otherwise the first.
    model: Option<String>,
    /// Item ids, oldest first.
    #[schema(example = json!(["B004756YJA", "B004ZT0SSG"]))]
    history: Vec<String>,
    /// Item ids, 1 to 20.
    #[schema(example = json!(["B0060ALFW6"]), min_items = 1, max_items = 20)]
    items: Vec<String>,
    /// How many items to show of every prefix, at most 50.
    #[serde(default = "three")]
    #[schema(default = 3, maximum = 50)]
    samples: usize,
}

fn three() -> usize {
    3
}

/// The reasons, in the order of the items.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplainResponse {
    /// The model that answered.
    model: String,
    /// Exactly which: the digest of its bundle.
    digest: String,
    explanations: Vec<ItemExplanation>,
}

/// An item's codes, as the history makes them likely.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ItemExplanation {
    #[serde(flatten)]
    name: ItemName,
    streams: Streams<ExplainedCode>,
}

/// A code in one stream's tree.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplainedCode {
    /// Log-probability of the whole code: the sum of its tokens'.
    #[schema(example = -3.12)]
    log_prob: f32,
    /// From the root to the item.
    tokens: Vec<ExplainedToken>,
}

/// A token of a code.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplainedToken {
    /// Its node in the tree.
    node: u32,
    /// Which of its siblings it is, from 0; what `prefix` of `/v1/tree/{stream}` takes.
    token: u32,
    /// Siblings, itself among them: what the decoder chose from.
    siblings: usize,
    /// Log-probability of this token after those before it; 0 for an only child.
    log_prob: f32,
    /// Codes that begin with the tokens up to this one.
    leaves: usize,
    /// A few of their items.
    samples: Vec<ItemName>,
}

impl ExplainedCode {
    fn new(bundle: &Bundle, code: CodePath) -> Self {
        let tokens = code.tokens.into_iter().map(|token| ExplainedToken {
            node: token.node,
            token: token.ordinal,
            siblings: token.siblings,
            log_prob: token.log_prob,
            leaves: token.leaves,
            samples: token
                .samples
                .iter()
                .map(|&item| ItemName::new(bundle, item))
                .collect(),
        });
        Self {
            log_prob: code.log_prob,
            tokens: tokens.collect(),
        }
    }
}

/// Why items are likely after a history
///
/// In each stream's tree: the item's code, what every token of it costs, and what else has the same prefix.
#[utoipa::path(
    post, path = "/v1/explain", tag = "recommend", security(("token" = [])), request_body = ExplainRequest,
    responses(
        Refused, BadBody, Busy,
        (status = 200, description = "The reasons", body = ExplainResponse),
        (status = 404, description = "There is no such model", body = ErrorBody),
        (status = 422, description = "An item is unknown, a field is missing, unknown or out of range", body = ErrorBody),
    ),
)]
pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    Body(request): Body<ExplainRequest>,
) -> ApiResult<Json<ExplainResponse>> {
    let model = app.models.get(request.model.as_deref())?;
    if request.samples > SAMPLES {
        let message = format!("samples is {}, expected at most {SAMPLES}", request.samples);
        return Err(ApiError::invalid("samples", "out_of_range", message));
    }
    within("items", request.items.len(), ITEMS).map_err(|_| {
        let message = format!("{} items, expected 1 to {ITEMS}", request.items.len());
        ApiError::invalid("items", "out_of_range", message)
    })?;
    let (strict, mut none) = (Unknown::Error, vec![]);
    let bundle = &model.bundle;
    let history = history(
        bundle,
        &request.history,
        app.config.max_history,
        strict,
        &mut none,
    )?;
    let items = strict.numbers(bundle, "items", &request.items, &mut none)?;
    let (explained, samples) = (model.clone(), request.samples);
    let explain = move || explained.bundle.explain_each(&history, &items, samples);
    let explanations = app.queue.compute(explain).await??;
    let explanations = explanations.into_iter().map(|explanation| ItemExplanation {
        name: ItemName::new(bundle, explanation.item),
        streams: Streams {
            behaviour: ExplainedCode::new(bundle, explanation.streams.behaviour),
            semantic: ExplainedCode::new(bundle, explanation.streams.semantic),
        },
    });
    Ok(Json(ExplainResponse {
        model: model.name.clone(),
        digest: bundle.digest().to_owned(),
        explanations: explanations.collect(),
    }))
}
