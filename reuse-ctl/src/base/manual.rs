//! Tables of the manual that are written from the code, so that neither goes without the other.

use std::path::Path;

/// The table in `docs/FILE` must be `table`; with `UPDATE_DOCS` in the environment it becomes that. `source` is what it is written from.
#[track_caller]
pub(crate) fn assert_has_table(file: &str, table: &str, source: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file);
    let manual = std::fs::read_to_string(&path).expect("a page of the manual");
    let (before, rest) = manual.split_once("<!-- table -->\n").expect("its beginning");
    let (_, after) = rest.split_once("<!-- end of table -->").expect("its end");
    let wanted = format!("{before}<!-- table -->\n{table}<!-- end of table -->{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("the manual can be written");
    } else {
        assert!(
            manual == wanted,
            "docs/{file} is behind {source}: UPDATE_DOCS=1 cargo test -p reuse-ctl the_manual_has"
        );
    }
}
