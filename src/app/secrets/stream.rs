//! A stream of secrets to one proxy.

use std::pin::pin;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;

use super::resolve::{Resolution, Resolved};
use super::subscriptions::{Form, Sent, Step, Subscriptions, Verdict};
use super::unknown::{Known, UnknownNames};
use super::{
    Proxy, RefusedSecret, SecretContent, SecretOrRemoved, SecretsRequest, SecretsResponse, SentSecret, check_type,
};
use crate::app::authenticate::StreamCheck;
use crate::app::changes::{Change, Lost, Subscription};
use crate::app::get::check_chain;
use crate::app::holder::{HolderKind, StreamHolder, shortened};
use crate::app::target::required;
use crate::app::{App, Call, Error, Field, FieldError, Resource, Wanted, WantedCertificate};
use crate::certificate::ClientCertificate;
use crate::clock::{self, Timestamp};
use crate::digest;
use crate::inventory::{CertificateId, CertificateKind, searchable_names};
use crate::store::StoredCertificate;
use crate::telemetry::{causes, metrics};

/// How often the names whose time is over are looked up.
const TICK: Duration = Duration::from_secs(1);
/// The longest reason of a refusal, in characters.
const MAX_REFUSAL_CHARS: usize = 256;
/// The longest id of a node, in characters.
const MAX_NODE_CHARS: usize = 1024;
/// The longest name of a proxy's program, in characters.
const MAX_USER_AGENT_CHARS: usize = 256;
/// A secret that cannot be sent is tried again after this time.
const RETRY: Duration = Duration::from_secs(30);

/// A running stream.
pub(super) struct SecretStream {
    app: App,
    form: Form,
    call: Call,
    check: StreamCheck,
    sender: mpsc::Sender<SecretsResponse>,
    subscriptions: Subscriptions,
    /// `None` before the first request.
    proxy: Option<(Proxy, StreamHolder)>,
    unknown: Arc<UnknownNames>,
    /// Before this moment no name is looked up.
    paused_until: Option<Instant>,
}

impl SecretStream {
    pub(super) fn new(
        app: &App,
        form: Form,
        call: Call,
        certificate: Option<ClientCertificate>,
        sender: mpsc::Sender<SecretsResponse>,
    ) -> Self {
        let mark: String = call.request_id.to_string().chars().take(8).collect();
        Self {
            app: app.clone(),
            form,
            check: StreamCheck::start(app, &call, certificate),
            sender,
            subscriptions: Subscriptions::new(form, mark),
            proxy: None,
            unknown: app.unknown_names(&call),
            paused_until: None,
            call,
        }
    }

    pub(super) async fn run(
        mut self,
        requests: impl Stream<Item = SecretsRequest> + Unpin,
        closing: CancellationToken,
        end: oneshot::Sender<Arc<Error>>,
    ) {
        if let Err(error) = self.stream(requests, closing).await {
            // If the caller has left, nobody reads the error.
            let _ = end.send(error);
        }
    }

    async fn stream(
        &mut self,
        mut requests: impl Stream<Item = SecretsRequest> + Unpin,
        closing: CancellationToken,
    ) -> Result<(), Arc<Error>> {
        // The changes are followed before the first name is looked up.
        let mut changes = self.changes().await?;
        let mut has_ended = false;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let check = self.check.clone();
        let mut refused = pin!(check.refused());
        loop {
            let sender = self.sender.clone();
            let may_send = self.subscriptions.has_due() && self.paused_until.is_none();
            tokio::select! {
                request = requests.next(), if !has_ended => match request {
                    Some(request) => self.receive(request)?,
                    None => has_ended = true,
                },
                change = changes.next() => match change {
                    Ok(change) => self.subscriptions.due_if(|name, members, _| concerns(&change, name, members)),
                    Err(Lost) => {
                        changes = self.changes().await?;
                        self.subscriptions.all_due();
                    }
                },
                permit = sender.reserve(), if may_send => match permit {
                    Ok(permit) => {
                        if let Some(response) = self.next_response().await? {
                            permit.send(response);
                        }
                    }
                    Err(_) => return Ok(()),
                },
                () = paused(self.paused_until), if self.paused_until.is_some() => self.paused_until = None,
                _ = tick.tick() => {
                    let now = clock::now();
                    self.subscriptions.due_if(|_, _, until| until.is_some_and(|until| until < now));
                }
                // A proxy whose caller could not be looked up connects again.
                refusal = &mut refused => return refusal.map_or(Ok(()), Err),
                () = closing.cancelled() => return Ok(()),
                () = sender.closed() => return Ok(()),
            }
            if has_ended && !self.subscriptions.has_due() {
                return Ok(());
            }
        }
    }

    async fn changes(&self) -> Result<Subscription, Error> {
        Ok(self.app.changes(self.call.caller.account).await?)
    }

    fn receive(&mut self, mut request: SecretsRequest) -> Result<(), Error> {
        check_type(&request.type_url)?;
        if self.proxy.is_none() {
            let mut proxy = request.proxy.take();
            let id = required(proxy.as_ref().map_or("", |proxy| &proxy.id));
            let chars = id.map_err(|error| Error::field(Field::NodeId, error))?.chars().count();
            if chars > MAX_NODE_CHARS {
                let max = MAX_NODE_CHARS;
                return Err(Error::field(Field::NodeId, FieldError::TooLong { chars, max }));
            }
            if let Some(proxy) = &mut proxy {
                proxy.user_agent = shortened(&proxy.user_agent, MAX_USER_AGENT_CHARS);
            }
            self.proxy = proxy.map(|proxy| {
                let holder = self
                    .app
                    .hold(&self.call, HolderKind::Sds, &holder_name(&proxy.id), &proxy.user_agent);
                (proxy, holder)
            });
        }
        let refusal = request.refusal.as_deref().map(readable);
        let (verdict, left) = self.subscriptions.receive(request)?;
        let Some((_, holder)) = &self.proxy else { return Ok(()) };
        match verdict {
            Some(Verdict::Accepted(sent)) => {
                for (id, version) in sent.members {
                    holder.served(id, version);
                }
            }
            Some(Verdict::Refused(sent)) => self.refused(sent, &refusal.unwrap_or_default()),
            None => {}
        }
        for id in left {
            holder.release(id);
        }
        Ok(())
    }

    /// The proxy refused a secret. This replica does not send it to the proxy again, while it remembers the refusal.
    fn refused(&self, sent: Sent, why: &str) {
        let Some((proxy, holder)) = &self.proxy else { return };
        metrics::secret_refused();
        tracing::warn!(proxy = %proxy.id, version = %sent.version, why, "a proxy refused a certificate");
        self.app.0.secrets.refuse(self.refused_secret(proxy, &sent.version));
        for (id, version) in sent.members {
            holder.rejected(id, version, why);
            let (app, call) = (self.app.clone(), self.call.clone());
            tokio::spawn(async move {
                if let Err(error) = app.0.store.reject(&call.actor(), &call.caller.scope, id, version).await {
                    tracing::warn!(certificate = %id, cause = causes(&error), "the refusal of a certificate was not recorded");
                }
            });
        }
    }

    fn refused_secret(&self, proxy: &Proxy, version: &str) -> RefusedSecret {
        let parts = [self.call.caller.principal.id(), &proxy.id, &proxy.user_agent, version];
        digest::sha256(&parts.map(|part| digest::sha256(part.as_bytes())).concat())
    }

    /// Looks up the next name. `None`: there is nothing to send for it.
    async fn next_response(&mut self) -> Result<Option<SecretsResponse>, Error> {
        let Some((text, name)) = self.subscriptions.next_due() else {
            return Ok(None);
        };
        let (text, name) = (text.to_owned(), name.clone());
        let (account, scope) = (self.call.caller.account, &self.call.caller.scope);
        let found = match self.unknown.find(&self.app, account, scope, &text).await? {
            Known::Unknown => Resolution::Unknown,
            Known::Ask(generation) => {
                let (principal, lookups) = (self.call.caller.principal.id(), &self.app.0.secrets.failed_lookups);
                let now = Instant::now();
                // A secret that the proxy has is not delayed by unknown names.
                if !self.subscriptions.has_secret(&text)
                    && let Some(wait) = lookups.wait(principal, now)
                {
                    self.paused_until = Some(now + wait);
                    return Ok(None);
                }
                let found = self.app.resolve_secret(&self.call, &name, clock::now()).await?;
                if let Resolution::Unknown = found {
                    lookups.count(principal, now);
                    self.unknown.add(scope, &text, generation).await;
                }
                found
            }
        };
        match found {
            Resolution::Found(resolved, until) => self.respond(text, resolved, until).await,
            Resolution::Unknown => Ok(self.respond_unknown(text)),
            Resolution::Ambiguous => self.respond_ambiguous(text).await,
        }
    }

    async fn respond(
        &mut self,
        text: String,
        resolved: Resolved,
        until: Option<Timestamp>,
    ) -> Result<Option<SecretsResponse>, Error> {
        let Some((proxy, holder)) = &self.proxy else {
            return Ok(None);
        };
        let version = resolved.version();
        let step = self.subscriptions.looked_up(&text, Some(&version), until);
        if !matches!(step, Step::Send | Step::Keep) {
            return Ok(None);
        }
        let members = members(&resolved);
        let bound = async {
            for (id, version) in &members {
                holder.bind(*id, *version).await?;
            }
            Ok::<_, Error>(())
        };
        match bound.await {
            Ok(()) => {}
            // The certificate was deleted a moment ago.
            Err(Error::NotFound(_)) => {
                self.subscriptions.due_again(&text);
                return Ok(None);
            }
            Err(error) => return self.retry_later(&text, error),
        }
        if step == Step::Send && self.app.0.secrets.has_refused(&self.refused_secret(proxy, &version)) {
            for (id, version) in &members {
                holder.rejected(*id, *version, "the proxy refused this version on an earlier stream");
            }
            self.subscriptions.refused_before(&text, Sent { version, members });
            return Ok(None);
        }
        if step == Step::Keep {
            for (id, version) in &members {
                holder.served(*id, *version);
            }
            self.subscriptions.kept(&text, Sent { version, members });
            return Ok(None);
        }
        let method = match self.form {
            Form::World => "StreamSecrets",
            Form::Delta => "DeltaSecrets",
        };
        let (version, members, content) = match self.app.secret_content(&self.call, method, resolved).await {
            Ok(content) => content,
            Err(Error::NotFound(_)) => {
                self.subscriptions.due_again(&text);
                return Ok(None);
            }
            Err(error) => return self.retry_later(&text, error),
        };
        let sent = Sent {
            version: version.clone(),
            members,
        };
        let (nonce, left) = self.subscriptions.sent(&text, sent);
        for id in left {
            holder.release(id);
        }
        Ok(Some(SecretsResponse {
            nonce,
            content: SecretOrRemoved::Secret(SentSecret {
                name: text,
                version,
                content,
            }),
        }))
    }

    fn respond_unknown(&mut self, text: String) -> Option<SecretsResponse> {
        if self.subscriptions.looked_up(&text, None, None) != Step::Remove {
            return None;
        }
        let (nonce, left) = self.subscriptions.removed(&text);
        if let Some((_, holder)) = &self.proxy {
            for id in left {
                holder.release(id);
            }
        }
        Some(SecretsResponse {
            nonce,
            content: SecretOrRemoved::Removed(text),
        })
    }

    /// A second certificate with the same name takes nothing away from a proxy that has the first one: the name goes on to mean that one.
    async fn respond_ambiguous(&mut self, text: String) -> Result<Option<SecretsResponse>, Error> {
        if let Some(id) = self.subscriptions.only_member(&text)
            && let Resolution::Found(resolved, until) = self.app.secret_by_id(&self.call, id).await?
            && resolved.members().iter().all(|one| one.name.as_str() == text)
        {
            return self.respond(text, resolved, until).await;
        }
        Ok(match self.subscriptions.has_secret(&text) {
            true => {
                self.subscriptions.looked_up_in_vain(&text);
                None
            }
            false => self.respond_unknown(text),
        })
    }

    /// A secret that cannot be sent does not keep the proxy from its other secrets. Any other error ends the stream.
    fn retry_later(&mut self, text: &str, error: Error) -> Result<Option<SecretsResponse>, Error> {
        match error {
            Error::SealedKeyUnreadable { .. } | Error::StoredCertificateDamaged { .. } | Error::TooManyHolders(_) => {
                tracing::error!(cause = causes(&error), "a secret cannot be sent");
                let at = Timestamp::from_millis(clock::now().millis() + RETRY.as_millis() as i64);
                self.subscriptions.retry_at(text, at);
                Ok(None)
            }
            error => Err(error),
        }
    }
}

impl App {
    /// The content of a secret, with its version and its certificates. The delivery of a key is recorded before.
    pub(super) async fn secret_content(
        &self,
        call: &Call,
        method: &'static str,
        resolved: Resolved,
    ) -> Result<(String, Vec<(CertificateId, i64)>, SecretContent), Error> {
        match resolved {
            Resolved::KeyPair(certificate) => {
                let wanted = Wanted {
                    certificate: WantedCertificate::Id(certificate.id),
                    region: None,
                    version: 0,
                    method,
                };
                let delivery = self.deliver(call, wanted).await?;
                // The delivery can be newer than the certificate that was looked up.
                let members = vec![(certificate.id, delivery.version)];
                let content = SecretContent::KeyPair {
                    certificate_chain: delivery.chain,
                    private_key: delivery.private_key,
                };
                Ok((
                    super::resolve::version_of(certificate.id, delivery.version),
                    members,
                    content,
                ))
            }
            Resolved::Authorities(_) => {
                let mut pem = String::new();
                for certificate in resolved.members() {
                    let (id, kind) = (certificate.id, CertificateKind::Ca);
                    // A certificate that was deleted a moment ago was part of the secret when it was looked up.
                    let gone = Error::NotFound(Resource::Certificate(Some(kind), Some(id)));
                    let (stored, chain) = self.0.store.find_with_chain(id, kind, None).await?.ok_or(gone)?;
                    check_chain(kind, &stored, &chain)?;
                    pem.push_str(&chain.to_pem());
                }
                Ok((resolved.version(), members(&resolved), SecretContent::Authorities(pem)))
            }
        }
    }

    fn unknown_names(&self, call: &Call) -> Arc<UnknownNames> {
        let mut accounts = self.0.secrets.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|_, names| names.strong_count() > 0);
        let account = call.caller.account;
        accounts.get(&account).and_then(Weak::upgrade).unwrap_or_else(|| {
            let names = Arc::default();
            accounts.insert(account, Arc::downgrade(&names));
            names
        })
    }
}

fn members(resolved: &Resolved) -> Vec<(CertificateId, i64)> {
    resolved.members().iter().map(|one| (one.id, one.version)).collect()
}

/// Whether the name can mean something else after the change.
fn concerns(change: &Change, name: &super::SecretName, members: &[(CertificateId, i64)]) -> bool {
    use super::SecretName;
    let certificate: Option<&StoredCertificate> = change.certificate.as_deref();
    let names = [&change.before, &change.after]
        .into_iter()
        .flatten()
        .map(|state| &state.name);
    let mut names = names.chain(certificate.map(|certificate| &certificate.name));
    members.iter().any(|(id, _)| *id == change.id)
        || match name {
            SecretName::Id(id) => *id == change.id,
            SecretName::Authorities(name) => change.kind == CertificateKind::Ca && names.any(|other| other == name),
            SecretName::Server { .. } if change.kind != CertificateKind::Server => false,
            SecretName::Server { name, host } => {
                names.any(|other| Some(other) == name.as_ref())
                    || host.as_ref().zip(certificate).is_some_and(|(host, certificate)| {
                        host.best_match(&searchable_names(&certificate.facts)).is_some()
                    })
            }
        }
}

async fn paused(until: Option<Instant>) {
    if let Some(until) = until {
        tokio::time::sleep_until(until.into()).await;
    }
}

/// The name of the holder: the node's id with the characters that a holder may have.
fn holder_name(node: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-/._:@".contains(c);
    node.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// The proxy's words, which can be any text: without control characters, and cut.
fn readable(text: &str) -> String {
    let chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    chars.take(MAX_REFUSAL_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_proxy_are_cut_and_have_no_control_characters() {
        assert_eq!(readable("Failed\n\u{1b}[31mto load\0"), "Failed  [31mto load ");
        assert_eq!(readable(&"字".repeat(300)).chars().count(), MAX_REFUSAL_CHARS);
    }

    #[test]
    fn a_holder_has_the_allowed_characters_of_the_node() {
        assert_eq!(holder_name("sidecar~10.0.0.1~a/b:1@x é"), "sidecar_10.0.0.1_a/b:1@x__");
    }
}
