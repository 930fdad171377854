//! libiscsi's Reserve6 tests through the built `resvflt.sys`.

use rig::{image, reserve6};

#[test]
fn every_difference_from_the_suite_is_explained() {
    let image = image::built();
    let columns = [
        #[cfg(feature = "iscsi")]
        reserve6::suite_on_tgt().expect("the suite runs"),
        #[cfg(feature = "iscsi")]
        reserve6::on_tgt(&image).expect("the driver loads"),
        reserve6::on_the_embedded_unit(&image).expect("the driver loads"),
    ];
    let table = reserve6::table(&columns);
    println!("{table}");
    assert_eq!(reserve6::unexplained(&columns), [""; 0], "\n{table}");
}
