//! Asking somebody outside: a message goes out, an answer comes back. How is the transport's business.

use async_trait::async_trait;

/// One address outside of the gateway.
#[async_trait]
pub trait Postbox: Send + Sync + std::fmt::Debug {
    /// The address, for logs.
    fn address(&self) -> String;

    /// Posts a message and waits for the answer, for a bounded time.
    ///
    /// # Errors
    ///
    /// [`PostboxError`] when there is none.
    async fn post(
        &self,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<PostboxAnswer, PostboxError>;
}

/// An answer, bounded by the transport.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PostboxAnswer {
    /// As HTTP counts: 200 for success.
    pub status: u16,
    /// What the body is.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// There was no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostboxError {
    /// The time was up.
    #[error("there was no answer in time")]
    Deadline,
    /// The other side could not be reached, or what it said could not be read.
    #[error("it could not be asked")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
}
