//! What the gateway serves over HTTP, as far as it is files: the auditor's page.

mod page;

pub use page::AUDIT_PAGE;
