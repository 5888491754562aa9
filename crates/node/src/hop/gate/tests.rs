use tokio::task::JoinHandle;

use super::*;

fn counts(gate: &Gate) -> (usize, usize) {
    let Counts { taken, waiting, .. } = gate.counts();
    (taken, waiting)
}

/// One who waits already when this returns.
async fn queued(gate: &Arc<Gate>, urgency: Urgency) -> JoinHandle<Result<Place, Busy>> {
    let gate = Arc::clone(gate);
    let waiting = tokio::spawn(async move { gate.enter(urgency).await });
    // It runs on this thread, as far as it comes.
    tokio::task::yield_now().await;
    waiting
}

#[tokio::test(start_paused = true)]
async fn the_most_urgent_comes_next_and_among_equals_the_first() {
    let gate = Gate::new(1, 10, Duration::from_secs(1));
    let place = gate.enter(Urgency::Refresh).await.unwrap();
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
    let place = gate.enter(Urgency::Client).await.unwrap();
    let refresh = queued(&gate, Urgency::Refresh).await;
    assert_eq!(gate.enter(Urgency::Refresh).await.unwrap_err(), Busy, "no room for an equal");
    let client = queued(&gate, Urgency::Client).await;
    assert_eq!(refresh.await.unwrap().unwrap_err(), Busy, "it had to make way");
    assert_eq!(gate.counts().refused, 2);
    drop(place);
    client.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_and_a_place_is_not_lost_with_one_who_has_gone() {
    let gate = Gate::new(1, 10, Duration::from_secs(1));
    let place = gate.enter(Urgency::Client).await.unwrap();
    assert_eq!(gate.enter(Urgency::Client).await.unwrap_err(), Busy, "after a second");
    let gone = queued(&gate, Urgency::Client).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let mut told = Box::pin(gate.enter(Urgency::Client));
    assert!(futures_poll(&mut told).await.is_none());
    // It has its turn, and is dropped before it hears of it.
    drop(place);
    assert_eq!(counts(&gate), (1, 0));
    drop(told);
    assert_eq!(counts(&gate), (0, 0));
    gate.enter(Urgency::Refresh).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_when_it_went_down_does_not_keep_trials_out() {
    let gate = Gate::new(3, 10, Duration::from_secs(1));
    let old = [gate.enter(Urgency::Client).await.unwrap(), gate.enter(Urgency::Client).await.unwrap()];
    let waits = queued(&gate, Urgency::Client).await;
    gate.narrow();
    assert_eq!(waits.await.unwrap().unwrap_err(), Busy, "nobody waits for what is down");
    let trial = gate.try_enter().expect("one may try");
    assert!(gate.try_enter().is_none(), "one at a time");
    // It has answered. The old ones still count against the limit.
    gate.widen();
    drop(trial);
    assert!(gate.try_enter().is_none());
    let waits = queued(&gate, Urgency::Client).await;
    let [first, second] = old;
    drop(first);
    let place = waits.await.unwrap().unwrap();
    assert!(gate.try_enter().is_none());
    drop((place, second));
    assert_eq!(counts(&gate), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_keeps_its_place_until_the_origin_has_answered_in_its_stead() {
    let gate = Gate::new(4, 10, Duration::from_secs(1));
    for _ in 0..3 {
        gate.enter(Urgency::Client).await.unwrap().give_up();
    }
    gate.narrow();
    assert_eq!(counts(&gate), (3, 0), "the origin may work on all of them when it goes on");
    let trial = gate.try_enter().expect("a place was kept for it");
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
    let mut place = gate.enter(Urgency::Client).await.unwrap();
    place.sent();
    drop(place);
    assert_eq!(counts(&gate), (1, 0), "the origin may still be working on it");
    let begin = tokio::time::Instant::now();
    let mut next = gate.enter(Urgency::Client).await.unwrap();
    assert!((LINGER..2 * LINGER).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    next.sent();
    next.settled();
    drop(next);
    assert_eq!(counts(&gate), (0, 0), "an answered one at once");
}

#[tokio::test(start_paused = true)]
async fn a_place_gives_way_only_to_one_who_waits() {
    let gate = Gate::new(3, 10, Duration::from_secs(5));
    let [first, second] = [gate.enter(Urgency::Client).await.unwrap(), gate.enter(Urgency::Client).await.unwrap()];
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
    let first = gate.enter(Urgency::Client).await.unwrap();
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
