//! Which web pages may connect. A browser says where a page is from; everybody else says nothing.

use axum::http::{HeaderMap, header};

/// Whether a request may come from the page it names: from the relay's own host, or from the list.
pub fn is_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let of_origin = origin.split_once("://").map(|(_, host)| host);
    (host.is_some() && of_origin == host)
        || allowed.iter().any(|entry| entry == "*" || entry.eq_ignore_ascii_case(origin))
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
}
