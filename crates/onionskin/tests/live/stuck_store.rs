//! A store that does not answer while the process stands still: it may be a service of that very
//! process.

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use onionskin::{
    Access, Event, Observer, Session, SessionOptions, Silent, SnapshotOptions, Store, Strategy,
};

use crate::common::{Ended, Target, chain, is_slow};

/// The longest that a step of the freeze may take: more than one takes here that waits for nobody.
fn step() -> Duration {
    Duration::from_secs(if is_slow() { 8 } else { 1 })
}

/// How long each write takes once the process stands still.
fn stuck() -> Duration {
    4 * step()
}

/// Makes the store slow from each freeze on, and takes note of why it is tried again.
struct Brake(Arc<ThrottledStore<InMemory>>, Vec<String>);

impl Brake {
    fn set(&self, wait: Duration) {
        self.0.config_mut(|config| config.wait_put_per_call = wait);
    }
}

impl Observer for Brake {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Freezing => self.set(stuck()),
            Event::Resumed { frozen } => {
                assert!(
                    *frozen < stuck(),
                    "that is not how long it stood still: {frozen:?}"
                );
                self.set(Duration::ZERO);
            }
            Event::Retrying { reason } => self.1.push(reason.clone()),
            _ => {}
        }
    }
}

#[test]
fn the_process_goes_on_although_the_store_does_not_answer() {
    // It writes everywhere, so that the second attempt has as much to store as the first.
    let writes = ["--mib", "80", "--hot-percent", "100", "--writes", "1000"];
    let mut target = Target::start("heartbeat", &writes);
    let objects = ThrottledStore::new(InMemory::new(), ThrottleConfig::default());
    let mut brake = Brake(Arc::new(objects), Vec::new());
    let store = Store::open_objects(brake.0.clone(), Access::Create).unwrap();
    let mut session = Session::attach(target.pid(), SessionOptions::default()).unwrap();
    target.ask("reset");
    // What is compared goes to the store in the freeze, more than its queue takes.
    let options = SnapshotOptions {
        strategy: Strategy::Freeze,
        step_limit: step(),
        verify: true,
        ..Default::default()
    };
    let error = session
        .snapshot(&store, &options, &mut brake)
        .expect_err("the store took too long");
    let said = chain(&error);
    assert!(
        said.contains(&format!(
            "storing what was copied took longer than {:?}",
            step()
        )),
        "{said}"
    );
    assert_eq!(brake.1.len(), 1, "it is tried twice: {:?}", brake.1);
    let gaps = target.ask("report")["gaps_ns"].clone();
    let longest = gaps
        .as_array()
        .unwrap()
        .iter()
        .map(|gap| gap.as_u64().unwrap());
    let longest = Duration::from_nanos(longest.max().unwrap());
    assert!(longest < stuck(), "it stood still for {longest:?}");
    // The session is good for another one.
    session.snapshot(&store, &options, &mut Silent).unwrap();
    assert_eq!(target.finish(), Ended::Exit(0));
}
