//! `cargo xtask reserve6`: libiscsi's Reserve6 tests, the suite's own run and the driver's side by side.

use std::path::Path;
use std::process::ExitCode;

use rig::image;
use rig::reserve6::{self, Column, Trouble};

fn main() -> ExitCode {
    let (arguments, _) = commands::program::<commands::Reserve6>("reserve6");
    let image = arguments.image.file.unwrap_or_else(image::built);
    let columns = match columns(&image) {
        Ok(columns) => columns,
        Err(error) => {
            eprintln!("reserve6: {error}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.json {
        print!("{}", reserve6::json(&columns));
    } else {
        print!("{}", reserve6::table(&columns));
    }
    let unexplained = reserve6::unexplained(&columns);
    for fault in &unexplained {
        eprintln!("not explained: {fault}");
    }
    if unexplained.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn columns(image: &Path) -> Result<Vec<Column>, Trouble> {
    Ok(vec![
        #[cfg(feature = "iscsi")]
        reserve6::suite_on_tgt()?,
        #[cfg(feature = "iscsi")]
        reserve6::on_tgt(image)?,
        reserve6::on_the_embedded_unit(image)?,
    ])
}
