//! Files that the configuration of a control process names. `nearside check` and its start look at them alike.

use std::path::Path;

use nearside_config::files::{folder_of, found, open_secrets, open_to_others, why_not_appendable, why_not_creatable};
use nearside_config::{ControlConfig, Flaw, Nats, NatsLogin, PurgeLog, Steering};
use nearside_steering::World;

/// The flaws of a configuration on this machine. Relative paths are also looked for in the folder `beside`, where that is given.
#[must_use]
pub fn flaws(config: &ControlConfig, beside: Option<&Path>) -> Vec<Flaw> {
    let mut flaws = match &config.log {
        PurgeLog::File(path) => purge_log(path, beside).into_iter().collect(),
        PurgeLog::Nats(nats) => nats_files(nats, beside),
    };
    flaws.extend(open_secrets(&config.secret_files, beside));
    flaws.extend(config.steering.iter().flat_map(|steering| steering_files(steering, beside)));
    flaws
}

/// The log is created with the directories above it, so that only the nearest that exists matters.
fn purge_log(path: &Path, beside: Option<&Path>) -> Option<Flaw> {
    let path = found(path, beside);
    let folder = folder_of(&path);
    let why = if path.exists() || folder.exists() {
        why_not_appendable(&path)
    } else {
        let above = folder.ancestors().find(|above| above.exists()).unwrap_or(Path::new("."));
        why_not_creatable(above)
    };
    let help = "create the directory, and let the user that the control process runs as write there";
    Some(Flaw::error("purge_log.file", format!("the purge log {} cannot be written", path.display()), why?, help))
}

fn nats_files(nats: &Nats, beside: Option<&Path>) -> Vec<Flaw> {
    let (mut flaws, mut open) = (Vec::new(), None);
    let mut look = |key: &str, what: &str, path: &Path, holds: &str| {
        let why = match std::fs::read_to_string(found(path, beside)) {
            Ok(text) if text.contains(holds) => return,
            Ok(_) => format!("there is no {holds:?} in it"),
            Err(error) => error.to_string(),
        };
        let title = format!("the {what} {} cannot be used", path.display());
        let help = format!("name a file with the {what}, which the user that the control process runs as can read");
        flaws.push(Flaw::error(format!("purge_log.{key}"), title, why, help));
    };
    if let Some(path) = &nats.ca {
        look("ca", "certificates of the NATS servers' CA", path, "BEGIN CERTIFICATE");
    }
    if let NatsLogin::Credentials(path) = &nats.login {
        open = open_to_others("purge_log.credentials", "the file with the seed", path, beside);
        look("credentials", "credentials for NATS", path, "BEGIN NATS USER JWT");
    }
    flaws.extend(open);
    flaws
}

fn steering_files(steering: &Steering, beside: Option<&Path>) -> Vec<Flaw> {
    let table = steering.table.as_deref().map(|path| found(path, beside));
    let database = steering.mmdb.as_deref().map(|path| found(path, beside));
    let flaw = |at: &str, result: Result<World, _>, help: &str| {
        let why: crate::WorldError = result.err()?;
        Some(Flaw::error(at, why.to_string(), "clients cannot be located with it", help))
    };
    let lines = "write lines of PREFIX,CITY or PREFIX,LATITUDE,LONGITUDE";
    let of_table = table.and_then(|path| flaw("steering.table", World::open(Some(&path), None), lines));
    let format = "name a readable city database in MaxMind's format, as GeoLite2-City.mmdb";
    let of_database = database.and_then(|path| flaw("steering.mmdb", World::open(None, Some(&path)), format));
    of_table.into_iter().chain(of_database).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use nearside_config::ControlConfig;

    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let with_log =
            |path: &Path| ControlConfig::new("127.0.0.1:0".parse().unwrap(), PurgeLog::File(path.to_owned()));
        assert_eq!(flaws(&with_log(&at("purges.log")), None), []);
        assert_eq!(flaws(&with_log(&at("created/with/it/purges.log")), None), []);
        std::fs::write(at("file"), "x").unwrap();
        for path in [at("file/purges.log"), folder.path().to_owned(), at("file/a/b")] {
            let found = flaws(&with_log(&path), None);
            assert!(found.len() == 1 && found[0].at == "purge_log.file", "{path:?}: {found:?}");
        }
        let mut config = with_log(&at("purges.log"));
        let text = "role = \"control\"\nlisten = \":1\"\n[purge_log]\nfile = \"f\"\n[steering]\nlisten = \":2\"\ntable = \"TABLE\"\nmmdb = \"MMDB\"\n";
        std::fs::write(at("control.toml"), text.replace("TABLE", "t.csv").replace("MMDB", "m.mmdb")).unwrap();
        config.steering = nearside_config::load_control(&at("control.toml")).unwrap().steering;
        let keys = |beside| flaws(&config, beside).into_iter().map(|flaw| flaw.at).collect::<Vec<_>>();
        assert_eq!(keys(None), ["steering.table", "steering.mmdb"]);
        std::fs::write(at("t.csv"), "192.0.2.0/24,Tokyo\n").unwrap();
        assert_eq!(keys(Some(folder.path())), ["steering.mmdb"], "beside the file of the configuration");
        std::fs::write(at("t.csv"), "192.0.2.0/24,Atlantis\n").unwrap();
        let table = flaws(&config, Some(folder.path())).remove(0);
        assert!(table.title.contains("line 1") && table.title.contains("did you mean Atlanta?"), "{}", table.title);
    }
}
