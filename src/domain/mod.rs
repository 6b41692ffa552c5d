//! Nouns of the business. No I/O, no async.

pub mod case;
pub mod decision;
pub mod embedding;
pub mod face_print;
pub mod finger;
pub mod finger_quality;
pub mod footage;
pub mod four_eyes;
pub mod id;
pub mod iin;
pub mod likelihood;
pub mod liveness;
pub mod modality;
pub mod money;
pub mod quality;
pub mod reason;
pub mod reference;
pub mod register;
pub mod score;
pub mod sensor;
pub mod supplied;
pub mod time;
pub mod transaction;
pub mod turnover;
pub(crate) mod words;
pub mod working_days;
