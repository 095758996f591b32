//! The state of one stream of secrets: which secrets the proxy wants, which it has, and which it refused. Pure: no I/O and no clock.
//!
//! Each response has one secret, so that a refusal is about one secret.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::name::SecretName;
use super::{SecretsRequest, Subscribe};
use crate::app::{Error, Field, FieldError};
use crate::clock::Timestamp;
use crate::inventory::CertificateId;

/// The most secrets of a stream.
pub(super) const MAX_NAMES: usize = 1000;
/// The longest name of a secret, in octets. A certificate's name has up to 80 characters, a host name up to 255.
pub(super) const MAX_NAME_LEN: usize = 512;
/// The responses whose answers are awaited. Of more, the oldest are forgotten.
const MAX_UNANSWERED: usize = 2 * MAX_NAMES;

/// The two forms of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// State of the world: each request has all names.
    World,
    /// Incremental: a request has the names that are added and removed.
    Delta,
}

/// A secret as it was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Sent {
    /// The version of the secret.
    pub(super) version: String,
    /// The certificates and their versions.
    pub(super) members: Vec<(CertificateId, i64)>,
}

/// The state of a secret at the proxy.
#[derive(Debug, Default)]
enum Has {
    /// Nothing that this stream knows of.
    #[default]
    Nothing,
    /// The proxy was told that there is no secret of this name.
    Removed,
    /// The proxy has this version from an earlier stream.
    Before(String),
    /// The proxy was sent this version.
    Secret(Sent),
}

#[derive(Debug)]
struct Subscription {
    name: SecretName,
    has: Has,
    /// The last secret that the proxy accepted, and serves.
    accepted: Option<Sent>,
    /// The version that the proxy refused since then. The lease shows the refusal.
    refused: Option<Sent>,
    /// When the name must be looked up again, if nothing happens before.
    until: Option<Timestamp>,
}

/// A response whose answer is awaited.
#[derive(Debug)]
struct Unanswered {
    nonce: String,
    /// `None`: the response only tells that a secret does not exist.
    secret: Option<(String, Sent)>,
}

/// The part of a request that is about a response.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// The proxy serves the secret.
    Accepted(Sent),
    /// The proxy refused the secret.
    Refused(Sent),
}

/// The next step for a secret after its name was looked up.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Send it.
    Send,
    /// The proxy has it from an earlier stream.
    Keep,
    /// Tell that it does not exist.
    Remove,
    /// Send nothing.
    Nothing,
}

/// The state of one stream.
#[derive(Debug)]
pub(super) struct Subscriptions {
    form: Form,
    by_name: BTreeMap<String, Subscription>,
    /// The names to look up.
    due: BTreeSet<String>,
    unanswered: VecDeque<Unanswered>,
    /// The beginning of all nonces of this stream, so that it takes no nonce of another stream for its own.
    mark: String,
    nonces: u64,
    has_begun: bool,
}

impl Subscriptions {
    pub(super) fn new(form: Form, mark: String) -> Self {
        Self {
            form,
            by_name: BTreeMap::new(),
            due: BTreeSet::new(),
            unanswered: VecDeque::new(),
            mark,
            nonces: 0,
            has_begun: false,
        }
    }

    /// Takes a request. The answer is what it says about a response, and the certificates that the proxy no longer wants.
    pub(super) fn receive(&mut self, request: SecretsRequest) -> Result<(Option<Verdict>, Vec<CertificateId>), Error> {
        let before = self.held();
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let verdict = self.answered(&request.nonce, request.refusal.is_some());
        match request.subscribe {
            // While a response is on its way, the list can be older than the response: the next request repeats it. But a stream
            // that has sent nothing takes any nonce: a proxy can begin with that of its last stream.
            Subscribe::All(_) if self.nonces > 0 && request.nonce != self.nonce(self.nonces) => {}
            Subscribe::All(names) => {
                check_names(Field::ResourceNames, names.len(), &names)?;
                let wanted: BTreeSet<_> = names.into_iter().collect();
                self.by_name.retain(|name, _| wanted.contains(name));
                for name in wanted {
                    self.add(name, None);
                }
            }
            // The nonce is no reason to ignore this request: it says nothing about the names.
            Subscribe::Changes {
                subscribe,
                unsubscribe,
                mut known,
            } => {
                for name in &unsubscribe {
                    self.by_name.remove(name);
                }
                let count = self.by_name.len() + subscribe.len();
                check_names(Field::ResourceNamesSubscribe, count, &subscribe)?;
                if !is_first {
                    known = HashMap::new();
                }
                for name in subscribe {
                    match self.by_name.get_mut(&name) {
                        // A proxy that asks again has lost it.
                        Some(subscription) => {
                            subscription.has = Has::Nothing;
                            self.due.insert(name);
                        }
                        None => {
                            let known = known.remove(&name);
                            self.add(name, known);
                        }
                    }
                }
            }
        }
        let by_name = &self.by_name;
        self.due.retain(|name| by_name.contains_key(name));
        let now = self.held();
        Ok((verdict, before.difference(&now).copied().collect()))
    }

    fn add(&mut self, name: String, known: Option<String>) {
        if self.by_name.contains_key(&name) {
            return;
        }
        let subscription = Subscription {
            name: SecretName::parse(&name),
            has: known.map_or(Has::Nothing, Has::Before),
            accepted: None,
            refused: None,
            until: None,
        };
        self.by_name.insert(name.clone(), subscription);
        self.due.insert(name);
    }

    /// Takes the answer to a response. An unknown nonce says nothing.
    fn answered(&mut self, nonce: &str, is_refused: bool) -> Option<Verdict> {
        let place = self.unanswered.iter().position(|response| response.nonce == nonce)?;
        let (name, sent) = self.unanswered.remove(place)?.secret?;
        let subscription = self.by_name.get_mut(&name);
        Some(match is_refused {
            false => {
                if let Some(subscription) = subscription {
                    subscription.accepted = Some(sent.clone());
                    subscription.refused = None;
                }
                Verdict::Accepted(sent)
            }
            true => {
                if let Some(subscription) = subscription {
                    subscription.refused = Some(sent.clone());
                    // The proxy still has the one before. A newer one may be on its way.
                    if matches!(&subscription.has, Has::Secret(has) if *has == sent) {
                        subscription.has = subscription.accepted.clone().map_or(Has::Nothing, Has::Secret);
                    }
                }
                Verdict::Refused(sent)
            }
        })
    }

    /// The next name to look up.
    pub(super) fn next_due(&self) -> Option<(&str, &SecretName)> {
        let text = self.due.first()?;
        Some((text, &self.by_name.get(text)?.name))
    }

    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Looks every name up again.
    pub(super) fn all_due(&mut self) {
        self.due = self.by_name.keys().cloned().collect();
    }

    /// Looks up again the names whose time is over, and the names that this function chooses: it gets each name and the ids of the
    /// certificates that the proxy has.
    pub(super) fn due_if(&mut self, is_due: impl Fn(&SecretName, &[(CertificateId, i64)], Option<Timestamp>) -> bool) {
        for (text, subscription) in &self.by_name {
            let members = match &subscription.has {
                Has::Secret(sent) => sent.members.as_slice(),
                _ => &[],
            };
            if is_due(&subscription.name, members, subscription.until) {
                self.due.insert(text.clone());
            }
        }
    }

    /// The next step for the name that was due. `found`: the version of the secret, if there is one.
    pub(super) fn looked_up(&mut self, text: &str, found: Option<&str>, until: Option<Timestamp>) -> Step {
        self.due.remove(text);
        let form = self.form;
        let Some(subscription) = self.by_name.get_mut(text) else {
            return Step::Nothing;
        };
        subscription.until = until;
        match (found, &subscription.has) {
            (Some(version), Has::Secret(sent)) if sent.version == version => Step::Nothing,
            (Some(version), Has::Before(before)) if before == version => Step::Keep,
            (Some(version), _) if subscription.has_refused(version) => Step::Nothing,
            (Some(_), _) => Step::Send,
            (None, Has::Removed) => Step::Nothing,
            (None, _) => match form {
                Form::World => Step::Nothing,
                Form::Delta => Step::Remove,
            },
        }
    }

    /// Whether the proxy has a secret with this name.
    pub(super) fn has_secret(&self, text: &str) -> bool {
        let subscription = self.by_name.get(text);
        subscription.is_some_and(|subscription| matches!(subscription.has, Has::Secret(_) | Has::Before(_)))
    }

    /// The name was looked up, and the proxy keeps its secret.
    pub(super) fn looked_up_in_vain(&mut self, text: &str) {
        self.due.remove(text);
    }

    /// The name must be looked up once more.
    pub(super) fn due_again(&mut self, text: &str) {
        if self.by_name.contains_key(text) {
            self.due.insert(text.to_owned());
        }
    }

    /// The version of this secret is refused without being sent: another stream of the proxy has refused it.
    pub(super) fn refused_before(&mut self, text: &str, secret: Sent) {
        if let Some(subscription) = self.by_name.get_mut(text) {
            subscription.refused = Some(secret);
        }
    }

    /// Looks the name up again at this moment.
    pub(super) fn retry_at(&mut self, text: &str, at: Timestamp) {
        if let Some(subscription) = self.by_name.get_mut(text) {
            subscription.until = Some(at);
        }
    }

    /// The certificate that the proxy has under this name, if the secret is one certificate.
    pub(super) fn only_member(&self, text: &str) -> Option<CertificateId> {
        match &self.by_name.get(text)?.has {
            Has::Secret(sent) => match sent.members[..] {
                [(id, _)] => Some(id),
                _ => None,
            },
            Has::Before(version) => CertificateId::parse(version.split_once('/')?.0).ok(),
            Has::Nothing | Has::Removed => None,
        }
    }

    /// The proxy has this secret from an earlier stream.
    pub(super) fn kept(&mut self, text: &str, sent: Sent) {
        if let Some(subscription) = self.by_name.get_mut(text) {
            subscription.accepted = Some(sent.clone());
            subscription.has = Has::Secret(sent);
        }
    }

    /// The nonce of a response with this secret, and the certificates that it replaces.
    pub(super) fn sent(&mut self, text: &str, sent: Sent) -> (String, Vec<CertificateId>) {
        let before = self.held();
        if let Some(subscription) = self.by_name.get_mut(text) {
            subscription.has = Has::Secret(sent.clone());
        }
        let now = self.held();
        let nonce = self.responded(Some((text.to_owned(), sent)));
        (nonce, before.difference(&now).copied().collect())
    }

    /// The nonce of a response that tells that a secret does not exist, and the certificates that the proxy no longer holds.
    pub(super) fn removed(&mut self, text: &str) -> (String, Vec<CertificateId>) {
        let before = self.held();
        if let Some(subscription) = self.by_name.get_mut(text) {
            subscription.has = Has::Removed;
            subscription.accepted = None;
            subscription.refused = None;
        }
        let now = self.held();
        (self.responded(None), before.difference(&now).copied().collect())
    }

    fn responded(&mut self, secret: Option<(String, Sent)>) -> String {
        self.nonces += 1;
        let nonce = self.nonce(self.nonces);
        if self.unanswered.len() == MAX_UNANSWERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(Unanswered {
            nonce: nonce.clone(),
            secret,
        });
        nonce
    }

    fn nonce(&self, number: u64) -> String {
        format!("{}-{number}", self.mark)
    }

    /// The certificates that the proxy has, still serves, or has refused.
    fn held(&self) -> BTreeSet<CertificateId> {
        let secrets = self.by_name.values().flat_map(|subscription| {
            let has = match &subscription.has {
                Has::Secret(sent) => Some(sent),
                _ => None,
            };
            [has, subscription.accepted.as_ref(), subscription.refused.as_ref()]
        });
        let members = secrets.flatten().flat_map(|sent| &sent.members);
        members.map(|(id, _)| *id).collect()
    }
}

impl Subscription {
    fn has_refused(&self, version: &str) -> bool {
        self.refused.as_ref().is_some_and(|refused| refused.version == version)
    }
}

/// Refuses more names than a stream can have, and names that are too long.
pub(super) fn check_names(field: Field, count: usize, names: &[String]) -> Result<(), Error> {
    let max = MAX_NAMES;
    if count > max {
        return Err(Error::field(field, FieldError::TooMany { count, max }));
    }
    match names.iter().find(|name| name.len() > MAX_NAME_LEN) {
        Some(name) => {
            let (chars, max) = (name.chars().count(), MAX_NAME_LEN);
            Err(Error::field(field, FieldError::TooLong { chars, max }))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountId;

    fn sent(version: i64) -> Sent {
        let id = CertificateId::new(AccountId::from_i64(1), Timestamp::from_millis(2), [3; 8]);
        Sent {
            version: format!("v{version}"),
            members: vec![(id, version)],
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn request(subscribe: Subscribe, nonce: &str, is_refused: bool) -> SecretsRequest {
        SecretsRequest {
            proxy: None,
            type_url: String::new(),
            subscribe,
            nonce: nonce.to_owned(),
            refusal: is_refused.then(|| "no".to_owned()),
        }
    }

    fn all(wanted: &[&str], nonce: &str) -> SecretsRequest {
        request(Subscribe::All(names(wanted)), nonce, false)
    }

    fn changes(add: &[&str], remove: &[&str], known: &[(&str, &str)]) -> Subscribe {
        let known = known
            .iter()
            .map(|(name, version)| ((*name).to_owned(), (*version).to_owned()));
        Subscribe::Changes {
            subscribe: names(add),
            unsubscribe: names(remove),
            known: known.collect(),
        }
    }

    fn delta(add: &[&str]) -> SecretsRequest {
        request(changes(add, &[], &[]), "", false)
    }

    fn answer(nonce: &str, is_refused: bool) -> SecretsRequest {
        request(changes(&[], &[], &[]), nonce, is_refused)
    }

    fn begun(form: Form, first: SecretsRequest) -> Subscriptions {
        let mut subscriptions = Subscriptions::new(form, "m".to_owned());
        assert_eq!(subscriptions.receive(first).unwrap(), (None, vec![]));
        subscriptions
    }

    fn due(subscriptions: &Subscriptions) -> Vec<&str> {
        subscriptions.due.iter().map(String::as_str).collect()
    }

    #[test]
    fn an_accepted_secret_is_not_sent_again_until_it_changes() {
        let mut subscriptions = begun(Form::World, all(&["a"], ""));
        assert_eq!(subscriptions.looked_up("a", Some("v1"), None), Step::Send);
        let (nonce, replaced) = subscriptions.sent("a", sent(1));
        assert_eq!((nonce.as_str(), replaced), ("m-1", vec![]));
        let (verdict, _) = subscriptions.receive(all(&["a"], "m-1")).unwrap();
        assert_eq!(verdict, Some(Verdict::Accepted(sent(1))));
        assert!(!subscriptions.has_due());
        subscriptions.all_due();
        assert_eq!(subscriptions.looked_up("a", Some("v1"), None), Step::Nothing);
        assert_eq!(subscriptions.looked_up("a", Some("v2"), None), Step::Send);
    }

    #[test]
    fn a_refused_version_is_never_sent_again() {
        let mut subscriptions = begun(Form::World, all(&["a"], ""));
        subscriptions.looked_up("a", Some("v1"), None);
        subscriptions.sent("a", sent(1));
        subscriptions.receive(all(&["a"], "m-1")).unwrap();
        subscriptions.sent("a", sent(2));
        let refusal = request(Subscribe::All(names(&["a"])), "m-2", true);
        let (verdict, left) = subscriptions.receive(refusal).unwrap();
        assert_eq!((verdict, left), (Some(Verdict::Refused(sent(2))), vec![]));
        for _ in 0..3 {
            assert_eq!(subscriptions.looked_up("a", Some("v2"), None), Step::Nothing);
        }
        // The proxy still has the first version, and takes the third.
        assert_eq!(subscriptions.looked_up("a", Some("v1"), None), Step::Nothing);
        assert_eq!(subscriptions.looked_up("a", Some("v3"), None), Step::Send);
    }

    /// A proxy that connects again can send the nonce of its last stream.
    #[test]
    fn a_nonce_counts_only_after_this_stream_has_sent_one() {
        let mut subscriptions = begun(Form::World, all(&["a"], "old-7"));
        assert_eq!(due(&subscriptions), ["a"]);
        subscriptions.looked_up("a", Some("v1"), None);
        subscriptions.sent("a", sent(1));
        // This list was sent before the response came.
        subscriptions.receive(all(&["b"], "old-7")).unwrap();
        assert_eq!(due(&subscriptions), [""; 0]);
        let (_, left) = subscriptions.receive(all(&["b"], "m-1")).unwrap();
        assert_eq!((due(&subscriptions), left.len()), (vec!["b"], 1));
    }

    #[test]
    fn an_unknown_secret_is_told_once_in_the_incremental_form_only() {
        let mut world = begun(Form::World, all(&["a"], ""));
        assert_eq!(world.looked_up("a", None, None), Step::Nothing);
        let mut subscriptions = begun(Form::Delta, delta(&["a"]));
        assert_eq!(subscriptions.looked_up("a", None, None), Step::Remove);
        assert_eq!(subscriptions.removed("a"), ("m-1".to_owned(), vec![]));
        assert_eq!(subscriptions.looked_up("a", None, None), Step::Nothing);
        // The refusal of a removal changes nothing.
        assert_eq!(subscriptions.receive(answer("m-1", true)).unwrap(), (None, vec![]));
        assert!(!subscriptions.has_due());
        assert_eq!(subscriptions.looked_up("a", Some("v1"), None), Step::Send);
    }

    #[test]
    fn a_deleted_secret_is_told_once() {
        let mut subscriptions = begun(Form::Delta, delta(&["a"]));
        subscriptions.looked_up("a", Some("v1"), None);
        subscriptions.sent("a", sent(1));
        subscriptions.receive(answer("m-1", false)).unwrap();
        assert_eq!(subscriptions.looked_up("a", None, None), Step::Remove);
        assert_eq!(subscriptions.removed("a").1.len(), 1);
        assert_eq!(subscriptions.looked_up("a", None, None), Step::Nothing);
        // Undeleted, it has the same version, and the proxy has it no more.
        assert_eq!(subscriptions.looked_up("a", Some("v1"), None), Step::Send);
    }

    #[test]
    fn versions_of_an_earlier_stream_save_the_delivery() {
        let first = request(changes(&["a", "b"], &[], &[("a", "v1"), ("b", "v1")]), "", false);
        let mut subscriptions = begun(Form::Delta, first);
        assert_eq!(subscriptions.looked_up("a", Some("v1"), None), Step::Keep);
        subscriptions.kept("a", sent(1));
        assert_eq!(subscriptions.looked_up("a", Some("v1"), None), Step::Nothing);
        assert_eq!(subscriptions.looked_up("b", Some("v2"), None), Step::Send);
        // Only the first request has them.
        let later = request(changes(&["c"], &[], &[("c", "v1")]), "", false);
        subscriptions.receive(later).unwrap();
        assert_eq!(subscriptions.looked_up("c", Some("v1"), None), Step::Send);
    }

    #[test]
    fn a_nonce_is_no_reason_to_ignore_a_change_of_names() {
        let mut subscriptions = begun(Form::Delta, delta(&["a"]));
        subscriptions.looked_up("a", Some("v1"), None);
        subscriptions.sent("a", sent(1));
        let (verdict, left) = subscriptions
            .receive(request(changes(&["b"], &["a"], &[]), "nonsense", false))
            .unwrap();
        assert_eq!((verdict, left.len(), due(&subscriptions)), (None, 1, vec!["b"]));
    }

    #[test]
    fn a_proxy_that_subscribes_again_gets_the_secret_again_unless_it_refused_it() {
        let mut subscriptions = begun(Form::Delta, delta(&["a"]));
        subscriptions.looked_up("a", Some("v1"), None);
        subscriptions.sent("a", sent(1));
        subscriptions.receive(answer("m-1", false)).unwrap();
        subscriptions.receive(delta(&["a"])).unwrap();
        assert_eq!(subscriptions.looked_up("a", Some("v1"), None), Step::Send);
        subscriptions.sent("a", sent(1));
        subscriptions.receive(answer("m-2", true)).unwrap();
        subscriptions.receive(delta(&["a"])).unwrap();
        assert_eq!(subscriptions.looked_up("a", Some("v1"), None), Step::Nothing);
    }

    #[test]
    fn the_names_of_a_stream_are_bounded() {
        let many: Vec<_> = (0..=MAX_NAMES).map(|number| number.to_string()).collect();
        let mut world = Subscriptions::new(Form::World, String::new());
        let of = |refused: Result<_, Error>| match refused {
            Err(Error::Fields { violations, .. }) => format!("{:?} {:?}", violations[0].field, violations[0].error),
            other => panic!("{other:?}"),
        };
        let too_many = of(world.receive(request(Subscribe::All(many.clone()), "", false)));
        assert_eq!(too_many, "ResourceNames TooMany { count: 1001, max: 1000 }");
        let mut subscriptions = begun(Form::Delta, delta(&["x"]));
        let texts: Vec<_> = many.iter().skip(1).map(String::as_str).collect();
        let too_many = of(subscriptions.receive(delta(&texts)));
        assert_eq!(too_many, "ResourceNamesSubscribe TooMany { count: 1001, max: 1000 }");
        let too_long = of(subscriptions.receive(delta(&[&"a".repeat(MAX_NAME_LEN + 1)])));
        assert_eq!(too_long, "ResourceNamesSubscribe TooLong { chars: 513, max: 512 }");
    }

    #[test]
    fn responses_without_an_answer_are_forgotten() {
        let mut subscriptions = begun(Form::Delta, delta(&["a"]));
        for version in 0..10_000 {
            subscriptions.sent("a", sent(version));
        }
        assert_eq!(subscriptions.unanswered.len(), MAX_UNANSWERED);
        assert_eq!(subscriptions.receive(answer("m-1", true)).unwrap().0, None);
        let (verdict, _) = subscriptions.receive(answer("m-10000", false)).unwrap();
        assert_eq!(verdict, Some(Verdict::Accepted(sent(9_999))));
    }
}
