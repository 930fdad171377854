//! One operation at a time, in storms of requests and cancels.

use rig::{image, storm};

#[test]
fn each_request_of_a_storm_ends_once_and_with_its_own_result() {
    let file = image::built();
    let bytes = image::read(&file).expect("the driver was built");
    let mut ends = storm::Ends::default();
    for seed in 0..3_000 {
        let storm = storm::play(&file, &bytes, seed).expect("the driver loads");
        ends.served += storm.served;
        ends.cancelled += storm.cancelled;
    }
    println!("{ends:?}");
    assert!(ends.served > 10_000 && ends.cancelled > 5_000, "{ends:?}");
}
