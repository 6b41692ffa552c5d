//! The bounded pool: as many vision jobs at once as there are cores, and a short wait for a place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::error::GatewayError;
use crate::capture::{self, DecodeLimits, DecodedImage, EncodedImage, MediaType};
use crate::face::FacePipeline;

/// How the pool is bounded.
#[derive(Clone, Copy, Debug)]
pub struct VisionLimits {
    /// Jobs at once; one model pass is one thread.
    pub workers: usize,
    /// Longest wait for a place.
    pub queue_wait: Duration,
    /// Most jobs that wait, and most verifications beyond those at work.
    pub waiting_max: usize,
    /// Bounds of a picture.
    pub decode: DecodeLimits,
}

/// Runs decode and models away from the async threads.
#[derive(Debug)]
pub(super) struct VisionPool {
    pipeline: Arc<FacePipeline>,
    limits: VisionLimits,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    verifications: AtomicUsize,
}

impl VisionPool {
    pub fn new(pipeline: Arc<FacePipeline>, limits: VisionLimits) -> Self {
        let places = Arc::new(Semaphore::new(limits.workers.max(1)));
        let (waiting, verifications) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { pipeline, limits, places, waiting, verifications }
    }

    /// Lets a verification in, for as long as the guard lives: what would wait too long is turned away
    /// here, before a challenge is used and before anything is written.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Overloaded`] while as many are under way as may be.
    pub fn admit(&self) -> Result<Waiting<'_>, GatewayError> {
        let admitted = Waiting::join(&self.verifications);
        if admitted.before < self.verifications_max() {
            Ok(admitted)
        } else {
            Err(GatewayError::Overloaded)
        }
    }

    /// Whether a verification would be let in now.
    pub fn has_room(&self) -> bool {
        self.verifications.load(Ordering::SeqCst) < self.verifications_max()
    }

    fn verifications_max(&self) -> usize {
        self.limits.workers.max(1) + self.limits.waiting_max
    }

    pub fn pipeline(&self) -> &FacePipeline {
        &self.pipeline
    }

    /// Decodes a picture and hands it to `work` on a worker.
    pub async fn run<T: Send + 'static>(
        &self,
        image: Bytes,
        media_type: Option<MediaType>,
        work: impl FnOnce(&FacePipeline, &DecodedImage) -> Result<T, GatewayError> + Send + 'static,
    ) -> Result<T, GatewayError> {
        let place = self.place().await?;
        let pipeline = Arc::clone(&self.pipeline);
        let limits = self.limits.decode;
        tokio::task::spawn_blocking(move || {
            // The place is held by the work itself: a caller that goes away frees none early.
            let _place = place;
            let encoded = match media_type {
                Some(media_type) => EncodedImage::declared(image, media_type),
                None => EncodedImage::new(image),
            };
            let decoded = capture::decode(&encoded, &limits).map_err(GatewayError::Unreadable)?;
            work(&pipeline, &decoded)
        })
        .await
        .map_err(|cause| GatewayError::internal("vision", cause))?
    }

    async fn place(&self) -> Result<tokio::sync::OwnedSemaphorePermit, GatewayError> {
        let places = Arc::clone(&self.places);
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            return Ok(place);
        }
        let waiting = Waiting::join(&self.waiting);
        if waiting.before >= self.limits.waiting_max {
            return Err(GatewayError::Overloaded);
        }
        match tokio::time::timeout(self.limits.queue_wait, places.acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(GatewayError::NotReady("the gateway is draining")),
            Err(_) => Err(GatewayError::Overloaded),
        }
    }
}

/// A place in the queue, left also when the caller goes away while it waits.
pub(super) struct Waiting<'queue> {
    queue: &'queue AtomicUsize,
    /// How many waited already.
    before: usize,
}

impl<'queue> Waiting<'queue> {
    fn join(queue: &'queue AtomicUsize) -> Self {
        Self { queue, before: queue.fetch_add(1, Ordering::SeqCst) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.queue.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_the_queue_is_counted_out() {
        let queue = AtomicUsize::new(0);
        let first = Waiting::join(&queue);
        let second = Waiting::join(&queue);
        assert_eq!((first.before, second.before), (0, 1));
        drop((first, second));
        assert_eq!(queue.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn so_many_verifications_are_let_in_and_the_next_when_one_has_ended() {
        let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let pipeline = Arc::new(FacePipeline::load(&models).unwrap());
        let limits = VisionLimits {
            workers: 2,
            queue_wait: Duration::from_secs(1),
            waiting_max: 1,
            decode: DecodeLimits::default(),
        };
        let pool = VisionPool::new(pipeline, limits);
        let mut inside: Vec<_> = (0..3).map(|_| pool.admit().unwrap()).collect();
        assert!(!pool.has_room());
        assert!(matches!(pool.admit(), Err(GatewayError::Overloaded)));
        // Who was turned away takes no place.
        inside.pop();
        assert!(pool.has_room());
        assert!(pool.admit().is_ok());
    }
}
