//! `GET /v1/tree/{stream}`: a stream's code tree, a node at a time.

use std::ops::Range;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use eager_bundle::Bundle;
use eager_model::Stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::explain::SAMPLES;
use super::{Busy, ItemName, Refused, StreamName, within};
use crate::App;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{Params, Segment};

/// Most children of an answer.
const CHILDREN: usize = 1024;

/// Which node, and how much of it.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// Name of the model; otherwise the first
    model: Option<String>,
    /// Tokens from the root, separated by commas; empty: the root
    #[serde(default)]
    #[param(required = false, example = "1,68")]
    prefix: String,
    /// How many children, at most 1024
    #[serde(default = "all")]
    #[param(default = 256, minimum = 1, maximum = 1024, required = false)]
    limit: usize,
    /// How many children to leave out before them
    #[serde(default)]
    #[param(required = false)]
    offset: usize,
    /// How many items to show of every child, at most 50
    #[serde(default = "three")]
    #[param(default = 3, maximum = 50, required = false)]
    samples: usize,
}

fn all() -> usize {
    256
}

fn three() -> usize {
    3
}

/// A node of the tree.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TreeNode {
    stream: StreamName,
    /// Tokens from the root.
    prefix: Vec<u32>,
    /// Items whose codes begin with the prefix.
    items: usize,
    /// Children from `offset` on.
    children: Vec<Child>,
    /// Children in all.
    total: usize,
}

/// A child of a node.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Child {
    /// Its token: which child it is, from 0.
    token: u32,
    /// Codes below.
    leaves: usize,
    /// Items below; an item may have several codes.
    items: usize,
    /// Whether the code ends here.
    leaf: bool,
    /// A few of the items.
    samples: Vec<ItemName>,
}

/// A node of a stream's tree
#[utoipa::path(
    get, path = "/v1/tree/{stream}", tag = "catalogue", security(("token" = [])),
    params(("stream" = StreamName, Path, description = "Which tree"), Place),
    responses(
        Refused, Busy,
        (status = 200, description = "The node", body = TreeNode),
        (status = 400, description = "The path or the query is none", body = ErrorBody),
        (status = 404, description = "No code has the prefix, or there is no such model", body = ErrorBody),
        (status = 422, description = "The prefix is none, or a number is out of range", body = ErrorBody),
    ),
)]
pub(crate) async fn tree(
    State(app): State<Arc<App>>,
    Segment(stream): Segment<StreamName>,
    Params(place): Params<Place>,
) -> ApiResult<Json<TreeNode>> {
    let model = app.models.get(place.model.as_deref())?;
    let limit = within("limit", place.limit, CHILDREN)?;
    if place.samples > SAMPLES {
        let message = format!("samples is {}, expected at most {SAMPLES}", place.samples);
        return Err(ApiError::invalid("samples", "out_of_range", message));
    }
    let prefix = tokens(&place.prefix)?;
    let node = follow(&model.bundle, stream.into(), &prefix)?;
    let shown = place.offset..place.offset.saturating_add(limit);
    let read = move || read(&model.bundle, stream, prefix, node, shown, place.samples);
    app.queue.compute(read).await.map(Json)
}

fn tokens(prefix: &str) -> ApiResult<Vec<u32>> {
    let tokens = prefix.split(',').filter(|_| !prefix.is_empty());
    tokens
        .map(|token| {
            token.trim().parse().map_err(|_| {
                let message = format!(
                    "{token:?} is no token; a prefix is numbers separated by commas, such as 1,68"
                );
                ApiError::invalid("prefix", "bad_prefix", message)
            })
        })
        .collect()
}

/// The node at the end of a prefix.
fn follow(bundle: &Bundle, stream: Stream, prefix: &[u32]) -> ApiResult<u32> {
    let trie = bundle.recommender().trie(stream);
    let mut node = 0;
    for (level, &token) in prefix.iter().enumerate() {
        let children = trie.children(node);
        if token as usize >= children.len() {
            let message = format!(
                "the node at {:?} of the {} tree has {} children, there is no token {token}",
                &prefix[..level],
                stream.name(),
                children.len()
            );
            return Err(ApiError::not_found("unknown_prefix", message).at("prefix"));
        }
        node = children.start + token;
    }
    Ok(node)
}

fn read(
    bundle: &Bundle,
    stream: StreamName,
    prefix: Vec<u32>,
    node: u32,
    shown: Range<usize>,
    samples: usize,
) -> TreeNode {
    let trie = bundle.recommender().trie(stream.into());
    let below = |node| bundle.items_below(stream.into(), node);
    let children = trie.children(node);
    let total = children.len();
    let child = |(token, node): (u32, u32)| Child {
        token,
        leaves: trie.leaves_below(node).len(),
        items: below(node).count(),
        leaf: trie.item(node).is_some(),
        samples: below(node)
            .take(samples)
            .map(|item| ItemName::new(bundle, item))
            .collect(),
    };
    TreeNode {
        stream,
        prefix,
        items: below(node).count(),
        children: (0..)
            .zip(children)
            .skip(shown.start)
            .take(shown.len())
            .map(child)
            .collect(),
        total,
    }
}
