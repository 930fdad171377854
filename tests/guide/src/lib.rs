//! The guide's pictures: `docs/*.pikchr`, in the [pikchr language](https://pikchr.org), drawn as the SVG files beside
//! them.
//!
//! A picture names its colours by a number, and the numbers become classes here, which have one value on light pages and
//! one on dark ones. It brings its own ground, so that it can be read on whatever page it lies.

use pikchr::{Pikchr, PikchrFlags};

/// How pikchr writes a colour, its class, and what it is on light and on dark pages.
type Colour = (&'static str, &'static str, &'static str, &'static str);

/// The sources define the same names, by the last of the three numbers. 0 is pikchr's own colour.
const COLOURS: [Colour; 8] = [
    ("rgb(0,0,0)", "ink", "#1f2933", "#e4e7eb"),
    ("rgb(0,0,16)", "quiet", "#5b6773", "#a3aeba"),
    ("rgb(0,0,32)", "band", "#f0f3f6", "#222a33"),
    ("rgb(0,0,48)", "edge", "#c8d0d8", "#44505c"),
    ("rgb(0,0,64)", "ours", "#b4450f", "#ffa463"),
    ("rgb(0,0,80)", "glow", "#fdeee3", "#3d2b1f"),
    ("rgb(0,0,96)", "theirs", "#1d5f9e", "#82bcf5"),
    ("rgb(0,0,112)", "paper", "#ffffff", "#14191f"),
];

/// Around the drawing, in its own units.
const MARGIN: isize = 14;

/// Draws a picture.
///
/// # Errors
/// What pikchr has to say of the source.
pub fn draw(source: &str) -> Result<String, String> {
    let mut flags = PikchrFlags::default();
    flags.generate_plain_errors();
    let picture = Pikchr::render(source, None, flags)?;
    let tags: Vec<_> = picture.split('<').skip(2).map(classed).collect();
    let body = tags.join("<");
    let rules = |pick: fn(&Colour) -> &str| -> String {
        let rule = |colour: &Colour| {
            let (class, value) = (colour.1, pick(colour));
            format!(".f-{class}{{fill:{value}}}.s-{class}{{stroke:{value}}}")
        };
        COLOURS.iter().map(rule).collect()
    };
    let (light, dark) = (rules(|colour| colour.2), rules(|colour| colour.3));
    let (width, height) = (picture.width() + 2 * MARGIN, picture.height() + 2 * MARGIN);
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"-{MARGIN} -{MARGIN} {width} {height}\">\n\
         <style>\n\
         text{{font-family:system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,sans-serif}}\n\
         text[font-family]{{font-family:ui-monospace,SFMono-Regular,Consolas,\"Liberation Mono\",monospace}}\n\
         {light}\n\
         @media (prefers-color-scheme:dark){{{dark}}}\n\
         </style>\n\
         <rect x=\"-{MARGIN}\" y=\"-{MARGIN}\" width=\"{width}\" height=\"{height}\" rx=\"10\" class=\"f-paper\"/>\n\
         <{body}",
    ))
}

/// One tag, and what follows it, with classes in the place of its colours.
fn classed(tag: &str) -> String {
    let Some(end) = tag.find([' ', '>']) else {
        return tag.to_owned();
    };
    let (name, mut rest) = (&tag[..end], tag[end..].to_owned());
    let mut classes = Vec::new();
    for (drawn, class, ..) in COLOURS {
        for (written, prefix) in [
            (format!("fill:{drawn};"), "f"),
            (format!("fill:{drawn}"), "f"),
            (format!(" fill=\"{drawn}\""), "f"),
            (format!("stroke:{drawn};"), "s"),
        ] {
            if rest.contains(&written) {
                rest = rest.replacen(&written, "", 1);
                classes.push(format!("{prefix}-{class}"));
            }
        }
    }
    let rest = rest.replace(" style=\"\"", "");
    if classes.is_empty() {
        return format!("{name}{rest}");
    }
    format!("{name} class=\"{}\"{rest}", classes.join(" "))
}
