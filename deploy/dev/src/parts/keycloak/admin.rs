//! Keycloak's admin REST API, as far as tests turn its screws.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::LOCATION;
use serde_json::{Value, json};

use crate::parts::Error;

/// The administrator of a server.
#[derive(Clone, Debug)]
pub struct Admin {
    http: reqwest::Client,
    url: String,
}

/// One realm.
#[derive(Clone, Debug)]
pub struct Realm {
    admin: Admin,
    name: String,
}

impl Admin {
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(PATIENCE)
            // Tests that share a server have runtimes of their own, which do not outlive a kept connection.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|source| Error::Unanswered {
                what: "the HTTP client".to_owned(),
                source,
            })?;
        Ok(Self {
            http,
            url: url.to_owned(),
        })
    }

    /// Whether the server is up: its first realm has a discovery document.
    pub(super) async fn answers(&self) -> bool {
        let document = format!("{}/realms/master/.well-known/openid-configuration", self.url);
        let answer = self.http.get(document).timeout(Duration::from_secs(5)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    pub(super) async fn add_realm(&self, description: &Value) -> Result<Realm, Error> {
        let name = description["realm"].as_str().unwrap_or_default().to_owned();
        self.call(Method::POST, "/admin/realms", Some(description)).await?;
        Ok(Realm {
            admin: self.clone(),
            name,
        })
    }

    /// A token lives for a minute: each call takes a new one.
    async fn token(&self) -> Result<String, Error> {
        let what = "the administrator's login";
        let unanswered = |source: reqwest::Error| Error::Unanswered {
            what: what.to_owned(),
            source: source.without_url(),
        };
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", ADMINISTRATOR.0),
            ("password", ADMINISTRATOR.1),
        ];
        let path = format!("{}/realms/master/protocol/openid-connect/token", self.url);
        let answer = self.http.post(path).form(&form).send().await.map_err(unanswered)?;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.map_err(unanswered)?;
        match body["access_token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => Err(Error::Refused {
                what: what.to_owned(),
                status,
                said: body["error_description"].to_string(),
            }),
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(Option<String>, Value), Error> {
        let what = format!("{method} {path}");
        let unanswered = |source: reqwest::Error| Error::Unanswered {
            what: what.clone(),
            source: source.without_url(),
        };
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        request = request.bearer_auth(self.token().await?);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(unanswered)?;
        let status = answer.status();
        let made = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let made = made.and_then(|url| url.rsplit('/').next()).map(str::to_owned);
        let text = answer.text().await.map_err(unanswered)?;
        if status.is_success() {
            return Ok((made, serde_json::from_str(&text).unwrap_or_default()));
        }
        Err(Error::Refused {
            what,
            status: status.as_u16(),
            said: text,
        })
    }
}

impl Realm {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The issuer identifier.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("{}/realms/{}", self.admin.url, self.name)
    }

    /// Puts a person into a group.
    ///
    /// # Errors
    /// One of them is not there, or Keycloak does not answer.
    pub async fn join(&self, person: &str, group: &str) -> Result<(), Error> {
        self.member(Method::PUT, person, group).await
    }

    /// Takes a person out of a group.
    ///
    /// # Errors
    /// One of them is not there, or Keycloak does not answer.
    pub async fn leave(&self, person: &str, group: &str) -> Result<(), Error> {
        self.member(Method::DELETE, person, group).await
    }

    /// Disables a person, or enables them again.
    ///
    /// # Errors
    /// There is no such person, or Keycloak does not answer.
    pub async fn enable(&self, person: &str, enabled: bool) -> Result<(), Error> {
        let path = format!("/users/{}", self.id_of(person).await?);
        self.call(Method::PUT, &path, Some(&json!({"enabled": enabled})))
            .await
            .map(drop)
    }

    /// Adds a person to no group, with the password `NAME-pw`.
    ///
    /// # Errors
    /// The name is taken, or Keycloak does not answer.
    pub async fn add_person(&self, name: &str) -> Result<(), Error> {
        let person = json!({
            "username": name, "enabled": true, "emailVerified": true, "email": format!("{name}@doorward.test"),
            "firstName": name, "lastName": "Test",
            "credentials": [{"type": "password", "value": format!("{name}-pw"), "temporary": false}],
        });
        self.call(Method::POST, "/users", Some(&person)).await.map(drop)
    }

    /// Ends every login of a person and disowns all tokens that they have, as an administrator does.
    ///
    /// # Errors
    /// There is no such person, or Keycloak does not answer.
    pub async fn log_out(&self, person: &str) -> Result<(), Error> {
        let path = format!("/users/{}/logout", self.id_of(person).await?);
        self.call(Method::POST, &path, None).await.map(drop)
    }

    /// Deletes each session of a person, as an administrator does. Offline logins stay.
    ///
    /// # Errors
    /// There is no such person, or Keycloak does not answer.
    pub async fn delete_sessions(&self, person: &str) -> Result<(), Error> {
        for session in self.sessions_of(person).await? {
            let path = format!("/sessions/{}", text(&session, "id")?);
            self.call(Method::DELETE, &path, None).await?;
        }
        Ok(())
    }

    /// How many logins of a person there are, offline ones not counted.
    ///
    /// # Errors
    /// There is no such person, or Keycloak does not answer.
    pub async fn logins_of(&self, person: &str) -> Result<usize, Error> {
        Ok(self.sessions_of(person).await?.len())
    }

    /// How many offline logins of a person there are by a client.
    ///
    /// # Errors
    /// One of them is not there, or Keycloak does not answer.
    pub async fn offline_logins_of(&self, person: &str, client: &str) -> Result<usize, Error> {
        let client = self.client(client).await?;
        let id = self.id_of(person).await?;
        let path = format!("/users/{id}/offline-sessions/{}", text(&client, "id")?);
        let (_, list) = self.call(Method::GET, &path, None).await?;
        Ok(list.as_array().map_or(0, Vec::len))
    }

    /// Asks for new tokens as whoever holds a refresh token of a public client, and nothing else, can.
    ///
    /// # Errors
    /// Keycloak refuses the token, or does not answer.
    pub async fn redeem(&self, client: &str, refresh_token: &str) -> Result<Value, Error> {
        self.show("token", client, refresh_token).await
    }

    /// Ends the login of a refresh token, as its person's programs do.
    ///
    /// # Errors
    /// Keycloak refuses the token, or does not answer.
    pub async fn log_out_by(&self, client: &str, refresh_token: &str) -> Result<(), Error> {
        self.show("logout", client, refresh_token).await.map(drop)
    }

    /// Makes a new signing key, which signs from now on; the older ones are still published. Its component's id.
    ///
    /// # Errors
    /// Keycloak refuses, or does not answer.
    pub async fn add_key(&self, priority: u32) -> Result<String, Error> {
        let key = json!({
            "name": format!("rsa-{priority}"), "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"priority": [priority.to_string()], "enabled": ["true"], "active": ["true"],
                "algorithm": ["RS256"], "keySize": ["2048"]},
        });
        let (made, _) = self.call(Method::POST, "/components", Some(&key)).await?;
        made.ok_or_else(|| Error::Answer {
            what: "POST /components".to_owned(),
            lacks: "the id of what was made",
        })
    }

    /// Removes every signing key but that one: tokens that the others signed are good no more.
    ///
    /// # Errors
    /// Keycloak refuses, or does not answer.
    pub async fn remove_other_keys(&self, component: &str) -> Result<(), Error> {
        let (_, list) = self
            .call(Method::GET, "/components?type=org.keycloak.keys.KeyProvider", None)
            .await?;
        for key in list.as_array().into_iter().flatten() {
            let (id, kind) = (key["id"].as_str(), key["providerId"].as_str());
            if let (Some(id), Some("rsa-generated")) = (id, kind)
                && id != component
            {
                self.call(Method::DELETE, &format!("/components/{id}"), None).await?;
            }
        }
        Ok(())
    }

    /// Adds a client as its description says.
    ///
    /// # Errors
    /// Keycloak refuses, or does not answer.
    pub async fn add_client(&self, client: &Value) -> Result<(), Error> {
        self.call(Method::POST, "/clients", Some(client)).await.map(drop)
    }

    /// Changes the description of a client.
    ///
    /// # Errors
    /// There is no such client, or Keycloak refuses or does not answer.
    pub async fn change_client(&self, client: &str, change: impl FnOnce(&mut Value)) -> Result<(), Error> {
        let mut description = self.client(client).await?;
        change(&mut description);
        let path = format!("/clients/{}", text(&description, "id")?);
        self.call(Method::PUT, &path, Some(&description)).await.map(drop)
    }

    async fn sessions_of(&self, person: &str) -> Result<Vec<Value>, Error> {
        let path = format!("/users/{}/sessions", self.id_of(person).await?);
        let (_, mut list) = self.call(Method::GET, &path, None).await?;
        Ok(list.as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Posts a refresh token to one of the endpoints that are for clients.
    async fn show(&self, endpoint: &str, client: &str, refresh_token: &str) -> Result<Value, Error> {
        let what = format!("a refresh token at {endpoint}");
        let unanswered = |source: reqwest::Error| Error::Unanswered {
            what: what.clone(),
            source: source.without_url(),
        };
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", client),
            ("refresh_token", refresh_token),
        ];
        let url = format!("{}/protocol/openid-connect/{endpoint}", self.issuer());
        let answer = self.admin.http.post(url).form(&form).send().await.map_err(unanswered)?;
        let status = answer.status();
        let body = answer.text().await.map_err(unanswered)?;
        if status.is_success() {
            return Ok(serde_json::from_str(&body).unwrap_or_default());
        }
        Err(Error::Refused {
            what,
            status: status.as_u16(),
            said: body,
        })
    }

    async fn client(&self, client: &str) -> Result<Value, Error> {
        let path = format!("/clients?clientId={client}");
        let (_, mut list) = self.call(Method::GET, &path, None).await?;
        Ok(list.get_mut(0).map(Value::take).unwrap_or_default())
    }

    /// Changes settings of the realm.
    ///
    /// # Errors
    /// Keycloak refuses, or does not answer.
    pub async fn change(&self, settings: &Value) -> Result<(), Error> {
        self.call(Method::PUT, "", Some(settings)).await.map(drop)
    }

    async fn member(&self, method: Method, person: &str, group: &str) -> Result<(), Error> {
        let path = format!("/groups?search={group}&exact=true");
        let (_, list) = self.call(Method::GET, &path, None).await?;
        let id = list
            .pointer("/0/id")
            .and_then(Value::as_str)
            .ok_or_else(|| Error::Answer {
                what: path.clone(),
                lacks: "the group",
            })?;
        let person = self.id_of(person).await?;
        self.call(method, &format!("/users/{person}/groups/{id}"), None)
            .await
            .map(drop)
    }

    async fn id_of(&self, person: &str) -> Result<String, Error> {
        let path = format!("/users?username={person}&exact=true");
        let (_, list) = self.call(Method::GET, &path, None).await?;
        let id = list.pointer("/0/id").and_then(Value::as_str).map(str::to_owned);
        id.ok_or(Error::Answer {
            what: path,
            lacks: "the person",
        })
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(Option<String>, Value), Error> {
        let path = format!("/admin/realms/{}{path}", self.name);
        self.admin.call(method, &path, body).await
    }
}

fn text(answer: &Value, field: &'static str) -> Result<String, Error> {
    let text = answer[field].as_str().map(str::to_owned);
    text.ok_or_else(|| Error::Answer {
        what: "a question to Keycloak".to_owned(),
        lacks: field,
    })
}

/// Name and password of the administrator of a server that listens on loopback, for development: no secret.
pub const ADMINISTRATOR: (&str, &str) = ("admin", "admin");
const PATIENCE: Duration = Duration::from_secs(120);
