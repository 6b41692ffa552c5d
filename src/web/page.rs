//! The auditor's page: one file that needs no network, for whoever holds a receipt or an export.
//!
//! It is put together here out of its parts in `audit/`. Its policy (`head.html`) names the hashes of its
//! style and its two scripts, so that a browser runs nothing else; `UPDATE=1 cargo test page` writes
//! them anew. The first script verifies and knows of no document, the second is the page.

/// Where it is served.
pub const AUDIT: &str = "/audit";

/// What it is served as.
pub const HTML: &str = "text/html; charset=utf-8";

/// The whole page, as `/audit` serves it and `tulga audit page` writes it.
pub const AUDIT_PAGE: &str = concat!(
    include_str!("audit/head.html"),
    include_str!("audit/style.css"),
    include_str!("audit/body.html"),
    include_str!("audit/bytes.js"),
    include_str!("audit/ledger.js"),
    include_str!("audit/receipt.js"),
    include_str!("audit/folder.js"),
    "</script>\n<script id=\"page\">\n\"use strict\";\n",
    include_str!("audit/reasons.js"),
    include_str!("audit/words.js"),
    include_str!("audit/faults.js"),
    include_str!("audit/page.js"),
    include_str!("audit/sheet.js"),
    "</script>\n</body>\n</html>\n",
);
