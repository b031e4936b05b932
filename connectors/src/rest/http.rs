//! One request to an API until it has an answer: credentials, redirects, retries, deadlines, bounds.
//!
//! URLs in messages carry no credential, and credentials go to the base URL's own host only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use meshwork_engine::{Error, Result, environment};
use reqwest::header::{
    AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::value::RawValue;
use url::Url;

use super::guard::PublicOnly;
use super::spec::{Api, Auth};

const REDIRECTS_MAX: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks one API.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    /// The catalog's name, for messages.
    catalog: String,
    pub(super) api: Arc<Api>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// Where it came from, after redirects.
    pub(super) url: Url,
    /// The JSON as it was sent: numbers keep all their digits.
    pub(super) body: Box<RawValue>,
    /// The target of the header `Link` with `rel="next"`.
    pub(super) link_next: Option<String>,
}

/// A try that failed, and whether another one makes sense.
struct Failure {
    error: Error,
    again: bool,
    retry_after: Option<Duration>,
}

impl Http {
    pub(super) fn new(catalog: String, api: Arc<Api>) -> Result<Self> {
        let mut builder = Client::builder()
            .redirect(Policy::none())
            // A proxy would resolve names where nobody checks them.
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .https_only(!api.allow_http)
            .user_agent("meshwork");
        if !api.allow_private {
            builder = builder.dns_resolver(Arc::new(PublicOnly));
        }
        let client = builder
            .build()
            .map_err(|e| Error::internal("HTTP client could not be made").caused_by(&e))?;
        Ok(Self { client, catalog, api })
    }

    /// Returns the answer to a GET, tried again as the manifest says, no later than `deadline`.
    pub(super) async fn get(
        &self,
        url: &Url,
        headers: &[(String, String)],
        deadline: Instant,
    ) -> Result<Answer> {
        let retry = &self.api.retry;
        let mut n_tries = 0;
        loop {
            let failure = match self.within_deadline(url, headers, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if !failure.again || n_tries >= retry.max {
                return Err(self.named(failure.error));
            }
            let backoff = retry.backoff_base.saturating_mul(2_u32.saturating_pow(n_tries));
            let wait = failure.retry_after.unwrap_or_else(|| backoff.min(retry.backoff_max));
            let too_long = failure.retry_after.is_some_and(|wait| wait > retry.retry_after_max);
            if too_long || environment::instant() + wait >= deadline {
                let hint = self.waiting_hint(failure.retry_after);
                return Err(self.named(failure.error.retryable()).with_hint(hint));
            }
            tracing::debug!(url = %self.shown(url), n_tries, ?wait, "request is tried again");
            tokio::time::sleep(wait).await;
            n_tries += 1;
        }
    }

    /// Says why a request is not tried again, given what the source asked for.
    fn waiting_hint(&self, retry_after: Option<Duration>) -> String {
        let total = seconds(self.api.limits.total_timeout);
        match retry_after {
            Some(wait) => {
                let allowed = seconds(self.api.retry.retry_after_max);
                format!(
                    "The source asks to wait {} s; the manifest allows {allowed} s (retry_after_max) \
                     and {total} s for the whole listing (total_timeout).",
                    seconds(wait)
                )
            }
            None => format!(
                "The total_timeout of {total} s is used up; filter more, or raise it in the manifest."
            ),
        }
    }

    /// Fails unless the API's host answers at all.
    pub(super) async fn reach(&self) -> Result<()> {
        let url = &self.api.base;
        self.api.check(url)?;
        let request = self.client.get(url.clone()).timeout(CHECK_TIMEOUT);
        let sent = request.send().await.map(|_any| ());
        sent.map_err(|e| self.named(self.sending_failed(url, e).error))
    }

    /// Says in an error's message which catalog it is about.
    pub(super) fn named(&self, mut error: Error) -> Error {
        error.message = format!("source \"{}\": {}", self.catalog, error.message);
        error
    }

    async fn within_deadline(
        &self,
        url: &Url,
        headers: &[(String, String)],
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let left = deadline.saturating_duration_since(environment::instant());
        let limit = left.min(self.api.limits.request_timeout);
        match tokio::time::timeout(limit, self.once(url, headers)).await {
            Ok(answered) => answered,
            Err(_elapsed) => Err(self.timed_out(url, limit)),
        }
    }

    async fn once(&self, url: &Url, headers: &[(String, String)]) -> Result<Answer, Failure> {
        let mut url = url.clone();
        for _redirect in 0..=REDIRECTS_MAX {
            self.api.check(&url).map_err(Failure::from)?;
            url = self.without_foreign_key(url);
            let request = self.request(&url, headers).map_err(Failure::from)?;
            let response = request.send().await.map_err(|e| self.sending_failed(&url, e))?;
            if response.status().is_redirection() {
                url = self.redirected(&url, &response).map_err(Failure::from)?;
                continue;
            }
            return self.answer(url, response).await;
        }
        let what = format!("{} redirected more than {REDIRECTS_MAX} times", self.shown(&url));
        Err(Failure::from(Error::source("SOURCE_HTTP_ERROR", what)))
    }

    fn request(&self, url: &Url, headers: &[(String, String)]) -> Result<RequestBuilder> {
        if !self.api.is_base_origin(url) {
            return Ok(self.client.get(url.clone()));
        }
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(header_name(name)?, header_value(name, value)?);
        }
        let request = self.client.get(url.clone());
        Ok(match &self.api.auth {
            Auth::None => request,
            Auth::Basic { username, password } => {
                request.basic_auth(username, Some(password.expose()))
            }
            Auth::Bearer { token } => {
                let value = header_value("authorization", &format!("Bearer {}", token.expose()))?;
                all.insert(AUTHORIZATION, value);
                request
            }
            Auth::KeyInHeader { name, value } => {
                all.insert(header_name(name)?, header_value(name, value.expose())?);
                request
            }
            Auth::KeyInQuery { name, value } => {
                self.client.get(with_query(url, name, value.expose()))
            }
        }
        .headers(all))
    }

    /// Takes the key out of a URL of another host: an API may write the one that it was asked with into links.
    fn without_foreign_key(&self, url: Url) -> Url {
        match &self.api.auth {
            Auth::KeyInQuery { name, .. } if !self.api.is_base_origin(&url) => {
                without_query(&url, name)
            }
            Auth::None
            | Auth::Basic { .. }
            | Auth::Bearer { .. }
            | Auth::KeyInHeader { .. }
            | Auth::KeyInQuery { .. } => url,
        }
    }

    fn redirected(&self, url: &Url, response: &Response) -> Result<Url> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        location.and_then(|location| url.join(location).ok()).ok_or_else(|| {
            let what = format!("{} redirected to nowhere", self.shown(url));
            Error::source("SOURCE_HTTP_ERROR", what)
        })
    }

    async fn answer(&self, url: Url, response: Response) -> Result<Answer, Failure> {
        let status = response.status();
        if !status.is_success() {
            return Err(self.refused(&url, status, response.headers()));
        }
        let link_next = link_next(response.headers());
        let bytes = self.body(&url, response).await?;
        let body = serde_json::from_slice(&bytes).map_err(|e| {
            let what = format!("{} did not answer with JSON", self.shown(&url));
            Failure::from(Error::source("SOURCE_FORMAT", what).caused_by(&e))
        })?;
        Ok(Answer { url, body, link_next })
    }

    /// The bound holds for what was unpacked, so that a small compressed body cannot fill the memory.
    async fn body(&self, url: &Url, mut response: Response) -> Result<Vec<u8>, Failure> {
        let max = self.api.limits.body_bytes_max;
        let mut bytes = Vec::new();
        loop {
            let chunk = response.chunk().await.map_err(|e| self.sending_failed(url, e))?;
            let Some(chunk) = chunk else { return Ok(bytes) };
            if (bytes.len() + chunk.len()) as u64 > max {
                let what = format!("{} answered with more than {max} bytes", self.shown(url));
                let error = Error::source("SOURCE_ANSWER_TOO_LARGE", what);
                return Err(error
                    .with_hint("Ask for smaller pages, or raise limits.body_bytes_max.")
                    .into());
            }
            bytes.extend_from_slice(&chunk);
        }
    }

    fn refused(&self, url: &Url, status: StatusCode, headers: &HeaderMap) -> Failure {
        let again = self.api.retry.statuses.contains(&status.as_u16());
        let what = format!("{} answered {status}", self.shown(url));
        let mut error = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Error::source("SOURCE_AUTHENTICATION", what)
            }
            StatusCode::TOO_MANY_REQUESTS => Error::source("SOURCE_RATE_LIMITED", what),
            _ => Error::source("SOURCE_HTTP_ERROR", what),
        };
        error.retryable = again;
        Failure { error, again, retry_after: retry_after(headers) }
    }

    fn timed_out(&self, url: &Url, limit: Duration) -> Failure {
        let what = format!("{} did not answer within {} s", self.shown(url), seconds(limit));
        let mut error = Error::resources("DEADLINE_EXCEEDED", what);
        if limit < self.api.limits.request_timeout {
            error = error.with_hint(self.waiting_hint(None));
        }
        Failure { error, again: self.api.retry.on_timeout, retry_after: None }
    }

    /// Names the URL as it may be shown; the library's own text has the one with the key.
    fn sending_failed(&self, url: &Url, cause: reqwest::Error) -> Failure {
        let again = cause.is_timeout() && self.api.retry.on_timeout;
        let what = format!("{} could not be read", self.shown(url));
        let error = Error::source("SOURCE_UNAVAILABLE", what)
            .with_hint("Check that the API runs and that this node may connect to it.")
            .caused_by(&cause.without_url());
        Failure { error: error.retryable(), again, retry_after: None }
    }

    /// Returns `GET <url>` with the key, if it is in the query, replaced: the one that will be sent, and the
    /// one that a link of the API has.
    pub(super) fn shown(&self, url: &Url) -> String {
        match &self.api.auth {
            Auth::KeyInQuery { name, .. }
                if self.api.is_base_origin(url) || has_query(url, name) =>
            {
                format!("GET {}", with_query(url, name, "***"))
            }
            Auth::None
            | Auth::Basic { .. }
            | Auth::Bearer { .. }
            | Auth::KeyInHeader { .. }
            | Auth::KeyInQuery { .. } => format!("GET {url}"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, again: false, retry_after: None }
    }
}

/// Returns the URL with one value of a parameter, whatever it had.
pub(super) fn with_query(url: &Url, name: &str, value: &str) -> Url {
    let others: Vec<(String, String)> =
        url.query_pairs().into_owned().filter(|(key, _value)| key != name).collect();
    let mut changed = url.clone();
    changed.query_pairs_mut().clear().extend_pairs(others).append_pair(name, value);
    changed
}

fn has_query(url: &Url, name: &str) -> bool {
    url.query_pairs().any(|(key, _value)| key == name)
}

/// Returns the URL without a parameter; one that does not have it stays as it is written.
fn without_query(url: &Url, name: &str) -> Url {
    let mut changed = url.clone();
    if !has_query(url, name) {
        return changed;
    }
    let others: Vec<(String, String)> =
        url.query_pairs().into_owned().filter(|(key, _value)| key != name).collect();
    match others.is_empty() {
        true => changed.set_query(None),
        false => {
            changed.query_pairs_mut().clear().extend_pairs(others);
        }
    }
    changed
}

/// Returns seconds as people write them: nobody reads beyond milliseconds.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

fn header_name(name: &str) -> Result<HeaderName> {
    let what = || Error::user("MANIFEST", format!("\"{name}\" is not the name of a header"));
    HeaderName::from_bytes(name.as_bytes()).map_err(|e| what().caused_by(&e))
}

/// Never says the value: it may be a secret.
fn header_value(name: &str, value: &str) -> Result<HeaderValue> {
    let what = || Error::user("MANIFEST", format!("the value of header \"{name}\" cannot be sent"));
    let mut value = HeaderValue::from_str(value).map_err(|e| what().caused_by(&e))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until: DateTime<Utc> = DateTime::parse_from_rfc2822(text).ok()?.into();
    let micros = until.timestamp_micros().saturating_sub(environment::unix_micros());
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

/// Finds `<url>; rel="next"` in the headers `Link`.
fn link_next(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let next = |link: &str| {
        let (url, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = rest.split(';').any(|parameter| {
            let parameter = parameter.trim().to_ascii_lowercase();
            parameter.strip_prefix("rel=").is_some_and(|rel| {
                rel.trim_matches('"').split_ascii_whitespace().any(|rel| rel == "next")
            })
        });
        is_next.then(|| url.to_owned())
    };
    values.flat_map(links).find_map(|link| next(&link))
}

/// Cuts a header at the commas between links; a URL may hold commas.
fn links(value: &str) -> Vec<String> {
    let mut links: Vec<String> = Vec::new();
    for part in value.split(',') {
        match links.last_mut() {
            Some(last) if !part.trim_start().starts_with('<') => {
                last.push(',');
                last.push_str(part);
            }
            _ => links.push(part.to_owned()),
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::{link_next, retry_after, with_query, without_query};
    use reqwest::header::{HeaderMap, LINK, RETRY_AFTER};
    use std::time::Duration;
    use url::Url;

    #[test]
    fn the_next_link_is_found() {
        let mut headers = HeaderMap::new();
        headers.append(
            LINK,
            "<https://a/1?x=1,2>; rel=\"prev\", </2>; title=\"t\"; rel=\"next last\""
                .parse()
                .unwrap(),
        );
        assert_eq!(link_next(&headers).as_deref(), Some("/2"));
        let mut headers = HeaderMap::new();
        headers.append(LINK, "<https://a/1>; rel=prev".parse().unwrap());
        assert_eq!(link_next(&headers), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(of("3"), Some(Duration::from_secs(3)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of("soon"), None);
    }

    #[test]
    fn a_parameter_is_replaced() {
        let url = Url::parse("https://a/x?key=old&b=1").unwrap();
        assert_eq!(with_query(&url, "key", "new").query(), Some("b=1&key=new"));
        assert_eq!(without_query(&url, "key").query(), Some("b=1"));
        assert_eq!(without_query(&without_query(&url, "key"), "b").query(), None);
        // Such a URL may be signed, byte for byte.
        let url = Url::parse("https://a/x?q=%7e+a").unwrap();
        assert_eq!(without_query(&url, "key"), url);
    }
}
