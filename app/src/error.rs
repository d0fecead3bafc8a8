//! What a client is told when there is no number to show, and the one place where it becomes a response.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::accept::Format;
use crate::counter::VisitError;
use crate::page::Pages;

/// A request without a number for an answer. The causes are logged where they happen.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No such route.
    #[error("there is nothing here")]
    UnknownRoute,
    /// The route exists, the method on it does not.
    #[error("this method is not allowed here")]
    WrongMethod,
    /// A browser fetching ahead; the page it would keep shows a number nobody has been counted for.
    #[error("fetching ahead is not a visit")]
    Prefetch,
    /// The visit was not counted.
    #[error("{0}; it was not counted")]
    NotCounted(#[from] VisitError),
    /// Not ready, and why.
    #[error("not ready: {0}")]
    Unready(String),
}

impl AppError {
    fn status(&self) -> StatusCode {
        match self {
            Self::UnknownRoute => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            // A browser drops a fetch ahead that failed, and asks again when the person really comes.
            Self::Prefetch | Self::Unready(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotCounted(VisitError::Full) => StatusCode::INSUFFICIENT_STORAGE,
            Self::NotCounted(VisitError::NotSaved(_) | VisitError::Closed) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn next(&self) -> &'static str {
        match self {
            Self::UnknownRoute => "try /, /visits, /healthz, /readyz, /metrics or /version",
            Self::WrongMethod => "use GET or HEAD",
            Self::Prefetch => "ask again without the header Sec-Purpose or Purpose",
            Self::NotCounted(VisitError::NotSaved(_) | VisitError::Closed) | Self::Unready(_) => {
                "try again in a moment"
            }
            Self::NotCounted(VisitError::Full) => {
                "stop the counter, put a smaller number into the file visits, and start it"
            }
        }
    }

    /// The answer in the format asked for.
    pub fn respond(&self, format: Format, pages: &Pages) -> Response {
        let status = self.status();
        let mut response = match format {
            Format::Html => {
                let title = status.canonical_reason().unwrap_or("Error");
                let note = format!("{self}; {}.", self.next());
                let body = pages.error(status.as_u16(), title, &note);
                ([(CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response()
            }
            Format::Json => {
                let body = serde_json::json!({ "error": self.to_string(), "next": self.next() });
                ([(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
            }
        };
        *response.status_mut() = status;
        if matches!(self, Self::NotCounted(VisitError::NotSaved(_) | VisitError::Closed)) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
