//! The door for browsers: the host of a URL says where the browser sits, and to whom it wants.
//!
//! `http://gru.localhost:8000/` is what the place whose door is "" serves, as if the browser sat in São Paulo (by the code of its
//! airport); `http://nrt.gru.localhost:8000/` is the place whose door is `nrt`, from there. The first request's head is looked at
//! for its host and passed on as it is; a browser keeps connections of different hosts apart. At the other end a connection comes
//! from an address that belongs to the city, so that whoever looks at addresses sees where it comes from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use nearside_config::{Wan, WanPlace};
use nearside_geo::City;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::conditions::Way;
use crate::relay::{Relay, accepted, now};

/// A head is no longer.
const HEAD_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 128;
/// Longer takes no head.
const HEAD_MAX: Duration = Duration::from_secs(30);
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// The door.
#[derive(Debug)]
pub(crate) struct Door {
    relay: Relay,
    viewers: Vec<&'static City>,
    places: Vec<WanPlace>,
}

/// The address that a browser in a city comes from: of 127.1.0.0/16 the network that stands at its place in the list.
pub(crate) fn address_of(viewers: &[&'static City], city: &City) -> Option<IpAddr> {
    let number = viewers.iter().position(|viewer| viewer.code == city.code)?;
    let third = u8::try_from(number + 1).ok()?;
    Some(IpAddr::V4(Ipv4Addr::new(127, 1, third, 1)))
}

impl Door {
    pub(crate) fn new(config: &Wan, relay: Relay) -> Self {
        Self { relay, viewers: config.viewers.clone(), places: config.places.clone() }
    }

    /// Takes browsers in, as long as it runs.
    pub(crate) async fn serve(self: Arc<Self>, listener: &TcpListener) {
        let mut carried = tokio::task::JoinSet::new();
        loop {
            match accepted(listener).await {
                Some(near) => {
                    let door = Arc::clone(&self);
                    carried.spawn(async move { door.take(near).await });
                }
                None => sleep(ACCEPT_AGAIN).await,
            }
            while carried.try_join_next().is_some() {}
        }
    }

    async fn take(&self, mut near: TcpStream) {
        let accepted = now();
        let mut read = BytesMut::new();
        let Ok(Some(host)) = timeout(HEAD_MAX, host(&mut near, &mut read)).await else { return };
        match self.find(&host) {
            Some((city, place)) => {
                let way = Arc::new(Way::of_viewer(city, place));
                let from = address_of(&self.viewers, city);
                // A browser opens a connection when it has something to ask: then it has waited for nothing yet.
                self.relay.carry(near, read, &way, &place.address, from, accepted).await;
            }
            None => {
                let text = self.explain(&host);
                let head = format!(
                    "HTTP/1.1 421 Misdirected Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\
                     Content-Length: {}\r\n\r\n{text}",
                    text.len()
                );
                let _ = near.write_all(head.as_bytes()).await;
            }
        }
    }

    /// The city and the place that a host names: `PLACE.CITY.…` or `CITY.…`.
    fn find(&self, host: &str) -> Option<(&'static City, &WanPlace)> {
        let labels: Vec<_> = host.split('.').collect();
        let viewer = |label: &str| self.viewers.iter().find(|city| city.code == label).copied();
        let place = |door: &str| self.places.iter().find(|place| place.door.as_deref() == Some(door));
        let [first, rest @ ..] = labels.as_slice() else { return None };
        if let Some(city) = rest.first().and_then(|label| viewer(label)) {
            return Some((city, place(first)?));
        }
        Some((viewer(first)?, place("")?))
    }

    fn explain(&self, host: &str) -> String {
        let viewers: Vec<_> = self.viewers.iter().map(|city| format!("{} ({})", city.code, city.name)).collect();
        let doors: Vec<_> =
            self.places.iter().filter_map(|place| place.door.as_deref()).filter(|d| !d.is_empty()).collect();
        format!(
            "{host:?} names no city of this simulated network. Write CITY.localhost, or PLACE.CITY.localhost.\ncities: {}\nplaces: {}\n",
            viewers.join(", "),
            doors.join(", ")
        )
    }
}

/// Reads until the host is known: without its port, in small letters. What was read is kept.
async fn host(near: &mut TcpStream, read: &mut BytesMut) -> Option<String> {
    loop {
        if near.read_buf(read).await.ok()? == 0 || read.len() > HEAD_BYTES_MAX {
            return None;
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        // A head that is none is for nobody.
        let is_whole = request.parse(read).ok()?.is_complete();
        let field = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case("host"));
        if let Some(field) = field.filter(|_| is_whole) {
            let authority = std::str::from_utf8(field.value).ok()?.trim();
            let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
            return Some(host.to_ascii_lowercase());
        }
        if is_whole {
            return None;
        }
    }
}

/// Only for the place that browsers come from.
pub(crate) fn network_of(address: IpAddr) -> String {
    let SocketAddr::V4(address) = SocketAddr::new(address, 0) else { return address.to_string() };
    let [a, b, c, _] = address.ip().octets();
    format!("{a}.{b}.{c}.0/24")
}
