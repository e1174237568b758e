//! When training ends, and with which weights.

use anyhow::ensure;
use eager_data::{Clock, Dataset, Interactions, Item, ItemId, PrepareConfig, Split, Windows};
use eager_model::{Init, Weights};

use super::*;

/// Updates an epoch.
const EPOCH: u64 = 3;

/// One weight, whose validations find 1, 3 and from then on 2, whatever it is.
struct Scripted {
    parameters: Parameters,
    weight: Tensor,
    windows: Windows,
    /// Updates made, and those between two validations.
    made: u64,
    between: u64,
}

impl Scripted {
    fn new(between: u64) -> Self {
        let mut weights = Weights::random(1, &Device::Cpu);
        let weight = weights.get("weight", 1, Init::Zeros).unwrap();
        Self {
            weight,
            parameters: weights.finish().unwrap(),
            windows: windows(),
            made: 0,
            between,
        }
    }
}

/// Two examples an update, one of each user.
fn windows() -> Windows {
    let users = 2 * EPOCH as usize;
    let history: Vec<ItemId> = (0..4).map(ItemId).collect();
    let interactions = Interactions::new((0..users).map(|_| &history[..]), history.len()).unwrap();
    let dataset = Dataset {
        name: "small".into(),
        times: vec![0.0; interactions.len()],
        interactions,
        clock: Clock::Absolute,
        items: (0..4).map(|i| Item::new(format!("i{i}"))).collect(),
        users: (0..users).map(|u| format!("u{u}")).collect(),
        prepare: PrepareConfig::default(),
        format: "test".into(),
        files: vec![],
    };
    Windows::new(&Split::new(&dataset).unwrap(), 4)
}

impl Learner for Scripted {
    type Losses = f64;
    type Found = Validation;

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn batches(&self, epoch: u64) -> Batches {
        self.windows.batches(2, 1, epoch)
    }

    fn rate(&self, _update: u64) -> f64 {
        0.1
    }

    fn gradients(&mut self, examples: &[u32], update: u64) -> Result<(Vec<Gradients>, f64)> {
        self.made = update + 1;
        // Of another size in every batch, so that the weight tells which updates it is of, and in which order.
        let loss = (&self.weight * f64::from(1 + examples[0]))?.sum_all()?;
        let gradients = Gradients::from(loss.backward()?);
        Ok((vec![gradients], f64::from(loss.to_scalar::<f32>()?)))
    }

    fn validate(&mut self) -> Result<Validation> {
        let ndcg_10 = match self.made.div_ceil(self.between) {
            1 => 1.0,
            2 => 3.0,
            _ => 2.0,
        };
        Ok(Validation {
            ndcg_10,
            ..Validation::default()
        })
    }
}

type Change = fn(&mut Course<'_>);

/// The weight that training leaves, and what it came to; `stop` makes the log fail at that update, which is as good as a kill.
fn trained(folder: &Path, change: Change, stop: Option<u64>) -> (Vec<f32>, Option<Outcome>) {
    let mut course = Course {
        optimiser: &AdamWConfig::default(),
        average: 0.0,
        max_epochs: 20,
        max_updates: 0,
        validate_every: 1,
        patience: 3,
        log_every: 1,
        checkpoint_seconds: 0, // after every update
        device: &Device::Cpu,
    };
    change(&mut course);
    let mut learner = Scripted::new(EPOCH * course.validate_every);
    let outcome = train(&mut learner, &course, folder, &mut |event| {
        if let Event::Updates { update, .. } = event {
            ensure!(stop != Some(update), "killed");
        }
        Ok(())
    });
    (learner.weight.to_vec1().unwrap(), outcome.ok())
}

#[test]
fn patience_or_a_limit_ends_training_and_the_best_weights_are_left_also_after_kills() {
    let outcome = |updates, epochs, best_epoch, stopped_early| Outcome {
        updates,
        epochs,
        best_epoch,
        best: Validation {
            recall_10: 0.0,
            ndcg_10: 3.0,
        },
        stopped_early,
    };
    let cases: [(Change, Change, Outcome); 3] = [
        (
            |_| (),
            |course| course.max_epochs = 2,
            outcome(15, 5, 2, true),
        ),
        (
            |course| course.validate_every = 2,
            |course| (course.validate_every, course.max_epochs) = (2, 4),
            outcome(30, 10, 4, true),
        ),
        // In the middle of the fourth epoch, whose validation is the second without a better score.
        (
            |course| course.max_updates = 10,
            |course| course.max_epochs = 2,
            outcome(10, 4, 2, false),
        ),
    ];
    let folder = || tempfile::tempdir().unwrap();
    for (change, until_best, expected) in cases {
        let (whole, found) = trained(folder().path(), change, None);
        assert_eq!(found, Some(expected.clone()));
        let (best, found) = trained(folder().path(), until_best, None);
        assert_eq!(found.unwrap().epochs, expected.best_epoch);
        assert_eq!(whole, best);

        let killed = folder();
        for update in [4, 8] {
            assert_eq!(trained(killed.path(), change, Some(update)).1, None);
        }
        let resumed = trained(killed.path(), change, None);
        assert_eq!(resumed, (whole, Some(expected)));
    }
}

#[test]
fn a_limit_within_an_epoch_has_a_validation_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (_, found) = trained(folder.path(), |course| course.max_updates = 5, None);
    let found = found.unwrap();
    assert_eq!((found.updates, found.epochs, found.best_epoch), (5, 2, 2));
}
