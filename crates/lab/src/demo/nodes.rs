//! Who takes part in the demo.

use anyhow::Context;

use crate::process_fleet::{ProcessFleet, ProcessSpec};

/// A process of the demo.
#[derive(Debug)]
pub(crate) struct DemoNode {
    pub(crate) name: &'static str,
    pub(crate) city: &'static str,
    pub(crate) port: u16,
    /// Where it is asked whether it is ready: `None` for the origin, which has no other listener.
    pub(crate) admin_port: Option<u16>,
    /// The subcommand that runs it, and its configuration.
    pub(crate) role: &'static str,
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

/// The one that is called so.
pub(crate) fn node(name: &str) -> anyhow::Result<&'static DemoNode> {
    NODES.iter().find(|node| node.name == name).context("no such node")
}

/// Where the browsers of the simulated WAN are.
pub(crate) const NETWORKS: &str = include_str!("../../../../config/local/networks.csv");

/// All of them, in the order in which they start.
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
    /// Where it is reached; edges by a name that a browser takes for this machine.
    pub(crate) fn url(&self) -> String {
        match self.name.strip_prefix("edge-") {
            Some(code) => format!("http://{code}.localhost:{}/", self.port),
            None => format!("http://127.0.0.1:{}/", self.port),
        }
    }

    /// Its process, with its configuration where the fleet keeps it.
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

    /// What answers 200 once it is ready.
    pub(crate) fn ready_url(&self) -> String {
        match self.admin_port {
            Some(port) => format!("http://127.0.0.1:{port}/readyz"),
            None => format!("http://127.0.0.1:{}/readyz", self.port),
        }
    }
}
