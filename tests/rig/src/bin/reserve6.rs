//! `cargo xtask reserve6`: libiscsi's Reserve6 tests, the suite's own run and the driver's side by side.

use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::prelude::*;
use rig::image;
use rig::reserve6::{self, Column, Trouble};

const USAGE: &str = "reserve6 [--image FILE] [--json]";

fn options() -> Result<(PathBuf, bool), lexopt::Error> {
    let (mut image, mut json) = (image::built(), false);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("image") => image = arguments.value()?.into(),
            Long("json") => json = true,
            other => return Err(other.unexpected()),
        }
    }
    Ok((image, json))
}

fn main() -> ExitCode {
    let (image, json) = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("reserve6: {error}\nusage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    let columns = match columns(&image) {
        Ok(columns) => columns,
        Err(error) => {
            eprintln!("reserve6: {error}");
            return ExitCode::FAILURE;
        }
    };
    if json {
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

fn columns(image: &std::path::Path) -> Result<Vec<Column>, Trouble> {
    Ok(vec![
        #[cfg(feature = "iscsi")]
        reserve6::suite_on_tgt()?,
        #[cfg(feature = "iscsi")]
        reserve6::on_tgt(image)?,
        reserve6::on_the_embedded_unit(image)?,
    ])
}
