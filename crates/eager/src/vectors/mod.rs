//! Ready-made item vectors: a file with a vector an id takes the place of the DIN (`behaviour.vectors`) or of the text
//! encoder (`text.vectors`), or has those of items that are added to a catalogue. Rows may be in any order and of more items
//! than there are; they are joined by id.
//!
//! | file | vectors | ids |
//! | --- | --- | --- |
//! | `.safetensors` | tensor `vectors` `[n, dim]`, or the only float tensor of two dimensions | tensor `ids` (whole numbers), or metadata `ids` (a JSON list), or a file beside |
//! | `.npy` | `[n, dim]`, in C order | a file beside |
//! | `.parquet` | the column of lists of floats | the column `id`, `item_id`, … or the only one of texts or whole numbers |
//!
//! The file beside is called as the vectors with `.ids.txt` in place of the extension: an id a line.

mod parquet;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use eager_codes::ItemVectors;
use eager_data::{Item, read_ids};
use safetensors::SafeTensors;

use crate::stages::Context;

/// Vectors by id, as a file has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// The file, for messages.
    pub path: PathBuf,
    /// An id a row.
    pub ids: Vec<String>,
    /// `[n, dim]`.
    pub vectors: ItemVectors,
}

/// Where the file that a setting names is: as it is written (from the working directory), else beside the manifest, else in
/// the dataset's folder of the data folder.
///
/// # Errors
/// When it is nowhere.
pub fn find(path: &Path, ctx: &Context) -> Result<PathBuf> {
    let manifest = ctx.manifest.folder.as_ref().map(|folder| folder.join(path));
    let data = ctx
        .places
        .data
        .as_ref()
        .map(|data| data.join(&ctx.manifest.name).join(path));
    let places = [Some(path.to_owned()), manifest, data]
        .into_iter()
        .flatten();
    let places: Vec<PathBuf> = places.collect();
    let found = places.iter().find(|place| place.is_file());
    found.cloned().with_context(|| {
        let places = places
            .iter()
            .map(|place| place.display().to_string())
            .collect::<Vec<_>>();
        format!("ready-made vectors: no file {}", places.join(", nor "))
    })
}

impl Ready {
    /// Reads a file; its name says what it is.
    ///
    /// # Errors
    /// When it cannot be read, is not of its form, lacks ids, or has an id twice or a number that is not finite.
    pub fn read(path: &Path) -> Result<Self> {
        let (ids, vectors) = open(path)?;
        let ids = ids.with_context(|| no_ids(path))?;
        Self::new(path, ids, vectors)
    }

    /// The vectors of `items` from a file. Where nothing says which row is which item, a row is the item of its place.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`of_items`](Self::of_items); or without ids, when there are not as many rows as items.
    pub fn read_for(path: &Path, items: &[Item]) -> Result<ItemVectors> {
        let (ids, vectors) = open(path)?;
        let ids = match ids {
            Some(ids) => ids,
            None if vectors.items() == items.len() => {
                items.iter().map(|item| item.id.clone()).collect()
            }
            None => bail!(
                "{}: {} vectors, and nothing that says which row is which item, for {} items; give a row an item in their \
                 order, or write {} with an id a line",
                path.display(),
                vectors.items(),
                items.len(),
                path.with_extension("ids.txt").display()
            ),
        };
        Self::new(path, ids, vectors)?.of_items(items)
    }

    fn new(path: &Path, ids: Vec<String>, vectors: ItemVectors) -> Result<Self> {
        let ready = Self {
            path: path.to_owned(),
            ids,
            vectors,
        };
        ready.check()?;
        Ok(ready)
    }

    fn check(&self) -> Result<()> {
        let (path, n) = (self.path.display(), self.vectors.items());
        ensure!(n > 0 && self.vectors.dim > 0, "{path}: not one vector");
        ensure!(
            n == self.ids.len(),
            "{path}: {n} vectors, but {} ids",
            self.ids.len()
        );
        let mut rows = HashMap::new();
        for (row, id) in self.ids.iter().enumerate() {
            if let Some(first) = rows.insert(id.as_str(), row) {
                bail!(
                    "{path}: id {id} is there twice, in rows {} and {}",
                    first + 1,
                    row + 1
                );
            }
        }
        for (id, vector) in self
            .ids
            .iter()
            .zip(self.vectors.data.chunks(self.vectors.dim))
        {
            if let Some(place) = vector.iter().position(|x| !x.is_finite()) {
                bail!(
                    "{path}: the vector of {id} is {} in component {place}; all must be finite",
                    vector[place]
                );
            }
        }
        Ok(())
    }

    /// The vectors of `items`, in their order.
    ///
    /// # Errors
    /// When one has none: every item of a dataset takes part in both trees.
    pub fn of_items(&self, items: &[Item]) -> Result<ItemVectors> {
        let rows: HashMap<&str, u32> = self.ids.iter().map(String::as_str).zip(0..).collect();
        let found = |item: &Item| rows.get(item.id.as_str()).copied();
        let mut missing = items.iter().filter(|item| found(item).is_none());
        if let Some(first) = missing.next() {
            let more = missing.count();
            bail!(
                "{}: no vector for item {}{}, of {} items; give every item one, or leave out those without",
                self.path.display(),
                first.id,
                if more > 0 {
                    format!(" and {more} others")
                } else {
                    String::new()
                },
                items.len()
            );
        }
        let data = items
            .iter()
            .filter_map(found)
            .flat_map(|row| self.vectors.row(row));
        let vectors = ItemVectors {
            dim: self.vectors.dim,
            data: data.copied().collect(),
        };
        vectors
            .checked()
            .with_context(|| self.path.display().to_string())?;
        Ok(vectors)
    }
}

/// What a file has: vectors, and of which ids they are, where it says so.
type Found = (Option<Vec<String>>, ItemVectors);

fn open(path: &Path) -> Result<Found> {
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let found = match extension.as_str() {
        "safetensors" => from_safetensors(path),
        "npy" => from_npy(path),
        "parquet" => parquet::read(path).map(|(ids, vectors)| (Some(ids), vectors)),
        _ => bail!(
            "{}: vectors are read from .safetensors, .npy or .parquet",
            path.display()
        ),
    };
    found.with_context(|| format!("{}: no vectors that can be used", path.display()))
}

fn from_npy(path: &Path) -> Result<Found> {
    let vectors = rows(&Tensor::read_npy(path)?)?;
    Ok((ids_beside(path)?, vectors))
}

fn from_safetensors(path: &Path) -> Result<Found> {
    let bytes = std::fs::read(path)?;
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let listed = header
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get("ids").cloned());
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    let float = |tensor: &&Tensor| tensor.rank() == 2 && tensor.dtype().is_float();
    let mut floats = tensors.values().filter(float);
    let vectors = match (tensors.get("vectors"), floats.next(), floats.next()) {
        (Some(named), ..) => named,
        (None, Some(only), None) => only,
        _ => bail!("no tensor `vectors`, nor exactly one of floats with two dimensions"),
    };
    let ids = match (tensors.get("ids"), listed) {
        (Some(ids), _) => {
            let ids = ids
                .to_dtype(DType::I64)?
                .to_vec1::<i64>()
                .context("tensor `ids`")?;
            Some(ids.iter().map(i64::to_string).collect())
        }
        (None, Some(listed)) => {
            let ids = serde_json::from_str(&listed);
            Some(ids.context("metadata `ids` is no JSON list of texts")?)
        }
        (None, None) => ids_beside(path)?,
    };
    Ok((ids, rows(vectors)?))
}

/// `[n, dim]` in any float type.
fn rows(tensor: &Tensor) -> Result<ItemVectors> {
    let (_, dim) = tensor
        .dims2()
        .with_context(|| format!("shape {:?}, expected [items, dim]", tensor.dims()))?;
    ensure!(
        tensor.dtype().is_float(),
        "{:?}, expected floats",
        tensor.dtype()
    );
    let data = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    Ok(ItemVectors { dim, data })
}

/// The ids of the file beside, where there is one.
fn ids_beside(path: &Path) -> Result<Option<Vec<String>>> {
    let beside = path.with_extension("ids.txt");
    if !beside.is_file() {
        return Ok(None);
    }
    let mut ids = Vec::new();
    read_ids(&beside, &mut |id| {
        ids.push(id.to_owned());
        Ok(None)
    })?;
    Ok(Some(ids))
}

fn no_ids(path: &Path) -> String {
    let beside = path.with_extension("ids.txt");
    format!(
        "{}: there is nothing that says which row is which item; write {} with an id a line",
        path.display(),
        beside.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn tensor() -> Tensor {
        Tensor::new(&[[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu).unwrap()
    }

    fn message(path: &Path) -> String {
        format!("{:#}", Ready::read(path).unwrap_err())
    }

    fn items(ids: &[&str]) -> Vec<Item> {
        ids.iter().map(|id| Item::new(*id)).collect()
    }

    #[test]
    fn every_form_gives_the_same_vectors_in_the_order_of_the_items() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        tensor().write_npy(at("a.npy")).unwrap();
        std::fs::write(at("a.ids.txt"), "7\n8\n9\n").unwrap();
        tensor()
            .save_safetensors("anything", at("a.safetensors"))
            .unwrap();
        let ids = Tensor::new(&[7i64, 8, 9], &Device::Cpu).unwrap();
        let half = tensor().to_dtype(DType::F16).unwrap();
        let named = HashMap::from([("vectors", half), ("ids", ids)]);
        candle_core::safetensors::save(&named, at("b.safetensors")).unwrap();
        let listed = HashMap::from([("ids".to_owned(), r#"["7", "8", "9"]"#.to_owned())]);
        let bytes = safetensors::serialize([("vectors", tensor())], Some(listed)).unwrap();
        std::fs::write(at("c.safetensors"), bytes).unwrap();
        parquet::tests::write(
            &at("a.parquet"),
            &["7", "8", "9"],
            &[&[1.0, 2.0], &[3.0, 4.0], &[5.0, 6.0]],
        );
        for name in [
            "a.npy",
            "a.safetensors",
            "b.safetensors",
            "c.safetensors",
            "a.parquet",
        ] {
            let ready = Ready::read(&at(name)).unwrap();
            let found = ready.of_items(&items(&["9", "7"])).unwrap();
            assert_eq!(
                (found.dim, found.data),
                (2, vec![5.0, 6.0, 1.0, 2.0]),
                "{name}"
            );
            let error = ready
                .of_items(&items(&["9", "x", "y"]))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(name)
                    && error.contains("no vector for item x and 1 others, of 3 items"),
                "{error}"
            );
        }
    }

    #[test]
    fn without_ids_a_row_is_the_item_of_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        tensor().write_npy(&path).unwrap();
        let three = items(&["x", "y", "z"]);
        let found = Ready::read_for(&path, &three).unwrap();
        assert_eq!(found.data, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let error = Ready::read_for(&path, &three[..2]).unwrap_err().to_string();
        assert!(
            error.contains("3 vectors, and nothing that says") && error.contains("for 2 items"),
            "{error}"
        );
        std::fs::write(path.with_extension("ids.txt"), "z\nw\nx\n").unwrap();
        let found = Ready::read_for(&path, &items(&["x", "z"])).unwrap();
        assert_eq!(found.data, [5.0, 6.0, 1.0, 2.0]);
        assert!(Ready::read_for(&path, &three).is_err(), "y has none");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        tensor().write_npy(at("a.npy")).unwrap();
        assert!(message(&at("a.npy")).contains("a.ids.txt with an id a line"));
        std::fs::write(at("a.ids.txt"), "7\n8\n").unwrap();
        assert!(message(&at("a.npy")).contains("a.npy: 3 vectors, but 2 ids"));
        std::fs::write(at("a.ids.txt"), "7\n8\n7\n").unwrap();
        assert!(message(&at("a.npy")).contains("id 7 is there twice, in rows 1 and 3"));
        let nan = Tensor::new(&[[1.0f32, 2.0], [3.0, f32::NAN]], &Device::Cpu).unwrap();
        nan.write_npy(at("n.npy")).unwrap();
        std::fs::write(at("n.ids.txt"), "7\n8\n").unwrap();
        assert!(message(&at("n.npy")).contains("the vector of 8 is NaN in component 1"));
        let flat = Tensor::new(&[1.0f32, 2.0], &Device::Cpu).unwrap();
        flat.write_npy(at("n.npy")).unwrap();
        assert!(message(&at("n.npy")).contains("expected [items, dim]"));
        std::fs::write(at("n.npy"), "x").unwrap();
        assert!(message(&at("n.npy")).contains("n.npy: no vectors that can be used"));
        std::fs::write(at("n.csv"), "x").unwrap();
        assert!(message(&at("n.csv")).contains(".safetensors, .npy or .parquet"));
        parquet::tests::write(&at("w.parquet"), &["7", "8"], &[&[1.0, 2.0], &[3.0]]);
        assert!(message(&at("w.parquet")).contains("row 2: 1 values, where the rows above have 2"));
    }

    /// Bytes that nobody marked as text are text, and a column that cannot be read is named.
    #[test]
    fn ids_of_a_parquet_table_are_read_as_those_of_the_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let write = |id: &str, ids: &[&[u8]]| {
            parquet::tests::write_as(id, &path, ids, &[&[1.0, 2.0], &[3.0, 4.0]]);
        };
        write("binary item_id", &[b"AB", b"C"]);
        let found = Ready::read_for(&path, &items(&["C", "AB"])).unwrap();
        assert_eq!(found.data, [3.0, 4.0, 1.0, 2.0]);
        for (id, ids, words) in [
            (
                "binary item_id",
                [&b"AB"[..], b"\xff"],
                "a.parquet:2: field `item_id` is `bytes`, expected text in UTF-8",
            ),
            (
                "binary item_id",
                [b"AB", b" "],
                "a.parquet:2: field `item_id` is missing",
            ),
            (
                "binary item_id (UTF8)",
                [b"AB", b""],
                "a.parquet:2: field `item_id` is missing",
            ),
            (
                "binary item_id (BSON)",
                [b"AB", b"C"],
                "a.parquet:1: field `item_id` is `of type BYTE_ARRAY`",
            ),
        ] {
            write(id, &ids);
            let message = message(&path);
            assert!(message.contains(words), "{message}");
        }
    }
}
