//! Draws every `docs/*.pikchr`, or says that it is drawn already.

use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

fn main() -> ExitCode {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    match draw_all(&docs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn draw_all(docs: &Path) -> io::Result<()> {
    for entry in fs::read_dir(docs)? {
        let source = entry?.path();
        if source.extension().is_none_or(|it| it != "pikchr") {
            continue;
        }
        let name = source.file_stem().unwrap_or_default().display();
        let drawn = guide::draw(&fs::read_to_string(&source)?)
            .map_err(|error| io::Error::other(format!("{}:\n{error}", source.display())))?;
        let picture = source.with_extension("svg");
        if fs::read_to_string(&picture).is_ok_and(|before| before == drawn) {
            println!("docs/{name}.svg is up to date");
        } else {
            fs::write(&picture, drawn)?;
            println!("docs/{name}.svg is drawn");
        }
    }
    Ok(())
}
