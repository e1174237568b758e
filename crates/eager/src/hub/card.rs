//! The model card of a bundle: what the hub shows of it, made of the bundle alone.

use std::path::Path;

use eager_bundle::{Bundle, Evaluation, Manifest};
use eager_hub::RepositoryName;
use eager_infer::Ranking;
use eager_model::Stream;
use serde_json::Value;

/// Stands in every card that may be written over.
pub(super) const MARK: &str = "<!-- Written by `eager push`.";

/// The card, in Markdown with its YAML header.
pub(super) fn card(bundle: &Bundle, repository: &RepositoryName) -> String {
    let manifest = bundle.manifest();
    [
        header(manifest),
        about(bundle),
        figures(manifest),
        usage(bundle, repository),
        limits(bundle),
        files(bundle),
        format!("{MARK} Without this line the next push leaves the card as it is. -->\n"),
    ]
    .join("\n")
}

/// A text as YAML has it: JSON's texts are YAML's, too.
fn quoted(text: &str) -> Value {
    Value::from(text)
}

fn header(manifest: &Manifest) -> String {
    let mut text = "\
---
library_name: eager-rec
tags:
- recommendation
- sequential-recommendation
- generative-retrieval
- eager
- arxiv:2406.14017
"
    .to_owned();
    if !manifest.metrics.is_empty() {
        let (name, dataset) = (quoted(&manifest.name), quoted(&manifest.dataset));
        text += &format!(
            "\
model-index:
- name: {name}
  results:
  - task:
      type: sequential-recommendation
      name: Sequential recommendation
    dataset:
      type: {dataset}
      name: {dataset}
    metrics:
"
        );
        for (metric, figure) in &manifest.metrics {
            text += &format!("    - type: {metric}\n      name: {metric}\n      value: {figure}\n");
        }
    }
    text + "---\n"
}

/// A table row; a bar in a cell would end it.
fn row(cells: &[&str]) -> String {
    let cells = cells
        .iter()
        .map(|cell| cell.replace('|', "\\|").replace('\n', " "));
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

fn about(bundle: &Bundle) -> String {
    let (manifest, model) = (bundle.manifest(), bundle.recommender().model());
    let home = env!("CARGO_PKG_REPOSITORY");
    let direct = match model.config().direct_head {
        true => " Beside them a head scores every item directly.",
        false => "",
    };
    let mut text = format!(
        "\
# {}

A recommender: from what somebody has used, oldest first, it ranks the {} items of the dataset `{}`. The model is EAGER
([arXiv 2406.14017](https://arxiv.org/abs/2406.14017)), a generative recommender with two codes an item, one of what people
did and one of what the items' texts say, and a decoder for each.{direct} Made by [eager-rec]({home}).

",
        manifest.name,
        bundle.items().len(),
        manifest.dataset
    );
    text += &row(&["", ""]);
    text += &row(&["---", "---"]);
    for stream in Stream::ALL {
        let trie = bundle.recommender().trie(stream);
        let (levels, leaves) = (trie.levels(), trie.n_leaves());
        let dim = bundle.vectors(stream).dim;
        let codes = format!("{levels} levels, {leaves} leaves, of vectors of width {dim}");
        text += &row(&[&format!("{} codes", stream.name()), &codes]);
    }
    let model = format!(
        "{} parameters, width {}; the newest {} items of a history are read",
        model.parameters().count(),
        model.config().d_model,
        model.config().window - 1
    );
    // A model folder's name, and not where it lay.
    let encoder = Path::new(&manifest.text.encoder).file_name();
    let encoder = encoder.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let infer = &manifest.infer;
    let search = match infer.exact {
        true => "every item scored".to_owned(),
        false => format!("{} beams in each stream", infer.beams),
    };
    let ranking = match infer.ranking {
        Ranking::Confidence => "the surer stream",
        Ranking::Sum => "the weighted sum of log-probabilities",
        Ranking::Mixture => "the mixture of probabilities",
    };
    let trained = format!("eager {}, seed {}", manifest.version, manifest.seed);
    for (name, value) in [
        ("text encoder", &encoder),
        ("model", &model),
        ("lists", &format!("{search}, ranked by {ranking}")),
        ("trained by", &trained),
        ("revision of the catalogue", &manifest.revision.to_string()),
    ] {
        text += &row(&[name, value]);
    }
    text
}

fn figures(manifest: &Manifest) -> String {
    let mut text = "## Figures\n\n".to_owned();
    if manifest.metrics.is_empty() {
        return text + "This model was not evaluated.\n";
    }
    text += "Means over users, the target ranked among all items.";
    if manifest.revision > 1 {
        text += " They are of the model as it was trained: items came or went since.";
    }
    match &manifest.evaluation {
        Some(found) => text += &evaluated(manifest, found),
        None => {
            text += " Their intervals are not recorded.\n\n";
            text += &row(&["", "figure"]);
            text += &row(&["---", "---"]);
            for (name, figure) in &manifest.metrics {
                text += &row(&[name, &format!("{figure:.4}")]);
            }
        }
    }
    text
}

fn evaluated(manifest: &Manifest, found: &Evaluation) -> String {
    let level = 100.0 * found.interval_level;
    let mut text = format!(
        " {} users; {level} % bootstrap intervals over users.\n\n",
        found.users
    );
    text += &row(&["", "figure", "interval"]);
    text += &row(&["---", "---", "---"]);
    for (name, figure) in &manifest.metrics {
        let interval = found.intervals.get(name);
        let interval = interval.map_or("–".to_owned(), |[low, high]| {
            format!("{low:.4} – {high:.4}")
        });
        text += &row(&[name, &format!("{figure:.4}"), &interval]);
    }
    text += "\nHow they were found:\n\n";
    text += &row(&["", ""]);
    text += &row(&["---", "---"]);
    for (name, value) in &found.protocol {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        text += &row(&[name, &value]);
    }
    text
}

fn usage(bundle: &Bundle, repository: &RepositoryName) -> String {
    let plain = |id: &&str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        !id.is_empty() && !id.starts_with('-') && id.chars().all(known)
    };
    let ids = bundle.items().iter().map(|item| item.id.as_str());
    let ids: Vec<&str> = ids.filter(plain).take(2).collect();
    let ids = if ids.is_empty() {
        vec!["ID", "ID"]
    } else {
        ids
    };
    let (_, folder) = repository.parts();
    let (listed, quoted) = (ids.join(","), format!("{ids:?}"));
    format!(
        "\
## Use

```sh
eager pull {repository} {folder}
eager recommend {folder} --history {listed} --explain
eager serve {folder}   # HTTP, and a page to look at
```

```python
import eager_rec
bundle = eager_rec.Bundle.load(\"{folder}\")
print(bundle.recommend([{quoted}], k=10).ids)
```
"
    )
}

fn limits(bundle: &Bundle) -> String {
    let seen = match bundle.manifest().infer.mask_history {
        true => "Items of the history are left out of the lists.",
        false => "Items of the history may be recommended again; `--exclude-seen` leaves them out.",
    };
    format!(
        "\
## Limits

- It knows the history alone, and needs one: somebody without a known item gets no list.
- It recommends the {} items of its catalogue. Others are added without training (`eager catalog add`), and are found less
  often than items that people have used.
- {seen}
- Items of equal score stand in the order of the catalogue.
- The figures come from past interactions, in which people could only use what they were shown. They say how well the next one
  was found again, not what a recommendation changes, and nothing of other data.
- `items.jsonl` has the items' ids and texts. The data that it comes from has its own terms.
",
        bundle.items().len()
    )
}

fn files(bundle: &Bundle) -> String {
    let mut text = "## Files\n\n".to_owned();
    text += &row(&["", "bytes", "SHA-256"]);
    text += &row(&["---", "---", "---"]);
    for (name, file) in &bundle.manifest().files {
        text += &row(&[name, &file.bytes.to_string(), &format!("`{}`", file.sha256)]);
    }
    let digest = format!("`{}`", bundle.digest());
    text += &row(&["bundle.json", "", &digest]);
    text + "\n`bundle.json` has the digests of all others; its own names exactly this bundle. `eager pull` and every program that opens \
            the bundle compare them.\n"
}
