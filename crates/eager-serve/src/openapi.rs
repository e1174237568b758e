//! The OpenAPI document, made of the types that serde reads and writes and of the routes as they are, and a page over it.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;
use utoipa::Modify;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, OpenApi};

use crate::App;

/// What the document says beside the routes.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "EAGER", description = "Lists of a two-stream generative recommender, and the reasons for them."),
    tags(
        (name = "recommend", description = "Lists and reasons"),
        (name = "catalogue", description = "Items, neighbours, code trees"),
        (name = "models", description = "What is served"),
        (name = "health", description = "For probes; without a token"),
    ),
    modifiers(&Bearer),
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.take().unwrap_or_default();
        let with_scheme = ComponentsBuilder::from(components).security_scheme("token", scheme);
        document.components = Some(with_scheme.build());
    }
}

/// The document without routes.
pub(crate) fn document() -> OpenApi {
    <Document as utoipa::OpenApi>::openapi()
}

/// `/openapi.json` and `/docs`.
pub(crate) fn router(document: &OpenApi) -> Router<Arc<App>> {
    let value = serde_json::to_value(document).unwrap_or_default();
    let (json, page): (Arc<str>, Arc<str>) =
        (value.to_string().into(), page(&value).into_string().into());
    let answer = |form: &'static str, text: Arc<str>| {
        get(move || async move { ([(header::CONTENT_TYPE, form)], text.to_string()) })
    };
    Router::new()
        .route("/openapi.json", answer("application/json", json))
        .route("/docs", answer("text/html; charset=utf-8", page))
        .route(
            "/docs/style.css",
            answer("text/css", include_str!("docs.css").into()),
        )
}

/// Every route with what it takes and gives, and every type.
fn page(document: &Value) -> Markup {
    let operations = entries(&document["paths"]).flat_map(|(path, methods)| {
        let methods =
            entries(methods).filter(|(_, operation)| operation.get("responses").is_some());
        methods.map(move |(method, operation)| (path, method, operation))
    });
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "EAGER: what can be asked" }
                link rel="stylesheet" href="/docs/style.css";
            }
            body {
                h1 { "EAGER " small { (text(&document["info"]["version"])) } }
                p { (text(&document["info"]["description"])) " The same for programs: " a href="/openapi.json" { "/openapi.json" } "." }
                @for (path, method, operation) in operations { (of_operation(path, method, operation)) }
                h2 { "Types" }
                @for (name, schema) in entries(&document["components"]["schemas"]) { (of_schema(name, schema)) }
            }
        }
    }
}

fn of_operation(path: &str, method: &str, operation: &Value) -> Markup {
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    html! {
        section {
            h2 id=(text(&operation["operationId"])) { span.method { (method.to_uppercase()) } " " code { (path) } }
            p { b { (text(&operation["summary"])) } }
            p { (text(&operation["description"])) }
            @if operation.get("security").is_some() { p.note { "Wants the server's token, where it has one." } }
            table {
                @for parameter in elements(&operation["parameters"]) {
                    tr {
                        th { code { (text(&parameter["name"])) } }
                        td { (form(&parameter["schema"])) @if parameter["required"] == true { ", required" } }
                        td { (text(&parameter["description"])) }
                    }
                }
                @if !body.is_null() {
                    tr { th { "body" } td { (form(body)) } td {} }
                }
                @for (status, response) in entries(&operation["responses"]) {
                    tr {
                        th { (status) }
                        td { (form(&response["content"]["application/json"]["schema"])) }
                        td { (text(&response["description"])) }
                    }
                }
            }
        }
    }
}

fn of_schema(name: &str, schema: &Value) -> Markup {
    // A type of several: those that it takes in, and its own fields.
    let parts = elements(&schema["allOf"]).chain(std::iter::once(schema));
    html! {
        section id=(name) {
            h3 { (name) }
            p { (text(&schema["description"])) }
            @if schema.get("enum").is_some() { p { (form(schema)) } }
            table {
                @for part in parts {
                    @if part.get("$ref").is_some() { tr { th {} td { (form(part)) } td { "its fields" } } }
                    @for (field, of) in entries(&part["properties"]) {
                        tr {
                            th { code { (field) } }
                            td {
                                (form(of))
                                @if elements(&part["required"]).any(|name| name == field) { ", always" }
                            }
                            td {
                                (text(&of["description"]))
                                @if let Some(example) = of.get("example") { " " code { (example) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A schema in a few words, with links to what it names.
fn form(schema: &Value) -> Markup {
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|path| path.rsplit('/').next())
    {
        return html! { a href={ "#" (name) } { (name) } };
    }
    let several: Vec<&Value> = elements(&schema["oneOf"])
        .chain(elements(&schema["anyOf"]))
        .collect();
    let forms: Vec<&Value> = elements(&schema["type"]).collect();
    html! {
        @if !several.is_empty() {
            @for (place, one) in several.into_iter().enumerate() { @if place > 0 { " or " } (form(one)) }
        } @else if schema.get("enum").is_some() {
            @for (place, one) in elements(&schema["enum"]).enumerate() { @if place > 0 { " or " } code { (one) } }
        } @else if schema["type"] == "array" {
            "list of " (form(&schema["items"]))
        } @else if !forms.is_empty() {
            @for (place, one) in forms.into_iter().enumerate() { @if place > 0 { " or " } (text(one)) }
        } @else {
            (text(&schema["type"]))
        }
        @if let Some(default) = schema.get("default") { ", otherwise " (default) }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
