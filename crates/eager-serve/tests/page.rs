//! The page, with a browser and without one.

mod browser;

use std::collections::BTreeSet;
use std::path::Path;
use std::thread::JoinHandle;

use browser::Browser;
use candle_core::Device;
use eager_bundle::{Bundle, Explanation, Filter, ListKind, Query, Ranked};
use eager_model::Stream;
use eager_serve::{App, Config, Source, Token};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;

const ITEMS: usize = 60;
const TOKEN: &str = "open-sesame-open-sesame";

const STREAMS: [(&str, Stream); 2] = [
    ("behaviour", Stream::Behaviour),
    ("semantic", Stream::Semantic),
];

/// Nothing is waited for any more.
const SETTLED: &str = "!document.querySelector('main [aria-busy=true]')";

/// Items of the list on the page, and which streams' probabilities stand beside them.
const LIST: &str =
    "[...document.querySelectorAll('.list > li')].map((row) => row.dataset.item).join()";

/// What the page says of a list: `i5, behaviour −4.07 ranks, semantic –; …`.
const SCORES: &str = "[...document.querySelectorAll('.list > li')].map((row) => [row.dataset.item, \
     ...[...row.querySelectorAll('.scores > div')].map((line) => [line.querySelector('dt').innerText, \
     line.querySelector('.number:last-child').innerText, line.className].filter(Boolean).join(' ')) \
     ].join(', ')).join('; ')";

/// What the page says of code paths that are open: `behaviour −4.07 token 1 −1.97 token 68 …`.
const PATHS: &str = "[...document.querySelectorAll('.explanation:not([hidden]) section')].map((path) => \
     [path.className, path.querySelector('h3').innerText.match(/\\((.*)\\)/)[1], \
     ...[...path.querySelectorAll('li:not(:first-child)')].map((step) => \
     [step.querySelector('a').innerText, ...(step.innerText.match(/\\((−?[0-9.]+)\\)/) ?? []).slice(1)].join(' ')) \
     ].join(', ')).join('; ')";

#[test]
fn with_the_mouse() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut bundles = [1, 2].map(|seed| eager_fixtures::bundle(ITEMS, seed));
    let server = Server::start(&mut bundles, None);
    browser.resize(1280, 900);
    open(&mut browser, &server, "");

    // Search: words are prefixes of words; an id is found too.
    browser.click("#search");
    browser.write("number 1");
    browser.wait("document.querySelectorAll('#found li').length === 11");
    browser.click("#found li:nth-child(3)");
    history_is(&mut browser, "i11");
    browser.click("#search");
    browser.write("i7");
    browser.wait("document.querySelectorAll('#found li').length === 1");
    browser.click("#found li");
    history_is(&mut browser, "i11,i7");

    // Ten, the library's own ten.
    browser.wait(SETTLED);
    let expected = recommend(&bundles[0], &query());
    assert_eq!(expected.len(), 10);
    assert_eq!(browser.text(LIST), expected.join(","));

    // Why the third: both paths with every token's log-probability.
    browser.click(".list > li:nth-child(3) .why");
    browser.wait("document.querySelectorAll('.path').length === 2");
    let third = number(&expected[2]);
    let explained = bundles[0].explain(&[11, 7], third, 3).unwrap();
    assert_eq!(browser.text(PATHS), paths(&explained));

    // The view can be sent to somebody.
    let address = browser.text("location.href");
    browser.open("about:blank");
    browser.open(&address);
    browser.wait("document.querySelectorAll('.path').length === 2");
    assert_eq!(browser.text(PATHS), paths(&explained));

    // A step leads into the tree, and back leads back.
    browser.click(".explanation:not([hidden]) .behaviour li:nth-child(2) a");
    browser.wait("document.querySelector('.tree .crumbs')");
    let first = &explained.streams.behaviour.tokens[0];
    let trie = bundles[0].recommender().trie(Stream::Behaviour);
    let crumbs =
        "[...document.querySelectorAll('.crumbs li')].map((step) => step.innerText).join('/')";
    assert_eq!(browser.text(crumbs), format!("root/{}", first.ordinal));
    let children = browser.eval("document.querySelectorAll('.children li').length");
    assert_eq!(children, trie.children(first.node).len());
    no_overflow(&mut browser);
    browser.click(".crumbs li:first-child a");
    browser.wait(&format!(
        "document.querySelectorAll('.children li').length === {}",
        trie.children(0).len()
    ));
    browser.eval("history.go(-2)");
    browser.wait("document.querySelector('.explanation:not([hidden]) .path')");

    // Settings: another list, nothing seen, one category.
    set(&mut browser, "list", "semantic");
    list_is(
        &mut browser,
        &recommend(
            &bundles[0],
            &Query {
                list: ListKind::Semantic,
                ..query()
            },
        ),
    );
    set(&mut browser, "list", "merged");
    browser.click("[name=unseen]");
    let unseen = Filter {
        exclude_seen: true,
        ..Filter::default()
    };
    list_is(
        &mut browser,
        &recommend(
            &bundles[0],
            &Query {
                filter: unseen.clone(),
                ..query()
            },
        ),
    );
    set(&mut browser, "category", "c3");
    let filter = Filter {
        categories: vec!["c3".to_owned()],
        ..unseen
    };
    let few = recommend(&bundles[0], &Query { filter, ..query() });
    assert!(
        few.len() < 10 && few.iter().all(|item| number(item) % 9 == 3),
        "{few:?}"
    );
    list_is(&mut browser, &few);
    set(&mut browser, "category", "c99");
    browser.wait("document.querySelector('.fault').innerText.includes('c99')");
    set(&mut browser, "category", "");
    browser.click("[name=unseen]");
    list_is(&mut browser, &expected);

    // One item, from its row.
    browser.click(".list > li:nth-child(3) .title");
    browser.wait("document.querySelectorAll('.item .items li').length === 20");
    assert_eq!(
        browser.text("document.querySelector('.item .name').innerText"),
        format!("Item number {third}")
    );
    no_overflow(&mut browser);

    // Both models.
    browser.click("#views a:nth-child(3)");
    browser.wait("document.querySelectorAll('.compared').length === 2");
    let other: BTreeSet<_> = recommend(&bundles[1], &query()).into_iter().collect();
    let shared = expected.iter().filter(|item| other.contains(*item)).count();
    let last = "document.querySelector('.compare tbody tr td:last-child').innerText";
    assert_eq!(browser.text(last), format!("{:.2}", shared as f64 / 10.0));
    let alone = browser.eval("document.querySelectorAll('.compared .change.alone').length");
    assert_eq!(alone, 2 * (10 - shared));
    no_overflow(&mut browser);

    at_phone_width(&mut browser, &server);
    all_well(&mut browser, &server);
}

#[test]
fn with_the_keyboard_alone() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut bundles = [eager_fixtures::bundle(ITEMS, 3)];
    let server = Server::start(&mut bundles, None);
    browser.resize(1280, 900);
    open(&mut browser, &server, "");
    assert_eq!(
        browser.eval("document.querySelectorAll('#views a').length"),
        2,
        "nothing to compare with"
    );

    browser.press("Tab");
    assert_eq!(focused(&mut browser), "A.skip");
    browser.press("Enter");
    assert_eq!(focused(&mut browser), "MAIN");

    browser.press("/");
    browser.write("number 2");
    browser.wait("document.querySelectorAll('#found li').length === 11");
    browser.press("Escape");
    browser.wait("document.querySelector('#found-box').hidden");
    browser.press("ArrowDown");
    browser.wait("document.querySelectorAll('#found li').length === 11");
    for _ in 0..3 {
        browser.press("ArrowDown");
    }
    browser.press("ArrowUp");
    let chosen = "document.getElementById(document.querySelector('#search').getAttribute('aria-activedescendant'))";
    assert_eq!(browser.text(&format!("{chosen}.dataset.item")), "i21");
    browser.press("Enter");
    history_is(&mut browser, "i21");
    assert_eq!(focused(&mut browser), "INPUT");
    // Enter adds what the words say, not what the list of the words before has first.
    browser.write("number");
    browser.wait("document.querySelectorAll('#found li').length === 50");
    browser.write(" 5");
    browser.press("Enter");
    history_is(&mut browser, "i21,i5");
    browser.wait(SETTLED);
    let mut asked = query();
    asked.history = vec![21, 5];
    assert_eq!(browser.text(LIST), recommend(&bundles[0], &asked).join(","));

    // Down, and on the last place no further: the focus stays where it is.
    browser.tab_to("[data-action=down]");
    for _ in 0..2 {
        browser.press("Enter");
        history_is(&mut browser, "i5,i21");
        browser
            .wait("document.activeElement.matches('#history li:nth-child(2) [data-action=down]')");
    }
    browser.wait(SETTLED);
    asked.history = vec![5, 21];
    let expected = recommend(&bundles[0], &asked);
    assert_eq!(browser.text(LIST), expected.join(","));

    browser.tab_to(".list > li:nth-child(2) .why");
    browser.press("Enter");
    browser.wait("document.querySelectorAll('.path').length === 2");
    let explained = bundles[0]
        .explain(&[5, 21], number(&expected[1]), 3)
        .unwrap();
    assert_eq!(browser.text(PATHS), paths(&explained));
    assert_eq!(
        browser.eval("document.activeElement.getAttribute('aria-expanded')"),
        "true"
    );

    // From the path into the semantic tree, down to a leaf, and its item into the history.
    browser.tab_to(".explanation .semantic li:nth-child(2) a");
    browser.press("Enter");
    browser.wait("document.activeElement.matches('h2') && document.querySelector('.tree .crumbs')");
    while browser.eval("document.querySelector('.children a.token') !== null") == true {
        browser.tab_to(".children a.token");
        let deeper = "document.querySelectorAll('.crumbs li').length";
        let level = browser.eval(deeper).as_u64().unwrap();
        browser.press("Enter");
        browser.wait(&format!("{deeper} === {}", level + 1));
        browser.wait("document.activeElement.matches('.crumbs [aria-current]')");
    }
    browser.tab_to(".children .add");
    browser.press("Enter");
    browser.wait("document.querySelectorAll('#history li').length === 3");

    // Removing goes on from row to row, and ends at the search.
    browser.tab_to("[data-action=remove]");
    for left in [2, 1, 0] {
        browser.press("Enter");
        browser.wait(&format!(
            "document.querySelectorAll('#history li').length === {left}"
        ));
    }
    browser.wait("document.activeElement.id === 'search'");
    all_well(&mut browser, &server);
}

#[test]
fn what_ranks_a_list_stands_beside_it() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut bundles = [
        eager_fixtures::bundle(ITEMS, 7),
        eager_fixtures::bundle_with_direct_head(ITEMS, 7),
        eager_fixtures::bundle_ranked_by_sum(ITEMS, 7),
    ];
    let server = Server::start(&mut bundles, None);
    browser.resize(1280, 900);
    // All items: each is one of both streams and of the head.
    let all = Query {
        k: ITEMS,
        ..query()
    };
    for (place, bundle) in bundles.iter().enumerate() {
        let hash = format!("#model=model-{place}&history=i11,i7&k={ITEMS}");
        open(&mut browser, &server, &hash);
        let list = ranked(bundle, &all);
        assert_eq!(list.len(), ITEMS);
        assert_eq!(browser.text(SCORES), scores(&list), "model-{place}");
        let words = browser.text("document.querySelector('.list').innerText");
        let direct = list.iter().any(|ranked| ranked.surest().is_none());
        assert_eq!(direct, place > 0, "model-{place}");
        let said = "both streams and direct head, likeliest by direct head";
        assert_eq!(words.contains(said), direct, "{words}");
    }

    // A score is no log-probability with every model, so none is shown as a share.
    let hash = "#model=model-1&other=model-2&view=compare&history=i11,i7";
    open(&mut browser, &server, hash);
    let lists = [1, 2].map(|place| ranked(&bundles[place], &query()));
    let expected = lists.iter().flatten().map(|ranked| decimal(ranked.score));
    let shown =
        "[...document.querySelectorAll('.compared .number')].map((of) => of.innerText).join()";
    assert_eq!(browser.text(shown), expected.collect::<Vec<_>>().join(","));
    all_well(&mut browser, &server);
}

#[test]
fn an_open_page_goes_along_with_a_reload() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::start(&mut [eager_fixtures::bundle(ITEMS, 7)], None);
    browser.resize(1280, 900);
    // The last one comes with the reload.
    open(&mut browser, &server, &format!("#history=i11,i{ITEMS}"));
    let history = "document.querySelector('#history').innerText";
    browser.wait(&format!("{history}.includes('not in this catalogue')"));

    let mut changed = eager_fixtures::bundle(ITEMS + 1, 8);
    server.reload(&mut changed);
    set(&mut browser, "list", "semantic");
    let about = "document.querySelector('#about').innerText";
    browser.wait(&format!("{about}.includes('{}')", &changed.digest()[..12]));
    assert!(browser.text(about).contains("61 items"));
    history_is(&mut browser, &format!("i11,i{ITEMS}"));
    let asked = Query {
        history: vec![11, ITEMS as u32],
        list: ListKind::Semantic,
        ..query()
    };
    let expected = recommend(&changed, &asked);
    list_is(&mut browser, &expected);

    // The reasons are those of the same history.
    browser.click(".list > li:nth-child(2) .why");
    browser.wait("document.querySelectorAll('.path').length === 2");
    let second = number(&expected[1]);
    let explained = changed.explain(&asked.history, second, 3).unwrap();
    assert_eq!(browser.text(PATHS), paths(&explained));

    // A reason of another model than the list's makes the list anew too.
    let mut again = eager_fixtures::bundle(ITEMS + 1, 9);
    server.reload(&mut again);
    browser.click(".list > li:nth-child(3) .why");
    browser.wait(&format!("{about}.includes('{}')", &again.digest()[..12]));
    list_is(&mut browser, &recommend(&again, &asked));
    let asked = browser.requests.iter();
    let asked = asked.filter(|to| to.ends_with("/v1/models")).count();
    assert_eq!(asked, 3, "at the start, and after each reload");
    all_well(&mut browser, &server);
}

#[test]
fn titles_are_text_and_fit_whatever_they_are() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut bundles = [8, 9].map(|seed| eager_fixtures::bundle_with_odd_titles(ITEMS, seed));
    let server = Server::start(&mut bundles, None);
    browser.resize(320, 800);
    let title = |item: usize| bundles[0].items()[item].title.clone();
    let (markup, word) = (title(2).unwrap(), title(3).unwrap());
    assert!(title(1).is_none() && markup.contains("<b>&amp;") && word.len() == 2000);
    let codes = bundles[0].recommender().codes(Stream::Semantic);
    let (leaf, prefix) = codes.code(3).split_last().unwrap();
    let prefix: Vec<String> = prefix.iter().map(ToString::to_string).collect();
    let leaf = format!(
        "view=tree&stream=semantic&prefix={}&mark={leaf}",
        prefix.join(",")
    );
    for (view, place, text) in [
        ("k=60", "[data-item=i1] .title", "i1"),
        ("k=60&why=i2", "[data-item=i2] .title", &markup[..]),
        ("k=60&why=i3", "[data-item=i3] .title", &word[..]),
        ("view=item&item=i1", ".item .name", "i1"),
        ("view=item&item=i2", ".item .name", &markup[..]),
        ("view=item&item=i3", ".item .name", &word[..]),
        (
            "view=compare&k=60",
            ".compared [data-to*='\"i2\"']",
            &markup[..],
        ),
        (
            "view=compare&k=60",
            ".compared [data-to*='\"i3\"']",
            &word[..],
        ),
        ("view=tree&stream=semantic", ".samples", ""),
        (&leaf[..], ".marked .title", &word[..]),
    ] {
        let hash = format!("#history=i1,i2,i3&{view}");
        open(&mut browser, &server, &hash);
        let history =
            "[...document.querySelectorAll('#history .title')].map((row) => row.textContent)";
        let titles = json!(["i1", markup, word]);
        browser.wait(&format!(
            "JSON.stringify({history}) === JSON.stringify({titles})"
        ));
        if view.contains("why") {
            browser.wait("document.querySelectorAll('.path').length === 2");
        }
        browser.wait(&format!("document.querySelector({})", json!(place)));
        let shown = format!("document.querySelector({}).textContent", json!(place));
        assert!(text.is_empty() || browser.text(&shown) == text, "{hash}");
        assert_eq!(browser.eval("document.querySelectorAll('b').length"), 0);
        no_overflow(&mut browser);
    }

    // The search: an item without a title has its id.
    browser.click("#search");
    browser.write("i");
    browser.wait("document.querySelectorAll('#found li').length === 50");
    for (item, title) in [("i1", "i1"), ("i2", &markup[..]), ("i3", &word[..])] {
        let shown =
            format!("document.querySelector('#found [data-item={item}] .title').textContent");
        assert_eq!(browser.text(&shown), title);
    }
    no_overflow(&mut browser);
    all_well(&mut browser, &server);
}

#[test]
fn dark_where_the_system_is() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::start(&mut [eager_fixtures::bundle(ITEMS, 4)], None);
    browser.resize(1280, 900);
    let colours = "['backgroundColor', 'color'].map((of) => \
         getComputedStyle(document.body)[of].match(/\\d+/g).slice(0, 3).reduce((a, b) => +a + +b) / 3)";
    let mut lightness = |scheme: &str| {
        browser.prefer("prefers-color-scheme", scheme);
        open(&mut browser, &server, "");
        let colours = browser.eval(colours);
        [0, 1].map(|of| colours[of].as_f64().unwrap())
    };
    let ([page, text], [dark_page, dark_text]) = (lightness("light"), lightness("dark"));
    assert!(page > 200.0 && text < 60.0, "{page} {text}");
    assert!(
        dark_page < 60.0 && dark_text > 200.0,
        "{dark_page} {dark_text}"
    );
}

#[test]
fn a_server_that_asks_for_a_token() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::start(&mut [eager_fixtures::bundle(ITEMS, 5)], Some(TOKEN));
    browser.open(&server.address);
    browser.wait("document.querySelector('#token').open");
    browser.write("wrong");
    browser.press("Enter");
    let refused = "document.querySelector('#token').open && \
         document.querySelector('#token-value').value === '' && \
         document.querySelector('#token-note').innerText.includes('not accept')";
    browser.wait(refused);
    // What no header can hold is no token either, and the server is not blamed for it.
    browser.write("öpen-sesame-öpen-sesame");
    browser.press("Enter");
    browser.wait(refused);
    // As it is pasted, with white space around it.
    browser.write(&format!(" {TOKEN} "));
    browser.press("Enter");
    browser.wait("document.querySelectorAll('.start li, .items li').length === 8");
    assert_eq!(browser.eval("document.querySelector('#token').open"), false);
    assert_eq!(
        browser.eval("sessionStorage.length + localStorage.length"),
        1
    );
    // Whoever stops the server is told so, and the page goes on when it is there again.
    drop(server);
    browser.click(".items .add");
    browser.wait("document.querySelector('.fault').innerText.includes('does not answer')");
}

#[test]
fn every_file_of_the_page_is_there_and_refers_to_nothing_outside() {
    let server = Server::start(&mut [eager_fixtures::bundle(ITEMS, 6)], None);
    let mut found = BTreeSet::from([String::new()]);
    let mut waiting = vec![String::new()];
    while let Some(path) = waiting.pop() {
        let (kind, text) = fetched(&server, &path);
        let expected = match path.rsplit_once('.').map_or("html", |(_, ending)| ending) {
            "html" => "text/html",
            "css" => "text/css",
            "js" => "text/javascript",
            "svg" => "image/svg+xml",
            other => panic!("{path}: what is {other}?"),
        };
        assert!(kind.starts_with(expected), "{path}: {kind}");
        let outside = text.replace("http://www.w3.org/2000/svg", "");
        for never in [
            "http:",
            "https:",
            "//cdn",
            "url(",
            "@import",
            "innerHTML",
            "outerHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!outside.contains(never), "{path} has {never}");
        }
        if path.is_empty() {
            for never in ["<style", "style=", " onclick", "<script>"] {
                assert!(!text.contains(never), "{path} has {never}");
            }
        }
        for reference in references(&path, &text) {
            if reference == "docs" {
                continue; // a page of its own
            }
            if found.insert(reference.clone()) {
                waiting.push(reference);
            }
        }
    }
    // And nothing lies about that nothing refers to.
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("page")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let expected = names.map(|name| match name.as_str() {
        "index.html" => String::new(),
        name => format!("page/{name}"),
    });
    assert_eq!(found, expected.collect());
}

/// A server on a port that the system chose; it stops when it is dropped.
struct Server {
    address: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    folder: TempDir,
}

impl Server {
    fn start(bundles: &mut [Bundle], token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sources = bundles.iter_mut().enumerate().map(|(place, bundle)| {
            let name = format!("model-{place}");
            let folder = folder.path().join(&name);
            bundle.save(&folder).unwrap();
            Source {
                name: Some(name),
                folder,
            }
        });
        let config = Config {
            token: token.map(|text| Token::new(text, "the test").unwrap()),
            ..Config::default()
        };
        let open = |folder: &Path| Ok(Bundle::load(folder, &Device::Cpu)?);
        let app = App::new(config, &sources.collect::<Vec<_>>(), Box::new(open)).unwrap();
        let listener = eager_serve::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let stopped = async { stopped.await.unwrap_or_default() };
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime
                .block_on(eager_serve::serve(app, listener, stopped))
                .unwrap();
        });
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
            folder,
        }
    }

    /// Puts another bundle in the place of the first.
    fn reload(&self, bundle: &mut Bundle) {
        let folder = self.folder.path().join("model-0");
        std::fs::remove_dir_all(&folder).unwrap();
        bundle.save(&folder).unwrap();
        let request = ureq::post(format!("{}v1/admin/reload", self.address));
        let request = request.header("content-type", "application/json");
        assert_eq!(request.send("{}").unwrap().status(), 200);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }
}

/// A file's content type and text; with all that a file of the page has to have in its head.
fn fetched(server: &Server, path: &str) -> (String, String) {
    let address = format!("{}{path}", server.address);
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let mut answer = agent.get(&address).call().unwrap();
    assert_eq!(answer.status(), 200, "{address}");
    let head = |name: &str| {
        let value = answer.headers().get(name);
        let value = value.unwrap_or_else(|| panic!("{address} has no {name}"));
        value.to_str().unwrap().to_owned()
    };
    assert!(
        head("content-security-policy").contains("default-src 'self'"),
        "{address}"
    );
    assert_eq!(head("x-content-type-options"), "nosniff", "{address}");
    let (tag, kind) = (head("etag"), head("content-type"));
    let text = answer.body_mut().read_to_string().unwrap();
    let again = agent
        .get(&address)
        .header("if-none-match", &tag)
        .call()
        .unwrap();
    assert_eq!(again.status(), 304, "{address}");
    (kind, text)
}

/// Files that a file of the page refers to, from the page's address on.
fn references(path: &str, text: &str) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let marks = ["href=\"", "src=\"", "from \"", "import \""];
    let after = marks.iter().flat_map(|mark| text.split(mark).skip(1));
    let names = after.filter_map(|rest| rest.split_once('"').map(|(name, _)| name));
    let names = names.filter(|name| !name.starts_with('#'));
    let whole = names.map(|name| match name.strip_prefix("./") {
        Some(name) => format!("{folder}/{name}"),
        None => name.to_owned(),
    });
    whole.collect()
}

fn open(browser: &mut Browser, server: &Server, hash: &str) {
    browser.open("about:blank");
    browser.open(&format!("{}{hash}", server.address));
    browser.wait(&format!("document.querySelector('#views a') && {SETTLED}"));
}

/// Waits until the history on the page is these items.
fn history_is(browser: &mut Browser, items: &str) {
    let rows = "[...document.querySelectorAll('#history .title')].map((row) => 'i' + row.innerText.split(' ').at(-1))";
    browser.wait(&format!("{rows}.join() === '{items}'"));
}

fn list_is(browser: &mut Browser, items: &[String]) {
    browser.wait(&format!("{SETTLED} && {LIST} === '{}'", items.join(",")));
}

/// A setting as the browser's own menus would change it.
fn set(browser: &mut Browser, name: &str, value: &str) {
    let field = format!("document.querySelector('[name={name}]')");
    browser.eval(&format!("{field}.value = '{value}'"));
    browser.eval(&format!(
        "{field}.dispatchEvent(new Event('change', {{ bubbles: true }}))"
    ));
}

fn focused(browser: &mut Browser) -> String {
    browser.text("document.activeElement.tagName + (document.activeElement.className && '.' + document.activeElement.className)")
}

fn no_overflow(browser: &mut Browser) {
    let address = browser.text("location.href");
    assert_eq!(browser.overflow(), 0, "{address}");
}

fn at_phone_width(browser: &mut Browser, server: &Server) {
    browser.resize(320, 800);
    for (hash, there) in [
        ("#", ".items li"),
        ("#history=i11,i7&why=i7&k=60", ".list"),
        ("#history=i11,i7&view=tree&stream=semantic", ".children li"),
        ("#history=i11,i7&view=item&item=i3", ".item .paths"),
        ("#history=i11,i7&view=compare", ".compared"),
        ("#history=i11,nowhere", ".note"),
    ] {
        open(browser, server, hash);
        browser.wait(&format!("document.querySelector('{there}')"));
        no_overflow(browser);
    }
    // Where there is little room the settings are closed at first.
    browser.click("#settings-box summary");
    browser.wait("document.querySelector('#settings-box').open");
    no_overflow(browser);
}

/// The page asked nobody but its server, and nothing went wrong in it.
fn all_well(browser: &mut Browser, server: &Server) {
    let outside = browser
        .requests
        .iter()
        .filter(|to| !to.starts_with(&server.address) && *to != "about:blank");
    assert_eq!(outside.collect::<Vec<_>>(), [] as [&String; 0]);
    assert!(browser.requests.len() > 20, "{:?}", browser.requests);
    assert_eq!(browser.complaints, [] as [String; 0]);
}

fn query() -> Query {
    Query {
        history: vec![11, 7],
        k: 10,
        ..Query::default()
    }
}

fn ranked(bundle: &Bundle, query: &Query) -> Vec<Ranked> {
    let mut lists = bundle.recommend(std::slice::from_ref(query)).unwrap();
    lists.remove(0)
}

fn recommend(bundle: &Bundle, query: &Query) -> Vec<String> {
    let list = ranked(bundle, query);
    list.iter()
        .map(|ranked| format!("i{}", ranked.item))
        .collect()
}

fn number(item: &str) -> u32 {
    item[1..].parse().unwrap()
}

/// A number as the page writes it.
fn decimal(value: f32) -> String {
    let text = format!("{value:.2}").replace('-', "−");
    if text == "−0.00" {
        "0.00".to_owned()
    } else {
        text
    }
}

/// What the page is to say of a list, see [`SCORES`].
fn scores(list: &[Ranked]) -> String {
    let row = |ranked: &Ranked| {
        let surest = ranked.surest().map_or("direct head", Stream::name);
        let found = [
            ("behaviour", ranked.behaviour),
            ("semantic", ranked.semantic),
            ("direct head", ranked.direct),
        ];
        let highest = found.iter().filter_map(|&(_, log_prob)| log_prob);
        let by_likeliest = highest.fold(f32::MIN, f32::max) == ranked.score;
        let mut parts = vec![format!("i{}", ranked.item)];
        for (name, log_prob) in found {
            // A model without a head has no line for it.
            if name == "direct head" && log_prob.is_none() {
                continue;
            }
            let figure = log_prob.map_or_else(|| "–".to_owned(), decimal);
            let ranks = by_likeliest && name == surest;
            parts.push(format!(
                "{name} {figure}{}",
                if ranks { " ranks" } else { "" }
            ));
        }
        if !by_likeliest {
            parts.push(format!("score {} ranks", decimal(ranked.score)));
        }
        parts.join(", ")
    };
    list.iter().map(row).collect::<Vec<_>>().join("; ")
}

/// What the page is to say of an explanation, see [`PATHS`].
fn paths(explanation: &Explanation) -> String {
    let path = |(name, stream): &(&str, Stream)| {
        let path = &explanation.streams[*stream];
        let mut parts = vec![(*name).to_owned(), decimal(path.log_prob)];
        parts.extend(path.tokens.iter().map(|token| {
            let figure = format!(" {}", decimal(token.log_prob));
            // An only child costs nothing and has no figure.
            let figure = if token.siblings > 1 {
                figure
            } else {
                String::new()
            };
            format!("token {}{figure}", token.ordinal)
        }));
        parts.join(", ")
    };
    STREAMS.iter().map(path).collect::<Vec<_>>().join("; ")
}
