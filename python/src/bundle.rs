//! A bundle and what it answers.

use std::path::PathBuf;

use candle_core::Device;
use eager_bundle::{Filter, Query};
use numpy::{PyArray1, PyArray2, PyArrayMethods as _};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use crate::errors::{of_bundle, system};
use crate::explain::{Explained, Near};
use crate::histories::Histories;
use crate::ids::{Ids, Unknown, list_kind, unknown, view};
use crate::lists::Lists;
use crate::process::Process;

/// A trained recommender from one folder: made by ``eager export``, opened with `Bundle.load`.
///
/// Items go by their ids or by their numbers, their places in `item_ids`. Methods release the interpreter's lock while they
/// compute, and can be called from several threads.
#[pyclass(frozen, module = "eager_rec")]
pub(crate) struct Bundle {
    pub(crate) inner: eager_bundle::Bundle,
    process: Process,
    /// The items' ids as Python's strings, made once.
    ids: PyOnceLock<Vec<Py<PyAny>>>,
}

impl Bundle {
    /// The ids of the items by their numbers.
    pub(crate) fn ids(&self, py: Python<'_>) -> PyResult<&Vec<Py<PyAny>>> {
        Ok(self.ids.get_or_init(py, || {
            let ids = self.inner.items().iter();
            ids.map(|item| PyString::new(py, &item.id).into_any().unbind())
                .collect()
        }))
    }

    /// Where an item that is not there is an error.
    fn known(&self) -> Ids<'_> {
        Ids {
            bundle: &self.inner,
            unknown: Unknown::Error,
        }
    }
}

#[pymethods]
impl Bundle {
    /// Opens a bundle's folder. Every file is compared with its digest.
    ///
    /// Parameters
    /// ----------
    /// path : str or path-like
    ///     The folder.
    /// threads : int, optional
    ///     Threads that compute; one a core if not given. The lists are the same on any number of them.
    ///
    /// Raises
    /// ------
    /// OSError
    ///     If the folder or a file in it cannot be read.
    /// BundleError
    ///     If a file was altered, or does not hold what it should.
    #[staticmethod]
    #[pyo3(signature = (path, *, threads=None))]
    fn load(py: Python<'_>, path: PathBuf, threads: Option<usize>) -> PyResult<Self> {
        if threads == Some(0) {
            return Err(PyValueError::new_err("threads is 0, expected 1 or more"));
        }
        let load = || {
            let bundle = eager_bundle::Bundle::load(&path, &Device::Cpu)?;
            match threads {
                Some(threads) => bundle.with_threads(threads),
                None => Ok(bundle),
            }
        };
        let inner = py.detach(load).map_err(|error| match error {
            eager_bundle::BundleError::Io { ref source, .. }
                if path.join("config.toml").exists() =>
            {
                let words = "this is a run, not a bundle; `eager export` makes one of it";
                system(source, format!("{error}; {words}"))
            }
            error => of_bundle(error),
        })?;
        Ok(Self {
            inner,
            process: Process::this(),
            ids: PyOnceLock::new(),
        })
    }

    /// A name for people, such as ``amazon-beauty/paper``.
    #[getter]
    fn name(&self) -> &str {
        &self.inner.manifest().name
    }

    /// SHA-256 that names exactly this bundle.
    #[getter]
    fn digest(&self) -> &str {
        self.inner.digest()
    }

    /// Everything that ``bundle.json`` says: dataset, revision, text encoder, how lists are made, figures, files.
    #[getter]
    fn manifest<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let text = serde_json::to_string(self.inner.manifest());
        let text = text.map_err(|error| PyValueError::new_err(error.to_string()))?;
        py.import("json")?.call_method1("loads", (text,))
    }

    /// Number of items; also ``len(bundle)``.
    #[getter]
    fn n_items(&self) -> usize {
        self.inner.items().len()
    }

    /// Number of threads that compute.
    #[getter]
    fn threads(&self) -> usize {
        self.inner.recommender().threads()
    }

    /// The items' ids by their numbers.
    #[getter]
    fn item_ids(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        let ids = self.ids(py)?.iter();
        Ok(ids.map(|id| id.clone_ref(py)).collect())
    }

    /// The items' titles by their numbers; None where there is none.
    #[getter]
    fn titles(&self) -> Vec<Option<&str>> {
        let items = self.inner.items().iter();
        items.map(|item| item.title.as_deref()).collect()
    }

    /// The categories that items have, sorted.
    #[getter]
    fn categories(&self) -> Vec<&str> {
        self.inner.categories().keys().map(String::as_str).collect()
    }

    /// The numbers of items.
    ///
    /// Parameters
    /// ----------
    /// ids : list of str
    ///
    /// Returns
    /// -------
    /// numpy.ndarray
    ///     int32 of shape (ids,).
    ///
    /// Raises
    /// ------
    /// LookupError
    ///     If an item is not in the catalogue.
    fn numbers<'py>(&self, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<i32>>> {
        let numbers = self.known().list(ids, || "ids".to_owned())?;
        let numbers = numbers.into_iter().map(|number| number as i32);
        Ok(PyArray1::from_iter(ids.py(), numbers))
    }

    /// The best items for each of many histories.
    ///
    /// Parameters
    /// ----------
    /// histories
    ///     Items of each user, oldest first, as one of: a list of lists of ids or numbers; an integer array of shape
    ///     (users, length) with numbers, where negative ones are empty places; an Arrow array of lists of strings (ids) or
    ///     integers (numbers); an Arrow table or data frame with a column `history` of such lists, and `user` where users
    ///     have names. Arrow comes from any library that has its PyCapsule interface, such as pyarrow or polars.
    /// k : int, default 10
    ///     Length of a list. It is shorter only where fewer items are let through.
    /// list : {"merged", "behaviour", "semantic"}
    ///     Both streams' predictions merged, or one stream's own list.
    /// exclude_seen : bool
    ///     Leave out what is in the history.
    /// allow, deny : list of str or int, optional
    ///     Nothing but these items; none of these items.
    /// categories : list of str, optional
    ///     Nothing but items of one of these categories.
    /// unknown : {"error", "skip"}
    ///     What to do with an item that the catalogue does not have: raise, or leave it out. A user who is left with no
    ///     item, or had none, gets an empty list with ``"skip"``.
    ///
    /// Returns
    /// -------
    /// Lists
    ///     In the order of the histories. A list does not depend on the histories beside it, up to rounding.
    ///
    /// Raises
    /// ------
    /// LookupError
    ///     If an item or a category is not in the catalogue.
    /// ValueError
    ///     If a history is empty, or `k` is 0.
    #[pyo3(
        signature = (histories, k=10, *, list="merged".to_owned(), exclude_seen=false, allow=None, deny=None,
            categories=None, unknown="error".to_owned()),
        text_signature = "($self, histories, k=10, *, list='merged', exclude_seen=False, allow=None, deny=None, \
            categories=None, unknown='error')"
    )]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn recommend(
        slf: Bound<'_, Self>,
        histories: &Bound<'_, PyAny>,
        k: usize,
        list: String,
        exclude_seen: bool,
        allow: Option<Bound<'_, PyAny>>,
        deny: Option<Bound<'_, PyAny>>,
        categories: Option<Vec<String>>,
        unknown: String,
    ) -> PyResult<Lists> {
        let (py, this) = (slf.py(), slf.get());
        this.process.check("Bundle")?;
        let (list, ids) = (
            list_kind(&list)?,
            Ids {
                bundle: &this.inner,
                unknown: self::unknown(&unknown)?,
            },
        );
        let numbers = |items: Option<Bound<'_, PyAny>>, name: &str| {
            let items = items.map(|items| ids.list(&items, || name.to_owned()));
            items.transpose()
        };
        let filter = Filter {
            exclude_seen,
            allow: numbers(allow, "allow")?,
            deny: numbers(deny, "deny")?.unwrap_or_default(),
            categories: categories.unwrap_or_default(),
        };
        let Histories { users, items } = Histories::read(ids, histories)?;
        let empty = items.iter().position(Vec::is_empty);
        if let (Some(user), Unknown::Error) = (empty, ids.unknown) {
            return Err(PyValueError::new_err(format!(
                "histories[{user}] is empty; at least one item is needed (unknown=\"skip\" gives such users an empty list)"
            )));
        }
        let mut lists = Vec::with_capacity(items.len());
        for histories in items.chunks(filter.queries_at_a_time()) {
            let made = py.detach(|| answer(&this.inner, histories, k, list, &filter));
            lists.extend(made.map_err(of_bundle)?);
            py.check_signals()?;
        }
        Ok(Lists::new(slf.unbind(), users, k, lists))
    }

    /// Why items: how likely a history makes each token of their codes.
    ///
    /// Parameters
    /// ----------
    /// history : list of str or int
    ///     The user's items, oldest first.
    /// items : list of str or int
    ///     What to explain.
    /// samples : int, default 3
    ///     How many items with the same beginning of the code to name at each token.
    ///
    /// Returns
    /// -------
    /// list of dict
    ///     Of each item `id`, `title`, and for `behaviour` and `semantic` the code's `log_prob` and its `tokens`: which
    ///     child of its node the `token` is, its `log_prob`, how many `siblings` it was chosen from (itself among them),
    ///     how many `leaves` lie below, and `samples` of their ids.
    ///
    /// Raises
    /// ------
    /// LookupError
    ///     If an item is not in the catalogue.
    /// ValueError
    ///     If the history is empty.
    #[pyo3(signature = (history, items, samples=3))]
    fn explain<'py>(
        &self,
        py: Python<'py>,
        history: &Bound<'py, PyAny>,
        items: &Bound<'py, PyAny>,
        samples: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.process.check("Bundle")?;
        let history = self.known().list(history, || "history".to_owned())?;
        let items = self.known().list(items, || "items".to_owned())?;
        if history.is_empty() {
            let words = "history is empty; at least one item is needed";
            return Err(PyValueError::new_err(words));
        }
        let found = py.detach(|| self.inner.explain_each(&history, &items, samples));
        let found = found.map_err(of_bundle)?;
        let found = found.iter().map(|why| Explained::new(&self.inner, why));
        found.collect::<Vec<_>>().into_pyobject(py)
    }

    /// Items like an item, by the cosine of their vectors.
    ///
    /// Parameters
    /// ----------
    /// item : str or int
    /// view : {"behaviour", "semantic"}
    ///     What is used by the same people, or what reads alike.
    /// k : int, default 10
    ///
    /// Returns
    /// -------
    /// list of dict
    ///     Of each item `id`, `title` and `cosine`; best first, without the item itself.
    ///
    /// Raises
    /// ------
    /// LookupError
    ///     If the item is not in the catalogue.
    #[pyo3(
        signature = (item, view="behaviour".to_owned(), k=10),
        text_signature = "($self, item, view='behaviour', k=10)"
    )]
    fn similar<'py>(
        &self,
        item: &Bound<'py, PyAny>,
        view: String,
        k: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, view) = (item.py(), self::view(&view)?);
        let mut found = vec![];
        if let Some(item) = self.known().one(item, || "item".to_owned())? {
            let near = py.detach(|| self.inner.similar(item, view, k));
            found = near.map_err(of_bundle)?;
        }
        let found = found.iter().map(|near| Near::new(&self.inner, near));
        found.collect::<Vec<_>>().into_pyobject(py)
    }

    /// The codes of a stream's tree, a leaf a row.
    ///
    /// Parameters
    /// ----------
    /// view : {"behaviour", "semantic"}
    ///
    /// Returns
    /// -------
    /// codes : numpy.ndarray
    ///     int32 of shape (leaves, levels): which child to take on each level. Row `i` is the code of item `i`; behind the
    ///     items stand the further leaves that balanced trees give to some. An item that is alone before the last level
    ///     goes on with only children, 0.
    /// items : numpy.ndarray
    ///     int32 of shape (leaves,): the number of the item that each row is a code of.
    #[expect(clippy::type_complexity, reason = "a pair of arrays")]
    fn codes<'py>(
        &self,
        py: Python<'py>,
        view: String,
    ) -> PyResult<(Bound<'py, PyArray2<i32>>, Bound<'py, PyArray1<i32>>)> {
        let codes = self.inner.recommender().codes(self::view(&view)?);
        let own = (0..codes.n_items() as u32).map(|item| (codes.code(item), item));
        let (mut tokens, mut items) = (vec![], vec![]);
        for (code, item) in own.chain(codes.extra()) {
            tokens.extend(code.iter().map(|&token| token as i32));
            items.push(item as i32);
        }
        let shape = [items.len(), codes.levels()];
        let tokens = PyArray1::from_vec(py, tokens).reshape(shape)?;
        Ok((tokens, PyArray1::from_vec(py, items)))
    }

    /// The vectors that a stream's codes were made of.
    ///
    /// Parameters
    /// ----------
    /// view : {"behaviour", "semantic"}
    ///
    /// Returns
    /// -------
    /// numpy.ndarray
    ///     float32 of shape (n_items, dim), by the items' numbers.
    fn vectors<'py>(&self, py: Python<'py>, view: String) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let vectors = self.inner.vectors(self::view(&view)?);
        PyArray1::from_slice(py, &vectors.data).reshape([vectors.items(), vectors.dim])
    }

    fn __len__(&self) -> usize {
        self.n_items()
    }

    fn __repr__(&self) -> String {
        let digest = self.digest();
        format!(
            "<eager_rec.Bundle {:?}: {} items, digest {}>",
            self.name(),
            self.n_items(),
            digest.get(..12).unwrap_or(digest)
        )
    }
}

/// A list for each history, an empty one for an empty history.
fn answer(
    bundle: &eager_bundle::Bundle,
    histories: &[Vec<u32>],
    k: usize,
    list: eager_bundle::ListKind,
    filter: &Filter,
) -> eager_bundle::Result<Vec<Vec<eager_bundle::Ranked>>> {
    let query = |history: &Vec<u32>| Query {
        history: history.clone(),
        k,
        list,
        filter: filter.clone(),
    };
    let known = histories.iter().filter(|history| !history.is_empty());
    let queries: Vec<Query> = known.map(query).collect();
    let mut found = bundle.recommend(&queries)?.into_iter();
    let lists = histories.iter().map(|history| match history.is_empty() {
        true => vec![],
        false => found.next().unwrap_or_default(),
    });
    Ok(lists.collect())
}
