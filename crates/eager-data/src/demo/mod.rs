//! The generated dataset `demo`: users with interests and a taste, items whose text tells both, and steps that follow
//! from the last item; so that the whole pipeline has something real to learn where nothing can be downloaded.
//!
//! It is made up: figures on it say that the pipeline works, not how good a model is on people.

mod words;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::Item;
use crate::log::{Clock, Event, Events, Log};
use words::{DEPARTMENTS, LINES, STYLES};

/// Size and seed of the generated dataset.
///
/// An item lies in one of 40 aisles (of 8 departments) and has a style and a product line; its title, brand and
/// category path name all of them. A user has three favourite aisles and one favourite style. A step goes on from the
/// last item (60 %: its aisle or the next one of the department, preferring its line and the user's style), turns to a
/// favourite aisle (25 %), or to any item by popularity (15 %). Histories have 5 items and more, 9 on average; a third
/// of the steps happens on the day of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DemoConfig {
    /// Users.
    pub users: u32,
    /// Items before the k-core filter, which may drop the least popular.
    pub items: u32,
    /// Seed of everything.
    pub seed: u64,
}

impl Default for DemoConfig {
    /// 2,000 users and 1,000 items: the whole pipeline in minutes on two cores.
    fn default() -> Self {
        Self {
            users: 2_000,
            items: 1_000,
            seed: 2024,
        }
    }
}

/// Aisles in all: 8 departments of 5.
const AISLES: usize = DEPARTMENTS.len() * 5;
/// Longest history.
const MAX_LENGTH: usize = 60;
/// 1 January 2014, in seconds since 1970.
const START: f64 = 1_388_534_400.0;
/// Seconds of a day.
const DAY: f64 = 86_400.0;

impl DemoConfig {
    /// Checks the sizes, in words for the manifest's author.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let least = 5 * AISLES as u32;
        if self.items < least || self.items > 1_000_000 {
            return Err(format!(
                "demo `items` is {}; use {least} to 1000000",
                self.items
            ));
        }
        if self.users == 0 || self.users > 10_000_000 {
            return Err(format!("demo `users` is {}; use 1 to 10000000", self.users));
        }
        Ok(())
    }
}

/// What an item is beneath its text.
struct Traits {
    aisle: usize,
    style: usize,
    line: usize,
    popularity: f64,
}

/// Generates the dataset. Only additions, multiplications and divisions touch the weights, so that every platform
/// makes the same.
pub(crate) fn generate(config: &DemoConfig) -> Log {
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let traits = traits(config.items as usize, &mut rng);
    let items = traits
        .iter()
        .enumerate()
        .map(|(i, traits)| describe(i, traits, &mut rng))
        .collect();
    let mut aisles = vec![Vec::new(); AISLES];
    for (item, traits) in traits.iter().enumerate() {
        aisles[traits.aisle].push(item);
    }
    let world = World { traits, aisles };
    let mut events = Events::default();
    for user in 0..config.users {
        // A stream of its own for each user: the first n users are the same whatever their number.
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        rng.set_stream(u64::from(user) + 1);
        let mut day = rng.random_range(0..700);
        for (place, item) in world.history(&mut rng).into_iter().enumerate() {
            if place > 0 && rng.random_range(0..3) > 0 {
                day += rng.random_range(1..45);
            }
            events.push(Event {
                user,
                item: item as u32,
                time: START + DAY * f64::from(day),
            });
        }
    }
    let users = (0..config.users)
        .map(|user| format!("user-{user:04}"))
        .collect();
    Log {
        events,
        users,
        items,
        clock: Clock::Absolute,
    }
}

fn traits(n: usize, rng: &mut ChaCha8Rng) -> Vec<Traits> {
    let mut places: Vec<usize> = (0..n).collect();
    places.shuffle(rng);
    let traits = |place: usize| Traits {
        aisle: place % AISLES,
        style: rng.random_range(0..STYLES.len()),
        line: rng.random_range(0..LINES.len()),
        // From 1/6 down, harmonically with the rank in the aisle: a mild version of a shop's long tail.
        popularity: 1.0 / (6 + place / AISLES) as f64,
    };
    places.into_iter().map(traits).collect()
}

/// The item's text: adjective and brand tell the style, the title the line, the path department and aisle.
fn describe(number: usize, traits: &Traits, rng: &mut ChaCha8Rng) -> Item {
    let (department, aisles) = &DEPARTMENTS[traits.aisle / 5];
    let (aisle, products) = &aisles[traits.aisle % 5];
    let (style, adjectives, brands) = &STYLES[traits.style];
    let mut pick = |words: &[&str]| words[rng.random_range(0..words.len())].to_owned();
    let (adjective, product, brand) = (pick(adjectives), pick(products), pick(brands));
    let cents = rng.random_range(0..100);
    let whole = 5 + 7 * traits.style + rng.random_range(0..25);
    Item {
        title: Some(format!(
            "{brand} {} {adjective} {product}",
            LINES[traits.line]
        )),
        brand: Some(brand),
        categories: [department, aisle, style]
            .map(|name| (*name).to_owned())
            .into(),
        price: Some((whole * 100 + cents) as f64 / 100.0),
        ..Item::new(format!("item-{number:04}"))
    }
}

struct World {
    traits: Vec<Traits>,
    /// Items of each aisle.
    aisles: Vec<Vec<usize>>,
}

impl World {
    fn history(&self, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let favourites: [usize; 3] = std::array::from_fn(|_| rng.random_range(0..AISLES));
        let style = rng.random_range(0..STYLES.len());
        // 5 and then one more four times out of five: 9 on average.
        let mut length = 5;
        while length < MAX_LENGTH && rng.random_range(0..5) > 0 {
            length += 1;
        }
        let everything: Vec<usize> = (0..self.traits.len()).collect();
        let mut history: Vec<usize> = Vec::with_capacity(length);
        while history.len() < length {
            let last = history.last().map(|&item| &self.traits[item]);
            let roll = rng.random_range(0..100);
            let taste = |item: usize, line: Option<usize>| {
                let traits = &self.traits[item];
                let of_style = if traits.style == style { 8.0 } else { 1.0 };
                let of_line = if Some(traits.line) == line { 6.0 } else { 1.0 };
                traits.popularity * of_style * of_line
            };
            let next = match last {
                Some(last) if roll < 60 => {
                    let department = last.aisle / 5 * 5;
                    let onward = rng.random_range(0..2);
                    let aisle = department + (last.aisle - department + onward) % 5;
                    draw(
                        &self.aisles[aisle],
                        &history,
                        |item| taste(item, Some(last.line)),
                        rng,
                    )
                }
                Some(_) if roll >= 85 => draw(
                    &everything,
                    &history,
                    |item| self.traits[item].popularity,
                    rng,
                ),
                _ => {
                    let aisle = favourites[rng.random_range(0..favourites.len())];
                    draw(&self.aisles[aisle], &history, |item| taste(item, None), rng)
                }
            };
            // An aisle that the user has bought out gives nothing; the next roll goes elsewhere.
            history.extend(next);
        }
        history
    }
}

/// One of `items` that is not in `history`, drawn by weight; `None` when all are.
fn draw(
    items: &[usize],
    history: &[usize],
    weight: impl Fn(usize) -> f64,
    rng: &mut ChaCha8Rng,
) -> Option<usize> {
    let open: Vec<(usize, f64)> = items
        .iter()
        .filter(|item| !history.contains(item))
        .map(|&item| (item, weight(item)))
        .collect();
    let total: f64 = open.iter().map(|(_, weight)| weight).sum();
    let mut left = rng.random::<f64>() * total;
    for &(item, weight) in &open {
        left -= weight;
        if left < 0.0 {
            return Some(item);
        }
    }
    open.last().map(|&(item, _)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_data_and_users_do_not_depend_on_their_number() {
        let config = DemoConfig {
            users: 100,
            ..DemoConfig::default()
        };
        let log = generate(&config);
        assert_eq!(log, generate(&config));
        assert_ne!(
            log.events,
            generate(&DemoConfig {
                seed: 1,
                ..config.clone()
            })
            .events
        );
        let more = generate(&DemoConfig {
            users: 200,
            ..config
        });
        assert!(
            more.events
                .iter()
                .take(log.events.len())
                .eq(log.events.iter())
        );
    }

    #[test]
    fn histories_have_the_stated_shape() {
        let log = generate(&DemoConfig::default());
        let mut histories = vec![Vec::new(); log.users.len()];
        for event in log.events.iter() {
            histories[event.user as usize].push(event);
        }
        let mean = log.events.len() as f64 / log.users.len() as f64;
        assert!((8.5..9.5).contains(&mean), "mean length {mean}");
        for history in &histories {
            assert!((5..=MAX_LENGTH).contains(&history.len()));
            assert!(history.windows(2).all(|pair| pair[0].time <= pair[1].time));
            let mut items: Vec<u32> = history.iter().map(|event| event.item).collect();
            items.sort_unstable();
            items.dedup();
            assert_eq!(items.len(), history.len(), "an item twice");
        }
        assert!(
            log.items
                .iter()
                .all(|item| item.title.is_some() && item.categories.len() == 3)
        );
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for bad in [
            DemoConfig {
                items: 199,
                ..DemoConfig::default()
            },
            DemoConfig {
                users: 0,
                ..DemoConfig::default()
            },
        ] {
            assert!(bad.validate().is_err());
        }
        // The smallest world still ends: every aisle can be bought out.
        let tiny = DemoConfig {
            items: 200,
            users: 300,
            seed: 7,
        };
        assert!(tiny.validate().is_ok());
        assert!(generate(&tiny).events.len() > 1_500);
    }
}
