//! The bundle itself: a recommender, the table of its items and their vectors, checked against each other.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::Device;
use eager_codes::{ItemVectors, write_whole};
use eager_data::Item;
use eager_infer::Recommender;
use eager_model::{PerStream, Stream};

use crate::beside::Beside;
use crate::manifest::{FORMAT, MANIFEST, io, read, sha256, still};
use crate::{BundleError, FileDigest, Manifest, Result};

/// A line an item, in the order of their numbers.
const ITEMS: &str = "items.jsonl";

/// A trained recommender and everything needed to use it: items by id, titles, codes, vectors.
///
/// Numbers of items (`u32`) are places in [`items`](Self::items); they belong to this bundle alone.
#[derive(Debug)]
pub struct Bundle {
    manifest: Manifest,
    digest: String,
    recommender: Recommender,
    items: Vec<Item>,
    vectors: PerStream<ItemVectors>,
    numbers: HashMap<String, u32>,
    /// Items of every category, ascending.
    categories: BTreeMap<String, Vec<u32>>,
}

fn vectors_file(stream: Stream) -> String {
    format!("{}-vectors.safetensors", stream.name())
}

impl Bundle {
    /// Of parts: a recommender, its items in the order of their numbers, and the vectors that their codes were made of.
    /// Until it is saved, its [`digest`](Self::digest) is empty.
    ///
    /// # Errors
    /// When they are not of equally many items, or two items have one id.
    pub fn new(
        manifest: Manifest,
        recommender: Recommender,
        items: Vec<Item>,
        vectors: PerStream<ItemVectors>,
    ) -> Result<Self> {
        let n = recommender.n_items();
        let lengths = [
            ("the table of items", items.len()),
            ("the behaviour vectors", vectors.behaviour.items()),
            ("the semantic vectors", vectors.semantic.items()),
        ];
        if let Some((what, found)) = lengths.into_iter().find(|(_, found)| *found != n) {
            return Err(BundleError::Mismatch(format!(
                "the model has {n} items, {what} {found}"
            )));
        }
        let mut numbers = HashMap::with_capacity(n);
        let mut categories: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (number, item) in (0..).zip(&items) {
            if numbers.insert(item.id.clone(), number).is_some() {
                return Err(BundleError::Mismatch(format!(
                    "item {:?} is in the table twice",
                    item.id
                )));
            }
            for category in &item.categories {
                let list = categories.entry(category.clone()).or_default();
                if list.last() != Some(&number) {
                    list.push(number);
                }
            }
        }
        let manifest = Manifest {
            format: FORMAT,
            items: n,
            ..manifest
        };
        Ok(Self {
            manifest,
            digest: String::new(),
            recommender,
            items,
            vectors,
            numbers,
            categories,
        })
    }

    /// Reads a folder of [`save`](Self::save) onto `device`. Every file is compared with its digest before it is read, and
    /// again after. A link is followed once: one that is switched meanwhile changes nothing.
    ///
    /// # Errors
    /// When a file is missing, cut short, altered, or does not hold what it should: by name; [`BundleError::Changed`] when
    /// the folder became another one meanwhile.
    pub fn load(folder: &Path, device: &Device) -> Result<Self> {
        Self::load_around(folder, device, || {})
    }

    /// The same; `compared` is called between the first comparison and the reading.
    fn load_around(folder: &Path, device: &Device, compared: impl FnOnce()) -> Result<Self> {
        let resolved = folder.canonicalize();
        let folder = &resolved.map_err(io(&folder.join(MANIFEST), "read"))?;
        let (manifest, digest) = Manifest::load(folder)?;
        if let Err(error) = manifest.verify(folder) {
            // The files of a folder that came into its place are not this manifest's.
            still(folder, MANIFEST, &digest)?;
            return Err(error);
        }
        let needed = [
            ITEMS.to_owned(),
            vectors_file(Stream::Behaviour),
            vectors_file(Stream::Semantic),
            "model.json".to_owned(),
            "model.safetensors".to_owned(),
            "behaviour.safetensors".to_owned(),
            "semantic.safetensors".to_owned(),
        ];
        for name in needed {
            if !manifest.files.contains_key(&name) {
                return Err(BundleError::File {
                    path: folder.join(MANIFEST),
                    fault: format!("has no digest of {name:?}"),
                });
            }
        }
        compared();
        let parts = Self::parts(folder, device);
        // The files were opened anew to be read. What cannot be read is another bundle's fault where they are another's.
        manifest.still_there(folder, &digest)?;
        let (recommender, items, vectors) = parts?;
        let bundle = Self::new(manifest, recommender, items, vectors)?;
        Ok(Self { digest, ..bundle })
    }

    /// Reads a folder's files, whatever the manifest says.
    fn parts(
        folder: &Path,
        device: &Device,
    ) -> Result<(Recommender, Vec<Item>, PerStream<ItemVectors>)> {
        let recommender = Recommender::load(folder, device)?;
        let items = read_items(&folder.join(ITEMS))?;
        let vectors =
            PerStream::try_from_fn(|stream| ItemVectors::load(&folder.join(vectors_file(stream))))?;
        Ok((recommender, items, vectors))
    }

    /// Writes the bundle as a new folder: beside its place first, then renamed. Equal bundles give equal bytes. What a
    /// process that was killed has left beside the place is removed (on Unix, where a folder can be locked).
    ///
    /// # Errors
    /// When the folder exists already, or cannot be written.
    pub fn save(&mut self, folder: &Path) -> Result<()> {
        let exists = || BundleError::Exists {
            path: folder.to_owned(),
            what: "a file or folder",
        };
        if folder.exists() {
            return Err(exists());
        }
        let beside = Beside::new(folder)?;
        let digest = self.write(beside.path())?;
        std::fs::rename(beside.path(), folder).map_err(|error| match folder.exists() {
            // Another one was there first.
            true => exists(),
            false => io(folder, "write")(error),
        })?;
        self.digest = digest;
        Ok(())
    }

    /// Writes the bundle's files into an empty folder; the digest of its manifest.
    fn write(&mut self, folder: &Path) -> Result<String> {
        self.recommender.save(folder)?;
        for stream in Stream::ALL {
            self.vectors[stream].save(&folder.join(vectors_file(stream)), None)?;
        }
        let mut lines = Vec::new();
        for item in &self.items {
            serde_json::to_writer(&mut lines, item).map_err(|e| io(folder, "write")(e.into()))?;
            lines.push(b'\n');
        }
        let path = folder.join(ITEMS);
        write_whole(&path, &lines).map_err(io(&path, "write"))?;

        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(io(folder, "read"))? {
            let entry = entry.map_err(io(folder, "read"))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            files.insert(name, FileDigest::of(&entry.path())?);
        }
        self.manifest.files = files;
        let mut text =
            serde_json::to_vec_pretty(&self.manifest).map_err(|e| io(folder, "write")(e.into()))?;
        text.push(b'\n');
        let path = folder.join(MANIFEST);
        write_whole(&path, &text).map_err(io(&path, "write"))?;
        Ok(sha256(&text))
    }

    /// What the bundle is.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of `bundle.json`, which has those of all other files: a name for exactly this bundle.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The model with its codes.
    #[must_use]
    pub fn recommender(&self) -> &Recommender {
        &self.recommender
    }

    /// The items by their numbers.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// A stream's vectors of the items.
    #[must_use]
    pub fn vectors(&self, stream: Stream) -> &ItemVectors {
        &self.vectors[stream]
    }

    /// The number of an id.
    ///
    /// # Errors
    /// When the catalogue does not have it.
    pub fn number(&self, id: &str) -> Result<u32> {
        let unknown = || BundleError::UnknownItem {
            id: id.to_owned(),
            items: self.items.len(),
        };
        self.numbers.get(id).copied().ok_or_else(unknown)
    }

    /// The numbers of ids, in their order.
    ///
    /// # Errors
    /// At the first that the catalogue does not have.
    pub fn numbers<S: AsRef<str>>(&self, ids: &[S]) -> Result<Vec<u32>> {
        ids.iter().map(|id| self.number(id.as_ref())).collect()
    }

    /// Every category with its items, ascending.
    #[must_use]
    pub fn categories(&self) -> &BTreeMap<String, Vec<u32>> {
        &self.categories
    }

    /// The same under another name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        let manifest = Manifest {
            name: name.to_owned(),
            ..self.manifest
        };
        Self { manifest, ..self }
    }

    /// The same with the recommender on `threads` threads. The lists stay the same.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn with_threads(self, threads: usize) -> Result<Self> {
        Ok(Self {
            recommender: self.recommender.with_threads(threads)?,
            ..self
        })
    }
}

fn read_items(path: &Path) -> Result<Vec<Item>> {
    let bytes = read(path)?;
    let lines = bytes.split(|&byte| byte == b'\n').zip(1..);
    let lines = lines.filter(|(line, _)| !line.is_empty());
    lines
        .map(|(line, number)| {
            serde_json::from_slice(line).map_err(|error| BundleError::File {
                path: path.to_owned(),
                fault: format!("line {number}: {error}"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two bundles of as many items and one table, by their folders `a` and `b`: their digests, and vectors of each.
    fn two(root: &Path) -> [(String, ItemVectors); 2] {
        [("a", 3), ("b", 4)].map(|(name, seed)| {
            let mut bundle = eager_fixtures::bundle(30, seed);
            bundle.save(&root.join(name)).unwrap();
            let vectors = bundle.vectors(Stream::Semantic).clone();
            (bundle.digest().to_owned(), vectors)
        })
    }

    fn is(bundle: &Bundle, (digest, vectors): &(String, ItemVectors)) -> bool {
        bundle.digest() == digest && bundle.vectors(Stream::Semantic) == vectors
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_is_switched_while_it_is_read_gives_the_bundle_that_it_led_to() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        let [a, b] = two(root.path());
        assert!(a.0 != b.0 && a.1 != b.1);
        let link = |name: &str| std::os::unix::fs::symlink(place(name), place("link")).unwrap();
        link("a");
        let switch = || {
            std::fs::remove_file(place("link")).unwrap();
            link("b");
        };
        let bundle = Bundle::load_around(&place("link"), &Device::Cpu, switch).unwrap();
        assert!(is(&bundle, &a));
        let bundle = Bundle::load(&place("link"), &Device::Cpu).unwrap();
        assert!(is(&bundle, &b));
    }

    #[test]
    fn a_folder_that_changes_while_it_is_read_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        let [a, b] = two(root.path());
        let refused = |name: &str, change: &dyn Fn()| {
            let error = Bundle::load_around(&place("a"), &Device::Cpu, change).unwrap_err();
            assert!(matches!(error, BundleError::Changed { .. }), "{error}");
            let words = error.to_string();
            assert!(
                words.contains(name) && words.contains("load it again"),
                "{words}"
            );
        };
        // A file of the other one, which fits; one that cannot be read; one that is gone.
        let vectors = vectors_file(Stream::Semantic);
        let (file, other) = (place("a").join(&vectors), place("b").join(&vectors));
        let whole = std::fs::read(&file).unwrap();
        let content = std::fs::read(&other).unwrap();
        refused(&vectors, &|| std::fs::write(&file, &content).unwrap());
        std::fs::write(&file, &whole).unwrap();
        refused(&vectors, &|| std::fs::write(&file, "x").unwrap());
        std::fs::write(&file, &whole).unwrap();
        refused(&vectors, &|| std::fs::remove_file(&file).unwrap());
        std::fs::write(&file, &whole).unwrap();
        assert!(is(&Bundle::load(&place("a"), &Device::Cpu).unwrap(), &a));
        // Another bundle in its place.
        let replace = || {
            std::fs::rename(place("a"), place("old")).unwrap();
            std::fs::rename(place("b"), place("a")).unwrap();
        };
        refused(MANIFEST, &replace);
        assert!(is(&Bundle::load(&place("a"), &Device::Cpu).unwrap(), &b));
    }
}
