//! `GET /v1/models`: what is served.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Refused, Streams};
use crate::App;
use crate::models::Model;

/// All models, in the order in which the server was given them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    models: Vec<ModelInfo>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelInfo {
    /// What `model` of a request takes.
    name: String,
    /// The dataset it was trained on.
    dataset: String,
    /// Counts the changes of the catalogue since the training, from 1.
    revision: u32,
    /// SHA-256 of the bundle's manifest, which has those of all its files.
    digest: String,
    items: usize,
    categories: usize,
    /// Version of the program that trained it.
    version: String,
    /// Newest items of a history that are read.
    max_history: usize,
    /// Longest list that this server makes.
    max_k: usize,
    streams: Streams<TreeSize>,
    /// When the server opened it, RFC 3339.
    loaded_at: String,
}

/// How large a stream's tree is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TreeSize {
    /// Tokens of a code.
    levels: usize,
    nodes: usize,
    leaves: usize,
}

impl ModelInfo {
    fn new(model: &Model, max_k: usize) -> Self {
        let (bundle, manifest) = (&model.bundle, model.bundle.manifest());
        Self {
            name: model.name.clone(),
            dataset: manifest.dataset.clone(),
            revision: manifest.revision,
            digest: bundle.digest().to_owned(),
            items: bundle.items().len(),
            categories: bundle.categories().len(),
            version: manifest.version.clone(),
            max_history: bundle.recommender().model().config().window - 1,
            max_k,
            streams: Streams::from_fn(|stream| {
                let trie = bundle.recommender().trie(stream);
                TreeSize {
                    levels: trie.levels(),
                    nodes: trie.n_nodes(),
                    leaves: trie.n_leaves(),
                }
            }),
            loaded_at: format!("{:.0}", model.loaded_at),
        }
    }
}

/// The models that are served
#[utoipa::path(get, path = "/v1/models", tag = "models", security(("token" = [])),
    responses(Refused, (status = 200, description = "All of them", body = ModelList)))]
pub(crate) async fn models(State(app): State<Arc<App>>) -> Json<ModelList> {
    let models = app.models.all();
    Json(ModelList {
        models: models
            .map(|model| ModelInfo::new(&model, app.config.max_k))
            .collect(),
    })
}
