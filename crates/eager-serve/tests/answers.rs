//! What the server says is what the library says, alone and among others, and the document describes it.

mod common;

use axum::http::StatusCode;
use common::{ITEMS, Served, json};
use eager_bundle::{Bundle, Filter, ListKind, Query};
use eager_model::Stream;
use eager_serve::Config;
use serde_json::{Value, json};

fn id(item: u32) -> String {
    format!("i{item}")
}

/// As it stands in an answer: the shortest digits that give the same `f32`.
fn number(x: impl serde::Serialize) -> Value {
    serde_json::from_str(&serde_json::to_string(&x).unwrap()).unwrap()
}

fn ids(items: &[u32]) -> Vec<String> {
    items.iter().map(|&item| id(item)).collect()
}

/// Queries of every kind with the bodies that ask them.
fn queries() -> Vec<(Query, Value)> {
    let kinds = [
        (ListKind::Merged, "merged"),
        (ListKind::Behaviour, "behaviour"),
        (ListKind::Semantic, "semantic"),
    ];
    let mut all = vec![];
    for n in 0..24u32 {
        let history: Vec<u32> = (0..1 + n % 7)
            .map(|i| (n * 31 + i * 17) % ITEMS as u32)
            .collect();
        let (list, name) = kinds[n as usize % 3];
        let k = 1 + n as usize % 12;
        let mut body = json!({"history": ids(&history), "k": k, "list": name});
        let mut filter = Filter::default();
        if n % 4 == 1 {
            filter.exclude_seen = true;
            filter.deny = vec![n, n + 40];
            body["exclude_seen"] = true.into();
            body["deny"] = json!(ids(&filter.deny));
        }
        if n % 8 == 2 {
            filter.categories = vec!["c1".to_owned(), "c5".to_owned()];
            // Again is not more.
            body["categories"] = json!(["c1", "c5", "c1"]);
        }
        if n % 8 == 7 {
            let allow: Vec<u32> = (0..ITEMS as u32).step_by(3).collect();
            body["allow"] = json!(ids(&allow));
            filter.allow = Some(allow);
        }
        all.push((
            Query {
                history,
                k,
                list,
                filter,
            },
            body,
        ));
    }
    all
}

fn expected(bundle: &Bundle, query: &Query) -> Value {
    let list = bundle
        .recommend(std::slice::from_ref(query))
        .unwrap()
        .remove(0);
    let items = list.iter().zip(1..).map(|(ranked, rank)| {
        let item = &bundle.items()[ranked.item as usize];
        let direct = ranked.direct.unwrap_or(f32::MIN);
        let semantic = ranked.semantic.unwrap_or(f32::MIN);
        let stream = match ranked.behaviour.unwrap_or(f32::MIN) {
            behaviour if behaviour >= semantic && behaviour >= direct => "behaviour",
            _ if semantic >= direct => "semantic",
            _ => "direct",
        };
        let mut line = json!({
            "rank": rank, "item": item.id, "title": item.title, "score": number(ranked.score), "stream": stream,
            "behaviour": number(ranked.behaviour), "semantic": number(ranked.semantic),
        });
        if let Some(direct) = ranked.direct {
            line["direct"] = number(direct);
        }
        line
    });
    items.collect()
}

#[tokio::test]
async fn a_list_is_the_librarys_alone_and_among_others() {
    let config = Config {
        workers: 1,
        max_batch: 8,
        ..Config::default()
    };
    let served = Served::one(config);
    let bundle = common::open(&served.folder(0)).unwrap();
    let queries = queries();
    let mut alone = vec![];
    for (query, body) in &queries {
        let (status, answer) = served.post("/v1/recommend", body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["items"], expected(&bundle, query), "{body}");
        assert_eq!(
            (&answer["model"], &answer["digest"]),
            (&json!("0"), &json!(bundle.digest()))
        );
        assert!(answer.get("skipped").is_none());
        alone.push(answer["items"].clone());
    }
    // All at once: a worker takes several together, and every bit stays the same.
    let passes = served.metric("eager_batch_queries_count").await;
    let together = queries
        .iter()
        .cycle()
        .take(240)
        .map(|(_, body)| served.post("/v1/recommend", body));
    let together = join(together).await;
    for (n, (status, answer)) in together.into_iter().enumerate() {
        assert_eq!(status, StatusCode::OK);
        assert_eq!(answer["items"], alone[n % queries.len()], "query {n}");
    }
    let passes = served.metric("eager_batch_queries_count").await - passes;
    assert!(passes < 120.0, "{passes} passes for 240 queries");
    assert_eq!(served.metric("eager_panics_total").await, 0.0);
}

#[tokio::test]
async fn a_direct_head_is_named_and_its_answers_are_described() {
    let served = Served::new(
        Config::default(),
        [
            eager_fixtures::bundle_with_direct_head(ITEMS, 7),
            eager_fixtures::bundle_ranked_by_sum(ITEMS, 7),
        ],
    );
    let (_, document) = served.get("/openapi.json").await;
    let described = &document["paths"]["/v1/recommend"]["post"]["responses"]["200"];
    let schema = &described["content"]["application/json"]["schema"];
    for (number, by_likeliest) in [(0, true), (1, false)] {
        let bundle = common::open(&served.folder(number)).unwrap();
        let mut surest = 0;
        // Of all items, some are likeliest by the head.
        let all = Query {
            history: vec![1],
            k: ITEMS,
            ..Query::default()
        };
        let body = json!({"history": ["i1"], "k": ITEMS, "list": "merged"});
        for (query, mut body) in queries().into_iter().chain([(all, body)]) {
            body["model"] = number.to_string().into();
            let (status, answer) = served.post("/v1/recommend", &body).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            assert_eq!(answer["items"], expected(&bundle, &query), "{body}");
            fits(&document, schema, &answer, "list");
            for item in answer["items"].as_array().unwrap() {
                surest += usize::from(item["stream"] == "direct");
                // A sum is the log-probability of nothing; a stream's own list has no other score.
                let likeliest = item["score"] == item[item["stream"].as_str().unwrap()];
                let merged = body["list"] == "merged";
                assert_eq!(likeliest, by_likeliest || !merged, "{item}");
            }
        }
        assert!(surest > 0, "the direct head is never the surest");
    }
}

/// The results of futures that are polled in turn.
async fn join<T: Send + 'static>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures
        .map(|future| (Some(Box::pin(future)), None))
        .collect();
    std::future::poll_fn(|context| {
        let mut done = true;
        for (future, result) in &mut pending {
            if let Some(running) = future {
                match running.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => (*future, *result) = (None, Some(value)),
                    std::task::Poll::Pending => done = false,
                }
            }
        }
        if done {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pending
        .into_iter()
        .filter_map(|(_, result)| result)
        .collect()
}

#[tokio::test]
async fn unknown_ids_can_be_skipped_and_only_the_newest_are_read() {
    let served = Served::one(Config::default());
    let bundle = common::open(&served.folder(0)).unwrap();
    let body = json!({"history": ["x", "i4", "y"], "deny": ["z"], "unknown": "skip", "k": 3});
    let (status, answer) = served.post("/v1/recommend", body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["skipped"], json!(["x", "y", "z"]));
    let query = Query {
        history: vec![4],
        k: 3,
        ..Query::default()
    };
    assert_eq!(answer["items"], expected(&bundle, &query));

    let long: Vec<u32> = (0..60).collect();
    let (_, answer) = served
        .post("/v1/recommend", json!({"history": ids(&long)}))
        .await;
    let (_, models) = served.get("/v1/models").await;
    let newest = models["models"][0]["max_history"].as_u64().unwrap() as usize;
    let (_, same) = served
        .post(
            "/v1/recommend",
            json!({"history": ids(&long[60 - newest..])}),
        )
        .await;
    assert_eq!(answer["items"], same["items"]);
    assert_eq!(answer["items"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn reasons_are_the_librarys() {
    let served = Served::one(Config::default());
    let bundle = common::open(&served.folder(0)).unwrap();
    let body = json!({"history": ["i3", "i8"], "items": ["i5", "i77"], "samples": 2});
    let (status, answer) = served.post("/v1/explain", body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        (&answer["model"], &answer["digest"]),
        (&json!("0"), &json!(bundle.digest()))
    );
    let explained = bundle.explain_each(&[3, 8], &[5, 77], 2).unwrap();
    assert_eq!(answer["explanations"].as_array().unwrap().len(), 2);
    for (found, expected) in answer["explanations"]
        .as_array()
        .unwrap()
        .iter()
        .zip(explained)
    {
        assert_eq!(found["item"], id(expected.item));
        assert_eq!(found["title"], format!("Item number {}", expected.item));
        for stream in Stream::ALL {
            let (found, expected) = (&found["streams"][stream.name()], &expected.streams[stream]);
            assert_eq!(found["log_prob"], number(expected.log_prob));
            let tokens = expected.tokens.iter().map(|token| {
                let samples = token.samples.iter().map(|&item| json!({"item": id(item), "title": format!("Item number {item}")}));
                json!({
                    "node": token.node, "token": token.ordinal, "siblings": token.siblings, "log_prob": number(token.log_prob),
                    "leaves": token.leaves, "samples": samples.collect::<Value>(),
                })
            });
            assert_eq!(found["tokens"], tokens.collect::<Value>());
        }
    }
}

#[tokio::test]
async fn the_catalogue_can_be_read_and_searched() {
    let served = Served::one(Config::default());
    let bundle = common::open(&served.folder(0)).unwrap();
    let found = |answer: &Value| -> Vec<String> {
        let items = answer["items"].as_array().unwrap().iter();
        items
            .map(|item| item["item"].as_str().unwrap().to_owned())
            .collect()
    };
    let (_, answer) = served.get("/v1/items").await;
    assert_eq!(
        (answer["total"].as_u64(), found(&answer)),
        (Some(90), ids(&(0..20).collect::<Vec<_>>()))
    );
    assert_eq!(
        answer["items"][3],
        json!({"item": "i3", "title": "Item number 3", "categories": ["all", "c3"]})
    );
    let (_, answer) = served.get("/v1/items?q=NUM%208&limit=3&offset=1").await;
    assert_eq!(
        (answer["total"].as_u64(), found(&answer)),
        (Some(11), ids(&[80, 81, 82]))
    );
    let (_, answer) = served.get("/v1/items?category=c4&q=item&limit=100").await;
    assert_eq!(found(&answer), ids(&bundle.categories()["c4"]));
    let (_, answer) = served.get("/v1/items?q=nothing").await;
    assert_eq!(
        (answer["total"].as_u64(), found(&answer)),
        (Some(0), vec![])
    );

    for item in [0, 41, 89] {
        let (_, answer) = served.get(&format!("/v1/items/i{item}")).await;
        for stream in Stream::ALL {
            let codes = bundle.recommender().codes(stream).code(item).to_vec();
            assert_eq!(answer["codes"][stream.name()], json!(codes));
        }
        for (view, stream) in [
            ("behaviour", Stream::Behaviour),
            ("semantic", Stream::Semantic),
        ] {
            let (_, answer) = served
                .get(&format!("/v1/items/i{item}/similar?view={view}&k=4"))
                .await;
            let expected = bundle.similar(item, stream, 4).unwrap();
            let expected = (1..).zip(expected).map(|(rank, near)| {
                json!({"rank": rank, "item": id(near.item), "title": format!("Item number {}", near.item), "cosine": number(near.cosine)})
            });
            assert_eq!(answer["items"], expected.collect::<Value>());
        }
    }

    // The whole tree, from the root to every item.
    for stream in Stream::ALL {
        let (mut items, mut prefixes) = (vec![], vec![String::new()]);
        while let Some(prefix) = prefixes.pop() {
            let (_, node) = served
                .get(&format!(
                    "/v1/tree/{}?prefix={prefix}&samples=1",
                    stream.name()
                ))
                .await;
            let children = node["children"].as_array().unwrap();
            assert_eq!(node["total"], children.len());
            let below: u64 = children
                .iter()
                .map(|child| child["items"].as_u64().unwrap())
                .sum();
            assert_eq!(node["items"], below, "every item has one code here");
            for child in children {
                let token = &child["token"];
                if child["leaf"] == true {
                    assert_eq!(child["leaves"], 1);
                    items.push(child["samples"][0]["item"].as_str().unwrap().to_owned());
                } else if prefix.is_empty() {
                    prefixes.push(token.to_string());
                } else {
                    prefixes.push(format!("{prefix},{token}"));
                }
            }
        }
        items.sort();
        let mut all = ids(&(0..ITEMS as u32).collect::<Vec<_>>());
        all.sort();
        assert_eq!(items, all);
    }
}

#[tokio::test]
async fn categories_and_children_come_in_parts() {
    let served = Served::one(Config::default());
    let (_, few) = served.get("/v1/categories?limit=3").await;
    let expected = [("all", ITEMS), ("c0", ITEMS / 9), ("c1", ITEMS / 9)];
    let expected = expected.map(|(category, items)| json!({"category": category, "items": items}));
    assert_eq!(few, json!({"total": 10, "categories": expected}));
    let (_, all) = served.get("/v1/categories").await;
    assert_eq!(all["categories"].as_array().unwrap().len(), 10);

    let (_, whole) = served.get("/v1/tree/semantic").await;
    let whole = whole["children"].as_array().unwrap();
    let n = whole.len();
    assert!(n > 2);
    for offset in 0..=n + 1 {
        let (_, part) = served
            .get(&format!("/v1/tree/semantic?offset={offset}&limit=2"))
            .await;
        let shown = offset.min(n)..(offset + 2).min(n);
        assert_eq!(part["children"], json!(whole[shown]), "from {offset}");
        assert_eq!(part["total"], n);
    }
}

#[tokio::test]
async fn several_models_are_told_apart() {
    let served = Served::new(
        Config::default(),
        [7, 8].map(|seed| eager_fixtures::bundle(ITEMS, seed)),
    );
    let (_, answer) = served.get("/v1/models").await;
    let names: Vec<_> = answer["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["name"])
        .collect();
    assert_eq!(names, ["0", "1"]);
    let query = Query {
        history: vec![1],
        k: 10,
        ..Query::default()
    };
    for number in [0, 1] {
        let bundle = common::open(&served.folder(number)).unwrap();
        let model = &answer["models"][number];
        assert_eq!(
            (&model["items"], &model["categories"]),
            (&json!(ITEMS), &json!(10))
        );
        let trie = bundle.recommender().trie(Stream::Semantic);
        let size =
            json!({"levels": trie.levels(), "nodes": trie.n_nodes(), "leaves": trie.n_leaves()});
        assert_eq!(model["streams"]["semantic"], size);
        let body = json!({"model": number.to_string(), "history": ["i1"]});
        let (_, list) = served.post("/v1/recommend", body).await;
        assert_eq!(list["items"], expected(&bundle, &query));
        let path = format!("/v1/items/i1?model={number}");
        let code = bundle
            .recommender()
            .codes(Stream::Behaviour)
            .code(1)
            .to_vec();
        assert_eq!(served.get(&path).await.1["codes"]["behaviour"], json!(code));
    }
}

/// Whether `value` is of `schema`, whose fields it must have as far as they are always there, and no others.
fn fits(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        return fits(document, document.pointer(&name[1..]).unwrap(), value, at);
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    match value {
        Value::Object(fields) => {
            let mut known: Vec<(&String, &Value)> = vec![];
            let mut required: Vec<&Value> = vec![];
            let parts = schema["allOf"]
                .as_array()
                .into_iter()
                .flatten()
                .chain([schema]);
            for part in parts {
                let name = part["$ref"].as_str();
                let mut parts =
                    vec![name.map_or(part, |name| document.pointer(&name[1..]).unwrap())];
                while let Some(part) = parts.pop() {
                    known.extend(part["properties"].as_object().into_iter().flatten());
                    required.extend(part["required"].as_array().into_iter().flatten());
                    for inner in part["allOf"].as_array().into_iter().flatten() {
                        let name = inner["$ref"].as_str();
                        parts
                            .push(name.map_or(inner, |name| document.pointer(&name[1..]).unwrap()));
                    }
                }
            }
            for (field, value) in fields {
                let of = known.iter().find(|(name, _)| *name == field);
                let (_, of) =
                    of.unwrap_or_else(|| panic!("{at}.{field} is not in the document: {schema}"));
                fits(document, of, value, &format!("{at}.{field}"));
            }
            for name in required {
                assert!(
                    fields.contains_key(name.as_str().unwrap()),
                    "{at}.{name} is missing"
                );
            }
        }
        Value::Array(values) => {
            assert!(kinds.contains(&"array"), "{at}: {schema}");
            values
                .iter()
                .for_each(|value| fits(document, &schema["items"], value, &format!("{at}[]")));
        }
        Value::String(_) => assert!(kinds.contains(&"string"), "{at}: {schema}"),
        Value::Number(n) if n.is_f64() => assert!(kinds.contains(&"number"), "{at}: {schema}"),
        Value::Number(_) => assert!(
            kinds.contains(&"integer") || kinds.contains(&"number"),
            "{at}: {schema}"
        ),
        Value::Bool(_) => assert!(kinds.contains(&"boolean"), "{at}: {schema}"),
        Value::Null => assert!(kinds.contains(&"null"), "{at}: {schema}"),
    }
}

#[tokio::test]
async fn the_document_describes_every_answer() {
    let served = Served::one(Config::default());
    let (_, document) = served.get("/openapi.json").await;
    let asked = [
        (
            "/v1/recommend",
            "post",
            json(
                "/v1/recommend",
                json!({"history": ["i1", "x"], "unknown": "skip"}),
            ),
        ),
        (
            "/v1/explain",
            "post",
            json("/v1/explain", json!({"history": ["i1"], "items": ["i2"]})),
        ),
        ("/v1/items", "get", get("/v1/items?limit=2")),
        ("/v1/items/{id}", "get", get("/v1/items/i1")),
        (
            "/v1/items/{id}/similar",
            "get",
            get("/v1/items/i1/similar?k=2"),
        ),
        ("/v1/tree/{stream}", "get", get("/v1/tree/semantic?limit=2")),
        ("/v1/categories", "get", get("/v1/categories?limit=3")),
        ("/v1/models", "get", get("/v1/models")),
        (
            "/v1/admin/reload",
            "post",
            json("/v1/admin/reload", json!({})),
        ),
        ("/healthz", "get", get("/healthz")),
        ("/readyz", "get", get("/readyz")),
    ];
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), asked.len(), "every route is asked");
    let (_, _, page) = served.send(get("/docs")).await;
    let page = String::from_utf8(page).unwrap();
    for (path, method, request) in asked {
        let (status, _, body) = served.send(request).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        let schema =
            &paths[path][method]["responses"]["200"]["content"]["application/json"]["schema"];
        fits(
            &document,
            schema,
            &serde_json::from_slice(&body).unwrap(),
            path,
        );
        assert!(
            page.contains(&format!("<code>{path}</code>")),
            "{path} is not on the page"
        );
        for (status, response) in paths[path][method]["responses"].as_object().unwrap() {
            assert!(
                status == "200" || !response["content"].is_null(),
                "{path} {status}"
            );
        }
    }
    let (status, answer) = served
        .post("/v1/recommend", json!({"history": ["x"]}))
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    fits(
        &document,
        &json!({"$ref": "#/components/schemas/ErrorBody"}),
        &answer,
        "error",
    );
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(page.contains(&format!("id=\"{name}\"")), "{name}: {schema}");
    }
    assert!(!page.contains("://"), "nothing is loaded from elsewhere");
}

fn get(path: &str) -> axum::http::Request<axum::body::Body> {
    axum::http::Request::get(path)
        .body(axum::body::Body::empty())
        .unwrap()
}
