//! Decides who may do what: bearer tokens, their scopes, and the tenant that one is bound to.
//!
//! Without tokens everything is allowed, and the daemon listens on loopback only. Even then a web page in a browser on
//! this machine must not reach it: requests are refused whose `Host` is a name other than `localhost`, or whose
//! `Origin` is another place.

use super::problem::Problem;
use crate::config::Scope;
use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use sha2::{Digest as _, Sha256};
use std::net::IpAddr;
use std::sync::Arc;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

/// A token that is known here. Only its hash is kept.
#[derive(Clone)]
pub struct Token {
    name: Arc<str>,
    digest: [u8; 32],
    scopes: Arc<[Scope]>,
    tenant: Option<Arc<str>>,
}

impl Token {
    /// A token; `secret` is what callers present, `tenant` binds all that it does.
    #[must_use]
    pub fn new(name: &str, secret: &str, scopes: &[Scope], tenant: Option<&str>) -> Self {
        let digest = Sha256::digest(secret).into();
        Self { name: name.into(), digest, scopes: scopes.into(), tenant: tenant.map(Arc::from) }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("name", &self.name).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

/// Who may do what; replaced as a whole at a reload.
#[derive(Debug, Clone, Default)]
pub struct Access {
    tokens: Vec<Token>,
}

/// Who is asking, after [`Access::admit`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Caller {
    /// The tenant that the caller is bound to; `None`: to none.
    pub(crate) tenant: Option<Arc<str>>,
    /// The name of the caller's token; `None`: there are no tokens.
    pub(crate) token: Option<Arc<str>>,
}

impl From<&Token> for Caller {
    fn from(token: &Token) -> Self {
        Self { tenant: token.tenant.clone(), token: Some(Arc::clone(&token.name)) }
    }
}

impl Caller {
    /// Whether something of this tenant exists for the caller.
    pub(crate) fn sees(&self, tenant: Option<&str>) -> bool {
        self.tenant.is_none() || self.tenant.as_deref() == tenant
    }

    /// The tenant that it is bound to.
    pub(crate) fn bound(&self) -> Option<String> {
        self.tenant.as_deref().map(str::to_owned)
    }

    /// The tenant that a listing is about, where `asked` was asked for.
    ///
    /// # Errors
    /// 403 where that is another one than the caller's.
    pub(crate) fn narrow(&self, asked: Option<String>) -> Result<Option<String>, Problem> {
        match (&self.tenant, asked) {
            (Some(bound), Some(asked)) if **bound != *asked => {
                Err(Problem::forbidden("the token is bound to another tenant"))
            }
            (Some(bound), _) => Ok(Some(bound.to_string())),
            (None, asked) => Ok(asked),
        }
    }
}

impl Access {
    /// These tokens; none: everything is allowed.
    #[must_use]
    pub fn new(tokens: Vec<Token>) -> Self {
        Self { tokens }
    }

    /// Who asks, where that one may do what `scope` is for.
    ///
    /// # Errors
    /// 401 without a known token, 403 where its scopes do not reach, or for a web page where there are no tokens.
    pub(crate) fn admit(&self, request: &HttpRequest, scope: Scope) -> Result<Caller, Problem> {
        if self.tokens.is_empty() {
            return not_from_a_web_page(request.headers()).map(|()| Caller::default());
        }
        let presented = presented(request)
            .ok_or_else(|| Problem::unauthorized("a token is needed: send it as `Authorization: Bearer …`"))?;
        self.known(presented, scope).map(Caller::from)
    }

    /// Who sends to the relay; whether the page that does may is judged by [`super::cors`].
    ///
    /// A browser that leaves a page can send no header of ours (`sendBeacon`), so a token may stand in the URL as
    /// `in_url` too, where it ends up in logs of proxies and in histories. Only one that can do nothing but relay is taken
    /// from there: every visitor of the page could read it anyway. The header counts where both are there.
    ///
    /// # Errors
    /// As [`Access::admit`], and 403 for a token in the URL that has another scope too.
    pub(crate) fn admit_relay(&self, request: &HttpRequest, in_url: Option<&str>) -> Result<Caller, Problem> {
        if self.tokens.is_empty() {
            return to_a_local_name(request.headers()).map(|_| Caller::default());
        }
        if let Some(presented) = presented(request) {
            return self.known(presented, Scope::Relay).map(Caller::from);
        }
        let needed = "a token is needed: send it as `Authorization: Bearer …`, or as ?token= where it has the scope \
                      \"relay\" alone";
        let token = self.known(in_url.ok_or_else(|| Problem::unauthorized(needed))?.as_bytes(), Scope::Relay)?;
        if token.scopes.iter().any(|scope| *scope != Scope::Relay) {
            let name = &token.name;
            let why = format!("the token {name:?} can do more than relay, so it must not stand in a URL");
            return Err(Problem::forbidden(why));
        }
        Ok(token.into())
    }

    fn known(&self, presented: &[u8], scope: Scope) -> Result<&Token, Problem> {
        let token = self.find(presented).ok_or_else(|| Problem::unauthorized("this token is not known here"))?;
        if !token.scopes.iter().any(|s| s.includes(scope)) {
            let (name, scope) = (&token.name, scope.as_str());
            return Err(Problem::forbidden(format!("the token {name:?} lacks the scope {scope:?}")));
        }
        Ok(token)
    }

    /// Finds a token without telling by the time taken how near a guess came: both sides are hashed to the same
    /// length, and every token is compared.
    fn find(&self, presented: &[u8]) -> Option<&Token> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let mut found = u32::MAX;
        for (at, token) in (0..u32::MAX).zip(&self.tokens) {
            let same: Choice = token.digest.ct_eq(&digest);
            found.conditional_assign(&at, same);
        }
        self.tokens.get(usize::try_from(found).ok()?)
    }
}

fn presented(request: &HttpRequest) -> Option<&[u8]> {
    request.headers().get(header::AUTHORIZATION).and_then(|v| bearer(v.as_bytes()))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// What the caller calls us; empty where it does not say.
pub(crate) fn host(headers: &HeaderMap) -> &str {
    let host = headers.get(header::HOST).map(header::HeaderValue::as_bytes);
    host.and_then(|h| std::str::from_utf8(h).ok()).unwrap_or_default()
}

/// The name by which a daemon without tokens was called.
fn to_a_local_name(headers: &HeaderMap) -> Result<&str, Problem> {
    let host = host(headers);
    if is_local_name(host) {
        return Ok(host);
    }
    Err(Problem::forbidden(
        "without tokens the daemon answers to localhost and to addresses only; configure daemon.tokens",
    ))
}

fn not_from_a_web_page(headers: &HeaderMap) -> Result<(), Problem> {
    let host = to_a_local_name(headers)?;
    match headers.get(header::ORIGIN) {
        None => Ok(()),
        Some(origin) if origin.as_bytes().strip_prefix(b"http://") == Some(host.as_bytes()) => Ok(()),
        Some(_) => Err(Problem::forbidden("without tokens the daemon takes nothing from web pages of other origins")),
    }
}

/// Whether a `Host` can not be a name that somebody else's DNS answers for.
fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn access() -> Access {
        Access::new(vec![
            Token::new("app", "app-token-0123456789", &[Scope::Record], Some("acme")),
            Token::new("eye", "eye-token-0123456789", &[Scope::Read], None),
            Token::new("root", "root-token-0123456789", &[Scope::Admin], None),
        ])
    }

    fn ask(access: &Access, headers: &[(&str, &str)], scope: Scope) -> Result<Caller, u16> {
        let request = headers.iter().fold(TestRequest::default(), |r, h| r.append_header(*h)).to_http_request();
        access.admit(&request, scope).map_err(|p| actix_web::ResponseError::status_code(&p).as_u16())
    }

    #[test]
    fn scopes_reach_as_far_as_the_contract_says() {
        let allowed = |token: &str, scope| {
            ask(&access(), &[("authorization", &format!("Bearer {token}-token-0123456789"))], scope).is_ok()
        };
        for scope in Scope::ALL {
            assert!(allowed("root", scope), "{scope:?}");
            assert_eq!(allowed("app", scope), matches!(scope, Scope::Record | Scope::Relay), "{scope:?}");
            assert_eq!(allowed("eye", scope), scope == Scope::Read, "{scope:?}");
        }
    }

    #[test]
    fn no_token_or_an_unknown_one_is_401_and_a_missing_scope_403() {
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Basic YTpi",
            "Bearer nobody",
            "Bearer app-token-012345678",
            "app-token-0123456789",
        ] {
            assert_eq!(ask(&access(), &[("authorization", value)], Scope::Record), Err(401), "{value:?}");
        }
        assert_eq!(ask(&access(), &[], Scope::Read), Err(401));
        assert_eq!(ask(&access(), &[("authorization", "Bearer eye-token-0123456789")], Scope::Manage), Err(403));
        assert!(ask(&access(), &[("authorization", "bearer  eye-token-0123456789")], Scope::Read).is_ok());
    }

    #[test]
    fn a_bound_token_sees_its_tenant_only() {
        let caller = ask(&access(), &[("authorization", "Bearer app-token-0123456789")], Scope::Record).unwrap();
        assert!(caller.sees(Some("acme")) && !caller.sees(Some("other")) && !caller.sees(None));
        assert_eq!(caller.token.as_deref(), Some("app"));
        assert!(Caller::default().sees(None) && Caller::default().sees(Some("acme")));
    }

    #[test]
    fn a_token_in_the_url_is_one_that_can_relay_and_nothing_else() {
        let access = Access::new(vec![
            Token::new("page", "page-token-0123456789", &[Scope::Relay], None),
            Token::new("both", "both-token-0123456789", &[Scope::Relay, Scope::Read], None),
            Token::new("app", "app-token-0123456789", &[Scope::Record], None),
            Token::new("eye", "eye-token-0123456789", &[Scope::Read], None),
        ]);
        let ask = |header: Option<&str>, in_url: Option<&str>| {
            let request = TestRequest::default();
            let secret = |name: &str| format!("{name}-token-0123456789");
            let request = match header {
                Some(name) => request.append_header(("authorization", format!("Bearer {}", secret(name)))),
                None => request,
            };
            let answer = access.admit_relay(&request.to_http_request(), in_url.map(secret).as_deref());
            answer.map(|caller| caller.token).map_err(|p| actix_web::ResponseError::status_code(&p).as_u16())
        };
        assert_eq!(ask(None, Some("page")), Ok(Some("page".into())));
        assert_eq!((ask(None, Some("both")), ask(None, Some("app"))), (Err(403), Err(403)));
        assert_eq!((ask(None, Some("nobody")), ask(None, None)), (Err(401), Err(401)));
        for (name, taken) in [("page", true), ("both", true), ("app", true), ("eye", false)] {
            assert_eq!(ask(Some(name), None), if taken { Ok(Some(name.into())) } else { Err(403) });
        }
        assert_eq!(ask(Some("eye"), Some("page")), Err(403), "the header counts");
    }

    #[test]
    fn without_tokens_a_web_page_is_kept_out() {
        let open = Access::default();
        for host in ["localhost", "localhost:8321", "127.0.0.1:8321", "[::1]:8321", ""] {
            assert!(ask(&open, &[("host", host)], Scope::Admin).is_ok(), "{host}");
        }
        assert!(ask(&open, &[], Scope::Admin).is_ok());
        for host in ["evil.example", "evil.example:8321", "localhost.evil.example", "127.0.0.1.evil.example"] {
            assert_eq!(ask(&open, &[("host", host)], Scope::Read), Err(403), "{host}");
        }
        let from = |origin| ask(&open, &[("host", "127.0.0.1:8321"), ("origin", origin)], Scope::Manage);
        assert!(from("http://127.0.0.1:8321").is_ok());
        assert_eq!((from("https://evil.example"), from("null")), (Err(403), Err(403)));
    }
}
