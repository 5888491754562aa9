use tokio::task::JoinHandle;

use super::*;

const A: ClientNetwork = ClientNetwork::OWN;

fn network(last: u8) -> ClientNetwork {
    ClientNetwork::from_address([192, 0, 2, last].into())
}

fn counts(gate: &Gate) -> (usize, usize) {
    let Counts { taken, waiting, .. } = gate.counts();
    (taken, waiting)
}

/// One who waits already when this returns.
async fn queued(gate: &Arc<Gate>, urgency: Urgency) -> JoinHandle<Result<Place, Busy>> {
    queued_from(gate, urgency, A).await
}

/// The same for a request of `network`.
async fn queued_from(gate: &Arc<Gate>, urgency: Urgency, network: ClientNetwork) -> JoinHandle<Result<Place, Busy>> {
    let gate = Arc::clone(gate);
    let waiting = tokio::spawn(async move { gate.enter(urgency, network).await });
    // It runs on this thread, as far as it comes.
    tokio::task::yield_now().await;
    waiting
}

#[tokio::test(start_paused = true)]
async fn the_most_urgent_comes_next_and_among_equals_the_first() {
    let gate = Gate::new(1, 10, Duration::from_secs(1));
    let place = gate.enter(Urgency::Refresh, A).await.unwrap();
    let refresh = queued(&gate, Urgency::Refresh).await;
    let validation = queued(&gate, Urgency::Validation).await;
    let client = queued(&gate, Urgency::Client).await;
    let second = queued(&gate, Urgency::Client).await;
    assert_eq!(counts(&gate), (1, 4));
    drop(place);
    for (next, left) in [(client, 3), (second, 2), (validation, 1), (refresh, 0)] {
        let place = next.await.unwrap().unwrap();
        assert_eq!(counts(&gate), (1, left));
        drop(place);
    }
    assert_eq!(counts(&gate), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_queue_has_an_end_and_the_less_urgent_make_way() {
    let gate = Gate::new(1, 1, Duration::from_secs(1));
    let place = gate.enter(Urgency::Client, A).await.unwrap();
    let refresh = queued(&gate, Urgency::Refresh).await;
    assert_eq!(gate.enter(Urgency::Refresh, A).await.unwrap_err(), Busy, "no room for an equal");
    let client = queued(&gate, Urgency::Client).await;
    assert_eq!(refresh.await.unwrap().unwrap_err(), Busy, "it had to make way");
    assert_eq!(gate.counts().refused, 2);
    drop(place);
    client.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_and_a_place_is_not_lost_with_one_who_has_gone() {
    let gate = Gate::new(1, 10, Duration::from_secs(1));
    let place = gate.enter(Urgency::Client, A).await.unwrap();
    assert_eq!(gate.enter(Urgency::Client, A).await.unwrap_err(), Busy, "after a second");
    let gone = queued(&gate, Urgency::Client).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let mut told = Box::pin(gate.enter(Urgency::Client, A));
    assert!(futures_poll(&mut told).await.is_none());
    // It has its turn, and is dropped before it hears of it.
    drop(place);
    assert_eq!(counts(&gate), (1, 0));
    drop(told);
    assert_eq!(counts(&gate), (0, 0));
    gate.enter(Urgency::Refresh, A).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_when_it_went_down_does_not_keep_trials_out() {
    let gate = Gate::new(3, 10, Duration::from_secs(1));
    let old = [gate.enter(Urgency::Client, A).await.unwrap(), gate.enter(Urgency::Client, A).await.unwrap()];
    let waits = queued(&gate, Urgency::Client).await;
    gate.narrow();
    assert_eq!(waits.await.unwrap().unwrap_err(), Busy, "nobody waits for what is down");
    let trial = gate.try_enter(A).expect("one may try");
    assert!(gate.try_enter(A).is_none(), "one at a time");
    // It has answered. The old ones still count against the limit.
    gate.widen();
    drop(trial);
    assert!(gate.try_enter(A).is_none());
    let waits = queued(&gate, Urgency::Client).await;
    let [first, second] = old;
    drop(first);
    let place = waits.await.unwrap().unwrap();
    assert!(gate.try_enter(A).is_none());
    drop((place, second));
    assert_eq!(counts(&gate), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_keeps_its_place_until_the_origin_has_answered_in_its_stead() {
    let gate = Gate::new(4, 10, Duration::from_secs(1));
    for _ in 0..3 {
        gate.enter(Urgency::Client, A).await.unwrap().give_up();
    }
    gate.narrow();
    assert_eq!(counts(&gate), (3, 0), "the origin may work on all of them when it goes on");
    let trial = gate.try_enter(A).expect("a place was kept for it");
    assert_eq!(counts(&gate).0, 4);
    let waits = [queued(&gate, Urgency::Client).await, queued(&gate, Urgency::Client).await];
    gate.widen();
    assert_eq!(counts(&gate), (3, 2), "as many as before, and two still to be worked on");
    drop(trial);
    let mut most = counts(&gate).0;
    for waits in waits {
        let place = waits.await.unwrap().unwrap();
        most = most.max(counts(&gate).0);
        gate.widen();
        drop(place);
    }
    assert!(most <= 3, "{most}");
    gate.widen();
    assert_eq!(counts(&gate), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_place_of_a_request_that_was_sent_and_cancelled_is_free_a_moment_later() {
    let gate = Gate::new(1, 10, Duration::from_secs(5));
    let mut place = gate.enter(Urgency::Client, A).await.unwrap();
    place.sent();
    drop(place);
    assert_eq!(counts(&gate), (1, 0), "the origin may still be working on it");
    let begin = tokio::time::Instant::now();
    let mut next = gate.enter(Urgency::Client, A).await.unwrap();
    assert!((LINGER..2 * LINGER).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    next.sent();
    next.settled();
    drop(next);
    assert_eq!(counts(&gate), (0, 0), "an answered one at once");
}

#[tokio::test(start_paused = true)]
async fn a_place_gives_way_only_to_one_who_waits() {
    let gate = Gate::new(3, 10, Duration::from_secs(5));
    let [first, second] =
        [gate.enter(Urgency::Client, A).await.unwrap(), gate.enter(Urgency::Client, A).await.unwrap()];
    let first = first.give_way().expect("nobody waits");
    let waits = queued(&gate, Urgency::Client).await;
    assert!(first.give_way().is_none());
    let second = second.give_way().expect("one was enough");
    let third = waits.await.unwrap().unwrap();
    assert_eq!((counts(&gate), gate.counts().gave_way), ((2, 0), 1));
    drop((second, third));
    assert_eq!(counts(&gate), (0, 0));
}

async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_comes_back_is_asked_by_more_with_each_answer() {
    let gate = Gate::new(4, 10, Duration::from_secs(1));
    gate.narrow();
    let first = gate.enter(Urgency::Client, A).await.unwrap();
    let others = [queued(&gate, Urgency::Client).await, queued(&gate, Urgency::Client).await];
    assert_eq!(counts(&gate), (1, 2));
    gate.widen();
    drop(first);
    assert_eq!(counts(&gate), (2, 0));
    for _ in 0..5 {
        gate.widen();
    }
    assert_eq!(gate.state.lock().allowed, 3, "never more than the limit");
    for other in others {
        other.await.unwrap().unwrap();
    }
}

/// A gate with eight places, all of them held by the network A for as long as places can be revoked.
async fn hogged() -> (Arc<Gate>, Vec<Place>) {
    let gate = Gate::new(9, 10, Duration::from_secs(5));
    let mut places = Vec::new();
    for _ in 0..8 {
        places.push(gate.enter(Urgency::Client, A).await.unwrap());
    }
    tokio::time::advance(REVOKE_AFTER).await;
    (gate, places)
}

#[tokio::test(start_paused = true)]
async fn a_network_above_its_share_loses_its_oldest_place_to_another_that_has_waited() {
    let (gate, mut places) = hogged().await;
    let other = queued_from(&gate, Urgency::Client, network(1)).await;
    assert!(!places[0].is_revoked(), "what becomes free by itself is enough for most");
    tokio::time::timeout(2 * REVOKE_AFTER, places[0].revocation().unwrap().revoked()).await.expect("it is revoked");
    assert!(!places[1].is_revoked(), "one for each that waits");
    places.remove(0);
    other.await.unwrap().expect("the place goes to the one that waited");
    assert_eq!(gate.counts().revoked, 1);
    drop(places);
    assert_eq!(counts(&gate), (0, 0));
    assert!(gate.state.lock().shares.held(A) == 0);
}

#[tokio::test(start_paused = true)]
async fn a_network_takes_no_place_of_its_own_and_none_beyond_its_share() {
    let (gate, places) = hogged().await;
    let own = queued_from(&gate, Urgency::Client, A).await;
    assert!(own.await.unwrap().is_err(), "it has waited to the end");
    assert!(places.iter().all(|place| !place.is_revoked()));
    // The other network has its share, one of eight, and waits for more.
    let mut places = places;
    places.pop();
    let held = gate.enter(Urgency::Client, network(1)).await.unwrap();
    let more = queued_from(&gate, Urgency::Client, network(1)).await;
    assert!(more.await.unwrap().is_err());
    assert_eq!(gate.counts().revoked, 0);
    drop((held, places));
}

#[tokio::test(start_paused = true)]
async fn a_free_place_goes_to_a_network_below_its_share_before_one_above_it() {
    let (gate, mut places) = hogged().await;
    let first = queued_from(&gate, Urgency::Client, A).await;
    let refresh = queued_from(&gate, Urgency::Refresh, network(1)).await;
    places.pop();
    let place = refresh.await.unwrap().expect("the other network holds nothing");
    assert_eq!(counts(&gate), (8, 1));
    places.pop();
    first.await.unwrap().expect("a network may use every place that nobody else wants");
    drop((place, places));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_room_for_a_network_that_has_less_in_it() {
    let gate = Gate::new(1, 3, Duration::from_secs(5));
    let place = gate.enter(Urgency::Client, A).await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..3 {
        crowd.push(queued_from(&gate, Urgency::Client, A).await);
    }
    assert_eq!(gate.enter(Urgency::Client, A).await.unwrap_err(), Busy, "its own network has filled the queue");
    let other = queued_from(&gate, Urgency::Client, network(1)).await;
    assert_eq!(crowd.pop().unwrap().await.unwrap().unwrap_err(), Busy, "the last of the crowd has made way");
    let third = queued_from(&gate, Urgency::Refresh, network(2)).await;
    assert_eq!(third.await.unwrap().unwrap_err(), Busy, "nothing that is less urgent displaces a client");
    drop(place);
    // Nobody holds anything any more: the order of the queue counts.
    let next = crowd.remove(0).await.unwrap().unwrap();
    drop((next, crowd));
    other.await.unwrap().unwrap();
}
