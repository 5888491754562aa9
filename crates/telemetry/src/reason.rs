//! Why an answer is what it is: one closed list of reasons. Each has a token that stays, and says where it is written, and
//! what helps. `Cache-Status` (as `detail`), the access log, the metrics, the console and `nearside explain` print the tokens.
//!
//! What decides is [`Kind::Served`], [`Kind::Forwarded`], [`Kind::NotStored`], [`Kind::Upstream`] or [`Kind::Refused`]; what in an
//! answer, a request or the configuration has led to that is a [`Kind::Cause`], and is told by explain.
//!
//! `docs/reasons.md` is made from this list; a test holds the one to the other.

use std::fmt::Write as _;

use nearside_semantics::cache_status::Forward;
use nearside_semantics::storable::NotStorable;

/// What a reason is a reason for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The answer came from the store.
    Served,
    /// The next hop was asked.
    Forwarded,
    /// The answer was not stored.
    NotStored,
    /// The next hop gave no answer.
    Upstream,
    /// This node answered by itself.
    Refused,
    /// What has led to one of the others.
    Cause,
}

impl Kind {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Served, "Answered from what is stored"),
        (Self::Forwarded, "The next hop was asked"),
        (Self::NotStored, "The answer was not stored"),
        (Self::Upstream, "The next hop gave no answer"),
        (Self::Refused, "The node answered by itself"),
        (Self::Cause, "What leads to the others, as `nearside explain` finds it"),
    ];
}

macro_rules! reasons {
    ($($kind:ident { $($variant:ident $token:literal $section:literal $meaning:literal $cure:literal)* })*) => {
        /// A reason.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $meaning] $variant,)*)*
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)*)*];

            /// Its stable name.
            #[must_use]
            pub const fn token(self) -> &'static str {
                match self { $($(Self::$variant => $token,)*)* }
            }

            /// What it is a reason for.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $($(Self::$variant => Kind::$kind,)*)* }
            }

            /// Where it is written: a section of an RFC, or a key of the configuration.
            #[must_use]
            pub const fn section(self) -> &'static str {
                match self { $($(Self::$variant => $section,)*)* }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $($(Self::$variant => $meaning,)*)* }
            }

            /// What helps, where something is to be helped.
            #[must_use]
            pub const fn cure(self) -> &'static str {
                match self { $($(Self::$variant => $cure,)*)* }
            }
        }
    };
}

reasons! {
    Served {
        Fresh "fresh" "RFC 9111 §4.2" "What is stored is fresh." "Nothing: this is what a cache is for."
        WhileRevalidate "while-revalidate" "RFC 5861 §3" "What is stored is stale, and is refreshed behind the client's back." "Nothing: the origin allows it. A longer lifetime makes it rarer."
        Collapsed "collapsed" "RFC 9111 §4" "Another request had just asked for the same; this one got the answer too." "Nothing: the origin was spared."
        StaleDeadline "stale-deadline" "stale_deadline" "The next hop took too long, so what is stale was served." "Look why the origin is slow, or give it more time: stale_deadline."
        UpstreamError "upstream-error" "RFC 5861 §4" "The next hop answered 500, 502, 503 or 504, so what is stale was served." "Look at the origin."
    }
    Forwarded {
        UriMiss "uri-miss" "RFC 9211 §2.2" "Nothing is stored under this key." "If it should be: look whether the last answer was stored, and what the key is made of."
        VaryMiss "vary-miss" "RFC 9111 §4.1" "Something is stored for this URL, but for requests with other fields (Vary)." "Vary on fewer fields, or bring them to one form: [site.normalise]."
        Stale "stale" "RFC 9111 §4.2" "What is stored is no longer fresh, and was validated." "Let the origin give it a longer lifetime, or stale-while-revalidate."
        NoCache "no-cache" "RFC 9111 §5.2.2.4" "The stored answer says no-cache: every use asks." "Let the origin say max-age=0 with stale-while-revalidate, or a lifetime, if each use need not ask."
        Lagging "lagging" "on_lag" "This node does not know the last purges, and asks before it serves what may have been purged." "Look at the connection to the control process, or set on_lag."
        ClientAsked "request" "RFC 9111 §5.2.1" "The client wants something newer than what is stored." "Nothing, or leave the site's honour_request_directives off."
        Precondition "precondition" "RFC 9111 §4.3.2" "What is stored does not satisfy If-Match or If-Unmodified-Since, and only the origin may refuse the request." "Nothing: the client knows another version than the one that is stored."
        Unchanged "unchanged" "RFC 9111 §3.5" "The request carries credentials or a signature, and the response may be for its client only: it was sent alone and as it came." "Let the origin say public, s-maxage or must-revalidate if the response is the same for all."
        FirstRange "first-range" "RFC 9110 §14.2" "The first request for a part that begins far into something that is not stored, or is counted from its end: it was sent as it came. The next one fetches the whole." "Set the site's slice if clients ask for parts of large bodies."
        Bypass "bypass" "RFC 9110 §9" "A request with a body, or an upgrade: a cache does not answer it." "Send no body with GET."
        OtherMethod "method" "RFC 9111 §3" "Only GET and HEAD are answered by a cache, and stored." "Use GET for what can be cached."
    }
    NotStored {
        Status "status" "RFC 9111 §3" "This status is not stored." "Nothing: it speaks of one request."
        Partial "partial" "RFC 9111 §3.3" "The answer is a part." "Set the site's slice, or send the whole to requests without a range."
        NoStore "no-store" "RFC 9111 §5.2.2.5" "The answer says no-store." "Let the origin leave no-store out where the answer is the same for all."
        RequestNoStore "request-no-store" "RFC 9111 §5.2.1.5" "The client says no-store, and the site honours that." "Leave the site's honour_request_directives off."
        Private "private" "RFC 9111 §5.2.2.7" "The answer says private: it is for one client." "Let the origin leave private out where the answer is the same for all."
        NotUnderstood "not-understood" "RFC 9111 §5.2.2.3" "The answer says must-understand, and this cache does not know its status." "Use a registered status, or leave must-understand out."
        Authorization "authorization" "RFC 9111 §3.5" "The request was authorised, and the answer does not allow others to have it." "Let the origin say public, s-maxage or must-revalidate if the answer is the same for all."
        SetCookie "set-cookie" "RFC 9111 §7.3" "The answer sets a cookie: others must not get it." "Set no cookie on what is the same for all, or set set_cookie = \"remove\", or \"store\" if all are to get the cookie."
        VaryAll "vary-all" "RFC 9111 §4.1" "Vary: *, or a field that each node writes anew: no later request can be shown to match." "Name in Vary the fields that matter."
        RequestError "request-error" "RFC 9110 §15.5" "The error speaks of one request: others are answered otherwise." "Let the origin say public, or CDN-Cache-Control: max-age, if everybody is to get this error."
        NoFreshness "no-freshness" "RFC 9111 §3" "The answer says nothing of its freshness, and its status allows no guess." "Let the origin say Cache-Control: max-age."
        Useless "useless" "RFC 9111 §4" "It could never be used again without asking, and has nothing to ask with." "Let the origin give it a lifetime, or an ETag."
        TooLarge "too-large" "cache.object_max" "The body is larger than what is stored of one object." "Raise cache.object_max, or set the site's slice."
        NoRoom "no-room" "cache.memory" "All memory holds what is on its way or being read." "Raise cache.memory."
        HeadOnly "head-only" "RFC 9110 §9.3.2" "A HEAD was sent on, which brings nothing to store." "Nothing: a GET fills the cache."
        KeepsStale "keeps-stale" "RFC 5861 §4" "The response is an error, and what is stored may still be served in its place: that stays stored." "Look at the origin."
        Behind "behind" "RFC 9111 §4" "An edge asks that knows later purges than this shield: what is stored was not looked at." "Look why the shield does not follow the purge log."
    }
    Upstream {
        UpstreamName "upstream-name" "RFC 9110 §15.6.3" "The name of the next hop cannot be resolved." "Look at the name in origins or shields, and at the resolver."
        UpstreamConnect "upstream-connect" "RFC 9110 §15.6.3" "The next hop takes no connection." "Look whether it runs, and at addresses and ports in origins or shields."
        UpstreamConnectTimeout "upstream-connect-timeout" "timeouts.connect" "The next hop did not take a connection in time." "Look whether a firewall drops the packets, and at addresses and ports in origins or shields."
        UpstreamTls "upstream-tls" "RFC 9110 §4.3.4" "The TLS handshake with the next hop failed." "Look at the node's log for the cause: most often the certificate has expired, or is for another name. For a next hop in clear write http://."
        UpstreamTimeout "upstream-timeout" "RFC 9110 §15.6.5" "The next hop did not answer in time." "Look at the origin's load, or raise the timeouts."
        UpstreamClosed "upstream-closed" "RFC 9112 §8" "The next hop closed before its answer was whole." "Look at the next hop's log."
        UpstreamMalformed "upstream-malformed" "RFC 9112 §2" "What the next hop sent is no HTTP." "Look what listens there; for TLS write https://."
        UpstreamField "upstream-field" "RFC 9112 §5" "A field in the head of the next hop's response is malformed." "Look at the node's log, which names the line, and correct what writes it."
        UpstreamHeadTooLarge "upstream-head-too-large" "RFC 9110 §5.4" "The head of the next hop's response is larger than 64 KiB, or has more than 256 fields." "Let the origin send fewer and smaller fields; look for cookies that pile up."
        UpstreamFraming "upstream-framing" "RFC 9112 §6.3" "The length of the next hop's response is ambiguous: Content-Length is malformed or repeated, or stands beside Transfer-Encoding." "Let the origin, or the proxy before it, send one Content-Length, or Transfer-Encoding alone."
        UpstreamCoding "upstream-coding" "RFC 9112 §7" "The transfer coding of the next hop's response is unknown or broken." "Let the origin use chunked only; look for what writes chunks by hand."
        UpstreamChanged "upstream-changed" "RFC 9110 §13.1.5" "A body broke off, and the next hop has another one by now." "Publish new bodies under new URLs."
        UpstreamDown "upstream-down" "RFC 9110 §15.6.4" "The next hop has failed, and is only tried now and then." "Look whether it runs."
        UpstreamBusy "upstream-busy" "RFC 9110 §15.6.4" "As many as may ask the origin do, and the queue is full." "Raise origins.concurrency if the origin can bear it."
        NoDescriptors "no-descriptors" "RFC 9110 §15.6.4" "This machine or process has no file descriptors left for a connection to the next hop." "Raise the limit of open files (LimitNOFILE=, ulimit -n), or lower limits.connections."
        LocalError "local-error" "RFC 9110 §15.6.4" "This machine cannot open a connection to the next hop: no memory, no free port, no permission." "Look in the log of the node for the error of the system."
        RequestBody "request-body" "RFC 9110 §15.6.3" "The request's body could not be sent on." "Look whether the client broke off."
    }
    Refused {
        Loop "loop" "RFC 8586 §2" "The request has passed this node already." "Point origins at the origin, not at an edge; give each node an id of its own."
        UnknownHost "unknown-host" "RFC 9110 §15.5.20" "No site of this node answers for the host." "Add the host to a site."
        EdgeSecret "edge-secret" "[edges] secret" "A shield serves edges only, and this is none." "Give edge and shield the same secret, or start the shield with --open."
        OnlyIfCached "only-if-cached" "RFC 9111 §5.2.1.7" "The client wants it only if it is stored, and it is not." "Nothing."
        Range "range" "RFC 9110 §15.5.17" "No byte of it is in the client's range." "Nothing."
        RangeGone "range-gone" "RFC 9110 §14" "The bytes of the range were let go before they could be read." "Ask again."
        Trace "trace" "RFC 9110 §9.3.8" "TRACE ends at the first node: an echo would show fields that browsers and nodes keep to themselves." "Send the request that is to be looked at, and read Via and Cache-Status; or ask nearside explain."
        MaxForwards "max-forwards" "RFC 9110 §7.6.2" "An OPTIONS that was to come no further." "Nothing."
        Ping "ping" "[public]" "A browser times the way to this edge." "Nothing."
        Purge "purge" "purge_from" "A purge by method." "Nothing."
        PurgeRefused "purge-refused" "purge_from" "A purge by method from one who may not, of what is not here, or one that is not understood; the body says why." "Send a token, or list the address in purge_from."
        ClientSlow "client-slow" "origins.concurrency" "The client sent its body too slowly, while others waited for its place at the origin." "Nothing: the client is slow. Raise origins.concurrency if the origin can bear it."
        OverShare "over-share" "origins.concurrency" "The client's network had more than an eighth of the requests at the origin, while requests of others waited." "Send fewer requests at a time from one address. Raise origins.concurrency if the origin can bear it."
        Tunnels "tunnels" "limits.tunnels" "As many WebSocket connections are open as may be." "Raise limits.tunnels, or close connections that are not used."
        ClientGone "client-gone" "RFC 9112 §9.5" "The client went away before there was an answer." "Nothing, unless it is often: then look how long answers take."
        Retry "retry" "RFC 9110 §15.5.1" "The answer was for another each time." "Ask again; if it stays, report it."
        NodeBusy "node-busy" "limits.requests" "The node has as many requests in progress as it may." "Look what they wait for; raise limits.requests, or add a node."
        ClientBusy "client-busy" "limits.requests_per_client" "The client's network has as many requests in progress as it may." "Raise limits.requests_per_client if it is a proxy that many clients share."
        ClientConnections "client-connections" "limits.connections_per_client" "The client's network has as many connections as it may, and none of them is idle." "Raise limits.connections_per_client if it is a proxy that many clients share."
        RequestMemory "request-memory" "cache.memory" "The heads of requests in progress hold an eighth of cache.memory." "Look what the requests wait for; lower limits.head and limits.fields, or raise cache.memory."
        Malformed "malformed" "RFC 9112 §2.2" "The head of the request is no HTTP/1.1." "Look what the client sends."
        BareCrOrLf "bare-cr-or-lf" "RFC 9112 §2.2" "A line of the head does not end in CR LF." "Look what the client sends."
        Version "version" "RFC 9110 §15.6.6" "The version of HTTP is not spoken here." "Use HTTP/1.1 or HTTP/2."
        TooManyFields "too-many-fields" "limits.fields" "The request has too many fields." "Raise limits.fields, or send fewer."
        HeadTooLarge "head-too-large" "limits.head" "The head of the request is too large." "Raise limits.head, or send smaller cookies."
        TargetTooLong "target-too-long" "RFC 9110 §15.5.15" "The request target is too long." "Raise limits.head, or send less in the URL."
        HeadTimeout "head-timeout" "timeouts.head" "The head of the request did not come in time." "Nothing: the client is slow, or holds the connection."
        BodyTooLarge "body-too-large" "limits.body" "The body of the request is too large." "Raise limits.body."
        Target "target" "RFC 9112 §3.2" "The request target is none." "Encode what is no character of URIs."
        Connect "connect" "RFC 9110 §9.3.6" "CONNECT is for forward proxies." "Nothing."
        Host "host" "RFC 9112 §3.2" "The host is none, or is not the target's." "Send the host of the URL in Host."
        HostMissing "host-missing" "RFC 9112 §3.2" "The request names no host." "Send a Host field."
        HostRepeated "host-repeated" "RFC 9112 §3.2" "The request names its host twice." "Send one Host field."
        FieldName "field-name" "RFC 9110 §5.1" "The name of a field is none." "Look what the client sends."
        FieldValue "field-value" "RFC 9110 §5.5" "The value of a field holds what no field may." "Look what the client sends."
        BadMethod "bad-method" "RFC 9110 §9.1" "The method is no token." "Look what the client sends."
        Framing "framing" "RFC 9112 §6.3" "It is not clear where the request ends." "Send either Content-Length or Transfer-Encoding."
        TransferCoding "transfer-coding" "RFC 9112 §6.1" "The transfer coding is not known here." "Use chunked only."
        Upgrade "upgrade" "RFC 9113 §8.6" "HTTP/2 has no upgrade." "Use HTTP/1.1 for WebSocket."
        TlsOnCleartext "tls-on-cleartext" "listen" "A TLS handshake arrived on a listener for HTTP in clear." "Use http:// with this port, or add a [[listen_tls]] for https://."
        HttpOnTls "http-on-tls" "[[listen_tls]]" "A request in clear arrived on a listener for TLS." "Use https:// with this port."
        ProxyProtocol "proxy-protocol" "listen" "The connection begins with a PROXY protocol header, which is not supported." "Switch the PROXY protocol off at the load balancer."
        Http2WithoutAlpn "prior-knowledge" "RFC 9113 §3.2" "The client began HTTP/2 without negotiating it by ALPN." "Use HTTP/1.1 in clear; HTTP/2 is available over TLS."
    }
    Cause {
        MalformedLifetime "malformed-lifetime" "RFC 9111 §4.2.1" "A lifetime is no whole number of seconds: the answer counts as stale already." "Write max-age=3600: digits, no unit, no quotes, no fraction."
        MalformedExpires "malformed-expires" "RFC 9111 §5.3" "Expires is no date, or is there twice: the answer counts as stale already." "Write one date, as in Expires: Sun, 06 Nov 1994 08:49:37 GMT; or use max-age."
        ExpiresPast "expires-past" "RFC 9111 §5.3" "Expires is not after Date: the answer is stale from the first." "Write a later date, or use max-age."
        LifetimeZero "lifetime-zero" "RFC 9111 §4.2.1" "The lifetime is 0: every use asks." "Let the origin give it a lifetime, or stale-while-revalidate."
        SharedLifetime "shared-lifetime" "RFC 9111 §5.2.2.10" "s-maxage governs here, and is shorter than max-age, which browsers go by." "Raise s-maxage, or leave it out."
        ShortLifetime "short-lifetime" "RFC 9111 §4.2" "The lifetime is a few seconds." "Let the origin give it a longer one, or stale-while-revalidate."
        HeuristicLifetime "heuristic-lifetime" "RFC 9111 §4.2.2" "The origin says no lifetime; it was guessed from Last-Modified, and is 0 where the request had cookies." "Let the origin say Cache-Control: max-age."
        NothingToGuessFrom "nothing-to-guess-from" "RFC 9111 §4.2.2" "The origin says no lifetime, and there is no Last-Modified to guess one from." "Let the origin say Cache-Control: max-age."
        StatusNeedsLifetime "status-needs-lifetime" "RFC 9110 §15.1" "An answer with this status is stored only with a lifetime of its own." "Let the origin say Cache-Control: max-age with it, if it is to be stored."
        SiteCap "site-cap" "max_ttl" "The site's max_ttl is shorter than what the origin says." "Raise max_ttl."
        Targeted "targeted" "RFC 9213 §2.2" "A targeted field governs; Cache-Control and Expires say nothing here." "Change the targeted field, or take it off the site's targeted_fields."
        TargetedMalformed "targeted-malformed" "RFC 9213 §2.1" "A targeted field is no structured dictionary, and counts as absent." "Write names in lower case and whole numbers: CDN-Cache-Control: max-age=60."
        SurrogateControl "surrogate-control" "targeted_fields" "Surrogate-Control is there, and nothing here goes by it." "Use CDN-Cache-Control."
        UnknownDirective "unknown-directive" "RFC 9111 §5.2.3" "A directive is none, but nearly one." "Write it as it is spelt."
        Separator "separator" "RFC 9110 §5.6.1" "Directives are separated by semicolons: what stands behind the first is lost." "Separate them by commas."
        Repeated "repeated" "RFC 9111 §4.2.1" "A directive, or a field that may be there once, is there twice." "Write it once."
        Contradiction "contradiction" "RFC 9111 §4.2.1" "Directives contradict each other; the stricter one counts." "Leave one of them out."
        Pragma "pragma" "RFC 9111 §5.4" "Pragma says nothing in an answer." "Use Cache-Control."
        ClockAhead "clock-ahead" "RFC 9110 §6.6.1" "Date lies in the future: the origin's clock or this node's is off." "Set both clocks by NTP."
        ClockBehind "clock-behind" "RFC 9111 §4.2.3" "Date lies in the past though no cache is in between: the answer counts as that old." "Set both clocks by NTP; let the origin write Date as it answers."
        OldOnArrival "old-on-arrival" "RFC 9111 §4.2.3" "It had used up its lifetime in a cache before this one." "Let that cache go by a shorter lifetime, or this one by a longer: CDN-Cache-Control."
        MalformedAge "malformed-age" "RFC 9111 §5.1" "Age is no whole number of seconds, and is not believed." "Let the cache before this one write digits."
        WideVary "wide-vary" "RFC 9111 §4.1" "Vary names a field that hardly two clients send alike." "Vary on fewer fields; use Client Hints, or let the origin decide by the URL."
        CookieVary "cookie-vary" "RFC 9111 §4.1" "Vary names Cookie: each visitor gets an answer of its own." "Leave Cookie out of Vary, or put the one cookie that matters into [site.key] cookies."
        KeyFields "key-fields" "[site.key]" "The site's key holds request fields or cookies, which tell clients apart." "Leave out of [site.key] what does not change the answer."
        QueryNoise "query-noise" "[site.key]" "The same path is stored under other keys that differ only in parameters that say where a visitor came from." "Name them in [site.key] query_drop, or let the origin say No-Vary-Search."
        QueryVariants "query-variants" "[site.key]" "The same path is stored under other keys that differ in their query." "If a parameter does not matter, name it in [site.key] query_drop."
        QueryOrder "query-order" "[site.key]" "The same parameters are stored in another order." "Set [site.key] query_sort."
        HostVariants "host-variants" "canonical_host" "The same path is stored under another host of the site." "Set the site's canonical_host."
        SchemeVariants "scheme-variants" "RFC 9110 §4.2.2" "The same URL is stored under the other scheme." "Redirect http to https."
        PathVariants "path-variants" "RFC 9110 §4.2.3" "The same path is stored in another spelling: case, or a slash at its end." "Let links agree on one spelling, and redirect the others."
        ObjectMax "object-max" "cache.object_max" "Content-Length is more than what is stored of one object." "Raise cache.object_max, or set the site's slice."
        NoValidator "no-validator" "RFC 9110 §8.8" "There is neither ETag nor Last-Modified: what is stale has to be fetched whole." "Let the origin send an ETag."
        SoftPurged "soft-purged" "[purge]" "A soft purge has made it stale." "Nothing: it is validated at the next use."
        ClientIgnored "client-ignored" "honour_request_directives" "The client wants it newer, and the site does not heed that." "Set honour_request_directives if clients may make the origin work."
        BehindShield "behind-shield" "nearside shield" "The shield that was asked does not follow the purges that this node knows." "Look at the shield's connection to the control process."
        NoUpstream "no-upstream" "origins" "No next hop is in use." "Look whether the origins and shields run."
        ServerError "server-error" "RFC 9110 §15.6" "The origin answers with a server error." "Look at the origin."
        Remembered "remembered" "RFC 9111 §3" "The last answer for this key could not be stored; requests are not held up for one another for two minutes." "See the other reasons: it goes by itself once an answer can be stored."
    }
}

impl Reason {
    /// The reason with this token.
    #[must_use]
    pub fn of(token: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.token() == token)
    }

    /// All reasons as a page of documentation.
    #[must_use]
    pub fn page() -> String {
        let mut page = String::from(HEAD);
        for (kind, title) in Kind::ALL {
            // Writing to a string does not fail.
            let _ = write!(page, "\n## {title}\n\n| reason | what it means | what helps | see |\n|---|---|---|---|\n");
            for reason in Self::ALL.iter().filter(|reason| reason.kind() == kind) {
                let (token, meaning, cure) = (reason.token(), reason.meaning(), reason.cure());
                let _ = writeln!(page, "| `{token}` | {meaning} | {cure} | {} |", see(reason.section()));
            }
        }
        page
    }
}

const HEAD: &str = "# Reasons

Made from `crates/telemetry/src/reason.rs`: `nearside explain --reasons` prints this page. The tokens stay as they are. They stand in
`Cache-Status` (as `detail`, where `fwd` does not say it already), in the access log (`reason`), in
`nearside_cache_decisions_total{reason}`, in the console, and in what `nearside explain` says.
";

/// A section of an RFC leads there; keys of the configuration are code.
fn see(section: &str) -> String {
    match section.strip_prefix("RFC ").and_then(|rest| rest.split_once(" §")) {
        Some((rfc, number)) => format!("[{section}](https://www.rfc-editor.org/rfc/rfc{rfc}#section-{number})"),
        None => format!("`{section}`"),
    }
}

impl From<NotStorable> for Reason {
    fn from(reason: NotStorable) -> Self {
        match reason {
            NotStorable::Method => Self::OtherMethod,
            NotStorable::Status => Self::Status,
            NotStorable::Partial => Self::Partial,
            NotStorable::NoStore => Self::NoStore,
            NotStorable::RequestNoStore => Self::RequestNoStore,
            NotStorable::Private => Self::Private,
            NotStorable::NotUnderstood => Self::NotUnderstood,
            NotStorable::Authorization => Self::Authorization,
            NotStorable::SetCookie => Self::SetCookie,
            NotStorable::VaryAll => Self::VaryAll,
            NotStorable::RequestError => Self::RequestError,
            NotStorable::NoFreshness => Self::NoFreshness,
            NotStorable::Useless => Self::Useless,
        }
    }
}

impl From<Forward> for Reason {
    fn from(forward: Forward) -> Self {
        match forward {
            Forward::Bypass => Self::Bypass,
            Forward::Method => Self::OtherMethod,
            Forward::UriMiss => Self::UriMiss,
            Forward::VaryMiss => Self::VaryMiss,
            Forward::Stale => Self::Stale,
            Forward::Request => Self::ClientAsked,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tokens_are_tokens_and_each_is_there_once() {
        let tokens: HashSet<_> = Reason::ALL.iter().map(|reason| reason.token()).collect();
        assert_eq!(tokens.len(), Reason::ALL.len());
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!((*reason as usize, Reason::of(reason.token())), (number, Some(*reason)));
            // As it stands in a structured field, without quotes (RFC 9651 §3.3.4).
            assert!(reason.token().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{reason:?}");
            assert!(reason.meaning().ends_with('.') && reason.cure().ends_with('.'), "{reason:?}");
        }
    }

    #[test]
    fn the_page_in_the_documentation_is_this_one() {
        let written = include_str!("../../../docs/reasons.md");
        assert_eq!(written, Reason::page(), "write it anew: nearside explain --reasons > docs/reasons.md");
    }
}
