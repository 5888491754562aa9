//! Processes of the demo.

use anyhow::Context;

use crate::process_fleet::{ProcessFleet, ProcessSpec};

/// Process of the demo.
#[derive(Debug)]
pub(crate) struct DemoNode {
    pub(crate) name: &'static str,
    pub(crate) city: &'static str,
    pub(crate) port: u16,
    /// Port of its admin listener; `None` for the origin, which has one listener for everything.
    pub(crate) admin_port: Option<u16>,
    /// Subcommand that runs it.
    pub(crate) role: &'static str,
    /// Configuration, unless flags are enough.
    pub(crate) config: Option<&'static str>,
}

macro_rules! node {
    ($role:literal, $code:literal, $city:literal, $port:literal, $admin:literal) => {
        DemoNode {
            name: concat!($role, "-", $code),
            city: $city,
            port: $port,
            admin_port: Some($admin),
            role: $role,
            config: Some(include_str!(concat!("../../../../config/local/", $role, "-", $code, ".toml"))),
        }
    };
}

/// Finds a process by its name.
pub(crate) fn node(name: &str) -> anyhow::Result<&'static DemoNode> {
    NODES.iter().find(|node| node.name == name).context("no such node")
}

/// Networks of the browsers in the simulated WAN, and their cities.
pub(crate) const NETWORKS: &str = include_str!("../../../../config/local/networks.csv");

/// All processes in start order.
pub(crate) static NODES: [DemoNode; 11] = [
    DemoNode {
        name: "wan-sim",
        city: "-",
        port: 8000,
        admin_port: Some(8001),
        role: "wan-sim",
        config: Some(include_str!("../../../../config/local/wan-sim.toml")),
    },
    DemoNode { name: "origin", city: "Dallas", port: 8099, admin_port: None, role: "origin-sim", config: None },
    DemoNode {
        name: "control",
        city: "Frankfurt",
        port: 7080,
        admin_port: Some(7080),
        role: "control",
        config: Some(include_str!("../../../../config/local/control.toml")),
    },
    node!("shield", "fra", "Frankfurt", 8091, 7091),
    node!("shield", "iad", "Washington", 8092, 7092),
    node!("edge", "fra", "Frankfurt", 8081, 7081),
    node!("edge", "lon", "London", 8082, 7082),
    node!("edge", "nyc", "New York", 8083, 7083),
    node!("edge", "sfo", "San Francisco", 8084, 7084),
    node!("edge", "nrt", "Tokyo", 8085, 7085),
    node!("edge", "syd", "Sydney", 8086, 7086),
];

impl DemoNode {
    /// URL of the process. Edges have a name below `localhost`, which browsers resolve to this
    /// machine.
    pub(crate) fn url(&self) -> String {
        match self.name.strip_prefix("edge-") {
            Some(code) => format!("http://{code}.localhost:{}/", self.port),
            None => format!("http://127.0.0.1:{}/", self.port),
        }
    }

    /// Process to start, after its configuration was written to the folder of the fleet.
    pub(crate) fn member(&self, fleet: &ProcessFleet) -> anyhow::Result<ProcessSpec> {
        let mut args = vec![self.role.to_owned()];
        match self.config {
            Some(config) => {
                // Files of the fleet stand in its folder.
                let in_folder = |name: &str| fleet.folder().join(name).display().to_string();
                let config = config
                    .replace("\"purges.log\"", &format!("{:?}", in_folder("purges.log")))
                    .replace("\"networks.csv\"", &format!("{:?}", in_folder("networks.csv")));
                args.extend(["--config".to_owned(), fleet.configure(self.name, &config)?]);
            }
            None => args.extend(["--listen".to_owned(), format!("127.0.0.1:{}", self.port)]),
        }
        Ok(ProcessSpec { name: self.name.to_owned(), args, ready_url: self.ready_url() })
    }

    /// URL that answers 200 when the process is ready.
    pub(crate) fn ready_url(&self) -> String {
        match self.admin_port {
            Some(port) => format!("http://127.0.0.1:{port}/readyz"),
            None => format!("http://127.0.0.1:{}/readyz", self.port),
        }
    }
}
