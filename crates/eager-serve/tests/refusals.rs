//! Bad input gets a status, a word, a sentence and the place; limits and the token hold.

mod common;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use common::{Served, json};
use eager_serve::{App, Config, ServeError, Source, Token};
use serde_json::{Value, json};

async fn refused(
    served: &Served,
    request: Request<Body>,
    status: u16,
    code: &str,
    field: Option<&str>,
) -> String {
    let about = format!("{} {}", request.method(), request.uri());
    // What is no route is in no document.
    if code != "not_found" {
        let method = request.method().as_str().to_lowercase();
        is_described(served, &method, request.uri().path(), status).await;
    }
    let (found, headers, body) = served.send(request).await;
    let text = String::from_utf8_lossy(&body).into_owned();
    assert_eq!(found.as_u16(), status, "{about}: {text}");
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["error"]["code"], code, "{about}: {text}");
    assert_eq!(answer["error"]["field"].as_str(), field, "{about}: {text}");
    assert_eq!(
        answer["request_id"].as_str(),
        headers["x-request-id"].to_str().ok()
    );
    assert!(!answer["request_id"].as_str().unwrap().is_empty());
    let message = answer["error"]["message"].as_str().unwrap();
    for of_rust in [
        "usize",
        "struct",
        "variant",
        "sequence",
        "deserialize",
        "digit",
        "expected unit",
    ] {
        assert!(!message.contains(of_rust), "{about}: {message}");
    }
    // A field is told by its path.
    if code == "bad_field" {
        assert!(!message.contains(" at line "), "{about}: {message}");
    }
    message.to_owned()
}

/// The document of the interface has the status for that path.
async fn is_described(served: &Served, method: &str, path: &str, status: u16) {
    let (_, document) = served.get("/openapi.json").await;
    let is_of = |route: &str| {
        let same = |(of, found): (&str, &str)| of.starts_with('{') || of == found;
        route.split('/').count() == path.split('/').count()
            && route.split('/').zip(path.split('/')).all(same)
    };
    let mut routes = document["paths"].as_object().unwrap().iter();
    let (route, methods) = routes
        .find(|(route, _)| is_of(route))
        .unwrap_or_else(|| panic!("{path} is not in the document"));
    let response = &methods[method]["responses"][status.to_string()];
    let schema = &response["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(
        schema, "#/components/schemas/ErrorBody",
        "{method} {route} {status}: {response}"
    );
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn who_asks_for_no_length_gets_no_more_than_there_is() {
    let served = Served::one(Config {
        max_k: 3,
        ..Config::default()
    });
    let (status, list) = served
        .post("/v1/recommend", json!({"history": ["i1"]}))
        .await;
    let (found, near) = served.get("/v1/items/i1/similar").await;
    assert_eq!((status, found), (StatusCode::OK, StatusCode::OK));
    for answer in [list, near] {
        assert_eq!(answer["items"].as_array().unwrap().len(), 3);
    }
}

#[tokio::test]
async fn bad_input_is_named() {
    let config = Config {
        max_body: 2000,
        max_history: 5,
        max_k: 50,
        ..Config::default()
    };
    let served = Served::one(config);
    let bodies: [(Value, u16, &str, Option<&str>); 31] = [
        (json!({}), 422, "bad_field", Some("history")),
        (json!([]), 422, "bad_field", None),
        (json!(null), 422, "bad_field", None),
        // The fields in their order are no request.
        (
            json!(["0", ["i1"], 1, "merged", false, null, [], [], "error"]),
            422,
            "bad_field",
            None,
        ),
        (
            json!({"history": []}),
            422,
            "empty_history",
            Some("history"),
        ),
        (
            json!({"history": ["x"], "unknown": "skip"}),
            422,
            "empty_history",
            Some("history"),
        ),
        (
            json!({"history": ["i1", "i2", "x"]}),
            422,
            "unknown_item",
            Some("history[2]"),
        ),
        (
            json!({"history": ["i1", 7]}),
            422,
            "bad_field",
            Some("history[1]"),
        ),
        (json!({"history": "i1"}), 422, "bad_field", Some("history")),
        (
            json!({"history": vec!["i1"; 6]}),
            422,
            "too_long",
            Some("history"),
        ),
        (
            json!({"history": ["i1"], "k": 0}),
            422,
            "out_of_range",
            Some("k"),
        ),
        (
            json!({"history": ["i1"], "k": 51}),
            422,
            "out_of_range",
            Some("k"),
        ),
        (
            json!({"history": ["i1"], "k": -1}),
            422,
            "bad_field",
            Some("k"),
        ),
        (
            json!({"history": ["i1"], "k": 1.5}),
            422,
            "bad_field",
            Some("k"),
        ),
        (
            json!({"history": ["i1"], "k": 1e300}),
            422,
            "bad_field",
            Some("k"),
        ),
        (
            json!({"history": ["i1"], "list": "both"}),
            422,
            "bad_field",
            Some("list"),
        ),
        (
            json!({"history": ["i1"], "list": 7}),
            422,
            "bad_field",
            Some("list"),
        ),
        (
            json!({"history": ["i1"], "list": null}),
            422,
            "bad_field",
            Some("list"),
        ),
        // What serde would take for the name alone.
        (
            json!({"history": ["i1"], "list": {"merged": null}}),
            422,
            "bad_field",
            Some("list"),
        ),
        (
            json!({"history": ["i1"], "list": {"merged": 1}}),
            422,
            "bad_field",
            Some("list"),
        ),
        (
            json!({"history": ["i1"], "unknown": {"skip": null}}),
            422,
            "bad_field",
            Some("unknown"),
        ),
        (json!({"history": {}}), 422, "bad_field", Some("history")),
        (
            json!({"history": ["i1"], "beams": 3}),
            422,
            "bad_field",
            Some("beams"),
        ),
        (
            json!({"history": ["i1"], "allow": ["i1", "x"]}),
            422,
            "unknown_item",
            Some("allow[1]"),
        ),
        (
            json!({"history": ["i1"], "deny": ["x"]}),
            422,
            "unknown_item",
            Some("deny[0]"),
        ),
        (
            json!({"history": ["i1"], "categories": ["c1", "c99"]}),
            422,
            "unknown_category",
            Some("categories[1]"),
        ),
        (
            json!({"history": ["i1"], "categories": vec!["c1"; 6]}),
            422,
            "too_long",
            Some("categories"),
        ),
        (
            json!({"history": ["i1"], "unknown": "guess"}),
            422,
            "bad_field",
            Some("unknown"),
        ),
        (
            json!({"history": ["i1"], "model": "x"}),
            404,
            "unknown_model",
            Some("model"),
        ),
        (
            json!({"history": ["i1"], "exclude_seen": 1}),
            422,
            "bad_field",
            Some("exclude_seen"),
        ),
        (
            json!({"history": ["x".repeat(1990)]}),
            413,
            "too_large",
            None,
        ),
    ];
    for (body, status, code, field) in bodies {
        let message = refused(&served, json("/v1/recommend", &body), status, code, field).await;
        assert!(message.len() > 10, "{message}");
    }
    for text in ["", "{", "{\"history\": [\"i1\"]} x", "\u{0}"] {
        refused(&served, json("/v1/recommend", text), 400, "bad_json", None).await;
    }
    let deep = json("/v1/recommend", "[".repeat(900));
    refused(&served, deep, 422, "bad_field", None).await;
    // At the first that is no id, before what is missing at the end.
    let deep = json(
        "/v1/recommend",
        format!("{{\"history\": {}", "[".repeat(900)),
    );
    refused(&served, deep, 422, "bad_field", Some("history[0]")).await;
    for (path, body, field) in [
        ("recommend", r#"{"history": ["i1"], "k": 3, "k": 5}"#, "k"),
        (
            "recommend",
            r#"{"history": ["i1"], "history": ["i2"]}"#,
            "history",
        ),
        (
            "recommend",
            r#"{"list": "merged", "list": "semantic", "history": ["i1"]}"#,
            "list",
        ),
        (
            "explain",
            r#"{"items": ["i1"], "history": ["i1"], "items": ["i2"]}"#,
            "items",
        ),
        ("admin/reload", r#"{"model": null, "model": "0"}"#, "model"),
    ] {
        let request = json(&format!("/v1/{path}"), body);
        let message = refused(&served, request, 422, "bad_field", Some(field)).await;
        assert_eq!(message, format!("{field} is there twice"));
    }
    for (field, value, words) in [
        (
            "k",
            json!(-1),
            "found integer `-1`, expected a whole number from 0 up",
        ),
        ("deny", json!({}), "found keys with values, expected a list"),
        (
            "list",
            json!({"merged": 1}),
            "found keys with values, expected a string",
        ),
        ("list", json!(7), "found integer `7`, expected a string"),
        (
            "exclude_seen",
            json!([]),
            "found a list, expected true or false",
        ),
        (
            "unknown",
            json!("guess"),
            "there is no `guess`, expected `error` or `skip`",
        ),
    ] {
        let mut body = json!({"history": ["i1"]});
        body[field] = value;
        let request = json("/v1/recommend", body);
        let message = refused(&served, request, 422, "bad_field", Some(field)).await;
        assert_eq!(message, words);
    }
    let list = json("/v1/recommend", json!(["i1"]));
    let message = refused(&served, list, 422, "bad_field", None).await;
    assert_eq!(
        message,
        "found a list, expected a JSON object; /docs lists its fields"
    );
    let missing = json("/v1/explain", json!({"history": ["i1"]}));
    let message = refused(&served, missing, 422, "bad_field", Some("items")).await;
    assert_eq!(message, "items is missing");
    let reload = json("/v1/admin/reload", json!({"model": 7}));
    refused(&served, reload, 422, "bad_field", Some("model")).await;
    let reload = json("/v1/admin/reload", json!(["0"]));
    refused(&served, reload, 422, "bad_field", None).await;
    let mut bytes = json("/v1/recommend", "");
    *bytes.body_mut() = vec![b'"', 0xff, b'"'].into();
    refused(&served, bytes, 400, "bad_json", None).await;
    let bare = Request::post("/v1/recommend")
        .body(Body::from("{}"))
        .unwrap();
    refused(&served, bare, 415, "not_json", None).await;

    let explain = |body: Value| json("/v1/explain", body);
    let many = vec!["i1"; 21];
    refused(
        &served,
        explain(json!({"history": ["i1"], "items": []})),
        422,
        "out_of_range",
        Some("items"),
    )
    .await;
    refused(
        &served,
        explain(json!({"history": ["i1"], "items": many})),
        422,
        "out_of_range",
        Some("items"),
    )
    .await;
    refused(
        &served,
        explain(json!({"history": ["i1"], "items": ["x"]})),
        422,
        "unknown_item",
        Some("items[0]"),
    )
    .await;
    refused(
        &served,
        explain(json!({"history": ["i1"], "items": ["i1"], "model": "x"})),
        404,
        "unknown_model",
        Some("model"),
    )
    .await;
    let samples = json!({"history": ["i1"], "items": ["i1"], "samples": 51});
    refused(
        &served,
        explain(samples),
        422,
        "out_of_range",
        Some("samples"),
    )
    .await;

    let paths = [
        ("/v1/items?limit=0", 422, "out_of_range", Some("limit")),
        (
            "/v1/categories?limit=1001",
            422,
            "out_of_range",
            Some("limit"),
        ),
        ("/v1/items?limit=101", 422, "out_of_range", Some("limit")),
        ("/v1/items?limit=x", 400, "bad_query", Some("limit")),
        ("/v1/items?limit=", 400, "bad_query", Some("limit")),
        ("/v1/items?limit=1&limit=2", 400, "bad_query", Some("limit")),
        (
            "/v1/tree/semantic?offset=99999999999999999999",
            400,
            "bad_query",
            Some("offset"),
        ),
        ("/v1/items?page=1", 400, "bad_query", Some("page")),
        (
            "/v1/items?category=c99",
            422,
            "unknown_category",
            Some("category"),
        ),
        ("/v1/items/x", 404, "unknown_item", Some("id")),
        ("/v1/items/%ff", 400, "bad_path", Some("id")),
        ("/v1/items/a%2Fb", 404, "unknown_item", Some("id")),
        ("/v1/items/x/similar", 404, "unknown_item", Some("id")),
        (
            "/v1/items/i1/similar?view=both",
            400,
            "bad_query",
            Some("view"),
        ),
        ("/v1/items/i1/similar?k=51", 422, "out_of_range", Some("k")),
        ("/v1/items/i1?model=x", 404, "unknown_model", Some("model")),
        ("/v1/items?model=x", 404, "unknown_model", Some("model")),
        (
            "/v1/categories?model=x",
            404,
            "unknown_model",
            Some("model"),
        ),
        (
            "/v1/items/i1/similar?model=x",
            404,
            "unknown_model",
            Some("model"),
        ),
        (
            "/v1/tree/semantic?model=x",
            404,
            "unknown_model",
            Some("model"),
        ),
        ("/v1/items/i1?page=1", 400, "bad_query", Some("page")),
        ("/v1/categories?page=1", 400, "bad_query", Some("page")),
        ("/v1/tree/both", 400, "bad_path", Some("stream")),
        (
            "/v1/tree/semantic?prefix=a",
            422,
            "bad_prefix",
            Some("prefix"),
        ),
        (
            "/v1/tree/semantic?prefix=1,,2",
            422,
            "bad_prefix",
            Some("prefix"),
        ),
        (
            "/v1/tree/semantic?prefix=99",
            404,
            "unknown_prefix",
            Some("prefix"),
        ),
        (
            "/v1/tree/semantic?prefix=0,0,0,0,0,0,0,0,0",
            404,
            "unknown_prefix",
            Some("prefix"),
        ),
        (
            "/v1/tree/semantic?prefix=4294967296",
            422,
            "bad_prefix",
            Some("prefix"),
        ),
        (
            "/v1/tree/semantic?limit=0",
            422,
            "out_of_range",
            Some("limit"),
        ),
        ("/v1/nothing", 404, "not_found", None),
        ("/favicon.ico", 404, "not_found", None),
    ];
    for (path, status, code, field) in paths {
        refused(&served, get(path), status, code, field).await;
    }
    let long = format!("/v1/items?q={}a", "a+".repeat(500));
    refused(&served, get(&long), 422, "too_long", Some("q")).await;
    let delete = Request::delete("/v1/items").body(Body::empty()).unwrap();
    let (status, headers, _) = served.send(delete).await;
    assert_eq!(
        (status, headers[header::ALLOW].to_str().unwrap()),
        (StatusCode::METHOD_NOT_ALLOWED, "GET,HEAD")
    );
    assert_eq!(served.metric("eager_panics_total").await, 0.0);
}

#[tokio::test]
async fn a_request_keeps_its_id_if_it_is_sane() {
    let served = Served::one(Config::default());
    let with = |ids: &[&str]| {
        let request = ids.iter().fold(Request::get("/healthz"), |request, id| {
            request.header("x-request-id", *id)
        });
        request.body(Body::empty()).unwrap()
    };
    let (_, headers, _) = served.send(with(&["shop-7.a_b:c"])).await;
    assert_eq!(headers["x-request-id"], "shop-7.a_b:c");
    let long = "a".repeat(129);
    for bad in [
        &["a b"][..],
        &[""],
        &["<script>"],
        &["a\u{e9}"],
        &[&long],
        &["a", "b"],
    ] {
        let (_, headers, _) = served.send(with(bad)).await;
        let ids: Vec<_> = headers.get_all("x-request-id").iter().collect();
        assert!(ids.len() == 1 && ids[0].len() == 36, "{bad:?}: {ids:?}");
    }
}

#[tokio::test]
async fn only_with_the_token() {
    let token = Token::new("correct-horse-battery", "test").unwrap();
    let served = Served::one(Config {
        token: Some(token),
        ..Config::default()
    });
    let with = |path: &str, value: &str| {
        Request::get(path)
            .header(header::AUTHORIZATION, value)
            .body(Body::empty())
            .unwrap()
    };
    refused(&served, get("/v1/models"), 401, "no_token", None).await;
    refused(
        &served,
        with("/v1/models", "Basic eA=="),
        401,
        "no_token",
        None,
    )
    .await;
    refused(
        &served,
        with("/v1/models", "Bearer wrong"),
        401,
        "wrong_token",
        None,
    )
    .await;
    // Before the body is read.
    refused(&served, json("/v1/recommend", "{"), 401, "no_token", None).await;
    refused(
        &served,
        json("/v1/admin/reload", "{}"),
        401,
        "no_token",
        None,
    )
    .await;
    let (status, headers, _) = served.send(get("/v1/items")).await;
    assert_eq!(
        (status, &headers[header::WWW_AUTHENTICATE]),
        (StatusCode::UNAUTHORIZED, &"Bearer".parse().unwrap())
    );
    for good in [
        "Bearer correct-horse-battery",
        "bearer  correct-horse-battery",
    ] {
        assert_eq!(
            served.send(with("/v1/models", good)).await.0,
            StatusCode::OK
        );
    }
    for open in [
        "/",
        "/docs",
        "/openapi.json",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        assert_eq!(served.send(get(open)).await.0, StatusCode::OK, "{open}");
    }

    let served = Served::one(Config {
        admin: false,
        ..Config::default()
    });
    refused(
        &served,
        json("/v1/admin/reload", "{}"),
        403,
        "admin_is_off",
        None,
    )
    .await;
    assert_eq!(served.send(get("/v1/models")).await.0, StatusCode::OK);
}

/// A body that never comes.
struct Never;

impl hyper::body::Body for Never {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn what_takes_too_long_and_what_is_too_much_is_said() {
    let served = Served::one(Config {
        timeout: Duration::from_millis(50),
        ..Config::default()
    });
    let list = || json("/v1/recommend", json!({"history": ["i1"]}));
    let mut slow = list();
    *slow.body_mut() = Body::new(Never);
    refused(&served, slow, 503, "timeout", None).await;
    for (method, path) in [
        ("post", "/v1/recommend"),
        ("post", "/v1/explain"),
        ("get", "/v1/items"),
        ("get", "/v1/items/i1/similar"),
        ("get", "/v1/tree/semantic"),
    ] {
        for status in [429, 500, 503] {
            is_described(&served, method, path, status).await;
        }
    }

    // One worker and room for one: of fifty at once most are too many.
    let served = Served::one(Config {
        workers: 1,
        max_queue: 1,
        max_batch: 1,
        ..Config::default()
    });
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let router = served.router.clone();
        all.spawn(async move { tower::ServiceExt::oneshot(router, list()).await.unwrap() });
    }
    let (mut answered, mut busy) = (0, 0);
    for response in all.join_all().await {
        match response.status() {
            StatusCode::OK => answered += 1,
            StatusCode::TOO_MANY_REQUESTS => {
                busy += 1;
                assert_eq!(response.headers()[header::RETRY_AFTER], "1");
            }
            status => panic!("{status}"),
        }
    }
    assert!(
        answered >= 1 && busy >= 1 && answered + busy == 50,
        "{answered} answered, {busy} refused"
    );
    assert_eq!(served.send(list()).await.0, StatusCode::OK);
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    eager_fixtures::bundle(20, 1).save(&path).unwrap();
    let start = |sources: &[(&str, &std::path::Path)]| {
        let source = |&(name, folder): &(&str, &std::path::Path)| Source {
            name: (!name.is_empty()).then(|| name.to_owned()),
            folder: folder.to_owned(),
        };
        let sources: Vec<Source> = sources.iter().map(source).collect();
        App::new(Config::default(), &sources, Box::new(common::open))
    };
    let missing = folder.path().join("missing");
    let error = start(&[("", &missing)]).unwrap_err();
    assert!(
        matches!(error, ServeError::Open { .. }) && error.to_string().contains("missing"),
        "{error}"
    );
    let error = start(&[("", &path), ("", &path)]).unwrap_err();
    assert!(
        matches!(error, ServeError::Name { ref name } if name == "random"),
        "{error}"
    );
    assert!(start(&[("a", &path), ("b", &path)]).is_ok());

    let taken = eager_serve::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = eager_serve::bind(taken.local_addr().unwrap()).unwrap_err();
    assert!(
        matches!(error, ServeError::Bind { .. }) && error.to_string().contains("--bind"),
        "{error}"
    );
}

#[test]
fn a_limit_out_of_its_range_is_said() {
    let usual = Config::default;
    let configs = [
        (
            "max_connections",
            Config {
                max_connections: usize::MAX,
                ..usual()
            },
        ),
        (
            "max_connections",
            Config {
                max_connections: 0,
                ..usual()
            },
        ),
        (
            "workers",
            Config {
                workers: 100_000_000,
                ..usual()
            },
        ),
        (
            "workers",
            Config {
                workers: 0,
                ..usual()
            },
        ),
        (
            "max_k",
            Config {
                max_k: Config::MOST + 1,
                ..usual()
            },
        ),
        (
            "max_body",
            Config {
                max_body: usize::MAX,
                ..usual()
            },
        ),
    ];
    for (name, config) in configs {
        let error = App::new(config, &[], Box::new(common::open)).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, ServeError::Limit { .. })
                && text.starts_with(name)
                && text.contains("expected 1 to "),
            "{text}"
        );
    }
    let most = Config {
        max_body: Config::MOST_BYTES,
        max_history: Config::MOST,
        max_k: Config::MOST,
        max_queue: Config::MOST,
        max_batch: Config::MOST,
        max_connections: Config::MOST,
        workers: 1,
        ..usual()
    };
    assert!(App::new(most, &[], Box::new(common::open)).is_ok());
}
