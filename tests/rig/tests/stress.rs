//! Half a minute of everything at once, on the host's own threads.

use std::time::Duration;

use rig::image;
use rig::stress::{self, Load};

#[test]
fn thirty_seconds_of_stress_break_no_rule_and_leak_nothing() {
    for watch in [0, 1, 2] {
        let load = Load {
            time: Duration::from_secs(10),
            disks: 16,
            threads: 8,
            seed: 1,
            watch,
        };
        let counts = stress::run(&image::built(), load).expect("the driver loads");
        println!("Watch {watch}: {counts:?}");
        assert!(counts.requests() > 1000, "{counts:?}");
        assert!(counts.srbs > 300, "{counts:?}");
        assert!(
            counts.commands > 0 && counts.cancels > 0 && counts.removals > 0,
            "{counts:?}"
        );
    }
}
