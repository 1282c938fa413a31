//! What requests have in common: the room, the permission, and how refusals look.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crsql_protocol::{Code, Fault};

use super::{origin, sync};
use crate::auth::{Grant, Permission};
use crate::room::{Room, Rooms};

/// A refusal as an HTTP response.
#[derive(Debug)]
pub struct Refusal(pub StatusCode, pub Fault);

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        let status = match fault.code {
            Code::UNAUTHORIZED => StatusCode::UNAUTHORIZED,
            Code::FORBIDDEN | Code::READ_ONLY | Code::FOREIGN_SITE => StatusCode::FORBIDDEN,
            Code::NO_ROOM => StatusCode::NOT_FOUND,
            Code::TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            Code::RATE => StatusCode::TOO_MANY_REQUESTS,
            Code::UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
            Code::INTERNAL => StatusCode::INTERNAL_SERVER_ERROR,
            Code::LOST => StatusCode::GONE,
            Code::BEHIND => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        };
        Refusal(status, fault)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal(status, fault) = self;
        let body = serde_json::json!({ "code": fault.code.name(), "detail": fault.detail });
        let seconds = fault.retry_after_ms.div_ceil(1000).to_string();
        let mut response = (status, axum::Json(body)).into_response();
        if fault.retry_after_ms > 0
            && let Ok(value) = seconds.parse()
        {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        if status == StatusCode::UNAUTHORIZED {
            let value = axum::http::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        response
    }
}

/// The room of a request and what its sender may do there, if it may do this. With `create` (the tie-break of a new
/// room), a room that is not there is made where that is allowed.
pub async fn enter(
    rooms: &Arc<Rooms>,
    name: &str,
    headers: &HeaderMap,
    permission: Permission,
    create: Option<u8>,
) -> Result<(Arc<Room>, Grant), Refusal> {
    let context = rooms.context();
    context.metrics.requests.add(1);
    let refuse = |fault: Fault| {
        context.metrics.fault(fault.code);
        Refusal::from(fault)
    };
    if !origin::is_allowed(headers, &context.settings.origins.0) {
        return Err(refuse(Fault::new(
            Code::FORBIDDEN,
            "this page's origin is not in the relay's list of origins",
        )));
    }
    if name.is_empty() || name.len() > crsql_protocol::limits::ROOM_NAME_BYTES_MAX {
        return Err(refuse(Fault::new(Code::MALFORMED, "the name of a room has 1 to 255 bytes")));
    }
    let grant = context.auth.grant(sync::bearer(headers).as_deref(), name).map_err(refuse)?;
    if !grant.allows(permission) {
        let detail = format!("the token does not have the permission {permission:?} in room {name:?}");
        return Err(refuse(Fault::new(Code::FORBIDDEN, detail)));
    }
    let create = create.filter(|_| grant.allows(Permission::Create));
    let room = rooms.open(name, create).await.map_err(refuse)?;
    Ok((room, grant))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
