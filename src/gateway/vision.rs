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
    /// Most jobs that wait.
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
}

impl VisionPool {
    pub fn new(pipeline: Arc<FacePipeline>, limits: VisionLimits) -> Self {
        let places = Arc::new(Semaphore::new(limits.workers.max(1)));
        Self { pipeline, limits, places, waiting: AtomicUsize::new(0) }
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
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= self.limits.waiting_max {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return Err(GatewayError::Overloaded);
        }
        let place = tokio::time::timeout(self.limits.queue_wait, places.acquire_owned()).await;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        match place {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(GatewayError::NotReady("the gateway is draining")),
            Err(_) => Err(GatewayError::Overloaded),
        }
    }
}
