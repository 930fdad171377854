//! The pictures in `docs/` are what their sources draw.

use std::fs;
use std::path::Path;

#[test]
fn every_picture_is_what_its_source_draws() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut pictures = 0;
    for entry in fs::read_dir(docs).unwrap() {
        let source = entry.unwrap().path();
        if source.extension().is_none_or(|it| it != "pikchr") {
            continue;
        }
        let drawn = guide::draw(&fs::read_to_string(&source).unwrap()).unwrap();
        assert!(
            !drawn.contains("rgb("),
            "{}: a colour without a name",
            source.display()
        );
        let committed = fs::read_to_string(source.with_extension("svg")).unwrap_or_default();
        assert!(
            drawn == committed,
            "{} has changed: cargo xtask pictures",
            source.display()
        );
        pictures += 1;
    }
    assert!(pictures > 0);
}
