use super::*;
use crate::places::Places;
use crate::sheds::Sheds;

fn shares(connections: usize, requests_per_client: usize) -> Arc<Shares> {
    Arc::new(Shares {
        shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        hasher: ahash::RandomState::new(),
        connections_max: connections,
        requests_max: 100,
        requests_per_client,
        heads_max: 10 * REQUEST_BYTES,
        heads: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    })
}

fn member(shares: &Arc<Shares>, address: &str) -> Option<Member> {
    match shares.enter(address.parse().unwrap()) {
        Entry::Within(member) => Some(member),
        Entry::Beyond(_) | Entry::Refused => None,
    }
}

#[test]
fn a_network_is_an_ipv4_address_or_64_bits_of_an_ipv6_one_and_forgotten_with_its_last_connection() {
    let shares = shares(1, 1);
    let first = member(&shares, "192.0.2.1").unwrap();
    assert!(member(&shares, "192.0.2.1").is_none() && member(&shares, "::ffff:192.0.2.1").is_none());
    let other = member(&shares, "192.0.2.2").unwrap();
    let six = member(&shares, "2001:db8::1").unwrap();
    assert!(member(&shares, "2001:db8::ffff:1:2").is_none());
    let near = member(&shares, "2001:db8:0:1::1").unwrap();
    assert_eq!(shares.networks(), 4);
    assert_eq!([first.share.network, near.share.network].map(|n| n.to_string()), ["192.0.2.1/32", "2001:db8:0:1::/64"]);
    drop((first, other, six, near));
    assert_eq!(shares.networks(), 0);
    assert!(member(&shares, "192.0.2.1").is_some());
}

#[test]
fn few_wait_beyond_a_share_and_the_rest_is_refused() {
    let shares = shares(1, 1);
    let _first = member(&shares, "192.0.2.1").unwrap();
    let waiting: Vec<_> = (0..WAITING_MAX).map(|_| shares.enter("192.0.2.1".parse().unwrap())).collect();
    assert!(waiting.iter().all(|entry| matches!(entry, Entry::Beyond(_))));
    assert!(matches!(shares.enter("192.0.2.1".parse().unwrap()), Entry::Refused));
    assert_eq!(shares.refused(), 1);
    drop(waiting);
    assert!(matches!(shares.enter("192.0.2.1".parse().unwrap()), Entry::Beyond(_)));
}

#[test]
fn requests_are_refused_beyond_the_limit_of_the_network_of_the_node_and_of_their_memory() {
    let shares = shares(8, 2);
    let (one, other) = (member(&shares, "192.0.2.1").unwrap(), member(&shares, "192.0.2.1").unwrap());
    let reason = |begun: Result<Progress, Refusal>| begun.err().map(|refusal| refusal.reason.token());
    let first = one.begin(1, Holds::default()).unwrap();
    let _second = other.begin(2, Holds::default()).unwrap();
    assert_eq!(reason(one.begin(3, Holds::default())), Some("client-busy"));
    drop(first);
    assert_eq!(reason(one.begin(3, Holds::default())), None);
    assert_eq!(reason(one.begin(101, Holds::default())), Some("node-busy"));
    assert_eq!(reason(one.begin(3, Holds { head: 5 * REQUEST_BYTES, body: 0 })), Some("request-memory"));
    assert_eq!(shares.head_bytes(), REQUEST_BYTES, "what was refused holds nothing");
    let mut large = one.begin(3, Holds { head: 3 * REQUEST_BYTES, body: 2 * REQUEST_BYTES }).unwrap();
    large.release_head();
    assert_eq!(shares.head_bytes(), 4 * REQUEST_BYTES, "the body goes on");
}

#[test]
fn a_peer_counts_neither_with_its_connection_nor_with_its_requests() {
    let shares = shares(1, 1);
    let peer = member(&shares, "192.0.2.1").unwrap();
    peer.exempt();
    let client = member(&shares, "192.0.2.1").unwrap();
    let _busy = client.begin(1, Holds::default()).unwrap();
    let requests = [peer.begin(2, Holds::default()), peer.begin(3, Holds::default())];
    assert!(requests.iter().all(Result::is_ok));
    drop((requests, peer));
    assert_eq!(client.share.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_idle_connection_makes_place_for_another_one_of_its_network() {
    let shares = shares(1, 1);
    let places = Places::new(100);
    let first = member(&shares, "192.0.2.1").unwrap();
    let Entry::Beyond(applicant) = shares.enter("192.0.2.1".parse().unwrap()) else { panic!("there is one") };
    let idle =
        async {
            let (by_node, by_network) = (std::pin::pin!(places.shed.notified()), std::pin::pin!(first.shed()));
            let mut sheds = Sheds::new(&places, &first, by_node, by_network);
            std::future::poll_fn(|cx| {
                if sheds.poll(cx, true) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
            first.exempt();
        };
    let (admitted, ()) = tokio::join!(applicant.admitted(), idle);
    assert!(admitted.is_ok());
    let Entry::Beyond(applicant) = shares.enter("192.0.2.1".parse().unwrap()) else { panic!("it is taken") };
    assert!(applicant.admitted().await.is_err(), "a busy one does not");
}
