//! The scenarios of `nearside loadtest`, small: fleets of real processes, killed and frozen, with their claims. How fast the
//! fleet is, is not the question here: claims about time get limits that any machine keeps.

use std::process::{Command, Stdio};
use std::sync::Mutex;

/// One fleet at a time: probes of two that share a small machine come so late that nodes are taken for dead.
static TURN: Mutex<()> = Mutex::new(());

/// Runs a scenario to its end, and expects all of its claims to hold.
fn holds(args: &[&str], claims: usize) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_nearside"))
        .arg("loadtest")
        .args(args)
        .env_remove("NEARSIDE_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    // On a busy machine what depends on its speed is only measured.
    let held = said.lines().filter(|line| line.starts_with("ok ") || line.starts_with("slow ")).count();
    assert!(held == claims && said.ends_with("all claims hold\n"), "{args:?}: {said}");
}

#[test]
fn a_crowd_gets_right_bytes_and_the_origin_one_request() {
    holds(&["crowd", "--clients", "120", "--size", "256KiB"], 2);
}

#[test]
fn an_origin_that_breaks_off_again_and_again_is_asked_for_the_rest_only() {
    holds(&["cuts", "--clients", "6", "--size", "40MiB", "--within", "1s"], 5);
}

#[test]
fn a_shield_that_is_killed_is_not_noticed() {
    holds(&["kill", "--duration", "6s", "--rate", "50", "--within", "60s"], 4);
}

#[test]
fn a_shield_that_freezes_is_left() {
    holds(&["kill", "--freeze", "--duration", "9s", "--rate", "20", "--within", "60s"], 4);
}

#[test]
fn an_origin_that_freezes_is_not_noticed_and_spared_when_it_is_back() {
    holds(&["freeze", "--duration", "4s", "--rate", "50", "--grace", "60s"], 7);
}

#[test]
fn slow_clients_of_objects_larger_than_the_cache_take_no_memory() {
    holds(&["slow", "--clients", "10", "--memory", "16MiB", "--size", "60MiB"], 3);
}

#[test]
fn odd_clients_are_not_noticed_by_others() {
    holds(&["odd", "--clients", "10", "--longer", "60s", "--later", "60s"], 8);
}

#[test]
fn attackers_do_not_keep_visitors_from_the_pages() {
    holds(&["attack", "mixed", "--for", "10s", "--rate", "50"], 7);
}

#[test]
fn clients_that_ask_and_leave_cost_the_origin_little() {
    holds(&["attack", "leavers", "--for", "3s", "--rate", "50"], 8);
}

#[test]
fn a_purge_is_not_undone_however_many_read() {
    holds(&["purge-race", "--purges", "25", "--clients", "8", "--edges", "2"], 4);
}

#[test]
fn a_purge_is_not_undone_when_nodes_are_killed_and_stand_still() {
    holds(&["purge-race", "--faults", "--purges", "120", "--clients", "4", "--edges", "2"], 3);
}

#[test]
fn loads_that_make_a_node_hold_much_are_bounded() {
    holds(&["attack", "memory", "--clients", "100", "--lasts", "300ms"], 22);
}
