//! The stand-in for the hub, to try clients by hand, such as the hub's own in Python.

use eager_fixtures::hub::{MockHub, READS, WRITES};

fn main() {
    let hub = MockHub::start();
    println!(
        "HF_ENDPOINT={} HF_TOKEN={WRITES} (or {READS})",
        hub.endpoint
    );
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
        for request in hub.requests() {
            println!("{request}");
        }
    }
}
