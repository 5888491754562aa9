//! A deadline that moves with every request without touching a timer each time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use nearside_telemetry::clock::instant;
use tokio::task::unconstrained;
use tokio::time::Sleep;

/// One timer per connection. It is set anew only when it rings, or when a deadline comes before the one it is set to.
#[derive(Debug)]
pub(crate) struct Watchdog {
    sleep: Pin<Box<Sleep>>,
    /// The timer knows whom to wake.
    armed: bool,
}

impl Watchdog {
    pub(crate) fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(deadline.into())), armed: false }
    }

    /// Ready once `deadline` has passed. To be polled by one task only: the timer is asked again when it has rung.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if self.sleep.deadline().into_std() > deadline {
            self.sleep.as_mut().reset(deadline.into());
            self.armed = false;
        }
        if self.armed && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        self.armed = true;
        loop {
            // Whatever of its budget the task has left: a timer that was not asked would never ring.
            ready!(Pin::new(&mut unconstrained(self.sleep.as_mut())).poll(cx));
            if instant() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::time::Duration;

    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    #[tokio::test]
    async fn it_rings_for_a_task_that_has_always_used_up_its_budget() {
        let deadline = instant() + Duration::from_millis(20);
        let mut watchdog = Watchdog::new(deadline);
        let rings = poll_fn(|cx| {
            while has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(cx);
            }
            let polled = watchdog.poll(cx, deadline);
            cx.waker().wake_by_ref();
            polled
        });
        tokio::time::timeout(Duration::from_secs(10), rings).await.expect("it rings");
        assert!(instant() >= deadline);
    }
}
