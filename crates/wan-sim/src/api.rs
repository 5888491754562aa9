//! What people and programs ask of the WAN: how it is, how exact it is, and to break and heal it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use nearside_config::{NodeId, Wan, WanLink, WanPlace};
use nearside_geo::City;
use serde_json::{Value, json};

use crate::accuracy::Accuracy;
use crate::conditions::{Conditions, Fault};
use crate::door::{address_of, network_of};

#[derive(Debug)]
struct Desk {
    config: Wan,
    conditions: Arc<Conditions>,
    accuracy: Arc<Accuracy>,
}

pub(crate) fn routes(config: Wan, conditions: Arc<Conditions>, accuracy: Arc<Accuracy>) -> Router {
    Router::new()
        .route("/readyz", get(|| async { "ready\n" }))
        .route("/v1/wan", get(wan))
        .route("/v1/faults", get(faults).post(breaks).delete(heals_all))
        .route("/v1/faults/{what}", delete(heals))
        .layer(middleware::from_fn(only_here))
        .with_state(Arc::new(Desk { config, conditions, accuracy }))
}

/// Only under an address of this machine: a name may be anybody's, also if it leads here.
async fn only_here(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let is_here = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_here { next.run(request).await } else { (StatusCode::FORBIDDEN, "ask under 127.0.0.1\n").into_response() }
}

/// All round trips as they are meant to be, who is where, what is broken, and how late bytes were.
async fn wan(State(desk): State<Arc<Desk>>) -> Response {
    let config = &desk.config;
    #[expect(clippy::cast_possible_truncation, reason = "tenths of milliseconds")]
    let ms = |time: std::time::Duration| f64::from((time.as_secs_f64() * 10_000.0).round() as i32) / 10.0;
    let viewer = |city: &&'static City| {
        let to = |place: &WanPlace| (place.name.to_string(), ms(desk.conditions.round_trip(city, place.city)).into());
        let network = address_of(&config.viewers, city).map(network_of);
        json!({
            "code": city.code, "name": city.name, "coordinates": city.place(), "network": network,
            "round_trip_ms": config.places.iter().map(to).collect::<serde_json::Map<String, Value>>()
        })
    };
    let place = |place: &WanPlace| json!({ "name": place.name.to_string(), "city": place.city.name, "code": place.city.code, "coordinates": place.city.place(), "door": place.door });
    let link = |link: &WanLink| {
        let city = |name: &NodeId| config.places.iter().find(|place| place.name == *name).map(|place| place.city);
        let time = city(&link.from).zip(city(&link.to)).map(|(from, to)| ms(desk.conditions.round_trip(from, to)));
        json!({ "from": link.from.to_string(), "to": link.to.to_string(), "round_trip_ms": time })
    };
    let quality = &config.quality;
    Json(json!({
        "seed": config.seed,
        "quality": {
            "bits_per_second": quality.bits_per_second, "jitter_thousandths": quality.jitter_thousandths,
            "loss_per_million": quality.loss_per_million
        },
        "viewers": config.viewers.iter().map(viewer).collect::<Vec<_>>(),
        "places": config.places.iter().map(place).collect::<Vec<_>>(),
        "links": config.links.iter().map(link).collect::<Vec<_>>(),
        "faults": desk.conditions.faults(),
        "late": desk.accuracy.late(),
    }))
    .into_response()
}

async fn faults(State(desk): State<Arc<Desk>>) -> Json<Value> {
    Json(json!({ "faults": desk.conditions.faults() }))
}

async fn breaks(State(desk): State<Arc<Desk>>, fault: Result<Json<Fault>, JsonRejection>) -> Response {
    // Only as application/json: what a page of a foreign origin may send without being asked is no order.
    let fault = match fault {
        Ok(Json(fault)) => fault,
        Err(error) => return problem(&format!("expected {{\"what\": …, \"cut\": true}}: {}", error.body_text())),
    };
    match desk.conditions.breaks(fault) {
        Ok(()) => faults(State(desk)).await.into_response(),
        Err(error) => problem(&error.to_string()),
    }
}

async fn heals(State(desk): State<Arc<Desk>>, Path(what): Path<String>) -> Json<Value> {
    desk.conditions.heals(Some(&what));
    faults(State(desk)).await
}

async fn heals_all(State(desk): State<Arc<Desk>>) -> Json<Value> {
    desk.conditions.heals(None);
    faults(State(desk)).await
}

fn problem(detail: &str) -> Response {
    let body = json!({ "type": "about:blank", "title": "Unprocessable Content", "status": 422, "detail": detail });
    let fields = [(header::CONTENT_TYPE, "application/problem+json")];
    (StatusCode::UNPROCESSABLE_ENTITY, fields, body.to_string()).into_response()
}
