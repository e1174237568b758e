//! A catalogue that changes without training: items come to the trees as they stand, or leave them, and the model's tables
//! follow. Each change makes a new bundle; nothing is changed in place.

use std::collections::HashMap;
use std::path::Path;

use eager_codes::{ChangedCodes, CodeTrie, CodesError, ItemVectors};
use eager_data::Item;
use eager_infer::Recommender;
use eager_model::{Catalogue, PerStream, Stream, Tables};
use eager_ops::Ops;

use crate::manifest::read;
use crate::start::{Nearest, token_rows};
use crate::{Bundle, BundleError, Manifest, Result};

/// Items to add, with their vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct NewItems {
    /// The items, whose ids are new.
    pub items: Vec<Item>,
    /// Their semantic vectors, made as the bundle's [`TextSource`](crate::TextSource) says.
    pub semantic: ItemVectors,
    /// Their behaviour vectors, where there are any: of an item that nobody has used, that of its nearest neighbour in the
    /// semantic view is taken.
    pub behaviour: Option<ItemVectors>,
}

/// How items are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddConfig {
    /// Children that a node may have; otherwise the [`Manifest::branching`] of the training, or where that is not known
    /// the widest node's.
    pub branching: Option<usize>,
    /// From how many nearest neighbours a new row starts, as their mean weighted by the inverse distance. 1 is the best of
    /// those measured, see `docs/catalogue.md`.
    pub neighbours: usize,
}

impl Default for AddConfig {
    fn default() -> Self {
        Self {
            branching: None,
            neighbours: 1,
        }
    }
}

impl Bundle {
    /// A bundle with further items behind those there are: of the next revision, with this one as its parent. Not saved.
    ///
    /// In each stream's tree an item goes where [`ItemCodes::extended`](eager_codes::ItemCodes::extended) puts its vector.
    /// Its rows in the model's tables start as those of its neighbours: the embedding of a new token as that of the nearest
    /// sibling (squared distance to the mean vector below it), the encoder's embedding of the item, and the behaviour
    /// vector where there is none, as those of the nearest item of the semantic view (by cosine).
    ///
    /// Every path there is stays, and so does all that a decoder says below a node that has no new child. Below one that
    /// has, the old children keep their differences of log-probability: the softmax is over more of them.
    ///
    /// # Errors
    /// When there is no item, an id is there already or twice, the vectors do not fit, or a tree has no room.
    pub fn with_items(&self, new: &NewItems, config: &AddConfig) -> Result<Self> {
        self.check(new, config)?;
        let recommender = self.recommender();
        let model = recommender.model();
        let (before, d) = (model.tables()?, model.config().d_model);
        let near = Nearest::new(
            self.vectors(Stream::Semantic),
            &new.semantic,
            config.neighbours,
        )?;
        let behaviour = new.behaviour.clone().unwrap_or_else(|| {
            let known = self.vectors(Stream::Behaviour);
            ItemVectors {
                dim: known.dim,
                data: near.rows(&known.data, known.dim),
            }
        });
        let vectors = PerStream {
            behaviour,
            semantic: new.semantic.clone(),
        };
        let changes = PerStream::try_from_fn(|stream| {
            let (known, added) = (self.vectors(stream).checked()?, vectors[stream].checked()?);
            let trained = self.manifest().branching.map(|branching| branching[stream]);
            let limit = config.branching.or(trained);
            let limit = limit.unwrap_or_else(|| widest(recommender.trie(stream)));
            let codes = recommender.codes(stream);
            codes
                .extended(known, added, limit)
                .map_err(|error| match error {
                    CodesError::NoRoom { row, branching } => BundleError::NoRoom {
                        id: new.items[row].id.clone(),
                        stream: stream.name(),
                        branching,
                    },
                    error => error.into(),
                })
        })?;
        let tokens = PerStream::try_from_fn(|stream| {
            token_rows(
                recommender.trie(stream),
                &changes[stream],
                self.vectors(stream),
                &vectors[stream],
                (&before.tokens[stream], d),
                config.neighbours,
            )
        })?;
        let extended = |table: &Vec<f32>| [&table[..], &near.rows(table, d)].concat();
        let tables = Tables {
            items: before.items.iter().map(extended).collect(),
            tokens,
        };
        let vectors = PerStream::from_fn(|stream| {
            let known = self.vectors(stream);
            ItemVectors {
                dim: known.dim,
                data: [&known.data[..], &vectors[stream].data].concat(),
            }
        });
        let items = [self.items(), &new.items].concat();
        self.changed(changes, tables, items, vectors)
    }

    /// A bundle without `items`: of the next revision, with this one as its parent. Not saved. The others keep their order
    /// and their rows; siblings of a node that is gone move up.
    ///
    /// # Errors
    /// When an item does not exist, or none is left.
    pub fn without_items(&self, items: &[u32]) -> Result<Self> {
        let n = self.items().len();
        let mut keep = vec![true; n];
        for &item in items {
            let Some(keep) = keep.get_mut(item as usize) else {
                let fault = format!("there is no item {item}, only 0 to {}", n - 1);
                return Err(BundleError::Catalogue(fault));
            };
            *keep = false;
        }
        if !keep.contains(&true) {
            let fault = format!("all {n} items are to be removed; a catalogue has at least one");
            return Err(BundleError::Catalogue(fault));
        }
        let recommender = self.recommender();
        let changes = PerStream::try_from_fn(|stream| recommender.codes(stream).retained(&keep))?;
        let (before, d) = (
            recommender.model().tables()?,
            recommender.model().config().d_model,
        );
        let kept = |rows: &[f32], width: usize| -> Vec<f32> {
            let rows = rows.chunks_exact(width).zip(&keep);
            let rows = rows.filter(|(_, keep)| **keep);
            rows.flat_map(|(row, _)| row).copied().collect()
        };
        let tables = Tables {
            items: before.items.iter().map(|table| kept(table, d)).collect(),
            tokens: PerStream::from_fn(|stream| {
                let nodes = changes[stream].origins.iter().flatten();
                let rows = nodes.flat_map(|&node| &before.tokens[stream][node as usize * d..][..d]);
                rows.copied().collect()
            }),
        };
        let vectors = PerStream::from_fn(|stream| {
            let known = self.vectors(stream);
            ItemVectors {
                dim: known.dim,
                data: kept(&known.data, known.dim),
            }
        });
        let left = self.items().iter().zip(&keep);
        let left = left.filter(|(_, keep)| **keep);
        let left = left.map(|(item, _)| item.clone()).collect();
        self.changed(changes, tables, left, vectors)
    }

    /// Items of a JSON Lines file that are to be added, an [`Item`] a line.
    ///
    /// # Errors
    /// When the file cannot be read or has no item; or a line is none, or its id is blank, has blanks around it, or is there
    /// already or twice, by its number.
    pub fn read_new_items(&self, path: &Path) -> Result<Vec<Item>> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        lines(path)?
            .into_iter()
            .map(|(number, line)| {
                let fault = |fault: String| BundleError::Line {
                    path: path.to_owned(),
                    line: number,
                    fault,
                };
                let item = new_item(&line).map_err(fault)?;
                if self.number(&item.id).is_ok() {
                    let id = &item.id;
                    return Err(fault(format!("item {id:?} is in the catalogue already")));
                }
                if let Some(first) = seen.insert(item.id.clone(), number) {
                    let id = &item.id;
                    return Err(fault(format!("item {id:?} is on line {first} already")));
                }
                Ok(item)
            })
            .collect()
    }

    /// Numbers of the items that a file names, an id a line.
    ///
    /// # Errors
    /// When the file cannot be read or has no id; or the catalogue does not have one, or it is there twice, by its line.
    pub fn read_ids(&self, path: &Path) -> Result<Vec<u32>> {
        // `eager_data::read_ids` would not say where an id was first.
        let mut seen: HashMap<u32, usize> = HashMap::new();
        lines(path)?
            .into_iter()
            .map(|(number, line)| {
                let fault = |fault: String| BundleError::Line {
                    path: path.to_owned(),
                    line: number,
                    fault,
                };
                let id = line.trim();
                let item = self.number(id).map_err(|error| fault(error.to_string()))?;
                match seen.insert(item, number) {
                    Some(first) => Err(fault(format!("item {id:?} is on line {first} already"))),
                    None => Ok(item),
                }
            })
            .collect()
    }

    fn check(&self, new: &NewItems, config: &AddConfig) -> Result<()> {
        let refuse = |fault: String| Err(BundleError::Catalogue(fault));
        let n = new.items.len();
        if n == 0 {
            return refuse("there is no item to add".to_owned());
        }
        if config.neighbours == 0 {
            return refuse("`neighbours` is 0, expected 1 or more".to_owned());
        }
        if let Some(item) = new.items.iter().find(|item| self.number(&item.id).is_ok()) {
            return refuse(format!("item {:?} is in the catalogue already", item.id));
        }
        let given = [
            (Stream::Semantic, Some(&new.semantic)),
            (Stream::Behaviour, new.behaviour.as_ref()),
        ];
        for (stream, vectors) in given {
            let Some(vectors) = vectors else { continue };
            let (name, dim) = (stream.name(), self.vectors(stream).dim);
            if vectors.items() != n || vectors.dim != dim {
                return refuse(format!(
                    "the {name} vectors are {} of width {}, expected {n} of width {dim}",
                    vectors.items(),
                    vectors.dim
                ));
            }
        }
        Ok(())
    }

    /// The next revision.
    fn changed(
        &self,
        changes: PerStream<ChangedCodes>,
        tables: Tables,
        items: Vec<Item>,
        vectors: PerStream<ItemVectors>,
    ) -> Result<Self> {
        let codes = PerStream {
            behaviour: changes.behaviour.codes,
            semantic: changes.semantic.codes,
        };
        let tries = PerStream::try_from_fn(|stream| CodeTrie::new(&codes[stream]))?;
        let catalogue = Catalogue {
            tries: PerStream::from_fn(|stream| &tries[stream]),
            dims: PerStream::from_fn(|stream| vectors[stream].dim),
        };
        let model = self.recommender().model().with_tables(&catalogue, tables)?;
        let threads = self.recommender().threads();
        let recommender = Recommender::new(model, codes, Ops::default())?.with_threads(threads)?;
        let parent = self.digest();
        let manifest = Manifest {
            revision: self.manifest().revision + 1,
            parent: (!parent.is_empty()).then(|| parent.to_owned()),
            ..self.manifest().clone()
        };
        Self::new(manifest, recommender, items, vectors)
    }
}

/// Most children of a node.
fn widest(trie: &CodeTrie) -> usize {
    let children = (0..trie.n_nodes() as u32).map(|node| trie.children(node).len());
    children.max().unwrap_or(1)
}

/// The item of a line, or what is wrong with it.
fn new_item(line: &str) -> std::result::Result<Item, String> {
    let expected = "expected an item such as {\"id\": \"…\", \"title\": \"…\"}";
    // A list would be read by its places.
    if !line.trim_start().starts_with('{') {
        return Err(format!("is no JSON object; {expected}"));
    }
    let item: Item = serde_json::from_str(line).map_err(|error| {
        // Without the parser's own "at line 1", which is not the file's.
        let words = error.to_string();
        let message = words.rsplit_once(" at line ");
        let message = message.map_or(words.as_str(), |(message, _)| message);
        format!("column {}: {message}; {expected}", error.column())
    })?;
    // As in a training's tables, whose readers take the blanks away.
    match item.id.trim() {
        "" => Err("field `id` is blank; complete the line or remove it".to_owned()),
        id if id != item.id => Err(format!(
            "field `id` is {:?}, expected an id without blanks around it; correct or remove the line",
            item.id
        )),
        _ => Ok(item),
    }
}

/// The lines of a file that are not blank, with their numbers; at least one.
fn lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let text = String::from_utf8(read(path)?).map_err(|error| BundleError::Line {
        path: path.to_owned(),
        line: 1 + bytes_before(&error)
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count(),
        fault: "is not UTF-8".to_owned(),
    })?;
    // As spreadsheets put before what they export.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<(usize, String)> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| (number, line.to_owned()))
        .collect();
    if lines.is_empty() {
        return Err(BundleError::Line {
            path: path.to_owned(),
            line: 1,
            fault: "the file is empty, expected an item a line".to_owned(),
        });
    }
    Ok(lines)
}

fn bytes_before(error: &std::string::FromUtf8Error) -> &[u8] {
    &error.as_bytes()[..error.utf8_error().valid_up_to()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.txt");
        std::fs::write(&path, "\u{feff}i3\r\n\ni5\n").unwrap();
        let expected = [(1, "i3".to_owned()), (3, "i5".to_owned())];
        assert_eq!(lines(&path).unwrap(), expected);
        std::fs::write(&path, "\u{feff}\n").unwrap();
        assert!(lines(&path).is_err());
    }
}
