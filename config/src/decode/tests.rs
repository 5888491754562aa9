use std::collections::BTreeSet;
use std::time::Duration;

use toml::de::DeValue;

use super::*;
use crate::model::{ClientRules, Key, LogFormat, Nats, PurgeLog, SetCookie, Site, SiteTimeouts};

mod causes;

use causes::titles;

const SITE: &str = "[[site]]\nname = \"a\"\nhosts = [\"*\"]\norigins = [\"http://o\"]\n";
const EDGE: &str = include_str!("../../reference/edge.toml");
const SHIELD: &str = include_str!("../../reference/shield.toml");

/// The reference with every key in force: a line that is commented out as `#key = value` counts.
fn in_force(reference: &str) -> String {
    let key = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    reference.lines().map(|line| if key(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

fn keys(table: &DeTable<'_>, path: &str, found: &mut BTreeSet<String>) {
    for (key, value) in table {
        let full = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
        found.insert(full.clone());
        match value.get_ref() {
            // Tables that are values of their own, not sections.
            DeValue::Table(_) if full.ends_with("secret") || full.ends_with("password") => {}
            DeValue::Table(inner) => keys(inner, &full, found),
            DeValue::Array(members) => {
                for inner in members.iter().filter_map(|m| m.get_ref().as_table()) {
                    keys(inner, &format!("{full}[]"), found);
                }
            }
            _ => {}
        }
    }
}

fn problems_of(text: &str) -> String {
    match parse("test.toml", text.to_owned()) {
        Ok(_) => String::new(),
        Err(error) => error.render(false),
    }
}

fn with_secret(text: &str) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "0123456789abcdef").unwrap();
    std::fs::write(folder.path().join("token"), "a-token-of-its-own").unwrap();
    std::fs::write(folder.path().join("node"), "a-secret-of-one-node").unwrap();
    let path = |name| folder.path().join(name).display().to_string();
    let text = text.replace("/etc/nearside/shield-secret", &path("secret"));
    let text = text.replace("/etc/nearside/nodes-secret", &path("secret"));
    let text = text.replace("/etc/nearside/steering-secret", &path("secret"));
    let text = text.replace("/etc/nearside/node-edge-fra", &path("node"));
    let text = text.replace("/etc/nearside/nats-password", &path("secret"));
    let text = text.replace("/etc/nearside/webhook-secret", &path("secret"));
    let text = text.replace("/etc/nearside/hook-secret", &path("secret"));
    (text.replace("/etc/nearside/token-deploy", &path("token")), folder)
}

#[test]
fn the_reference_files_name_every_key_and_no_other() {
    for reference in [EDGE, SHIELD] {
        let (text, _folder) = with_secret(&in_force(reference));
        let findings = Findings::default();
        assert!(decode_with(&text, &findings, config).is_some());
        assert_eq!(findings.problems.into_inner(), Vec::new());
        let known: BTreeSet<String> = findings.known.into_inner().into_iter().collect();
        let mut written = BTreeSet::new();
        keys(DeTable::parse(&text).unwrap().get_ref(), "", &mut written);
        assert_eq!(written, known);
    }
}

#[test]
fn the_reference_files_state_the_defaults() {
    for reference in [EDGE, SHIELD] {
        let (all, _folder) = with_secret(&in_force(reference));
        let full = parse("reference", all).unwrap();
        let site = &full.sites[0];
        assert_eq!(full.cache, Cache::default());
        assert_eq!(full.limits, Limits::default());
        assert_eq!(full.timeouts, Timeouts::default());
        assert_eq!(full.access_log.format, AccessLog::default().format);
        let defaults = Site::new(&site.name, site.hosts.clone(), site.origins.clone());
        // What has no default, or none that could be written, stands there as an example.
        let key = Key { query_keep: None, query_drop: Vec::new(), ..site.key.clone() };
        let timeouts = SiteTimeouts::default();
        let plain = Site {
            canonical_host: None,
            origin_host: None,
            max_ttl: None,
            key,
            timeouts,
            clients: ClientRules::default(),
            ..site.clone()
        };
        assert_eq!(plain, defaults);
    }
}

#[test]
fn what_is_written_is_what_comes_out() {
    let config = parse(
        "test.toml",
        r#"
        role = "edge"
        id = "edge-nrt"
        listen = [":8080", "127.0.0.1:0"]
        [cache]
        memory = "64MiB"
        [timeouts]
        connect = "250ms"
        [access_log]
        format = "off"
        [[site]]
        name = "www"
        hosts = ["www.example.com", "*.example.org"]
        origins = "http://127.0.0.1:9000"
        set_cookie = "store"
        heuristic_fraction = 0.25
        targeted_fields = []
        [site.key]
        query_drop = ["utm_*"]
        [site.timeouts]
        first_byte = "5m"
        "#
        .to_owned(),
    )
    .unwrap();
    let longer = SiteTimeouts { first_byte: Some(Duration::from_secs(300)), ..SiteTimeouts::default() };
    assert_eq!(config.sites[0].timeouts, longer);
    assert_eq!(config.id.as_str(), "edge-nrt");
    assert_eq!(config.listen[0].to_string(), "[::]:8080");
    assert_eq!((config.cache.memory_bytes, config.cache.object_bytes_max), (64 << 20, 16 << 20));
    assert_eq!(config.timeouts.connect, Duration::from_millis(250));
    assert_eq!(config.access_log.format, LogFormat::Off);
    assert_eq!(config.sites[0].set_cookie, SetCookie::Store);
    assert_eq!((config.sites[0].heuristic_thousandths, config.sites[0].targeted_fields.len()), (250, 0));
    assert_eq!((&config.sites[0].key.query_keep, config.sites[0].key.query_drop[0].as_str()), (&None, "utm_*"));
    assert_eq!(config.sites[0].origins[0].to_string(), "http://127.0.0.1:9000");
}

#[test]
fn all_problems_are_told_at_once_each_with_its_line_and_a_remedy() {
    let shown = problems_of(
        r#"role = "edge"
listen = ["127.0.0.1:99999"]
thread = 2
[cache]
memory = "lots"
[[site]]
name = "www"
hosts = ["a"]
origins = ["example.com"]
[[site]]
name = "www"
hosts = ["a"]
origins = ["http://b"]
"#,
    );
    for part in [
        "test.toml:2:",
        "`listen` cannot be \"127.0.0.1:99999\"",
        "test.toml:3:",
        "did you mean `threads`?",
        "test.toml:5:",
        "`cache.memory` cannot be \"lots\"",
        "as in \"512MiB\"",
        "test.toml:9:",
        "`site[].origins` cannot be \"example.com\"",
        "two sites answer for `a`",
        "two sites have one name",
        "nothing was applied",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
    }
}

#[test]
fn text_that_is_not_toml_is_told_with_all_its_places() {
    let shown = problems_of("role = \n[cache\nmemory = 'x\n");
    assert!(shown.matches("this is not TOML").count() >= 2, "{shown}");
    assert!(shown.contains("test.toml:1:") && shown.contains("test.toml:2:"), "{shown}");
}

#[test]
fn what_is_missing_is_told_with_what_to_write() {
    let shown = problems_of("");
    for part in ["`role` is missing", "there is no listener", "there is no site"] {
        assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
    }
    let shield =
        "role = \"shield\"\nlisten = [\":1\"]\n[[site]]\nname = \"a\"\nhosts = [\"*\"]\norigins = [\"http://b\"]\n";
    assert!(problems_of(shield).contains("a shield must know its edges"));
    assert_eq!(problems_of(&format!("{shield}[edges]\nopen = true\n")), "");
    assert!(problems_of(&format!("{shield}[edges]\nsecret = \"in the open, really\"\n")).contains("${ENVIRONMENT"));
    assert!(
        problems_of(&format!("{shield}[edges]\nsecret = {{ file = \"/does/not/exist\" }}\n"))
            .contains("/does/not/exist")
    );
}

#[test]
fn a_key_cannot_hang_on_what_nodes_write_themselves() {
    let text = |field: &str| {
        format!(
            "role = \"edge\"\nlisten = [\":8080\"]\n[[site]]\nname = \"a\"\nhosts = [\"*\"]\norigins = [\"http://o\"]\n[site.key]\nfields = [\"{field}\"]"
        )
    };
    assert_eq!(problems_of(&text("X-Country")), "");
    let shown = problems_of(&text("X-Forwarded-For"));
    assert!(shown.contains("`x-forwarded-for` cannot tell answers apart"), "{shown}");
    assert!(problems_of(&text("X Country")).contains("the name of a field"));
}

#[test]
fn the_reference_of_the_control_process_is_whole_and_states_the_defaults() {
    let (mut known, mut written) = (BTreeSet::new(), BTreeSet::new());
    for reference in [include_str!("../../reference/control.toml"), include_str!("../../reference/control-nats.toml")] {
        let (text, _folder) = with_secret(&in_force(reference));
        let findings = Findings::default();
        let control = decode_with(&text, &findings, control::control).unwrap();
        assert_eq!(findings.problems.into_inner(), Vec::new());
        assert_eq!(control.keep, crate::model::Keep::default());
        if let PurgeLog::Nats(nats) = control.log {
            let of_the_server = Nats::new(nats.servers.clone());
            assert_eq!((nats.stream, nats.replicas), (of_the_server.stream, of_the_server.replicas));
        }
        known.extend(findings.known.into_inner());
        keys(DeTable::parse(&text).unwrap().get_ref(), "", &mut written);
    }
    // What stands in the place of others, and is told of there.
    written.extend(["purge_log.token", "purge_log.credentials"].map(str::to_owned));
    assert_eq!(written, known);
}

#[test]
fn the_reference_of_the_simulated_wan_is_whole_and_states_the_defaults() {
    let text = in_force(include_str!("../../reference/wan-sim.toml"));
    let findings = Findings::default();
    let wan = decode_with(&text, &findings, wan::wan).unwrap();
    assert_eq!(findings.problems.into_inner(), Vec::new());
    assert_eq!((wan.quality, wan.seed), (crate::model::Quality::default(), 1));
    let known: BTreeSet<String> = findings.known.into_inner().into_iter().collect();
    let mut written = BTreeSet::new();
    keys(DeTable::parse(&text).unwrap().get_ref(), "", &mut written);
    assert_eq!(written, known);
    let bad =
        parse_wan("wan.toml", "role = \"wan-sim\"\n[[link]]\nfrom = \"a\"\nto = \"b\"\nlisten = \":1\"".to_owned());
    assert!(bad.unwrap_err().render(false).contains("there is no such place"));
}

#[test]
fn a_purge_log_is_of_one_kind_and_a_process_has_one_name_on_nats() {
    let problems = |log: &str| {
        let text = format!("role = \"control\"\nlisten = \":7080\"\n[purge_log]\n{log}");
        let findings = Findings::default();
        decode_with(&text, &findings, control::control);
        findings.problems.into_inner().iter().map(|problem| format!("{problem:?}")).collect::<String>()
    };
    let nats = "kind = \"nats\"\nservers = \"nats://n\"\n";
    assert_eq!(problems("file = \"/f\""), "");
    assert_eq!(problems(nats), "");
    assert_eq!(problems(&format!("{nats}credentials = \"/c\"")), "");
    for (bad, says) in [
        ("", "`file` is missing in purge_log"),
        ("kind = \"kafka\"", "\\\"file\\\" or \\\"nats\\\""),
        ("kind = \"nats\"", "it is not said where NATS is"),
        ("kind = \"nats\"\nservers = [\"http://n\"]", "nats://HOST:PORT"),
        ("kind = \"nats\"\nservers = [\"nats://u:p@n\"]", "without a user"),
        ("file = \"/f\"\nservers = [\"nats://n\"]", "`servers` means nothing"),
        (&format!("{nats}file = \"/f\""), "`file` means nothing"),
        (&format!("{nats}stream = \"a.b\""), "letters, digits, '-' and '_'"),
        (&format!("{nats}user = \"u\""), "it is not clear who this process is"),
        (&format!("{nats}user = \"u\"\ncredentials = \"/c\""), "it is not clear who this process is"),
        (&format!("{nats}password = \"secret\""), "a secret does not stand in the file"),
        (&format!("{nats}replicas = 6"), "from 1 to 5"),
    ] {
        let said = problems(bad);
        assert!(said.contains(says), "{bad}: {said}");
    }
}

#[test]
fn tokens_name_sites_that_there_are_and_differ() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::write(folder.path().join(name), format!("the-token-of-{name}-0123456789")).unwrap();
    }
    let token = |name: &str, file: &str, rest: &str| {
        let path = folder.path().join(file);
        format!("[[token]]\nname = \"{name}\"\nsecret = {{ file = \"{}\" }}\n{rest}\n", path.display())
    };
    let node =
        "role = \"edge\"\nlisten = [\":8080\"]\n[[site]]\nname = \"www\"\nhosts = [\"*\"]\norigins = [\"http://o\"]";
    let problems = |tokens: &[String]| problems_of(&format!("{node}\n{}", tokens.concat()));
    let good = token("a", "a", "scope = \"purge\"\nsites = [\"www\"]");
    assert_eq!(problems(std::slice::from_ref(&good)), "");
    for (bad, says) in [
        (token("b", "b", "scope = \"root\""), "\"read\", \"purge\" or \"admin\""),
        (token("b", "b", ""), "`scope` is missing"),
        (token("b", "b", "scope = \"read\"\nsites = [\"wwww\"]"), "there is no site `wwww`"),
        (token("a", "b", "scope = \"read\""), "two tokens have one name"),
        (token("b", "a", "scope = \"read\""), "two tokens have one secret"),
        (token("b", "missing", "scope = \"read\""), "a readable file"),
    ] {
        let said = problems(&[good.clone(), bad]);
        assert!(said.contains(says), "{says}: {said}");
    }
}

#[test]
fn a_file_that_has_changed_since_it_was_read_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.toml");
    let text = "role = \"edge\"\nlisten = [\"127.0.0.1:0\"]\n[[site]]\nname = \"a\"\nhosts = [\"*\"]\norigins = [\"http://o\"]\n";
    std::fs::write(&path, text).unwrap();
    let file = load(&path).unwrap().file.unwrap();
    assert!(!file.has_changed());
    std::fs::write(&path, format!("{text}# more\n")).unwrap();
    assert!(file.has_changed());
    std::fs::remove_file(&path).unwrap();
    assert!(file.has_changed());
}

#[test]
fn cities_are_known_or_have_degrees() {
    let with = |keys: &str| format!("role = \"edge\"\nlisten = [\":8080\"]\n{keys}\n{SITE}");
    assert_eq!(problems_of(&with("city = \"sao paulo\"")), "");
    assert_eq!(problems_of(&with("city = \"Nürnberg\"\ncoordinates = [49.45, 11.08]")), "");
    let shown = problems_of(&with("city = \"Atlantis\""));
    for part in
        ["test.toml:3:", "there is no known city \"Atlantis\"", "did you mean Atlanta?", "coordinates = [LATITUDE"]
    {
        assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
    }
    assert_eq!(titles(&with("city = \"Atlantis\"\ncoordinates = 5")), ["`coordinates` cannot be 5"]);
    let config = parse("test.toml", with("city = \"São Paulo\"")).unwrap();
    assert_eq!((config.city.as_deref(), config.city_in_ascii().as_deref()), (Some("São Paulo"), Some("Sao Paulo")));
}

#[test]
fn an_edge_with_shields_needs_no_origin_and_then_falls_back_on_nobody() {
    let with = |shields: &str| {
        format!("role = \"edge\"\nlisten = [\":8080\"]\n[[site]]\nname = \"a\"\nhosts = [\"*\"]\n{shields}")
    };
    let fallback = |text: &str| match parse("test.toml", text.to_owned()).unwrap().role {
        Role::Edge { fallback, .. } => fallback,
        Role::Shield { .. } => panic!("it is an edge"),
    };
    let shields = "[shields]\naddresses = [\"http://s\"]\n";
    assert_eq!(fallback(&with(shields)), Fallback::None);
    assert_eq!(fallback(&with(&format!("{shields}fallback = \"none\"\n"))), Fallback::None);
    let with_origin = format!("role = \"edge\"\nlisten = [\":8080\"]\n{SITE}{shields}");
    assert_eq!(fallback(&with_origin), Fallback::Origin);
    for needed in ["", "[shields]\naddresses = []\n", &format!("{shields}fallback = \"origin\"\n")] {
        assert_eq!(titles(&with(needed)), ["a site needs an origin"], "{needed}");
    }
}

#[test]
fn listeners_and_next_hops_go_together() {
    use crate::lint::{Names, control_flaws, node_flaws, wan_flaws};
    let flaws = |keys: &str, rest: &str| {
        let text = format!("role = \"edge\"\n{keys}\n{SITE}{rest}");
        let config = parse("test.toml", text).unwrap();
        node_flaws(&config, Names::Literal).into_iter().map(|flaw| flaw.at).collect::<Vec<_>>()
    };
    let tls = "[[listen_tls]]\naddress = \"127.0.0.1:8080\"\ncert = \"c\"\nkey = \"k\"\n";
    assert_eq!(flaws("listen = [\"127.0.0.1:8080\"]\nadmin = \"127.0.0.1:7080\"", ""), Vec::<String>::new());
    assert_eq!(flaws("listen = [\"127.0.0.1:8080\", \"127.0.0.1:8080\"]", ""), ["listen[1]"]);
    assert_eq!(flaws("listen = [\":8080\"]\nadmin = \"127.0.0.1:8080\"", ""), ["admin"]);
    assert_eq!(flaws("listen = [\"0.0.0.0:8080\"]", tls), ["listen_tls[0].address"]);
    let listen = "listen = [\"127.0.0.1:80\"]";
    assert_eq!(
        flaws(listen, "[shields]\naddresses = [\"http://s\", \"http://localhost\"]\n"),
        ["shields.addresses[1]"]
    );
    assert_eq!(flaws(listen, "[control]\naddress = \"http://127.0.0.1\"\n"), ["control.address[0]"]);
    assert_eq!(flaws(listen, "[traces]\notlp = \"http://127.0.0.1:80\"\n"), ["traces.otlp"]);
    let site = "[[site]]\nname = \"b\"\nhosts = [\"b\"]\norigins = [\"http://o\", \"http://127.0.0.1\"]\n";
    assert_eq!(flaws(listen, site), ["site[1].origins[1]"]);

    let of_control = |text: &str| {
        let text = format!("role = \"control\"\n{text}\n[purge_log]\nfile = \"f\"\n");
        let config = parse_with("test.toml", text, control::control).unwrap();
        control_flaws(&config, Names::Literal).into_iter().map(|flaw| flaw.at + ": " + &flaw.title).collect::<Vec<_>>()
    };
    assert_eq!(of_control("listen = \"127.0.0.1:7080\""), Vec::<String>::new());
    let open = of_control("listen = \"0.0.0.0:7080\"");
    assert!(open.len() == 2 && open[0].contains("no secret for nodes") && open[1].contains("no token"), "{open:?}");
    let listens = "listen = \"127.0.0.1:7080\"\n[steering]\nlisten = \":7080\"\n[steering.dns]\nlisten = \"127.0.0.1:7080\"\nzones = \
                   [\"a.b\"]\naddresses = [\"192.0.2.1\"]";
    let twice = of_control(listens);
    assert!(
        twice.len() == 2 && twice[0].starts_with("steering.listen:") && twice[1].starts_with("steering.dns.listen:"),
        "{twice:?}"
    );
    let console = of_control("listen = \"127.0.0.1:7080\"\n[console]\ndemo = \"http://127.0.0.1:7080\"");
    assert!(console.len() == 1 && console[0].starts_with("console.demo:"), "{console:?}");

    let wan = "role = \"wan-sim\"\napi = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:1\"\n[[place]]\nname = \"a\"\ncity = \"Rome\"\naddress = \
               \"127.0.0.1:9\"\n[[link]]\nfrom = \"a\"\nto = \"a\"\nlisten = \"0.0.0.0:1\"\n";
    let wan = wan_flaws(&parse_wan("wan.toml", wan.to_owned()).unwrap());
    assert_eq!(wan.iter().map(|flaw| flaw.at.as_str()).collect::<Vec<_>>(), ["listen", "link[0].listen"]);
}

#[test]
fn rules_about_clients_are_networks_and_an_empty_list_is_an_error() {
    let site = |rules: &str| {
        let text = format!(
            "role = \"edge\"\nlisten = [\":0\"]\n[[site]]\nname = \"www\"\nhosts = [\"*\"]\norigins = [\"http://o\"]\n{rules}\n"
        );
        parse("test.toml", text)
    };
    let clients =
        site("allow_from = [\"192.0.2.0/24\"]\ndeny_from = [\"192.0.2.66\"]").unwrap().sites[0].clients.clone();
    let allows = |client: &str| clients.allows(client.parse().unwrap());
    assert!(allows("192.0.2.1") && allows("::ffff:192.0.2.1"), "an IPv4 client of an IPv6 listener is one of IPv4");
    assert!(!allows("192.0.2.66") && !allows("198.51.100.1") && !allows("2001:db8::1"));
    assert!(site("").unwrap().sites[0].clients.is_empty());
    for (rules, says) in
        [("allow_from = []", "serves nobody"), ("deny_from = [\"192.0.2.0/40\"]", "IP address or network")]
    {
        let error = site(rules).unwrap_err().render(false);
        assert!(error.contains(says), "{error}");
    }
}
