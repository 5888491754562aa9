//! Names to addresses: one lookup per name at a time, and never one that a request with a known address waits for.
//!
//! An answer is fresh for [`FRESH`]. After that it still serves, while one lookup refreshes it in the background; if the
//! resolver fails, it serves on (RFC 8767). A lookup runs on a thread of its own: the system's resolver blocks for as
//! long as it likes, cannot be told to stop, and would hold up the end of a runtime.
//!
//! **Invariant:** for one name at most one lookup is under way, and after a failure none is begun before its pause is
//! over. The names are those of the configuration, the addresses of one name at most [`ADDRESSES_MAX`].

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nearside_config::Upstream;
use nearside_telemetry::clock::instant;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

/// The system's resolver tells no time to live; this is short enough to follow a change and long enough to matter.
const FRESH: Duration = Duration::from_secs(10);
/// An answer of this age is likely to be wrong: a refresh is waited for a moment before it is used.
const OLD: Duration = Duration::from_secs(60);
/// How long a refresh of an old answer is waited for.
const OLD_WAIT: Duration = Duration::from_millis(250);
/// How long the first answer is waited for.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// The same after the lookup before has failed.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Pause after a failed lookup, doubled with each failure in a row up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Addresses of a name that are used; the resolver's order puts the best ones first.
const ADDRESSES_MAX: usize = 16;

/// Looks a name up, blocking. The system's resolver, or that of a test.
type Lookup = Arc<dyn Fn(&str) -> Result<Vec<IpAddr>, String> + Send + Sync>;

/// All names of a node, each of which is looked up once for all its users.
#[derive(Default)]
pub(super) struct Names(HashMap<String, Arc<Name>>);

impl Names {
    fn name(&mut self, host: &str) -> Arc<Name> {
        let new = || Arc::new(Name::new(host, Arc::new(system)));
        Arc::clone(self.0.entry(host.to_ascii_lowercase()).or_insert_with(new))
    }
}

/// The addresses of one next hop.
#[derive(Debug)]
pub(super) struct Resolved {
    source: Source,
    port: u16,
    /// The address that the last new connection was made to.
    worked: Mutex<Option<IpAddr>>,
}

#[derive(Debug)]
enum Source {
    /// The name is an address.
    Literal(Arc<[IpAddr]>),
    Name(Arc<Name>),
}

impl Resolved {
    pub(super) fn new(upstream: &Upstream, names: &mut Names) -> Self {
        let source = match upstream.host.parse::<IpAddr>() {
            Ok(address) => Source::Literal([address].into()),
            Err(_no_address) => Source::Name(names.name(&upstream.host)),
        };
        Self { source, port: upstream.port, worked: Mutex::default() }
    }

    /// The addresses as far as they are known, without waiting. Begins a lookup where one is due.
    pub(super) fn known(&self) -> Option<Arc<[IpAddr]>> {
        match &self.source {
            Source::Literal(addresses) => Some(Arc::clone(addresses)),
            Source::Name(name) => name.known(),
        }
    }

    /// The addresses in the order in which to try them; waits for a lookup only where none is known, or for a moment
    /// where they are old.
    ///
    /// # Errors
    ///
    /// The reason why the name has no address.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, Arc<str>> {
        let addresses = match &self.source {
            Source::Literal(addresses) => Arc::clone(addresses),
            Source::Name(name) => name.addresses().await?,
        };
        let ordered = in_order(&addresses, *self.worked.lock());
        Ok(ordered.into_iter().map(|address| SocketAddr::new(address, self.port)).collect())
    }

    /// Remembers the address that a connection could be made to: it comes first from now on.
    pub(super) fn works(&self, address: IpAddr) {
        *self.worked.lock() = Some(address);
    }

    /// Notes that no address takes a connection: perhaps the name has others by now.
    pub(super) fn fails(&self) {
        if let Source::Name(name) = &self.source {
            name.state.lock().doubt(instant());
        }
    }
}

/// The address that worked last first, then the others, the two families in turn (RFC 8305 §4).
fn in_order(addresses: &[IpAddr], worked: Option<IpAddr>) -> Vec<IpAddr> {
    let is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered: Vec<IpAddr> = Vec::with_capacity(addresses.len());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            break;
        }
        ordered.extend(pair.into_iter().flatten());
    }
    if let Some(place) = ordered.iter().position(|address| Some(*address) == worked) {
        let address = ordered.remove(place);
        ordered.insert(0, address);
    }
    ordered
}

/// A name that is not an address.
struct Name {
    host: Box<str>,
    lookup: Lookup,
    state: Mutex<State>,
    /// Number of lookups that have ended.
    ended: watch::Sender<u64>,
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Name").field("host", &self.host).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// The last answer, and when it came.
    answer: Option<(Arc<[IpAddr]>, Instant)>,
    /// Why the last lookup failed; `None` after a success.
    error: Option<Arc<str>>,
    /// Failures in a row.
    failures: u32,
    /// No lookup is begun before.
    next: Option<Instant>,
    /// When the lookup that is under way began.
    begun: Option<Instant>,
}

/// What a request gets without waiting.
enum Glance {
    Known(Arc<[IpAddr]>),
    /// Known, but so old that the lookup is waited for, for a moment.
    Old(Arc<[IpAddr]>, Duration),
    /// There is no address, and no lookup that could bring one.
    Failed(Arc<str>),
    /// There is no address, and a lookup is under way, which is worth so long a wait.
    Nothing(Duration),
}

impl Name {
    fn new(host: &str, lookup: Lookup) -> Self {
        Self { host: host.into(), lookup, state: Mutex::default(), ended: watch::Sender::default() }
    }

    fn known(self: &Arc<Self>) -> Option<Arc<[IpAddr]>> {
        match self.glance(instant()) {
            Glance::Known(addresses) | Glance::Old(addresses, _) => Some(addresses),
            Glance::Failed(_) | Glance::Nothing(_) => None,
        }
    }

    async fn addresses(self: &Arc<Self>) -> Result<Arc<[IpAddr]>, Arc<str>> {
        // Before the glance, so that an end in between is not missed.
        let mut ended = self.ended.subscribe();
        match self.glance(instant()) {
            Glance::Known(addresses) => Ok(addresses),
            Glance::Failed(error) => Err(error),
            Glance::Old(addresses, wait) => {
                let _ = timeout(wait, ended.changed()).await;
                Ok(self.last().unwrap_or(addresses))
            }
            Glance::Nothing(wait) => {
                let _ = timeout(wait, ended.changed()).await;
                let late = || format!("the resolver did not answer within {} s", FIRST_WAIT.as_secs()).into();
                self.last().ok_or_else(|| self.state.lock().error.clone().unwrap_or_else(late))
            }
        }
    }

    fn last(&self) -> Option<Arc<[IpAddr]>> {
        self.state.lock().answer.as_ref().map(|(addresses, _)| Arc::clone(addresses))
    }

    /// What is known at `now`. Begins a lookup where one is due.
    fn glance(self: &Arc<Self>, now: Instant) -> Glance {
        let mut state = self.state.lock();
        let begins = state.is_due(now);
        if begins {
            state.begun = Some(now);
        }
        let glance = state.glance(now);
        drop(state);
        if begins {
            self.begin();
        }
        glance
    }

    /// Looks the name up on a thread of its own, of which there is one per name at most.
    fn begin(self: &Arc<Self>) {
        let name = Arc::clone(self);
        let look = move || {
            let found = (name.lookup)(&name.host);
            name.end(found, instant());
        };
        if let Err(error) = std::thread::Builder::new().name("resolve".to_owned()).spawn(look) {
            self.end(Err(format!("no thread for the lookup: {error}")), instant());
        }
    }

    /// Takes the result of a lookup.
    fn end(&self, found: Result<Vec<IpAddr>, String>, now: Instant) {
        let found =
            found.and_then(|found| if found.is_empty() { Err("it has no address".to_owned()) } else { Ok(found) });
        let mut state = self.state.lock();
        state.begun = None;
        let failure = match found {
            Ok(mut addresses) => {
                addresses.truncate(ADDRESSES_MAX);
                state.answer = Some((addresses.into(), now));
                state.error = None;
                state.failures = 0;
                state.next = now.checked_add(FRESH);
                None
            }
            Err(error) => {
                let pause = PAUSE.saturating_mul(1 << state.failures.min(5)).min(PAUSE_MAX);
                let error: Arc<str> = error.into();
                state.failures = state.failures.saturating_add(1);
                state.next = now.checked_add(pause);
                state.error = Some(Arc::clone(&error));
                Some((error, state.answer.is_some()))
            }
        };
        drop(state);
        if let Some((error, last_answer_kept)) = failure {
            tracing::warn!(name = %self.host, %error, last_answer_kept, "name lookup failed");
        }
        self.ended.send_modify(|ended| *ended += 1);
    }
}

impl State {
    /// Has the next request begin a lookup, unless the last one was a moment ago or has failed.
    fn doubt(&mut self, now: Instant) {
        let is_old = |(_, when): &(_, Instant)| now.saturating_duration_since(*when) >= PAUSE;
        if self.error.is_none() && self.answer.as_ref().is_some_and(is_old) {
            self.next = None;
        }
    }

    /// Whether a lookup is to be begun.
    fn is_due(&self, now: Instant) -> bool {
        self.begun.is_none() && self.next.is_none_or(|next| now >= next)
    }

    fn glance(&self, now: Instant) -> Glance {
        match (&self.answer, &self.error, self.begun) {
            // Where the resolver has failed, waiting for it again would be in vain.
            (Some((addresses, when)), None, Some(begun)) if now.saturating_duration_since(*when) >= OLD => {
                let left = OLD_WAIT.saturating_sub(now.saturating_duration_since(begun));
                Glance::Old(Arc::clone(addresses), left)
            }
            (Some((addresses, _)), _, _) => Glance::Known(Arc::clone(addresses)),
            (None, Some(error), None) => Glance::Failed(Arc::clone(error)),
            // Counted from its begin, so that a resolver that hangs is waited for once and not by every request.
            (None, error, begun) => {
                let wait = if error.is_some() { RETRY_WAIT } else { FIRST_WAIT };
                let begun = begun.unwrap_or(now);
                Glance::Nothing(wait.saturating_sub(now.saturating_duration_since(begun)))
            }
        }
    }
}

/// The system's resolver: `/etc/hosts`, DNS and whatever else it is set up for, in the order of RFC 6724.
fn system(host: &str) -> Result<Vec<IpAddr>, String> {
    // Any port: only the addresses count.
    let found = (host, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    Ok(found.map(|address| address.ip()).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Where a test puts the answers of its resolver.
    type Answers = mpsc::Sender<Result<Vec<IpAddr>, String>>;

    /// A resolver that answers what it is told, one lookup after the other, and counts them.
    fn scripted() -> (Arc<Name>, Answers, Arc<AtomicUsize>) {
        let (answers, script) = mpsc::channel::<Result<Vec<IpAddr>, String>>();
        let (script, lookups) = (Mutex::new(script), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&lookups);
        let lookup = move |_: &str| {
            count.fetch_add(1, Ordering::SeqCst);
            script.lock().recv().unwrap_or_else(|_gone| Err("the test is over".to_owned()))
        };
        (Arc::new(Name::new("origin.example", Arc::new(lookup))), answers, lookups)
    }

    /// Makes the last answer so much older.
    fn age(name: &Name, span: Duration) {
        let mut state = name.state.lock();
        state.answer = state.answer.take().map(|(addresses, when)| (addresses, when.checked_sub(span).unwrap()));
        state.next = state.next.and_then(|next| next.checked_sub(span));
    }

    async fn until_ended(name: &Name, lookups: u64) {
        let mut ended = name.ended.subscribe();
        ended.wait_for(|ended| *ended >= lookups).await.unwrap();
    }

    #[tokio::test]
    async fn those_who_come_together_share_one_lookup() {
        let (name, answers, lookups) = scripted();
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                tokio::spawn({
                    let name = Arc::clone(&name);
                    async move { name.addresses().await }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        answers.send(Ok(vec![address("192.0.2.1")])).unwrap();
        for wait in waiting {
            assert_eq!(*wait.await.unwrap().unwrap(), [address("192.0.2.1")]);
        }
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_known_address_serves_while_the_resolver_hangs_and_one_lookup_is_under_way() {
        let (name, answers, lookups) = scripted();
        answers.send(Ok(vec![address("192.0.2.1")])).unwrap();
        name.addresses().await.unwrap();
        age(&name, FRESH);
        for _ in 0..10 {
            // The resolver says nothing until the test ends: a wait for it would take five seconds each.
            assert!(matches!(name.glance(instant()), Glance::Known(_)));
            assert_eq!(*name.addresses().await.unwrap(), [address("192.0.2.1")]);
        }
        assert!(lookups.load(Ordering::SeqCst) <= 2);
        answers.send(Ok(vec![address("192.0.2.2")])).unwrap();
        until_ended(&name, 2).await;
        assert_eq!(*name.addresses().await.unwrap(), [address("192.0.2.2")], "refreshed behind them");
        assert_eq!(lookups.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_failure_keeps_the_last_answer_and_is_not_tried_again_at_once() {
        let (name, answers, lookups) = scripted();
        answers.send(Ok(vec![address("192.0.2.1")])).unwrap();
        name.addresses().await.unwrap();
        age(&name, OLD);
        answers.send(Err("no resolver".to_owned())).unwrap();
        assert!(matches!(name.glance(instant()), Glance::Old(..)), "waited for a moment, as it is old");
        until_ended(&name, 2).await;
        for _ in 0..10 {
            assert!(matches!(name.glance(instant()), Glance::Known(_)), "not waited for again");
        }
        assert_eq!(lookups.load(Ordering::SeqCst), 2);
        age(&name, PAUSE);
        assert!(matches!(name.glance(instant()), Glance::Known(_)), "tried again in the background");
        answers.send(Err("no resolver".to_owned())).unwrap();
        until_ended(&name, 3).await;
        age(&name, PAUSE);
        assert!(!name.state.lock().is_due(instant()), "the pause has doubled");
    }

    #[tokio::test]
    async fn a_first_lookup_that_fails_tells_why_and_is_not_repeated_by_each_request() {
        let (name, answers, lookups) = scripted();
        answers.send(Err("no such name".to_owned())).unwrap();
        assert_eq!(&*name.addresses().await.unwrap_err(), "no such name");
        for _ in 0..10 {
            assert_eq!(&*name.addresses().await.unwrap_err(), "no such name");
        }
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
        age(&name, PAUSE);
        answers.send(Ok(Vec::new())).unwrap();
        assert_eq!(&*name.addresses().await.unwrap_err(), "it has no address");
    }

    #[tokio::test]
    async fn addresses_that_take_no_connection_are_looked_up_anew_but_not_for_each_request() {
        let (name, answers, _) = scripted();
        answers.send(Ok(vec![address("192.0.2.1")])).unwrap();
        name.addresses().await.unwrap();
        let is_due_after = |span| {
            let mut state = name.state.lock();
            state.doubt(instant() + span);
            state.is_due(instant())
        };
        assert!(!is_due_after(Duration::ZERO), "it has just been looked up");
        assert!(is_due_after(PAUSE));
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_is_waited_for_once() {
        let (name, answers, _) = scripted();
        let now = instant();
        assert!(matches!(name.glance(now), Glance::Nothing(FIRST_WAIT)));
        assert!(matches!(name.glance(now + FIRST_WAIT), Glance::Nothing(Duration::ZERO)));
        name.state.lock().begun = now.checked_sub(FIRST_WAIT);
        assert_eq!(&*name.addresses().await.unwrap_err(), "the resolver did not answer within 5 s");
        answers.send(Ok(vec![address("192.0.2.1")])).unwrap();
        until_ended(&name, 1).await;
        assert_eq!(*name.addresses().await.unwrap(), [address("192.0.2.1")]);
    }

    #[test]
    fn hops_on_one_host_share_its_name() {
        let mut names = Names::default();
        let name = |resolved: &Resolved| match &resolved.source {
            Source::Name(name) => Arc::as_ptr(name),
            Source::Literal(_) => std::ptr::null(),
        };
        let one = Resolved::new(&"http://origin.example:80".parse().unwrap(), &mut names);
        let other = Resolved::new(&"https://Origin.example".parse().unwrap(), &mut names);
        assert_eq!(name(&one), name(&other));
        let literal = Resolved::new(&"http://[::1]:80".parse().unwrap(), &mut names);
        assert_eq!(literal.known().as_deref(), Some(&[address("::1")][..]));
    }

    #[test]
    fn rfc8305_s4_the_families_take_turns_and_what_worked_comes_first() {
        let all = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"].map(address);
        let ordered = |worked: Option<&str>| in_order(&all, worked.map(address));
        let [six_1, six_2, six_3, four] = all;
        assert_eq!(ordered(None), [six_1, four, six_2, six_3]);
        assert_eq!(ordered(Some("192.0.2.1")), [four, six_1, six_2, six_3]);
        assert_eq!(ordered(Some("2001:db8::3")), [six_3, six_1, four, six_2]);
        assert_eq!(ordered(Some("192.0.2.9")), [six_1, four, six_2, six_3], "it is not one of them any more");
        assert!(in_order(&[], None).is_empty());
    }
}
