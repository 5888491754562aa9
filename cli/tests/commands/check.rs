//! `nearside check`: what is wrong with a file whose every value is right for itself. A start refuses the same.

use std::fs;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use crate::loadtest::nearside;
use crate::wrong_input::{fails, file};

const SITE: &str = "[[site]]\nname = \"www\"\nhosts = [\"*\"]\norigins = [\"http://127.0.0.1:1\"]\n";

/// A certificate until a year, and its key: `NAME.crt` and `NAME.key`.
fn certificate(folder: &Path, name: &str, until: i32) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["edge.localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(until, 1, 1));
    fs::write(folder.join(format!("{name}.crt")), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

fn passes(args: &[&str]) {
    let output = nearside(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn certificates_are_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "a", 2900);
    certificate(folder.path(), "b", 2900);
    certificate(folder.path(), "old", 2001);
    let path = folder.path().join("edge.toml").display().to_string();
    let write = |cert: &str, key: &str| {
        let at = |name: &str| folder.path().join(name).display().to_string();
        let listener =
            format!("[[listen_tls]]\naddress = \"127.0.0.1:0\"\ncert = {:?}\nkey = {:?}\n", at(cert), at(key));
        fs::write(&path, format!("role = \"edge\"\n{listener}{SITE}")).unwrap();
    };
    write("a.crt", "a.key");
    passes(&["check", &path]);
    for (cert, key, line, says) in [
        ("none.crt", "a.key", 4, "the certificate"),
        ("a.crt", "none.key", 5, "the private key"),
        ("a.key", "a.crt", 4, "swapped"),
        ("a.crt", "a.crt", 5, "there is no private key"),
        ("a.crt", "b.key", 5, "does not belong to"),
    ] {
        write(cert, key);
        let at = format!("edge.toml:{line}:");
        fails(&["check", &path], 78, &[&at, says]);
        fails(&["edge", "--config", &path], 78, &[&at, says]);
        passes(&["check", "--text-only", &path]);
    }
    write("old.crt", "old.key");
    fails(&["check", &path], 78, &["warning", "edge.toml:4:", "has expired", "renew"]);
    // Relative paths, from a directory that is not the one where the node will be started.
    let text = fs::read_to_string(&path).unwrap().replace(&format!("{}/", folder.path().display()), "");
    fs::write(&path, text.replace("old.", "a.")).unwrap();
    passes(&["check", &path]);
}

#[test]
fn what_the_machine_has_not_is_found() {
    let edge = |rest: &str| file("edge.toml", &format!("role = \"edge\"\nlisten = [\"127.0.0.1:0\"]\n{SITE}{rest}"));
    let (_folder, path) = edge("[access_log]\nfile = \"/does/not/exist/access.log\"\n");
    let says = ["edge.toml:8:", "/does/not/exist/access.log", "the directory /does/not/exist does not exist"];
    fails(&["check", &path], 78, &says);
    fails(&["edge", "--config", &path], 78, &says);
    let (_folder, path) = edge("[cache]\nmemory = \"4096TiB\"\n");
    fails(&["check", &path], 78, &["edge.toml:8:", "4096TiB", "more memory than there is"]);
    let (folder, path) = file("control.toml", "");
    let control =
        |rest: &str| fs::write(&path, format!("role = \"control\"\nlisten = \"127.0.0.1:7080\"\n{rest}")).unwrap();
    let log = format!("[purge_log]\nfile = {:?}\n", folder.path().join("new/purges.log"));
    control(&log);
    passes(&["check", &path]);
    assert!(!folder.path().join("new").exists(), "nothing is created by looking");
    control(&format!("{log}[steering]\nlisten = \":7070\"\nmmdb = \"/does/not/exist.mmdb\"\n"));
    fails(&["check", &path], 78, &["control.toml:7:", "/does/not/exist.mmdb"]);
    control("[purge_log]\nfile = \"/dev/null/purges.log\"\n");
    fails(&["check", &path], 78, &["control.toml:4:", "/dev/null/purges.log"]);
    control("[purge_log]\nkind = \"nats\"\nservers = [\"nats://127.0.0.1\"]\nca = \"/does/not/exist.pem\"\n");
    fails(&["check", &path], 78, &["control.toml:6:", "/does/not/exist.pem"]);
}

#[test]
fn listeners_and_next_hops_of_one_process_go_together() {
    for (keys, line) in [
        ("listen = [\"127.0.0.1:8080\", \"127.0.0.1:8080\"]\n", 2),
        ("listen = [\"0.0.0.0:8080\", \"127.0.0.1:8080\"]\n", 2),
        ("listen = [\":8080\"]\nadmin = \"127.0.0.1:8080\"\n", 3),
    ] {
        let (_folder, path) = file("edge.toml", &format!("role = \"edge\"\n{keys}{SITE}"));
        let at = format!("edge.toml:{line}:");
        fails(&["check", &path], 78, &["two listeners on one address", &at, "another port"]);
        fails(&["edge", "--config", &path], 78, &["two listeners on one address", &at]);
    }
    for origin in ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"] {
        let site = SITE.replace("http://127.0.0.1:1", origin);
        let (_folder, path) = file("edge.toml", &format!("role = \"edge\"\nlisten = [\":8080\"]\n{site}"));
        fails(&["check", &path], 78, &["edge.toml:6:", &format!("the origin {origin} is this process itself")]);
    }
    // From flags it is their fault.
    let edge = ["edge", "--listen", "127.0.0.1:8080", "--origin", "http://localhost:8080"];
    fails(&edge, 2, &["the origin http://localhost:8080 is this process itself"]);
    let edge = ["edge", "--listen", "127.0.0.1:8080", "--admin", "127.0.0.1:8080", "--origin", "http://127.0.0.1:1"];
    fails(&edge, 2, &["two listeners on one address: 127.0.0.1:8080"]);
}

#[test]
fn a_control_process_that_nobody_may_use_is_found() {
    let (_folder, path) =
        file("control.toml", "role = \"control\"\nlisten = \"0.0.0.0:7080\"\n[purge_log]\nfile = \"purges.log\"\n");
    fails(&["check", &path], 78, &["control.toml:2:", "no secret for nodes", "[[node]]", "no token", "[[token]]"]);
}

#[test]
fn a_secret_that_all_nodes_share_is_told_of_and_accepted() {
    let control = |nodes: &str| {
        let text = format!("role = \"control\"\nlisten = \"127.0.0.1:0\"\n[purge_log]\nfile = \"purges.log\"\n{nodes}");
        let (folder, path) = file("control.toml", &text);
        for name in ["one", "other"] {
            fs::write(folder.path().join(name), format!("the-secret-of-node-{name}")).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap().replace("FOLDER", &folder.path().display().to_string());
        fs::write(&path, text).unwrap();
        (folder, path)
    };
    let (_folder, path) = control("[nodes]\nsecret = { file = \"FOLDER/one\" }\n");
    let output = nearside(&["check", &path]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for part in ["warning", "control.toml:6:", "removed in 0.4", "[[node]]"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let node = |id: &str, more: &str| format!("[[node]]\nid = \"{id}\"\n{more}");
    let one = "role = \"edge\"\nsecret = { file = \"FOLDER/one\" }\n";
    let other = "role = \"shield\"\nsecret = { file = \"FOLDER/other\" }\n";
    let (_folder, path) = control(&[node("a", one), node("b", other)].concat());
    passes(&["check", &path]);
    for (nodes, line, says) in [
        ([node("a", one), node("b", one)].concat(), 12, "this secret is not the node's alone"),
        ([node("a", one), node("a", other)].concat(), 10, "two nodes have one id"),
        (node("a", "role = \"edge\"\n"), 5, "`secret` is missing"),
        (node("a b", one), 6, "letters, digits"),
        (node("a", "role = \"control\"\n"), 7, "expected \"edge\" or \"shield\""),
        (node("a", &format!("{other}url = \"https://a.example\"\n")), 9, "no client is sent to a shield"),
        (
            format!("[nodes]\nsecret = {{ file = \"FOLDER/one\" }}\n{}", node("a", one)),
            10,
            "this secret is not the node's alone",
        ),
    ] {
        let (_folder, path) = control(&nodes);
        fails(&["check", &path], 78, &[&format!("control.toml:{line}:"), says]);
    }
}

#[test]
fn secrets_that_stand_in_a_file_are_not_repeated() {
    let texts = [
        "role = \"shield\"\nlisten = [\":1\"]\n[edges]\nsecret = \"hunter2-hunter2-hunter2\"\n",
        "role = \"edge\"\nlisten = [\":1\"]\n[[token]]\nname = \"a\"\nscope = \"all\"\nsecrt = 'hunter2-hunter2-hunter2'\n",
        "role = \"edge\"\nlisten = [\":1\"]\n[control]\nsecret = \"hunter2-hunter2\nlag_max = 1\n",
        "role = \"edge\"\nlisten = [\":1\"]\n[control]\naddress = \"http://user:hunter2@127.0.0.1:1\"\n",
        "role = \"edge\"\nlisten = [\":1\"]\n[[site]]\nname = \"a\"\nhosts = [\"*\"]\norigins = [\"http://user:hunter2@a\"]\n",
        "role = \"edge\"\nlisten = [\":1\"]\n[control]\nsecret = { value = \"hunter2\" }\n",
        "role = \"control\"\nlisten = \":1\"\n[purge_log]\nkind = \"nats\"\nservers = [\"nats://hunter2@a\"]\npassword = \"hunter2\"\n",
        "role = \"control\"\nlisten = \":1\"\n[[hook]]\nsecret = { text = \"hunter2\" }\n",
    ];
    for text in texts {
        let name = if text.contains("control\"\nlisten = \":1\"") { "control.toml" } else { "edge.toml" };
        let (_folder, path) = file(name, text);
        for colours in [true, false] {
            let mut command = nearside(&["check", &path]);
            if !colours {
                command.env("NO_COLOR", "1");
            }
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(78), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
            // It is still shown where it stands.
            assert!(said.contains("***") && said.contains(&format!("{name}:")), "{said}");
        }
    }
}

#[test]
fn secrets_that_every_user_can_read_are_told_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "a", 2900);
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("token"), "a-secret-of-an-operator").unwrap();
    let token = format!("[[token]]\nname = \"a\"\nscope = \"read\"\nsecret = {{ file = {:?} }}\n", at("token"));
    let listener =
        format!("[[listen_tls]]\naddress = \"127.0.0.1:0\"\ncert = {:?}\nkey = {:?}\n", at("a.crt"), at("a.key"));
    fs::write(at("edge.toml"), format!("role = \"edge\"\n{token}{listener}{SITE}")).unwrap();
    let check = |modes: [u32; 2]| {
        for (name, mode) in ["token", "a.key"].into_iter().zip(modes) {
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let output = nearside(&["check", &at("edge.toml")]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "it works all the same: {said}");
        said
    };
    assert_eq!(check([0o600, 0o640]), "");
    let said = check([0o644, 0o640]);
    assert!(said.contains("edge.toml:5:") && said.contains("mode 0644") && said.contains("chmod o="), "{said}");
    assert!(!said.contains("a.key"), "{said}");
    let said = check([0o600, 0o604]);
    assert!(said.contains("edge.toml:9:") && said.contains("a.key") && said.contains("can read it"), "{said}");
    // For those who show one, too.
    fs::set_permissions(at("token"), fs::Permissions::from_mode(0o644)).unwrap();
    let output = nearside(&["top", "--once", "--node", "127.0.0.1:1", "--token-file", &at("token")]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("warning: ") && said.contains("mode 0644"), "{said}");
}
