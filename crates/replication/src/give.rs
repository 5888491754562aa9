//! A node gives an order to the control process that it follows, for a plugin that knows only the node.

use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use nearside_config::{Follows, Upstream};
use nearside_protocol::{Problem, Receipt};
use tokio::time::timeout;

use crate::follow::{ANSWER_MAX, Lost, connect, post_within};
use crate::{GIVE_PATH, Given};

/// The largest receipt: a node takes some 150 bytes.
const RECEIPT_BYTES_MAX: usize = 4 << 20;

/// Gives an order to the control process; returns the receipt of all nodes.
///
/// Of several control processes the first that answers takes it. One that was reached and did not answer may have taken the
/// order too; a purge that is done twice does no harm.
///
/// # Errors
///
/// The control process refuses the order (its own status where the order is at fault), or none can be reached (503).
pub async fn give(leader: &Follows, given: &Given) -> Result<Receipt, Problem> {
    let mut last = None;
    for address in &leader.addresses {
        match give_to(leader, address, given).await {
            Ok(receipt) => return Ok(receipt),
            Err(Lost::Refused { status, detail }) if status.is_client_error() => return Err(refused(status, &detail)),
            Err(lost) => last = Some(format!("{address}: {lost}")),
        }
    }
    let detail = format!(
        "the control process cannot be reached, so that the purge is not known to have reached any node: send it again later ({})",
        last.unwrap_or_else(|| "none is configured".to_owned())
    );
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "control-unreachable", detail))
}

async fn give_to(leader: &Follows, address: &Upstream, given: &Given) -> Result<Receipt, Lost> {
    // It waits for all nodes as long as the order says, and then answers.
    let within = given.order.timeout.0 + ANSWER_MAX;
    let mut sender = connect(address).await?;
    let body = post_within(within, &mut sender, address, leader, GIVE_PATH, given).await?;
    let body = timeout(ANSWER_MAX, Limited::new(body, RECEIPT_BYTES_MAX).collect()).await;
    let body = body.map_err(|_elapsed| Lost::Silent)?.map_err(|error| Lost::Foreign(error.to_string()))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| Lost::Foreign(error.to_string()))
}

/// A control process that refuses the order itself is believed; one that does not take orders from this node is a matter of
/// configuration.
fn refused(status: StatusCode, detail: &str) -> Problem {
    let status = if status == StatusCode::UNPROCESSABLE_ENTITY { status } else { StatusCode::SERVICE_UNAVAILABLE };
    let detail = format!("the control process refused the purge, and nothing was purged: {detail}");
    Problem::new(status, "control-refused", detail)
}
