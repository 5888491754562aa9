//! What is wrong with a configuration as a whole: `nearside check` refuses it, a start tells of it.

use std::path::{Path, PathBuf};

use nearside_config::lint::{self, Names};
use nearside_config::{Config, ConfigError, ControlConfig, Flaw, Severity, Wan, files};
use nearside_lab::usage;

/// Where a configuration comes from.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Its file.
    pub(crate) file: Option<PathBuf>,
    /// The keys of the file that flags have taken the place of.
    pub(crate) flags: Vec<&'static str>,
}

/// The flaws of an edge or a shield on this machine, for `nearside check`.
pub(crate) fn node(config: &Config, file: &Path) -> Vec<Flaw> {
    let mut flaws = lint::node_flaws(config, Names::Resolved);
    flaws.extend(nearside_node::machine::flaws(config, Some(files::folder_of(file))));
    flaws
}

/// The flaws of a control process on this machine, for `nearside check`.
pub(crate) fn control(config: &ControlConfig, file: &Path) -> Vec<Flaw> {
    let mut flaws = lint::control_flaws(config, Names::Resolved);
    flaws.extend(nearside_control::machine::flaws(config, Some(files::folder_of(file))));
    flaws
}

impl Given {
    /// Refuses to start an edge or a shield that cannot work.
    pub(crate) fn accept_node(&self, config: &Config) -> anyhow::Result<()> {
        self.accept(lint::node_flaws(config, Names::Literal), nearside_node::machine::flaws(config, None))
    }

    /// Refuses to start a control process that cannot work.
    pub(crate) fn accept_control(&self, config: &ControlConfig) -> anyhow::Result<()> {
        self.accept(lint::control_flaws(config, Names::Literal), nearside_control::machine::flaws(config, None))
    }

    /// Refuses to start a simulated WAN that cannot work.
    pub(crate) fn accept_wan(&self, config: &Wan) -> anyhow::Result<()> {
        self.accept(lint::wan_flaws(config), Vec::new())
    }

    /// Warns of what works all the same, and refuses the rest: all that stands in the file at once, each where it stands; else the first
    /// that is the fault of flags.
    fn accept(&self, values: Vec<Flaw>, machine: Vec<Flaw>) -> anyhow::Result<()> {
        let (mut in_file, values) = self.sort(values);
        let (more, machine) = self.sort(machine);
        in_file.extend(more);
        match (&self.file, values.first(), machine.first()) {
            (Some(path), ..) if !in_file.is_empty() => Err(ConfigError::of_flaws(path, in_file).into()),
            (_, Some(flaw), _) => Err(usage!("{flaw}")),
            (_, None, Some(flaw)) => Err(anyhow::anyhow!("cannot start: {flaw}")),
            (_, None, None) => Ok(()),
        }
    }

    /// Tells of warnings, and divides the errors into those of the file and those of flags.
    fn sort(&self, flaws: Vec<Flaw>) -> (Vec<Flaw>, Vec<Flaw>) {
        let (errors, warnings): (Vec<_>, Vec<_>) = flaws.into_iter().partition(|flaw| flaw.severity == Severity::Error);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        errors.into_iter().partition(|flaw| self.file.is_some() && !self.flags.contains(&flaw.key()))
    }
}
