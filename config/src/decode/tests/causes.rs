//! A problem is told once: what follows from it is no problem of its own.

use super::*;

/// The titles of all problems, in their order.
pub(super) fn titles(text: &str) -> Vec<String> {
    match parse("test.toml", text.to_owned()) {
        Err(ConfigError::Invalid { problems, .. }) => problems.into_iter().map(|problem| problem.title).collect(),
        Err(error) => panic!("{error}"),
        Ok(_) => Vec::new(),
    }
}

#[test]
fn what_follows_from_a_problem_is_no_problem_of_its_own() {
    let edge = |keys: &str, rest: &str| format!("role = \"edge\"\n{keys}\n{SITE}{rest}");
    let listening = |rest: &str| edge("listen = [\":8080\"]", rest);
    for (text, only) in [
        (edge("listen = [\"nowhere\"]", ""), "`listen` cannot be \"nowhere\""),
        (edge("listen = 8080", ""), "`listen` cannot be 8080"),
        (edge("lisen = [\":8080\"]", ""), "`lisen` is not a key"),
        (edge("[[listen_tsl]]\naddress = \":1\"", ""), "`listen_tsl` is not a key"),
        (edge("[[listen_tls]]\naddress = \":1\"\ncert = \"c\"", ""), "`key` is missing in listen_tls[]"),
        (edge("listen = []", ""), "there is no listener"),
        ("role = \"edge\"\nlisten = [\":1\"]\n[[sites]]\nname = \"a\"".to_owned(), "`sites` is not a key"),
        (
            "role = \"edge\"\nlisten = [\":1\"]\n[site]\nname = \"a\"".to_owned(),
            "`site` cannot be a value of type table",
        ),
        (
            "role = \"edge\"\nlisten = [\":1\"]\n[[site]]\nname = \"a\"\nhosts = [\"a b\"]\norigins = [\"http://o\"]"
                .to_owned(),
            "`site[].hosts` cannot be \"a b\"",
        ),
        (
            "role = \"edge\"\nlisten = [\":1\"]\n[[site]]\nname = \"a\"\nhosts = [\"*\"]\norigin = [\"http://o\"]"
                .to_owned(),
            "`site[].origin` is not a key",
        ),
        ("role = \"sheild\"\nlisten = [\":1\"]\n[edges]\nopen = true".to_owned(), "`role` cannot be \"sheild\""),
        ("role = \"control\"\n[purge_log]\nfile = \"f\"".to_owned(), "`role` cannot be \"control\""),
        (
            format!("role = \"shield\"\nlisten = [\":1\"]\n{SITE}[edges]\nsecret = \"plain text in the file\"\n"),
            "`edges.secret` cannot be this value",
        ),
        (
            format!("role = \"shield\"\nlisten = [\":1\"]\n{SITE}[edges]\nopen = \"yes\"\n"),
            "`edges.open` cannot be \"yes\"",
        ),
        (format!("role = \"shield\"\nlisten = [\":1\"]\n{SITE}[edge]\nopen = true\n"), "`edge` is not a key"),
        (
            listening("[shields]\naddresses = [\"http://s\", \"t\"]\nnames = [\"s\", \"t\"]"),
            "`shields.addresses` cannot be \"t\"",
        ),
        (listening("[control]\naddress = \"c\""), "`control.address` cannot be \"c\""),
        (listening("[cache]\nmemory = \"lots\"\nobject_max = \"1GiB\""), "`cache.memory` cannot be \"lots\""),
        (listening("[origins]\nconcurrency = \"many\"\nshared_by = 600"), "`origins.concurrency` cannot be \"many\""),
    ] {
        assert_eq!(titles(&text), [only], "{text}");
    }
    // A key that is misspelt beside the right one is not the cause of anything.
    assert_eq!(titles(&edge("listen = []\nlisen = [\":1\"]", "")), ["there is no listener", "`lisen` is not a key"]);
    // Each site for itself.
    let two =
        "[[site]]\nname = \"b\"\nhosts = [\"b\"]\norigin = [\"http://o\"]\n[[site]]\nname = \"c\"\nhosts = [\"c\"]\n";
    assert_eq!(titles(&listening(two)), ["`site[].origin` is not a key", "a site needs an origin"]);
}

#[test]
fn what_follows_from_a_problem_is_no_problem_of_its_own_in_the_files_of_others() {
    let of_control = |text: &str| {
        let findings = Findings::default();
        let text = format!("role = \"control\"\nlisten = \":7080\"\n{text}");
        decode_with(&text, &findings, control::control);
        findings.into_problems().into_iter().map(|problem| problem.title).collect::<Vec<_>>()
    };
    let file = "[purge_log]\nfile = \"f\"\n";
    for (text, only) in [
        ("[purge_lgo]\nfile = \"f\"\n".to_owned(), "`purge_lgo` is not a key"),
        (
            "[purge_log]\nkind = \"nats\"\nservers = [\"nats://n\"]\nuser = \"u\"\npassword = \"plain\"\n".to_owned(),
            "`purge_log.password` cannot be this value",
        ),
        (format!("{file}[steering]\nlisten = \"nowhere\"\n"), "`steering.listen` cannot be \"nowhere\""),
        (
            format!("{file}[steering.dns]\nlisten = \":53\"\nzones = [\"a b\"]\nname_server = \"ns.elsewhere\"\n"),
            "`steering.dns.zones` cannot be \"a b\"",
        ),
        (
            format!("{file}[steering.dns]\nlisten = \":53\"\nzones = [\"cdn.example\"]\naddresses = [\"nowhere\"]\n"),
            "`steering.dns.addresses` cannot be \"nowhere\"",
        ),
    ] {
        assert_eq!(of_control(&text), [only], "{text}");
    }
    let wan = |text: &str| match parse_wan("wan.toml", format!("role = \"wan-sim\"\n{text}")) {
        Err(ConfigError::Invalid { problems, .. }) => {
            problems.into_iter().map(|problem| problem.title).collect::<Vec<_>>()
        }
        _ => Vec::new(),
    };
    let link = "[[link]]\nfrom = \"a\"\nto = \"a\"\nlisten = \":1\"\n";
    let place = "[[place]]\nname = \"a\"\ncity = \"Atlantis\"\naddress = \"127.0.0.1:1\"\n";
    assert_eq!(wan(&format!("{place}{link}")), ["`place[].city` cannot be \"Atlantis\""]);
    assert_eq!(
        wan("[[round_trip]]\nbetween = [\"Tokyo\", \"Atlantis\"]\ntime = \"1ms\"\n"),
        ["`round_trip[].between` cannot be \"Atlantis\""]
    );
}
