//! A real browser for the tests: Chromium without a window, one page in it, driven over the DevTools protocol.
//!
//! The protocol is JSON over a WebSocket. Crates that wrap it compile all of its hundreds of commands; these tests need ten.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// Where a browser is looked for, in this order, on the `PATH`.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// No more than this is waited for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Browser {
    process: Child,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    sent: u64,
    /// Addresses that the page asked for.
    pub requests: Vec<String>,
    /// Errors and warnings of the page's console, exceptions that nobody caught, what its security policy forbade. Not
    /// answers that are errors: the page says those itself.
    pub complaints: Vec<String>,
    // Deleted last.
    _profile: TempDir,
}

impl Browser {
    /// A browser, if this machine has one: `EAGER_CHROMIUM`, or one of the usual names on the `PATH`. Where there is none,
    /// says that the test is skipped.
    pub fn start() -> Option<Self> {
        let found = std::env::var_os("EAGER_CHROMIUM")
            .map(PathBuf::from)
            .or_else(on_path);
        if found.is_none() {
            eprintln!("skipped: no Chromium on the PATH, and EAGER_CHROMIUM is not set");
        }
        found.map(|program| Self::start_program(&program))
    }

    fn start_program(program: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let process = Command::new(program)
            // The sandbox does not start in most containers; the page is our own.
            .args(["--headless", "--no-sandbox", "--disable-gpu"])
            .args([
                "--no-first-run",
                "--disable-extensions",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: cannot be started: {error}", program.display()));
        // The port and the path of its socket, a line each.
        let told = profile.path().join("DevToolsActivePort");
        let (port, path) = within("the browser does not start", || {
            let told = std::fs::read_to_string(&told).ok()?;
            let (port, path) = told.split_once('\n')?;
            Some((port.parse::<u16>().ok()?, path.trim().to_owned()))
        });
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) =
            tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).unwrap();
        let mut browser = Self {
            process,
            socket,
            session: None,
            sent: 0,
            requests: vec![],
            complaints: vec![],
            _profile: profile,
        };
        let target = browser.send("Target.createTarget", json!({"url": "about:blank"}));
        let page = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.send("Target.attachToTarget", page);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime", "Log", "Network", "Page"] {
            browser.send(&format!("{domain}.enable"), json!({}));
        }
        browser.send(
            "Emulation.setFocusEmulationEnabled",
            json!({"enabled": true}),
        );
        browser
    }

    /// The page's window in CSS pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.send("Emulation.setDeviceMetricsOverride", size);
    }

    /// What the system is said to prefer, as style sheets ask for it.
    pub fn prefer(&mut self, feature: &str, value: &str) {
        let features = json!({"features": [{"name": feature, "value": value}]});
        self.send("Emulation.setEmulatedMedia", features);
    }

    /// Goes to an address.
    pub fn open(&mut self, address: &str) {
        let answer = self.send("Page.navigate", json!({"url": address}));
        assert_eq!(answer.get("errorText"), None, "{address}: {answer}");
    }

    /// The value of an expression in the page.
    pub fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.send("Runtime.evaluate", asked);
        let failed = answer.get("exceptionDetails");
        assert!(failed.is_none(), "{expression}: {}", failed.unwrap());
        answer["result"]["value"].take()
    }

    /// The text of an expression's value.
    pub fn text(&mut self, expression: &str) -> String {
        match self.eval(expression) {
            Value::String(text) => text,
            other => panic!("{expression} is no text but {other}"),
        }
    }

    /// Waits until an expression holds.
    pub fn wait(&mut self, expression: &str) {
        let start = Instant::now();
        // While a page is loading there may be nothing to evaluate in.
        let whole =
            format!("(() => {{ try {{ return !!({expression}) }} catch {{ return false }} }})()");
        while self.eval(&whole) != json!(true) {
            if start.elapsed() > PATIENCE {
                let page = self.eval("location.href + '\\n' + document.body.innerText");
                panic!(
                    "does not come true: {expression}\n{page:#}\n{:#?}",
                    self.complaints
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Clicks in the middle of the first element that a selector finds, once it is there.
    pub fn click(&mut self, selector: &str) {
        let found = format!("document.querySelector({})", json!(selector));
        self.wait(&found);
        let middle = self.eval(&format!(
            "(() => {{ const found = {found}; found.scrollIntoView({{ block: 'center' }}); \
             const box = found.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        for (kind, buttons) in [("mousePressed", 1), ("mouseReleased", 0)] {
            let event = json!({
                "type": kind, "x": middle[0], "y": middle[1],
                "button": "left", "buttons": buttons, "clickCount": 1,
            });
            self.send("Input.dispatchMouseEvent", event);
        }
    }

    /// Types into what has the focus.
    pub fn write(&mut self, text: &str) {
        self.send("Input.insertText", json!({"text": text}));
    }

    /// Presses a key: `Tab`, `Enter`, `Escape`, an arrow, or a character.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            "ArrowUp" => (38, ""),
            "ArrowDown" => (40, ""),
            " " => (32, " "),
            "/" => (191, "/"),
            other => panic!("no code is known for the key {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.send("Input.dispatchKeyEvent", event);
        }
    }

    /// Presses `Tab` until an element that a selector finds has the focus.
    pub fn tab_to(&mut self, selector: &str) {
        let there = format!("document.activeElement.matches({})", json!(selector));
        for _ in 0..200 {
            if self.eval(&there) == json!(true) {
                return;
            }
            self.press("Tab");
        }
        panic!("the keyboard does not reach {selector}");
    }

    /// How much wider than its window the page is, in pixels.
    pub fn overflow(&mut self) -> i64 {
        let root = "document.documentElement";
        let wider = self.eval(&format!("{root}.scrollWidth - {root}.clientWidth"));
        wider.as_i64().unwrap()
    }

    /// Sends a command and waits for its result; events that come before are noted.
    fn send(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut message = json!({"id": self.sent, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket
            .send(Message::text(message.to_string()))
            .unwrap();
        loop {
            let read = self.socket.read();
            let read = read.unwrap_or_else(|error| panic!("{method}: no answer: {error}"));
            let Message::Text(text) = read else { continue };
            let mut message: Value = serde_json::from_str(&text).unwrap();
            if message["id"] == json!(self.sent) {
                assert_eq!(message.get("error"), None, "{method}");
                return message["result"].take();
            }
            self.note(&message);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                let address = params["request"]["url"].as_str();
                self.requests.extend(address.map(str::to_owned));
            }
            Some("Runtime.exceptionThrown") => self.complaints.push(params.to_string()),
            Some("Runtime.consoleAPICalled")
                if matches!(
                    params["type"].as_str(),
                    Some("error" | "warning" | "assert")
                ) =>
            {
                self.complaints.push(params["args"].to_string());
            }
            Some("Log.entryAdded")
                if matches!(params["entry"]["level"].as_str(), Some("error" | "warning"))
                    && params["entry"]["source"] != "network" =>
            {
                self.complaints.push(params["entry"].to_string());
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to, it ends all of its processes.
        let close = json!({"id": self.sent + 1, "method": "Browser.close"});
        let _ = self.socket.send(Message::text(close.to_string()));
        let start = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if start.elapsed() > Duration::from_secs(10) {
                let _ = self.process.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let candidates = NAMES
        .iter()
        .flat_map(|name| places.iter().map(move |place| place.join(name)));
    candidates.into_iter().find(|file| file.is_file())
}

fn within<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
