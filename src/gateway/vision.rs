//! The bounded pool: as many vision jobs at once as there are cores, and a short wait for a place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::sleep;

use super::error::GatewayError;
use super::request::{Capture, Declared};
use crate::capture::{
    self, DecodeLimits, DecodedImage, EncodedImage, FingerImageDeclaration, FingerImageKind,
    GreyImage,
};
use crate::face::{Acquisition, FacePipeline};
use crate::fingerprint::FingerprintPipeline;

/// How long the workers keep what models computed last, from the beginning of the last job; then as long again while one
/// is under way.
const IDLE: Duration = Duration::from_secs(10);

/// How the pool is bounded.
#[derive(Clone, Copy, Debug)]
pub struct VisionLimits {
    /// Jobs at once; one model pass is one thread.
    pub workers: usize,
    /// Longest wait for a place.
    pub queue_wait: Duration,
    /// Most verifications that are let in beyond one a worker; so many of all jobs as are let in may wait.
    pub waiting_max: usize,
    /// Bounds of a picture.
    pub decode: DecodeLimits,
}

/// Runs decode and models away from the async threads.
#[derive(Debug)]
pub(super) struct VisionPool {
    faces: Arc<FacePipeline>,
    /// None where the models have none for fingers.
    fingers: Option<Arc<FingerprintPipeline>>,
    /// What the models run on.
    instructions: String,
    limits: VisionLimits,
    /// A thread a worker, and no more: each keeps the memory that its models run in.
    workers: Arc<ThreadPool>,
    /// Jobs that began.
    begun: Arc<AtomicU64>,
    /// One a worker, held by each job and by who helps another.
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    verifications: AtomicUsize,
}

impl VisionPool {
    pub fn new(
        faces: Arc<FacePipeline>,
        fingers: Option<Arc<FingerprintPipeline>>,
        limits: VisionLimits,
    ) -> Result<Self, GatewayError> {
        let workers = ThreadPoolBuilder::new()
            .num_threads(limits.workers.max(1))
            .thread_name(|number| format!("vision-{number}"))
            // Who waits for what panicked learns it: nobody answers any more.
            .panic_handler(drop)
            .build()
            .map_err(|cause| GatewayError::internal("threads for vision", cause))?;
        let places = Arc::new(Semaphore::new(limits.workers.max(1)));
        let of_faces = faces.instructions();
        let of_fingers = fingers.as_ref().map(|fingers| fingers.instructions());
        let instructions = match of_fingers.filter(|other| *other != of_faces) {
            Some(of_fingers) => format!("faces {of_faces}, fingers {of_fingers}"),
            None => of_faces,
        };
        Ok(Self {
            faces,
            fingers,
            instructions,
            limits,
            workers: Arc::new(workers),
            begun: Arc::default(),
            places,
            waiting: AtomicUsize::new(0),
            verifications: AtomicUsize::new(0),
        })
    }

    /// Lets a verification in, for as long as the guard lives: what would wait too long is turned away
    /// here, before a challenge is used and before anything is written.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Overloaded`] while as many are under way as may be.
    pub fn admit(&self) -> Result<Counted<'_>, GatewayError> {
        let admitted = Counted::among(&self.verifications);
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

    pub fn faces(&self) -> &FacePipeline {
        &self.faces
    }

    pub fn fingers(&self) -> Option<&FingerprintPipeline> {
        self.fingers.as_deref()
    }

    /// What the models run on: the same scores bit for bit come of the same instructions in the same build.
    pub fn instructions(&self) -> &str {
        &self.instructions
    }

    /// Decodes the picture of a face and hands it to `work` on a worker.
    pub async fn look_at_face<T: Send + 'static>(
        &self,
        capture: Capture,
        work: impl FnOnce(&Faces, &DecodedImage) -> Result<T, GatewayError> + Send + 'static,
    ) -> Result<T, GatewayError> {
        let (faces, limits) = (Faces::of(self), self.limits.decode);
        let looked = self.on_worker(move || {
            let Capture { image, declared } = capture;
            let encoded = match declared.media_type {
                Some(media_type) => EncodedImage::declared(image, media_type),
                None => EncodedImage::new(image),
            };
            let decoded = capture::decode(&encoded, &limits).map_err(GatewayError::Unreadable)?;
            work(&faces, &decoded)
        });
        looked.await
    }

    /// Decodes the picture of a finger and hands it to `work` on a worker.
    pub async fn look_at_finger<T: Send + 'static>(
        &self,
        capture: Capture,
        work: impl FnOnce(&FingerprintPipeline, &GreyImage) -> Result<T, GatewayError> + Send + 'static,
    ) -> Result<T, GatewayError> {
        let fingers = self.fingers.as_ref().ok_or(GatewayError::broken("no model for fingers"))?;
        let (pipeline, limits) = (Arc::clone(fingers), self.limits.decode);
        let looked = self.on_worker(move || {
            let decoded = decode_finger(&capture, &limits)?;
            work(&pipeline, &decoded.resampled_to_500())
        });
        looked.await
    }

    async fn on_worker<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, GatewayError> + Send + 'static,
    ) -> Result<T, GatewayError> {
        let place = self.place().await?;
        let (answer, answered) = oneshot::channel();
        self.workers.spawn(move || {
            let answer = answer;
            // It is held by the work itself: a caller that goes away frees none early. Given back before the answer,
            // also by a panic.
            let place = place;
            let done = work();
            drop(place);
            drop(answer.send(done));
        });
        self.forget_when_idle(IDLE);
        // A panic was logged where it happened.
        answered.await.map_err(|_| GatewayError::broken("a worker panicked"))?
    }

    /// Once no job has begun for a while and none is under way, the workers wipe what models computed last, of whoever
    /// came last.
    fn forget_when_idle(&self, idle: Duration) {
        let (workers, places) = (Arc::clone(&self.workers), Arc::clone(&self.places));
        let begun = Arc::clone(&self.begun);
        let until_now = begun.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::spawn(async move {
            loop {
                sleep(idle).await;
                if begun.load(Ordering::SeqCst) != until_now {
                    return;
                }
                if places.available_permits() == workers.current_num_threads() {
                    break;
                }
            }
            workers.spawn_broadcast(|_| FacePipeline::forget());
        });
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, GatewayError> {
        let places = Arc::clone(&self.places);
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            return Ok(place);
        }
        let waiting = Counted::among(&self.waiting);
        // Whoever was let in may wait: a place may be that of one who only helps.
        if waiting.before >= self.verifications_max() {
            return Err(GatewayError::Overloaded);
        }
        match tokio::time::timeout(self.limits.queue_wait, places.acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(GatewayError::NotReady("the gateway is draining")),
            Err(_) => Err(GatewayError::Overloaded),
        }
    }
}

/// A finger's picture; no more bytes than any picture may have.
fn decode_finger(capture: &Capture, limits: &DecodeLimits) -> Result<GreyImage, GatewayError> {
    let Capture { image, declared } = capture;
    let Declared { media_type: _, finger_kind, pixels_per_inch, raw_size } = *declared;
    // Bare pixels begin like nothing: their size says that they are some.
    let is_bare = finger_kind.is_none() && raw_size.is_some();
    let declaration = FingerImageDeclaration {
        kind: if is_bare { Some(FingerImageKind::Raw) } else { finger_kind },
        size_px: raw_size,
        pixels_per_inch,
    };
    let encoded_bytes_max = limits.encoded_bytes_max;
    let limits = DecodeLimits { encoded_bytes_max, ..DecodeLimits::for_fingers() };
    capture::decode_finger(image, &declaration, &limits).map_err(GatewayError::UnreadableFinger)
}

/// The models for faces, on a worker and beside it.
pub(super) struct Faces {
    pipeline: Arc<FacePipeline>,
    places: Arc<Semaphore>,
}

impl Faces {
    fn of(pool: &VisionPool) -> Self {
        Self { pipeline: Arc::clone(&pool.faces), places: Arc::clone(&pool.places) }
    }

    pub fn probe(&self, picture: &DecodedImage) -> Result<Acquisition, GatewayError> {
        let acquired = self.pipeline.probe_with(picture, || self.idle_worker());
        acquired.map_err(|cause| GatewayError::internal("face pipeline", cause))
    }

    pub fn enrol(&self, picture: &DecodedImage) -> Result<Acquisition, GatewayError> {
        let acquired = self.pipeline.enrol_with(picture, || self.idle_worker());
        acquired.map_err(|cause| GatewayError::internal("face pipeline", cause))
    }

    /// The place of a worker that has nothing to do, so that no job is given to it: none while somebody waits for one.
    fn idle_worker(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

/// One of those who wait or are let in, counted out also when it goes away before its time.
pub(super) struct Counted<'all> {
    all: &'all AtomicUsize,
    /// How many were there already.
    before: usize,
}

impl<'all> Counted<'all> {
    fn among(all: &'all AtomicUsize) -> Self {
        Self { all, before: all.fetch_add(1, Ordering::SeqCst) }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_the_queue_is_counted_out() {
        let queue = AtomicUsize::new(0);
        let first = Counted::among(&queue);
        let second = Counted::among(&queue);
        assert_eq!((first.before, second.before), (0, 1));
        drop((first, second));
        assert_eq!(queue.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn an_idle_worker_helps_and_one_that_has_a_job_does_not() {
        let pool = pool(0);
        // A face too dark to be used: dlib sees it only where it runs beside `SFace`.
        let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/astronaut.png");
        let encoded = EncodedImage::new(std::fs::read(demo).unwrap());
        let bright = capture::decode(&encoded, &DecodeLimits::default()).unwrap();
        let rgb = bright.rgb().iter().map(|value| value / 6).collect();
        let dark = DecodedImage::from_rgb(bright.width(), bright.height(), rgb).unwrap();
        let dark = Arc::new(dark);
        let passes = async || {
            let (faces, dark) = (Faces::of(&pool), Arc::clone(&dark));
            let before = pool.faces.passes();
            let look = move || Ok([faces.probe(&dark)?, faces.enrol(&dark)?]);
            let looked = pool.on_worker(look).await.unwrap();
            assert!(looked.iter().all(|acquired| matches!(acquired, Acquisition::Refused(_))));
            pool.faces.passes() - before
        };
        let helped = passes().await;
        assert_eq!(pool.places.available_permits(), 2);
        let other = pool.place().await.unwrap();
        assert_eq!([helped, passes().await], [8, 6]);
        drop(other);
        assert_eq!(pool.places.available_permits(), 2);
    }

    #[tokio::test]
    async fn a_job_is_not_refused_for_a_place_that_only_helps() {
        let pool = pool(0);
        let first = pool.place().await.unwrap();
        let helper = Faces::of(&pool).idle_worker();
        assert!(helper.is_some());
        let second = pool.on_worker(|| Ok(()));
        let help_ends = async {
            sleep(Duration::from_millis(20)).await;
            drop(helper);
        };
        let (second, ()) = tokio::join!(second, help_ends);
        second.unwrap();
        drop(first);
        assert_eq!(pool.places.available_permits(), 2);
    }

    /// A pool of two workers, with room for so many that wait.
    fn pool(waiting_max: usize) -> VisionPool {
        let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let pipeline = Arc::new(FacePipeline::load(&models).unwrap());
        let limits = VisionLimits {
            workers: 2,
            queue_wait: Duration::from_secs(20),
            waiting_max,
            decode: DecodeLimits::default(),
        };
        VisionPool::new(pipeline, None, limits).unwrap()
    }

    #[tokio::test]
    async fn work_is_done_by_the_workers_threads() {
        let pool = pool(0);
        assert_eq!(pool.workers.current_num_threads(), 2);
        for _ in 0..4 {
            let name = || Ok(std::thread::current().name().map(str::to_owned));
            let name = pool.on_worker(name).await.unwrap();
            assert!(matches!(name.as_deref(), Some("vision-0" | "vision-1")), "{name:?}");
        }
    }

    #[tokio::test]
    async fn workers_forget_what_they_computed_once_nobody_asks_any_more() {
        let pool = pool(0);
        let remember = || pool.workers.broadcast(|_| FacePipeline::remembers()).contains(&true);
        let faces = Arc::clone(&pool.faces);
        let look = move || {
            let image = DecodedImage::from_rgb(64, 64, vec![90; 64 * 64 * 3]).unwrap();
            Ok(faces.nearest_centre(&image).map(drop).is_ok())
        };
        assert!(pool.on_worker(look).await.unwrap());
        assert_eq!(remember(), pool.instructions() != "plain");
        pool.forget_when_idle(Duration::ZERO);
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        while remember() {
            assert!(tokio::time::Instant::now() < until, "they remember");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_of_its_caller_and_leaves_its_place() {
        let pool = pool(0);
        for _ in 0..3 {
            let broken = pool.on_worker(|| -> Result<(), GatewayError> { panic!("in the middle") });
            assert!(matches!(broken.await, Err(GatewayError::Internal(..))));
        }
        assert_eq!(pool.places.available_permits(), 2);
        assert!(pool.on_worker(|| Ok(())).await.is_ok());
    }

    #[test]
    fn so_many_verifications_are_let_in_and_the_next_when_one_has_ended() {
        let pool = pool(1);
        let mut inside: Vec<_> = (0..3).map(|_| pool.admit().unwrap()).collect();
        assert!(!pool.has_room());
        assert!(matches!(pool.admit(), Err(GatewayError::Overloaded)));
        // Who was turned away takes no place.
        inside.pop();
        assert!(pool.has_room());
        assert!(pool.admit().is_ok());
    }
}
