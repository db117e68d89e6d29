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
    name: String,
    digest: [u8; 32],
    scopes: Vec<Scope>,
    tenant: Option<Arc<str>>,
}

impl Token {
    /// A token; `secret` is what callers present, `tenant` binds all that it does.
    #[must_use]
    pub fn new(name: &str, secret: &str, scopes: &[Scope], tenant: Option<&str>) -> Self {
        let digest = Sha256::digest(secret).into();
        Self { name: name.to_owned(), digest, scopes: scopes.to_vec(), tenant: tenant.map(Arc::from) }
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The tenant that the caller is bound to; `None`: to none.
    pub(crate) tenant: Option<Arc<str>>,
}

impl Caller {
    /// Whether something of this tenant exists for the caller.
    pub(crate) fn sees(&self, tenant: Option<&str>) -> bool {
        self.tenant.is_none() || self.tenant.as_deref() == tenant
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
            return not_from_a_web_page(request.headers()).map(|()| Caller { tenant: None });
        }
        let presented = request.headers().get(header::AUTHORIZATION).and_then(|v| bearer(v.as_bytes()));
        let presented = presented
            .ok_or_else(|| Problem::unauthorized("a token is needed: send it as `Authorization: Bearer …`"))?;
        let token = self.find(presented).ok_or_else(|| Problem::unauthorized("this token is not known here"))?;
        if !token.scopes.iter().any(|s| s.includes(scope)) {
            let (name, scope) = (&token.name, scope.as_str());
            return Err(Problem::forbidden(format!("the token {name:?} lacks the scope {scope:?}")));
        }
        Ok(Caller { tenant: token.tenant.clone() })
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

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

fn not_from_a_web_page(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).map(header::HeaderValue::as_bytes);
    let host = host.and_then(|h| std::str::from_utf8(h).ok()).unwrap_or_default();
    if !is_local_name(host) {
        return Err(Problem::forbidden(
            "without tokens the daemon answers to localhost and to addresses only; configure daemon.tokens",
        ));
    }
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
        assert!(Caller { tenant: None }.sees(None) && Caller { tenant: None }.sees(Some("acme")));
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
