//! Which web pages may connect. A browser says where a page is from; everybody else says nothing.

use axum::http::{HeaderMap, HeaderValue, header};

/// Whether a request may come from the page it names: from the relay's own host, or from the list.
pub fn is_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let of_origin = origin.split_once("://").map(|(_, host)| host);
    (host.is_some() && of_origin == host)
        || allowed.iter().any(|entry| entry == "*" || entry.eq_ignore_ascii_case(origin))
}

/// Lets the page that asked read the answer, if it may connect at all. Without this a browser keeps the answer to
/// itself when the page is of another host.
pub fn share(asked: &HeaderMap, allowed: &[String], answer: &mut HeaderMap) {
    if let Some(origin) = asked.get(header::ORIGIN).filter(|_| is_allowed(asked, allowed)) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(header::VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn pages_of_other_hosts_need_to_be_listed() {
        let other = headers(&[("host", "relay.example:8787"), ("origin", "https://app.example")]);
        assert!(is_allowed(&headers(&[("host", "relay.example")]), &[]), "no browser");
        assert!(is_allowed(&headers(&[("host", "a:1"), ("origin", "http://a:1")]), &[]), "its own page");
        assert!(!is_allowed(&other, &[]));
        assert!(is_allowed(&other, &["https://app.example".into()]) && is_allowed(&other, &["*".into()]));
        assert!(!is_allowed(&headers(&[("origin", "null")]), &[]));
    }

    #[test]
    fn an_answer_is_shared_with_those_who_may_connect() {
        let asked = headers(&[("host", "relay.example"), ("origin", "https://app.example")]);
        let shared = |allowed: &[String]| {
            let mut answer = HeaderMap::new();
            share(&asked, allowed, &mut answer);
            answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).cloned()
        };
        assert_eq!(shared(&["*".into()]).unwrap(), "https://app.example");
        assert_eq!(shared(&["https://other.example".into()]), None);
    }
}
