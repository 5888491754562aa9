//! The decision about one request once its fill has brought something, by values only.

use nearside_semantics::reuse::{Freshness, Reuse};

/// Part of a request in a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The fill asks for it.
    Leader,
    /// It waits for the fill of another.
    Follower,
}

/// A response, as far as it decides about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrived {
    /// It is an error in place of which something stale may be served.
    pub(super) is_failure: bool,
    /// It shows that the next hop does not know HEAD.
    pub(super) refuses_head: bool,
    /// It is an error that may be due to the leader's request.
    pub(super) is_refusal: bool,
    /// It may be the page of the leader's user.
    pub(super) is_personal: bool,
    /// Its body has broken off.
    pub(super) is_cut: bool,
    /// It is being stored.
    pub(super) is_stored: bool,
    /// It is the head alone, of something that others may have.
    pub(super) is_shared_head: bool,
    /// It is for the request's variant and URL.
    pub(super) answers: bool,
}

/// Action of a request whose fill has got no response. `S` is something stale that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterFailure<S> {
    /// Serve what is stored, although it is stale.
    ServeStale(S),
    /// Tell the client.
    Fail,
    /// Look again at what is stored, and ask.
    LookAgain,
}

impl<S> AfterFailure<S> {
    /// Decides what a request gets. `gave_way` says that the fill was not tried with the weight of those who wait; `stale` looks
    /// for something that may be served in place of an error.
    pub(super) fn decide(gave_way: bool, role: Role, stale: impl FnOnce() -> Option<S>) -> Self {
        if gave_way && role == Role::Follower { Self::LookAgain } else { stale().map_or(Self::Fail, Self::ServeStale) }
    }
}

/// A validated response, as far as it decides about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validated {
    /// Others than the leader may have it.
    pub(super) is_shared: bool,
    /// It may be the page of the leader's user.
    pub(super) is_personal: bool,
    /// It is for another URL: the rule that led here does not hold.
    pub(super) is_elsewhere: bool,
    /// It is of the variant that the request selects.
    pub(super) answers: bool,
}

/// Action of a request whose fill has validated what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterValidation {
    /// Serve it.
    Serve,
    /// Look again at what is stored.
    LookAgain,
    /// Go forward with the client's own request.
    GoAlone,
    /// Ask whether the response is this client's too.
    GoApart,
}

impl AfterValidation {
    /// Decides what a request gets.
    pub(super) fn decide(response: Validated, role: Role) -> Self {
        let follows = role == Role::Follower;
        if follows && !response.is_shared {
            Self::GoAlone
        } else if follows && response.is_personal {
            Self::GoApart
        } else if follows && response.is_elsewhere || !response.answers {
            Self::LookAgain
        } else {
            Self::Serve
        }
    }
}

/// Action of a request whose fill has got a response. `S` is something stale that is stored, `R` a reader of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterResponse<S, R> {
    /// Serve what is stored, although it is stale.
    ServeStale(S),
    /// Serve the response from its start.
    Stream(R),
    /// Serve the head of the response.
    ServeHead,
    /// Look again, at the variants that the response tells of.
    LookAgain,
    /// Ask again, by GET.
    AskByGet,
    /// Go forward with the client's own request.
    GoAlone,
    /// Ask whether the response is this client's too.
    GoApart,
    /// Wait for another leader.
    WaitForAnother,
    /// Ask again: nothing of the body has reached the client yet.
    AskAgain,
}

impl<S, R> AfterResponse<S, R> {
    /// Decides what a request gets. `stale` looks for something that may be served in place of an error; `reader` takes the
    /// request's place at the start of the body, if it is still to be had.
    pub(super) fn decide(
        response: Arrived,
        role: Role,
        stale: impl FnOnce() -> Option<S>,
        reader: impl FnOnce() -> Option<R>,
    ) -> Self {
        let follows = role == Role::Follower;
        if let Some(stale) = response.is_failure.then(stale).flatten() {
            return Self::ServeStale(stale);
        }
        if response.refuses_head {
            return Self::AskByGet;
        }
        if response.is_refusal && follows {
            return Self::WaitForAnother;
        }
        if response.is_personal && follows {
            return Self::GoApart;
        }
        if response.is_cut && (!follows || response.is_stored) {
            return Self::AskAgain;
        }
        match reader() {
            _ if follows && !response.answers => Self::LookAgain,
            Some(reader) => Self::Stream(reader),
            None if response.is_shared_head => Self::ServeHead,
            None => Self::GoAlone,
        }
    }
}

/// Whether something stale with this life may be served at the end of a wait, if it may be used so for the request.
/// `None`: it has been purged meanwhile.
pub(super) fn may_serve_stale(life: Option<Freshness>, reuse: impl FnOnce(Freshness) -> Reuse) -> bool {
    life.is_some_and(|life| !matches!(reuse(life), Reuse::Validate { on_error: false, .. }))
}

#[cfg(test)]
mod tests {
    use Role::{Follower, Leader};
    use nearside_semantics::reuse::Stale;

    use super::*;
    use crate::samples::life;

    /// A response that is being stored, and that others may have.
    const GOOD: Arrived = Arrived {
        is_failure: false,
        refuses_head: false,
        is_refusal: false,
        is_personal: false,
        is_cut: false,
        is_stored: true,
        is_shared_head: false,
        answers: true,
    };

    /// A body whose start is there.
    const HERE: Option<u8> = Some(7);
    /// Something stale that may be served.
    const STALE: Option<char> = Some('s');

    fn of(news: Arrived, role: Role, reader: Option<u8>) -> AfterResponse<char, u8> {
        AfterResponse::decide(news, role, || None, || reader)
    }

    /// A validated response that others may have.
    const VALID: Validated = Validated { is_shared: true, is_personal: false, is_elsewhere: false, answers: true };

    #[test]
    fn a_failure_is_told_only_if_nothing_stale_may_be_served() {
        for (gave_way, role, stale, expected) in [
            (false, Leader, None, AfterFailure::Fail),
            (false, Leader, STALE, AfterFailure::ServeStale('s')),
            (false, Follower, None, AfterFailure::Fail),
            (false, Follower, STALE, AfterFailure::ServeStale('s')),
            (true, Leader, STALE, AfterFailure::ServeStale('s')),
            (true, Leader, None, AfterFailure::Fail),
        ] {
            let action = AfterFailure::decide(gave_way, role, || stale);
            assert_eq!(action, expected, "{gave_way} {role:?} {stale:?}");
        }
    }

    #[test]
    fn those_who_waited_for_a_fill_that_gave_way_ask_with_their_own_weight() {
        for stale in [None, STALE] {
            assert_eq!(AfterFailure::decide(true, Follower, || stale), AfterFailure::LookAgain, "{stale:?}");
        }
    }

    #[test]
    fn a_follower_never_gets_what_a_304_made_private_or_may_be_anothers_page() {
        let (private, personal) = (Validated { is_shared: false, ..VALID }, Validated { is_personal: true, ..VALID });
        for (response, role, expected) in [
            (VALID, Leader, AfterValidation::Serve),
            (VALID, Follower, AfterValidation::Serve),
            (private, Leader, AfterValidation::Serve),
            (private, Follower, AfterValidation::GoAlone),
            (personal, Leader, AfterValidation::Serve),
            (personal, Follower, AfterValidation::GoApart),
            (Validated { is_shared: false, ..personal }, Follower, AfterValidation::GoAlone),
            (Validated { answers: false, ..private }, Follower, AfterValidation::GoAlone),
        ] {
            assert_eq!(AfterValidation::decide(response, role), expected, "{response:?} {role:?}");
        }
    }

    #[test]
    fn a_validated_response_of_another_variant_or_url_is_not_served() {
        let (variant, url) = (Validated { answers: false, ..VALID }, Validated { is_elsewhere: true, ..VALID });
        for (response, role, expected) in [
            (variant, Leader, AfterValidation::LookAgain),
            (variant, Follower, AfterValidation::LookAgain),
            (url, Follower, AfterValidation::LookAgain),
            // It is for the leader that the URL was asked for.
            (url, Leader, AfterValidation::Serve),
        ] {
            assert_eq!(AfterValidation::decide(response, role), expected, "{response:?} {role:?}");
        }
    }

    #[test]
    fn an_error_response_gives_way_to_something_stale_whoever_asked() {
        let error = Arrived { is_failure: true, is_stored: false, is_refusal: true, is_cut: true, ..GOOD };
        for role in [Leader, Follower] {
            assert_eq!(
                AfterResponse::decide(error, role, || STALE, || HERE),
                AfterResponse::ServeStale('s'),
                "{role:?}"
            );
        }
        let good = AfterResponse::decide(GOOD, Leader, || STALE, || HERE);
        assert_eq!(good, AfterResponse::Stream(7), "what is no error is served, whatever is stored");
    }

    #[test]
    fn a_follower_does_not_share_the_refusal_or_the_page_of_its_leader() {
        for (news, role, expected) in [
            (Arrived { is_refusal: true, ..GOOD }, Leader, AfterResponse::Stream(7)),
            (Arrived { is_refusal: true, ..GOOD }, Follower, AfterResponse::WaitForAnother),
            (Arrived { is_personal: true, ..GOOD }, Leader, AfterResponse::Stream(7)),
            (Arrived { is_personal: true, ..GOOD }, Follower, AfterResponse::GoApart),
            (Arrived { is_refusal: true, is_personal: true, ..GOOD }, Follower, AfterResponse::WaitForAnother),
        ] {
            assert_eq!(of(news, role, HERE), expected, "{news:?} {role:?}");
        }
    }

    #[test]
    fn a_head_that_is_refused_is_asked_for_by_get_by_all() {
        let news = Arrived { refuses_head: true, is_refusal: true, is_stored: false, ..GOOD };
        for role in [Leader, Follower] {
            assert_eq!(of(news, role, None), AfterResponse::AskByGet, "{role:?}");
        }
    }

    #[test]
    fn a_body_that_has_broken_off_is_asked_for_again_by_those_it_was_for() {
        for (is_stored, role, expected) in [
            (true, Leader, AfterResponse::AskAgain),
            (false, Leader, AfterResponse::AskAgain),
            (true, Follower, AfterResponse::AskAgain),
            // It was for its leader only.
            (false, Follower, AfterResponse::GoAlone),
        ] {
            let news = Arrived { is_cut: true, is_stored, ..GOOD };
            assert_eq!(of(news, role, None), expected, "{is_stored} {role:?}");
        }
    }

    #[test]
    fn a_follower_that_wants_another_variant_learns_which_there_are() {
        let other = Arrived { answers: false, ..GOOD };
        for reader in [HERE, None] {
            assert_eq!(of(other, Follower, reader), AfterResponse::LookAgain, "{reader:?}");
        }
        assert_eq!(of(other, Leader, HERE), AfterResponse::Stream(7), "the leader gets what it has asked for");
    }

    #[test]
    fn who_comes_too_late_for_the_start_of_a_body_goes_alone_unless_it_is_a_head() {
        let head = Arrived { is_stored: false, is_shared_head: true, ..GOOD };
        for (news, role, reader, expected) in [
            (GOOD, Follower, HERE, AfterResponse::Stream(7)),
            (GOOD, Follower, None, AfterResponse::GoAlone),
            (GOOD, Leader, None, AfterResponse::GoAlone),
            (head, Follower, None, AfterResponse::ServeHead),
            (head, Leader, HERE, AfterResponse::Stream(7)),
        ] {
            assert_eq!(of(news, role, reader), expected, "{news:?} {role:?} {reader:?}");
        }
    }

    #[test]
    fn a_place_at_the_start_is_taken_only_by_those_who_get_the_body() {
        let taken = |news: Arrived, stale: Option<char>| {
            let mut taken = false;
            let reader = || {
                taken = true;
                HERE
            };
            AfterResponse::decide(news, Follower, || stale, reader);
            taken
        };
        assert!(taken(GOOD, None));
        for news in [
            Arrived { refuses_head: true, ..GOOD },
            Arrived { is_refusal: true, ..GOOD },
            Arrived { is_personal: true, ..GOOD },
            Arrived { is_cut: true, ..GOOD },
        ] {
            assert!(!taken(news, None), "{news:?}");
        }
        assert!(!taken(Arrived { is_failure: true, ..GOOD }, STALE));
    }

    #[test]
    fn something_stale_is_served_if_it_is_still_there_and_in_its_window() {
        let validate = |on_error| Reuse::Validate { because: Stale::Expired, on_error };
        for (life, reuse, expected) in [
            (Some(life(1, 1)), validate(true), true),
            (Some(life(1, 1)), validate(false), false),
            (Some(life(1, 1)), Reuse::Fresh, true),
            (Some(life(1, 1)), Reuse::WhileRevalidate, true),
            (None, Reuse::Fresh, false),
        ] {
            assert_eq!(may_serve_stale(life, |_| reuse), expected, "{life:?} {reuse:?}");
        }
    }
}
