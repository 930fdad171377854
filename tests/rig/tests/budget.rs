//! What the driver may cost: counted, never timed.

use rig::bench::Figures;
use rig::image;

#[test]
fn every_goal_for_what_can_be_counted_holds() {
    let figures = Figures::count(&image::built()).expect("the driver loads");
    let missed: Vec<_> = figures
        .goals()
        .into_iter()
        .filter(|(_, holds)| !holds)
        .collect();
    assert_eq!(missed, []);
}
