//! Load on running processes: as flags, and as scenarios with claims.

mod flags;
mod scenario;
mod scenario_run;

pub use flags::LoadArgs;
pub use scenario_run::{RunArgs, run};
