//! Resolvers ask by DNS: an authoritative server for the names of sites, whose answers depend on who asks.
//!
//! A, AAAA and HTTPS records (RFC 9460) of any name of a zone that some edge serves; SOA and NS at the top of the zone. Whom a resolver
//! asks for is told by EDNS Client Subnet (RFC 7871), and the answer says for how large a network it holds; without it the
//! resolver's own address stands for its users. Answers hold for a short time, so that an edge that is gone is left.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, Header, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_server::proto::rr::rdata::svcb::{Alpn, IpHint, SVCB, SvcParamKey, SvcParamValue};
use hickory_server::proto::rr::rdata::{A, AAAA, HTTPS, NS, SOA};
use hickory_server::proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use nearside_config::Dns;
use nearside_diagnostics::WatchedTasks;
use nearside_protocol::Reach;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::{Choice, Steering, SteeringError};

/// A connection on which nothing comes is closed.
const TCP_IDLE_MAX: Duration = Duration::from_secs(10);
/// Answers that may wait to be sent on one connection.
const TCP_ANSWERS_MAX: usize = 32;
/// What fits into a datagram on any way: the recommendation since the flag day of 2020.
const PAYLOAD_MAX: u16 = 1232;
/// How long it is believed that there is no such name or record, in seconds; and the times of SOA, which only secondaries look at.
const NEGATIVE_SECS: u32 = 30;
const REFRESH_SECS: i32 = 3600;
const RETRY_SECS: i32 = 600;
const EXPIRE_SECS: i32 = 86_400;
/// The longest client subnets that are of use: what is finer says who somebody is.
const SUBNET_V4_MAX: u8 = 24;
const SUBNET_V6_MAX: u8 = 56;

/// Answers the queries of resolvers.
struct Zones {
    steering: Arc<Steering>,
    zones: Vec<LowerName>,
    name_server: Name,
    /// Of the name server itself.
    addresses: Vec<IpAddr>,
    ttl_secs: u32,
}

pub(super) async fn start(
    config: Dns,
    steering: Arc<Steering>,
    tasks: &WatchedTasks,
) -> Result<(SocketAddr, JoinHandle<()>), SteeringError> {
    let handler = Zones {
        steering,
        zones: config
            .zones
            .iter()
            .map(|zone| name(&zone.to_string()).map(LowerName::from))
            .collect::<Result<_, _>>()?,
        name_server: name(&config.name_server)?,
        addresses: config.addresses,
        ttl_secs: u32::try_from(config.ttl.as_secs()).unwrap_or(u32::MAX),
    };
    let refused = |cause| SteeringError::Listen { address: config.listen, cause };
    // Over both, on one port.
    let tcp = nearside_listen::bind(config.listen).await.map_err(refused)?;
    let address = tcp.local_addr().map_err(refused)?;
    let udp = UdpSocket::bind(address).await.map_err(refused)?;
    let mut server = Server::new(handler);
    server.register_socket(udp);
    server.register_listener(tcp, TCP_IDLE_MAX, TCP_ANSWERS_MAX);
    let watch = tasks.clone();
    let serving = tokio::spawn(tasks.clone().watch("name server", async move {
        if let Err(error) = server.block_until_done().await {
            tracing::error!(%error, "the name server has ended");
            watch.fail("name server");
        }
    }));
    Ok((address, serving))
}

fn name(text: &str) -> Result<Name, SteeringError> {
    let refused = |cause: String| SteeringError::Name { name: text.to_owned(), cause };
    let mut name = Name::from_str(text).map_err(|error| refused(error.to_string()))?;
    name.set_fqdn(true);
    Ok(name)
}

/// What a query is answered.
struct Found {
    code: ResponseCode,
    answers: Vec<Record>,
    authority: Vec<Record>,
    /// For how large a network it holds.
    scope: u8,
}

impl Found {
    fn error(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), authority: Vec::new(), scope: 0 }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Zones {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let subnet = subnet_of(request);
        let found = self.find(request, subnet.as_ref());
        let most = request.max_payload();
        let edns = request.edns.as_ref().map(|_| answer_edns(subnet.as_ref(), found.scope, most));
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = found.code;
        metadata.authoritative = found.code != ResponseCode::Refused;
        let builder = MessageResponseBuilder::new(&request.queries, edns.as_ref());
        let no_records = std::iter::empty::<&Record>;
        let response =
            builder.build(metadata, found.answers.iter(), found.authority.iter(), no_records(), no_records());
        match handle.send_response(response).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::debug!(%error, "an answer to a resolver was not sent");
                ResponseInfo::from(Header { metadata, counts: hickory_server::proto::op::HeaderCounts::default() })
            }
        }
    }
}

impl Zones {
    fn find(&self, request: &Request, subnet: Option<&ClientSubnet>) -> Found {
        if request.metadata.op_code != OpCode::Query {
            return Found::error(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return Found::error(ResponseCode::FormErr) };
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Found::error(ResponseCode::BADVERS);
        }
        let query = info.query;
        let zone = self.zones.iter().filter(|zone| zone.zone_of(query.name())).max_by_key(|zone| zone.num_labels());
        let Some(zone) = zone.filter(|_| query.query_class() == DNSClass::IN) else {
            return Found::error(ResponseCode::Refused);
        };
        let client = subnet.filter(|subnet| subnet.source_prefix() > 0).map_or(request.src().ip(), ClientSubnet::addr);
        let owner = Name::from(query.name().clone());
        self.answer(zone, &owner, query.query_type(), client)
    }

    fn answer(&self, zone: &LowerName, owner: &Name, kind: RecordType, client: IpAddr) -> Found {
        let is_top = LowerName::from(owner) == *zone;
        // Its own name leads to itself, whatever edges serve.
        let is_own = LowerName::from(owner) == LowerName::from(&self.name_server);
        let host = owner.to_ascii();
        // Also a name that has nothing itself, below which there is one, is there (RFC 8020 §2).
        let is_there = is_top || is_own || self.steering.serves(&host) || self.steering.serves_below(&host);
        if !is_there {
            return Found { authority: vec![self.soa(zone)], ..Found::error(ResponseCode::NXDomain) };
        }
        let mut scope = 0;
        let answers = match kind {
            RecordType::SOA if is_top => vec![self.soa(zone)],
            RecordType::NS if is_top => vec![self.record(owner, RData::NS(NS(self.name_server.clone())))],
            RecordType::A | RecordType::AAAA if is_own => self.records(owner, kind, &self.addresses, false),
            RecordType::A | RecordType::AAAA | RecordType::HTTPS if !is_own => {
                let can = |reach: &Reach| !reach.addresses.is_empty();
                let choice = self.steering.choose(&host, client, can);
                scope = choice.as_ref().map_or(0, |choice| Steering::scope(choice, client));
                let records = |choice: Choice| {
                    let is_tls = choice.reach.url.as_deref().is_some_and(|url| url.starts_with("https:"));
                    self.records(owner, kind, &choice.reach.addresses, is_tls)
                };
                choice.map(records).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let authority = if answers.is_empty() { vec![self.soa(zone)] } else { Vec::new() };
        Found { code: ResponseCode::NoError, answers, authority, scope }
    }

    fn records(&self, owner: &Name, kind: RecordType, addresses: &[IpAddr], is_tls: bool) -> Vec<Record> {
        let v4 =
            || addresses.iter().filter_map(|address| if let IpAddr::V4(v4) = address { Some(A(*v4)) } else { None });
        let v6 =
            || addresses.iter().filter_map(|address| if let IpAddr::V6(v6) = address { Some(AAAA(*v6)) } else { None });
        let data: Vec<RData> = match kind {
            RecordType::A => v4().map(RData::A).collect(),
            RecordType::AAAA => v6().map(RData::AAAA).collect(),
            // Only where it is spoken to over TLS: else the record would promise what is not there.
            _ if is_tls => {
                let protocols = Alpn(vec!["h2".to_owned(), "http/1.1".to_owned()]);
                let mut params = vec![(SvcParamKey::Alpn, SvcParamValue::Alpn(protocols))];
                let (v4, v6): (Vec<_>, Vec<_>) = (v4().collect(), v6().collect());
                if !v4.is_empty() {
                    params.push((SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(v4))));
                }
                if !v6.is_empty() {
                    params.push((SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(v6))));
                }
                vec![RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), params)))]
            }
            _ => Vec::new(),
        };
        data.into_iter().map(|data| self.record(owner, data)).collect()
    }

    fn record(&self, owner: &Name, data: RData) -> Record {
        Record::from_rdata(owner.clone(), self.ttl_secs, data)
    }

    fn soa(&self, zone: &LowerName) -> Record {
        let zone = Name::from(zone.clone());
        let keeper = Name::from_str("hostmaster").and_then(|label| label.append_domain(&zone));
        let keeper = keeper.unwrap_or_else(|_| zone.clone());
        // Answers differ by who asks: there are no versions of the zone.
        let soa = SOA::new(self.name_server.clone(), keeper, 1, REFRESH_SECS, RETRY_SECS, EXPIRE_SECS, NEGATIVE_SECS);
        Record::from_rdata(zone, NEGATIVE_SECS, RData::SOA(soa))
    }
}

/// Whom a resolver asks for.
fn subnet_of(request: &Request) -> Option<ClientSubnet> {
    match request.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(*subnet),
        _ => None,
    }
}

/// What we say of ourselves; with the subnet again, and for how large a network the answer holds (RFC 7871 §7.2.1).
fn answer_edns(subnet: Option<&ClientSubnet>, scope: u8, most: u16) -> Edns {
    let mut edns = Edns::new();
    // By this it is decided what fits: no more than the resolver takes (RFC 6891 §6.2.3), nor than goes on any way.
    edns.set_max_payload(PAYLOAD_MAX.min(most.max(512))).set_version(0);
    if let Some(subnet) = subnet {
        let most = if subnet.addr().is_ipv4() { SUBNET_V4_MAX } else { SUBNET_V6_MAX };
        // To a resolver that does not say whom it asks for, it holds for all.
        let scope = if subnet.source_prefix() == 0 { 0 } else { scope.min(most) };
        let again = ClientSubnet::new(subnet.addr(), subnet.source_prefix(), scope);
        edns.options_mut().insert(EdnsOption::Subnet(again));
    }
    edns
}
