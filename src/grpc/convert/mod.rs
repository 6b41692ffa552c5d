//! From the wire to nouns and back. A function takes the field's path, so that a refusal names it.

pub mod answer;
pub mod capture;
pub mod case;
pub mod noun;
pub mod proposal;
pub mod register;
mod replay;
pub mod request;
pub mod sensor;
