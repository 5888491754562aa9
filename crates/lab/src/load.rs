//! Load on what runs: as flags say, and as scenarios with claims.

mod flags;
mod play;
mod scenario;

pub use flags::LoadArgs;
pub use play::{RunArgs, run};
