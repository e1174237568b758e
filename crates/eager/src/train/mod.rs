//! Training: one loop ([`epochs`]), and what the generator, DIN and the baselines do in it.
//!
//! The loop is bit-for-bit reproducible from its seed whatever the number of threads (see [`shards`]), and resumes from its
//! last checkpoint as if it had never stopped (see [`checkpoint`]).

pub mod checkpoint;
pub mod din;
pub mod epochs;
pub mod generator;
pub mod next_item;
pub mod objective;
pub mod schedule;
pub mod shards;
pub mod start;
pub mod tiger;
pub mod validation;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use schedule::{InverseSqrt, WarmupExponential};
pub use shards::{SHARDS, Shards};
pub use start::TableStart;

/// Settings of a training as a stage's record and digest have them: with the usual pace of log and checkpoints, which moves
/// neither weights nor figures, so that with another one training goes on and nothing is trained anew. The usual `min_history`
/// is left out: runs are recorded from before there was one.
///
/// # Errors
/// When they cannot be written as JSON.
pub(crate) fn at_usual_pace<T: Serialize + Default>(training: &T) -> Result<Value> {
    let usual = serde_json::to_value(T::default())?;
    let mut settings = serde_json::to_value(training)?;
    for field in ["log_every", "checkpoint_seconds"] {
        settings[field] = usual[field].clone();
    }
    if let Some(fields) = settings.as_object_mut() {
        fields.retain(|field, value| field != "min_history" || *value != usual[field]);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    fn the_pace_alone_is_passed_over<T: Serialize + DeserializeOwned + Default>() {
        let recorded = |settings: &Value| {
            let training: T = serde_json::from_value(settings.clone()).unwrap();
            at_usual_pace(&training).unwrap()
        };
        let usual = serde_json::to_value(T::default()).unwrap();
        let mut older = usual.clone();
        let min_history = older.as_object_mut().unwrap().remove("min_history");
        assert_eq!(recorded(&usual), older, "older runs stay as they are");
        assert_eq!(recorded(&older), older);
        let mut other = usual.clone();
        other["log_every"] = 7.into();
        other["checkpoint_seconds"] = 0.into();
        assert_eq!(recorded(&other), older);
        other["batch_size"] = 7.into();
        assert_ne!(recorded(&other), older);
        if min_history.is_some() {
            let mut other = usual.clone();
            other["min_history"] = 4.into();
            assert_eq!(recorded(&other)["min_history"], 4);
        }
    }

    #[test]
    fn log_and_checkpoints_decide_nothing() {
        the_pace_alone_is_passed_over::<din::DinTraining>();
        the_pace_alone_is_passed_over::<generator::TrainingConfig>();
        the_pace_alone_is_passed_over::<next_item::NextItemTraining>();
        the_pace_alone_is_passed_over::<tiger::TigerTraining>();
    }
}
